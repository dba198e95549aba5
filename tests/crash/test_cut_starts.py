"""An import of 5,000 rows that is killed again and again while a worker waits for calls, by the command."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from pathlib import Path

import anyio
import pytest

from tests.support.processes import Process, voiceflow
from tests.support.stage import stage
from tests.support.waiting import wait_until
from voiceflow_worker import open_store
from voiceflow_worker.core.base.reading import count_states

ROWS = 5000
STEPS = (1, 1000, 2000, 3000, 4000, 4999)
"""The numbers of stored calls at which the start is killed."""
TO_GO_WRONG = 1.0
"""Seconds that the worker is given to ring somebody."""


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nobody_rings_before_the_last_row_and_each_person_rings_once(store_url: str, tmp_path: Path) -> None:
    people = tmp_path / "people.csv"
    numbers = [f"+65{80000000 + place}" for place in range(ROWS)]
    people.write_text("\n".join(["destination", *numbers]) + "\n", encoding="utf-8")
    command = ("enqueue", str(people), "--say", "Hello.", "--voice-profile", "en-IE-EmilyNeural")
    killed = 0
    with stage(tmp_path, store=store_url, outcomes="none") as on, on.worker("--rate", "unlimited"):
        on.order("script", {"drop": True})
        for stored in STEPS:
            start = Process(*command, "--source", "+6531234567", "--json", env=on.env)
            while start.is_running and sum(on.states().values()) < stored:
                pass
            killed += start.is_running
            start.end(signal.SIGKILL)
            time.sleep(TO_GO_WRONG)
            if (found := sum(on.states().values())) < ROWS:
                assert on.rang() == [], f"somebody rings, and {ROWS - found} calls are not stored"
                assert not found or "start the same campaign again" in str(on.status()["holds"])
        done = voiceflow(*command, "--source", "+6531234567", "--json", env=on.env)
        assert done.wait() == 0, done.told
        told = json.loads("".join(done.stdout))
        assert told["enqueued"] + told["duplicates"] == ROWS
        wait_until(lambda: on.states() == {"accepted": ROWS}, "end of the campaign", within=300)
        assert Counter(on.rang()) == Counter(dict.fromkeys(numbers, 1))
    assert killed >= 3, "it was killed while it stored rows"


async def until_stored(store_url: str, calls: int) -> None:
    """Wait until this many calls are stored, by looking more often than a command could."""
    async with open_store(store_url) as store:
        while sum((await count_states(store, "default")).values()) < calls:
            await store.clock.sleep(0.002)


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hold_and_a_resume_do_not_ring_what_a_corrected_file_has_replaced(store_url: str, tmp_path: Path) -> None:
    """The import is killed after some 1,000 rows, and its text corrected and started with --again, as people do."""
    people, numbers = tmp_path / "people.csv", [f"+65{80000000 + place}" for place in range(ROWS)]
    people.write_text("\n".join(["destination", *numbers]) + "\n", encoding="utf-8")
    command = ("enqueue", str(people), "--voice-profile", "en-IE-EmilyNeural", "--source", "+6531234567", "--json")
    with stage(tmp_path, store=store_url, outcomes="none") as on, on.worker("--rate", "unlimited"):
        on.order("script", {"drop": True})
        start = Process(*command, "--say", "Helo.", env=on.env)
        anyio.run(until_stored, store_url, 1000)
        start.end(signal.SIGKILL)
        staged = sum(on.states().values())
        assert 1000 <= staged < ROWS, "it was killed in its middle"
        corrected = (*command, "--say", "Hello.")
        assert voiceflow(*corrected, env=on.env).wait() == 2
        assert voiceflow(*corrected, "--again", env=on.env).wait() == 0
        for order in (("hold",), ("hold", "--batch", "people"), ("resume", "--batch", "people"), ("resume",)):
            assert voiceflow(*order, env=on.env).wait() == 0
        done = {"accepted": ROWS, "queued": staged}
        wait_until(lambda: on.states() == done, "end of the campaign", within=300)
        time.sleep(TO_GO_WRONG)
        assert Counter(on.rang()) == Counter(dict.fromkeys(numbers, 1))
        assert on.status()["staged"] == [
            {"batch_id": "people", "calls": staged, "since": on.status()["staged"][0]["since"]}
        ]
        discard = voiceflow("calls", "cancel", "--batch", "people", "--staged", "--yes", "--json", env=on.env)
        assert json.loads("".join(discard.stdout)) == {"batch_id": "people", "discarded": staged}
        assert on.states() == {"accepted": ROWS, "cancelled": staged}
        assert Counter(on.rang()) == Counter(dict.fromkeys(numbers, 1))
