"""Unique keys of rows."""

from __future__ import annotations

import hashlib


def row_key(batch_id: str, canonical: str) -> str:
    """The key of a row without one of its own: a digest of its batch and its canonical body without validUntil.

    The same file enqueued again adds nothing, also when `--valid-for` gives its calls another validity.
    """
    content = f"{batch_id}\0{canonical}".encode("utf-8", "surrogatepass")
    return f"row-{hashlib.sha256(content).hexdigest()[:32]}"


class SeenKeys:
    """The keys of a file so far: about 200 bytes a row."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[int, str]] = {}

    def first(self, key: str, *, row: int, digest: str) -> tuple[int, str] | None:
        """The line and digest of the earlier row with this key; None for a new key, which is added."""
        seen = self._rows.get(key)
        if seen is None:
            self._rows[key] = (row, digest)
        return seen
