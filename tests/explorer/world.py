"""The explored world: its scenes and rules, jobs as small numbers, POSTs on the network and at 8x8, workers, clocks.

Two jobs are the same here if no rule can tell them apart: what only people read (reasons, texts) is left out, times
that have passed long enough are only "past", and POSTs that left no trace anywhere are forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import NamedTuple

from voiceflow_worker.errors import JobError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import evidence, lifecycle
from voiceflow_worker.model.jobs.job import (
    Job,
    JobState,
    KeyPress,
    Note,
    NoteKind,
    Post,
    RedialPolicy,
)
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind

TICK = timedelta(minutes=1)
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""All times of a job are kept relative to now, so that waiting for ever is a finite set of states."""

WINDOW, RINGING, SKEW, LEASE, DEADLINE, REDIAL_AFTER = 2, 1, 1, 1, 2, 1
FAR = 4
"""A clock that jumped is off by this much: more than the window and the skew together."""

POLICY = CallPolicy(
    submit_window=WINDOW * TICK,
    ringing=RINGING * TICK,
    clock_skew=SKEW * TICK,
    summary_deadline=DEADLINE * TICK,
    first_check=TICK,
    longest_check=TICK,
    first_backoff=TICK,
    longest_backoff=TICK,
    missed_windows=1,
)


def moment(ticks: int) -> datetime:
    """The time so many ticks from now."""
    return NOW + ticks * TICK


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One bounded world. Numbers are budgets; what has none may happen any number of times.

    `copies`: how often a summary may come. `without_id`: it may come without its clientRequestId. `jumps`: by how many
    ticks the clock of worker A may jump, once. `mistaken`: a person may say "not placed" of a call that rang.
    `unclear`: a summary with an unknown status may come first. `lost_replies`: the store may commit and not be heard.
    `export`: the log of 8x8 may show a call, however late, while it is on or once it has ended.

    `numbers` are those of the person. With `full`, 8x8 may have no free line for a call that it has taken. With `asks`,
    a person who has answered may have asked to be called back, which becomes known at any time after that.

    What is lost needs no step: it never comes. Whether a job ends when nothing ever comes is judged for each of them.
    """

    valid_for: int | None = None
    redials: int = 0
    copies: int = 1
    without_id: bool = False
    unclear: bool = False
    export: bool = False
    busy: bool = True
    refusals: bool = True
    jumps: tuple[int, ...] = ()
    cancels: int = 0
    resolves: int = 0
    calls_again: int = 0
    mistaken: bool = False
    lost_replies: bool = True
    posts: int = 3
    numbers: int = 1
    full: bool = False
    asks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Who decides. By default the real functions; a mutation replaces one, to see that the explorer notices.

    `timeout` is what a read timeout is taken for. `overdue_doubt` is what a sweep does to a job in doubt besides
    looking again. `local_journal` says whose clock a person's "not placed" is judged by: 8x8's, or worker A's.
    """

    lease: Callable[..., Job] = lifecycle.lease
    release: Callable[..., Job] = lifecycle.release
    begin: Callable[..., Job] = lifecycle.begin
    expire: Callable[..., Job] = lifecycle.expire
    overdue_sending: Callable[..., Job] = lifecycle.doubt
    overdue_submitted: Callable[..., Job] = lifecycle.give_up_waiting
    overdue_doubt: Callable[..., Job] | None = None
    cancel: Callable[..., Job] = lifecycle.cancel
    resolve: Callable[..., Job] = lifecycle.resolve
    redial: Callable[..., Job] = lifecycle.redial
    answered: Callable[..., Job] = evidence.answered
    summarised: Callable[..., Job] = evidence.summarised
    found_placed: Callable[..., Job] = evidence.found_placed
    pressed: Callable[..., Job] = evidence.with_press
    timeout: VerdictKind = VerdictKind.UNKNOWN
    local_journal: str = "8x8"


REAL = Rules()


COMPLETED = Outcome(status=SessionStatus.COMPLETED, status_text="COMPLETED")
BUSY = Outcome(status=SessionStatus.BUSY, status_text="BUSY")
DROPPED = Outcome(status=SessionStatus.FAILED, status_text="FAILED", code=-2007)
FULL = Outcome(status=SessionStatus.FAILED, status_text="FAILED", code=-2010)

ASKED = KeyPress(at=NOW, menu="m", digits="3", event_id="e", answer="call back", call_back_at=NOW + TICK)
_INCIDENT = Note(at=NOW, kind=NoteKind.RANG_TWICE, text="")
_KNOWN = frozenset({VerdictKind.CREATED, VerdictKind.PLACED})


class PromiseBrokenError(AssertionError):
    """Raised when a rule broke a promise in a single move."""


