"""Every command of the engine, given to it on all stores at once, told to the model, and judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import count
from typing import TypeVar

from anyio.from_thread import BlockingPortal

from tests.stateful.facts import STATUS, WAITING, Call, Calls, End, Fate, Post, Told
from tests.stateful.sides import POLICY, QUEUE, Side, StandingClock, comparable
from tests.support.faulty_store import Loss
from tests.support.voices import created, not_sent, refused, unknown
from voiceflow_worker import CallRequest, Job, open_store
from voiceflow_worker.core.admission import CheckedCall, new_job
from voiceflow_worker.core.ports import EventKind
from voiceflow_worker.core.ports.identity import new_revision
from voiceflow_worker.core.ports.store import Result, Step
from voiceflow_worker.core.sending.journal import Unsent
from voiceflow_worker.core.settling.settle import SummaryResult
from voiceflow_worker.core.units import inserted
from voiceflow_worker.errors import IllegalMoveError, TooEarlyError, TooLateError, VoiceflowError
from voiceflow_worker.model.jobs.job import JobState as S
from voiceflow_worker.model.jobs.job import NoteKind
from voiceflow_worker.model.reports.events import SessionSummary
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind

T = TypeVar("T")


@dataclass(eq=False)
class Held:
    """A job that a worker holds, as each side has leased it."""

    call: Call
    jobs: tuple[Job, ...]


@dataclass(eq=False)
class Flight:
    """A journalled POST, as each side has it. A worker that is slow, or dead, leaves it lying about."""

    call: Call
    post: Post
    jobs: tuple[Job, ...]
    is_answered: bool = False

    @property
    def may_be_answered(self) -> bool:
        return self.post.fate is not None and not self.is_answered


class Commands:
    """The engine on several stores, beside the model."""

    def __init__(self, portal: BlockingPortal, urls: dict[str, str]) -> None:
        self.clock = StandingClock()
        self.calls = Calls()
        self.held: list[Held] = []
        self.flights: list[Flight] = []
        self._numbers = count(1)
        self._jobs: dict[str, Job] = {}
        self._outcomes: dict[str, object] = {}
        self._parked: dict[str, Flight] = {}
        self._told: dict[str, tuple[int, set[str]]] = {}
        self._portal = portal
        self._stack = ExitStack()
        self._sides: list[Side] = []
        for name, url in urls.items():
            context = portal.wrap_async_context_manager(open_store(url, clock=self.clock))
            self._sides.append(Side(name, self._stack.enter_context(context)))

    def close(self) -> None:
        """The end of a run."""
        try:
            for side in self._sides:
                self._every_doubt_was_told(side)
        finally:
            self._stack.close()

    # The way of a call.

    def enqueue(self, requests: Sequence[CallRequest]) -> None:
        """All or none; where a key is taken, the job that owns it."""
        now = self.clock.now()
        # Not random: the order of jobs and the jitter of their backoff come from their ids. A run must be repeatable.
        ids = [f"{QUEUE}.{next(self._numbers):026d}" for _ in requests]
        jobs = [
            new_job(CheckedCall.of(request), job_id=id_, revision=new_revision(), queue=QUEUE, at=now)
            for id_, request in zip(ids, requests, strict=True)
        ]
        expected: list[tuple[str, bool]] = []
        fresh: list[Job] = []
        conflict = False
        for job in jobs:
            key = job.unique_key
            owner = None if key is None else self.calls.owner(key)
            owner = owner or next(((new.id, new.body_digest) for new in fresh if key and new.unique_key == key), None)
            conflict = conflict or (owner is not None and owner[1] != job.body_digest)
            expected.append((job.id if owner is None else owner[0], owner is None))
            fresh += [job] if owner is None else []
        step = Step(units=tuple(map(inserted, jobs)), together=True)
        for written in self._all(lambda side: side.store.write(step, now=now)):
            if conflict:
                assert all(each.result in {Result.EXISTS, Result.WITHHELD} for each in written.answers)
                continue
            owners = [each.owner for each in written.answers]
            assert [
                (job.id if owner is None else owner.job_id, owner is None)
                for job, owner in zip(jobs, owners, strict=True)
            ] == expected
        if not conflict:
            self.calls.by_id.update({job.id: _call(job) for job in fresh})
        self.look()

    def lease(self, limit: int, loss: Loss = Loss.NOTHING) -> list[Held]:
        """Take what is due, in its order; a lost answer leaves jobs leased to nobody."""
        now = self.clock.now()
        expected = [] if loss is Loss.BEFORE else self.calls.due(now, limit)
        leased = self._all(lambda side: side.lease(limit, now), loss=loss)
        for job_id in expected:
            self.calls.by_id[job_id].state = S.LEASED
        self.look()
        if loss is not Loss.NOTHING:
            assert all(jobs is None for jobs in leased)
            return []
        for jobs in leased:
            assert jobs is not None
            assert [job.id for job in jobs] == expected
        taken = [Held(self.calls.by_id[jobs[0].id], jobs) for jobs in zip(*(j or [] for j in leased), strict=True)]
        self.held += taken
        return taken

    def put_back(self, held: Held, loss: Loss = Loss.NOTHING) -> None:
        """Nothing was sent: the job is queued again, unless somebody else has it by now."""
        self.held.remove(held)
        has = self._has(held)
        self._all(
            lambda side: side.journal.put_back([Unsent(self._of(side, held.jobs), "put back")]),
            loss=loss,
        )
        if has:
            held.call.state = S.QUEUED
        self.look()

    def journal(self, held: Held, loss: Loss = Loss.NOTHING) -> Flight | None:
        """Journal the next POST of a job that is held, perhaps for too long."""
        self.held.remove(held)
        call, has = held.call, self._has(held)
        answers = self._all(lambda side: side.journal.begin([self._of(side, held.jobs)]), loss=loss)
        is_refused = {bool(refused) for _, refused in answers}
        assert len(is_refused) == 1
        if is_refused == {True}:
            self.held.append(held)
            self.put_back(held)
            return None
        begun = [begun[0].job if begun else None for begun, _ in answers]
        post = call.begin(self.clock.now(), not_after=self.clock.now() + POLICY.submit_window) if has else None
        if post is not None:
            self._number_was_free(call)
        for job in begun:
            assert (job is not None) == (post is not None)
        self.look()
        if post is None:
            return None
        flight = Flight(call, post, tuple(job for job in begun if job is not None))
        self.flights.append(flight)
        return flight

    def leave(self, flight: Flight, fate: Fate, end: End) -> None:
        """What truly becomes of a POST: only the model knows. It may leave late; then 8x8 refuses it."""
        now, post = self.clock.now(), flight.post
        if fate in {Fate.CREATED, Fate.UNHEARD} and now >= post.valid_until:
            fate = Fate.LATE
        elif fate is Fate.LATE and now < post.valid_until:
            fate = Fate.VANISHED
        post.fate = fate
        if fate in {Fate.CREATED, Fate.UNHEARD}:
            post.end = end
            post.rang_at = None if end is End.DROPPED else now

    def answer(self, flight: Flight, loss: Loss = Loss.NOTHING) -> None:
        """The answer of a POST comes, perhaps long after a sweep has doubted it."""
        flight.is_answered = True
        call, post, verdict = flight.call, flight.post, _verdict(flight)
        answers = self._each(
            lambda side: side.again(lambda: side.settler.verdict(self._of(side, flight.jobs), post.number, verdict)),
            loss=loss,
        )
        assert not any(isinstance(answer, VoiceflowError) for answer in answers), answers
        call.answer(post, self.clock.now())
        self.look()

    def summary(self, flight: Flight, loss: Loss = Loss.NOTHING, *, by_session: bool = False) -> None:
        """A summary comes: early, late, or again; with its clientRequestId, or naming nothing but its session."""
        call, post, told = flight.call, flight.post, _summary(flight, by_session=by_session)
        results = self._all(lambda side: side.again(partial(side.settler.summary, told)), loss=loss)
        assert len(set(results)) == 1
        if by_session and not post.session_known:
            assert results[0] is SummaryResult.PARKED
            self._parked[_session(flight)] = flight
        else:
            first = post.outcome is None
            call.summary(post, self.clock.now())
            if loss is Loss.NOTHING:
                assert results[0] is (SummaryResult.SETTLED if first else SummaryResult.REPEATED)
        self.look()

    def sweep(self, loss: Loss = Loss.NOTHING) -> None:
        """Move what is overdue, and take summaries that waited for their session to be known."""
        self._all(lambda side: side.again(side.sweeper.sweep), loss=loss)
        self._swept()

    def _swept(self) -> None:
        now = self.clock.now()
        for session, flight in list(self._parked.items()):
            if flight.post.session_known:
                del self._parked[session]
                flight.call.summary(flight.post, now)
        self.calls.sweep(now)
        self.look()

    # What people order.

    def cancel(self, call: Call) -> None:
        """Before it is sent; later it is too late."""
        may = call.state in WAITING
        for answer in self._each(lambda side: side.queue.cancel(call.id)):
            assert isinstance(answer, TooLateError) != may, answer
        if may:
            call.give_up(S.CANCELLED)
        self.look()

    def resolve(self, call: Call) -> None:
        """A person looks at 8x8, sees what is true, and says so; too early, they are told to come again."""
        post = call.open_post
        assert post is not None
        placed = post.placed
        early = not placed and self.clock.now() <= post.valid_until + POLICY.clock_skew
        for answer in self._each(lambda side: side.queue.resolve(call.id, placed=placed, note="seen at 8x8")):
            assert isinstance(answer, TooEarlyError) == early, answer
        if not early:
            post.told = Told.PLACED if placed else Told.NOT_PLACED
            call.state = S.ACCEPTED if placed else S.QUEUED
        self.look()

    def redial(self, call: Call, *, force: bool) -> None:
        """Call again what has ended; one who was called, only by force."""
        may = call.state.is_final and not call.is_expired(self.clock.now())
        may = may and (force or call.state not in {S.COMPLETED, S.ACCEPTED})
        for answer in self._each(lambda side: side.queue.redial(call.id, force=force)):
            assert isinstance(answer, IllegalMoveError) != may, answer
        if may:
            call.order_again()
        self.look()

    def hold(self, batch_id: str | None, until: datetime | None) -> None:
        """Nothing new is sent; a hold never shortens a standing one."""
        now, gate = self.clock.now(), self.calls.gate(batch_id)
        gates = self._all(lambda side: side.queue.hold(batch_id=batch_id, until=until, reason="a test"))
        gate.hold(now, until)
        for each in gates:
            assert each.is_closed(at=now) == gate.is_closed(now)
            assert gate.cancelled or each.until == gate.until

    def resume(self, batch_id: str | None) -> None:
        """Open again what was held; a cancelled batch stays cancelled."""
        now, gate = self.clock.now(), self.calls.gate(batch_id)
        gates = self._all(lambda side: side.queue.resume(batch_id=batch_id))
        gate.open()
        for each in gates:
            assert each.is_closed(at=now) == gate.is_closed(now)

    def cancel_batch(self, batch_id: str) -> None:
        """For good; other calls stay as they are, but for leases that are over."""
        now = self.clock.now()
        self._all(lambda side: side.queue.cancel_batch(batch_id))
        self.calls.gate(batch_id).cancelled = True
        self.calls.end_cancelled(now)
        self.look()

    # What must hold after every command.

    def look(self) -> None:
        """Every job is in one state, the same on every store and in the model; counts add up; nobody rang twice."""
        found = self._all(lambda side: side.jobs())
        self._jobs = found[0]
        first = {job_id: comparable(job) for job_id, job in found[0].items()}
        for side, jobs in zip(self._sides[1:], found[1:], strict=True):
            assert {job_id: comparable(job) for job_id, job in jobs.items()} == first, side.name
        assert {job.id: job.state for job in first.values()} == {c.id: c.state for c in self.calls.by_id.values()}
        for status in self._all(lambda side: side.queue.status()):
            assert status.total == len(self.calls.by_id)
            assert status.doubts == sum(call.state is S.IN_DOUBT for call in self.calls.by_id.values())
            assert {state: n for state, n in status.states.items() if n} == Counter(j.state for j in first.values())
        for call in self.calls.by_id.values():
            call.due_at = first[call.id].due_at
            self._judge(call, first[call.id])

    def _judge(self, call: Call, job: Job) -> None:
        assert not any(note.kind is NoteKind.RANG_TWICE for note in job.notes)
        rings = Counter(post.redial for post in call.posts if post.rang_at is not None)
        assert all(times == 1 for times in rings.values()), "a phone rang twice for one attempt"
        for post in call.posts:
            kept = job.post(post.number)
            if kept is not None:
                assert kept.valid_until <= post.valid_until
                assert (kept.outcome is not None) == (post.outcome is not None)
                if kept.outcome is not None:
                    stands = self._outcomes.setdefault(kept.client_request_id, kept.outcome)
                    assert stands == kept.outcome, "an outcome was replaced by another"
            if post.rang_at is not None:
                assert kept is not None, "a phone rang, and the job knows of no POST"
                assert post.rang_at < post.valid_until
                assert call.valid_until is None or post.rang_at < call.valid_until, "a phone rang late"
                waits = job.state in {S.QUEUED, S.LEASED, S.EXPIRED, S.CANCELLED}
                assert not (waits and post.redial == call.redials), "a phone rang, and its job does as if it had not"

    def _number_was_free(self, call: Call) -> None:
        for other in self.calls.by_id.values():
            if other is not call and other.destination == call.destination and other.state in {S.SENDING, S.IN_DOUBT}:
                post = other.open_post
                assert post is not None
                assert self.clock.now() >= post.valid_until, f"{call.destination} may still ring for {other.id}"

    def _every_doubt_was_told(self, side: Side) -> None:
        self._hear_events(side)
        _, doubted = self._told[side.name]
        assert {call.id for call in self.calls.by_id.values() if call.state is S.IN_DOUBT} <= doubted

    def _hear_events(self, side: Side) -> None:
        last, doubted = self._told.get(side.name, (0, set()))
        for event in self._portal.call(side.events, last):
            assert event.sequence > last, "events come in order, each once"
            last = event.sequence
            if event.kind is EventKind.DOUBTED:
                doubted.add(event.job_id)
        self._told[side.name] = last, doubted

    # How commands are given.

    def _each(self, command: Callable[[Side], Awaitable[T]], *, loss: Loss = Loss.NOTHING) -> list[T | VoiceflowError]:
        """Give a command on every side; gives what each answered, or raised."""
        answers: list[T | VoiceflowError] = []
        for side in self._sides:
            side.store.lose(loss, "write", "lease")
            try:
                answers.append(self._portal.call(_awaited, command, side))
            except VoiceflowError as error:
                answers.append(error)
            side.store.lose(Loss.NOTHING)
        return answers

    def _all(self, command: Callable[[Side], Awaitable[T]], *, loss: Loss = Loss.NOTHING) -> list[T]:
        """Give a command that must not fail on any side."""
        answers: list[T] = []
        for answer in self._each(command, loss=loss):
            if isinstance(answer, VoiceflowError):
                raise answer
            answers.append(answer)
        return answers

    def _of(self, side: Side, jobs: tuple[Job, ...]) -> Job:
        """A job as this side has it."""
        return jobs[self._sides.index(side)]

    def _has(self, held: Held) -> bool:
        """Whether the store still has the job as its worker has it."""
        job = self._jobs.get(held.call.id)
        return job is not None and job.revision == held.jobs[0].revision


async def _awaited(command: Callable[[Side], Awaitable[T]], side: Side) -> T:
    return await command(side)


def _call(job: Job) -> Call:
    return Call(
        id=job.id,
        destination=job.destination,
        priority=job.priority,
        batch_id=job.batch_id,
        unique_key=job.unique_key,
        body=job.body_digest,
        valid_until=job.valid_until,
        redial=job.redial,
        due_at=job.due_at,
    )


def _session(flight: Flight) -> str:
    return f"session-{flight.call.id}.{flight.post.number}"


def _verdict(flight: Flight) -> Verdict:
    match flight.post.fate:
        case Fate.CREATED:
            return created(_session(flight))
        case Fate.REFUSED:
            return refused(-1014)
        case Fate.LATE:
            return refused(-1015)
        case Fate.NOT_SENT:
            return not_sent()
        case Fate.TURNED_AWAY:
            return Verdict(kind=VerdictKind.TURNED_AWAY, message="429", http_status=429)
        case _:
            return unknown()


def _summary(flight: Flight, *, by_session: bool) -> SessionSummary:
    end = flight.post.end
    assert end is not None
    return SessionSummary(
        session_id=_session(flight),
        status=STATUS[end],
        status_text=STATUS[end].value,
        client_request_id=None if by_session else f"{flight.call.id}.{flight.post.number}",
        error_code=-2007 if end is End.DROPPED else None,
    )
