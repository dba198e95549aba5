"""A worker, or the receiver, is killed with SIGKILL at each boundary of a call's way, and others take over."""

from __future__ import annotations

import signal

import pytest

from tests.crash.fault_injection import FaultInjection
from tests.crash.points import Point, Trigger
from tests.crash.tap import Rest, Tap

pytestmark = pytest.mark.crash
slow = pytest.mark.slow
"""Left to `./dev test --all`: another place on a stretch of the way whose ends CI strikes."""

CALLS = 8
AFTER_THE_SWEEP = 1.2
"""Seconds to a summary: the lease of the dead is over by then, and another worker has doubted what they left."""
NOTHING_SENT = (pytest.param(Point.AFTER_LEASE, marks=slow), Point.BEFORE_JOURNAL)
NEVER_LEFT = (Point.AFTER_JOURNAL, pytest.param(Point.BEFORE_FIRST_BYTE, marks=slow))
LEFT = (
    Point.AFTER_ANSWER,
    pytest.param(Point.BEFORE_SWAP, marks=slow),
    Point.AFTER_SWAP,
)
IN_THE_SWEEP = (Point.BEFORE_SWEEP, pytest.param(Point.AFTER_SWEEP, marks=slow))
IN_THE_WEBHOOK = (pytest.param(Point.BEFORE_SUMMARY, marks=slow), Point.AFTER_SUMMARY)


@pytest.mark.parametrize("nth", [1, pytest.param(2, marks=slow)])
@pytest.mark.parametrize("point", NOTHING_SENT)
def test_killed_before_the_journal_every_call_is_made_once_by_another_worker(
    lab: FaultInjection, point: Point, nth: int
) -> None:
    lab.enqueue(CALLS)
    lab.killed(Trigger(point=point, nth=nth), concurrency=4)
    left = lab.states()
    assert left["leased"]
    if nth == 1:
        assert set(left) == {"leased", "queued"}
        assert not lab.ledger()
    lab.finish()
    judgement = lab.accept()
    assert len(judgement.open_doubts) <= left.get("sending", 0), "only those that were on their way meanwhile"
    assert judgement.rang == CALLS - len(judgement.open_doubts)


@pytest.mark.parametrize("store_url", ["redis"], indirect=True)
def test_killed_with_its_own_file_ahead_of_the_store_nothing_is_held_and_nothing_rings_twice(
    lab: FaultInjection,
) -> None:
    lab.enqueue(CALLS)
    lab.killed(Trigger(point=Point.AFTER_FILE), concurrency=4)
    left = lab.states()
    lab.finish()
    assert not lab.holds(), "a worker that was killed while it wrote is no store that was rolled back"
    judgement = lab.accept()
    assert len(judgement.open_doubts) == left.get("sending", 0)
    assert judgement.rang == CALLS - len(judgement.open_doubts)


@pytest.mark.parametrize("point", NEVER_LEFT)
def test_killed_between_the_journal_and_the_first_byte_the_call_stays_in_doubt(
    lab: FaultInjection, point: Point
) -> None:
    lab.enqueue(CALLS)
    lab.killed(Trigger(point=point), concurrency=4)
    assert not lab.ledger()
    doubts = lab.states()["sending"]
    assert lab.finish()["in_doubt"] == doubts
    judgement = lab.accept()
    assert len(judgement.open_doubts) == doubts
    assert judgement.rang == CALLS - doubts


@pytest.mark.parametrize("nth", [1, pytest.param(3, marks=slow)])
@pytest.mark.parametrize("point", LEFT)
def test_killed_after_the_answer_no_call_is_made_twice_and_summaries_settle_the_doubts(
    lab: FaultInjection, point: Point, nth: int
) -> None:
    lab.enqueue(CALLS)
    lab.summaries(after=AFTER_THE_SWEEP)
    lab.killed(Trigger(point=point, nth=nth), concurrency=2)
    left = lab.states()
    assert left.get("sending", 0) >= (point in {Point.AFTER_ANSWER, Point.BEFORE_SWAP})
    lab.finish()
    judgement = lab.accept()
    assert judgement.unanswered + len(judgement.open_doubts) == left.get("sending", 0)
    assert judgement.rang == CALLS - len(judgement.open_doubts)
    assert len(judgement.open_doubts) <= 1, "the other call in flight; the one that was answered has its summary"


