"""The new rows of a file, held until all of it was read."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence

from voiceflow_worker.campaigns.calls.request import ReadRow


class HeldRows:
    """Rows in packs, each pickled: 0.3 KB a row instead of 2, for 50 µs of work.

    The pickles never leave this process.
    """

    def __init__(self) -> None:
        self._packs: list[bytes] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, rows: Sequence[ReadRow]) -> None:
        """Add a pack of rows."""
        if rows:
            self._packs.append(pickle.dumps(list(rows), protocol=pickle.HIGHEST_PROTOCOL))
            self._count += len(rows)

    def __iter__(self) -> Iterator[list[ReadRow]]:
        for pack in self._packs:
            rows: list[ReadRow] = pickle.loads(pack)  # noqa: S301 (made above, in this process)
            yield rows
