"""Make the pictures of pages in docs/images: python -m tests.console.browser.picture

They are `batch.webp`, and the steps of the form of a campaign, each in a window of a desk and of a phone.
"""

from __future__ import annotations

import base64
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from selenium.webdriver.common.by import By

from tests.console.browser.conftest import chromium_in
from tests.console.browser.reader import Reader
from tests.console.signing_in import OPERATORS, READERS
from tests.support.stage import Stage, stage
from tests.support.waiting import wait_until

IMAGES = Path(__file__).parents[3] / "docs" / "images"
CALLS, SHOWN_AT = 600, 400
DESK, PHONE, HEIGHT = 1280, 390, 800
OUTCOMES = ("BUSY", "NO_ANSWER", "NO_ANSWER", "FAILED")
"""Of every tenth call and its neighbours; the others are answered."""
NAMES = ("Wei Ming Tan", "Siti Nurhaliza", "Priya Nair", "Hui Ling Koh", "Ahmad Yusof", "Jia Hao Lim", "Farah Goh")


def main() -> None:
    """Send a campaign in the sandbox, and take pictures of its page while it runs, and of the form of another one."""
    account: dict[str, Any] = {"source": "+6531234567", "voice_profile": "en-SG-LunaNeural"}
    with (
        TemporaryDirectory() as name,
        stage(Path(name), ui_secret=READERS, ui_operator_secret=OPERATORS, **account) as on,
        chromium_in(Path(name) / "profile") as driver,
    ):
        reader = Reader(driver)
        reader.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Singapore"})
        reader.sign_in(on.receiver)
        for width in (DESK, PHONE):
            form(on, reader, width)
        for place in range(CALLS):
            outcome = OUTCOMES[place % 10] if place % 10 < len(OUTCOMES) else "COMPLETED"
            on.order("script", {"destination": f"+65{80000000 + place}", "outcome": outcome})
        on.campaign(CALLS, name="spring-reminders")
        with on.worker("--rate", "20"):
            reader.shown_as(theme="light", width=DESK)
            wait_until(lambda: len(on.rang()) > SHOWN_AT, "a campaign under way")
            reader.open(f"{on.receiver}/ui/batches/spring-reminders?queue=default")
            reader.sees("being called")
            take(reader, "batch", DESK)


def form(on: Stage, reader: Reader, width: int) -> None:
    """Fill in the form for the list of a clinic, and take a picture of each step."""
    rows = (f"{NAMES[at % 7]},9{100 + at} {4000 + 7 * at},0{1 + at}/12/2026,Booked" for at in range(9))
    people = on.folder / "visits.csv"
    people.write_text("\n".join(("Patient,Mobile,Visit,Status", *rows, "Daniel Ong,9123,09/12/2026,Booked", "")))
    reader.shown_as(theme="light", width=width)
    reader.open(f"{on.receiver}/ui/campaign")
    reader.field("file").send_keys(str(people))
    reader.send("look")
    take(reader, "people", width)
    reader.press("Yes")
    reader.press("31/1/2030")
    cell = reader.driver.find_element(By.CSS_SELECTOR, "td.faults input:not([type=hidden])")
    cell.clear()
    cell.send_keys("91234567")
    reader.send("words")
    reader.fill(say="Hello {{patient}}, we see you on {{visit|date}}.")
    reader.press("Yes or no")
    take(reader, "words", width)
    for step in ("hours", "check", "ready"):
        reader.send(step)
    if width == PHONE:
        take(reader, "start", width)


def take(reader: Reader, name: str, width: int) -> None:
    """Take a picture of the top of a page, or of as much as there is of it."""
    reader.script("scrollTo(0, 0)")
    bottom = int(reader.script("return Math.ceil(document.querySelector('main').lastElementChild.offsetTop + 40)"))
    height = max(min(int(reader.script("return document.documentElement.scrollHeight")), HEIGHT), min(bottom, HEIGHT))
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    taken = reader.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "webp", "quality": 70, "clip": clip})
    (IMAGES / f"{name}{'' if width == DESK else '-phone'}.webp").write_bytes(base64.b64decode(taken["data"]))


if __name__ == "__main__":
    main()
