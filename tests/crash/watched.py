"""The engine's ports, watched: each boundary is reported to the fuse, and where each job is to the board."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from functools import partial
from typing import Any

from tests.crash.phases import Phase, Seat
from tests.crash.points import Fuse, Point
from tests.support.faulty_store import FaultyStore, StoreCall
from voiceflow_worker.backends.sqlite import SqliteStore
from voiceflow_worker.core.numbers.locks import NAMESPACE as NUMBERS
from voiceflow_worker.core.ports import Move, Placement, Store, Voice
from voiceflow_worker.core.ports.identity import job_of
from voiceflow_worker.core.ports.journal_files import Witness, WitnessJournal
from voiceflow_worker.core.ports.one_trip import LockingMove, Made
from voiceflow_worker.core.settling.sessions import SESSIONS
from voiceflow_worker.core.settling.settle import Settler, SummaryResult
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.reports.events import SessionSummary
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
    """A store that reports each boundary to the fuse, and where each job is to the board."""

    def __init__(self, store: Store, fuse: Fuse, seat: Seat) -> None:
        # Where the locks and the journal are one step, there is no point between them.
        super().__init__(store, lacks={"jobs.commit_locking"} if fuse.waits_for(Point.AFTER_LOCK) else ())
        self._fuse = fuse
        self._seat = seat
        self._starts = True
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
        if self._starts:
            self._starts = False
            self._seat.add(Phase.STARTING, -1)
        self._seat.add(Phase.LEASING, 1)
        try:
            leased: Sequence[Job] = await call.carry_out()
        finally:
            self._seat.add(Phase.LEASING, -1)
        for job in leased:
            self._seat.put(job.id, Phase.LEASED)
        if leased:
            await self._fuse.hit(Point.AFTER_LEASE)
        return leased

    async def _commit(self, call: StoreCall) -> Sequence[bool | Made] | None:
        given: Sequence[Move | LockingMove] = call.arguments[0]
        moves = [each.move if isinstance(each, LockingMove) else each for each in given]
        kinds = [kind_of(move) for move in moves]
        points = [kind.value for kind in dict.fromkeys(kinds) if kind.value is not None]
        during = [_DURING.get(kind) for kind in kinds]
        for move, phase in zip(moves, during, strict=True):
            self._seat.put(move.new.id, phase)
        for before, _ in points:
            await self._fuse.hit(before)
        done: Sequence[bool | Made] | None = None
        try:
            done = await call.carry_out()
        finally:
            for place, move in enumerate(moves):
                flies = kinds[place] is Kind.JOURNAL and done is not None and done[place] in {True, Made.YES}
                self._seat.put(move.new.id, Phase.JOURNALLED if flies else None)
        for _, after in points:
            await self._fuse.hit(after)
        return done

    async def _lock(self, call: StoreCall) -> object:
        values: Mapping[str, str] = call.arguments[1]
        jobs = [post[0] for post in map(job_of, values.values()) if post is not None]
        for job_id in jobs:
            self._seat.put(job_id, Phase.LOCKING)
        locked: object = await call.carry_out()
        for job_id in jobs:
            self._seat.put(job_id, Phase.LOCKED)
        await self._fuse.hit(Point.AFTER_LOCK)
        return locked


async def _writes_ended(store: SqliteStore) -> None:
    writer = store.jobs._writer
    while not writer._resting.is_set():
        await writer._resting.wait()


_DURING = {
    Kind.JOURNAL: Phase.JOURNALLING,
    Kind.VERDICT: Phase.SETTLING,
    Kind.SUMMARY: Phase.SUMMARY_SETTLING,
    Kind.SWEEP: Phase.SWEEPING,
}


class WatchedVoice:
    """A voice whose every POST is watched."""

    def __init__(self, voice: Voice, fuse: Fuse, seat: Seat) -> None:
        self._voice = voice
        self._fuse = fuse
        self._seat = seat

    async def place(self, placement: Placement, *, progress: PostProgress, now: datetime) -> Verdict:
        job_id = placement.client_request_id.rpartition(".")[0]
        self._seat.put(job_id, Phase.POSTING)
        await self._fuse.hit(Point.BEFORE_FIRST_BYTE)
        watched = _WatchedProgress(progress, job_id, self._seat)
        try:
            verdict = await self._voice.place(placement, progress=watched, now=now)
        except BaseException:
            self._seat.put(job_id, None)
            raise
        self._seat.put(job_id, Phase.ANSWERED)
        await self._fuse.hit(Point.AFTER_ANSWER)
        return verdict


class _WatchedProgress(PostProgress):
    """Reports to the board when the first byte may leave, and to the engine as before."""

    def __init__(self, told: PostProgress, job_id: str, seat: Seat) -> None:
        self._told = told
        self._job_id = job_id
        self._seat = seat

    @property
    def may_have_left(self) -> bool:
        return self._told.may_have_left

    @may_have_left.setter
    def may_have_left(self, left: bool) -> None:
        self._told.may_have_left = left
        if left:
            self._seat.put(self._job_id, Phase.SENT)


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


class WatchedSettler:
    """What the receiver hands summaries to, watched."""

    def __init__(self, settler: Settler, seat: Seat) -> None:
        self._settler = settler
        self._seat = seat

    async def summary(self, summary: SessionSummary) -> SummaryResult:
        self._seat.add(Phase.SUMMARISING, 1)
        try:
            return await self._settler.summary(summary)
        finally:
            self._seat.add(Phase.SUMMARISING, -1)
