// Keeps the zone of times, which is that of the browser until another one is chosen, and renews the live part of the
// page every two seconds. Only the differences are changed, in place, so that focus, selection and open details stay.
"use strict";

const EVERY = 2000, SLOWEST = 30000;
const HEADER = "x-voiceflow-live";
const { zone } = document.documentElement.dataset; // the page names it
const browserZone = Intl.DateTimeFormat().resolvedOptions().timeZone;

// The zone of times is a cookie: at first that of the browser, then the one that is chosen.
function zones() {
  const path = new URL("..", document.querySelector("link[rel=stylesheet]").href).pathname.replace(/\/$/, "");
  const keep = (name) => (document.cookie = `voiceflow-zone=${name}; path=${path}; max-age=31536000; samesite=lax`);
  if (!/(^|; )voiceflow-zone=/.test(document.cookie)) keep(browserZone);
  const named = document.querySelector("[data-zones]");
  if (!named) return; // the page has what somebody has typed
  const label = document.createElement("label"), choice = document.createElement("select");
  for (const each of new Set([zone, browserZone, named.dataset.zones, "UTC"])) choice.add(new Option(each, each));
  choice.addEventListener("change", () => {
    keep(choice.value);
    location.reload();
  });
  label.append(named.textContent.replace(zone, ""), choice);
  named.replaceChildren(label);
}

// One box ticks all boxes of its form, or none.
function selectAll() {
  for (const label of document.querySelectorAll("[data-all]")) {
    const all = label.querySelector("input"), { elements } = label.closest("form");
    const boxes = () => [...elements].filter(({ name, type }) => type === "checkbox" && /^(call|of)$/.test(name));
    label.hidden = false;
    const show = () => {
      const ticked = boxes().filter((each) => each.checked).length;
      all.checked = ticked > 0 && ticked === boxes().length;
      all.indeterminate = ticked > 0 && !all.checked;
    };
    document.addEventListener("change", ({ target }) => {
      if (target === all) for (const each of boxes()) each.checked = all.checked;
      show();
    });
    show();
  }
}

// A double click sends a form once: the page that follows shows what was done, and no refusal of the second click. After
// a button that leaves the page as it is, such as that of a download, another one counts at once. A button that starts
// something says so from the first click on, until the page is left or shown again.
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
  addEventListener("pageshow", () => { // to whoever comes back, the click was long ago
    if (by?.dataset.busy) {
      by.textContent = words;
      by.removeAttribute("aria-disabled");
    }
    by = null;
  });
}

// A column is put where the cursor is in the text that had the focus last: the text to say, or one of a question.
function insertColumns() {
  let text = document.querySelector("textarea[name=say]");
  document.addEventListener("focusin", ({ target }) => {
    if (target.matches("form.words textarea")) text = target;
  });
  for (const each of document.querySelectorAll("[data-insert]")) {
    each.addEventListener("click", () => {
      text.setRangeText(each.dataset.insert, text.selectionStart, text.selectionEnd, "end");
      text.focus();
    });
  }
}

// What people will hear stands beside the text as soon as the field is left: it is asked for as the step itself is.
function hear() {
  const heard = document.querySelector("#heard");
  if (!heard) return;
  const form = heard.closest("form");
  let timer = 0, asked = new AbortController();
  const look = async () => {
    const data = new FormData(form);
    data.set("do", "words hear");
    asked = new AbortController();
    const answer = await fetch(form.action, { method: "POST", body: data, signal: asked.signal }).catch(() => null);
    const page = answer && new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("#heard");
    if (page) heard.replaceChildren(...page.childNodes);
  };
  form.addEventListener("change", () => {
    clearTimeout(timer);
    asked.abort();
    timer = setTimeout(look, 300);
  });
}

