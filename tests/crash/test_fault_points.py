"""A worker, or the receiver, is killed with SIGKILL at each boundary of a call's way, and others take over."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.crash.fault_injection import FaultInjection
from tests.crash.points import Point, Trigger
from tests.crash.tap import Rest, Tap
from tests.support.stores import DURABLE

pytestmark = pytest.mark.crash
slow = pytest.mark.slow
"""Left to `./dev test --all`: another place on a stretch of the way whose ends CI strikes."""

CALLS = 8
AFTER_THE_SWEEP = 1.2
"""Seconds to a summary: the lease of the dead is over by then, and another worker has doubted what they left."""
IN_THE_WEBHOOK = (pytest.param(Point.BEFORE_SUMMARY, marks=slow), Point.AFTER_SUMMARY)


class Row(NamedTuple):
    """Where workers are killed, one after the other, and what is true then, and at the end.

    `doubts` is how many calls may stay in doubt, `settled` how many were in doubt for a time, at least and at most.
    """

    points: tuple[Point, ...]
    nth: int = 1
    is_daily: bool = True
    options: dict[str, Any] = {"concurrency": 4}  # noqa: RUF012 - nobody changes it
    summaries: bool = False
    left: str = "sending"
    has_rung: bool = True
    doubts: int = CALLS
    settled: tuple[int, int] = (0, CALLS)
    stores: tuple[str, ...] = DURABLE


ROWS = (
    # Before the journal entry: every call is made once by another worker, and only what was on its way is a doubt.
    Row((Point.AFTER_LEASE,), is_daily=False, left="leased", has_rung=False),
    Row((Point.AFTER_LEASE,), 2, is_daily=False, left="leased"),
    Row((Point.BEFORE_JOURNAL,), left="leased", has_rung=False),
    Row((Point.BEFORE_JOURNAL,), 2, is_daily=False, left="leased"),
    # Between the journal entry and the first byte: the call is in doubt, and never made again.
    Row((Point.AFTER_JOURNAL,), has_rung=False),
    # A worker that was killed after it wrote its own file is no store that was rolled back: nothing is held.
    Row((Point.AFTER_FILE,), has_rung=False, stores=("redis",)),
    Row((Point.BEFORE_FIRST_BYTE,), is_daily=False, has_rung=False),
    # After the answer: summaries settle the doubts, but for the other call in flight. They may be two while a verdict
    # is stored, which does not count for `concurrency`.
    *(
        Row((point,), nth, is_daily and nth == 1, {"concurrency": 2}, summaries=True, left=left, doubts=doubts)
        for point, is_daily, left, doubts in (
            (Point.AFTER_ANSWER, True, "sending", 1),
            (Point.BEFORE_SWAP, False, "sending", 2),
            (Point.AFTER_SWAP, True, "", 2),
        )
        for nth in (1, 3)
    ),
    # Under a rate, at most three calls have their journal entries, and wait for their slots.
    Row((Point.AFTER_JOURNAL,), options={"rate": 10}, has_rung=False, doubts=3),
    Row((Point.BEFORE_FIRST_BYTE,), 3, options={"rate": 10}, doubts=3),
    # While a verdict is stored, with the others whose POSTs are on their way.
    Row((Point.BEFORE_SWAP,), 2, options={"rate": 20}, summaries=True, settled=(0, 5)),
    Row((Point.AFTER_ANSWER,), 2, is_daily=False, options={"rate": 20}, summaries=True, settled=(1, 5)),
    # While it sweeps up after another: the next one does it.
    *(
        Row((first, second), is_daily=(first, second) == (Point.AFTER_JOURNAL, Point.BEFORE_SWEEP), left="")
        for first in (Point.AFTER_LEASE, Point.AFTER_JOURNAL)
        for second in (Point.BEFORE_SWEEP, Point.AFTER_SWEEP)
    ),
)


def rows() -> Iterator[Any]:
    for row in ROWS:
        for store in row.stores:
            name = f"{store}-{'-'.join(row.points)}-{row.nth}-{'-'.join(row.options)}"
            yield pytest.param(store, row, id=name, marks=() if row.is_daily else slow)


@pytest.mark.parametrize(("store_url", "row"), [*rows()], indirect=["store_url"])
def test_killed_at_a_point_no_call_is_made_twice_and_each_rings_or_is_a_doubt(lab: FaultInjection, row: Row) -> None:
    lab.enqueue(CALLS)
    if row.summaries:
        lab.summaries(after=AFTER_THE_SWEEP)
    for place, point in enumerate(row.points):
        lab.killed(Trigger(point=point, nth=row.nth), **(row.options if place == 0 else {"concurrency": 1}))
    left = lab.states()
    assert not row.left or left[row.left]
    assert row.has_rung or not lab.ledger()
    lab.finish()
    assert not lab.holds()
    judgement = lab.accept()
    doubts = len(judgement.open_doubts)
    assert judgement.rang == CALLS - doubts
    assert doubts <= row.doubts
    if len(row.points) == 1:
        least, most = row.settled
        # A summary may have come before the verdict of its POST was stored.
        posted = sum(left.get(state, 0) for state in ("sending", "completed", "unreached"))
        assert least <= judgement.unanswered + doubts <= min(posted, most)


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
