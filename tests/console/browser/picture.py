"""Make the picture of the page of a batch, docs/images/batch.webp: python -m tests.console.browser.picture."""

from __future__ import annotations

import base64
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.console.browser.conftest import chromium_in
from tests.console.browser.reader import Reader
from tests.console.signing_in import OPERATORS, READERS
from tests.support.stage import stage
from tests.support.waiting import wait_until

IMAGES = Path(__file__).parents[3] / "docs" / "images"
CALLS, SHOWN_AT = 600, 400
WIDTH, HEIGHT = 1280, 800
OUTCOMES = ("BUSY", "NO_ANSWER", "NO_ANSWER", "FAILED")
"""Of every tenth call and its neighbours; the others are answered."""


def main() -> None:
    """Send a campaign in the sandbox, and take a picture of its page while it runs."""
    account: dict[str, Any] = {"source": "+6531234567", "voice_profile": "en-SG-LunaNeural"}
    with (
        TemporaryDirectory() as name,
        stage(Path(name), ui_secret=READERS, ui_operator_secret=OPERATORS, **account) as on,
        chromium_in(Path(name) / "profile") as driver,
    ):
        reader = Reader(driver)
        reader.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Singapore"})
        reader.sign_in(on.receiver)
        for place in range(CALLS):
            outcome = OUTCOMES[place % 10] if place % 10 < len(OUTCOMES) else "COMPLETED"
            on.order("script", {"destination": f"+65{80000000 + place}", "outcome": outcome})
        on.campaign(CALLS, name="spring-reminders")
        with on.worker("--rate", "20"):
            reader.shown_as(theme="light", width=WIDTH)
            wait_until(lambda: len(on.rang()) > SHOWN_AT, "a campaign under way")
            reader.open(f"{on.receiver}/ui/batches/spring-reminders?queue=default")
            reader.sees("being called")
            take(reader)


def take(reader: Reader) -> None:
    """Take a picture of the top of the page, or of as much as there is of it."""
    reader.script("scrollTo(0, 0)")
    bottom = int(reader.script("return Math.ceil(document.querySelector('main').lastElementChild.offsetTop + 40)"))
    height = max(min(int(reader.script("return document.documentElement.scrollHeight")), HEIGHT), min(bottom, HEIGHT))
    clip = {"x": 0, "y": 0, "width": WIDTH, "height": height, "scale": 1}
    taken = reader.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "webp", "quality": 70, "clip": clip})
    (IMAGES / "batch.webp").write_bytes(base64.b64decode(taken["data"]))


if __name__ == "__main__":
    main()
