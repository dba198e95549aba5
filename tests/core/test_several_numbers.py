"""A person with several numbers: one after the other, and only after a call that certainly reached nobody."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from tests.contract.samples import ManualClock
from tests.support.engine import Engine
from tests.support.flows import SOURCE, flow, number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallFlow, CallPolicy, Job, JobState
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import CallFlowError, InvalidInputError, KeyConflictError, SuppressedNumberError
from voiceflow_worker.model.jobs.job import RedialPolicy
from voiceflow_worker.model.jobs.policy import PersonLimit
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind
from voiceflow_worker.model.window import CallWindow

pytestmark = pytest.mark.anyio

S = SessionStatus
MOBILE, HOME, WORK, BEN = (number(place) for place in range(4))
HOUR = timedelta(hours=1)
GOES_ON, STOPS = (S.NO_ANSWER, S.BUSY), sorted(set(S) - {S.NO_ANSWER, S.BUSY})


@pytest.fixture
def engine(any_store: Store, voice: ScriptedVoice) -> Engine:
    return Engine(any_store, voice)


def rang(voice: ScriptedVoice) -> list[str]:
    """The numbers that the POSTs call, in their order."""
    bodies = [json.loads(placement.body) for _, placement in voice.placed]
    return [str(body["callflow"][0]["params"]["destination"]) for body in bodies]


async def ends(engine: Engine, job: Job, *statuses: SessionStatus) -> Job:
    """The job after one POST for each of these ends."""
    for status in statuses:
        assert [each.id for each in await engine.send()] == [job.id]
        await engine.summarise(job, status)
    return await engine.queue.get(job.id)


async def test_each_number_is_called_once_after_the_one_before_it_was_busy_or_did_not_answer(
    engine: Engine, voice: ScriptedVoice
) -> None:
    job = await engine.enqueue(MOBILE, further_numbers=[HOME, WORK])
    job = await ends(engine, job, S.NO_ANSWER, S.BUSY, S.NO_ANSWER)
    assert await engine.send() == []
    assert rang(voice) == [MOBILE, HOME, WORK]
    assert (job.state, job.attempt, job.rounds) == (JobState.UNREACHED, 3, 0)
    assert [job.number_of(post) for post in job.posts] == [MOBILE, HOME, WORK]
    assert not any(note.kind.is_incident for note in job.notes)


@pytest.mark.parametrize("status", STOPS)
async def test_after_every_other_end_no_further_number_is_called(
    engine: Engine, voice: ScriptedVoice, status: SessionStatus
) -> None:
    job = await ends(engine, await engine.enqueue(MOBILE, further_numbers=[HOME]), status)
    assert (await engine.send(), job.state.is_final, rang(voice)) == ([], True, [MOBILE])


async def test_a_call_that_was_placed_after_its_end_was_told_calls_no_further_number(
    engine: Engine, voice: ScriptedVoice
) -> None:
    voice.answers = [Verdict(kind=VerdictKind.REFUSED, message="source not allowed", code=-1014)]
    job = await engine.enqueue(MOBILE, further_numbers=[HOME])
    (failed,) = await engine.send()
    created = Verdict(kind=VerdictKind.CREATED, message="created", session_id=f"session-{job.id}.1")
    placed = await engine.verdict(failed, 1, created)
    await engine.summarise(job, S.BUSY)
    assert await engine.send() == []
    ended = await engine.queue.get(job.id)
    states = [each.state for each in (failed, placed, ended)]
    assert (states, rang(voice)) == ([JobState.FAILED, JobState.ACCEPTED, JobState.UNREACHED], [MOBILE])


async def test_a_doubt_calls_no_further_number_and_its_late_summary_does(
    engine: Engine, voice: ScriptedVoice, clock: ManualClock
) -> None:
    voice.answers = [Verdict(kind=VerdictKind.UNKNOWN, message="the connection was cut")]
    job = await engine.enqueue(MOBILE, further_numbers=[HOME])
    await engine.send()
    for _ in range(5):
        clock.advance(HOUR)
        await engine.sweeper.sweep()
        assert await engine.send() == []
    assert (await engine.queue.get(job.id)).state is JobState.IN_DOUBT
    await engine.summarise(job, S.NO_ANSWER)
    assert [each.id for each in await engine.send()] == [job.id]
    assert rang(voice) == [MOBILE, HOME]


async def test_a_doubt_that_was_not_placed_calls_the_same_number_again(
    engine: Engine, voice: ScriptedVoice, clock: ManualClock
) -> None:
    job = await engine.enqueue(MOBILE, further_numbers=[HOME])
    await ends(engine, job, S.BUSY)
    voice.answers = [Verdict(kind=VerdictKind.UNKNOWN, message="the connection was cut")]
    await engine.send()
    clock.advance(HOUR)
    await engine.queue.resolve(job.id, placed=False, note="not in the log")
    await ends(engine, job, S.COMPLETED)
    assert rang(voice) == [MOBILE, HOME, HOME]


async def test_a_redial_begins_with_the_first_number_and_its_limit_counts_rounds(
    engine: Engine, voice: ScriptedVoice, clock: ManualClock
) -> None:
    again = RedialPolicy(on=frozenset({S.NO_ANSWER}), limit=1, after=HOUR)
    job = await engine.enqueue(MOBILE, further_numbers=[HOME], redial=again)
    job = await ends(engine, job, S.BUSY, S.NO_ANSWER)
    assert (job.state, job.due_at) == (JobState.QUEUED, clock.now() + HOUR)
    clock.advance(HOUR)
    job = await ends(engine, job, S.NO_ANSWER, S.NO_ANSWER)
    assert (job.state, job.rounds, rang(voice)) == (JobState.UNREACHED, 1, [MOBILE, HOME, MOBILE, HOME])
    job = await engine.queue.redial(job.id, note="she asked for it")
    assert rang(voice)[len(job.posts) :] == []
    await ends(engine, job, S.COMPLETED)
    assert rang(voice)[-1] == MOBILE


@pytest.mark.parametrize(("goes_on", "called"), [(True, [HOME]), (False, [MOBILE, HOME])])
async def test_a_call_that_was_cancelled_before_its_next_number_can_go_on_with_it(
    engine: Engine, voice: ScriptedVoice, goes_on: bool, called: list[str]
) -> None:
    job = await ends(engine, await engine.enqueue(MOBILE, further_numbers=[HOME]), S.NO_ANSWER)
    await engine.queue.cancel(job.id, reason="the task was stopped")
    assert await engine.send() == []
    await engine.queue.redial(job.id, goes_on=goes_on)
    job = await ends(engine, job, *(S.NO_ANSWER for _ in called))
    assert (job.state, rang(voice)) == (JobState.UNREACHED, [MOBILE, *called])


async def test_a_summary_of_the_first_number_that_comes_late_settles_its_own_call(
    engine: Engine, voice: ScriptedVoice
) -> None:
    """Two sessions of one POST: the person answered the first, while the second number was already due."""
    job = await engine.enqueue(MOBILE, further_numbers=[HOME])
    await ends(engine, job, S.BUSY)
    await engine.summarise(job, S.COMPLETED, number=1, session_id="another")
    assert (await engine.queue.get(job.id)).state is JobState.COMPLETED
    assert (await engine.send(), rang(voice)) == ([], [MOBILE])


async def test_the_number_that_is_called_is_locked_and_the_others_are_free(
    engine: Engine, voice: ScriptedVoice
) -> None:
    job = await engine.enqueue(MOBILE, further_numbers=[HOME], priority=1)
    await engine.send()
    for each in (MOBILE, HOME):
        await engine.enqueue(each)
    assert [each.destination for each in await engine.send()] == [HOME]
    await engine.summarise(job, S.BUSY)
    await engine.send()
    assert rang(voice) == [MOBILE, HOME], "its further number is being called for another job"


@pytest.mark.parametrize("listed", [MOBILE, HOME, WORK])
async def test_a_person_is_left_out_if_any_number_is_on_the_list(
    engine: Engine, voice: ScriptedVoice, any_store: Store, listed: str
) -> None:
    queued = await engine.enqueue(MOBILE, further_numbers=[HOME, WORK])
    await SuppressionList(any_store).add(listed, reason="she asked for it")
    assert await engine.send() == []
    ended = await engine.queue.get(queued.id)
    assert (ended.state, rang(voice)) == (JobState.CANCELLED, [])
    assert f"its number {listed} has been" in (ended.reason or "")
    with pytest.raises(SuppressedNumberError, match=r"\+" + listed[1:]):
        await engine.enqueue(MOBILE, further_numbers=[HOME, WORK])


async def test_an_opt_out_is_of_the_number_that_was_called_and_ends_calls_that_have_it(
    engine: Engine, any_store: Store
) -> None:
    job = await engine.enqueue(MOBILE, further_numbers=[HOME])
    await ends(engine, job, S.BUSY)
    later = await engine.queue.enqueue(flow(BEN), further_numbers=[HOME], not_before=any_store.clock.now() + HOUR)
    await ends(engine, job, S.UNSUBSCRIBED_CONTACT)
    standing = await SuppressionList(any_store).entries_of([MOBILE, HOME])
    assert set(standing) == {HOME}
    assert (await engine.queue.get(later.id)).state is JobState.CANCELLED


async def test_a_call_to_one_number_counts_for_all_of_them(any_store: Store, voice: ScriptedVoice) -> None:
    capped = Engine(any_store, voice, policy=CallPolicy(max_per_person=PersonLimit(2, 24 * HOUR)))
    await ends(capped, await capped.enqueue(MOBILE, further_numbers=[HOME]), S.BUSY, S.BUSY)
    for each in (MOBILE, HOME):
        job = await capped.enqueue(each)
        assert await capped.send() == []
        await capped.queue.cancel(job.id, reason="over")


async def test_a_call_is_found_by_each_of_its_numbers(engine: Engine) -> None:
    job = await engine.enqueue(MOBILE, further_numbers=[HOME])
    for each in (MOBILE, HOME):
        assert [found.id for found in await engine.queue.find(destination=each)] == [job.id]
    assert await engine.queue.find(destination=WORK) == []


async def test_a_telephone_counts_once_and_other_numbers_make_another_call(engine: Engine) -> None:
    job = await engine.enqueue(MOBILE, further_numbers=[MOBILE, HOME, HOME], unique_key="ana")
    assert job.numbers == (MOBILE, HOME)
    assert (await engine.enqueue(MOBILE, further_numbers=[HOME], unique_key="ana")).id == job.id
    with pytest.raises(KeyConflictError):
        await engine.enqueue(MOBILE, further_numbers=[WORK], unique_key="ana")


@pytest.mark.parametrize(
    ("further", "message"),
    [
        (["87654321"], "country"),
        ([""], "empty"),
        ([BEN], "bridges the call to it"),
        ([number(place) for place in range(10, 20)], "at most 10"),
    ],
)
async def test_a_further_number_that_cannot_be_called_is_refused(
    engine: Engine, further: list[str], message: str
) -> None:
    words = CallFlow.call(MOBILE, source=SOURCE).say("You are connected.", voice_profile="en-IE-EmilyNeural")
    with pytest.raises(InvalidInputError, match=message):
        await engine.queue.enqueue(words.then_call(BEN, source=SOURCE), further_numbers=further)
    assert await engine.queue.find() == []


async def test_a_window_needs_one_time_zone_for_all_numbers(engine: Engine) -> None:
    window = CallWindow.parse("09:00-20:00")
    with pytest.raises(CallFlowError, match="in different time zones"):
        await engine.enqueue("+6587654321", further_numbers=["+442079460000"], window=window)
    await engine.enqueue("+6587654321", further_numbers=["+442079460000"], window=window, time_zone="Asia/Singapore")
