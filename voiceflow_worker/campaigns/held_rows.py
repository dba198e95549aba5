"""The new rows of a file, kept in a temporary file until the whole file has been read."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO

from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.files.rows import RawRow
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.errors import CampaignFileError


class HeldRows:
    """Rows kept in a temporary `file`, in groups. Raises CampaignFileError if the file cannot be written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._packs = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, rows: Sequence[ReadRow]) -> None:
        """Add a group of rows that have calls. The findings and the keys of the rows are not kept."""
        if not rows:
            return
        # A plain tuple takes 3 µs a row, a named one 10.
        held = [(tuple(row.raw), tuple(row.call)) for row in rows if row.call is not None]
        try:
            pickle.dump(held, self._file, protocol=pickle.HIGHEST_PROTOCOL)
        except OSError as error:
            raise CampaignFileError(
                f"the rows cannot be stored in {tempfile.gettempdir()} while the file is read: "
                f"{error.strerror or error}; make room there, or name another folder in TMPDIR"
            ) from error
        self._packs += 1
        self._count += len(rows)

    def __iter__(self) -> Iterator[list[ReadRow]]:
        """The groups of rows, in the order in which they were added."""
        self._file.seek(0)
        for _ in range(self._packs):
            held = pickle.load(self._file)  # noqa: S301 (written above, by this process)
            yield [ReadRow(RawRow(*raw), CheckedCall(*call)) for raw, call in held]
