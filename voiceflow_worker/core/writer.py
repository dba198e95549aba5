"""A writer: a local journal file with numbered lines, and the number of the newest line that the store has.

What must not be forgotten is a line, and its write stores the number of the line, in the order of the numbers. So a
store has all lines of a writer up to one number, and lost is what is above it. Each write is refused (NOT_VERIFIED) if
the store has another number than it should have, or if another server answers than the one that was compared.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from voiceflow_worker.core.base.record_set import RecordSet, text_records
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.outside import (
    JournalEntries,
    JournalLine,
    LocalJournal,
    LocalJournalFile,
    LocalJournalState,
)
from voiceflow_worker.core.ports.store import BulkWrite, Guard, Page, Record, Result, Wanted, Write, WriteResult
from voiceflow_worker.core.writes import ALL_WRITERS, WRITERS, writer_put, writer_same
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.text.wording import count_of

Line = TypeVar("Line")
Lines = Sequence[tuple[int, JournalLine]]
"""Lines with their numbers."""
MOST_WRITERS = 1000
"""The most writers of a store that a process compares."""


UNREAD_LINES = (
    "the store was rolled back to an older state, and {lines} cannot be read: nobody knows the {what} in them. Use the "
    "version that wrote them, or look for calls in the log of 8x8, and for opt-outs where people said so"
)


@dataclass(slots=True)
class Compared:
    """A journal file, and the number of its writer: as the store has it, and counted from 0."""

    file: LocalJournalState
    stored: str | None
    number: int

    @property
    def is_lost(self) -> bool:
        """True if the store lacks a line that it certainly had."""
        return self.number < self.file.number

    def lost(self, lines: Sequence[tuple[int, Line]]) -> list[Line]:
        """Return those of these lines of the file that the store lacks."""
        return [line for number, line in lines if number > self.number]

    def unread(self, entries: JournalEntries) -> str | None:
        """Return how many lines of the file nobody can read that the store lacks, or may lack; None for none."""
        count = sum(not number or number > self.number for number in entries.unread) if self.is_lost else 0
        return f"{count_of(count, 'line')} of the journal file {self.file.name}" if count else None

    def raising(self, number: int, *, at: datetime) -> Write:
        """Return the write that stores the number of what was restored; NOT_FREE if another process is faster."""
        put, is_so = writer_put(self.file.writer, number, at=at), writer_same(self.file.writer, self.stored)
        return Write(conditions=(is_so,), puts=(put,))

    async def raise_to(self, store: Store, number: int) -> WriteResult:
        """Store the number of what was restored; NOT_FREE if another process was faster."""
        if self.stored is not None and self.number >= number:
            return WriteResult(result=Result.DONE)
        now = store.clock.now()
        (answer,) = await store.write(BulkWrite(writes=(self.raising(number, at=now),)), now=now)
        if answer.result is Result.DONE:
            self.stored, self.number = str(number), number
        return answer


async def compared(store: Store, files: Sequence[LocalJournalState]) -> list[Compared]:
    """Compare journal files with the store: one small record is read for each."""
    numbers = await numbers_in(store).get(file.writer for file in files if not file.problem)
    found = [(file, numbers.get(file.writer)) for file in files if not file.problem]
    return [Compared(file, stored, int(stored or 0)) for file, stored in found]


def numbers_in(store: Store) -> RecordSet[str]:
    """Return the numbers of all writers in a store, by their names."""
    return text_records(store, WRITERS).within(ALL_WRITERS)


class OtherWriters:
    """The newest numbers of the other writers that the store certainly had, as one process has seen them."""

    def __init__(self) -> None:
        self.noted: dict[str, int] = {}
        self.are_there: bool = False
        """Whether there are others, by the last look."""

    @property
    def wanted(self) -> Wanted:
        """Request for the numbers of all writers, as one group."""
        return {WRITERS: Page(group=ALL_WRITERS, limit=MOST_WRITERS)}

    def take(self, found: Sequence[Record], *, but: str) -> dict[str, int]:
        """Take what was read; return the numbers of others that are higher than those that were noted."""
        others = {record.member: int(record.value) for record in found if record.member != but}
        self.are_there = bool(others)
        newer = {name: number for name, number in others.items() if number > self.noted.get(name, 0)}
        self.noted |= newer
        return newer

    def lost_in(self, found: Sequence[Record]) -> bool:
        """Return whether the store lacks a number that was noted."""
        numbers = {record.member: int(record.value) for record in found}
        return any(numbers.get(name, 0) < number for name, number in self.noted.items())

    def note(self, numbers: Mapping[str, int]) -> None:
        """Note numbers that a journal file of this host has."""
        for name, number in numbers.items():
            self.noted[name] = max(number, self.noted.get(name, 0))


def host_of(writer: str) -> str:
    """Return the host in the name of a writer."""
    return writer.rsplit("-", 2)[0]


def history_of(store: Store) -> str:
    """Return the history of its server that a process follows; empty if there is none to follow."""
    return "" if store.history is None else store.history.name


class Writer:
    """Writes the POSTs of a queue, or orders, for one process at a time."""

    def __init__(self, store: Store, journal: LocalJournal, queue: str) -> None:
        self._store = store
        self._journal = journal
        self._queue = queue
        self._places: dict[int, Lines] = {}
        self._number = 0
        self.file: LocalJournalFile | None = None
        self._has_failed = False
        self.stored: str | None = None
        """The number that the store certainly has, as text; None for none."""

    @property
    def name(self) -> str:
        """Name of the writer; empty if it has no file."""
        return "" if self.file is None else self.file.writer

    @property
    def has_failed(self) -> bool:
        """True if the last lines could not be written, and no file was begun since."""
        return self._has_failed or (self.file is not None and self.file.has_failed)

    async def begin(self, *, at: datetime, history: str = "", numbers: bool = False) -> bool:
        """Take a file that no process writes, or a new one, unless this one's goes on; the same file for a week.

        With `numbers`, the store then gets a number without a line: a store that lacks it was rolled back to a time
        before this process began. Returns False if the store lacks what the file has: it must be compared first. Raises
        `JournalFileError`.
        """
        if self.file is not None and not self.file.is_over(at=at):
            return True
        self._has_failed = True
        self.close()
        file = await self._journal.begin(self._queue, at=at, history=history)
        self._has_failed = False
        try:
            stored = (await numbers_in(self._store).get([file.writer])).get(file.writer)
            number, is_whole = max(file.number, int(stored or 0)), int(stored or 0) >= file.number
            if numbers and is_whole:
                number += 1
                put = writer_put(file.writer, number, at=at)
                write = Write(conditions=(writer_same(file.writer, stored),), puts=(put,))
                (answer,) = await self._store.write(BulkWrite(writes=(write,)), now=at)
                stored, is_whole = put.value, answer.result is Result.DONE
            if is_whole:
                self.file, self.stored, self._number = file, stored, number
            return is_whole
        finally:
            if self.file is not file:
                file.close()

    def numbered(
        self, bulk: BulkWrite, lines: Mapping[int, Sequence[JournalLine]], *, at: datetime, server: str
    ) -> BulkWrite:
        """Return the bulk write with the numbers of these lines, by their places, for the `server` that was compared.

        Some writes may have the same lines.
        """
        numbers, writes = dict[int, Lines](), list(bulk.writes)
        self._places = {}
        for place, each in lines.items():
            if id(each) not in numbers:
                numbers[id(each)] = list(enumerate(each, self._number + 1))
                self._number += len(each)
            self._places[place] = numbers[id(each)]
            put = writer_put(self.name, self._places[place][-1][0], at=at)
            writes[place] = replace(writes[place], puts=(*writes[place].puts, put))
        return replace(bulk, writes=tuple(writes), guard=Guard(server, writer_same(self.name, self.stored)))

    def append(self, places: Iterable[int]) -> Awaitable[None]:
        """Begin to write the lines of these writes of the last `numbered` (`LocalJournalFile.append`)."""
        if self.file is None:
            raise RuntimeError("the journal file was not begun")
        lines = {number: line for place in places for number, line in self._places[place]}
        return self.file.append(list(lines.items()))

    def number_of(self, place: int) -> int:
        """Return the number of the newest line of this write of the last `numbered`."""
        return self._places[place][-1][0]

    def has_stored(self, places: Collection[int]) -> None:
        """Note that the store has these writes of the last `numbered`."""
        numbers = [self._places[place][-1][0] for place in places]
        if numbers:
            self.stored = str(max(numbers))

    def close(self) -> None:
        """Leave the file to others."""
        if self.file is not None:
            self.file.close()
            self.file = self.stored = None
