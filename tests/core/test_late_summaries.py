"""A summary that comes after the call was ordered again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support.engine import Engine
from tests.support.voices import ScriptedVoice, unknown
from voiceflow_worker import Job, JobState, SuppressionList
from voiceflow_worker.backends.contract.samples import ManualClock
from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.reports.status import SessionStatus

pytestmark = pytest.mark.anyio


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


@pytest.mark.parametrize("is_leased", [False, True])
async def test_that_the_first_attempt_reached_nobody_does_not_end_the_second(
    here: Engine, clock: ManualClock, is_leased: bool
) -> None:
    job = await ordered_again(here, clock)
    flights = await here.prepare() if is_leased else []
    await here.summarise(job, SessionStatus.BUSY, number=1)
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
