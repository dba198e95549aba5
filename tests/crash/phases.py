"""The phase that a process is in, readable after it was killed: counters in memory shared with its killer."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from enum import IntEnum, auto
from pathlib import Path


class Phase(IntEnum):
    """A stretch of a call's way, or of a process's; the board counts how many are in it."""

    STARTING = 0
    LEASING = auto()
    LEASED = auto()
    LOCKING = auto()
    LOCKED = auto()
    JOURNALLING = auto()
    JOURNALLED = auto()
    """The store says `sending`; the gateway does not have it yet."""
    POSTING = auto()
    """The gateway has it; nothing has left."""
    SENT = auto()
    """Bytes may have left; there is no answer."""
    ANSWERED = auto()
    SETTLING = auto()
    SWEEPING = auto()
    SUMMARISING = auto()
    """A summary is in; its commit has not begun."""
    SUMMARY_SETTLING = auto()

    @property
    def label(self) -> str:
        """The phase in a report."""
        return self.name.lower().replace("_", "-")


_SEAT = struct.Struct(f"{len(Phase)}i")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeatOrder:
    """Where on which board a process counts its phases."""

    board: Path
    seats: int
    seat: int


class Board:
    """A file of counters, one row for each seat; who sits there is dead when its row is read."""

    def __init__(self, path: Path, *, seats: int) -> None:
        self._path = path
        self._seats = seats
        if not path.exists():
            path.write_bytes(bytes(_SEAT.size * seats))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _SEAT.size * seats)

    def read(self, seat: int) -> dict[Phase, int]:
        """The phases that the process in this seat was in, with how many calls each."""
        counts = _SEAT.unpack_from(self._memory, seat * _SEAT.size)
        return {phase: count for phase, count in zip(Phase, counts, strict=True) if count > 0}

    def clear(self, seat: int) -> None:
        """Prepare a row for a process that is about to be started."""
        _SEAT.pack_into(self._memory, seat * _SEAT.size, *(phase is Phase.STARTING for phase in Phase))

    def seat(self, seat: int) -> Seat:
        """A cleared row to write: its process is starting."""
        return Seat(self._memory, seat * _SEAT.size)

    def order(self, seat: int) -> SeatOrder:
        """How a process finds its row."""
        return SeatOrder(board=self._path, seats=self._seats, seat=seat)


class Seat:
    """One row of the board, for the process that sits there. Without memory it counts for nobody."""

    def __init__(self, memory: mmap.mmap | None = None, start: int = 0) -> None:
        self._memory = memory
        self._start = start
        self._counts = [0] * len(Phase)
        self._counts[Phase.STARTING] = 1
        self._phases: dict[str, Phase] = {}

    def add(self, phase: Phase, count: int) -> None:
        """So many more, or fewer, are in this phase."""
        self._counts[phase] += count
        if self._memory is not None:
            struct.pack_into("i", self._memory, self._start + 4 * phase, self._counts[phase])

    def put(self, job_id: str, phase: Phase | None) -> None:
        """A call is in this phase now, and in no other; None: its way has ended."""
        was = self._phases.pop(job_id, None)
        if phase is not None:
            self._phases[job_id] = phase
            self.add(phase, 1)
        if was is not None:
            self.add(was, -1)
