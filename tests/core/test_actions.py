"""What people order is kept, carried out whole or not at all, and redials nobody twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, cast

import anyio
import pytest

from tests.contract.breaking import newer
from tests.contract.samples import ManualClock
from tests.contract.writing import DONE, next_of, results_of, to
from tests.support.engine import Engine, ScriptedEngine
from tests.support.faulty_store import FaultyStore, Loss, StoreCall, nothing
from tests.support.flows import flow, number
from tests.support.manual_time import time_passing
from tests.support.voices import ScriptedVoice, unknown
from voiceflow_worker import CallPolicy, CallQueue, CallRequest, Job, JobState, Store, SuppressionList
from voiceflow_worker.actions import Operator
from voiceflow_worker.actions.queues import Hold
from voiceflow_worker.actions.suppression import Unsuppress
from voiceflow_worker.core.audit import (
    KEPT,
    Actor,
    AuditEntry,
    audited,
    entries_on,
    read_log,
    read_page,
)  # fmt: skip
from voiceflow_worker.core.base.identity import QueueNames
from voiceflow_worker.core.base.reading import count_states, find_jobs
from voiceflow_worker.core.ports.reads import ById, Due
from voiceflow_worker.core.ports.store import BulkWrite, Put, Result, Same, Write, WriteResult
from voiceflow_worker.core.retention import Retention
from voiceflow_worker.core.settling import changes
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.errors import (
    IllegalMoveError,
    InvalidInputError,
    KeyConflictError,
    StoreUnavailableError,
)
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.reports.status import SessionStatus

pytestmark = pytest.mark.anyio

S = SessionStatus
SECOND = timedelta(seconds=1)
LI = Actor(on="command", login="lwei", name="Li")


async def actions(store: Store, **which: Any) -> list[str]:
    return [entry.action async for page in read_log(store, **which) for entry in page]


async def test_what_changes_nothing_or_fails_has_no_entry(store: Store) -> None:
    who = Operator(store, CallPolicy())
    assert (await Unsuppress(operator=who, numbers=["+6587654321"]).do()).not_done
    broken = FaultyStore(store)
    broken.lose(Loss.BEFORE, "write")
    with pytest.raises(StoreUnavailableError):
        await Hold(operator=Operator(broken, CallPolicy()), queue="default").do()
    assert await entries_on(store) == []


async def test_the_log_is_read_in_pages_newest_first_and_ends(any_store: Store, clock: ManualClock) -> None:
    for place in range(7):
        clock.advance(SECOND)
        actor = LI if place % 2 else Actor(on="api", login="crm")
        entry = AuditEntry.of(actor, f"action {place}", at=clock.now(), queue="default")
        async with audited(any_store, entry) as store:
            await store.write(BulkWrite(writes=(Write(puts=(Put("space", f"{place}", "", None),)),)), now=clock.now())
            store.result = "done"
    first = await read_page(any_store, limit=3)
    second = await read_page(any_store, after=first[-1].id, limit=3)
    third = await read_page(any_store, after=second[-1].id, limit=3)
    names = [[entry.action for entry in page] for page in (first, second, third)]
    assert names == [["action 6", "action 5", "action 4"], ["action 3", "action 2", "action 1"], ["action 0"]]
    for by in ("li", "LWEI"):
        assert await actions(any_store, by=by) == ["action 5", "action 3", "action 1"]
    since = clock.now() - 1.5 * SECOND
    assert await actions(any_store, since=since) == ["action 6", "action 5"]
    clock.jump(KEPT)
    await CallQueue(any_store).enqueue(flow())
    await Retention(any_store, CallPolicy()).run()
    assert await actions(any_store) == []


@pytest.mark.parametrize("refused", [(0,), (0, 1), (1,), ()])
async def test_the_entry_goes_with_the_first_part_that_is_stored(any_store: Store, refused: tuple[int, ...]) -> None:
    """The parts of a bulk write are refused each by itself."""
    at = any_store.clock.now()
    parts = [
        Write(
            conditions=(Same("other", f"{place}", "no" if place in refused else None),),
            puts=(Put("other", f"{place}", "done", None),),
        )
        for place in range(3)
    ]
    async with audited(any_store, AuditEntry.of(LI, "cancel", at=at, queue="default")) as store:
        answers = await store.write(BulkWrite(writes=tuple(parts)), now=at)
    assert [answer.result is Result.DONE for answer in answers] == [place not in refused for place in range(3)]
    assert len(await entries_on(any_store)) == 1


async def test_an_enqueue_meets_the_call_of_a_newer_version_and_enqueues_all_or_none(here: ScriptedEngine) -> None:
    job = await here.enqueue(number(1), unique_key="k")
    assert await results_of(here.store, to(job, next_of(newer(job)))) == [DONE]
    requests = [
        CallRequest(flow=flow(number(2))),
        CallRequest(flow=flow(number(1)), unique_key="k"),
        CallRequest(flow=flow(number(3))),
    ]
    other = CallRequest(flow=flow(number(4)), unique_key="k")
    with pytest.raises(KeyConflictError, match=job.id):
        await here.queue.enqueue_many([requests[0], other, requests[2]])
    assert (await count_states(here.store, "default"))[JobState.QUEUED] == 0
    made = await here.queue.enqueue_many(requests)
    assert [each.created for each in made] == [True, False, True]
    assert made[1].job.id == job.id
    assert made[1].job.state in {JobState.IN_DOUBT, newer(job).state}, "memory gives the call itself"
    assert (await count_states(here.store, "default"))[JobState.QUEUED] == 2


@pytest.mark.parametrize("order", ["hold", "cancel_batch", "opt_out"])
async def test_an_order_is_carried_out_while_a_newer_version_settles_a_call_that_was_sending(
    any_store: Store, clock: ManualClock, order: str
) -> None:
    store = FaultyStore(any_store)
    engine = Engine(store, ScriptedVoice())
    await QueueNames(store).remember("default")
    await engine.enqueue(number(1), batch="march")
    await engine.journal()
    waiting = await engine.enqueue(number(2), batch="march")

    async def settles(call: StoreCall) -> None:
        if call.name != "jobs" or not isinstance(call.arguments[0], ById):
            return
        store.before = nothing
        (sending,) = await find_jobs(any_store, Due(queue="default", state=JobState.SENDING))
        assert await results_of(any_store, to(sending, next_of(newer(sending)))) == [DONE]

    store.before = settles
    async with time_passing(clock):
        if order == "hold":
            await engine.queue.hold(batch_id="march", reason="lunch")
        elif order == "cancel_batch":
            assert await engine.queue.cancel_batch("march") == 1
        else:
            await SuppressionList(store).add(number(1), number(2))
    assert store.before is nothing, "a newer version settled the call"
    assert await engine.send() == []
    assert await engine.state(waiting) == ("queued" if order == "hold" else "cancelled")


@pytest.mark.parametrize("when", ["before it is read", "while it is written"])
async def test_a_call_of_a_cancelled_batch_is_not_redialled(any_store: Store, clock: ManualClock, when: str) -> None:
    store = FaultyStore(any_store)
    engine = Engine(store, ScriptedVoice())
    await engine.enqueue(number(1), batch="march")
    (job,) = await engine.send()
    await engine.summarise(job, SessionStatus.BUSY)

    async def cancel() -> None:
        async with time_passing(clock):
            await Engine(any_store, ScriptedVoice()).queue.cancel_batch("march")

    async def cancels(call: StoreCall) -> None:
        if call.name == "write":
            store.before = nothing
            await cancel()

    if when == "while it is written":
        store.before = cancels
    else:
        await cancel()
    with pytest.raises(IllegalMoveError, match="its batch march was cancelled, and its calls are never sent"):
        await engine.queue.redial(job.id)
    assert store.before is nothing
    assert await engine.state(job) == "unreached"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_order_that_its_caller_gave_up_is_not_carried_out_later(
    here: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [await here.enqueue(number(place)) for place in range(3)]
    changing, going, asked = Changes(here.store, CallPolicy()), anyio.Event(), anyio.Event()
    store_write = here.store.write

    async def slow(bulk: BulkWrite, **rest: Any) -> list[WriteResult]:
        asked.set()
        await going.wait()
        return list(await store_write(bulk, **rest))

    monkeypatch.setattr(here.store, "write", slow)
    cancelled: Callable[[Job], Job] = lambda job: lifecycle.cancel(  # noqa: E731
        job, at=here.store.clock.now(), reason="by a person", policy=CallPolicy()
    )
    first = asyncio.ensure_future(changing.change(jobs[0].id, cancelled))
    await asked.wait()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(changing.change(jobs[1].id, cancelled), 0.01)
    last = asyncio.ensure_future(changing.change(jobs[2].id, cancelled))
    await asyncio.sleep(0)
    going.set()
    await first
    await last
    assert [await here.state(job) for job in jobs] == ["cancelled", "queued", "cancelled"]


async def ended(engine: Engine, *ends: S, first: int = 0, valid_for: timedelta | None = None) -> list[Job]:
    """Calls of the batch `march`, one to each number from the `first` on, that ended so."""
    jobs = [
        await engine.enqueue(number(first + place), batch="march", valid_for=valid_for) for place in range(len(ends))
    ]
    await engine.send()
    for job, status in zip(jobs, ends, strict=True):
        await engine.summarise(job, status)
    return jobs


async def waiting(engine: Engine) -> list[str]:
    return [job.id for job in await engine.queue.find(states=[JobState.QUEUED])]


async def test_only_calls_of_the_batch_with_the_outcome_are_redialled(engine: ScriptedEngine) -> None:
    other = await engine.enqueue(number(9), batch="april")
    jobs = await ended(engine, S.NO_ANSWER, S.BUSY, S.COMPLETED, S.NO_ANSWER)
    await engine.summarise(other, S.NO_ANSWER)
    counted = await engine.queue.redial_batch("march", on="no_answer", dry_run=True)
    assert (counted.redialled, await waiting(engine)) == (2, [])
    done = await engine.queue.redial_batch("march", on="no_answer")
    assert done.as_json() == {"batch_id": "march", "redialled": 2, "left_out": {}}
    assert set(await waiting(engine)) == {jobs[0].id, jobs[3].id}
    await engine.send()
    assert set(engine.voice.client_request_ids[5:]) == {f"{jobs[0].id}.2", f"{jobs[3].id}.2"}


async def test_the_same_order_twice_redials_nobody_twice(engine: ScriptedEngine) -> None:
    """Also if the phones have rung in vain between the two."""
    jobs = await ended(engine, S.NO_ANSWER, S.NO_ANSWER)
    await engine.queue.redial_batch("march", on="no_answer")
    assert (await engine.queue.redial_batch("march", on="no_answer")).redialled == 0
    await engine.send()
    for job in jobs:
        await engine.summarise(job, S.NO_ANSWER)
    again = await engine.queue.redial_batch("march", on="no_answer")
    assert (again.redialled, again.left_out, len(engine.voice.placed)) == (0, {changes.BEFORE: 2}, 4)
    engine.clock.advance(timedelta(minutes=1))
    assert (await engine.queue.redial_batch("march", on="no_answer", times=2)).redialled == 2


Ordered = Callable[[Store], Awaitable[object]]


async def cut_short(engine: ScriptedEngine, order: Ordered, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """An order to redial five calls dies behind its first page, of two, whose phones have rung in vain since."""
    monkeypatch.setattr(changes, "PAGE", 2)
    steps = 0

    async def dies(call: StoreCall) -> None:
        nonlocal steps
        steps += bool(call.stores)
        if steps > 2:  # of its first page, the first call is stored alone, with the entry
            raise StoreUnavailableError("killed")

    with pytest.raises(StoreUnavailableError):
        await order(cast("Store", FaultyStore(engine.store, before=dies)))
    begun = await engine.queue.find(states=[JobState.QUEUED])
    assert len(begun) == 2
    engine.clock.advance(timedelta(minutes=1))
    await engine.send()
    for job in begun:
        await engine.summarise(job, S.NO_ANSWER)
    return list(begun)


async def test_an_interrupted_order_is_finished_by_the_next_one(
    engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def order(store: Store) -> Awaitable[Any]:
        return Engine(store, engine.voice).queue.redial_batch("march", on="no_answer")

    jobs = await ended(engine, *[S.NO_ANSWER] * 5)
    await cut_short(engine, order, monkeypatch)
    assert (await order(engine.store)).redialled == 3
    await engine.send()
    assert sorted(engine.voice.client_request_ids) == sorted(f"{job.id}.{post}" for job in jobs for post in (1, 2))


async def test_a_call_that_was_redialled_and_rang_while_the_order_was_stored_is_not_redialled_by_it(
    engine: ScriptedEngine,
) -> None:
    (job,) = await ended(engine, S.NO_ANSWER)

    async def rings_again(call: StoreCall) -> None:
        if call.stores:
            watched.before = nothing
            await engine.queue.redial(job.id)
            await engine.send()
            await engine.summarise(job, S.NO_ANSWER)

    watched = FaultyStore(engine.store, before=rings_again)
    assert (await Engine(watched, engine.voice).queue.redial_batch("march", on="no_answer")).redialled == 0
    assert (await waiting(engine), len(engine.voice.placed)) == ([], 2)


async def test_people_who_must_not_be_called_are_left_out(engine: ScriptedEngine) -> None:
    """Those of a call whose validity has ended, of the suppression list, whom a person cancelled, or in doubt."""
    await ended(engine, S.NO_ANSWER, S.NO_ANSWER, S.NO_ANSWER, valid_for=timedelta(minutes=1))
    _, cancelled, doubted, _ = await ended(engine, *[S.NO_ANSWER] * 4, first=3)
    await SuppressionList(engine.store).add(number(3))
    engine.clock.advance(timedelta(minutes=1))
    for job in (doubted, cancelled):
        await engine.queue.redial(job.id)
        if job is doubted:
            engine.voice.answers = [unknown()]
            await engine.send()
    await engine.queue.cancel(cancelled.id)
    assert [await engine.state(job) for job in (cancelled, doubted)] == ["unreached", "in_doubt"]
    done = await engine.queue.redial_batch("march", on="no_answer", times=5)
    assert done.redialled == 1
    assert done.left_out == {changes.TOO_LATE: 3, changes.SUPPRESSED: 1, changes.CANCELLED: 1}
    assert await engine.state(doubted) == "in_doubt"


async def test_outcomes_that_nobody_is_called_again_for_and_a_cancelled_batch_are_refused(engine: Engine) -> None:
    await ended(engine, S.NO_ANSWER)
    for status in (S.COMPLETED, S.UNSUBSCRIBED_CONTACT):
        with pytest.raises(InvalidInputError):
            await engine.queue.redial_batch("march", on=status.value)
    await engine.queue.cancel_batch("march")
    with pytest.raises(InvalidInputError, match="batch march was cancelled"):
        await engine.queue.redial_batch("march", on="no_answer")
    assert await waiting(engine) == []
