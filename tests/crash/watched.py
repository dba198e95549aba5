"""The engine's ports, watched: each boundary is reported to the fuse."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import partial
from typing import Any, cast

from tests.crash.points import Fuse, Point
from tests.support.faulty_store import FaultyStore, StoreCall
from voiceflow_worker.backends.sqlite import SqliteStore
from voiceflow_worker.core.ports import EventKind, Placement, Store, Voice
from voiceflow_worker.core.ports.outside import JournalLine, LocalJournal, LocalJournalFile
from voiceflow_worker.core.ports.store import Replace, Write
from voiceflow_worker.core.sending.journal import Dispatch
from voiceflow_worker.core.sending.submit import CallSender
from voiceflow_worker.gateway.client import VoiceClient
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.reports.verdict import BeforeFirstByte, Verdict


class Kind(Enum):
    """What a commit is for."""

    JOURNAL = (Point.BEFORE_JOURNAL, Point.AFTER_JOURNAL)
    VERDICT = (Point.BEFORE_SWAP, Point.AFTER_SWAP)
    SUMMARY = (Point.BEFORE_SUMMARY, Point.AFTER_SUMMARY)
    SWEEP = (Point.BEFORE_SWEEP, Point.AFTER_SWEEP)
    OTHER = None


def kind_of(write: Write) -> Kind:
    """What a write is for."""
    change = next((each for each in write.changes if isinstance(each, Replace)), None)
    if change is None:
        return Kind.OTHER
    job, was_sending = change.job, change.tally.get("state:sending", 0) < 0
    if job.state is JobState.SENDING:
        return Kind.JOURNAL
    told = [job.post(event.post) for event in write.events if event.kind in {EventKind.ATTEMPTED, EventKind.ENDED}]
    if any(post is not None and post.outcome is not None for post in told):
        return Kind.SUMMARY
    if was_sending and not (job.reason or "").startswith("its lease ended while"):
        return Kind.VERDICT
    if was_sending or (change.tally.get("state:leased", 0) < 0 and job.state is JobState.QUEUED):
        return Kind.SWEEP
    return Kind.OTHER


class WatchedStore(FaultyStore):
    """A store that reports each boundary to the fuse."""

    def __init__(self, store: Store, fuse: Fuse) -> None:
        super().__init__(store)
        self._fuse = fuse
        file = getattr(store, "inner", store)
        if isinstance(file, SqliteStore):
            fuse.writes_ended = partial(_writes_ended, file)

    async def call(self, call: StoreCall) -> Any:
        match call.name:
            case "lease":
                return await self._lease(call)
            case "write":
                return await self._write(call)
        return await call.carry_out()

    async def _lease(self, call: StoreCall) -> Sequence[Job]:
        leased: Sequence[Job] = await call.carry_out()
        if leased:
            await self._fuse.hit(Point.AFTER_LEASE)
        return leased

    async def _write(self, call: StoreCall) -> object:
        kinds = dict.fromkeys(kind_of(write) for write in call.arguments[0].writes)
        points = [kind.value for kind in kinds if kind.value is not None]
        for before, _ in points:
            await self._fuse.hit(before)
        written: object = await call.carry_out()
        for _, after in points:
            await self._fuse.hit(after)
        return written


async def _writes_ended(store: SqliteStore) -> None:
    writer = store.writer
    while not writer._resting.is_set():
        await writer._resting.wait()


class WatchedVoice:
    """A voice whose every POST is watched."""

    def __init__(self, voice: Voice, fuse: Fuse) -> None:
        self._voice = cast("VoiceClient", voice)
        self._fuse = fuse

    async def place(self, placement: Placement, *, before_first_byte: BeforeFirstByte) -> Verdict:
        verdict = await self._voice.place(placement, before_first_byte=before_first_byte)
        await self._fuse.hit(Point.AFTER_ANSWER)
        return verdict


def watch_entries(fuse: Fuse) -> None:
    """Report each call that has its journal entry, and of which nothing has left."""
    enter = CallSender.enter

    async def entered(self: CallSender, dispatch: Dispatch) -> None:
        await enter(self, dispatch)
        if dispatch.is_begun:
            await fuse.hit(Point.BEFORE_FIRST_BYTE)

    CallSender.enter = entered  # type: ignore[method-assign]


class WatchedJournal:
    """The worker's own journal files, watched."""

    def __init__(self, local_journal: LocalJournal, fuse: Fuse) -> None:
        self._journal_files = local_journal
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal_files, name)

    async def begin(self, queue: str, **more: Any) -> LocalJournalFile:
        file = _WatchedFile(await self._journal_files.begin(queue, **more), self._fuse)
        return cast("LocalJournalFile", file)


class _WatchedFile:
    def __init__(self, file: LocalJournalFile, fuse: Fuse) -> None:
        self._file = file
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    async def append(self, lines: Sequence[tuple[int, JournalLine]]) -> None:
        await self._file.append(lines)
        await self._fuse.hit(Point.AFTER_FILE)
