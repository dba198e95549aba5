"""A writer: a local journal file with numbered lines, and the number of the newest line that the store has.

What must not be forgotten is a line of the file, on the disk before its write has returned; and the write stores the
number of the line, in the order of the numbers. So a store has all lines of a writer up to one number, and lost is what
is above it. Each write is refused (NOT_VERIFIED) if the store has another number than it should have, or if another
server answers than the one with which the files were compared.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.outside import ORDERS, JournalLine, LocalJournal, LocalJournalFile, LocalJournalState
from voiceflow_worker.core.ports.store import BulkWrite, Guard, Result, Same, Write, WriteResult
from voiceflow_worker.core.writes import WRITERS, writer_put
from voiceflow_worker.model.copying import replace


@dataclass(slots=True)
class Compared:
    """A journal file, and the number of its writer: as the store has it, and counted from 0."""

    file: LocalJournalState
    stored: str | None
    number: int

    @property
    def is_lost(self) -> bool:
        """Whether the store lacks a line that it certainly had."""
        return self.number < self.file.kept

    @property
    def newest(self) -> int:
        """The number of the newest line that counts. Of a file that is open, what is just being written does not."""
        return self.file.kept if self.file.is_open else self.file.last

    async def raise_to(self, store: Store, number: int, write: Write | None = None) -> WriteResult:
        """Store the number of what was restored, in this write; NOT_FREE if another process was faster."""
        if self.stored is not None and self.number >= number:
            return WriteResult(result=Result.DONE)
        put, now = writer_put(self.file.writer, number, at=store.clock.now()), store.clock.now()
        write = write or Write()
        is_next = Same(WRITERS, self.file.writer, self.stored)
        write = replace(write, conditions=(is_next, *write.conditions), puts=(*write.puts, put))
        (answer,) = await store.write(BulkWrite(writes=(write,)), now=now)
        if answer.result is Result.DONE:
            self.stored, self.number = put.value, number
        return answer


async def compared(store: Store, files: Sequence[LocalJournalState]) -> list[Compared]:
    """Compare journal files with the store: one small record is read for each."""
    numbers = await text_records(store, WRITERS).get(file.writer for file in files)
    found = [(file, numbers.get(file.writer)) for file in files]
    return [Compared(file, stored, int(stored or 0)) for file, stored in found]


class Writer:
    """Writes the POSTs of a queue, or orders, for one process at a time."""

    def __init__(self, store: Store, journal: LocalJournal, queue: str) -> None:
        self._store = store
        self._journal = journal
        self._queue = queue
        self._lines: list[JournalLine] = []
        self._places: dict[int, range] = {}
        self._number = self._first = 0
        self.file: LocalJournalFile | None = None
        self.stored: str | None = None
        """The number that the store certainly has, as text; None for none."""

    @property
    def name(self) -> str:
        """The name of the writer; empty if it has no file."""
        return "" if self.file is None else self.file.writer

    async def begin(self, *, at: datetime, history: str = "", tells: bool = False) -> bool:
        """Take a file that no process writes, or a new one, unless this one's goes on; the same file for a week.

        With `tells`, the store then gets a number without a line: one that lacks it was rolled back to a time before
        this process began. Returns False if the store lacks what the file has: it must be compared first. Raises
        `JournalFileError`.
        """
        if self.file is not None and not self.file.is_over(at=at):
            return True
        self.close()
        file = await self._journal.begin(self._queue, at=at, history=history)
        self.stored = (await text_records(self._store, WRITERS).get([file.writer])).get(file.writer)
        # An order of which nobody knows is given again; a POST of which nobody knows was not sent.
        is_whole = int(self.stored or 0) >= (file.last if self._queue == ORDERS else file.kept)
        self.file, self._number = file, max(file.number, int(self.stored or 0))
        if tells and is_whole:
            self._number += 1
            put = writer_put(file.writer, self._number, at=at)
            write = Write(conditions=(Same(WRITERS, file.writer, self.stored),), puts=(put,))
            (answer,) = await self._store.write(BulkWrite(writes=(write,)), now=at)
            self.stored, is_whole = put.value, answer.result is Result.DONE
        if not is_whole:
            self.close()
        return is_whole

    def numbered(
        self, bulk: BulkWrite, lines: Mapping[int, Sequence[JournalLine]], *, at: datetime, server: str
    ) -> BulkWrite:
        """The bulk write with the numbers of these lines, by the places of their writes; some may have the same lines.

        It is for the `server` with which the files were compared.
        """
        self._first, self._lines, self._places = self._number + 1, [], {}
        numbers, writes = dict[int, range](), list(bulk.writes)
        for place, each in lines.items():
            if id(each) not in numbers:
                numbers[id(each)] = range(self._number + 1, self._number + 1 + len(each))
                self._number += len(each)
                self._lines += each
            self._places[place] = numbers[id(each)]
            put = writer_put(self.name, self._places[place][-1], at=at)
            writes[place] = replace(writes[place], puts=(*writes[place].puts, put))
        return replace(bulk, writes=tuple(writes), guard=Guard(server, Same(WRITERS, self.name, self.stored)))

    def append(self) -> Awaitable[None]:
        """Begin to write the lines of the last `numbered` to the file, as `LocalJournalFile.append` does."""
        if self.file is None:
            raise RuntimeError("the journal file was not begun")
        return self.file.append(self._lines, first=self._first)

    def record(self, committed: Mapping[int, bool | None]) -> None:
        """Record what became of the last `numbered`, by place: the store has it, or not, or (None) nobody knows."""
        fates: dict[int, bool | None] = {}
        for place, done in committed.items():
            fates |= {number: fates.get(number) or done for number in self._places[place]}
        if self.file is not None:
            self.file.record_committed([fates[number] for number in sorted(fates)])
        self.stored = max((str(number) for number, done in fates.items() if done), key=int, default=self.stored)

    def close(self) -> None:
        """Leave the file to others."""
        if self.file is not None:
            self.file.close()
            self.file = None
