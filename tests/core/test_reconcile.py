"""Calls in doubt against the log of 8x8: what binds, what does not, and who looks when."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

import anyio
import pytest

from tests.contract.samples import ManualClock, add_jobs
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import SOURCE
from tests.support.manual_time import time_passing
from tests.support.voices import ScriptedVoice, created, unknown
from tests.support.waiting import until
from voiceflow_worker import CallPolicy, Job, JobState, Worker, WorkerOptions
from voiceflow_worker.core.base.identity import QueueNames
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.ports import Clock, Store
from voiceflow_worker.core.settling.reconcile import EVERY, TIMEOUT, LogRequest, Reconciled, Reconciler
from voiceflow_worker.core.settling.settle import SummaryResult
from voiceflow_worker.core.suppression import number_digest
from voiceflow_worker.core.sweep import Sweeper
from voiceflow_worker.errors import CallLogError, CallLogUnavailableError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.call_log import ExportRow, LoggedCalls
from voiceflow_worker.model.jobs.job import RedialPolicy
from voiceflow_worker.model.reports.events import SessionSummary
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import VerdictKind

pytestmark = pytest.mark.anyio

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
ANA, BEN = "+6587654321", "+6587654322"
LONG_ENOUGH = 2 * MINUTE + CallPolicy().clock_skew + HOUR + CallPolicy().export_settle


@dataclass
class WrittenLog:
    """A log that a test writes. `meanwhile` happens while it is asked for."""

    clock: Clock
    rows: list[ExportRow] = field(default_factory=list)
    error: CallLogError | None = None
    fails_before: datetime | None = None
    meanwhile: Callable[[], object] | None = None
    asked: list[tuple[datetime, datetime]] = field(default_factory=list)

    async def logged_calls(self, *, since: datetime, until: datetime) -> LoggedCalls:
        self.asked.append((since, until))
        if self.error is not None:
            raise self.error
        if self.fails_before is not None and since < self.fails_before:
            raise CallLogError("no log is kept of that time")
        if self.meanwhile is not None:
            await self.meanwhile()  # type: ignore[misc]
        rows = [row for row in self.rows if row.initiated_at is None or since <= row.initiated_at <= until]
        return LoggedCalls(rows=rows, since=since, until=until)

    def write(
        self,
        session_id: str | None = "s-1",
        *,
        destination: str = ANA,
        source: str = SOURCE,
        status: SessionStatus | None = SessionStatus.COMPLETED,
        after: timedelta = SECOND,
    ) -> None:
        """A call that was dialled so long after now, as the row tells."""
        at = self.clock.now() + after
        text = status.value if status else "IN PROGRESS"
        self.rows.append(
            ExportRow(
                session_id=session_id,
                source=source,
                destination=destination,
                initiated_at=at,
                disconnected_at=at + 20 * SECOND,
                status=status,
                status_text=text,
            )
        )


@pytest.fixture
def voice() -> ScriptedVoice:
    return ScriptedVoice(answer=lambda _: unknown())


@pytest.fixture
def log(clock: ManualClock) -> WrittenLog:
    return WrittenLog(clock)


def reconciler(engine: Engine, log: WrittenLog, *, policy: CallPolicy | None = None) -> Reconciler:
    return Reconciler(engine.store, log, queue=engine.name, policy=policy or engine.policy)


async def look(engine: Engine, log: WrittenLog, *, policy: CallPolicy | None = None) -> Reconciled:
    return await reconciler(engine, log, policy=policy).everything()


async def a_doubt(engine: Engine, destination: str = ANA, *, redial: RedialPolicy | None = None) -> Job:
    job = await engine.enqueue(destination, redial=redial)
    await engine.send()
    doubt = await engine.queue.get(job.id)
    assert doubt.state is JobState.IN_DOUBT
    return doubt


OPEN = Reconciled(looked_at=1, open=1)
PLACED = Reconciled(looked_at=1, placed=1)


class TestWhatIsFound:
    async def test_the_only_session_that_fits_settles_a_doubt(
        self, engine: Engine, log: WrittenLog, clock: ManualClock
    ) -> None:
        job = await a_doubt(engine)
        log.write()
        clock.advance(5 * MINUTE)
        assert await look(engine, log) == PLACED
        ended = await engine.queue.get(job.id)
        assert (ended.state, ended.session_id, ended.attempt) == (JobState.COMPLETED, "s-1", 1)
        assert ended.posts[0].verdict is VerdictKind.PLACED
        assert ended.outcome is not None
        assert ended.outcome.seconds == 20

    async def test_a_call_that_still_goes_on_is_submitted(
        self, engine: Engine, log: WrittenLog, clock: ManualClock
    ) -> None:
        job = await a_doubt(engine)
        log.write(status=None)
        clock.advance(5 * MINUTE)
        assert await look(engine, log) == PLACED
        assert await engine.state(job) == "submitted"
        assert await engine.summarise(job, session_id="s-1", with_client_request_id=False) is SummaryResult.SETTLED
        assert await engine.state(job) == "completed"

    async def test_a_summary_that_names_another_batch_is_of_another_call(
        self, engine: Engine, log: WrittenLog, clock: ManualClock
    ) -> None:
        job = await a_doubt(engine)
        log.write(status=None)
        clock.advance(5 * MINUTE)
        assert (await look(engine, log)).placed == 1
        assert await engine.state(job) == "submitted"
        unnamed = partial(engine.summarise, job, session_id="s-1", with_client_request_id=False)
        assert await unnamed(batch="of another program") is SummaryResult.UNKNOWN
        assert await engine.state(job) == "in_doubt"

    async def test_its_redial_is_granted_and_has_a_row_of_its_own(
        self, engine: Engine, log: WrittenLog, clock: ManualClock
    ) -> None:
        job = await a_doubt(engine, redial=RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=1, after=10 * MINUTE))
        log.write("busy", status=SessionStatus.BUSY)
        clock.advance(5 * MINUTE)
        assert await look(engine, log) == PLACED
        assert await engine.state(job) == "queued"

        clock.advance(10 * MINUTE)
        (again,) = await engine.send()
        assert again.state is JobState.IN_DOUBT
        log.write("answered")
        clock.advance(5 * MINUTE)
        assert await look(engine, log) == PLACED
        ended = await engine.queue.get(job.id)
        assert [post.session_id for post in ended.posts] == ["busy", "answered"]
        assert (ended.state, ended.notes) == (JobState.COMPLETED, ())

    async def test_a_summary_that_waited_for_the_session_tells_more_than_the_row(
        self, engine: Engine, log: WrittenLog, clock: ManualClock
    ) -> None:
        job = await a_doubt(engine)
        log.write(status=SessionStatus.FAILED)
        summary = SessionSummary(
            session_id="s-1", status=SessionStatus.FAILED, error_code=-2004, error_message="no coverage"
        )
        assert await engine.settler.summary(summary) is SummaryResult.EARLY
        clock.advance(5 * MINUTE)
        assert await look(engine, log) == PLACED
        ended = await engine.queue.get(job.id)
        assert (ended.state, ended.reason) == (JobState.FAILED, "FAILED: no coverage")


async def test_the_work_at_one_time_is_bounded_however_many_summaries_are_overdue(
    engine: Engine, log: WrittenLog, clock: ManualClock
) -> None:
    first = await a_doubt(engine)
    (post,) = first.posts
    overdue = list[Job]()
    for place in range(1100):
        posts = (replace(post, client_request_id=f"default.{place:026d}.1", session_id=f"s{place}"),)
        job = replace(first, id=f"default.{place:026d}", state=JobState.SUBMITTED, due_at=clock.now(), posts=posts)
        overdue.append(replace(job, revision=f"r{place}", unique_key=f"k{place}"))
    await add_jobs(engine.store, overdue, now=clock.now())
    peaks = [0]

    async def counted(_: StoreCall) -> None:
        peaks.append(store.under_way)

    store = FaultyStore(engine.store, before=counted)
    looked = await Reconciler(store, log, queue=engine.name, policy=engine.policy).everything()
    assert looked.looked_at == 1101
    assert 0 < max(peaks) < 500


class TestWhatStaysOpen:
    async def test_no_row_leaves_it_in_doubt_for_ever(
        self, engine: Engine, log: WrittenLog, clock: ManualClock, voice: ScriptedVoice
    ) -> None:
        job = await a_doubt(engine)
        for wait in (MINUTE, 3 * HOUR, timedelta(days=3)):
            clock.advance(wait)
            assert await look(engine, log) == OPEN
            found = await engine.queue.get(job.id)
            assert found.state is JobState.IN_DOUBT
            assert (found.reason or "").startswith("no row found")
        assert await engine.send() == []
        assert len(voice.placed) == 1

    @pytest.mark.parametrize("later", [5 * MINUTE, timedelta(days=20)])  # session records are kept for seven days
    async def test_a_row_of_a_call_that_is_known_is_not_this_ones(
        self, engine: Engine, voice: ScriptedVoice, log: WrittenLog, clock: ManualClock, later: timedelta
    ) -> None:
        voice.answers = [created("of-the-first")]
        first = await engine.enqueue(ANA)
        await engine.send()
        log.write("of-the-first", after=5 * SECOND)
        await engine.summarise(first, session_id="of-the-first")
        await a_doubt(engine)
        clock.advance(later)
        assert await look(engine, log) == OPEN

    async def test_what_is_older_than_that_is_left_to_people(
        self, engine: Engine, log: WrittenLog, clock: ManualClock
    ) -> None:
        job = await a_doubt(engine)
        log.write()
        clock.advance(timedelta(days=30) - timedelta(seconds=1))
        assert await look(engine, log) == OPEN
        assert "the call is so old" in ((await engine.queue.get(job.id)).reason or "")

    async def test_two_sessions_that_fit_bind_nothing(
        self, engine: Engine, log: WrittenLog, clock: ManualClock
    ) -> None:
        await a_doubt(engine)
        log.write("s-1")
        log.write("s-2", after=MINUTE)
        clock.advance(5 * MINUTE)
        assert await look(engine, log) == OPEN

    async def test_a_row_with_two_possible_owners_binds_neither(
        self, engine: Engine, store: Store, voice: ScriptedVoice, log: WrittenLog, clock: ManualClock
    ) -> None:
        other = Engine(store, voice, queue="other")
        for name in ("default", "other"):
            await QueueNames(store).remember(name)
        mine = await a_doubt(engine)
        # Locks keep two calls to a number apart; here one was lost with its store.
        await text_records(store, "number").remove([number_digest(ANA, store_id=store.id)])
        theirs = await a_doubt(other)
        log.write()
        clock.advance(5 * MINUTE)
        assert await look(engine, log) == OPEN
        assert await look(other, log) == OPEN
        assert theirs.posts[0].client_request_id in ((await engine.queue.get(mine.id)).reason or "")

    async def test_the_second_owner_may_be_an_older_post_of_the_same_call(
        self, engine: Engine, log: WrittenLog, clock: ManualClock
    ) -> None:
        job = await a_doubt(engine)
        until = job.posts[0].valid_until
        clock.advance(until - clock.now() + 11 * SECOND)
        await engine.queue.resolve(job.id, placed=False, note="not in the portal")
        await engine.send()
        log.write(after=-5 * SECOND)
        clock.advance(5 * MINUTE)
        assert await look(engine, log) == OPEN

    @pytest.mark.parametrize("masked", [{"destination": "65876*****"}, {"source": "653******"}], ids=["to", "from"])
    async def test_a_masked_row_that_may_be_it_neither_binds_nor_lets_it_be_missing(
        self, engine: Engine, log: WrittenLog, clock: ManualClock, masked: dict[str, str]
    ) -> None:
        await a_doubt(engine)
        log.write(**masked)  # type: ignore[arg-type]
        clock.advance(LONG_ENOUGH + HOUR)
        assert await look(engine, log) == OPEN
        log.write("clear", after=-LONG_ENOUGH - HOUR + SECOND)
        assert await look(engine, log) == OPEN

    async def test_masked_rows_of_calls_that_are_known_do_not_matter(
        self, engine: Engine, voice: ScriptedVoice, log: WrittenLog, clock: ManualClock
    ) -> None:
        voice.answers = [created("of-ben")]
        await engine.enqueue(BEN)
        await engine.send()
        log.write("of-ben", destination="65876*****")
        await a_doubt(engine)
        log.write("of-ana")
        clock.advance(5 * MINUTE)
        assert await look(engine, log) == PLACED

    async def test_nothing_is_concluded_from_a_log_that_cannot_be_had(
        self, engine: Engine, log: WrittenLog, clock: ManualClock
    ) -> None:
        job = await a_doubt(engine)
        clock.advance(5 * MINUTE)
        log.error = CallLogUnavailableError("8x8 is away")
        with pytest.raises(CallLogUnavailableError):
            await look(engine, log)
        assert await engine.queue.get(job.id) == job


class TestSummariesThatNeverCame:
    @pytest.fixture
    async def overdue(self, engine: Engine, voice: ScriptedVoice, log: WrittenLog, clock: ManualClock) -> Job:
        voice.answers = [created("s-1")]
        job = await engine.enqueue(ANA)
        await engine.send()
        log.write("s-1", status=SessionStatus.NO_ANSWER)
        clock.advance(engine.policy.summary_deadline)
        return job

    async def test_the_log_tells_how_the_call_ended(self, engine: Engine, overdue: Job, log: WrittenLog) -> None:
        assert await look(engine, log) == PLACED
        assert await engine.state(overdue) == "unreached"

    async def test_a_batch_that_is_cancelled_beside_it_does_not_end_its_wait_for_the_log(
        self, engine: Engine, overdue: Job, log: WrittenLog
    ) -> None:
        await engine.enqueue(BEN, batch_id="april")
        assert await engine.queue.cancel_batch("april") == 1
        assert await engine.state(overdue) == "submitted"
        assert await look(engine, log) == PLACED
        assert await engine.state(overdue) == "unreached"

    async def test_its_session_is_enough_whatever_the_log_hides(
        self, engine: Engine, overdue: Job, log: WrittenLog
    ) -> None:
        later = log.rows[0].initiated_at or log.clock.now()
        log.rows = [replace(log.rows[0], source="653******", destination=None, initiated_at=later + 30 * MINUTE)]
        assert await look(engine, log) == PLACED
        assert await engine.state(overdue) == "unreached"

    @pytest.mark.parametrize("rows", ["none", "going on"])
    async def test_without_a_word_it_is_accepted(
        self, engine: Engine, overdue: Job, log: WrittenLog, rows: str
    ) -> None:
        log.rows = [] if rows == "none" else [replace(log.rows[0], status=None)]
        assert await look(engine, log) == PLACED
        assert await engine.state(overdue) == "accepted"

    async def test_a_call_that_went_on_while_the_log_was_asked_for_waits_for_its_next_summary(
        self, engine: Engine, voice: ScriptedVoice, log: WrittenLog, clock: ManualClock
    ) -> None:
        voice.answers = [created("s-1"), created("s-2")]
        job = await engine.enqueue(redial=RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=1, after=timedelta()))
        await engine.send()
        clock.advance(engine.policy.summary_deadline)

        async def goes_on() -> None:
            await engine.summarise(job, SessionStatus.BUSY, session_id="s-1")
            await engine.send()

        log.meanwhile = goes_on
        await look(engine, log)
        assert await engine.state(job) == "submitted"

    async def test_a_summary_that_waited_unseen_comes_first(
        self, engine: Engine, overdue: Job, log: WrittenLog
    ) -> None:
        busy = Outcome(status=SessionStatus.BUSY, status_text="BUSY", session_id="s-1")
        await reconciler(engine, log)._sessions.early.add({"s-1": busy})
        assert await look(engine, log) == Reconciled()
        assert (await engine.queue.get(overdue.id)).reason == "BUSY"
        assert log.asked == []

    async def test_the_sweep_leaves_it_to_the_log_for_a_while(
        self, engine: Engine, overdue: Job, store: Store, clock: ManualClock
    ) -> None:
        sweeper = Sweeper(store, queue=engine.name, policy=engine.policy, log_timeout=TIMEOUT)
        await sweeper.sweep()
        assert await engine.state(overdue) == "submitted"
        clock.advance(TIMEOUT)
        await sweeper.sweep()
        assert await engine.state(overdue) == "accepted"

    async def test_one_whose_deadline_lies_ahead_is_left_alone(
        self, engine: Engine, voice: ScriptedVoice, log: WrittenLog
    ) -> None:
        voice.answers = [created("s-1")]
        await engine.enqueue(ANA)
        await engine.send()
        assert await look(engine, log) == Reconciled()
        assert log.asked == []


class TestTurns:
    async def test_all_that_is_due_is_looked_for_in_one_log(
        self, engine: Engine, log: WrittenLog, clock: ManualClock
    ) -> None:
        await a_doubt(engine, ANA)
        clock.advance(MINUTE)
        await a_doubt(engine, BEN)
        log.write(destination=BEN)
        clock.advance(MINUTE)
        assert await reconciler(engine, log).due() == Reconciled(looked_at=2, placed=1, open=1)
        ((since, until),) = log.asked
        assert since < clock.now() - 2 * MINUTE
        assert until == clock.now()

    async def test_the_workers_of_a_queue_share_their_turns(
        self, engine: Engine, log: WrittenLog, clock: ManualClock
    ) -> None:
        first, second = reconciler(engine, log), reconciler(engine, log)
        await a_doubt(engine)
        clock.advance(MINUTE)
        assert await first.due() == OPEN
        clock.advance(EVERY - SECOND)
        await a_doubt(engine, BEN)
        assert await second.due() == Reconciled()
        clock.advance(MINUTE)
        assert await second.due() == Reconciled(looked_at=2, open=2)
        assert len(log.asked) == 2

    async def test_workers_that_look_at_the_same_moment_ask_for_one_log(
        self, engine: Engine, log: WrittenLog, clock: ManualClock
    ) -> None:
        await a_doubt(engine)
        clock.advance(MINUTE)
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(reconciler(engine, log).due)
        assert len(log.asked) == 1

    async def test_a_time_of_which_there_is_no_log_keeps_no_other_waiting(
        self, engine: Engine, log: WrittenLog, clock: ManualClock
    ) -> None:
        old = await a_doubt(engine, ANA)
        clock.advance(5 * HOUR)
        new = await a_doubt(engine, BEN)
        log.write(destination=BEN)
        clock.advance(10 * MINUTE)
        log.fails_before = clock.now() - 2 * HOUR
        looking = reconciler(engine, log)
        for _ in range(2):
            with contextlib.suppress(CallLogError):
                await looking.due()
            clock.advance(EVERY)
        assert await engine.queue.get(old.id) == old
        assert await engine.state(new) == "completed"

    async def test_a_log_that_fails_is_not_asked_for_in_a_loop(
        self, engine: Engine, log: WrittenLog, clock: ManualClock
    ) -> None:
        await a_doubt(engine)
        clock.advance(MINUTE)
        log.error = CallLogError("the export failed")
        with pytest.raises(CallLogError):
            await reconciler(engine, log).due()
        assert await reconciler(engine, log).due() == Reconciled()
        clock.advance(EVERY)
        log.error = None
        assert await reconciler(engine, log).due() == OPEN

    async def test_who_asks_for_everything_hears_what_is_asked_for(
        self, engine: Engine, log: WrittenLog, clock: ManualClock
    ) -> None:
        await a_doubt(engine, ANA)
        clock.advance(5 * HOUR)
        await a_doubt(engine, BEN)
        heard: list[LogRequest] = []
        assert await reconciler(engine, log).everything(on_request=heard.append) == Reconciled(looked_at=2, open=2)
        assert [(look.number, look.count, look.calls) for look in heard] == [(1, 2, 1), (2, 2, 1)]
        assert [(look.asked.since, look.asked.until) for look in heard] == log.asked

    async def test_a_sweep_beside_it_leaves_doubts_alone(
        self, engine: Engine, store: Store, clock: ManualClock
    ) -> None:
        job = await a_doubt(engine)
        clock.advance(HOUR)
        await Sweeper(store, queue=engine.name, policy=engine.policy, log_timeout=TIMEOUT).sweep()
        assert (await engine.queue.get(job.id)).due_at == job.due_at


class TestWorkers:
    """The worker's own loop, on the clock of the test: it sleeps until the test lets time pass."""

    @pytest.fixture
    def worker(self, store: Store, voice: ScriptedVoice, log: WrittenLog) -> Worker:
        policy = CallPolicy(first_check=SECOND)
        return Worker(store, voice, rate=None, options=WorkerOptions(policy=policy), call_log=log)

    async def passing(self, clock: ManualClock, condition: Callable[[], bool]) -> None:
        """Let time pass, second by second, whenever everybody sleeps."""
        async with time_passing(clock, step=SECOND):
            await until(condition)

    async def state(self, engine: Engine, job: Job, state: str) -> None:
        """Wait until a job is in a state."""

        async def is_reached() -> bool:
            return await engine.state(job) == state

        await until(is_reached)

    async def test_a_worker_with_a_log_settles_doubts(
        self, engine: Engine, worker: Worker, log: WrittenLog, clock: ManualClock
    ) -> None:
        job = await a_doubt(engine)
        log.write()
        async with anyio.create_task_group() as group:
            group.start_soon(worker.run)
            await self.passing(clock, lambda: bool(log.asked))
            await self.state(engine, job, "completed")
            worker.stop()

    async def test_a_log_that_fails_keeps_no_call_from_being_sent(
        self, engine: Engine, worker: Worker, log: WrittenLog, clock: ManualClock, voice: ScriptedVoice
    ) -> None:
        await a_doubt(engine)
        log.error = CallLogError("the export failed")
        async with anyio.create_task_group() as group:
            group.start_soon(worker.run)
            await self.passing(clock, lambda: bool(log.asked))
            voice.answers = [created("s-2")]
            sent = await engine.enqueue(BEN)
            await self.passing(clock, lambda: len(voice.placed) == 2)
            await self.state(engine, sent, "submitted")
            worker.stop()

    async def test_its_queue_is_known_to_those_who_look_for_other_owners(self, worker: Worker, store: Store) -> None:
        await worker.drain()
        assert await QueueNames(store).known() == ["default"]


