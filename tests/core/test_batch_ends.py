"""The end of a batch: noticed once for all its calls, numbered, told at least once, and again after a reopening."""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest

from tests.contract.samples import ManualClock
from tests.core.test_hooks import GRACE, running
from tests.support.calls import Calls
from tests.support.manual_time import time_passing
from tests.support.waiting import until
from voiceflow_worker import SessionStatus
from voiceflow_worker.core.outcomes.batch_ends import BatchOutcome
from voiceflow_worker.core.outcomes.hooks import OutcomeHooks
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import BatchTimeoutError, InvalidInputError

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)
DONE, BUSY = SessionStatus.COMPLETED, SessionStatus.BUSY


class Ends:
    """A handler that keeps the ends of batches, and fails as often as it is told to."""

    def __init__(self, fails: int = 0) -> None:
        self.told: list[BatchOutcome] = []
        self.fails = fails

    async def __call__(self, outcome: BatchOutcome) -> None:
        await anyio.lowlevel.checkpoint()
        if self.fails:
            self.fails -= 1
            raise RuntimeError("the board is away")
        self.told.append(outcome)

    @property
    def numbers(self) -> list[int]:
        return [each.number for each in self.told]


def hooks_for(store: Store, **ends: Ends) -> OutcomeHooks:
    hooks = OutcomeHooks(store, grace=GRACE)
    for name, each in ends.items():
        hooks.on_batch_end(name=name)(each)
    return hooks


async def ended(calls: Calls, count: int, *, batch: str = "march", status: SessionStatus = DONE) -> None:
    """Calls of a batch are placed, and then end one after the other."""
    engine, first = calls.engine, len(await calls.queue.find(limit=None))
    jobs = [await engine.enqueue(f"+65{81000000 + first + place}", batch_id=batch) for place in range(count)]
    await engine.send(limit=count)
    for job in jobs:
        await calls.end(await calls.queue.get(job.id), status)


async def test_the_end_is_told_once_with_its_totals_and_again_after_a_reopening(
    any_store: Store, clock: ManualClock
) -> None:
    calls, ends, late = Calls(any_store), Ends(fails=2), Ends()
    async with running(hooks_for(any_store, board=ends, late=late), clock):
        await ended(calls, 3)
        await until(lambda: ends.numbers == [1] and late.numbers == [1])
        (told,) = ends.told
        assert (told.type, told.batch_id, told.totals.answered) == ("batch.ended", "march", 3)
        assert told.as_json()["data"]["total"] == 3  # type: ignore[index]
        await calls.engine.enqueue("+6587654321", batch_id="march")
        await calls.engine.enqueue("+6587654322", batch_id="april")
        sent = await calls.engine.send()
        for job in sent:
            await calls.end(job, BUSY)
        await until(lambda: len(ends.told) == 3)
    assert sorted((each.batch_id, each.number) for each in ends.told) == [("april", 1), ("march", 1), ("march", 2)]
    assert len({each.id for each in ends.told}) == 3
    async with running(hooks_for(any_store, board=ends), clock):
        await ended(calls, 1, batch="may")
        await until(lambda: len(ends.told) == 4)
    assert ends.told[-1].batch_id == "may", "what was told before is not told again"


async def test_a_batch_in_doubt_has_not_ended(store: Store, clock: ManualClock) -> None:
    calls, ends = Calls(store), Ends()
    async with running(hooks_for(store, board=ends), clock):
        open_call = await calls.engine.enqueue("+6587654321", batch_id="march")
        (sent,) = await calls.engine.send()
        await ended(calls, 2)
        assert sent.id == open_call.id
        with pytest.raises(BatchTimeoutError, match="march has not ended after 60 s"):
            await calls.queue.wait_for_batch("march", timeout=MINUTE)
        assert ends.told == []
        async with anyio.create_task_group() as group:
            group.start_soon(calls.end, sent)
            await calls.queue.wait_for_batch("march")
        report = await calls.queue.wait_for_batch("march")
        assert (report.total, report.answered) == (3, 3)
        await until(lambda: ends.numbers == [1])


async def test_a_wait_for_a_batch_that_nobody_knows_is_refused(store: Store, clock: ManualClock) -> None:
    async with time_passing(clock):
        with pytest.raises(InvalidInputError, match="batch march has no calls"):
            await Calls(store).queue.wait_for_batch("march")
