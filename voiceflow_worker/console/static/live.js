// Renews the live part of the page every two seconds, and keeps the zone of times, which is that of the browser until
// another one is chosen. Without it, each page works by its links and buttons alone.
"use strict";

const EVERY = 2000, SLOWEST = 30000, HEADER = "x-voiceflow-live";
const { zone } = document.documentElement.dataset; // the page names it
const all = (what) => document.querySelectorAll(what);

function zones() {
  const path = new URL("..", document.querySelector("link[rel=stylesheet]").href).pathname.replace(/\/$/, "");
  const keep = (name) => (document.cookie = `voiceflow-zone=${name}; path=${path}; max-age=31536000; samesite=lax`);
  const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (!/(^|; )voiceflow-zone=/.test(document.cookie)) keep(own);
  for (const named of all("[data-zones]")) { // a page with what somebody has typed has none
    const label = document.createElement("label"), choice = document.createElement("select");
    for (const each of new Set([zone, own, "UTC"])) choice.add(new Option(each, each));
    choice.addEventListener("change", () => (keep(choice.value), location.reload()));
    label.append(named.textContent.replace(zone, ""), choice);
    named.replaceChildren(label);
  }
}

// One box ticks all boxes of its form.
function selectAll() {
  for (const label of all("[data-all]")) {
    const box = label.querySelector("input"), { elements } = label.closest("form");
    label.hidden = false;
    box.addEventListener("change", () => {
      for (const each of elements) if (each.name === "call") each.checked = box.checked;
    });
  }
}

// A double click sends a form once. A button that starts something says so until the page is left or shown again.
function sendOnce() {
  let sentAt = -Infinity, by = null, words = "";
  addEventListener("submit", (event) => {
    const { submitter, timeStamp } = event, isBusy = by?.dataset.busy && submitter?.name === "do";
    if (isBusy || (submitter === by && timeStamp - sentAt < 1000)) return event.preventDefault();
    [sentAt, by] = [timeStamp, submitter];
    if (!by?.dataset.busy) return;
    words = by.textContent;
    by.textContent = by.dataset.busy;
    by.setAttribute("aria-disabled", "true");
  });
  addEventListener("pageshow", () => { // to a reader who comes back, the click was long ago
    if (by?.dataset.busy) by.textContent = words;
    by?.removeAttribute("aria-disabled");
    by = null;
  });
}

function campaign() {
  const text = document.querySelector("textarea[name=say]");
  for (const each of all("[data-insert]")) {
    each.addEventListener("click", () => {
      text.setRangeText(each.dataset.insert, text.selectionStart, text.selectionEnd, "end");
      text.focus();
    });
  }
  for (const each of all("[data-check]")) { // what is ticked beside the preview changes it
    each.addEventListener("change", () => each.closest("form").querySelector("[value=check]").click());
  }
}

// Lists that are being read, ticked or opened stay as they are.
const isUsed = (live) => live.contains(document.activeElement) || live.querySelector("details[open], :checked");

function follow(live) {
  const words = JSON.parse(live.dataset.words), state = document.createElement("span");
  let before = "", wait = EVERY;
  state.className = "live-state";
  document.querySelector(".head .actions").prepend(state);
  const tell = (form, text) => ([state.className, state.textContent] = [`live-state ${form}`, text]);

  async function look() {
    const began = performance.now();
    try {
      const answer = document.hidden ? { status: 304 } : await fetch(location.href, { headers: { [HEADER]: "1" }, cache: "no-store", redirect: "error" });
      const part = answer.status === 200 ? await answer.text() : before;
      if (part !== before && !isUsed(live)) live.innerHTML = before = part;
      if (answer.status === 401) {
        return tell("lost", words.ended);
      } else if (![200, 304].includes(answer.status)) {
        throw new Error(`${words.failed} (HTTP ${answer.status})`);
      }
      wait = Math.max(EVERY, 10 * (performance.now() - began)); // a page that is slow to read is read less often
      tell("", words.live);
    } catch ({ name, message }) {
      wait = Math.min(wait * 2, SLOWEST);
      tell("lost", name === "Error" ? message : words.lost);
    }
    setTimeout(look, wait);
  }
  tell("", words.live);
  setTimeout(look, EVERY);
}

zones();
selectAll();
sendOnce();
campaign();
for (const live of all("#live[data-live]")) follow(live);
