"""Redis is killed and comes back under two workers: they go on by themselves, and each person is called once.

`ACCEPTANCE_KILLS=20 pytest tests/acceptance/test_killed_redis.py -s` makes longer runs by hand.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.door import Door, door_before
from tests.support.processes import running, waited_for_a_processor
from tests.support.redis_server import RedisServer
from tests.support.stage import stage
from tests.support.waiting import wait_until

KILLS = int(os.environ.get("ACCEPTANCE_KILLS", "2"))
RATE = 40
BETWEEN = 2.0
"""Seconds of work between two kills, at least."""
WITHIN = 5.0


def arrived_after(doors: list[Door], moment: float) -> list[float]:
    """When the first call of each worker after this moment came; of those that have sent one."""
    firsts = [min((at for at in door.arrivals() if at > moment), default=None) for door in doors]
    return [at for at in firsts if at is not None]


def wait_for_both(doors: list[Door], *, after: float) -> None:
    """Wait until each worker has sent a call after this moment."""
    wait_until(lambda: len(arrived_after(doors, after)) == len(doors), "call by each worker")


@pytest.mark.alone
@pytest.mark.timeout(120 + 30 * KILLS)
def test_workers_go_on_within_five_seconds_of_its_return_and_call_each_person_once(
    own_server: RedisServer, tmp_path: Path
) -> None:
    chance = random.Random(20261120)
    calls = round(RATE * (BETWEEN + 3) * (KILLS + 1))
    with stage(tmp_path, store=own_server.url, outcomes="none") as on, ExitStack() as stack:
        on.order("script", {"drop": True})
        doors: list[Door] = []
        pids = [*on.pids, os.getpid()]
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            doors.append(door := stack.enter_context(door_before(on.sandbox, tmp_path / name)))
            env = {**on.env, "VOICEFLOW_BASE_URL": door.url}
            worker = stack.enter_context(running("worker", "--rate", str(RATE), env=env))
            worker.wait_for("sends queue")
            pids.append(worker.pid)
        on.campaign(calls)  # after both have started, so that each has calls left
        wait_for_both(doors, after=0)

        took: list[float] = []
        for _ in range(KILLS):
            time.sleep(BETWEEN + chance.random())  # the moment of the kill is the point: nothing is awaited
            own_server.kill()
            time.sleep(chance.choice([0.3, 0.8, 2.5]))  # so is the length of the outage
            before, starved = time.time(), waited_for_a_processor(pids)
            own_server.start()
            back = time.time()
            wait_for_both(doors, after=before)
            starved = waited_for_a_processor(pids) - starved
            took.append(max(arrived_after(doors, before)) - back - starved)
        told = ", ".join(f"{seconds:.2f}" for seconds in took)
        print(f"seconds from the return of Redis to a call of each of two workers: {told}")  # noqa: T201
        assert max(took) < WITHIN

        wait_until(lambda: not {"queued", "leased", "sending"} & on.states().keys(), "end of the campaign")
        rang = Counter(on.rang())
        doubts = {call["destination"] for call in on.calls("--state", "in_doubt")}
        print(f"{len(rang)} of {calls} rang, {len(doubts)} are in doubt")  # noqa: T201
        assert set(rang.values()) == {1}
        assert on.states() == {"accepted": len(rang), **({"in_doubt": len(doubts)} if doubts else {})}
        # No worker died: what one of them has sent it knows of. A doubt was journalled, and never left.
        assert rang.keys().isdisjoint(doubts)
        assert len(rang) + len(doubts) == calls
        assert on.status()["holds"] == [], "a plain restart is no rollback"