@pytest.mark.parametrize(("called", "state"), [(ANA, "completed"), (ANA[1:], "completed"), (BEN, "accepted")])
async def test_a_row_of_a_known_session_settles_only_a_call_to_its_number(
    engine: Engine, voice: ScriptedVoice, log: WrittenLog, called: str, state: str
) -> None:
    """An answer that was left over on its connection gives a call the session of another."""
    voice.answer = lambda _: created("s-1")
    log.write(destination=called)
    job = await engine.enqueue(ANA)
    await engine.send()
    assert isinstance(log.clock, ManualClock)
    log.clock.advance(engine.policy.summary_deadline + HOUR)
    await look(engine, log)
    assert await engine.state(job) == state


async def test_a_worker_finds_a_call_whose_summary_was_lost_as_soon_as_the_log_can_have_it(
    engine: Engine, voice: ScriptedVoice, log: WrittenLog, clock: ManualClock
) -> None:
    """One that goes on is looked for at doubling intervals, and settled by the log when it has ended."""
    voice.answer = lambda placement: created(f"session-{placement.client_request_id}")
    ended, talking = [await engine.enqueue(f"+658765432{place}") for place in range(2)]
    await engine.send()
    log.write(f"session-{ended.id}.1", destination=ended.destination)
    assert await reconciler(engine, log).due() == Reconciled(), "the phone may still ring"
    asked = 0
    for minute in range(3, 34, 3):
        clock.advance(3 * MINUTE)
        found = await reconciler(engine, log).due()
        asked += bool(found.looked_at)
        assert await engine.state(ended) == "completed", f"after {minute} minutes"
    assert await engine.state(talking) == "submitted"
    assert asked <= 8
    log.write(f"session-{talking.id}.1", destination=talking.destination)
    while await engine.state(talking) == "submitted":
        clock.advance(3 * MINUTE)
        await reconciler(engine, log).due()
    assert await engine.state(talking) == "completed"


async def test_calls_whose_summary_is_not_due_are_looked_for_when_asked_and_wait_on_if_the_log_has_no_end_of_them(
    engine: Engine, voice: ScriptedVoice, log: WrittenLog, clock: ManualClock
) -> None:
    voice.answer = lambda placement: created(f"session-{placement.client_request_id}")
    ended, missing, ringing = [await engine.enqueue(f"+658765432{place}") for place in range(3)]
    await engine.send()
    log.write(f"session-{ended.id}.1", destination=ended.destination)
    log.write(f"session-{ringing.id}.1", destination=ringing.destination, status=None)
    clock.advance(5 * MINUTE)
    assert await reconciler(engine, log).everything() == Reconciled()
    found = await reconciler(engine, log).everything(submitted=True)
    assert found == Reconciled(looked_at=3, placed=1, open=2)
    assert [await engine.state(job) for job in (ended, missing, ringing)] == ["completed", "submitted", "submitted"]
    await engine.summarise(missing, SessionStatus.BUSY)
    assert await engine.state(missing) == "unreached"
