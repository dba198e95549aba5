"""Jobs as small numbers: each that can come about is kept once, and each move of it is made once, by the real rules.

Two jobs are the same here if no rule can tell them apart: what only people read (reasons, texts) is left out, times
that have passed long enough are only "past", and POSTs that left no trace anywhere are forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tests.explorer.scene import NOW, POLICY, REDIAL_AFTER, SKEW, TICK, Rules, Scene, moment
from voiceflow_worker.errors import JobError
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.job import (
    Job,
    JobState,
    Note,
    NoteKind,
    Post,
    RedialPolicy,
)
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import VerdictKind

COMPLETED = Outcome(status=SessionStatus.COMPLETED, status_text="COMPLETED")
BUSY = Outcome(status=SessionStatus.BUSY, status_text="BUSY")
DROPPED = Outcome(status=SessionStatus.FAILED, status_text="FAILED", code=-2007)

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
    if new.state.is_final and new.active_until is not None:
        raise PromiseBrokenError(f"a job that is {new.state} still counts as active")


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
        verdict=post.verdict,
        session_id=post.session_id and f"session {number}",
        outcome=post.outcome and _canonical_outcome(post.outcome),
    )


def _canonical_outcome(outcome: Outcome) -> Outcome:
    return next(known for known in (COMPLETED, BUSY, DROPPED) if known.status is outcome.status)


def _shifted(job: Job, by: timedelta) -> Job:
    return replace(
        job,
        due_at=job.due_at + by,
        valid_until=None if job.valid_until is None else job.valid_until + by,
        posts=tuple(replace(post, valid_until=post.valid_until + by) for post in job.posts),
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
            looked = lifecycle.look_again(job, at=NOW, policy=POLICY)
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
                    job = rules.release(job, due_at=NOW)
                case JobState.SENDING:
                    job = rules.overdue_sending(job, at=NOW, reason="", policy=POLICY)
                case JobState.SUBMITTED:
                    job = rules.overdue_submitted(job, at=NOW, policy=POLICY)
                case _:
                    pass
    raise PromiseBrokenError(f"nobody sweeps a job that is {job.state}: never lost")