@pytest.mark.parametrize("point", [Point.BEFORE_SWAP, pytest.param(Point.AFTER_ANSWER, marks=slow)])
def test_killed_while_a_session_waits_for_the_commit_of_the_next_entry_the_call_is_a_doubt_and_rings_once(
    lab: FaultInjection, point: Point
) -> None:
    lab.enqueue(CALLS)
    lab.summaries(after=AFTER_THE_SWEEP)
    lab.killed(Trigger(point=point, nth=2), rate=20)
    left = lab.states()["sending"]
    assert left, "the call that was answered, and perhaps the next one"
    lab.finish()
    judgement = lab.accept()
    assert judgement.unanswered + len(judgement.open_doubts) == left
    assert judgement.rang == CALLS - len(judgement.open_doubts)


@pytest.mark.parametrize("place", [pytest.param(Point.AFTER_LEASE, marks=slow), Point.AFTER_JOURNAL])
@pytest.mark.parametrize("point", IN_THE_SWEEP)
def test_killed_while_it_sweeps_up_after_another_the_next_one_does_it(
    lab: FaultInjection, point: Point, place: Point
) -> None:
    lab.enqueue(CALLS)
    lab.killed(Trigger(point=place), concurrency=4)
    lab.killed(Trigger(point=point), concurrency=1)
    lab.finish()
    judgement = lab.accept()
    assert judgement.rang == CALLS - len(judgement.open_doubts)


@pytest.mark.parametrize("nth", [1, pytest.param(3, marks=slow)])
@pytest.mark.parametrize("point", IN_THE_WEBHOOK)
def test_a_receiver_that_is_killed_in_the_webhook_settles_each_call_once_when_it_is_back(
    lab: FaultInjection, point: Point, nth: int
) -> None:
    lab.receiver.end()
    receiver = lab.start_receiver(Trigger(point=point, nth=nth))
    lab.enqueue(CALLS)
    lab.summaries(after=0.05, apart=0.05)
    worker = lab.worker(drain=True)
    assert receiver.wait() == -signal.SIGKILL, receiver.log
    lab.start_receiver()
    assert worker.wait() == 0, worker.log
    judgement = lab.accept()
    assert judgement.rang == CALLS
    assert not judgement.open_doubts


@pytest.mark.parametrize(
    ("share", "rest", "rings"),
    [
        pytest.param(0, Rest.NOTHING, 0, id="after-the-head-and-nothing-comes-through", marks=slow),
        pytest.param(0.5, Rest.WHAT_WAS_READ, 0, id="half-of-the-body-comes-through", marks=slow),
        pytest.param(0.5, Rest.ALL, 1, id="the-rest-comes-through-after-its-death"),
        pytest.param(1, Rest.ALL, 1, id="the-whole-body-and-no-answer"),
    ],
)
def test_killed_between_two_bytes_of_a_post_the_call_rings_at_most_once(
    lab: FaultInjection, share: float, rest: Rest, rings: int
) -> None:
    lab.enqueue(CALLS)
    lab.summaries(after=AFTER_THE_SWEEP)
    with Tap(lab.url, share=share, rest=rest).running() as tap:
        worker = lab.worker(base_url=tap.url, concurrency=1)
        tap.kill = lambda: worker.end(signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL
        assert tap.tapped.wait(30)
    assert lab.states()["sending"] == 1
    assert len([row for row in lab.ledger() if row["rang"]]) == rings
    lab.finish()
    judgement = lab.accept()
    assert judgement.rang == CALLS - 1 + rings
    assert len(judgement.open_doubts) == 1 - rings
    assert judgement.unanswered == rings
