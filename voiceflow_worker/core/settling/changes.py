"""Changes of jobs by pure functions. If another writer commits first, a change is applied again to the newer job."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import anyio

from voiceflow_worker.core.numbers.locks import NumberLocks
from voiceflow_worker.core.numbers.person_cap import PersonCaps
from voiceflow_worker.core.numbers.suppression import SuppressionList
from voiceflow_worker.core.ports import Move, Store
from voiceflow_worker.core.ports.batching import Batcher
from voiceflow_worker.core.ports.identity import queue_of
from voiceflow_worker.core.ports.moves import move
from voiceflow_worker.core.ports.reading import read_each
from voiceflow_worker.core.ports.retrying import gather, retry_briefly
from voiceflow_worker.core.settling.sessions import Sessions
from voiceflow_worker.errors import JobError, JobNotFoundError, StaleJobError, StoreError
from voiceflow_worker.model.flows.actions import Action
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy

ROUNDS = 20
"""The most times that a change is tried. A try fails if another writer commits first; so many failures in a row happen
only in tests."""


@dataclass(frozen=True, slots=True)
class Changed:
    """One job before and after a change; the same object twice when there was nothing to change."""

    old: Job
    new: Job


@dataclass(frozen=True, slots=True)
class Change:
    """A pure function for one job. With `base`, the job as the caller last saw it, no job is read first."""

    job_id: str
    apply: Callable[[Job], Job]
    base: Job | None


class Changes:
    """Applies pure functions to the stored jobs, many changes in one commit.

    It also does what every change requires: it stores the sessions of POSTs, puts numbers that opted out on the
    suppression list, and releases the numbers of calls that are over.
    """

    def __init__(self, store: Store, policy: CallPolicy) -> None:
        self._store = store
        self._sessions = Sessions(store)
        self._suppression = SuppressionList(store)
        self._numbers = NumberLocks(store.records, policy)
        self._caps = PersonCaps(store.records, policy)
        self._batcher: Batcher[Change, Changed] = Batcher(self._flush)

    async def change(self, job_id: str, apply: Callable[[Job], Job], *, base: Job | None = None) -> Changed:
        """Apply a pure function to a job.

        If `base` is given, the job as the caller last saw it, the function is applied to it first, without a read.
        `apply` may be called again with a newer job. Raises the errors of `apply`, `JobNotFoundError`, `StaleJobError`
        when other writers committed first twenty times, `StoreVersionError` for a job that a newer version wrote, and
        `StoreUnavailableError`. After `StoreUnavailableError` it is safe to make a change by evidence again.
        """
        return await self._batcher.submit(Change(job_id, apply, base))

    async def change_each(self, changes: Sequence[Change]) -> Sequence[Changed | BaseException]:
        """Make changes in one commit, each as `change` does; returns the result or the error of each, in order."""
        return await self._batcher.submit_all(changes)

    async def change_all(self, jobs: Sequence[Job], apply: Callable[[Job], Job]) -> int:
        """Apply one function to many jobs in one commit; returns the number of jobs that it changed.

        A job is left out if `apply` refuses it, if it was deleted, or if another writer has changed it. Raises
        `StoreUnavailableError`.
        """

        def unless_moved(found: Job) -> Callable[[Job], Job]:
            return lambda job: apply(job) if job.revision == found.revision else job

        answers: Sequence[Changed | BaseException] = []
        with anyio.CancelScope(shield=True):  # the steps that a commit requires must follow it
            answers = await self._flush([Change(job.id, unless_moved(job), job) for job in jobs])
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, JobError):
                raise answer
        return sum(isinstance(answer, Changed) and answer.new is not answer.old for answer in answers)

    async def release_again(self, jobs: Sequence[Job]) -> None:
        """Release the numbers of calls whose evidence came again, in case the first release was interrupted.

        Raises `StoreUnavailableError`.
        """
        now = self._store.clock.now()
        await self._numbers.release_settled([job for job in jobs if not self._numbers.are_needed(job, at=now)])
        ended = [post for job in jobs if _may_bridge(job) for post in job.posts if post.outcome is not None]
        await self._numbers.release_bridged([post.client_request_id for post in ended], now=now)

    async def _flush(self, changes: Sequence[Change]) -> list[Changed | BaseException]:
        answers: dict[int, Changed | BaseException] = {}
        todo: dict[str, list[int]] = {}
        for place, change in enumerate(changes):
            todo.setdefault(change.job_id, []).append(place)
        remembered = {change.job_id: change.base for change in changes if change.base is not None}
        for _ in range(ROUNDS):
            if not todo:
                break
            read = await read_each(self._store.jobs, [job_id for job_id in todo if job_id not in remembered])
            for job_id, error in read.unreadable.items():
                answers.update(dict.fromkeys(todo.pop(job_id), error))
            left = await self._round(changes, todo, remembered, read.jobs, answers)
            # After a refused commit the job is read again, because the caller's copy is out of date.
            todo, remembered = {job_id: todo[job_id] for job_id in left}, {}
        for job_id, places in todo.items():
            answers.update(dict.fromkeys(places, StaleJobError(job_id)))
        return [answers[place] for place in range(len(changes))]

    async def _round(
        self,
        changes: Sequence[Change],
        todo: Mapping[str, list[int]],
        remembered: Mapping[str, Job],
        read: Mapping[str, Job],
        answers: dict[int, Changed | BaseException],
    ) -> list[str]:
        """Try all remaining changes once; returns the ids of the jobs to try again."""
        moves: list[Move] = []
        tried: dict[str, dict[int, Exception]] = {}
        again: list[str] = []
        now = self._store.clock.now()
        for job_id, places in todo.items():
            old = remembered.get(job_id) or read.get(job_id)
            if old is None:
                answers.update(dict.fromkeys(places, JobNotFoundError(job_id)))
                continue
            new, errors = _applied(old, [(place, changes[place].apply) for place in places])
            if new is not old:
                moves.append(move(old, new, at=now))
                tried[job_id] = errors
            elif job_id in remembered:
                # "Nothing to change" holds only for the job as the store has it.
                again.append(job_id)
            else:
                for place in places:
                    answers[place] = errors.get(place) or Changed(old, old)
        taken = await self._commit(moves)
        for made in moves:
            job_id = made.new.id
            if job_id not in taken:
                again.append(job_id)
                continue
            for place in todo[job_id]:
                answers[place] = tried[job_id].get(place) or Changed(made.old, made.new)
        return again

    async def _commit(self, moves: Sequence[Move]) -> set[str]:
        """Commit moves, and update sessions, places, locks and opt-outs; returns the ids of the committed jobs."""
        if not moves:
            return set()
        # Before the commit, and so before the number is released: the next call that locks the number finds it on the
        # list.
        await self._suppression.remember_opt_outs(moves)
        # Before the commit too: a process that dies after it must not leave an attempt uncounted.
        await self._caps.count_after_all(moves, now=self._store.clock.now())
        sessions = _new_sessions(moves)
        taken: list[Move] = []

        async def commit(queue_moves: Sequence[Move]) -> None:
            results = await self._store.jobs.commit(queue_moves)
            taken.extend(each for each, done in zip(queue_moves, results, strict=True) if done)

        # A session belongs to its POST even if the commit is refused, so both are stored at the same time.
        await gather(
            partial(self._remember, sessions),
            *(partial(commit, queue_moves) for queue_moves in _by_queue(moves).values()),
        )
        # Before the number is released: the next call that locks it then finds the place free.
        await self._caps.settle(taken, now=self._store.clock.now())
        await self._count_again([each.new.id for each in taken if each.old.state is JobState.IN_DOUBT])
        now = self._store.clock.now()
        needed = partial(self._numbers.are_needed, at=now)
        await self._numbers.release_settled([each.new for each in taken if needed(each.old) and not needed(each.new)])
        await self._numbers.release_bridged(_ended_in_menus(taken), now=now)
        await self._forget(_lost_sessions(taken))
        return {each.new.id for each in taken}

    async def _count_again(self, doubts: Sequence[str]) -> None:
        """Take places again for calls whose place was freed, if evidence since the commit shows that they rang."""
        if doubts and self._caps.is_limited:
            found = await read_each(self._store.jobs, doubts)
            await self._caps.restore(list(found.jobs.values()), now=self._store.clock.now())

    async def _remember(self, sessions: Mapping[str, str]) -> None:
        # A failure only delays a summary without clientRequestId: the jobs have their sessions too.
        with contextlib.suppress(StoreError):
            remember = partial(self._sessions.remember, sessions)
            await retry_briefly(remember, clock=self._store.clock, what="storing the sessions of calls")

    async def _forget(self, sessions: Mapping[str, str]) -> None:
        with contextlib.suppress(StoreError):  # harmless: a session is checked against its POST when it is found
            await self._sessions.forget(sessions)


def _applied(old: Job, applies: Iterable[tuple[int, Callable[[Job], Job]]]) -> tuple[Job, dict[int, Exception]]:
    """The job after these changes, in order, and the errors by index of the change. A failed change has no effect."""
    job = old
    errors: dict[int, Exception] = {}
    for place, apply in applies:
        try:
            job = apply(job)
        except Exception as error:  # noqa: BLE001 - an error in one change is for its caller, not for the whole batch
            errors[place] = error
    return job, errors


def _new_sessions(moves: Sequence[Move]) -> dict[str, str]:
    return {
        post.session_id: post.client_request_id
        for each in moves
        if each.new.posts is not each.old.posts
        for post in each.new.posts
        if post.session_id is not None
        and ((was := each.old.post(post.number)) is None or was.session_id != post.session_id)
    }


def _lost_sessions(moves: Sequence[Move]) -> dict[str, str]:
    """Sessions that were matched to a POST, but belong to another call."""
    return {
        was.session_id: was.client_request_id
        for each in moves
        if each.new.posts is not each.old.posts
        for was in each.old.posts
        if was.session_id is not None
        and (post := each.new.post(was.number)) is not None
        and post.session_id != was.session_id
    }


def _by_queue(moves: Sequence[Move]) -> dict[str, list[Move]]:
    queues: dict[str, list[Move]] = {}
    for each in moves:
        queues.setdefault(queue_of(each.new.id), []).append(each)
    return queues


def _ended_in_menus(moves: Sequence[Move]) -> list[str]:
    """The POSTs whose sessions are now known to have ended, and whose menus may have bridged to other numbers."""
    return [
        post.client_request_id
        for each in moves
        if each.new.posts is not each.old.posts and _may_bridge(each.new)
        for post in each.new.posts
        if post.outcome is not None and ((was := each.old.post(post.number)) is None or was.outcome is None)
    ]


def _may_bridge(job: Job) -> bool:
    return job.menu is not None or Action.SAY_AND_CAPTURE in job.body
