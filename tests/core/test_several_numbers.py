"""A person with several numbers, two people in one call, and how often a person is called.

What becomes of a call is in the grid (tests/model). Here is what is called and locked.
"""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest

from tests.contract.samples import ManualClock
from tests.support.engine import ScriptedEngine
from tests.support.flows import SOURCE, number
from tests.support.voices import refused, unknown
from voiceflow_worker import CallFlow, CallPolicy, Job, JobState
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import CallFlowError, InvalidInputError, KeyConflictError
from voiceflow_worker.model.flows.bodies import second_parties
from voiceflow_worker.model.jobs.job import RedialPolicy
from voiceflow_worker.model.jobs.policy import PersonLimit, read_person_limit
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind
from voiceflow_worker.model.window import CallWindow

pytestmark = pytest.mark.anyio

S = SessionStatus
MOBILE, HOME, WORK, BEN, DESK = (number(place) for place in range(5))
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


async def test_each_number_is_called_once_after_the_one_before_it_reached_nobody(here: ScriptedEngine) -> None:
    job = await here.enqueue(MOBILE, further_numbers=[HOME, WORK])
    job = await here.ends(job, S.NO_ANSWER, S.BUSY, S.NO_ANSWER)
    assert (await here.send(), here.voice.rang) == ([], [MOBILE, HOME, WORK])
    assert (job.state, job.attempt, job.rounds) == (JobState.UNREACHED, 3, 0)
    assert [job.number_of(post) for post in job.posts] == [MOBILE, HOME, WORK]
    assert not any(note.kind.is_incident for note in job.notes)
    for each in (MOBILE, HOME, WORK):
        assert [found.id for found in await here.queue.find(destination=each)] == [job.id]
    assert await here.queue.find(destination=BEN) == []


async def test_after_the_end_of_a_call_was_told_no_further_number_is_called(here: ScriptedEngine) -> None:
    """Neither when it was placed after all, nor when a second session of its POST reached the person."""
    here.voice.answers = [refused(-1014)]
    job = await here.enqueue(MOBILE, further_numbers=[HOME])
    (failed,) = await here.send()
    placed = await here.verdict(failed, 1, Verdict(kind=VerdictKind.CREATED, message="", session_id="s"))
    await here.summarise(job, S.BUSY)
    states = [failed.state, placed.state, (await here.queue.get(job.id)).state]
    assert states == [JobState.FAILED, JobState.ACCEPTED, JobState.UNREACHED]
    answered = await here.called(WORK, S.BUSY, further_numbers=[HOME])
    await here.summarise(answered, S.COMPLETED, number=1, session_id="another")
    assert (await here.send(), here.voice.rang) == ([], [MOBILE, WORK])


async def test_a_doubt_calls_no_further_number_and_once_it_was_not_placed_the_same_again(here: ScriptedEngine) -> None:
    job = await here.called(MOBILE, S.BUSY, further_numbers=[HOME, WORK])
    here.voice.answers = [unknown("the connection was cut"), unknown("and again")]
    await here.send()
    for _ in range(2):
        here.clock.advance(HOUR)
        await here.sweeper.sweep()
        assert (await here.send(), await here.state(job)) == ([], "in_doubt")
    await here.queue.resolve(job.id, placed=False, note="not in the log")
    await here.send()
    await here.summarise(job, S.NO_ANSWER)
    await here.ends(job, S.COMPLETED)
    assert here.voice.rang == [MOBILE, HOME, HOME, WORK]


async def test_a_redial_begins_with_the_first_number_and_its_limit_counts_rounds(here: ScriptedEngine) -> None:
    again = RedialPolicy(on=frozenset({S.NO_ANSWER}), limit=1, after=HOUR)
    job = await here.enqueue(MOBILE, further_numbers=[HOME], redial=again)
    job = await here.ends(job, S.BUSY, S.NO_ANSWER)
    assert (job.state, job.due_at) == (JobState.QUEUED, here.clock.now() + HOUR)
    here.clock.advance(HOUR)
    job = await here.ends(job, S.NO_ANSWER, S.NO_ANSWER)
    assert (job.state, job.rounds, here.voice.rang) == (JobState.UNREACHED, 1, [MOBILE, HOME, MOBILE, HOME])
    await here.ends(await here.queue.redial(job.id, note="she asked for it"), S.COMPLETED)
    assert here.voice.rang[4:] == [MOBILE]


