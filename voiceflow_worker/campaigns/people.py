"""The people of a list: which rows have which keys and numbers. Only digests of them are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from voiceflow_worker.campaigns.calls.row_reader import ReadRow
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.model.numbers.phone import phone_identity
from voiceflow_worker.model.text.wording import count_of


class EarlierRow(NamedTuple):
    """An earlier row of the key of a row, and whether it asks for the same call."""

    row: int
    is_same: bool


class ListedPeople:
    """The rows that were read, by their keys and numbers. A number counts within its batch."""

    def __init__(self) -> None:
        self._rows: dict[int, tuple[int, int]] = {}
        """The first row with each key, and a digest of its call."""
        self._silent: dict[int, tuple[int, str]] = {}
        """The rows that call nobody, by their keys, each with the reason if it is left out."""
        self._called: dict[int, int] = {}
        """The first row that calls a number."""
        self._refused: dict[int, int] = {}
        """The rows that filters leave out, by their numbers."""
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

    def leave_out(self, row: ReadRow, batch_id: str) -> None:
        """Add a row that a filter leaves out: its person wants no call by another row."""
        for place in _places(batch_id, row.numbers):
            self._refused.setdefault(place, row.raw.number)

    def silence(self, row: ReadRow, why: str) -> None:
        """Add a row that calls nobody; it is left out if it says why."""
        if row.key is not None:
            self._silent.setdefault(_mark(row.key), (row.raw.number, why))

    def has(self, key: str) -> bool:
        """Whether a row has this key that makes a call, or would if it were not bad."""
        mark = _mark(key)
        return mark in self._rows or self._silent.get(mark, (0, "left out"))[1] == ""

    def left_out(self, key: str) -> tuple[int, str] | None:
        """Return the row with this key that is left out, and why; None if there is none."""
        found = self._silent.get(_mark(key))
        return found if found is not None and found[1] else None

    def calling(self, batch_id: str | None, numbers: Iterable[str]) -> int | None:
        """Return the first row that calls one of these numbers in a batch."""
        rows = (self._called[place] for place in _places(batch_id, numbers) if place in self._called)
        return min(rows, default=None)

    def left_out_and_called(self) -> tuple[int, str] | None:
        """Return the first row that calls a person of a row that is left out, and what is told of it."""
        both = {place: (self._called[place], row) for place, row in self._refused.items() if place in self._called}
        if not both:
            return None
        row, other = min(both.values())
        return row, (
            f"{count_of(len(both), 'number')} would be called although another row with the number is left out, such "
            f"as that of row {row}, which row {other} leaves out. If they are the same people, take these rows out of "
            "the list."
        )


def _mark(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest())


def _places(batch_id: str | None, numbers: Iterable[str]) -> list[int]:
    return [hash((batch_id, phone_identity(number))) for number in numbers]
