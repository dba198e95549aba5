"""The pages in a real browser, with a worker and the sandbox: what an operator does in mid-campaign."""

from __future__ import annotations

import time

import pytest
from selenium.webdriver.common.keys import Keys

from tests.console.browser.reader import Reader
from tests.console.signing_in import OPERATORS
from tests.support.processes import waited_for_a_processor
from tests.support.stage import Stage
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # a browser on a busy machine

CALLS = 3000
"""More than ring before the slowest machine has held and cancelled them."""
BATCH = "/ui/batches/campaign?queue=default"


def test_a_campaign_is_held_resumed_and_cancelled_while_it_runs(on: Stage, reader: Reader) -> None:
    on.campaign(CALLS)
    reader.sign_in(on.receiver)
    reader.sees("Overview", "Mary Tan, operator")
    with on.worker("--rate", "20"):
        wait_until(lambda: len(on.rang()) > 20, "a campaign under way")
        reader.open(on.receiver + BATCH)
        reader.link("Hold").click()
        reader.sees("Will be called", "Will not be called", "Nothing more rings until somebody resumes")
        reader.fill(note="a wrong date")
        starved = waited_for_a_processor(on.pids)
        reader.press("Hold")
        held_at = time.time()
        reader.sees("campaign is on hold. A wrong date (by Mary Tan).")
        wait_until(lambda: time.time() > held_at + 2.5, "time in which nothing may ring")
        rang = [entry["at_seconds"] for entry in on.ledger() if entry["rang"]]
        starved = waited_for_a_processor(on.pids) - starved
        assert 20 < len(rang) < CALLS
        assert max(rang) <= held_at + 1 + starved, "nothing rings later than one second after the hold"
        assert sum(at > held_at for at in rang) <= 20, "a call leaves only if it was leased before the hold"
        reader.sees(f"Nobody is being called; {CALLS - len(rang):,} wait behind the hold.")

        reader.link("Resume").click()
        reader.sees("Resume batch campaign of queue default?")
        reader.press("Resume")
        reader.sees("batch campaign is open")
        wait_until(lambda: len(on.rang()) > len(rang) + 20, "calls after the hold")

        # The page follows the store by itself, up to the end of what waits.
        reader.open(on.receiver + BATCH)
        reader.more()
        reader.link("Cancel the batch").click()
        reader.sees("Cancel batch campaign of queue default for good?")
        reader.fill(note="moved")
        starved = waited_for_a_processor(on.pids)
        reader.press("Cancel the batch for good")
        cancelled_at = time.time()
        reader.sees("batch campaign is cancelled for good")
        wait_until(
            lambda: on.states().keys() <= {"cancelled", "completed", "unreached", "failed"}, "the end of all calls"
        )
        starved = waited_for_a_processor(on.pids) - starved
    assert max(entry["at_seconds"] for entry in on.ledger() if entry["rang"]) <= cancelled_at + 1 + starved
    assert sum(on.states().values()) == CALLS
    assert len(on.rang()) == len(set(on.rang()))
    assert "moved (by Mary Tan)" in on.calls("--state", "cancelled")[0]["reason"]
    assert reader.console() == []


def test_the_keyboard_is_enough(on: Stage, reader: Reader) -> None:
    on.campaign(3)
    reader.open(f"{on.receiver}{BATCH}")
    reader.tab_to("name")
    reader.keys("Mary Tan", Keys.TAB, OPERATORS, Keys.ENTER)
    reader.sees("Mary Tan, operator")
    reader.console()
    reader.tab_to("Skip to the content")
    reader.tab_to("More")
    reader.keys(Keys.ENTER)
    reader.tab_to("Cancel the batch")
    reader.keys(Keys.ENTER)
    reader.sees("Cancel batch campaign of queue default for good?")
    reader.driver.back()
    reader.tab_to("Hold")
    reader.keys(Keys.ENTER)
    reader.sees("Hold batch campaign of queue default?")
    reader.tab_to("note")
    reader.keys("by keys")
    reader.tab_to("Hold")
    reader.keys(Keys.ENTER)
    reader.sees("by keys (by Mary Tan)")
    assert [hold["name"] for hold in on.status()["holds"]] == ["campaign"]
    reader.tab_to("Sign out")
    reader.keys(Keys.ENTER)
    reader.sees("Your name")
    reader.open(f"{on.receiver}{BATCH}")
    assert "Mary Tan" not in reader.text