async def test_the_number_that_is_called_is_locked_and_the_others_are_free(here: ScriptedEngine) -> None:
    job = await here.enqueue(MOBILE, further_numbers=[HOME], priority=1)
    await here.send()
    for each in (MOBILE, HOME):
        await here.enqueue(each)
    assert [each.destination for each in await here.send()] == [HOME]
    await here.summarise(job, S.BUSY)
    await here.send()
    assert here.voice.rang == [MOBILE, HOME], "its further number is being called for another job"


async def test_a_telephone_counts_once_and_other_numbers_make_another_call(here: ScriptedEngine) -> None:
    job = await here.enqueue(MOBILE, further_numbers=[MOBILE, HOME, HOME], unique_key="ana")
    assert job.numbers == (MOBILE, HOME)
    assert (await here.enqueue(MOBILE, further_numbers=[HOME], unique_key="ana")).id == job.id
    with pytest.raises(KeyConflictError):
        await here.enqueue(MOBILE, further_numbers=[WORK], unique_key="ana")


def bridge(first: str, second: str) -> CallFlow:
    words = CallFlow.call(first, source=SOURCE).say("You are connected.", voice_profile="en-IE-EmilyNeural")
    return words.then_call(second, source=SOURCE)


@pytest.mark.parametrize(
    ("further", "message"),
    [
        (["87654321"], "country"),
        ([""], "is not one phone number"),
        ([BEN], "bridges the call to it"),
        ([number(place) for place in range(10, 20)], "at most 10"),
    ],
)
async def test_a_further_number_that_cannot_be_called_is_refused(
    here: ScriptedEngine, further: list[str], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        await here.queue.enqueue(bridge(MOBILE, BEN), further_numbers=further)
    assert await here.queue.find() == []


async def test_a_window_needs_one_time_zone_for_all_numbers(here: ScriptedEngine) -> None:
    window = CallWindow.parse("09:00-20:00")
    with pytest.raises(CallFlowError, match="in different time zones"):
        await here.enqueue("+6587654321", further_numbers=["+442079460000"], window=window)
    await here.enqueue("+6587654321", further_numbers=["+442079460000"], window=window, time_zone="Asia/Singapore")


class TestASecondParty:
    """A call that bridges two people rings two telephones."""

    async def hand_in(self, here: ScriptedEngine, *first: str) -> list[Job]:
        """Calls to these people, which are bridged to the desk."""
        return [await here.queue.enqueue(bridge(each, DESK)) for each in first]

    async def test_is_in_one_open_call_at_a_time(self, here: ScriptedEngine) -> None:
        await self.hand_in(here, MOBILE, HOME, WORK)
        (first,) = await here.send()
        assert (first.destination, first.state) == (MOBILE, JobState.SUBMITTED)
        waiting = await here.queue.find(states=[JobState.QUEUED])
        assert [job.destination for job in waiting] == [HOME, WORK]
        assert all(DESK in str(job.reason) and "list it as shared" in str(job.reason) for job in waiting)
        for sent in (0, 1):
            here.clock.advance(timedelta(seconds=3))
            assert len(await here.send()) == sent
            await here.summarise(first)

    async def test_makes_the_calls_that_wait_for_one_line_look_again_one_after_the_other(
        self, here: ScriptedEngine
    ) -> None:
        jobs = await self.hand_in(here, *(number(10 + place) for place in range(6)))
        await here.send()
        waits = [(await here.queue.get(job.id)).due_at - here.clock.now() for job in jobs[1:]]
        assert waits == sorted(waits)
        assert waits[0] <= timedelta(seconds=2.5)
        assert timedelta(seconds=7.5) <= waits[-1] <= timedelta(seconds=12.5)

    async def test_with_a_shared_number_takes_many_calls_at_once(self, any_store: Store, clock: ManualClock) -> None:
        policy = CallPolicy(shared_numbers=frozenset({DESK.removeprefix("+")}))
        here = ScriptedEngine(any_store, clock, policy=policy)
        await self.hand_in(here, MOBILE, HOME, WORK)
        assert [job.destination for job in await here.send()] == [MOBILE, HOME, WORK]
        for _ in range(2):  # as the person called it is one number like any other
            await here.enqueue(DESK)
        assert [job.destination for job in await here.send()] == [DESK]

    def test_is_read_from_a_body_with_two_calls_alone(self) -> None:
        tricky = CallFlow.call(MOBILE, source=SOURCE).say('say "makeCall" and "makeCall"', voice_profile="x")
        connected = bridge(MOBILE, DESK).to_json().decode()
        for body, found in [
            (tricky.to_json().decode(), ()),
            ('"makeCall" "makeCall" and no JSON', ()),
            (connected.replace(DESK, DESK.removeprefix("+")), (DESK,)),
            (bridge(MOBILE, MOBILE).to_json().decode(), ()),
        ]:
            assert second_parties(body) == found


TWICE_A_DAY = CallPolicy(max_per_person=PersonLimit(2, 24 * HOUR))


@pytest.fixture
def capped(here: ScriptedEngine) -> ScriptedEngine:
    return ScriptedEngine(here.store, here.clock, voice=here.voice, policy=TWICE_A_DAY)


async def waits(engine: ScriptedEngine, destination: str, **options: object) -> Job:
    """A new call, which is not sent because its person has had all attempts."""
    job = await engine.enqueue(destination, **options)
    await engine.send()
    job = await engine.queue.get(job.id)
    assert (job.state, job.post_count) == (JobState.QUEUED, 0)
    assert job.reason == "its number has had 2 attempts within 1d, the most for one person"
    return job


async def test_a_call_over_the_limit_waits_until_the_oldest_attempt_leaves_the_span(capped: ScriptedEngine) -> None:
    began = capped.clock.now()
    for batch_id in ("march", "april"):
        await capped.called(MOBILE, S.NO_ANSWER, batch=batch_id)
        capped.clock.advance(HOUR)
    job = await waits(capped, MOBILE, batch="may")
    assert job.due_at == began + 24 * HOUR
    assert (await capped.queue.status()).waiting.max_per_person == 1
    capped.clock.advance(22 * HOUR - MINUTE)
    assert await capped.send() == []
    capped.clock.advance(MINUTE)
    await capped.ends(job, S.NO_ANSWER)
    assert len(capped.voice.placed) == 3
    assert (await waits(capped, MOBILE)).due_at == began + 25 * HOUR


async def test_other_people_and_other_queues_are_counted_apart_and_all_numbers_and_spellings_of_one_together(
    capped: ScriptedEngine,
) -> None:
    other = ScriptedEngine(capped.store, capped.clock, queue="offers", policy=TWICE_A_DAY)
    for engine, people in ((capped, (MOBILE, MOBILE, WORK)), (other, (MOBILE,))):
        for each in people:
            await engine.called(each, S.NO_ANSWER)
    for spelled in ("+525512345678", "+5215512345678"):
        await capped.called(spelled, S.NO_ANSWER)
    await capped.ends(await capped.enqueue(HOME, further_numbers=[BEN]), S.BUSY, S.BUSY)
    for each in ("+525512345678", "+5215512345678", HOME, BEN):
        await waits(capped, each)
    for spelled in ("+525512345678", "+5215512345678"):
        assert len(await capped.queue.find(destination=spelled)) == 4


async def test_the_place_of_a_post_that_reached_nobody_is_used_again_although_it_was_not_freed(
    here: ScriptedEngine,
) -> None:
    """A process without the limit settled the call, and frees no places."""
    capped = ScriptedEngine(here.store, here.clock, policy=CallPolicy(max_per_person=PersonLimit(1, 24 * HOUR)))
    job = await capped.enqueue(MOBILE)
    await capped.journal()
    here.clock.advance(HOUR)
    await here.sweeper.sweep()
    await here.queue.resolve(job.id, placed=False, note="not in the log")
    assert [each.id for each in await capped.send()] == [job.id]
    assert len(capped.voice.placed) == 1


async def test_two_workers_together_keep_the_limit(capped: ScriptedEngine) -> None:
    other = ScriptedEngine(capped.store, capped.clock, voice=capped.voice, policy=TWICE_A_DAY)
    for place in range(8):
        await capped.enqueue(number(place % 2))

    async def send(worker: ScriptedEngine) -> None:
        for job in await worker.send():
            await worker.summarise(job, S.BUSY)

    for _ in range(12):
        async with anyio.create_task_group() as group:
            for worker in (capped, other):
                group.start_soon(send, worker)
        capped.clock.advance(timedelta(seconds=30))
    assert len(capped.voice.placed) == 4
    assert (await capped.queue.status()).waiting.max_per_person == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("3", "it has no span of time; give a number of attempts and a span of time, such as 3/24h"),
        ("three/24h", "'three' is not a number of attempts; give a number of attempts"),
        ("3/soon", "'soon' cannot be the span of time: give a number with a unit"),
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
    with pytest.raises(InvalidInputError):
        PersonLimit(1, timedelta.max)
