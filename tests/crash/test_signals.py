"""Workers that are frozen past their lease while others take over, and workers that are told to stop."""

from __future__ import annotations

from datetime import timedelta
from signal import Signals

import anyio
import pytest

from tests.crash.laboratory import Laboratory
from tests.crash.points import Act, Point, Trigger
from voiceflow_worker import CallPolicy, CallQueue, JobState, open_store

pytestmark = pytest.mark.crash
slow = pytest.mark.slow

CALLS = 6


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(Point.AFTER_LEASE, marks=slow),
        pytest.param(Point.AFTER_LOCK, marks=slow),
        pytest.param(Point.BEFORE_JOURNAL, marks=slow),
        Point.AFTER_JOURNAL,
        pytest.param(Point.BEFORE_FIRST_BYTE, marks=slow),
        Point.AFTER_ANSWER,
        pytest.param(Point.BEFORE_SWAP, marks=slow),
        pytest.param(Point.AFTER_SWAP, marks=slow),
    ],
)
def test_frozen_past_its_lease_while_another_takes_over_and_continued_every_call_rings_once(
    lab: Laboratory, point: Point
) -> None:
    lab.enqueue(CALLS)
    lab.summaries(after=1.2)  # the other worker has doubted what the frozen one was sending by then
    frozen = lab.worker(Trigger(point=point, act=Act.STOP), concurrency=2)
    frozen.wait_for("stopped")
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
    lab: Laboratory, point: Point
) -> None:
    lab.enqueue(CALLS)
    lab.order_of_sandbox("script", {"drop": True})
    frozen = lab.worker(Trigger(point=point, act=Act.STOP), concurrency=1)
    frozen.wait_for("stopped")
    lab.finish(and_wait_for_summaries=False)
    assert lab.states() == {"in_doubt": 1, "submitted": CALLS - 1}
    frozen.signal(Signals.SIGCONT)
    assert frozen.end(Signals.SIGTERM) == 0, frozen.log
    assert lab.states() == {"submitted": CALLS}, "an answer is evidence, and evidence is never dropped"
    assert [row["rang"] for row in lab.ledger()] == [True] * CALLS


@slow
@pytest.mark.parametrize("point", [Point.AFTER_JOURNAL, Point.BEFORE_FIRST_BYTE])
def test_frozen_until_a_person_had_the_call_made_anew_the_first_post_dies_at_8x8(lab: Laboratory, point: Point) -> None:
    lab.policy = CallPolicy(submit_window=timedelta(seconds=2), clock_skew=timedelta(milliseconds=200))
    lab.enqueue(1)
    frozen = lab.worker(Trigger(point=point, act=Act.STOP), policy=lab.policy)
    frozen.wait_for("stopped")
    assert lab.finish(policy=lab.policy)["in_doubt"] == 1
    anyio.run(_say_not_placed, lab)
    lab.finish(policy=lab.policy)
    assert [row["rang"] for row in lab.ledger()] == [True]
    frozen.signal(Signals.SIGCONT)
    assert frozen.end(Signals.SIGTERM) == 0, frozen.log
    judgement = lab.accept()
    assert judgement.states == {lab.jobs()[0].state.value: 1}
    late = [row for row in lab.ledger() if not row["rang"]]
    assert all(row["code"] == -1015 for row in late), "if it left at all, it was too late for 8x8"


async def _say_not_placed(lab: Laboratory) -> None:
    async with open_store(lab.store) as store:
        queue = CallQueue(store, policy=lab.policy)
        [doubt] = await queue.find(states={JobState.IN_DOUBT})
        post = doubt.open_post
        assert post is not None
        left = post.valid_until + lab.policy.clock_skew - store.clock.now()
        await anyio.sleep(max(left.total_seconds(), 0) + 0.1)  # until the POST is too late for 8x8
        await queue.resolve(doubt.id, placed=False, note="not in the ledger")


@slow
def test_asked_to_stop_with_calls_in_flight_it_finishes_them_and_exits_0(lab: Laboratory) -> None:
    lab.enqueue(20)
    lab.faults({"fault": "delay", "seconds": 0.5, "place": "after", "times": None})
    worker = lab.worker(concurrency=5, lease=timedelta(seconds=30))
    lab.wait_for_posts(5)
    assert worker.end(Signals.SIGTERM) == 0, worker.log
    states = lab.states()
    assert not {"leased", "sending", "in_doubt"} & states.keys()
    assert states["queued"] == 15, "nothing new was begun"
    lab.finish()
    assert lab.accept().rang == 20


@slow
def test_asked_to_stop_it_gives_up_what_outlasts_its_grace_and_summaries_settle_that(lab: Laboratory) -> None:
    lab.enqueue(8)
    lab.faults({"next": 4, "fault": "delay", "seconds": 30, "place": "after"})
    worker = lab.worker(concurrency=4, lease=timedelta(seconds=60), grace=timedelta(seconds=0.5))
    lab.wait_for_posts(4)
    assert worker.end(Signals.SIGTERM) == 0, worker.log
    lab.finish()
    judgement = lab.accept()
    assert judgement.rang == 8
    assert not judgement.open_doubts


@slow
def test_told_twice_to_stop_it_ends_at_once_and_loses_nothing(lab: Laboratory) -> None:
    lab.enqueue(8)
    lab.faults({"next": 4, "fault": "stall", "place": "before"})
    worker = lab.worker(concurrency=4, lease=timedelta(seconds=60), grace=timedelta(seconds=60))
    lab.wait_for_posts(4)
    worker.signal(Signals.SIGTERM)
    worker.wait_for("stopping")
    assert worker.end(Signals.SIGTERM, seconds=8) == 0, worker.log
    assert lab.states() == {"in_doubt": 4, "queued": 4}
    lab.finish()
    judgement = lab.accept()
    assert judgement.rang == 4
    assert len(judgement.open_doubts) == 4
