"""The rules of a call's life that are easy to miss, each shown by the engine on every backend."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.engine import LEASE, Engine
from tests.support.flows import flow
from tests.support.voices import ScriptedVoice, created, not_sent, refused, unknown
from voiceflow_worker import CallPolicy, JobState
from voiceflow_worker.backends.contract.clock import ManualClock
from voiceflow_worker.core.numbers.locks import NumberLocks
from voiceflow_worker.core.ports import Placement, Store
from voiceflow_worker.core.settling.settle import SummaryResult
from voiceflow_worker.errors import (
    IllegalMoveError,
    KeyConflictError,
    TooEarlyError,
    TooLateError,
)
from voiceflow_worker.model.jobs.gate import Gate
from voiceflow_worker.model.jobs.job import NoteKind, RedialPolicy
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import Hold, PostProgress, Verdict, VerdictKind

pytestmark = pytest.mark.anyio

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def voice() -> ScriptedVoice:
    return ScriptedVoice()


@pytest.fixture
def engine(store: Store, voice: ScriptedVoice) -> Engine:
    return Engine(store, voice)


class TestEvidenceIsNeverDropped:
    @pytest.mark.parametrize(
        ("verdict", "state"),
        [
            (created(), "submitted"),
            (refused(-1014), "failed"),
            (not_sent(), "queued"),
            (Verdict(kind=VerdictKind.TURNED_AWAY, message="429", http_status=429), "queued"),
        ],
    )
    async def test_the_answer_of_a_slow_post_settles_what_a_sweep_had_doubted(
        self, engine: Engine, clock: ManualClock, verdict: Verdict, state: str
    ) -> None:
        job = await engine.enqueue()
        (sending,) = await engine.journal()
        clock.advance(LEASE + SECOND)
        await engine.sweeper.sweep()
        assert await engine.state(job) == "in_doubt"

        await engine.settler.verdict(sending, 1, verdict)
        assert await engine.state(job) == state

    async def test_created_is_believed_after_a_person_said_that_nothing_was_placed(
        self, engine: Engine, voice: ScriptedVoice, clock: ManualClock
    ) -> None:
        voice.answers = [unknown()]
        job = await engine.enqueue()
        (doubted,) = await engine.send()
        clock.advance(5 * MINUTE)
        await engine.queue.resolve(job.id, placed=False, note="nothing in the portal")
        assert await engine.state(job) == "queued"

        await engine.settler.verdict(doubted, 1, created("late"))
        settled = await engine.queue.get(job.id)
        assert (settled.state, settled.session_id) == (JobState.SUBMITTED, "late")
        assert await engine.lease() == []

    async def test_a_created_that_comes_after_the_summary_only_adds_the_session(self, engine: Engine) -> None:
        job = await engine.enqueue()
        (sending,) = await engine.journal()
        assert await engine.summarise(job, SessionStatus.COMPLETED, session_id="s-9") is SummaryResult.SETTLED
        await engine.settler.verdict(sending, 1, created("s-9"))
        ended = await engine.queue.get(job.id)
        assert (ended.state, ended.session_id, ended.attempt) == (JobState.COMPLETED, "s-9", 1)

    async def test_a_verdict_that_loses_its_commit_is_merged_with_what_came_meanwhile(
        self, engine: Engine, clock: ManualClock
    ) -> None:
        job = await engine.enqueue()
        (sending,) = await engine.journal()
        clock.advance(LEASE + SECOND)
        await engine.sweeper.sweep()  # moves the job under the worker's hands
        await engine.settler.verdict(sending, 1, created("s-1"))
        await engine.settler.verdict(sending, 1, created("s-1"))
        assert (await engine.queue.get(job.id)).session_id == "s-1"


class TestSummaries:
    async def test_the_first_summary_of_a_post_wins(self, engine: Engine) -> None:
        job = await engine.enqueue()
        await engine.send()
        assert await engine.summarise(job, SessionStatus.COMPLETED) is SummaryResult.SETTLED
        assert await engine.summarise(job, SessionStatus.BUSY) is SummaryResult.REPEATED
        assert await engine.state(job) == "completed"

    async def test_a_repeated_busy_does_not_cancel_the_redial_that_it_granted(
        self, engine: Engine, clock: ManualClock
    ) -> None:
        job = await engine.enqueue(redial=RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=1, after=10 * MINUTE))
        await engine.send()
        await engine.summarise(job, SessionStatus.BUSY)
        for _ in range(3):
            assert await engine.summarise(job, SessionStatus.BUSY, number=1) is SummaryResult.REPEATED
        assert await engine.state(job) == "queued"
        clock.advance(10 * MINUTE)
        (again,) = await engine.send()
        assert (again.state, again.attempt) == (JobState.SUBMITTED, 2)
        await engine.summarise(job, SessionStatus.BUSY)
        assert await engine.state(job) == "unreached"

    async def test_a_summary_of_an_older_post_settles_a_queued_job(
        self, engine: Engine, voice: ScriptedVoice, clock: ManualClock
    ) -> None:
        voice.answers = [unknown()]
        job = await engine.enqueue()
        await engine.send()
        clock.advance(5 * MINUTE)
        await engine.queue.resolve(job.id, placed=False, note="not in the portal")
        await engine.summarise(job, SessionStatus.COMPLETED, number=1)
        assert await engine.state(job) == "completed"
        assert await engine.send() == []

    async def test_a_summary_of_an_older_post_while_a_newer_one_is_out_is_an_incident(
        self, engine: Engine, voice: ScriptedVoice, clock: ManualClock
    ) -> None:
        voice.answers = [unknown()]
        job = await engine.enqueue()
        await engine.send()
        clock.advance(5 * MINUTE)
        await engine.queue.resolve(job.id, placed=False, note="not in the portal")
        await engine.send()
        await engine.summarise(job, SessionStatus.COMPLETED, number=1)
        told = await engine.queue.get(job.id)
        assert told.state is JobState.SUBMITTED
        assert [note.kind for note in told.notes] == [NoteKind.RESOLVED, NoteKind.RANG_TWICE]

    @pytest.mark.parametrize("with_session_known", [True, False])
    async def test_a_summary_without_a_client_request_id_finds_its_job_by_session(
        self, engine: Engine, with_session_known: bool
    ) -> None:
        job = await engine.enqueue()
        (sending,) = await engine.journal()
        if with_session_known:
            await engine.settler.verdict(sending, 1, created("s-1"))
        result = await engine.summarise(job, session_id="s-1", with_client_request_id=False)
        assert result is (SummaryResult.SETTLED if with_session_known else SummaryResult.PARKED)
        if not with_session_known:
            await engine.settler.verdict(sending, 1, created("s-1"))
            await engine.sweeper.sweep()
        assert await engine.state(job) == "completed"

    async def test_a_parked_summary_that_a_dead_worker_never_looked_for_is_found_by_the_sweep(
        self, engine: Engine, store: Store, clock: ManualClock
    ) -> None:
        job = await engine.enqueue()
        (sent,) = await engine.send()
        await store.records.delete("session", {sent.session_id or "": None})
        result = await engine.summarise(job, session_id=sent.session_id, with_client_request_id=False)
        assert result is SummaryResult.PARKED
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
        await engine.store.jobs.delete(
            [await engine.queue.get(job.id)], keep_keys_until=datetime.max.replace(tzinfo=UTC)
        )
        settle = engine.settler
        from voiceflow_worker.model.reports.events import SessionSummary

        gone = SessionSummary(status=SessionStatus.BUSY, client_request_id=f"{job.id}.1", session_id="s")
        assert await settle.summary(gone) is SummaryResult.UNKNOWN
        foreign = SessionSummary(status=SessionStatus.BUSY, client_request_id="crm-4711", session_id="s")
        assert await settle.summary(foreign) is SummaryResult.UNKNOWN


class TestDoubt:
    async def test_time_alone_never_ends_a_doubt(
        self, engine: Engine, voice: ScriptedVoice, clock: ManualClock
    ) -> None:
        voice.answers = [unknown()]
        job = await engine.enqueue()
        await engine.send()
        for _ in range(40):
            clock.advance(timedelta(hours=1))
            await engine.sweeper.sweep()
            assert await engine.send() == []
        assert await engine.state(job) == "in_doubt"
        assert len(voice.placed) == 1

    async def test_not_placed_may_be_said_only_once_the_post_can_no_longer_ring(
        self, engine: Engine, voice: ScriptedVoice, clock: ManualClock
    ) -> None:
        voice.answers = [unknown()]
        job = await engine.enqueue()
        (doubted,) = await engine.send()
        carried = doubted.posts[0].valid_until
        until = carried + engine.policy.clock_skew
        with pytest.raises(TooEarlyError) as early:
            await engine.queue.resolve(job.id, placed=False, note="no", witnessed=until)
        assert early.value.until == until
        # A clock of ours that jumped ahead does not help: 8x8's own clock decides when it could be asked.
        clock.advance(timedelta(days=1))
        with pytest.raises(TooEarlyError):
            await engine.queue.resolve(job.id, placed=False, note="no", witnessed=carried)
        await engine.queue.resolve(job.id, placed=False, note="no", witnessed=until + SECOND)
        assert await engine.state(job) == "queued"

    async def test_a_person_who_says_placed_ends_it_and_a_late_summary_still_settles_it(
        self, engine: Engine, voice: ScriptedVoice
    ) -> None:
        voice.answers = [unknown()]
        job = await engine.enqueue()
        await engine.send()
        await engine.queue.resolve(job.id, placed=True, note="the customer confirmed it")
        assert await engine.state(job) == "accepted"
        await engine.summarise(job, SessionStatus.COMPLETED)
        assert await engine.state(job) == "completed"


class TestCancelAndRedial:
    async def test_a_queued_and_a_leased_job_can_be_taken_back(self, engine: Engine, voice: ScriptedVoice) -> None:
        queued, leased = await engine.enqueue("+6580000001"), await engine.enqueue("+6580000002")
        jobs = await engine.lease(1)
        await engine.queue.cancel(queued.id)
        await engine.queue.cancel(leased.id)
        for flight in await engine.submitter.prepare(jobs, leased_at=0):
            await engine.submitter.fly(flight)
        assert {await engine.state(queued), await engine.state(leased)} == {"cancelled"}
        assert voice.placed == []

    async def test_once_the_call_may_have_left_it_is_too_late(self, engine: Engine) -> None:
        job = await engine.enqueue()
        await engine.journal()
        with pytest.raises(TooLateError):
            await engine.queue.cancel(job.id)
        assert await engine.state(job) == "sending"

    async def test_a_job_with_an_outcome_becomes_unreached_not_cancelled_or_expired(
        self, engine: Engine, clock: ManualClock
    ) -> None:
        policy = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=3, after=10 * MINUTE)
        cancelled = await engine.enqueue("+6580000001", redial=policy)
        expired = await engine.enqueue("+6580000002", redial=policy, valid_for=11 * MINUTE)
        await engine.send()
        for job in (cancelled, expired):
            await engine.summarise(job, SessionStatus.BUSY)
        await engine.queue.cancel(cancelled.id)
        clock.advance(12 * MINUTE)
        await engine.sweeper.sweep()
        assert (await engine.state(cancelled), await engine.state(expired)) == ("unreached", "unreached")

    async def test_redial_refuses_what_is_open_and_asks_for_force_where_the_person_was_called(
        self, engine: Engine, voice: ScriptedVoice
    ) -> None:
        voice.answers = [unknown(), created()]
        doubted = await engine.enqueue("+6580000001")
        await engine.send()
        submitted = await engine.enqueue("+6580000002")
        await engine.send()
        for job in (doubted, submitted):
            with pytest.raises(IllegalMoveError):
                await engine.queue.redial(job.id, force=True)
        await engine.summarise(submitted, SessionStatus.COMPLETED)
        with pytest.raises(IllegalMoveError, match="force the redial"):
            await engine.queue.redial(submitted.id)
        await engine.queue.redial(submitted.id, force=True)
        (again,) = await engine.send()
        assert (again.attempt, again.post_count) == (2, 2)


class TestMissedWindows:
    async def test_a_missed_window_is_tried_again_three_times_at_most_and_is_not_an_attempt(
        self, engine: Engine, voice: ScriptedVoice, clock: ManualClock
    ) -> None:
        voice.answer = lambda _: refused(-1015)
        job = await engine.enqueue(valid_for=timedelta(hours=1))
        for _ in range(4):
            await engine.send()
            clock.advance(20 * SECOND)
        ended = await engine.queue.get(job.id)
        assert (ended.state, ended.attempt, len(voice.placed)) == (JobState.FAILED, 0, 4)
        assert "-1015" in (ended.reason or "")

    async def test_without_a_validity_of_its_own_a_missed_window_ends_the_job(
        self, engine: Engine, voice: ScriptedVoice
    ) -> None:
        voice.answers = [refused(-1015)]
        job = await engine.enqueue()
        await engine.send()
        ended = await engine.queue.get(job.id)
        assert (ended.state, ended.valid_until) == (JobState.EXPIRED, None)

    async def test_a_clock_that_is_off_holds_the_queue_and_says_so(
        self, engine: Engine, voice: ScriptedVoice, clock: ManualClock
    ) -> None:
        voice.answers = [
            Verdict(
                kind=VerdictKind.REFUSED,
                message="validity period has expired",
                code=-1015,
                http_status=400,
                server_date=clock.now() + timedelta(minutes=7),
            )
        ]
        await engine.enqueue(valid_for=timedelta(hours=1))
        await engine.send()
        (gate,) = (await engine.queue.status()).holds
        assert gate.until is None
        assert "7 min behind the clock of 8x8" in gate.reason
        clock.advance(MINUTE)
        assert await engine.send() == []

    async def test_a_summary_that_says_expired_puts_a_valid_job_back(self, engine: Engine, clock: ManualClock) -> None:
        job = await engine.enqueue(valid_for=timedelta(hours=1))
        await engine.send()
        await engine.summarise(job, SessionStatus.FAILED, code=-2007)
        waiting = await engine.queue.get(job.id)
        assert (waiting.state, waiting.attempt) == (JobState.QUEUED, 0)
        clock.advance(20 * SECOND)
        (again,) = await engine.send()
        assert (again.state, again.attempt) == (JobState.SUBMITTED, 1)

    async def test_the_wire_carries_the_earlier_of_validity_and_submit_window(
        self, engine: Engine, voice: ScriptedVoice, clock: ManualClock
    ) -> None:
        start = clock.now()
        await engine.enqueue("+6580000001", valid_for=30 * SECOND)
        await engine.enqueue("+6580000002")
        await engine.send()
        carried = {placement.valid_until - start for _, placement in voice.placed}
        assert carried == {30 * SECOND, engine.policy.submit_window}


class TestNothingLeft:
    async def test_a_live_worker_that_sent_nothing_gives_the_call_back(
        self, engine: Engine, voice: ScriptedVoice, clock: ManualClock
    ) -> None:
        voice.answers = [not_sent(), created()]
        await engine.enqueue()
        (waiting,) = await engine.send()
        assert (waiting.state, waiting.attempt, waiting.post_count) == (JobState.QUEUED, 0, 1)
        assert timedelta() < waiting.due_at - clock.now() <= SECOND
        clock.advance(SECOND)
        (sent,) = await engine.send()
        assert (sent.state, sent.attempt, sent.post_count) == (JobState.SUBMITTED, 1, 2)

    async def test_an_outage_of_hours_does_not_grow_the_record_without_end(
        self, engine: Engine, voice: ScriptedVoice, clock: ManualClock
    ) -> None:
        voice.answer = lambda _: not_sent()
        job = await engine.enqueue()
        for _ in range(40):
            await engine.send()
            clock.advance(11 * SECOND)
        waiting = await engine.queue.get(job.id)
        assert (waiting.post_count, len(waiting.posts), waiting.attempt) == (40, 10, 0)

    async def test_what_is_about_to_leave_when_a_hold_is_heard_of_stays(
        self, engine: Engine, voice: ScriptedVoice
    ) -> None:
        unauthorised = Verdict(
            kind=VerdictKind.TURNED_AWAY,
            message="401",
            http_status=401,
            hold=Hold(reason="8x8 answered 401: check the key", until_opened=True),
        )
        voice.answers = [unauthorised]
        first, second = await engine.enqueue("+6580000001"), await engine.enqueue("+6580000002")
        for flight in await engine.prepare():
            await engine.submitter.fly(flight)
        assert len(voice.placed) == 1
        assert {await engine.state(first), await engine.state(second)} == {"queued"}
        assert await engine.send() == []
        await engine.queue.resume()
        assert len(await engine.send()) >= 1

    async def test_a_voice_that_does_not_tell_how_far_it_came_leaves_a_doubt(self, store: Store) -> None:
        class Silent:
            async def place(self, placement: Placement, *, progress: PostProgress, now: datetime) -> Verdict:  # noqa: ARG002
                raise ConnectionError("somewhere on the way")

        engine = Engine(store, Silent())
        job = await engine.enqueue()
        await engine.send()
        assert await engine.state(job) == "in_doubt"

    async def test_a_job_that_was_deleted_while_its_call_was_out_stops_nobody(
        self, store: Store, clock: ManualClock
    ) -> None:
        class Deleting:
            async def place(self, placement: Placement, *, progress: PostProgress, now: datetime) -> Verdict:  # noqa: ARG002
                job_id = placement.client_request_id.rpartition(".")[0]
                await store.jobs.delete(
                    list((await store.jobs.get([job_id])).values()), keep_keys_until=clock.now() + MINUTE
                )
                return created()

        engine = Engine(store, Deleting())
        job = await engine.enqueue()
        for flight in await engine.prepare():
            await engine.submitter.fly(flight)
        assert await store.jobs.get([job.id]) == {}


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

    async def test_the_lock_ends_by_itself_when_no_summary_comes(
        self, store: Store, voice: ScriptedVoice, clock: ManualClock
    ) -> None:
        one, two = Engine(store, voice, queue="one"), Engine(store, voice, queue="two")
        await one.enqueue()
        await two.enqueue()
        await one.send()
        clock.advance(one.policy.submit_window + one.policy.ringing - SECOND)
        assert await two.send() == []
        clock.advance(5 * SECOND)
        assert len(await two.send()) == 1

    async def test_two_jobs_of_one_lease_to_one_number_go_one_after_the_other(
        self, engine: Engine, voice: ScriptedVoice
    ) -> None:
        await engine.enqueue(unique_key="a")
        await engine.enqueue(unique_key="b")
        assert len(await engine.send()) == 1
        assert len(voice.placed) == 1

    async def test_a_call_that_was_never_placed_gives_its_number_back_at_once(
        self, engine: Engine, voice: ScriptedVoice, clock: ManualClock
    ) -> None:
        voice.answers = [refused(-1014), created()]
        await engine.enqueue(unique_key="a")
        await engine.enqueue(unique_key="b")
        await engine.send()
        clock.advance(5 * SECOND)
        assert len(await engine.send()) == 1

    async def test_a_release_that_comes_late_does_not_take_the_lock_of_a_newer_post(
        self, store: Store, voice: ScriptedVoice, clock: ManualClock
    ) -> None:
        one, two = Engine(store, voice, queue="one"), Engine(store, voice, queue="two")
        voice.answers = [not_sent()]
        job = await one.enqueue()
        await two.enqueue()
        (waiting,) = await one.send()
        clock.advance(SECOND)
        await one.journal()  # its second POST is on its way
        await NumberLocks(store.records, one.policy).release_settled([waiting])
        assert await two.send() == []
        assert await one.state(job) == "sending"

    async def test_no_post_outlives_the_lock_of_its_number(
        self, store: Store, voice: ScriptedVoice, clock: ManualClock
    ) -> None:
        one, two = Engine(store, voice, queue="one"), Engine(store, voice, queue="two")
        await one.enqueue()
        await two.enqueue()
        (stalled,) = await one.prepare()
        clock.advance(one.policy.submit_window + one.policy.ringing + SECOND)
        assert len(await two.send()) == 1
        await one.submitter.fly(stalled)
        assert len(voice.placed) == 1


class TestSweep:
    async def test_what_is_past_its_validity_expires_behind_any_gate(self, engine: Engine, clock: ManualClock) -> None:
        job = await engine.enqueue(valid_for=MINUTE)
        await engine.queue.hold(reason="lunch")
        clock.advance(2 * MINUTE)
        assert (await engine.sweeper.sweep()).expired == 1
        assert (await engine.sweeper.sweep()).expired == 0
        assert await engine.state(job) == "expired"

    async def test_a_cancelled_batch_ends_its_queued_jobs_behind_a_held_queue(self, engine: Engine) -> None:
        inside, outside = (
            await engine.enqueue("+6580000001", batch_id="spring"),
            await engine.enqueue("+6580000002", batch_id="autumn"),
        )
        await engine.queue.hold(reason="lunch")
        assert await engine.queue.cancel_batch("spring") == 1
        assert (await engine.state(inside), await engine.state(outside)) == ("cancelled", "queued")

    async def test_a_cancelled_batch_counts_the_calls_that_a_worker_ends_at_the_same_time(
        self, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for place in range(3):
            await engine.enqueue(f"+658000000{place}", batch_id="spring")
        gate = engine.store.control.gate

        async def swept_at_once(ordered: Gate) -> Gate:
            kept = await gate(ordered)
            await engine.sweeper.sweep()
            return kept

        monkeypatch.setattr(engine.store.control, "gate", swept_at_once)
        assert await engine.queue.cancel_batch("spring") == 3

    async def test_a_lease_that_ended_is_queued_again_and_a_sending_that_ended_is_doubted(
        self, engine: Engine, clock: ManualClock
    ) -> None:
        sending = await engine.enqueue("+6580000001")
        await engine.journal()
        leased = await engine.enqueue("+6580000002")
        await engine.lease()
        clock.advance(LEASE)
        await engine.sweeper.sweep()
        assert (await engine.state(sending), await engine.state(leased)) == ("in_doubt", "queued")

    async def test_a_summary_that_never_comes_leaves_an_accepted_call(self, engine: Engine, clock: ManualClock) -> None:
        job = await engine.enqueue()
        await engine.send()
        clock.advance(engine.policy.summary_deadline)
        await engine.sweeper.sweep()
        assert await engine.state(job) == "accepted"
        await engine.summarise(job, SessionStatus.COMPLETED)
        assert await engine.state(job) == "completed"


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

    async def test_deleting_is_fenced_by_the_revision(self, engine: Engine, store: Store, clock: ManualClock) -> None:
        job = await engine.enqueue()
        stale = await engine.queue.get(job.id)
        await engine.send()
        forever = clock.now() + timedelta(days=400)
        assert list(await store.jobs.delete([stale], keep_keys_until=forever)) == [False]
        assert await engine.state(job) == "submitted"


async def test_without_webhooks_created_is_the_end(store: Store, voice: ScriptedVoice) -> None:
    from voiceflow_worker.model.jobs.policy import OutcomeSource

    engine = Engine(store, voice, policy=CallPolicy(outcomes=OutcomeSource.NONE))
    job = await engine.enqueue()
    await engine.send()
    assert await engine.state(job) == "accepted"