@dataclass(frozen=True, slots=True)
class PostFacts:
    """What the world needs to know of a POST: `valid` in ticks from now."""

    valid: int
    redial: int
    verdict: VerdictKind | None
    outcome: Outcome | None
    may_have_rung: bool
    is_evident: bool
    session: bool
    asked: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What the world needs to know of a job; times in ticks from now, the past at its limit."""

    state: JobState
    due: int
    expires: int | None
    redials: int
    posts: tuple[PostFacts, ...]
    open: int | None
    incident: bool


@dataclass(frozen=True, slots=True)
class _Past:
    """Ticks before which nothing is told apart any more, for each kind of time."""

    due: int
    expires: int
    valid: int


class JobBook:
    """All jobs that have come about, and their moves."""

    def __init__(self, scene: Scene) -> None:
        self.jobs: list[Job] = []
        self.facts: list[Facts] = []
        self._ids: dict[Job, int] = {}
        self._moves: dict[tuple[int, Hashable], int | None] = {}
        # How long ago something may be and still be told from longer ago: not at all, where no clock is off.
        far = max(map(abs, scene.jumps), default=0)
        self._past = _Past(due=-far, expires=-far - 1, valid=-far - SKEW - 1)
        again = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=scene.redials, after=REDIAL_AFTER * TICK)
        self.first = self._keep(
            Job(
                id="q.j",
                queue="q",
                state=JobState.QUEUED,
                due_at=NOW,
                destination="+6587654321",
                valid_until=None if scene.valid_for is None else moment(scene.valid_for),
                body="{}",
                body_digest="",
                source="+6531234567",
                created_at=NOW,
                redial=again if scene.redials else None,
                further_numbers=tuple(f"+658765432{place}" for place in range(2, scene.numbers + 1)),
            )
        )

    def moved(self, job_id: int, key: Hashable, step: Callable[[Job], Job], *, evidence: bool = False) -> int | None:
        """The job after a step, which `key` names; None if the rules refuse it. Evidence must be idempotent."""
        memo = (job_id, key)
        if memo in self._moves:
            return self._moves[memo]
        old = self.jobs[job_id]
        try:
            new = step(old)
        except JobError as error:
            if evidence:
                raise PromiseBrokenError(f"evidence was refused: {error}") from error
            self._moves[memo] = None
            return None
        _judge_move(old, new)
        asks_now = new.call_back_post is not None and old.call_back_post is None
        if evidence and old.state.is_final and not new.state.is_final and not asks_now:
            raise PromiseBrokenError(f"evidence made a call {new.state} that had ended as {old.state}")
        if evidence and step(new) is not new:
            raise PromiseBrokenError(f"the same evidence twice changed a job that was {old.state}: {key}")
        self._moves[memo] = found = self._keep(new)
        return found

    def later(self, job_id: int) -> int:
        """The same job one tick later."""
        memo = (job_id, "later")
        found = self._moves.get(memo)
        if found is None:
            self._moves[memo] = found = self._keep(_shifted(self.jobs[job_id], -TICK))
        return found

    def without(self, job_id: int, place: int) -> int:
        """The same job without one of its POSTs."""
        memo = (job_id, ("without", place))
        found = self._moves.get(memo)
        if found is None:
            job = self.jobs[job_id]
            posts = (*job.posts[:place], *job.posts[place + 1 :])
            self._moves[memo] = found = self._keep(replace(job, posts=posts))
        return found

    def _keep(self, job: Job) -> int:
        job = _canonical(job, self._past)
        found = self._ids.get(job)
        if found is None:
            found = self._ids[job] = len(self.jobs)
            self.jobs.append(job)
            self.facts.append(_facts(job, self._past))
        return found


def _judge_move(old: Job, new: Job) -> None:
    """What no single move may do, whoever makes it."""
    for post in old.posts:
        after = new.post(post.number)
        if after is None:
            continue
        if post.outcome is not None and after.outcome != post.outcome:
            raise PromiseBrokenError(f"the outcome of POST {post.number} was replaced: a POST has one outcome")
        if post.verdict is VerdictKind.CREATED and after.verdict is not VerdictKind.CREATED:
            raise PromiseBrokenError(f"CREATED was forgotten of POST {post.number}")
    if new.redials > old.redials + 1 or new.redials < old.redials:
        raise PromiseBrokenError(f"one move made {old.redials} redials {new.redials}")
    if new.place > old.place and not (new.redials > old.redials and any(_was_busy(new, old.place))):
        raise PromiseBrokenError(
            f"number {new.place} of the person is next, and nobody knows that {old.place} was busy"
        )
    if new.state.is_final and new.active_until is not None:
        raise PromiseBrokenError(f"a job that is {new.state} still counts as active")


def _was_busy(job: Job, place: int) -> Iterator[bool]:
    """Of each POST of this attempt to this number, whether it is known to have been busy."""
    for post in job.posts:
        if (post.redial, post.place) == (job.redials - 1, place):
            yield job.status_of(post) is SessionStatus.BUSY


def _ticks(time: datetime, least: int) -> int:
    return max(math.ceil((time - NOW) / TICK), least)


def _clamped(time: datetime, least: int) -> datetime:
    return moment(_ticks(time, least))


def _canonical(job: Job, past: _Past) -> Job:
    rests = job.state.is_final or job.state is JobState.IN_DOUBT
    return replace(
        job,
        due_at=NOW if rests else _clamped(job.due_at, past.due),
        valid_until=None if job.valid_until is None else _clamped(job.valid_until, past.expires),
        worker_id=None,
        active_until=None,
        reason=None,
        first_due_at=None,
        returned_at=None,
        goes_first=False,
        failures=0,
        post_count=len(job.posts),
        posts=tuple(_canonical_post(post, number, past) for number, post in enumerate(job.posts, 1)),
        notes=(_INCIDENT,) if any(note.kind is NoteKind.RANG_TWICE for note in job.notes) else (),
    )


def _canonical_post(post: Post, number: int, past: _Past) -> Post:
    return Post(
        number=number,
        client_request_id=f"q.j.{number}",
        began_at=NOW,
        valid_until=_clamped(post.valid_until, past.valid),
        redial=post.redial,
        place=post.place,
        verdict=post.verdict,
        session_id=post.session_id and f"session {number}",
        outcome=post.outcome and _canonical_outcome(post.outcome),
        presses=tuple(
            replace(ASKED, call_back_at=_clamped(press.call_back_at or NOW, past.due)) for press in post.presses
        ),
    )


def _canonical_outcome(outcome: Outcome) -> Outcome:
    alike = (outcome.status, outcome.code)
    return next(known for known in (COMPLETED, BUSY, DROPPED, FULL) if (known.status, known.code) == alike)


def _shifted(job: Job, by: timedelta) -> Job:
    return replace(
        job,
        due_at=job.due_at + by,
        valid_until=None if job.valid_until is None else job.valid_until + by,
        posts=tuple(
            replace(
                post,
                valid_until=post.valid_until + by,
                presses=tuple(replace(each, call_back_at=(each.call_back_at or NOW) + by) for each in post.presses),
            )
            for post in job.posts
        ),
    )


def _facts(job: Job, past: _Past) -> Facts:
    open_post = job.open_post
    return Facts(
        state=job.state,
        due=_ticks(job.due_at, past.due),
        expires=None if job.valid_until is None else _ticks(job.valid_until, past.expires),
        redials=job.redials,
        posts=tuple(
            PostFacts(
                valid=_ticks(post.valid_until, past.valid),
                redial=post.redial,
                verdict=post.verdict,
                outcome=post.outcome,
                may_have_rung=post.may_have_rung,
                is_evident=post.outcome.was_placed if post.outcome else post.verdict in _KNOWN,
                session=post.session_id is not None,
                asked=bool(post.presses),
            )
            for post in job.posts
        ),
        open=None if open_post is None else open_post.number - 1,
        incident=bool(job.notes),
    )


def swept_alone(job: Job, rules: Rules, *, most: int = 20) -> None:
    """Judge what becomes of a job if no worker, answer, summary or person ever does anything again: only sweeps run.

    It must end, or come before people's eyes as a doubt, or wait for a worker with nothing in its way.
    """
    for _ in range(most):
        if job.state is JobState.IN_DOUBT:
            looked = lifecycle.check_again(job, at=NOW, policy=POLICY)
            if looked.due_at <= NOW:
                raise PromiseBrokenError("a job in doubt is looked at without end in one moment")
        if job.state.is_final or job.state is JobState.IN_DOUBT:
            return
        if job.state is JobState.QUEUED and job.due_at <= NOW and not job.is_expired(at=NOW):
            return
        job = _shifted(job, -TICK)
        if job.state is JobState.QUEUED and job.is_expired(at=NOW):
            job = rules.expire(job, at=NOW, policy=POLICY)
        elif job.due_at <= NOW:
            match job.state:
                case JobState.LEASED:
                    job = rules.release(job, at=NOW)
                case JobState.SENDING:
                    job = rules.overdue_sending(job, at=NOW, reason="", policy=POLICY)
                case JobState.SUBMITTED:
                    job = rules.overdue_submitted(job, at=NOW, policy=POLICY)
                case _:
                    pass
    raise PromiseBrokenError(f"nobody sweeps a job that is {job.state}: never lost")


class Line(IntEnum):
    """Where a POST, and the call that it asks for, are in truth."""

    JOURNALLED = 0
    FLYING = 1
    TAKEN = 2
    RANG = 3
    REACHED = 4
    WAS_BUSY = 5
    DROPPED = 6
    NOTHING = 7


class Answer(IntEnum):
    """An answer on its way to the worker that waits for it, or what the worker made of the silence."""

    NONE = 0
    CREATED = 1
    REFUSED = 2
    MISSED = 3
    TURNED_AWAY = 4
    NOT_SENT = 5
    UNKNOWN = 6


class Phase(IntEnum):
    """What a worker is about to do."""

    IDLE = 0
    LEASED = 1
    UNSURE = 2
    READY = 3
    WAITING = 4
    ANSWERED = 5


class WorkerAt(NamedTuple):
    """A worker: with which job and POST it is busy. `extra` is an Answer when ANSWERED."""

    phase: int
    job: int
    post: int
    extra: int


IDLE = WorkerAt(Phase.IDLE, 0, 0, 0)


class Left(NamedTuple):
    """What may still happen of what is bounded."""

    jumps: int
    cancels: int
    resolves: int
    calls_again: int


class World(NamedTuple):
    """A state. A line is `place of the call | answer << 3 | summaries to come << 6 | one early << 8 | unclear << 9`.

    `off` is how far worker A's clock is off.
    """

    jobs: tuple[int, ...]
    lines: tuple[tuple[int, ...], ...]
    workers: tuple[WorkerAt, ...]
    off: int
    left: Left


ANSWER, COPY, EARLY, UNCLEAR = 1 << 3, 1 << 6, 1 << 8, 1 << 9


def place(line: int) -> int:
    """The `Line` of a line."""
    return line & 7


def answer(line: int) -> int:
    """The `Answer` on its way."""
    return line >> 3 & 7


def copies(line: int) -> int:
    """How many summaries are still to come."""
    return line >> 6 & 3


def with_line(lines: tuple[tuple[int, ...], ...], job: int, post: int, line: int) -> tuple[tuple[int, ...], ...]:
    """The lines with one of them replaced."""
    its = lines[job]
    return (*lines[:job], (*its[:post], int(line), *its[post + 1 :]), *lines[job + 1 :])


def line_to(world: World, job: int, post: int, line: int) -> World:
    """The world with one line replaced."""
    return world._replace(lines=with_line(world.lines, job, post, line))


def busy(world: World, who: int, worker: WorkerAt) -> World:
    """The world with one worker replaced."""
    return world._replace(workers=(*world.workers[:who], worker, *world.workers[who + 1 :]))


RANG = frozenset({Line.RANG, Line.REACHED, Line.WAS_BUSY})

VERDICTS = {
    Answer.CREATED: Verdict(kind=VerdictKind.CREATED, message="created", code=1, session_id="session"),
    Answer.REFUSED: Verdict(kind=VerdictKind.REFUSED, message="refused", code=-1014),
    Answer.MISSED: Verdict(kind=VerdictKind.REFUSED, message="validity period has expired", code=-1015),
    Answer.TURNED_AWAY: Verdict(kind=VerdictKind.TURNED_AWAY, message="too many requests", http_status=429),
    Answer.NOT_SENT: Verdict(kind=VerdictKind.NOT_SENT, message="connection refused"),
    Answer.UNKNOWN: Verdict(kind=VerdictKind.UNKNOWN, message="read timeout"),
}

_SAID = {
    Line.JOURNALLED: "is journalled",
    Line.FLYING: "is on its way to 8x8",
    Line.TAKEN: "was taken by 8x8",
    Line.RANG: "RANG",
    Line.REACHED: "RANG and was answered",
    Line.WAS_BUSY: "RANG busy",
    Line.DROPPED: "was dropped by 8x8 unrung",
    Line.NOTHING: "is nowhere",
}


def told(world: World, book: JobBook) -> str:
    """The world in one line for people."""
    parts: list[str] = []
    for number, (job, lines) in enumerate(zip(world.jobs, world.lines, strict=True), 1):
        facts = book.facts[job]
        posts = ", ".join(
            f"POST {place_of} {_SAID[Line(place(line))]}"
            + (f" (verdict {post.verdict})" if post.verdict else "")
            + (f" (outcome {post.outcome.status_text})" if post.outcome else "")
            for place_of, (line, post) in enumerate(zip(lines, facts.posts, strict=True), 1)
        )
        name = f"job {number}" if len(world.jobs) > 1 else "job"
        parts.append(f"{name} {facts.state.upper()}{'; ' + posts if posts else ''}")
    if world.off:
        parts.append(f"worker A's clock is off by {world.off:+d} min")
    return " | ".join(parts)
