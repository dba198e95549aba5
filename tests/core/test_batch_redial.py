"""A batch is redialled by its outcomes: nobody twice, nobody who must not be called, also after an interruption."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.contract.samples import ManualClock
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall, nothing
from tests.support.flows import number
from tests.support.voices import ScriptedVoice, created, unknown
from voiceflow_worker import Job, JobState
from voiceflow_worker.core.ports import Placement
from voiceflow_worker.core.settling import changes as batch_redial
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import InvalidInputError, StoreUnavailableError
from voiceflow_worker.model.reports.status import SessionStatus

pytestmark = pytest.mark.anyio

S = SessionStatus
MINUTE = timedelta(minutes=1)


async def ended(engine: Engine, *statuses: SessionStatus, valid_for: timedelta | None = None) -> list[Job]:
    """Calls of the batch `march`, one to each number, that ended so."""
    jobs = [
        await engine.enqueue(number(place), batch_id="march", valid_for=valid_for) for place, _ in enumerate(statuses)
    ]
    await engine.send()
    for job, status in zip(jobs, statuses, strict=True):
        await engine.summarise(job, status)
    return jobs


async def waiting(engine: Engine) -> list[str]:
    return [job.id for job in await engine.queue.find(states=[JobState.QUEUED])]


async def test_only_calls_of_the_batch_with_the_outcome_are_redialled(engine: Engine, voice: ScriptedVoice) -> None:
    other = await engine.enqueue(number(9), batch_id="april")
    jobs = await ended(engine, S.NO_ANSWER, S.BUSY, S.COMPLETED, S.NO_ANSWER)
    await engine.summarise(other, S.NO_ANSWER)
    counted = await engine.queue.redial_batch("march", on="no_answer", dry_run=True)
    assert (counted.redialled, await waiting(engine)) == (2, [])
    done = await engine.queue.redial_batch("march", on="no_answer")
    assert done.as_json() == {"batch_id": "march", "redialled": 2, "left_out": {}}
    assert set(await waiting(engine)) == {jobs[0].id, jobs[3].id}
    await engine.send()
    assert set(voice.client_request_ids[5:]) == {f"{jobs[0].id}.2", f"{jobs[3].id}.2"}


async def test_the_same_order_twice_redials_nobody_twice(
    engine: Engine, voice: ScriptedVoice, clock: ManualClock
) -> None:
    """Also if the phones have rung in vain between the two."""
    jobs = await ended(engine, S.NO_ANSWER, S.NO_ANSWER)
    await engine.queue.redial_batch("march", on="no_answer")
    assert (await engine.queue.redial_batch("march", on="no_answer")).redialled == 0
    await engine.send()
    for job in jobs:
        await engine.summarise(job, S.NO_ANSWER)
    again = await engine.queue.redial_batch("march", on="no_answer")
    assert (again.redialled, again.left_out) == (0, {batch_redial.BEFORE: 2})
    assert len(voice.placed) == 4
    clock.advance(MINUTE)
    assert (await engine.queue.redial_batch("march", on="no_answer", times=2)).redialled == 2


async def test_an_interrupted_order_is_finished_by_the_next_one(
    engine: Engine, voice: ScriptedVoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The calls of its first pages have rung again, in vain, before it is given again."""
    monkeypatch.setattr(batch_redial, "PAGE", 2)
    jobs = await ended(engine, *[S.NO_ANSWER] * 5)
    steps = 0

    async def dies(call: StoreCall) -> None:
        nonlocal steps
        steps += bool(call.stores)
        if steps > 1:
            raise StoreUnavailableError("killed")

    with pytest.raises(StoreUnavailableError):
        await Engine(FaultyStore(engine.store, before=dies), voice).queue.redial_batch("march", on="no_answer")
    begun = await engine.queue.find(states=[JobState.QUEUED])
    assert len(begun) == 2
    await engine.send()
    for job in begun:
        await engine.summarise(job, S.NO_ANSWER)
    assert (await engine.queue.redial_batch("march", on="no_answer")).redialled == 3
    await engine.send()
    assert sorted(voice.client_request_ids) == sorted(f"{job.id}.{post}" for job in jobs for post in (1, 2))


async def test_a_call_that_was_redialled_and_rang_while_the_order_was_stored_is_not_redialled_by_it(
    engine: Engine, voice: ScriptedVoice
) -> None:
    (job,) = await ended(engine, S.NO_ANSWER)

    async def rings_again(call: StoreCall) -> None:
        if call.stores:
            watched.before = nothing
            await engine.queue.redial(job.id)
            await engine.send()
            await engine.summarise(job, S.NO_ANSWER)

    watched = FaultyStore(engine.store, before=rings_again)
    assert (await Engine(watched, voice).queue.redial_batch("march", on="no_answer")).redialled == 0
    assert (await waiting(engine), len(voice.placed)) == ([], 2)


async def test_people_who_must_not_be_called_are_left_out(engine: Engine, clock: ManualClock) -> None:
    jobs = await ended(engine, S.NO_ANSWER, S.NO_ANSWER, S.NO_ANSWER, valid_for=MINUTE)
    await ended(engine, S.NO_ANSWER, S.NO_ANSWER)
    await SuppressionList(engine.store).add(number(0))
    clock.advance(MINUTE)
    done = await engine.queue.redial_batch("march", on="no_answer")
    assert done.redialled == 1
    assert done.left_out == {batch_redial.TOO_LATE: 3, batch_redial.SUPPRESSED: 1}
    assert (await waiting(engine)).count(jobs[0].id) == 0


async def test_a_call_that_a_person_cancelled_is_left_out(engine: Engine) -> None:
    (job,) = await ended(engine, S.NO_ANSWER)
    await engine.queue.redial(job.id)
    await engine.queue.cancel(job.id)
    assert (await engine.queue.get(job.id)).state is JobState.UNREACHED
    done = await engine.queue.redial_batch("march", on="no_answer", times=5)
    assert (done.redialled, done.left_out) == (0, {batch_redial.CANCELLED: 1})


async def test_a_doubt_is_never_redialled(engine: Engine, voice: ScriptedVoice) -> None:
    (job,) = await ended(engine, S.NO_ANSWER)

    def doubtful(placement: Placement) -> object:
        return unknown() if placement.client_request_id.endswith(".2") else created()

    voice.answer = doubtful  # type: ignore[assignment]
    await engine.queue.redial_batch("march", on="no_answer")
    await engine.send()
    assert (await engine.queue.get(job.id)).state is JobState.IN_DOUBT
    assert (await engine.queue.redial_batch("march", on="no_answer", times=5)).redialled == 0
    assert (await engine.queue.get(job.id)).state is JobState.IN_DOUBT


async def test_outcomes_that_nobody_is_called_again_for_are_refused(engine: Engine) -> None:
    for status in (S.COMPLETED, S.UNSUBSCRIBED_CONTACT):
        with pytest.raises(InvalidInputError):
            await engine.queue.redial_batch("march", on=status.value)


async def test_a_cancelled_batch_is_not_redialled(engine: Engine) -> None:
    await ended(engine, S.NO_ANSWER)
    await engine.queue.cancel_batch("march")
    with pytest.raises(InvalidInputError, match="batch march was cancelled"):
        await engine.queue.redial_batch("march", on="no_answer")
    assert await waiting(engine) == []