// The page of a call leads back to the list that it was opened from, as it was filtered, also after an action on the call.
function leadBack() {
  const link = document.querySelector("[data-back]");
  if (!link) {
    if (document.querySelector("table.calls, [data-lists]")) {
      sessionStorage.setItem("back", JSON.stringify([location.href, document.querySelector("h1").textContent]));
    }
    return;
  }
  const [href, title] = JSON.parse(sessionStorage.getItem("back") || "[]");
  if (!href) return;
  link.href = href;
  link.textContent = `${link.dataset.back} ${title}`;
  link.hidden = false;
}

function renew(old, now) {
  if (old.nodeType !== now.nodeType || old.nodeName !== now.nodeName) return old.replaceWith(now);
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== now.nodeValue) old.nodeValue = now.nodeValue;
    return;
  }
  for (const { name, value } of [...now.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) {
    if (!now.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
  let place = old.firstChild;
  for (const child of [...now.childNodes]) {
    const key = keyOf(child);
    let same = place;
    if (child.nodeType === Node.ELEMENT_NODE) while (same && keyOf(same) !== key) same = same.nextSibling;
    else if (same && same.nodeName !== child.nodeName) same = null;
    if (!same) {
      old.insertBefore(child, place);
      continue;
    }
    while (place !== same) [place] = [place.nextSibling, place.remove()];
    place = same.nextSibling;
    renew(same, child);
  }
  while (place) [place] = [place.nextSibling, place.remove()];
}

// Elements with the same key are the same thing. The key of a row is its link, and the key of a card is its heading.
function keyOf(node) {
  if (node.nodeType !== Node.ELEMENT_NODE) return node.nodeName;
  const inner = node.querySelector({ LI: "a[href]", TR: "a[href]", SECTION: "h2" }[node.nodeName] || ":not(*)");
  const name = inner && (inner.getAttribute("href") || inner.textContent);
  return [node.nodeName, node.id || node.getAttribute("href") || name || node.getAttribute("class")].join(" ");
}

function follow(live) {
  const words = JSON.parse(live.dataset.words);
  let tag = "", wait = EVERY, paused = false, timer = 0;
  const state = document.createElement("span"), button = document.createElement("button");
  state.className = "live-state";
  button.type = "button";
  button.className = "quiet";
  document.querySelector(".head .actions").prepend(state, button);

  function tell(form, text) {
    state.className = "live-state " + form;
    state.textContent = text;
    button.textContent = paused ? words.again : words.stop;
  }

  async function look() {
    clearTimeout(timer);
    if (paused || document.hidden) return;
    const began = performance.now();
    let { lost } = words;
    try {
      const answer = await fetch(location.href, { headers: { [HEADER]: tag }, cache: "no-store", redirect: "error" });
      if (answer.status === 200) {
        const part = document.createElement("template");
        part.innerHTML = await answer.text();
        const bar = part.content.querySelector("#now");
        bar.remove();
        renew(document.querySelector("#now"), bar);
        const now = live.cloneNode(false);
        now.append(part.content);
        renew(live, now);
        tag = answer.headers.get("etag") || "";
      } else if (answer.status === 401) {
        const link = document.createElement("a");
        link.href = location.href; // opened anew, it asks for the secret, and then leads back here
        link.textContent = words.ended;
        tell("lost", "");
        state.append(link);
        return;
      } else if (answer.status !== 304) {
        lost = `${words.failed} (HTTP ${answer.status})`;
        throw new Error(lost);
      }
      wait = Math.max(EVERY, 10 * (performance.now() - began)); // a page that is slow to read is read less often
      tell("", words.live);
    } catch {
      wait = Math.min(wait * 2, SLOWEST);
      tell("lost", lost);
    }
    timer = setTimeout(look, wait);
  }

  button.addEventListener("click", () => {
    paused = !paused;
    tell(paused ? "stopped" : "", paused ? words.stopped : words.live);
    look();
  });
  document.addEventListener("visibilitychange", look);
  tell("", words.live);
  timer = setTimeout(look, EVERY);
}

zones();
selectAll();
sendOnce();
insertColumns();
hear();
leadBack();
const live = document.querySelector("#live[data-live]");
if (live) follow(live);
