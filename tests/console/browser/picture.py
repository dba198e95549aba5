"""Make docs/images/batch.webp, the picture of a page in docs/console.md: python -m tests.console.browser.picture"""

from __future__ import annotations

import base64
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.console.browser.conftest import chromium_in
from tests.console.browser.reader import Reader
from tests.console.signing_in import OPERATORS, READERS
from tests.support.stage import stage
from tests.support.waiting import wait_until

PICTURE = Path(__file__).parents[3] / "docs" / "images" / "batch.webp"
CALLS, SHOWN_AT = 600, 400
WIDTH, HEIGHT = 1280, 800
OUTCOMES = ("BUSY", "NO_ANSWER", "NO_ANSWER", "FAILED")
"""Of every tenth call and its neighbours; the others are answered."""


def main() -> None:
    """Send a campaign in the sandbox, and take a picture of its page while it runs."""
    with TemporaryDirectory() as name, stage(Path(name), ui_secret=READERS, ui_operator_secret=OPERATORS) as on:
        for place in range(CALLS):
            outcome = OUTCOMES[place % 10] if place % 10 < len(OUTCOMES) else "COMPLETED"
            on.order("script", {"destination": f"+65{80000000 + place}", "outcome": outcome})
        on.campaign(CALLS, name="spring-reminders")
        with on.worker("--rate", "20"), chromium_in(Path(name) / "profile") as driver:
            reader = Reader(driver)
            reader.shown_as(theme="light", width=WIDTH)
            reader.sign_in(on.receiver)
            wait_until(lambda: len(on.rang()) > SHOWN_AT, "a campaign under way")
            reader.open(f"{on.receiver}/ui/batches/spring-reminders?queue=default")
            reader.sees("being called")
            clip = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT, "scale": 1}
            taken = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "webp", "quality": 80, "clip": clip})
    PICTURE.write_bytes(base64.b64decode(taken["data"]))


if __name__ == "__main__":
    main()
