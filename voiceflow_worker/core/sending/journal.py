"""The journal of POSTs that are about to leave. An entry is durable before the first byte of its POST leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog

from voiceflow_worker.core.guard.rollback import RollbackGuard
from voiceflow_worker.core.numbers.locks import NAMESPACE as LOCKS
from voiceflow_worker.core.numbers.locks import NumberLocks
from voiceflow_worker.core.ports import Move, Store
from voiceflow_worker.core.ports.batching import Batcher
from voiceflow_worker.core.ports.moves import move
from voiceflow_worker.core.ports.one_trip import LockingCommit, LockingMove, Made
from voiceflow_worker.core.ports.retrying import gather, retry_briefly
from voiceflow_worker.errors import StoreError
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.evidence import answered
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.records.waiting import OUTSIDE_WINDOW
from voiceflow_worker.model.reports.verdict import NotSentCause, Verdict, VerdictKind

_log = structlog.get_logger("voiceflow.journal")


@dataclass(frozen=True, slots=True)
class _Wanted:
    job: Job
    locked_at: datetime
    checked: Callable[[Move], LockingMove] | None
    """Makes of the entry a move that the store makes only after its own checks; None for an entry without them."""


_Stored = Made | StoreError
"""Whether a move was made, or the error after which this is not known."""

_Answer = Job | Made | None
"""A job as `sending`; `Made.NOT_FREE` if nothing was stored for it; None if nothing may be sent for it."""
Begun = tuple[list[Job], list[Job]]
"""Jobs that are `sending`, and jobs for which nothing was stored."""


@dataclass(frozen=True, slots=True)
class Unsent:
    """A leased job that goes back to the queue, with a reason and a wait.

    The locks that the job has had since `locked_at` are released. If it is None, no lock is released.
    """

    job: Job
    reason: str
    locked_at: datetime | None = None
    wait: timedelta = timedelta()


class Journal:
    """Begins POSTs of leased jobs, and puts back jobs that will not leave.

    With a `guard`, each POST is written to the store and to this worker's own file at the same time. The POST leaves
    when both writes are durable.
    """

    def __init__(
        self, store: Store, policy: CallPolicy, *, lease: timedelta, guard: RollbackGuard | None = None
    ) -> None:
        self._store = store
        self._policy = policy
        self._lease = lease
        self._guard = guard
        self._numbers = NumberLocks(store.records, policy)
        self._locking = store.jobs if isinstance(store.jobs, LockingCommit) else None
        self._batcher: Batcher[_Wanted, _Answer] = Batcher(self._flush)

    @property
    def can_lock(self) -> bool:
        """Whether `begin` can `lock` and `check` now, in the step that stores the entries."""
        can_lock = self._locking is not None and self._locking.can_commit_locking
        return can_lock and (self._guard is None or self._guard.is_vetted)

    async def begin(
        self, jobs: Sequence[Job], *, locked_at: datetime, lock: bool = False, check: bool = False
    ) -> Begun:
        """Journal the next POSTs of leased jobs, durably and in one commit.

        Their numbers were locked at `locked_at`. With `lock`, they are locked now, in the same step (for jobs without a
        second party). With `lock` or `check`, an entry is stored only if the suppression list has no number of its job,
        and the store was not set back. The submit window begins at `locked_at`, so that no POST outlives the lock on
        its number. A POST that is delayed beyond the window gets its journal entry, but is not sent.

        Returns the jobs that are `sending`, and the jobs for which nothing was stored, because a number is listed or
        busy, or the store may have been set back. For all other jobs, nothing may be sent: another writer changed the
        job first, the job's validity has passed (it ends), or its calling window has closed (it waits for the next
        opening). Raises `StoreError` when it is not known whether the entries were stored. Nothing may be sent then.
        """
        checked = self._numbers.locking if lock else self._numbers.locked if check else None
        answers = await self._batcher.submit_all([_Wanted(job, locked_at, checked) for job in jobs])
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        if errors and not any(isinstance(answer, Job) for answer in answers):
            raise errors[0]
        # If some jobs have their entries, they leave. The sweep settles those for which there was an error.
        left = [job for job, answer in zip(jobs, answers, strict=True) if answer is Made.NOT_FREE]
        return [answer for answer in answers if isinstance(answer, Job)], left

    async def put_back(self, unsent: Sequence[Unsent]) -> None:
        """Put back leased jobs that were not journalled, and release their numbers."""
        if not unsent:
            return
        now = self._store.clock.now()
        # Numbers first: the next worker that has the job then finds them free. A lock that is not released ends by
        # itself.
        locked = [(each.job, each.locked_at) for each in unsent if each.locked_at is not None]
        await self._numbers.release_unsent(locked, now=now)
        moves = [
            move(each.job, lifecycle.release(each.job, due_at=now + each.wait, reason=each.reason), at=now)
            for each in unsent
        ]
        await self._commit(moves)

    async def cancel(self, jobs: Sequence[tuple[Job, str]], *, locked_at: datetime) -> None:
        """End leased jobs that must not be sent, each with its reason, and release their numbers."""
        if not jobs:
            return
        now = self._store.clock.now()
        await self._numbers.release_unsent([(job, locked_at) for job, _ in jobs], now=now)
        await self._commit(
            [
                move(job, lifecycle.cancel(job, at=now, reason=reason, policy=self._policy), at=now)
                for job, reason in jobs
            ]
        )

    async def _flush(self, wanted: Sequence[_Wanted]) -> list[_Answer | BaseException]:
        moves = [self._entry(each) for each in wanted]
        made = await self._write(wanted, moves)
        results = list(zip(wanted, moves, made, strict=True))
        late = [each for each, move, done in results if done is Made.YES and not _leaves(move)]
        gone = [each for each, _, done in results if done is Made.STALE]
        # The entries are durable. A failure to release numbers must not stop the other calls, which would be in doubt.
        # A lock that is not released ends by itself.
        with suppress(StoreError):
            locked = [(each.job, each.locked_at) for each in [*late, *await self._ended(gone)]]
            await self._numbers.release_unsent(locked, now=self._store.clock.now())
        return [_begun(move, done) for _, move, done in results]

    async def _ended(self, gone: Sequence[_Wanted]) -> list[_Wanted]:
        """The jobs in `gone` that have ended. Another process has changed all jobs in `gone`.

        The jobs that have not ended keep their locks, because a phone may be ringing for one of their POSTs.
        """
        if not gone:
            return []
        ids = [each.job.id for each in gone]
        _log.info("calls are not sent, because another process has changed them", jobs=ids)
        now = await self._store.jobs.get(ids)
        ended = {job.id for job in now.values() if job.state.is_final and job.open_post is None}
        return [each for each in gone if each.job.id in ended]

    async def _write(self, wanted: Sequence[_Wanted], moves: Sequence[Move]) -> Sequence[_Stored]:
        sending = [move.new for move in moves if _leaves(move)]
        if self._guard is None or not sending:
            return await self._stored(wanted, moves)
        guard, made, written = self._guard, list[_Stored](), False

        async def commit() -> None:
            made.extend(await self._stored(wanted, moves))

        async def write() -> None:
            nonlocal written
            await guard.append(sending)
            written = True

        try:
            await gather(commit, write)  # the commit begins first, and takes longer
        except StoreError:
            if made:
                await self._take_back([move.new for move, done in zip(moves, made, strict=True) if done is Made.YES])
            elif written:
                guard.judge([False] * len(sending))
            raise
        guard.judge([done is Made.YES for move, done in zip(moves, made, strict=True) if _leaves(move)])
        return made

    async def _stored(self, wanted: Sequence[_Wanted], moves: Sequence[Move]) -> Sequence[_Stored]:
        """Whether each move was made. Moves that `lock` or `check` have a commit of their own, which comes first."""
        can_lock = self.can_lock
        locking: list[LockingMove] = []
        plain: list[Move] = []
        made: dict[str, _Stored] = {}
        for each, entry in zip(wanted, moves, strict=True):
            if each.checked is None or not _leaves(entry):
                plain.append(entry)
            elif can_lock:
                locking.append(each.checked(entry))
            else:
                # The guard noticed a restart of the server while this job waited: its checks come first.
                made[entry.old.id] = Made.NOT_FREE
        if locking:
            locked_at = max(each.locked_at for each in wanted)
            made |= zip((each.move.old.id for each in locking), await self._lock(locking, locked_at), strict=True)
        if plain:
            try:
                done: list[_Stored] = [Made.YES if each else Made.STALE for each in await self._commit(plain)]
            except StoreError as error:
                if not made:
                    raise
                # The calls that have their entries leave, whatever becomes of these moves.
                done = [error] * len(plain)
            made |= zip((move.old.id for move in plain), done, strict=True)
        return [made[move.old.id] for move in moves]

    async def _lock(self, moves: Sequence[LockingMove], locked_at: datetime) -> Sequence[Made]:
        if self._locking is None:
            raise RuntimeError("this store cannot lock numbers and commit moves in one step")
        lock = partial(
            self._locking.commit_locking,
            moves,
            namespace=LOCKS,
            expires_at=self._numbers.end_of(locked_at),
            now=self._store.clock.now(),
            known=None if self._guard is None else self._guard.known_post(),
        )
        made = await retry_briefly(lock, clock=self._store.clock, what=f"journal entries: {len(moves)}")
        return made or [Made.NOT_FREE] * len(moves)

    async def _take_back(self, jobs: Sequence[Job]) -> None:
        """Put jobs back in the queue if their entries are in the store but not in the journal file. None has left."""
        now = self._store.clock.now()
        verdict = Verdict(
            kind=VerdictKind.NOT_SENT,
            cause=NotSentCause.STORE_AWAY,
            message="the journal file of its worker could not be written",
        )
        back = [
            move(job, answered(job, job.post_count, verdict, at=now, policy=self._policy), at=now)
            for job in jobs
            if job.state is JobState.SENDING
        ]
        if back:
            await self._commit(back)

    def _entry(self, wanted: _Wanted) -> Move:
        now, job = self._store.clock.now(), wanted.job
        if job.is_expired(at=now):
            return move(job, lifecycle.expire(job, at=now, policy=self._policy), at=now)
        if not job.may_ring(at=now):
            return move(job, lifecycle.release(job, due_at=now, reason=OUTSIDE_WINDOW), at=now)
        begun = lifecycle.begin(
            job,
            at=now,
            lease_until=now + self._lease,
            policy=self._policy,
            not_after=wanted.locked_at + self._policy.submit_window,
        )
        return move(job, begun, at=now)

    async def _commit(self, moves: Sequence[Move]) -> Sequence[bool]:
        # Each try has the same moves. A store that has already made them, and whose answer was lost, says so. After the
        # last try the calls are given up. At worst they end in doubt.
        return await retry_briefly(
            partial(self._store.jobs.commit, moves), clock=self._store.clock, what=f"journal entries: {len(moves)}"
        )


def _begun(move: Move, done: _Stored) -> _Answer | StoreError:
    if isinstance(done, StoreError) or done is Made.NOT_FREE:
        return done
    return move.new if done is Made.YES and _leaves(move) else None


def _leaves(made: Move) -> bool:
    """Whether the move is the journal entry of a POST that is about to leave."""
    return made.new.state is JobState.SENDING
