"""Changes of jobs as writes of the store, and the sessions of 8x8 that belong to their POSTs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

import anyio
from msgspec import Struct

from voiceflow_worker.core import writes
from voiceflow_worker.core.base.identity import job_of
from voiceflow_worker.core.base.reading import find_jobs, find_pages, gates_at, read_each
from voiceflow_worker.core.base.record_set import RecordSet, json_records, skip_unreadable, text_records
from voiceflow_worker.core.base.round_trips import Batcher, confirm, write_each
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import not_cancelled
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.core.ports.store import BulkWrite, Result, Same, Write, WriteResult
from voiceflow_worker.core.progress import digest_of
from voiceflow_worker.core.suppression import SuppressedNumbers, why_refused
from voiceflow_worker.errors import (
    IllegalMoveError,
    InvalidInputError,
    JobError,
    JobNotFoundError,
    StaleJobError,
    StoreError,
)
from voiceflow_worker.model.flows.actions import Action
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.edits import followed
from voiceflow_worker.model.jobs.evidence import session_of, with_press
from voiceflow_worker.model.jobs.gate import GateState
from voiceflow_worker.model.jobs.job import FINAL_STATES, Job, JobState, KeyPress, NoteKind
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import SessionStatus

SESSIONS = writes.SESSION
_UNMATCHED = "elsewhere.unknown.0"
"""The value for a session that belongs to no call of this store. It has the form of a POST of a job that does not
exist."""
EARLY = "early-summary"
PRESSES = "session-press"
"""Namespace of the keys that were pressed in sessions without a known POST: one record for each, in the group of its
session."""
PRESSES_KEPT = timedelta(hours=4)


class Sessions:
    """The POST of each session, and the early summaries and key presses of sessions without a known POST.

    All are kept for seven days, but key presses for four hours. Every method raises StoreError.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._posts = text_records(store, SESSIONS, keep_for=writes.SESSION_KEPT)
        self.early: RecordSet[Outcome] = json_records(store, EARLY, Outcome, keep_for=writes.SESSION_KEPT)
        """Early summaries by session. The first summary of a session counts. A summary that cannot be read is None."""

        self._presses = json_records(store, PRESSES, KeyPress, keep_for=PRESSES_KEPT)

    async def press(self, session_id: str, press: KeyPress) -> None:
        """Store a key press of a session without a known POST. It joins the POST when the outcome of that is known."""
        same = press.event_id or f"{press.at.isoformat()} {press.menu} {press.digits}"
        # A record for each: receivers that hear of two key presses at once cannot overwrite one with the other.
        await self._presses.within(session_id).put({digest_of([same]): press})

    async def presses(self, session_ids: Iterable[str]) -> dict[str, tuple[KeyPress, ...]]:
        """Return the stored key presses of these sessions, by time."""
        wanted = list(session_ids)
        if not wanted:
            return {}
        records = (await self._store.records({PRESSES: wanted}, now=self._store.clock.now()))[PRESSES]
        found: dict[str, list[KeyPress]] = {}
        for record in records:
            press = self._presses.read({record.member: record.value})[record.member]
            if press is not None:
                found.setdefault(record.group, []).append(press)
        return {session: tuple(sorted(some, key=lambda press: press.at)) for session, some in found.items()}

    async def mark_unmatched(self, session_id: str) -> None:
        """Store that a session belongs to no call of this store, so that it is not matched by its numbers again."""
        await self._posts.put({session_id: _UNMATCHED})

    async def find(self, session_ids: Iterable[str]) -> dict[str, tuple[str, int]]:
        """Return the job id and POST number of each session that is known."""
        found = await self._posts.get(session_ids)
        known = {session: job_of(request_id) for session, request_id in found.items() if request_id is not None}
        return {session: post for session, post in known.items() if post is not None}


ROUNDS = 20
"""The most times that a change is tried. A try fails if another writer stores first; so many failures in a row happen
only in tests."""


class Changed(Struct, frozen=True):
    """One job before and after a change; the same object twice when there was nothing to change."""

    old: Job
    new: Job


class JobChange(Struct, frozen=True):
    """A pure function for one job. With `base`, the job as the caller last saw it, no job is read first."""

    job_id: str
    apply: Callable[[Job], Job]
    base: Job | None


