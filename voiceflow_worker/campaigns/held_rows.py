"""Rows kept until the whole file is known to be good."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence

from voiceflow_worker.campaigns.calls.request import ReadRow


class KeptRows:
    """Keeps rows in packs, each pickled: 0.3 KB a row instead of 2, for 50 µs of work.

    Nothing pickled leaves this process, nor comes from outside of it.
    """

    def __init__(self) -> None:
        self._packs: list[bytes] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, rows: Sequence[ReadRow]) -> None:
        """Keep a pack of rows; they come back as one."""
        if rows:
            self._packs.append(pickle.dumps(list(rows), protocol=pickle.HIGHEST_PROTOCOL))
            self._count += len(rows)

    def clear(self) -> None:
        """Forget all rows."""
        self._packs.clear()
        self._count = 0

    def __iter__(self) -> Iterator[list[ReadRow]]:
        for pack in self._packs:
            rows: list[ReadRow] = pickle.loads(pack)  # noqa: S301 (made above, in this process)
            yield rows
