"""Clocks that jump by an hour in mid-run, in one worker while another has the right time."""

from __future__ import annotations

from datetime import timedelta
from signal import Signals

import anyio
import pytest

from tests.crash.laboratory import Laboratory
from tests.crash.points import Act, Point, Trigger
from voiceflow_worker import CallQueue, open_store

pytestmark = [pytest.mark.crash, pytest.mark.slow]

HOUR = 3600.0
CALLS = 20


@pytest.mark.parametrize("point", [Point.AFTER_LEASE, Point.AFTER_LOCK, Point.AFTER_JOURNAL, Point.AFTER_ANSWER])
def test_a_clock_that_jumps_forward_lets_nothing_ring_twice_and_loses_nothing(lab: Laboratory, point: Point) -> None:
    lab.enqueue(CALLS)
    lab.faults({"fault": "delay", "seconds": 0.02, "times": None})
    jumps = Trigger(point=point, nth=2, act=Act.JUMP, by=HOUR)
    ahead = lab.worker(jumps, concurrency=3)
    right = lab.worker(concurrency=3)
    lab.wait_for_posts(CALLS)
    for worker in (ahead, right):
        assert worker.end(Signals.SIGTERM) == 0, worker.log
    lab.finish()
    judgement = lab.accept()
    assert judgement.rang == CALLS
    assert not judgement.open_doubts


@pytest.mark.parametrize("point", [Point.AFTER_LEASE, Point.AFTER_LOCK, Point.AFTER_JOURNAL, Point.AFTER_ANSWER])
def test_a_clock_that_jumps_back_stops_its_worker_and_the_next_one_goes_on_with_the_right_time(
    lab: Laboratory, point: Point
) -> None:
    lab.enqueue(CALLS, valid_for=timedelta(minutes=30))
    jumps = Trigger(point=point, nth=2, act=Act.JUMP, by=-HOUR)
    told = lab.worker(jumps, drain=True, concurrency=3).wait_for("drained")
    assert told["held"] or told["later"], "to its clock the calls are for later, or 8x8 says that the clock is off"
    if point in {Point.AFTER_LEASE, Point.AFTER_LOCK}:
        assert "clock" in lab.holds(), "what it had leased went out with a validUntil of an hour ago"
    anyio.run(_resume, lab.store)
    lab.finish()
    judgement = lab.accept()
    assert judgement.rang == CALLS
    assert not judgement.open_doubts


def test_a_clock_that_jumps_back_while_another_worker_sends_lets_nothing_ring_twice(lab: Laboratory) -> None:
    lab.enqueue(CALLS)
    lab.faults({"fault": "delay", "seconds": 0.05, "times": None})
    jumps = (
        Trigger(point=Point.AFTER_LEASE, nth=2, act=Act.JUMP, by=-HOUR),
        Trigger(point=Point.BEFORE_JOURNAL, nth=3, act=Act.JUMP, by=HOUR),
    )
    behind = lab.worker(*jumps, concurrency=3)
    right = lab.worker(concurrency=3)
    lab.wait_for_posts(6)
    for worker in (behind, right):
        assert worker.end(Signals.SIGTERM) == 0, worker.log
    anyio.run(_resume, lab.store)
    lab.finish()
    judgement = lab.accept()
    assert judgement.rang + judgement.states.get("expired", 0) == CALLS


async def _resume(url: str) -> None:
    async with open_store(url) as store:
        await CallQueue(store).resume()