class Changes:
    """Applies pure functions to the stored jobs, many changes in one round trip.

    All that a change requires is stored with it (`writes.settled`): the sessions of POSTs, opt-outs, the person's
    attempts, and the release of the numbers of calls that are over. With an outcome, a POST gets the keys that were
    pressed in its session before anybody knew whose session it was.
    """

    def __init__(self, store: Store, policy: CallPolicy) -> None:
        self._store = store
        self._policy = policy
        self._sessions = Sessions(store)
        self._batcher: Batcher[JobChange, Changed] = Batcher(self._flush)

    async def change(self, job_id: str, apply: Callable[[Job], Job], *, base: Job | None = None) -> Changed:
        """Apply a pure function to a job.

        If `base` is given, the job as the caller last saw it, the function is applied to it first, without a read.
        `apply` may be called again with a newer job. Raises the errors of `apply`, `JobNotFoundError`, `StaleJobError`
        when other writers stored first twenty times, `StoreVersionError` for a job that a newer version wrote, and
        `StoreUnavailableError`. After `StoreUnavailableError` it is safe to make a change by evidence again.
        """
        return await self._batcher.submit(JobChange(job_id, apply, base))

    async def change_each(self, changes: Sequence[JobChange]) -> Sequence[Changed | BaseException]:
        """Make changes in one bulk write, each as `change` does; return the result or the error of each, in order."""
        answers: Sequence[Changed | BaseException] = []
        with anyio.CancelScope(shield=True):
            try:
                answers = await self._flush(changes)
            except Exception as error:  # noqa: BLE001 - each of them has it
                answers = [error] * len(changes)
        return answers

    async def change_all(self, jobs: Sequence[Job], apply: Callable[[Job], Job]) -> int:
        """Apply one function to many jobs in one bulk write; return the number of jobs that it changed.

        A job is left out if `apply` refuses it, if it was deleted, or if another writer has changed it. One that cannot
        be read or changed is skipped, and logged. Raises `StoreError`.
        """
        if not jobs:
            return 0

        def unless_moved(found: Job) -> Callable[[Job], Job]:
            return lambda job: apply(job) if job.revision == found.revision else job

        answers: Sequence[Changed | BaseException] = []
        with anyio.CancelScope(shield=True):
            answers = await self._flush([JobChange(job.id, unless_moved(job), job) for job in jobs])
        for job, answer in zip(jobs, answers, strict=True):
            if isinstance(answer, BaseException) and not isinstance(answer, JobError):
                with skip_unreadable(f"call {job.id}"):
                    raise answer
        return sum(isinstance(answer, Changed) and answer.new is not answer.old for answer in answers)

    async def _flush(self, changes: Sequence[JobChange]) -> list[Changed | BaseException]:
        answers: dict[int, Changed | BaseException] = {}
        todo: dict[str, list[int]] = {}
        for index, change in enumerate(changes):
            todo.setdefault(change.job_id, []).append(index)
        bases = {change.job_id: change.base for change in changes if change.base is not None}
        for _ in range(ROUNDS):
            if not todo:
                break
            try:
                read = await read_each(self._store, [job_id for job_id in todo if job_id not in bases])
                for job_id, error in read.unreadable.items():
                    answers.update(dict.fromkeys(todo.pop(job_id), error))
                left = await self._round(changes, todo, bases, read.jobs, answers)
            except StoreError as away:
                # What earlier rounds have stored is returned, whatever comes after them.
                for index in (index for indexes in todo.values() for index in indexes):
                    answers.setdefault(index, away)
                todo = {}
                break
            # After a refusal the job is read again, because the caller's copy is out of date.
            todo, bases = {job_id: todo[job_id] for job_id in left}, {}
        for job_id, indexes in todo.items():
            answers.update(dict.fromkeys(indexes, StaleJobError(job_id)))
        return [answers[index] for index in range(len(changes))]

    async def _round(
        self,
        changes: Sequence[JobChange],
        todo: Mapping[str, list[int]],
        bases: Mapping[str, Job],
        read: Mapping[str, Job],
        answers: dict[int, Changed | BaseException],
    ) -> list[str]:
        """Try all remaining changes once; return the ids of the jobs to try again."""
        new_of: dict[str, tuple[Job, Job]] = {}
        tried: dict[str, dict[int, Exception]] = {}
        again: list[str] = []
        standing: dict[int, Changed] = {}
        now = self._store.clock.now()
        for job_id, indexes in todo.items():
            old = bases.get(job_id) or read.get(job_id)
            if old is None:
                answers.update(dict.fromkeys(indexes, JobNotFoundError(job_id)))
                continue
            applies = [(index, changes[index].apply) for index in indexes]
            new, errors = _applied(old, applies)
            if new is not old:
                new_of[job_id], tried[job_id] = (old, new), errors
            elif job_id in bases:
                # "Nothing to change" holds only for the job as the store has it.
                again.append(job_id)
            else:
                answers.update(errors)
                standing.update({index: Changed(old, old) for index in indexes if index not in errors})
        if standing:
            await confirm(self._store)
            answers.update(standing)
        if not new_of:
            return again
        presses = await self._sessions.presses(_sessions_with_new_outcome(new_of.values()))
        made: list[tuple[Changed, Write]] = []
        store_id = self._store.id
        for old, new in new_of.values():
            after = followed(_with_presses(new, presses), at=now, policy=self._policy)
            fresh, write = writes.settled(
                old, after, at=now, policy=self._policy, store_id=store_id, conditions=_open_batch(old, after)
            )
            made.append((Changed(old, fresh), write))
        written = await write_each(self._store, BulkWrite(writes=tuple(write for _, write in made)), now=now)
        for (changed, _), answer in zip(made, written, strict=True):
            job_id = changed.new.id
            judged = _judged(changed, answer)
            if isinstance(judged, Exception):
                answers.update(dict.fromkeys(todo[job_id], judged))
                continue
            if judged.result is not Result.DONE:
                again.append(job_id)
                continue
            for index in todo[job_id]:
                answers[index] = tried[job_id].get(index) or changed
        return again


