"""Four workers share one Redis and one rate: it holds in every sliding second, and it is used.

`ACCEPTANCE_SECONDS=600 pytest tests/acceptance/test_shared_rate.py -s` makes longer runs by hand.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.door import Door, busiest_second, door_before
from tests.support.processes import Process, waited_for_a_processor
from tests.support.redis_server import RedisServer, standalone
from tests.support.stage import stage
from tests.support.waiting import wait_until

SECONDS = float(os.environ.get("ACCEPTANCE_SECONDS", "30"))
RATE = 50
WORKERS = 4
FROZEN_FOR = 0.3
AT_WORK_AGAIN = 0.05


Stalls = list[tuple[float, float]]
"""The times at which a worker stood still: from, and until it was certainly at work again."""


def left_alone(workers: Sequence[Process]) -> Stalls:
    time.sleep(SECONDS)  # the rate is measured over this time
    return []


def frozen_now_and_then(workers: Sequence[Process]) -> Stalls:
    """About every 1.5 s one of them is frozen for 300 ms, as a machine that swaps has it."""
    chance = random.Random(20261120)
    ends = time.monotonic() + SECONDS
    stalls: Stalls = []
    while time.monotonic() < ends:
        frozen, began = chance.choice(workers), time.time()
        frozen.signal(signal.SIGSTOP)
        time.sleep(FROZEN_FOR)  # the length of the stall is the point: nothing is awaited
        frozen.signal(signal.SIGCONT)
        stalls.append((began, time.time() + AT_WORK_AGAIN))
        time.sleep(chance.uniform(0.7, 1.7))  # the moment of the next stall is the point too
    return stalls


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis for one test."""
    server = standalone(tmp_path / "redis").start()
    yield server
    server.kill()


@pytest.mark.alone
@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("meanwhile", [left_alone, frozen_now_and_then])
def test_four_workers_keep_to_one_rate_in_every_second_and_use_it(
    own_server: RedisServer, tmp_path: Path, meanwhile: Callable[[Sequence[Process]], Stalls]
) -> None:
    with stage(tmp_path, store=own_server.url, outcomes="none") as on, ExitStack() as stack:
        on.campaign(round(RATE * (SECONDS + 15)))
        door = stack.enter_context(door_before(on.sandbox, tmp_path))
        on.env["VOICEFLOW_BASE_URL"] = door.url
        workers = [stack.enter_context(on.worker("--rate", str(RATE))) for _ in range(WORKERS)]
        all_are_at_work(workers, door)
        pids = [worker.pid for worker in workers]
        began, waited_before = time.time(), waited_for_a_processor(pids)
        stalls = meanwhile(workers)
        ended, starved = time.time(), (waited_for_a_processor(pids) - waited_before) / WORKERS
        assert [worker.end() for worker in workers] == [0] * WORKERS
        arrivals, ledger = door.arrivals(), on.ledger()
        # The send slots that the frozen worker holds are lost, and one worker may hold all of them. So the rate is
        # used, apart from the stalls.
        counted = [at for at in arrivals if began <= at < ended and not any(a <= at < b for a, b in stalls)]
        used = len(counted) / (RATE * (ended - began - sum(min(b, ended) - a for a, b in stalls)))
        print(  # noqa: T201 - figures for the docs, seen with -s
            f"{meanwhile.__name__}: {len(arrivals)} POSTs in {ended - began:.1f} s and before; the fullest second: "
            f"{busiest_second(arrivals)} arrived; "
            f"{used:.1%} of the rate was used; a worker had to wait for a processor for {starved:.1f} s"
        )
        assert busiest_second(arrivals) <= RATE * 1.05
        assert used >= 0.95 - starved / (ended - began)
        assert len(ledger) == len(arrivals)
        assert set(Counter(entry["destination"] for entry in ledger).values()) == {1}


def all_are_at_work(workers: Sequence[Process], door: Door) -> None:
    for worker in workers:
        worker.wait_for("sends queue")
    wait_until(lambda: len(door.arrivals()) >= RATE, "first second of calls")
