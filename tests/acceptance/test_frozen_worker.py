"""A worker is stopped for longer than its leases last, another takes over, and the first goes on: one ring for each.

Here it is stopped wherever it is; `tests/crash/test_signals.py` stops it at each step of a call's way.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from tests.support.processes import Process
from tests.support.stage import Stage, stage
from tests.support.waiting import wait_until

CALLS = 200
ROUNDS = 2
LEASE = 2.0
CONCURRENCY = 8
OPTIONS = ("--rate", "40", "--concurrency", str(CONCURRENCY))


def reaches(on: Stage, count: int) -> None:
    """Wait until so many POSTs have come."""
    wait_until(lambda: len(on.ledger()) >= count, f"{count} POSTs")


def stop_outside_a_commit(worker: Process, store_url: str) -> None:
    """Stop it where others can go on: a process that stands still inside a commit keeps an SQLite file locked."""
    while True:
        worker.signal(signal.SIGSTOP)
        if can_be_written(store_url):
            return
        worker.signal(signal.SIGCONT)


def can_be_written(store_url: str) -> bool:
    """Whether nobody has the store locked."""
    if not store_url.startswith("sqlite:"):
        return True
    with closing(apsw.Connection(store_url.removeprefix("sqlite:///"))) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE; ROLLBACK")  # pyright: ignore[reportUnknownMemberType]
        except (apsw.BusyError, apsw.ProtocolError):
            return False
    return True


@pytest.mark.alone
@pytest.mark.timeout(600)  # on a busy machine the processes take long to start
def test_frozen_past_its_leases_and_continued_it_calls_nobody_whom_another_has_called(
    store_url: str, tmp_path: Path
) -> None:
    with stage(tmp_path, store=store_url, outcomes="none", lease=f"{LEASE:g}s") as on:
        on.order("script", {"drop": True})
        # Late answers, so that it is stopped with POSTs on their way too.
        on.order("faults", {"fault": "delay", "seconds": 0.15, "place": "arrival", "times": None})
        on.campaign(CALLS)
        taken_over = 0
        with on.worker(*OPTIONS) as frozen:
            for _ in range(ROUNDS):
                before = len(on.ledger())
                reaches(on, before + 10)
                stop_outside_a_commit(frozen, store_url)
                time.sleep(LEASE + 0.2)  # the leases of a frozen process run out with time alone
                at_first = len(on.ledger())
                with on.worker(*OPTIONS) as another:
                    reaches(on, at_first + 20)
                    taken_over += len(on.ledger()) - at_first
                    frozen.signal(signal.SIGCONT)
                    assert another.end() == 0
            # Where it stood still for longer than an answer may take, the calls on their way are in doubt.
            wait_until(lambda: on.states().keys() <= {"accepted", "in_doubt"}, lambda: f"an end, not {on.states()}")
            assert frozen.end() == 0
        print(f"{CALLS} rang, {taken_over} of them through the other while the first was frozen")  # noqa: T201
        doubts, rang = on.states().get("in_doubt", 0), on.rang()
        assert doubts <= ROUNDS * CONCURRENCY
        assert set(Counter(rang).values()) == {1}
        assert CALLS - doubts <= len(rang) == len(on.ledger()) <= CALLS