def _open_batch(old: Job, new: Job) -> tuple[Same, ...]:
    """Return the condition that a call which has ended comes back only into a batch that was not cancelled."""
    is_redialled = old.state.is_final and new.state is JobState.QUEUED
    return (not_cancelled(old.queue, old.batch_id),) if is_redialled and old.batch_id is not None else ()


def _judged(changed: Changed, answer: WriteResult | StoreError) -> WriteResult | Exception:
    """Return the answer to a change, or the error of one that is not tried again."""
    old = changed.old
    if isinstance(answer, StoreError) or answer.condition not in _open_batch(old, changed.new):
        return answer
    remedy = f"its batch {old.batch_id} was cancelled, and its calls are never sent; enqueue a new call in another one"
    return IllegalMoveError(old.id, state=old.state.value, move=lifecycle.MoveName.REDIAL, remedy=remedy)


def _sessions_with_new_outcome(jobs: Iterable[tuple[Job, Job]]) -> Iterator[str]:
    """Return the sessions that get their outcome in these changes, of calls that may ask for keys."""
    for old, new in jobs:
        if new.menu is None and Action.SAY_AND_CAPTURE not in new.body:
            continue
        for post in new.posts:
            before = old.post(post.number)
            session = session_of(post)
            if session is not None and post.outcome is not None and (before is None or before.outcome is None):
                yield session


def _with_presses(job: Job, presses: Mapping[str, Sequence[KeyPress]]) -> Job:
    """Return the job with key presses of its sessions."""
    for post in job.posts if presses else ():
        for press in presses.get(session_of(post) or "", ()):
            job = with_press(job, post.number, press)
    return job


def _applied(old: Job, applies: Iterable[tuple[int, Callable[[Job], Job]]]) -> tuple[Job, dict[int, Exception]]:
    """Return the job after these changes, in order, and the errors by index. A failed change has no effect."""
    job = old
    errors: dict[int, Exception] = {}
    for index, apply in applies:
        try:
            job = apply(job)
        except Exception as error:  # noqa: BLE001 - an error in one change is for its caller, not for the whole batch
            errors[index] = error
    return job, errors


PAGE = 200
"""The most jobs moved in one bulk write."""

SUPPRESSED = "on the suppression list"
BEFORE = "redialled before"
CANCELLED = "cancelled by a person"
DOUBTFUL = "with another POST in doubt"
SINCE = "that ended after the redial was ordered"
TOO_LATE = "no longer valid, or without an open calling window"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedialledBatch:
    """The result of an order to redial: how many calls were redialled, and how many were left out, by reason."""

    batch_id: str
    redialled: int
    left_out: Mapping[str, int]
    posts: Mapping[str, int] = field(default_factory=dict[str, int])
    """Of a dry run: the ids of the calls that would be redialled, each with the number of its newest POST."""

    def as_json(self) -> dict[str, object]:
        """Return the result as JSON, for scripts."""
        return {"batch_id": self.batch_id, "redialled": self.redialled, "left_out": dict(self.left_out)}


