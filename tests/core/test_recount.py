"""A recount beside a worker: calls that move while they are counted do not make the counters look wrong."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import Job, JobState
from voiceflow_worker.backends.contract.clock import ManualClock
from voiceflow_worker.core.overview.recount import TURN, Recount, recount
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.moves import move
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.totals import PLACED

pytestmark = pytest.mark.anyio

QUEUED = "state:queued"


class Busy:
    """A store in which calls are leased before each page of jobs is read, and are queued again after it.

    So it is with calls that wait for a busy number. `times` is how many of the next pages have such calls.
    """

    def __init__(self, store: Store, *, times: int) -> None:
        self.engine = Engine(store, ScriptedVoice())
        self.store = FaultyStore(store, before=self._before, after=self._after)
        self._times = times
        self._leased: Sequence[Job] = ()

    async def _before(self, call: StoreCall) -> None:
        if call.name == "jobs.find" and self._times:
            self._times -= 1
            self._leased = await self.engine.lease(1)

    async def _after(self, call: StoreCall) -> None:
        if call.name == "jobs.find":
            now = self.store.clock.now()
            back = [move(job, lifecycle.release(job, due_at=now), at=now) for job in self._leased]
            self._leased = ()
            await self.engine.store.jobs.commit(back)


async def queued(store: Store, *, batch_id: str | None = None) -> int:
    """How many calls the counters say are queued."""
    return (await store.jobs.count("default", batch_id=batch_id))[JobState.QUEUED]


async def test_calls_that_are_leased_and_put_back_while_they_are_counted_make_no_counter_wrong(
    any_store: Store,
) -> None:
    busy = Busy(any_store, times=100)
    for place in range(3):
        await busy.engine.enqueue(number(place), batch_id="people")
    found = await recount(busy.store, "default", mend=True)
    assert not found.wrong
    assert found.moving == {None, "people"}
    assert not found.mended
    assert (await queued(any_store), await queued(any_store, batch_id="people")) == (3, 3)


async def test_counters_are_proven_once_the_calls_have_come_to_rest(any_store: Store) -> None:
    busy = Busy(any_store, times=1)
    for place in range(3):
        await busy.engine.enqueue(number(place), batch_id="people")
    found = await recount(busy.store, "default", mend=True)
    assert (dict(found.wrong), found.moving, await queued(any_store)) == ({}, frozenset(), 3)


async def test_wrong_counters_of_a_batch_are_left_alone_while_calls_of_another_move(store: Store) -> None:
    busy = Busy(store, times=100)
    await busy.engine.enqueue(number(1), batch_id="people")
    later = store.clock.now() + timedelta(days=1)
    await busy.engine.queue.hold(batch_id="others", until=later)
    await busy.engine.enqueue(number(2), batch_id="others")
    await store.jobs.adjust("default", {None: {QUEUED: 2}, "others": {QUEUED: 2}})
    found = await recount(busy.store, "default", mend=True)
    assert found.wrong == {"others": {QUEUED: -2}}
    assert found.moving == {None, "people"}
    assert not found.mended
    assert (await queued(store), await queued(store, batch_id="others")) == (4, 3)
    at_rest = await recount(store, "default", mend=True)
    assert (at_rest.moving, at_rest.mended) == (frozenset(), True)
    assert [await queued(store, batch_id=each) for each in (None, "people", "others")] == [2, 1, 1]


class Beside:
    """A store on which a second recount runs, from start to end, just before the first one corrects the counters."""

    def __init__(self, store: Store, *, at: str, pause: timedelta = timedelta()) -> None:
        self._inner = store
        self._at = at
        self._pause = pause
        self.second: Recount | None = None
        self.store = FaultyStore(store, before=self._before)

    async def _before(self, call: StoreCall) -> None:
        if call.name == self._at and self.second is None:
            if isinstance(self._inner.clock, ManualClock):
                self._inner.clock.advance(self._pause)
            self.second = await recount(self._inner, "default", mend=True)


async def wrong_by_two(store: Store) -> None:
    """A call whose counters say that three calls were placed."""
    engine = Engine(store, ScriptedVoice())
    await engine.enqueue(number(1), batch_id="people")
    await engine.send()
    await store.jobs.adjust("default", {None: {PLACED: 2}, "people": {PLACED: 2}})


async def placed(store: Store) -> list[int]:
    """How many calls the counters say were placed: of the queue, and of the batch."""
    return [(await store.jobs.totals("default", batch_id=each)).live[PLACED] for each in (None, "people")]


async def test_of_two_recounts_at_once_one_corrects_the_counters_and_the_other_says_so(any_store: Store) -> None:
    await wrong_by_two(any_store)
    beside = Beside(any_store, at="jobs.adjust")
    first = await recount(beside.store, "default", mend=True)
    assert beside.second is not None
    assert (beside.second.mended, beside.second.is_elsewhere) == (False, True)
    assert (first.mended, first.is_elsewhere) == (True, False)
    assert await placed(any_store) == [1, 1]
    again = await recount(any_store, "default", mend=True)
    assert (dict(again.wrong), again.is_elsewhere) == ({}, False)


async def test_a_recount_that_stood_still_past_its_turn_corrects_nothing(any_store: Store) -> None:
    await wrong_by_two(any_store)
    beside = Beside(any_store, at="jobs.recount", pause=TURN)
    first = await recount(beside.store, "default", mend=True)
    assert beside.second is not None
    assert beside.second.mended
    assert (first.mended, first.is_elsewhere) == (False, True)
    assert await placed(any_store) == [1, 1]
