"""Unique keys of rows: how one is made of a row's content, and which rows of a file share one."""

from __future__ import annotations

import hashlib


def row_key(batch_id: str, canonical: str) -> str:
    """The key of a row that names none: a digest of its batch and its canonical body, which has no validUntil.

    So the same file, enqueued again, adds nothing, also when `--valid-for` makes its calls valid until another time.
    """
    content = f"{batch_id}\0{canonical}".encode("utf-8", "surrogatepass")
    return f"row-{hashlib.sha256(content).hexdigest()[:32]}"


class SeenKeys:
    """The keys of a file so far: about 200 bytes a row."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[int, str]] = {}

    def first(self, key: str, *, row: int, digest: str) -> tuple[int, str] | None:
        """The line and the digest of the earlier row with this key; None, and the row is kept in mind, if it is new."""
        seen = self._rows.get(key)
        if seen is None:
            self._rows[key] = (row, digest)
        return seen
