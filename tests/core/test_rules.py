"""The rules of a call's life that are easy to miss, each shown by the engine on every backend."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from tests.contract.samples import ManualClock, delete
from tests.support.engine import Engine
from tests.support.flows import flow
from tests.support.voices import ScriptedVoice, created, turned_away, unknown
from voiceflow_worker import Job, JobState, SuppressionList
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.gates import order_gate
from voiceflow_worker.core.ports import Placement, Store
from voiceflow_worker.core.progress import CallProgress
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.core.settling.settle import SummaryResult
from voiceflow_worker.errors import (
    KeyConflictError,
)
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.evidence import with_press
from voiceflow_worker.model.jobs.gate import Gate
from voiceflow_worker.model.jobs.job import KeyPress
from voiceflow_worker.model.reports.events import CallAction, CallStatus, SessionSummary
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import BeforeFirstByte, Verdict

pytestmark = pytest.mark.anyio


SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


class TestSummaries:
    async def test_a_parked_summary_that_a_dead_worker_never_looked_for_is_found_by_the_sweep(
        self, engine: Engine, store: Store, clock: ManualClock
    ) -> None:
        job = await engine.enqueue()
        (sent,) = await engine.send()
        await text_records(store, "session").remove([sent.session_id or ""])
        result = await engine.summarise(job, session_id=sent.session_id, with_client_request_id=False)
        assert result is SummaryResult.EARLY
        clock.advance(engine.policy.summary_deadline)
        await engine.sweeper.sweep()
        assert await engine.state(job) == "completed"

    async def test_an_unknown_status_proves_that_the_call_was_placed_and_waits_for_a_clear_one(
        self, engine: Engine, voice: ScriptedVoice
    ) -> None:
        voice.answers = [unknown()]
        job = await engine.enqueue()
        await engine.send()
        assert await engine.summarise(job, None) is SummaryResult.INCONCLUSIVE
        assert await engine.state(job) == "submitted"
        await engine.summarise(job, SessionStatus.NO_ANSWER)
        assert await engine.state(job) == "unreached"

    async def test_a_summary_of_a_stranger_is_unknown_and_changes_nothing(self, engine: Engine) -> None:
        job = await engine.enqueue()
        await engine.send()
        await delete(engine.store, [await engine.queue.get(job.id)], keep_keys_until=datetime.max.replace(tzinfo=UTC))
        for client_request_id, session_id in ((f"{job.id}.1", "s"), ("crm-4711", "s"), (None, None)):
            stranger = SessionSummary(
                status=SessionStatus.BUSY, client_request_id=client_request_id, session_id=session_id
            )
            assert await engine.settler.summary(stranger) is SummaryResult.UNKNOWN


class TestNothingLeft:
    @pytest.mark.parametrize("is_journalled", [False, True])
    async def test_what_is_about_to_leave_when_a_hold_is_heard_of_stays(
        self, engine: Engine, voice: ScriptedVoice, clock: ManualClock, is_journalled: bool
    ) -> None:
        unauthorised = turned_away(401, "8x8 answered 401: check the key", until_opened=True)
        voice.answers = [unauthorised]
        first, second = await engine.enqueue("+6580000001"), await engine.enqueue("+6580000002")
        dispatches = await engine.prepare()
        for dispatch in await engine.begin(dispatches) if is_journalled else dispatches:
            await engine.finish(dispatch)
        assert len(voice.placed) == 1
        assert {await engine.state(first), await engine.state(second)} == {"queued"}
        assert await engine.send() == []
        await engine.queue.resume()
        clock.advance(SECOND)
        assert len(await engine.send()) >= 1

    async def test_a_job_that_was_deleted_while_its_call_was_out_stops_nobody(
        self, store: Store, clock: ManualClock
    ) -> None:
        class Deleting:
            async def place(self, placement: Placement, *, before_first_byte: BeforeFirstByte) -> Verdict:
                await before_first_byte()
                job_id = placement.client_request_id.rpartition(".")[0]
                await delete(
                    store, list((await get_jobs(store, [job_id])).values()), keep_keys_until=clock.now() + MINUTE
                )
                return created()

        engine = Engine(store, Deleting())
        job = await engine.enqueue()
        for dispatch in await engine.prepare():
            await engine.finish(dispatch)
        assert await get_jobs(store, [job.id]) == {}


class TestOneCallPerNumber:
    async def test_a_second_job_to_a_number_waits_until_the_first_call_is_over_across_queues(
        self, store: Store, voice: ScriptedVoice, clock: ManualClock
    ) -> None:
        one, two = Engine(store, voice, queue="one"), Engine(store, voice, queue="two")
        first, second = await one.enqueue(), await two.enqueue()
        await one.send()
        assert await two.send() == []
        assert "number is busy" in ((await two.queue.get(second.id)).reason or "")
        await one.summarise(first, SessionStatus.COMPLETED)
        clock.advance(5 * SECOND)
        assert [job.id for job in await two.send()] == [second.id]

    async def test_a_doubt_that_is_found_late_keeps_its_number_though_its_own_validity_was_short(
        self, store: Store, voice: ScriptedVoice, clock: ManualClock
    ) -> None:
        """The clock of 8x8, which ends the validity, may be behind."""
        one, two = Engine(store, voice, queue="one"), Engine(store, voice, queue="two")
        job = await one.enqueue(valid_for=10 * SECOND)
        await one.journal()
        clock.advance(11 * SECOND + one.policy.ringing)
        assert await one.sweeper.sweep() == 1, "the calls that are newly in doubt"
        assert await one.state(job) == "in_doubt"
        await two.enqueue()
        assert await two.send() == []

    async def test_no_post_outlives_the_lock_of_its_number(
        self, store: Store, voice: ScriptedVoice, clock: ManualClock
    ) -> None:
        one, two = Engine(store, voice, queue="one"), Engine(store, voice, queue="two")
        await one.enqueue()
        await two.enqueue()
        (stalled,) = await one.prepare()
        clock.advance(one.policy.submit_window + one.policy.ringing + SECOND)
        assert len(await two.send()) == 1
        await one.finish(stalled)
        assert len(voice.placed) == 1


class TestSweep:
    async def test_what_is_past_its_validity_expires_behind_any_gate(self, engine: Engine, clock: ManualClock) -> None:
        job = await engine.enqueue(valid_for=MINUTE)
        await engine.queue.hold(reason="lunch")
        clock.advance(2 * MINUTE)
        await engine.sweeper.sweep()
        assert await engine.state(job) == "expired"
        ended = await engine.queue.get(job.id)
        await engine.sweeper.sweep()
        assert await engine.queue.get(job.id) == ended

    async def test_a_cancelled_batch_counts_the_calls_that_a_worker_ends_at_the_same_time(
        self, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for place in range(3):
            await engine.enqueue(f"+658000000{place}", batch="spring")

        async def swept_at_once(store: Store, ordered: Gate, **how: Any) -> Gate:
            kept = await order_gate(store, ordered, **how)
            await engine.sweeper.sweep()
            return kept

        monkeypatch.setattr("voiceflow_worker.queue.order_gate", swept_at_once)
        assert await engine.queue.cancel_batch("spring") == 3


class TestPruning:
    async def test_a_key_outlives_its_job_and_another_body_under_it_is_a_conflict(
        self, engine: Engine, clock: ManualClock
    ) -> None:
        job = await engine.enqueue(unique_key="order-42")
        await engine.send()
        await engine.summarise(job, SessionStatus.COMPLETED)
        clock.advance(engine.policy.retention)
        assert await engine.sweeper.prune() == 1
        again = await engine.enqueue(unique_key="order-42")
        assert (again.id, again.state) == (job.id, JobState.COMPLETED)
        with pytest.raises(KeyConflictError) as conflict:
            await engine.queue.enqueue(flow(text="Another text."), unique_key="order-42")
        assert conflict.value.conflicts[0].owner_id == job.id
        clock.advance(engine.policy.key_retention)
        await engine.sweeper.prune()
        assert (await engine.enqueue(unique_key="order-42")).id != job.id


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
    dispatches = await here.prepare() if is_leased else []
    await here.summarise(job, SessionStatus.BUSY, number=1)
    waiting = await here.queue.get(job.id)
    assert waiting.state is (JobState.LEASED if is_leased else JobState.QUEUED)
    assert waiting.posts[0].outcome is not None
    if is_leased:
        # Its worker has lost the job as it knew it: the lease ends, and the job is sent after that.
        await here.finish(dispatches[0])
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


async def test_a_call_that_found_no_free_line_waits_and_is_sent_again_unless_its_phone_rang(
    any_store: Store, voice: ScriptedVoice, clock: ManualClock
) -> None:
    engine, progress = Engine(any_store, voice), CallProgress(any_store)
    cases: dict[str, CallStatus | CallAction | None] = {
        "nothing": None,
        "initiated": CallStatus(call_status="CALL_INITIATED", sip_code=200),
        "the network": CallStatus(call_status="CALL_DISCONNECTED", sip_code=503, duration=timedelta()),
        "connected": CallStatus(call_status="CALL_CONNECTED"),
        "ringing": CallStatus(call_status="CALL_INITIATED", sip_code=180),
        "declined": CallStatus(call_status="CALL_DISCONNECTED", sip_code=603),
        "talked": CallStatus(call_status="CALL_DISCONNECTED", duration=timedelta(seconds=3)),
        "something new": CallStatus(call_status="CALL_SOMETHING"),
        "an action": CallAction(dtmf=None),
        "a key": CallAction(dtmf="1"),
    }
    jobs = {name: await engine.enqueue(f"+65876543{place:02}", valid_for=HOUR) for place, name in enumerate(cases)}
    assert len(await engine.send()) == len(cases)
    for name, job in jobs.items():
        await engine.summarise(job, SessionStatus.FAILED, code=-2010)
        assert await engine.state(job) == "queued", name
    for name, event in cases.items():  # they come after the summary
        session = f"session-{jobs[name].id}.1"
        match event:
            case CallStatus():
                await progress.status(replace(event, session_id=session))
            case CallAction(dtmf=None):
                await progress.action(replace(event, session_id=session))
            case CallAction():  # as a menu stores it
                press = KeyPress(at=clock.now(), menu="ask", digits="1")
                add = partial(with_press, number=1, press=press)
                await Changes(any_store, engine.policy).change(jobs[name].id, add)
            case None:
                pass
    clock.advance(timedelta(minutes=1))
    sent = {job.id for job in await engine.send()}
    for name, job in jobs.items():
        is_sent = name in {"nothing", "initiated", "the network"}
        assert (job.id in sent, await engine.state(job)) == (is_sent, "submitted" if is_sent else "failed"), name
    session = f"session-{jobs['nothing'].id}.2"
    await progress.status(CallStatus(session_id=session, call_status="CALL_CONNECTED"))  # before the summary
    await engine.summarise(jobs["nothing"], SessionStatus.FAILED, code=-2010)
    assert await engine.state(jobs["nothing"]) == "failed"
