"""The engine's ports, watched: each boundary is reported to the fuse."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from functools import partial
from typing import Any

from tests.crash.points import Fuse, Point
from tests.support.faulty_store import FaultyStore, StoreCall
from voiceflow_worker.backends.sqlite import SqliteStore
from voiceflow_worker.core.numbers.locks import NAMESPACE as NUMBERS
from voiceflow_worker.core.ports import Move, Placement, Store, Voice
from voiceflow_worker.core.ports.journal_files import Witness, WitnessJournal
from voiceflow_worker.core.ports.one_trip import LockingMove, Made
from voiceflow_worker.core.settling.sessions import SESSIONS
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.reports.verdict import PostProgress, Verdict


class Kind(Enum):
    """What a commit is for."""

    JOURNAL = (Point.BEFORE_JOURNAL, Point.AFTER_JOURNAL)
    VERDICT = (Point.BEFORE_SWAP, Point.AFTER_SWAP)
    SUMMARY = (Point.BEFORE_SUMMARY, Point.AFTER_SUMMARY)
    SWEEP = (Point.BEFORE_SWEEP, Point.AFTER_SWEEP)
    OTHER = None


def kind_of(move: Move) -> Kind:
    """What a move is for."""
    old, new = move.old, move.new
    if old.state is JobState.LEASED and new.state is JobState.SENDING:
        return Kind.JOURNAL
    if _outcomes(new) > _outcomes(old):
        return Kind.SUMMARY
    if new.posts != old.posts:
        return Kind.VERDICT
    if old.state in {JobState.LEASED, JobState.SENDING} and new.state in {JobState.QUEUED, JobState.IN_DOUBT}:
        return Kind.SWEEP
    return Kind.OTHER


def _outcomes(job: Job) -> int:
    return sum(post.outcome is not None for post in job.posts)


class WatchedStore(FaultyStore):
    """A store that reports each boundary to the fuse."""

    def __init__(self, store: Store, fuse: Fuse) -> None:
        # Where the locks and the journal are one step, there is no point between them.
        super().__init__(store, lacks={"jobs.commit_locking"} if fuse.waits_for(Point.AFTER_LOCK) else ())
        self._fuse = fuse
        if isinstance(store, SqliteStore):
            fuse.writes_ended = partial(_writes_ended, store)

    async def call(self, call: StoreCall) -> Any:
        match call.name:
            case "jobs.lease":
                return await self._lease(call)
            case "jobs.commit" | "jobs.commit_locking":
                return await self._commit(call)
            case "records.put_if_absent" | "records.claim" if call.arguments[0] == NUMBERS:
                return await self._lock(call)
        answer = await call.carry_out()
        if call.name == "records.put" and call.arguments[0] == SESSIONS:
            await self._fuse.hit(Point.AFTER_SESSION)
        return answer

    async def _lease(self, call: StoreCall) -> Sequence[Job]:
        leased: Sequence[Job] = await call.carry_out()
        if leased:
            await self._fuse.hit(Point.AFTER_LEASE)
        return leased

    async def _commit(self, call: StoreCall) -> Sequence[bool | Made] | None:
        given: Sequence[Move | LockingMove] = call.arguments[0]
        moves = [each.move if isinstance(each, LockingMove) else each for each in given]
        points = [kind.value for kind in dict.fromkeys(map(kind_of, moves)) if kind.value is not None]
        for before, _ in points:
            await self._fuse.hit(before)
        done: Sequence[bool | Made] | None = await call.carry_out()
        for _, after in points:
            await self._fuse.hit(after)
        return done

    async def _lock(self, call: StoreCall) -> object:
        locked: object = await call.carry_out()
        await self._fuse.hit(Point.AFTER_LOCK)
        return locked


async def _writes_ended(store: SqliteStore) -> None:
    writer = store.jobs._writer
    while not writer._resting.is_set():
        await writer._resting.wait()


class WatchedVoice:
    """A voice whose every POST is watched."""

    def __init__(self, voice: Voice, fuse: Fuse) -> None:
        self._voice = voice
        self._fuse = fuse

    async def place(self, placement: Placement, *, progress: PostProgress, now: datetime) -> Verdict:
        await self._fuse.hit(Point.BEFORE_FIRST_BYTE)
        verdict = await self._voice.place(placement, progress=progress, now=now)
        await self._fuse.hit(Point.AFTER_ANSWER)
        return verdict


class WatchedWitness:
    """The worker's own journal files, watched."""

    def __init__(self, witness: Witness, fuse: Fuse) -> None:
        self._witness = witness
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._witness, name)

    async def begin(self, queue: str, name: str) -> WitnessJournal:
        return _WatchedFile(await self._witness.begin(queue, name), self._fuse)


class _WatchedFile:
    def __init__(self, file: WitnessJournal, fuse: Fuse) -> None:
        self._file = file
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    async def append(self, jobs: Sequence[Job]) -> None:
        await self._file.append(jobs)
        await self._fuse.hit(Point.AFTER_FILE)
