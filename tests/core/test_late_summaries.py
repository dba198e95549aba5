"""A summary that comes after the call was ordered again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support.engine import Engine
from tests.support.voices import ScriptedVoice, created, not_sent, unknown
from voiceflow_worker import Job, JobState, RedialPolicy, SuppressionList
from voiceflow_worker.backends.contract.clock import ManualClock
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.settling.settle import SummaryResult
from voiceflow_worker.model.reports.status import SessionStatus

pytestmark = pytest.mark.anyio

REACHED_NOBODY = [SessionStatus.NO_ANSWER, SessionStatus.BUSY, SessionStatus.CANCELED, SessionStatus.FAILED]


@pytest.fixture
def here(any_store: Store) -> Engine:
    return Engine(any_store, ScriptedVoice())


async def ordered_again(here: Engine, clock: ManualClock) -> Job:
    """A call whose summary never came, and that a person has called again: it waits for its turn."""
    await here.enqueue()
    (job,) = await here.send()
    clock.advance(timedelta(hours=3))
    await here.sweeper.sweep()
    assert await here.state(job) == "accepted"
    return await here.queue.redial(job.id, force=True)


async def redialled_after_a_busy_second_call(here: Engine) -> Job:
    """A call that its policy redials: the POST arrived twice at 8x8, and the second call was busy."""
    again = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=2, after=timedelta(minutes=1))
    job = await here.enqueue(redial=again)
    await here.send()
    await here.summarise(job, SessionStatus.BUSY, session_id="the second call")
    assert await here.state(job) == "queued"
    return job


@pytest.mark.parametrize("status", REACHED_NOBODY)
@pytest.mark.parametrize("is_leased", [False, True])
async def test_that_the_first_attempt_reached_nobody_does_not_end_the_second(
    here: Engine, clock: ManualClock, status: SessionStatus, is_leased: bool
) -> None:
    job = await ordered_again(here, clock)
    flights = await here.prepare() if is_leased else []
    await here.summarise(job, status, number=1)
    waiting = await here.queue.get(job.id)
    assert waiting.state is (JobState.LEASED if is_leased else JobState.QUEUED)
    assert waiting.posts[0].outcome is not None
    if is_leased:
        # Its worker has lost the job as it knew it: the lease ends, and the job is sent after that.
        await here.submitter.fly(flights[0])
        clock.advance(timedelta(minutes=5))
        await here.sweeper.sweep()
    sent = await here.queue.get(job.id) if await here.send() else waiting
    assert (sent.state, sent.attempt) == (JobState.SUBMITTED, 2)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (SessionStatus.COMPLETED, "completed"),
        (SessionStatus.COMPLETED_UNSUBSCRIBED, "completed"),
        (SessionStatus.COMPLETED_UNSUB_ERROR, "completed"),
        (SessionStatus.UNSUBSCRIBED_CONTACT, "unreached"),
    ],
)
async def test_who_was_reached_or_asked_to_be_left_alone_is_not_called_again(
    here: Engine, clock: ManualClock, status: SessionStatus, state: str
) -> None:
    job = await ordered_again(here, clock)
    await here.summarise(job, status, number=1)
    assert await here.state(job) == state
    assert await here.send() == []


@pytest.mark.parametrize("status", [SessionStatus.COMPLETED, SessionStatus.COMPLETED_UNSUBSCRIBED])
async def test_who_answered_the_other_session_of_a_repeated_request_is_not_called_again(
    here: Engine, clock: ManualClock, status: SessionStatus
) -> None:
    """Something between this machine and 8x8 has sent the POST twice: one call found the line busy with the other."""
    job = await redialled_after_a_busy_second_call(here)
    await here.summarise(job, status, number=1)
    clock.advance(timedelta(minutes=5))
    assert (await here.send(), await here.state(job)) == ([], "completed")


@pytest.mark.parametrize("status", [SessionStatus.COMPLETED, SessionStatus.COMPLETED_UNSUBSCRIBED])
async def test_who_answered_the_first_call_while_the_redial_rang_gets_no_second_redial(
    here: Engine, clock: ManualClock, status: SessionStatus
) -> None:
    job = await redialled_after_a_busy_second_call(here)
    clock.advance(timedelta(minutes=5))
    await here.send()
    assert await here.summarise(job, status, number=1) is SummaryResult.SETTLED
    assert (await here.queue.get(job.id)).outcome_status is status
    await here.summarise(job, SessionStatus.BUSY, number=2)
    clock.advance(timedelta(minutes=5))
    assert (await here.send(), await here.state(job)) == ([], "completed")


@pytest.mark.parametrize("status", [SessionStatus.COMPLETED, SessionStatus.COMPLETED_UNSUBSCRIBED])
async def test_who_answered_the_first_call_while_a_redial_by_a_person_rang_gets_no_redial_by_the_policy(
    any_store: Store, clock: ManualClock, status: SessionStatus
) -> None:
    here = Engine(any_store, ScriptedVoice(answers=[created("session-1"), not_sent("connection refused")]))
    again = RedialPolicy(on=frozenset({SessionStatus.NO_ANSWER}), limit=2, after=timedelta(minutes=1))
    job = await here.enqueue(redial=again)
    await here.send()
    clock.advance(timedelta(hours=3))
    await here.sweeper.sweep()
    await here.queue.redial(job.id, force=True)
    (flight,) = await here.prepare()
    begun = await here.journal_of(flight)
    assert begun is not None
    assert await here.summarise(job, status, number=1) is SummaryResult.SETTLED
    await here.submitter.fly(replace(flight, job=begun))
    clock.advance(timedelta(minutes=5))
    assert (await here.send(), await here.state(job)) == ([], "completed")


async def test_an_earlier_call_whose_summary_never_came_does_not_keep_the_number_after_the_redial(
    here: Engine, clock: ManualClock
) -> None:
    job = await ordered_again(here, clock)
    await here.send()
    await here.enqueue()
    assert await here.send() == []
    await here.summarise(job, number=2)
    clock.advance(timedelta(seconds=5))
    assert [sent.state for sent in await here.send()] == [JobState.SUBMITTED]


async def test_the_number_of_a_call_that_a_person_found_placed_is_free_once_its_summary_came(
    any_store: Store, clock: ManualClock
) -> None:
    here = Engine(any_store, ScriptedVoice(answers=[unknown()]))
    job = await here.enqueue()
    await here.send()
    await here.queue.resolve(job.id, placed=True, note="heard it ring")
    await here.enqueue()
    assert await here.send() == []
    await here.summarise(job)
    clock.advance(timedelta(seconds=5))
    assert [sent.state for sent in await here.send()] == [JobState.SUBMITTED]


async def test_an_opt_out_in_a_summary_that_comes_after_the_outcome_is_kept(here: Engine) -> None:
    job = await here.enqueue()
    await here.send()
    await here.summarise(job, SessionStatus.COMPLETED, session_id="the second call")
    await here.enqueue()
    await here.summarise(job, SessionStatus.COMPLETED_UNSUBSCRIBED)
    listed = SuppressionList(here.store)
    assert list(await listed.find(job.destination)) == [job.destination]
    assert await here.send() == []
    await listed.remove(job.destination)
    await here.summarise(job, SessionStatus.COMPLETED_UNSUBSCRIBED)
    assert await listed.find(job.destination) == {}, "a repeated summary does not add the number again"
