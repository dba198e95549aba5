"""Attempts per person: never more than the limit within the span, and no call is lost."""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest

from tests.support.engine import LEASE, Engine
from tests.support.faulty_store import FaultyStore, Loss
from tests.support.flows import number
from tests.support.voices import ScriptedVoice, not_sent, refused, unknown
from voiceflow_worker import CallPolicy, Job, JobState
from voiceflow_worker.backends.contract.clock import ManualClock
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.settling.settle import SummaryResult
from voiceflow_worker.errors import InvalidInputError, StoreUnavailableError
from voiceflow_worker.model.jobs.person_limit import PersonLimit, read_person_limit
from voiceflow_worker.model.jobs.redial import redial_policy
from voiceflow_worker.model.records.waiting import CAPPED
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import Verdict

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


async def doubted(engine: Engine, voice: ScriptedVoice, clock: ManualClock) -> Job:
    """A call whose answer was lost an hour ago."""
    voice.answers = [unknown()]
    doubt = await engine.enqueue(ANA)
    await engine.send()
    clock.advance(HOUR)
    return doubt


async def resolved(engine: Engine, voice: ScriptedVoice, clock: ManualClock) -> Job:
    """A call that a person resolved as not placed, by mistake, and cancelled."""
    doubt = await doubted(engine, voice, clock)
    await engine.queue.resolve(doubt.id, placed=False, note="not seen in the portal")
    await engine.queue.cancel(doubt.id)
    return doubt


async def waits(engine: Engine, job: Job) -> Job:
    """The job, which is not sent because its person has had all attempts."""
    before = job.post_count
    await engine.send()
    job = await engine.queue.get(job.id)
    assert (job.state, job.post_count) == (JobState.QUEUED, before)
    assert job.reason == f"its number has had 2 attempts within 1d, {CAPPED}"
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


async def test_redials_count(engine: Engine, clock: ManualClock) -> None:
    job = await engine.enqueue(ANA, redial=redial_policy("no_answer", limit=5, after=MINUTE))
    for _ in range(2):
        await engine.send()
        await engine.summarise(job, S.NO_ANSWER)
        clock.advance(MINUTE)
    await waits(engine, await engine.queue.get(job.id))


@pytest.mark.parametrize("verdict", [not_sent(), refused(-1009)], ids=["not sent", "refused"])
async def test_an_attempt_that_reached_nobody_does_not_count(
    engine: Engine, voice: ScriptedVoice, verdict: Verdict
) -> None:
    await called(engine)
    for _ in range(3):
        voice.answers = [verdict]
        job = await engine.enqueue(ANA)
        await engine.send()
        if (await engine.queue.get(job.id)).state is JobState.QUEUED:
            await engine.queue.cancel(job.id)
    await called(engine)
    await waits(engine, await engine.enqueue(ANA))


async def test_a_doubt_counts_until_it_is_known_that_nobody_was_reached(
    engine: Engine, voice: ScriptedVoice, clock: ManualClock
) -> None:
    await called(engine)
    doubt = await doubted(engine, voice, clock)
    job = await waits(engine, await engine.enqueue(ANA))
    await engine.queue.cancel(job.id)
    await engine.queue.resolve(doubt.id, placed=False, note="seen in the portal")
    await engine.queue.cancel(doubt.id)
    await called(engine)


async def test_a_doubt_leaves_the_span_after_the_latest_time_at_which_it_can_ring(
    engine: Engine, voice: ScriptedVoice, clock: ManualClock
) -> None:
    voice.answers = [unknown()]
    await engine.enqueue(ANA)
    await engine.send()
    rings_by = clock.now() + engine.policy.submit_window
    clock.advance(HOUR)
    await called(engine)
    job = await engine.enqueue(ANA)
    while clock.now() < rings_by + 24 * HOUR - timedelta(seconds=5):
        job = await waits(engine, job)
        clock.advance(max(job.due_at - clock.now(), timedelta(seconds=1)))
    clock.advance(timedelta(seconds=10))
    await engine.send()
    assert (await engine.queue.get(job.id)).state is JobState.SUBMITTED


@pytest.mark.parametrize("status", [S.NO_ANSWER, S.COMPLETED])
async def test_a_post_that_rang_although_it_was_resolved_as_not_placed_counts_again(
    engine: Engine, voice: ScriptedVoice, clock: ManualClock, status: SessionStatus
) -> None:
    await called(engine)
    doubt = await resolved(engine, voice, clock)
    await engine.summarise(doubt, status)
    await waits(engine, await engine.enqueue(ANA))
    assert len(voice.placed) == 2


async def test_a_process_that_dies_when_it_has_stored_that_a_call_rang_after_all_leaves_no_attempt_uncounted(
    engine: Engine, any_store: Store, voice: ScriptedVoice, clock: ManualClock
) -> None:
    doubt = await resolved(engine, voice, clock)
    dying = FaultyStore(any_store)
    dying.lose(Loss.AFTER, "domain.write")
    with pytest.raises(StoreUnavailableError):
        await Engine(dying, voice, policy=TWICE_A_DAY).summarise(doubt, S.NO_ANSWER)
    assert await engine.summarise(doubt, S.NO_ANSWER) is SummaryResult.REPEATED
    await called(engine)
    await waits(engine, await engine.enqueue(ANA))
    assert len(voice.placed) == 2


async def test_a_place_of_a_killed_worker_is_used_by_the_next_post_of_its_call(
    engine: Engine, voice: ScriptedVoice, clock: ManualClock
) -> None:
    await called(engine)
    job = await engine.enqueue(ANA)
    await engine.prepare()  # and killed before the journal entry
    clock.advance(LEASE)
    await engine.sweeper.sweep()
    clock.advance(5 * MINUTE)  # its lock on the number ends
    (sent,) = await engine.send()
    assert (sent.id, sent.state) == (job.id, JobState.SUBMITTED)
    assert len(voice.placed) == 2


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


async def test_a_call_that_is_put_back_before_it_left_frees_its_place(engine: Engine) -> None:
    for _ in range(3):
        await engine.enqueue(ANA)
        flights = await engine.prepare()
        await engine.submitter.give_back(flights)
        await engine.queue.cancel(flights[0].job.id)
    await called(engine)
    await called(engine)


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("3", "it has no span of time; give a number of attempts and a span of time, such as 3/24h"),
        ("three/24h", "'three' is not a number of attempts; give a number of attempts"),
        ("3/soon", "'soon' cannot be the span of time: give a number of seconds"),
        ("3/0s", "3 attempts within 0s is impossible"),
        ("0/24h", "0 attempts within 1d is impossible"),
        ("21/24h", "21 attempts within 1d is impossible"),
    ],
)
def test_a_limit_without_a_meaning_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_person_limit(text)


def test_a_limit_is_written_as_it_is_read() -> None:
    assert str(read_person_limit(" 3 / 90s ")) == "3/90s"
    assert read_person_limit("20/7d") == PersonLimit(20, timedelta(days=7))
    for attempts, span in ((0, HOUR), (1, timedelta.max)):
        with pytest.raises(InvalidInputError):
            PersonLimit(attempts, span)
