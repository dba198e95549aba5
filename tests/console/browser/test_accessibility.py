"""Every page is held against axe-core, in light and in dark, on a screen and on a phone."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.console.browser.conftest import chromium_in
from tests.console.browser.reader import PHONE, Reader, violations
from tests.console.signing_in import OPERATORS, READERS
from tests.support.stage import Stage, stage
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # a browser on a busy machine

BATCH = "batch=campaign&queue=default"
BUSY, DOUBTFUL, DONE, ABSENT = "+6580000000", "+6580000001", "+6580000002", "+6580000009"
PAGES = (
    "", "/batches", "/batches?name=none", "/batches/campaign?queue=default", "/calls", "/calls?state=lost",
    "/calls?answer=yes", "/calls/{done}", "/calls/{doubt}", "/calls?who=%2B65", "/calls?who=nobody", "/doubts",
    "/suppression",
    "/suppression?number=x", f"/suppression?number=%2B{ABSENT[1:]}", "/nothing", "/act/hold?queue=default",
    f"/act/hold?{BATCH}", f"/act/resume?{BATCH}", f"/act/cancel-batch?{BATCH}", "/act/cancel-call?call={waiting}",
    "/act/redial?call={done}", "/act/forget?call={done}", f"/act/redial-batch?{BATCH}&outcome=busy",
    "/act/resolve?call={doubt}", "/act/suppress", "/act/unsuppress?number=%2B6580000077", "/act/import-numbers",
    "/act/unknown", "/campaign", "/batches?name=w", "/calls?batch=waiting",
    "/act/hold", "/campaigns/{draft}", "/campaigns/none",
    "/export/csv",
)  # fmt: skip
"""Below /ui: every template, and every question before an action."""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, dict[str, str]]]:
    """A stage with calls of every kind, and their ids."""
    with stage(tmp_path_factory.mktemp("stage"), ui_secret=READERS, ui_operator_secret=OPERATORS) as on:
        on.order("faults", {"fault": "reset", "destination": DOUBTFUL})
        on.order("script", {"destination": DOUBTFUL, "drop": True})
        on.order("script", {"destination": BUSY, "outcome": "BUSY"})
        on.order("script", {"destination": DONE, "outcome": "COMPLETED"})
        on.campaign(3)
        with on.worker():
            wait_until(lambda: on.states() == {"in_doubt": 1, "unreached": 1, "completed": 1}, lambda: f"{on.states()}")
        on.campaign(1, name="waiting", first=50)
        on.run("suppress", "add", "+6580000077", "--note", "asked by mail")
        on.run("hold", "--batch", "waiting", "--note", "a wrong date")
        with httpx.Client(base_url=on.receiver, headers={"Origin": on.receiver}, trust_env=False, timeout=60) as client:
            client.post("/ui/sign-in", data={"name": "Mary Tan", "secret": OPERATORS})
            people = "Name,Mobile,Do Not Call,Visit\n" + "".join(
                f"Guest {at},8100 {at:04},{'yes' if at == 5 else ''},{at}/12/2030\n" for at in range(1, 9)
            )
            sent = client.post("/ui/campaign", data={"pasted": f"{people}Otto,12,,1/12/2030\n"})
            draft = sent.headers["location"].rpartition("/")[2]
            typed = {
                "country": "SG",
                "column.destination": "Mobile",
                "say": "Hello {{name}}.",
                "any": "yes",
                "days": "mon",
            }
            client.post(f"/ui/campaigns/{draft}", data={**typed, "days": "mon", "do": "check"})
        ids = {call["destination"]: str(call["id"]) for call in on.calls()}
        yield on, {"done": ids[DONE], "doubt": ids[DOUBTFUL], "waiting": ids["+6580000050"], "draft": draft}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, _chromium_starts: None) -> Iterator[Reader]:
    with chromium_in(tmp_path_factory.mktemp("profile")) as driver:
        yield Reader(driver)


def enter(reader: Reader, on: Stage) -> None:
    """Open the form to sign in."""
    reader.open(f"{on.receiver}/ui/sign-in")
    reader.driver.delete_all_cookies()
    reader.open(f"{on.receiver}/ui/sign-in")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_core_finds_nothing(seen: tuple[Stage, dict[str, str]], reader: Reader, theme: str, width: int) -> None:
    on, ids = seen
    reader.shown_as(theme=theme, width=width)
    enter(reader, on)
    found = {"sign-in": violations(reader)}
    if theme == "light":
        reader.fill(name="Mary Tan", secret="wrong")
        reader.press("Sign in")
        found["wrong secret"] = violations(reader)
    reader.fill(name="Mary Tan", secret=OPERATORS)
    reader.press("Sign in")
    for path in PAGES:
        reader.open(f"{on.receiver}/ui{path.format(**ids)}")
        reader.sees("Mary Tan")
        reader.script("for (const each of document.querySelectorAll('main details')) each.open = true")
        found[path] = violations(reader)
    assert {path: each for path, each in found.items() if each} == {}


SCROLLS = """return [...document.querySelectorAll("main *, header *")].filter((each) =>
  /auto|scroll/.test(getComputedStyle(each).overflow) && each.nodeName !== "TEXTAREA" &&
  (each.scrollWidth > each.clientWidth + 1 ||
  each.scrollHeight > each.clientHeight + 1)).map((each) => each.outerHTML.slice(0, 120))"""
WIDE = """return [...document.querySelectorAll("body *")].filter((each) => each.checkVisibility() &&
  each.getBoundingClientRect().right > arguments[0] + 1).map((each) => each.outerHTML.slice(0, 120))"""
HIDDEN = """return [...document.querySelectorAll("[aria-current=page]")]
  .map((each) => (each.checkVisibility() ? each : each.closest("nav").querySelector("summary")).getBoundingClientRect())
  .filter((box) => box.left < 0 || box.right > innerWidth || !box.width).length"""


def test_on_a_phone_nothing_scrolls_in_a_box_and_the_open_tab_is_in_sight(
    seen: tuple[Stage, dict[str, str]], reader: Reader
) -> None:
    on, ids = seen
    reader.shown_as(theme="light", width=PHONE)
    enter(reader, on)
    reader.fill(name="Mary Tan", secret=OPERATORS)
    reader.press("Sign in")
    found: dict[str, tuple[list[str], int, object]] = {}
    for path in (*PAGES, "/calls?state=queued", "/calls?state=unreached"):
        reader.open(f"{on.receiver}/ui{path.format(**ids)}")
        reader.sees("Mary Tan")
        found[path] = reader.script(SCROLLS), reader.script(HIDDEN), reader.width > PHONE and reader.script(WIDE, PHONE)
    assert {path: each for path, each in found.items() if each != ([], 0, False)} == {}
