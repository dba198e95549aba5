"""Calls in doubt against the log of 8x8: what binds, what does not, and who looks when."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import anyio
import pytest

from tests.contract.samples import ManualClock, add_jobs
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import SOURCE, number
from tests.support.voices import ScriptedVoice, created, unknown
from voiceflow_worker import CallPolicy, Job, JobState, Worker, WorkerOptions
from voiceflow_worker.core.base.identity import QueueNames
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.gates import order_gate
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import BACKUP, MADE
from voiceflow_worker.core.ports.store import BulkWrite, Put, Write
from voiceflow_worker.core.settling.reconcile import EVERY, TIMEOUT, LogRequest, Reconciled, Reconciler
from voiceflow_worker.core.settling.settle import SummaryResult
from voiceflow_worker.core.suppression import number_digest
from voiceflow_worker.core.sweep import Sweeper
from voiceflow_worker.errors import CallLogError, CallLogUnavailableError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.call_json import result_of
from voiceflow_worker.model.jobs.call_log import ExportRow, LoggedCalls
from voiceflow_worker.model.jobs.gate import Gate, GateKind, GateState
from voiceflow_worker.model.jobs.job import RedialPolicy
from voiceflow_worker.model.reports.events import SessionSummary
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import VerdictKind

pytestmark = pytest.mark.anyio

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ANA, BEN = "+6587654321", "+6587654322"
LONG_ENOUGH = 2 * MINUTE + CallPolicy().clock_skew + HOUR + CallPolicy().export_settle
OPEN, PLACED, NOTHING = Reconciled(looked_at=1, open=1), Reconciled(looked_at=1, placed=1), Reconciled()
S = SessionStatus


def on_busy(after: timedelta) -> RedialPolicy:
    return RedialPolicy(on=frozenset({S.BUSY}), limit=1, after=after)


@dataclass
class WrittenLog:
    """A log that a test writes. `meanwhile` happens while it is asked for."""

    rows: list[ExportRow] = field(default_factory=list)
    error: CallLogError | None = None
    fails_before: datetime | None = None
    meanwhile: Callable[[], Awaitable[object]] | None = None
    asked: list[tuple[datetime, datetime]] = field(default_factory=list)

    async def logged_calls(self, *, since: datetime, until: datetime) -> LoggedCalls:
        self.asked.append((since, until))
        if self.error is not None:
            raise self.error
        if self.fails_before is not None and since < self.fails_before:
            raise CallLogError("no log is kept of that time")
        if self.meanwhile is not None:
            await self.meanwhile()
        rows = [row for row in self.rows if row.initiated_at is None or since <= row.initiated_at <= until]
        return LoggedCalls(rows=rows, since=since, until=until)


class Desk:
    """A queue of calls, the log of 8x8, and those who look for the calls in it."""

    def __init__(self, store: Store, clock: ManualClock, *, queue: str = "default") -> None:
        self.store, self.clock, self.log = store, clock, WrittenLog()
        self.voice = ScriptedVoice(answer=lambda _: unknown())
        self.engine = Engine(store, self.voice, queue=queue)
        self.queue = self.engine.queue

    async def doubt(self, destination: str = ANA, **options: Any) -> Job:
        """A call whose POST had no answer."""
        job = await self.queue.get((await self.sent(destination, **options)).id)
        assert job.state is JobState.IN_DOUBT
        return job

    async def sent(self, destination: str = ANA, *, session: str | None = None, **options: Any) -> Job:
        """A call that was sent; with a session, 8x8 has named it."""
        self.voice.answers = [created(session)] if session else []
        job = await self.engine.enqueue(destination, **options)
        await self.engine.send()
        return job

    async def ended(self, destination: str = ANA, **options: Any) -> Job:
        """A call whose summary came."""
        job = await self.sent(destination, session=f"of {destination}", **options)
        await self.engine.summarise(job, session_id=f"of {destination}")
        return await self.queue.get(job.id)

    def write(
        self,
        session_id: str | None = "s-1",
        *,
        destination: str | None = ANA,
        status: SessionStatus | None = S.COMPLETED,
        after: timedelta = SECOND,
        **fields: Any,
    ) -> None:
        """A row of a call that was dialled so long after now."""
        at = self.clock.now() + after
        given: dict[str, Any] = {"source": SOURCE, "disconnected_at": at + 20 * SECOND, **fields}
        text = status.value if status else "IN PROGRESS"
        self.log.rows.append(
            ExportRow(
                session_id=session_id, destination=destination, initiated_at=at, status=status, status_text=text,
                **given,
            )
        )  # fmt: skip

    def looks(self) -> Reconciler:
        return Reconciler(self.store, self.log, queue=self.engine.name, policy=self.engine.policy)

    async def look(self, after: timedelta = timedelta()) -> Reconciled:
        self.clock.advance(after)
        return await self.looks().everything()

    async def states(self, *jobs: Job) -> list[str]:
        return [await self.engine.state(job) for job in jobs]


@pytest.fixture
def desk(store: Store, clock: ManualClock) -> Desk:
    return Desk(store, clock)


async def held_as_put_back(store: Store) -> None:
    now, kinds = store.clock.now(), frozenset({GateKind.MAY_LACK})
    await order_gate(store, Gate.of("default", None, GateState.HELD, since=now, reason="put back", kinds=kinds))


async def test_queued_calls_that_only_the_log_shows_after_a_restore_are_in_doubt_and_wait_for_a_person(
    any_store: Store, clock: ManualClock
) -> None:
    """Between the copy and the hold; also those of another number of the person, leased ones and redials."""
    desk = Desk(any_store, clock)
    redial = RedialPolicy(on=frozenset({S.BUSY}), limit=1, after=9 * HOUR)
    again = await desk.sent(number(5), session="known", redial=redial)
    desk.write("known", destination=number(5), after=timedelta())
    await desk.engine.summarise(again, status=S.BUSY, session_id="known")
    queued = [await desk.engine.enqueue(each) for each in (ANA, BEN)]
    two = await desk.engine.enqueue(number(1), further_numbers=[number(2)])
    other_source = await desk.engine.enqueue(number(3))
    made = Put(BACKUP, MADE, str(round(clock.now().timestamp() * 1e6)), None)
    await any_store.write(BulkWrite(writes=(Write(puts=(made,)),)), now=clock.now())
    clock.advance(HOUR)
    for each in (ANA, number(2), number(5)):
        desk.write(f"s-{each}", destination=each, after=-10 * MINUTE)
    desk.write("s-3", destination=number(3), source="+6599999999", after=-10 * MINUTE)
    desk.write(None, destination=None, after=-10 * MINUTE)
    assert await desk.look() == NOTHING, "a store that was not put back"
    await held_as_put_back(any_store)
    clock.advance(SECOND)
    later = await desk.engine.enqueue(number(4))
    desk.write("s-4", destination=number(4), after=timedelta())
    await any_store.lease("default", worker_id="w", limit=9, until=clock.now() + MINUTE, now=clock.now())
    assert await desk.look() == Reconciled(looked_at=3, open=3, queued_in_log=3, queued_not_in_log=2)
    assert await desk.states(queued[0], two, again) == ["in_doubt"] * 3
    assert set(await desk.states(queued[1], other_source, later)) <= {"queued", "leased"}
    post = (await desk.queue.get(two.id)).posts[-1]
    assert (post.number, post.place, post.began_at) == (1, 1, clock.now() - SECOND - 10 * MINUTE)
    assert post.valid_until == post.began_at + CallPolicy().submit_window
    assert f"session s-{number(2)}" in ((await desk.queue.get(two.id)).reason or "")
    assert len((await desk.queue.get(again.id)).posts) == 2
    await desk.looks().due()
    assert await desk.look(HOUR) == Reconciled(looked_at=3, open=3, queued_not_in_log=2), "a person decides"
    await desk.queue.resolve(two.id, placed=True, note="seen")
    assert await desk.look() == Reconciled(looked_at=2, open=2, queued_not_in_log=2)


async def test_without_a_mark_the_last_event_of_the_copy_is_when_it_was_made(desk: Desk) -> None:
    await desk.ended(BEN)
    job = await desk.engine.enqueue(ANA)
    desk.clock.advance(6 * HOUR)
    desk.write("before the copy", after=-6 * HOUR - 3 * HOUR)
    await held_as_put_back(desk.store)
    assert await desk.look() == Reconciled(queued_not_in_log=1)
    assert desk.log.asked[0][0] > desk.clock.now() - 8 * HOUR
    desk.write("after the copy", after=-HOUR)
    assert (await desk.look()).queued_in_log == 1
    assert await desk.states(job) == ["in_doubt"]


Rows = list[dict[str, Any]]
DOUBTS: dict[str, tuple[Rows, timedelta, Reconciled, str]] = {
    "the only session that fits": ([{}], 5 * MINUTE, PLACED, ""),
    "no row": ([], MINUTE, OPEN, "no row found"),
    "no row after hours": ([], 3 * HOUR, OPEN, "no row found"),
    "no row after days": ([], 3 * DAY, OPEN, "no row found"),
    "a row that is too old": ([{}], 30 * DAY - SECOND, OPEN, "the call is so old"),
    "two sessions that fit": ([{}, {"session_id": "s-2", "after": MINUTE}], 5 * MINUTE, OPEN, ""),
    "a masked row": ([{"destination": "65876*****"}], LONG_ENOUGH + HOUR, OPEN, ""),
    "a masked source": ([{"source": "653******"}], LONG_ENOUGH + HOUR, OPEN, ""),
    "a masked row beside one that fits": ([{"destination": "65876*****"}, {"session_id": "s-2"}], HOUR, OPEN, ""),
}
"""The rows of the log, the time until somebody looks, what is found, and how the reason of a call in doubt begins."""


@pytest.mark.parametrize("what", DOUBTS)
async def test_a_doubt_is_bound_by_the_only_session_that_fits_and_by_nothing_else(desk: Desk, what: str) -> None:
    rows, after, found, reason = DOUBTS[what]
    job = await desk.doubt()
    for row in rows:
        desk.write(**row)
    for _ in range(2 if found is OPEN else 1):
        assert await desk.look(after) == found
        after = timedelta()
    after_all = await desk.queue.get(job.id)
    if found is PLACED:
        assert (after_all.state, after_all.session_id, after_all.attempt) == (JobState.COMPLETED, "s-1", 1)
        assert after_all.posts[0].verdict is VerdictKind.PLACED
        assert after_all.outcome is not None
        assert after_all.outcome.seconds == 20
    else:
        assert after_all.state is JobState.IN_DOUBT
        assert reason in (after_all.reason or "")
        assert await desk.engine.send() == []
        assert len(desk.voice.placed) == 1


@pytest.mark.parametrize(("batch", "result", "state"), [
    (None, SummaryResult.SETTLED, "completed"), ("of another program", SummaryResult.UNKNOWN, "in_doubt"),
])  # fmt: skip
async def test_a_call_that_still_goes_on_waits_for_its_summary_and_for_that_of_no_other_batch(
    desk: Desk, batch: str | None, result: SummaryResult, state: str
) -> None:
    job = await desk.doubt()
    desk.write(status=None)
    assert await desk.look(5 * MINUTE) == PLACED
    assert await desk.states(job) == ["submitted"]
    unnamed = partial(desk.engine.summarise, job, session_id="s-1", with_client_request_id=False)
    assert (await unnamed(batch=batch), await desk.engine.state(job)) == (result, state)


async def test_its_redial_is_granted_and_has_a_row_of_its_own(desk: Desk) -> None:
    job = await desk.doubt(redial=on_busy(10 * MINUTE))
    desk.write("busy", status=S.BUSY)
    assert await desk.look(5 * MINUTE) == PLACED
    assert await desk.states(job) == ["queued"]
    desk.clock.advance(10 * MINUTE)
    (again,) = await desk.engine.send()
    assert again.state is JobState.IN_DOUBT
    desk.write("answered")
    assert await desk.look(5 * MINUTE) == PLACED
    ended = await desk.queue.get(job.id)
    assert [post.session_id for post in ended.posts] == ["busy", "answered"]
    assert (ended.state, ended.notes) == (JobState.COMPLETED, ())


async def test_a_summary_that_waited_for_the_session_tells_more_than_the_row(desk: Desk) -> None:
    job = await desk.doubt()
    desk.write(status=S.FAILED)
    told = SessionSummary(session_id="s-1", status=S.FAILED, error_code=-2004, error_message="no coverage")
    assert await desk.engine.settler.summary(told) is SummaryResult.EARLY
    assert await desk.look(5 * MINUTE) == PLACED
    ended = await desk.queue.get(job.id)
    assert (ended.state, ended.reason) == (JobState.FAILED, "FAILED: no coverage")


async def test_the_work_at_one_time_is_bounded_however_many_summaries_are_overdue(desk: Desk) -> None:
    first = await desk.doubt()
    (post,) = first.posts
    overdue = list[Job]()
    for place in range(1100):
        posts = (replace(post, client_request_id=f"default.{place:026d}.1", session_id=f"s{place}"),)
        job = replace(first, id=f"default.{place:026d}", state=JobState.SUBMITTED, due_at=desk.clock.now(), posts=posts)
        overdue.append(replace(job, revision=f"r{place}", unique_key=f"k{place}"))
    await add_jobs(desk.store, overdue, now=desk.clock.now())
    peaks = [0]

    async def counted(_: StoreCall) -> None:
        peaks.append(store.under_way)

    store = FaultyStore(desk.store, before=counted)
    looked = await Reconciler(store, desk.log, queue="default", policy=desk.engine.policy).everything()
    assert looked.looked_at == 1101
    assert 0 < max(peaks) < 500


@pytest.mark.parametrize("later", [5 * MINUTE, 20 * DAY])  # session records are kept for seven days
async def test_a_row_of_a_call_that_is_known_is_not_this_ones(desk: Desk, later: timedelta) -> None:
    await desk.ended(ANA)
    desk.write(f"of {ANA}", after=5 * SECOND)
    await desk.doubt()
    assert await desk.look(later) == OPEN


async def test_masked_rows_of_calls_that_are_known_do_not_matter(desk: Desk) -> None:
    await desk.sent(BEN, session="of-ben")
    desk.write("of-ben", destination="65876*****")
    await desk.doubt()
    desk.write("of-ana")
    assert await desk.look(5 * MINUTE) == PLACED


async def test_a_row_with_two_possible_owners_binds_neither(desk: Desk) -> None:
    other = Desk(desk.store, desk.clock, queue="other")
    other.log = desk.log
    for name in ("default", "other"):
        await QueueNames(desk.store).remember(name)
    mine = await desk.doubt()
    # Locks keep two calls to a number apart; here one was lost with its store.
    await text_records(desk.store, "number").remove([number_digest(ANA, store_id=desk.store.id)])
    theirs = await other.doubt()
    desk.write()
    assert [await desk.look(5 * MINUTE), await other.look()] == [OPEN, OPEN]
    assert theirs.posts[0].client_request_id in ((await desk.queue.get(mine.id)).reason or "")


async def test_the_second_owner_may_be_an_older_post_of_the_same_call(desk: Desk) -> None:
    job = await desk.doubt()
    desk.clock.advance(job.posts[0].valid_until - desk.clock.now() + 11 * SECOND)
    await desk.queue.resolve(job.id, placed=False, note="not in the portal")
    await desk.engine.send()
    desk.write(after=-5 * SECOND)
    assert await desk.look(5 * MINUTE) == OPEN


OVERDUE: dict[str, tuple[dict[str, Any] | None, str]] = {
    "its end": ({}, "unreached"),
    "its end, dialled without a plus": ({"destination": ANA[1:]}, "unreached"),
    "its session alone": ({"source": "653******", "destination": None, "initiated_at": None}, "unreached"),
    "nothing": (None, "accepted"),
    "a call that goes on": ({"status": None}, "accepted"),
    # An answer that was left over on its connection gives a call the session of another.
    "a call to another number": ({"destination": BEN}, "accepted"),
}


@pytest.mark.parametrize("told", OVERDUE)
async def test_the_log_tells_how_a_call_ended_whose_summary_never_came(desk: Desk, told: str) -> None:
    row, state = OVERDUE[told]
    job = await desk.sent(session="s-1")
    desk.write(status=S.NO_ANSWER)
    desk.log.rows = [] if row is None else [replaced(each, **row) for each in desk.log.rows]
    await desk.engine.enqueue(BEN, batch="april")
    assert await desk.queue.cancel_batch("april") == 1, "it does not end the wait for the log"
    desk.clock.advance(desk.engine.policy.summary_deadline - SECOND)
    assert (await desk.look(), desk.log.asked) == (NOTHING, []), "its deadline lies ahead"
    assert await desk.look(SECOND) == PLACED
    assert await desk.states(job) == [state]


async def test_a_call_that_went_on_while_the_log_was_asked_for_waits_for_its_next_summary(desk: Desk) -> None:
    job = await desk.sent(session="s-1", redial=on_busy(timedelta()))

    async def goes_on() -> None:
        await desk.engine.summarise(job, S.BUSY, session_id="s-1")
        desk.voice.answers = [created("s-2")]
        await desk.engine.send()

    desk.log.meanwhile = goes_on
    await desk.look(desk.engine.policy.summary_deadline)
    assert await desk.states(job) == ["submitted"]


async def test_a_summary_that_waited_unseen_comes_first(desk: Desk) -> None:
    job = await desk.sent(session="s-1")
    busy = Outcome(status=S.BUSY, status_text="BUSY", session_id="s-1")
    await desk.looks()._sessions.early.add({"s-1": busy})
    assert await desk.look(desk.engine.policy.summary_deadline) == NOTHING
    assert ((await desk.queue.get(job.id)).reason, desk.log.asked) == ("BUSY", [])


async def test_the_sweep_leaves_doubts_and_for_a_while_overdue_summaries_to_the_log(desk: Desk) -> None:
    overdue, doubt = await desk.sent(BEN, session="s-1"), await desk.doubt()
    desk.clock.advance(desk.engine.policy.summary_deadline)
    sweeper = Sweeper(desk.store, queue="default", policy=desk.engine.policy, log_timeout=TIMEOUT)
    for state in ("submitted", "accepted"):
        await sweeper.sweep()
        assert await desk.states(overdue) == [state]
        desk.clock.advance(TIMEOUT)
    assert await desk.queue.get(doubt.id) == doubt


class TestTurns:
    async def test_all_that_is_due_is_looked_for_in_one_log(self, desk: Desk) -> None:
        await desk.doubt(ANA)
        desk.clock.advance(MINUTE)
        await desk.doubt(BEN)
        desk.write(destination=BEN)
        desk.clock.advance(MINUTE)
        assert await desk.looks().due() == Reconciled(looked_at=2, placed=1, open=1)
        ((since, until),) = desk.log.asked
        assert since < desk.clock.now() - 2 * MINUTE
        assert until == desk.clock.now()

    async def test_the_workers_of_a_queue_share_their_turns(self, desk: Desk) -> None:
        first, second = desk.looks(), desk.looks()
        await desk.doubt()
        desk.clock.advance(MINUTE)
        assert await first.due() == OPEN
        desk.clock.advance(EVERY - SECOND)
        await desk.doubt(BEN)
        assert await second.due() == NOTHING
        desk.clock.advance(MINUTE)
        async with anyio.create_task_group() as group:
            for each in (first, second, desk.looks()):
                group.start_soon(each.due)
        assert len(desk.log.asked) == 2

    async def test_a_time_of_which_there_is_no_log_keeps_no_other_waiting(self, desk: Desk) -> None:
        old = await desk.doubt(ANA)
        desk.clock.advance(5 * HOUR)
        new = await desk.doubt(BEN)
        desk.write(destination=BEN)
        desk.clock.advance(10 * MINUTE)
        desk.log.fails_before = desk.clock.now() - 2 * HOUR
        looking = desk.looks()
        for _ in range(2):
            with contextlib.suppress(CallLogError):
                await looking.due()
            desk.clock.advance(EVERY)
        assert await desk.queue.get(old.id) == old
        assert await desk.states(new) == ["completed"]

    async def test_nothing_is_concluded_from_a_log_that_fails_nor_is_it_asked_for_in_a_loop(self, desk: Desk) -> None:
        job = await desk.doubt()
        desk.clock.advance(5 * MINUTE)
        desk.log.error = CallLogUnavailableError("8x8 is away")
        for asks in (desk.looks().everything, desk.looks().due):
            with pytest.raises(CallLogUnavailableError):
                await asks()
        assert await desk.looks().due() == NOTHING
        assert await desk.queue.get(job.id) == job
        desk.clock.advance(EVERY)
        desk.log.error = None
        assert await desk.looks().due() == OPEN

    async def test_who_asks_for_everything_hears_what_is_asked_for(self, desk: Desk) -> None:
        await desk.doubt(ANA)
        desk.clock.advance(5 * HOUR)
        await desk.doubt(BEN)
        heard: list[LogRequest] = []
        assert await desk.looks().everything(on_request=heard.append) == Reconciled(looked_at=2, open=2)
        assert [(look.number, look.count, look.calls) for look in heard] == [(1, 2, 1), (2, 2, 1)]
        assert [(look.asked.since, look.asked.until) for look in heard] == desk.log.asked

    async def test_a_worker_makes_its_queue_known_to_those_who_look_for_other_owners(self, desk: Desk) -> None:
        await Worker(desk.store, desk.voice, rate=None, options=WorkerOptions(), call_log=desk.log).drain()
        assert await QueueNames(desk.store).known() == ["default"]


async def three_submitted(desk: Desk) -> list[Job]:
    return [await desk.sent(f"+658765432{place}", session=f"s{place}") for place in range(3)]


async def test_a_worker_finds_a_call_whose_summary_was_lost_as_soon_as_the_log_can_have_it(desk: Desk) -> None:
    """One that goes on is looked for at doubling intervals, and settled by the log when it has ended."""
    ended, talking, _ = await three_submitted(desk)
    desk.write("s0", destination=ended.destination)
    assert await desk.looks().due() == NOTHING, "the phone may still ring"
    asked = 0
    for minute in range(3, 34, 3):
        desk.clock.advance(3 * MINUTE)
        asked += bool((await desk.looks().due()).looked_at)
        assert await desk.states(ended, talking) == ["completed", "submitted"], f"after {minute} minutes"
    assert asked <= 8
    desk.write("s1", destination=talking.destination)
    while await desk.engine.state(talking) == "submitted":
        desk.clock.advance(3 * MINUTE)
        await desk.looks().due()
    assert await desk.states(talking) == ["completed"]


async def test_calls_whose_summary_is_not_due_are_looked_for_when_asked_and_wait_on_if_the_log_has_no_end_of_them(
    desk: Desk,
) -> None:
    jobs = await three_submitted(desk)
    desk.write("s0", destination=jobs[0].destination)
    desk.write("s2", destination=jobs[2].destination, status=None)
    assert await desk.look(5 * MINUTE) == NOTHING
    assert await desk.looks().everything(submitted=True) == Reconciled(looked_at=3, placed=1, open=2)
    assert await desk.states(*jobs) == ["completed", "submitted", "submitted"]
    await desk.engine.summarise(jobs[1], S.BUSY)
    assert await desk.states(jobs[1]) == ["unreached"]


async def test_the_sip_status_of_a_row_says_why_a_call_failed(desk: Desk) -> None:
    job = await desk.doubt()
    desk.write("s-1", after=timedelta(), disconnected_at=desk.clock.now(), status=S.FAILED, seconds=0.0, sip_code=404)
    await desk.look()
    assert result_of(await desk.queue.get(job.id)) == "dead_number"
