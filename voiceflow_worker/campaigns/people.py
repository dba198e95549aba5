"""The people of a list: which rows have which keys and numbers. Only digests of them are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from voiceflow_worker.campaigns.calls.row_reader import ReadRow
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.model.numbers.phone import phone_identity


class EarlierRow(NamedTuple):
    """An earlier row of the key of a row, and whether it asks for the same call."""

    row: int
    is_same: bool


class ListedPeople:
    """The rows that were read, by their keys and numbers. A number counts within its batch."""

    def __init__(self) -> None:
        self._rows: dict[int, tuple[int, int]] = {}
        """The first row with each key, and a digest of its call."""
        self._silent: dict[int, int | None] = {}
        """The rows that are left out, by their keys; None for other rows that call nobody."""
        self._called: dict[int, int] = {}
        """The first row that calls a number."""
        self.clashes: dict[int, int] = {}
        """The first rows of keys of which a later row is a different call, with that row."""

    def call(self, row: ReadRow, call: CheckedCall) -> EarlierRow | None:
        """Add a row that makes a call; return the earlier row of its key, if there is one."""
        number, asked = row.raw.number, int(call.asked, 16)
        first, known = self._rows.setdefault(_mark(row.key or ""), (number, asked))
        if first != number:
            if known != asked:
                self.clashes.setdefault(first, number)
            return EarlierRow(first, known == asked)
        for place in _places(call.batch_id, call.numbers):
            self._called.setdefault(place, number)
        return None

    def silence(self, row: ReadRow, *, is_left_out: bool) -> None:
        """Add a row that calls nobody."""
        if row.key is not None:
            self._silent.setdefault(_mark(row.key), row.raw.number if is_left_out else None)

    def has(self, key: str) -> bool:
        """Return whether a row has this key that makes a call, or would if it were not bad."""
        mark = _mark(key)
        return mark in self._rows or self._silent.get(mark, 0) is None

    def left_out(self, key: str) -> int | None:
        """Return the row with this key that is left out; None if there is none."""
        return self._silent.get(_mark(key))

    def calling(self, batch_id: str | None, numbers: Iterable[str]) -> int | None:
        """Return the first row that calls one of these numbers in a batch."""
        rows = (self._called[place] for place in _places(batch_id, numbers) if place in self._called)
        return min(rows, default=None)


def _mark(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest())


def _places(batch_id: str | None, numbers: Iterable[str]) -> list[int]:
    return [hash((batch_id, phone_identity(number))) for number in numbers]
