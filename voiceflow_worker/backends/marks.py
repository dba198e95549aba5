"""A page of marks in memory: which entries of a process have perhaps left this machine, and how they were answered.

What shows that something was not done must be lost with what would show that it was. A line of a file on a disk may
be lost alone, and then its absence proves what is not true. A page is a file in `/dev/shm`: it outlives its process,
also after `kill -9`, and goes with the machine or the container. So it is whole, or it is not there.

A process makes a page of its own for each journal file that it takes, under a random id that no other page ever gets.
A mark is one store into memory. A page is judged when its process has ended; whoever judges it seals it first, and no
mark goes into a sealed page, whatever became of the lock of the journal file.

The page also keeps the newest answers, until the store has them. One that is not there, or not whole, proves nothing.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from array import array
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from errno import EBADF, ENOSPC, ENOTSUP
from mmap import mmap
from pathlib import Path
from struct import Struct
from typing import Self
from zlib import crc32

import structlog

from voiceflow_worker.backends.mounts import mounts

_log = structlog.get_logger("voiceflow.journal")

FOLDER = Path("/dev/shm")  # noqa: S108 - only the owner can open a page, and nobody can guess its name
"""Where pages are: memory that goes with the machine, or with the container."""
SLOTS = 16_384
"""The numbers that a page has slots for: about as many entries as a journal file has when it is full."""
_KIND = int.from_bytes(b"vf-mark2", "little")
"""The first word of a page: what its other words mean."""
_SEAL, _FIRST = 1, 8
"""The places of the words that say that a page is sealed, and of the first slot."""
_WORD = 8
_MARKS_SIZE = (_FIRST + SLOTS) * _WORD
_ANSWERS, _ANSWER_SIZE = 512, 256
"""The newest answers that a page has room for, and the bytes of each with its head."""
_HEAD = Struct("<QIH")
"""The number of an entry, a checksum of this number and the answer, and the length of the answer."""
_SIZE = _MARKS_SIZE + _ANSWERS * _ANSWER_SIZE
_ID = re.compile(r"[0-9a-f]{16}")

_reported = set[str]()


def _place_of_answer(number: int) -> int:
    return _MARKS_SIZE + number % _ANSWERS * _ANSWER_SIZE


def _checksum(number: int, answer: bytes) -> int:
    return crc32(answer, number & 0xFFFF_FFFF)


def _path(page_id: str) -> Path:
    return FOLDER / f"voiceflow-{page_id}"


def _is_in_memory(fd: int) -> bool:
    """Whether an open file is in a `tmpfs`. Raises OSError on a system that does not say."""
    device = os.fstat(fd).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    return {mount.kind for mount in mounts() if mount.device == wanted} == {"tmpfs"}


class MarkPage:
    """The page of this process for one journal file."""

    def __init__(self, page_id: str, memory: mmap) -> None:
        self.id = page_id
        self._memory = memory
        self._words = memoryview(memory)[:_MARKS_SIZE].cast("Q")
        self._expected = list[int]()

    @classmethod
    def make(cls) -> Self | None:
        """Make a page. None if there is no memory for one that outlives this process, which is logged once."""
        page_id = secrets.token_hex(8)
        try:
            fd = os.open(_path(page_id), os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                if not _is_in_memory(fd):
                    raise OSError(ENOTSUP, "it is not in memory")
                os.posix_fallocate(fd, 0, _SIZE)  # a page that found no room later would end the process
                page = cls(page_id, mmap(fd, _SIZE))
                page._words[0] = _KIND
            except BaseException:
                _path(page_id).unlink(missing_ok=True)
                raise
            finally:
                os.close(fd)
        except OSError as error:
            why = error.strerror or str(error)
            if why not in _reported:
                _reported.add(why)
                _log.warning(
                    "nothing can be kept in memory about the calls that leave: if this process is killed, all of its "
                    "calls without an answer will be in doubt, also those that were not sent",
                    folder=str(FOLDER),
                    error=why,
                )
            return None
        return page

    def expect(self, number: int) -> None:
        """Note that an entry has this number, and may be marked later."""
        self._expected.append(number)

    @property
    def is_full(self) -> bool:
        """Whether the next entries belong to another page: many at once must find slots."""
        return bool(self._expected) and self._expected[-1] - self._expected[0] >= SLOTS * 3 // 4

    def mark(self, number: int) -> None:
        """Note that this entry leaves now. Raises OSError if the page is closed, sealed or full: then it must not."""
        if self._words.nbytes == 0:
            raise OSError(EBADF, "the page of marks was closed")
        place = _FIRST + number % SLOTS
        if self._words[place] not in {0, number}:
            raise OSError(ENOSPC, "the page of marks is full")
        self._words[place] = number
        if self._words[_SEAL]:
            raise OSError(EBADF, "another process has read the page of marks, and counts this one as ended")

    def keep(self, number: int, answer: bytes) -> bool:
        """Keep the answer to the POST of an entry that was marked; returns whether it is kept."""
        size = _HEAD.size + len(answer)
        if self._words.nbytes == 0 or size > _ANSWER_SIZE:
            return False
        place = _place_of_answer(number)
        self._memory[place : place + size] = _HEAD.pack(number, _checksum(number, answer), len(answer)) + answer
        return not self._words[_SEAL]

    def close(self) -> Sequence[int]:
        """Let nobody mark anything more; returns the numbers of the entries that were not marked."""
        unmarked = [number for number in self._expected if self._words[_FIRST + number % SLOTS] != number]
        self._words[_SEAL] = 1
        self._words.release()
        self._words = memoryview(b"")
        self._memory.close()
        return unmarked


@dataclass(frozen=True, slots=True)
class Marks:
    """What a page says."""

    page_id: str
    _words: array[int]
    _content: bytes

    @property
    def newest(self) -> int:
        """The highest number that was marked; 0 for none."""
        slots = enumerate(self._words[_FIRST:])
        return max(number if number % SLOTS == place else 0 for place, number in slots)

    def proves_unsent(self, number: int) -> bool:
        """Whether this entry has certainly not left, if the process of the page has ended."""
        return self._words[_FIRST + number % SLOTS] == 0

    def answer(self, number: int) -> bytes | None:
        """The answer to the POST of this entry, if it was marked, and the page has the answer whole."""
        place = _place_of_answer(number)
        found, checksum, size = _HEAD.unpack_from(self._content, place)
        answer = self._content[place + _HEAD.size : place + _ANSWER_SIZE][:size]
        is_marked = self._words[_FIRST + number % SLOTS] == number
        return answer if is_marked and found == number and checksum == _checksum(number, answer) else None


def marks_in(page_id: str, *, seals: bool) -> Marks | None:
    """What the page with this id says; None if it is not there, or is not certainly what the process left of it.

    It `seals` the page of a process that has ended: what it says then never changes.
    """
    if not _ID.fullmatch(page_id):
        return None
    with suppress(OSError):
        fd = os.open(_path(page_id), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(fd)
            is_ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_size == _SIZE
            if not is_ours or not _is_in_memory(fd):
                return None
            if seals:
                os.pwrite(fd, (1).to_bytes(_WORD, "little"), _SEAL * _WORD)
            content = os.pread(fd, _SIZE, 0)
            words = array("Q", content[:_MARKS_SIZE])
            return Marks(page_id, words, content) if len(content) == _SIZE and words[0] == _KIND else None
        finally:
            os.close(fd)
    return None


def delete_page(page_id: str) -> None:
    """Delete a page, if it is there: by whoever has settled its entries."""
    if _ID.fullmatch(page_id):
        with suppress(OSError):
            _path(page_id).unlink(missing_ok=True)