async def redial_batch(
    store: Store,
    queue: str,
    batch_id: str,
    on: Iterable[SessionStatus],
    *,
    changes: Changes,
    at: datetime,
    note: str,
    times: int,
    dry_run: bool,
    among: Mapping[str, int] | None = None,
) -> RedialledBatch:
    """Redial the calls of a batch that ended with one of these statuses; a dry run only counts them.

    Calls that ended after `at` are left out, calls that people have redialled `times` times already, and those that are
    not `among` these ids with these newest POSTs. Each job counts its redials, so repeating an interrupted order
    redials nobody twice. Raises InvalidInputError for a cancelled batch, and StoreError.
    """
    gate = (await gates_at(store, queue, [batch_id])).get(batch_id)
    if gate is not None and gate.state is GateState.CANCELLED:
        raise InvalidInputError(
            f"batch {batch_id} was cancelled, and its calls are never sent; nothing was redialled. "
            "To call these people, enqueue their rows under another batch id, with new unique keys if they "
            "have keys of their own"
        )
    suppression = SuppressedNumbers(store)
    redialled, left_out, posts = 0, Counter[str](), dict[str, int]()
    again = partial(lifecycle.redial, at=at, note=note)
    async with aclosing(find_pages(store, _ended_with(on, queue, batch_id))) as pages:
        async for page in pages:
            ended = [
                job for job in page
                if job.touched_at <= at and (among is None or among.get(job.id) == job.post_count)
            ]  # fmt: skip
            free, why = await _redialable(ended, suppression, at=at, times=times)
            left_out += why
            left_out[SINCE] += len(page) - len(ended)
            redialled += len(free) if dry_run else await changes.change_all(free, again)
            posts |= {job.id: job.post_count for job in free}
    return RedialledBatch(batch_id=batch_id, redialled=redialled, left_out=+left_out, posts=posts)


async def next_redial(store: Store, queue: str, batch_id: str, on: Iterable[SessionStatus]) -> int | None:
    """Return the `times` of another redial of a batch: one more than people have redialled its calls so far.

    None if no call may be redialled that ended with one of these statuses. Of many, the first `PAGE` count. Raises
    StoreError.
    """
    ended, now = await find_jobs(store, _ended_with(on, queue, batch_id)), store.clock.now()
    free, _ = await _redialable(ended, SuppressedNumbers(store), at=now, times=sys.maxsize)
    if not free:
        return 1 if len(ended) == PAGE else None
    return 1 + max(sum(note.kind is NoteKind.REDIALLED for note in job.notes) for job in free)


def _ended_with(on: Iterable[SessionStatus], queue: str, batch_id: str) -> Listing:
    outcomes = frozenset(status.value for status in on)
    return Listing(queue=queue, states=FINAL_STATES, batch=batch_id, outcomes=outcomes, limit=PAGE)


async def _redialable(
    ended: Sequence[Job], suppression: SuppressedNumbers, *, at: datetime, times: int
) -> tuple[list[Job], Counter[str]]:
    """Return the calls that people may redial, and how many others are left out, by reason."""
    reasons = [why_not(job, at=at, times=times) for job in ended]
    ready = [job for job, reason in zip(ended, reasons, strict=True) if reason is None]
    listed = await suppression.entries_of([number for job in ready for number in job.parties])
    free = [job for job in ready if why_refused(job, listed, at=at) is None]
    left_out = Counter(filter(None, reasons))
    left_out[SUPPRESSED] += len(ready) - len(free)
    return free, left_out


def why_not(job: Job, *, at: datetime, times: int) -> str | None:
    """Return the reason why a call that ended is left out of the redials of its batch; None if it is redialled."""
    if job.open_post is not None:
        return DOUBTFUL
    if lifecycle.was_cancelled(job):
        return CANCELLED
    if sum(note.kind is NoteKind.REDIALLED for note in job.notes) >= times:
        return BEFORE
    try:
        lifecycle.redial(job, at=at, note="")
    except IllegalMoveError:
        return TOO_LATE
    return None
