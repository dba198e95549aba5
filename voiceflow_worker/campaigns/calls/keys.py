"""Unique keys of rows, and the set of the keys that were read so far."""

from __future__ import annotations

import hashlib
import struct
from array import array

_KEY, _BODY, _LINE = 16, 8, 6
"""The sizes of the three parts of an entry, in bytes."""
_ENTRY = _KEY + _BODY + _LINE
_STARTS = struct.Struct(f">I{_ENTRY - 4}x")
"""The first four bytes of an entry, which decide its place in the table."""


def row_key(batch_id: str, canonical: str) -> str:
    """The key made for a row without its own key: a digest of its batch and its canonical body without validUntil.

    Because validUntil is left out, a file that is enqueued again adds nothing, even with another validity.
    """
    content = f"{batch_id}\0{canonical}".encode("utf-8", "surrogatepass")
    return f"row-{hashlib.sha256(content).hexdigest()[:32]}"


class SeenKeys:
    """The keys of the rows that were read so far. They take 40 bytes a row; a dict would take 350.

    This is a hash table with open addressing. `_table` holds the numbers of entries, counted from 1. An entry has the
    digest of a row's key, the beginning of the digest of the row's body, and the row's line.
    """

    def __init__(self) -> None:
        self._entries = bytearray()
        self._count = 0
        self._table = array("I", bytes(4 << 10))

    def first(self, key: str, *, row: int, digest: str) -> tuple[int, bool] | None:
        """The line of the earlier row with this key, and whether that row has an equal body.

        Returns None for a new key, and adds it.
        """
        mark = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=_KEY).digest()
        body = bytes.fromhex(digest[: 2 * _BODY])
        place = self._place_of(mark)
        if (seen := self._table[place]) == 0:
            self._entries += mark + body + row.to_bytes(_LINE)
            self._count += 1
            self._table[place] = self._count
            if self._count * 3 > len(self._table) * 2:
                self._grow()
            return None
        entry = bytes(self._entries[(seen - 1) * _ENTRY : seen * _ENTRY])
        return int.from_bytes(entry[-_LINE:]), entry[_KEY:-_LINE] == body

    def __contains__(self, key: str) -> bool:
        """True if a row with this key was read."""
        mark = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=_KEY).digest()
        return self._table[self._place_of(mark)] > 0

    def _place_of(self, mark: bytes) -> int:
        """The place of a key in the table, or the free place for it."""
        last = len(self._table) - 1
        place = int.from_bytes(mark[:4]) & last
        while (seen := self._table[place]) and not self._entries.startswith(mark, (seen - 1) * _ENTRY):
            place = (place + 1) & last
        return place

    def _grow(self) -> None:
        table = array("I", bytes(8 * len(self._table)))
        last = len(table) - 1
        for number, (start,) in enumerate(_STARTS.iter_unpack(self._entries), 1):
            place = start & last
            while table[place]:
                place = (place + 1) & last
            table[place] = number
        self._table = table
