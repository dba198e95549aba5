"""Attempts per person: never more than the limit within the span, and no call is lost."""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest

from tests.contract.samples import ManualClock
from tests.support.engine import Engine
from tests.support.flows import number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallPolicy, Job, JobState
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.policy import PersonLimit, read_person_limit
from voiceflow_worker.model.reports.status import SessionStatus

pytestmark = pytest.mark.anyio

S = SessionStatus
ANA = "+6587654321"
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
TWICE_A_DAY = CallPolicy(max_per_person=PersonLimit(2, 24 * HOUR))


@pytest.fixture
def engine(any_store: Store, voice: ScriptedVoice) -> Engine:
    return Engine(any_store, voice, policy=TWICE_A_DAY)


async def called(engine: Engine, destination: str = ANA, *, batch_id: str | None = None) -> Job:
    """A call that was sent, and not answered."""
    job = await engine.enqueue(destination, batch_id=batch_id)
    await engine.send()
    await engine.summarise(job, S.NO_ANSWER)
    job = await engine.queue.get(job.id)
    assert job.state is JobState.UNREACHED
    return job


async def waits(engine: Engine, job: Job) -> Job:
    """The job, which is not sent because its person has had all attempts."""
    before = job.post_count
    await engine.send()
    job = await engine.queue.get(job.id)
    assert (job.state, job.post_count) == (JobState.QUEUED, before)
    assert job.reason == "its number has had 2 attempts within 1d, the most for one person"
    return job


async def test_a_call_over_the_limit_waits_until_the_oldest_attempt_leaves_the_span(
    engine: Engine, voice: ScriptedVoice, clock: ManualClock
) -> None:
    began = clock.now()
    await called(engine, batch_id="march")
    clock.advance(HOUR)
    await called(engine, batch_id="april")
    clock.advance(HOUR)
    job = await waits(engine, await engine.enqueue(ANA, batch_id="may"))
    assert job.due_at == began + 24 * HOUR
    assert (await engine.queue.status()).waiting.max_per_person == 1
    clock.advance(22 * HOUR - MINUTE)
    assert await engine.send() == []
    clock.advance(MINUTE)
    (job,) = await engine.send()
    assert (job.state, len(voice.placed)) == (JobState.SUBMITTED, 3)
    await engine.summarise(job, S.NO_ANSWER)
    job = await waits(engine, await engine.enqueue(ANA))
    assert job.due_at == began + 25 * HOUR


async def test_other_people_and_other_queues_are_counted_apart(
    engine: Engine, any_store: Store, voice: ScriptedVoice
) -> None:
    for _ in range(2):
        await called(engine)
    await called(engine, number(1))
    other = Engine(any_store, voice, queue="offers", policy=TWICE_A_DAY)
    await called(other)
    assert len(voice.placed) == 4


async def test_both_spellings_of_a_number_are_one_person(engine: Engine) -> None:
    await called(engine, "+525512345678")
    await called(engine, "+5215512345678")
    for spelled in ("+525512345678", "+5215512345678"):
        await waits(engine, await engine.enqueue(spelled))


async def test_the_place_of_a_post_that_reached_nobody_is_used_again_although_it_was_not_freed(
    any_store: Store, voice: ScriptedVoice, clock: ManualClock
) -> None:
    """A process without the limit settled the call, and frees no places."""
    capped = Engine(any_store, voice, policy=CallPolicy(max_per_person=PersonLimit(1, 24 * HOUR)))
    job = await capped.enqueue(ANA)
    await capped.journal()
    clock.advance(HOUR)
    other = Engine(any_store, voice)
    await other.sweeper.sweep()
    await other.queue.resolve(job.id, placed=False, note="not in the log")
    assert [each.id for each in await capped.send()] == [job.id]
    assert len(voice.placed) == 1


async def test_two_workers_together_keep_the_limit(any_store: Store, voice: ScriptedVoice, clock: ManualClock) -> None:
    workers = [Engine(any_store, voice, policy=TWICE_A_DAY) for _ in range(2)]
    for place in range(8):
        await workers[0].enqueue(number(place % 2))

    async def send(worker: Engine) -> None:
        for job in await worker.send():
            await worker.summarise(job, S.BUSY)

    for _ in range(12):
        async with anyio.create_task_group() as group:
            for worker in workers:
                group.start_soon(send, worker)
        clock.advance(timedelta(seconds=30))
    assert len(voice.placed) == 4
    assert (await workers[0].queue.status()).waiting.max_per_person == 4


def test_a_limit_without_a_meaning_is_refused() -> None:
    for text, said in [
        ("3", "it has no span of time; give a number of attempts and a span of time, such as 3/24h"),
        ("three/24h", "'three' is not a number of attempts; give a number of attempts"),
        ("3/soon", "'soon' cannot be the span of time: give a number with a unit"),
        ("3/0s", "3 attempts within 0s is impossible"),
        ("0/24h", "0 attempts within 1d is impossible"),
        ("21/24h", "21 attempts within 1d is impossible"),
    ]:
        with pytest.raises(ValueError, match=said):
            read_person_limit(text)


def test_a_limit_is_written_as_it_is_read() -> None:
    assert str(read_person_limit(" 3 / 90s ")) == "3/90s"
    assert read_person_limit("20/7d") == PersonLimit(20, timedelta(days=7))
    for attempts, span in ((0, HOUR), (1, timedelta.max)):
        with pytest.raises(InvalidInputError):
            PersonLimit(attempts, span)
