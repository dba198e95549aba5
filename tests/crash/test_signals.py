"""Workers that are frozen past their lease while others take over, and workers that are told to stop."""

from __future__ import annotations

from datetime import timedelta
from signal import Signals

import pytest

from tests.crash.fault_injection import FaultInjection
from tests.crash.points import OperatorAction, Point, Trigger

pytestmark = pytest.mark.crash
slow = pytest.mark.slow

CALLS = 6


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(Point.AFTER_LEASE, marks=slow),
        pytest.param(Point.BEFORE_JOURNAL, marks=slow),
        Point.AFTER_JOURNAL,
        pytest.param(Point.BEFORE_FIRST_BYTE, marks=slow),
        Point.AFTER_ANSWER,
        pytest.param(Point.BEFORE_SWAP, marks=slow),
        pytest.param(Point.AFTER_SWAP, marks=slow),
    ],
)
def test_frozen_past_its_lease_while_another_takes_over_and_continued_every_call_rings_once(
    lab: FaultInjection, point: Point
) -> None:
    lab.enqueue(CALLS)
    lab.summaries(after=1.2)  # the other worker has doubted what the frozen one was sending by then
    frozen = lab.worker(Trigger(point=point, act=OperatorAction.STOP), concurrency=2)
    frozen.wait_until_stopped()
    lab.finish()
    frozen.signal(Signals.SIGCONT)
    lab.finish()
    assert frozen.end(Signals.SIGTERM) == 0, frozen.log
    judgement = lab.accept()
    assert judgement.rang == CALLS, "the frozen worker has finished what it had journalled, and nothing else"
    assert not judgement.open_doubts


@slow
@pytest.mark.parametrize("point", [Point.AFTER_ANSWER, Point.BEFORE_SWAP])
def test_frozen_with_an_answer_that_others_never_had_it_settles_what_they_have_doubted(
    lab: FaultInjection, point: Point
) -> None:
    lab.enqueue(CALLS)
    lab.order_of_sandbox("script", {"drop": True})
    frozen = lab.worker(Trigger(point=point, act=OperatorAction.STOP), concurrency=1)
    frozen.wait_until_stopped()
    lab.finish(and_wait_for_summaries=False)
    assert lab.states() == {"in_doubt": 1, "submitted": CALLS - 1}
    frozen.signal(Signals.SIGCONT)
    assert frozen.end(Signals.SIGTERM) == 0, frozen.log
    assert lab.states() == {"submitted": CALLS}, "an answer is evidence, and evidence is never dropped"
    assert [row["rang"] for row in lab.ledger()] == [True] * CALLS


@slow
def test_asked_to_stop_it_gives_up_what_outlasts_its_grace_and_summaries_settle_that(lab: FaultInjection) -> None:
    lab.enqueue(8)
    lab.faults({"next": 4, "fault": "delay", "seconds": 30, "place": "after"})
    worker = lab.worker(concurrency=4, lease=timedelta(seconds=60), grace=timedelta(seconds=0.5))
    lab.wait_for_posts(4)
    assert worker.end(Signals.SIGTERM) == 0, worker.log
    lab.finish()
    judgement = lab.accept()
    assert judgement.rang == 8
    assert not judgement.open_doubts
