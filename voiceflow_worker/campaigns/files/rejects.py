"""The file of rejected rows in their original form, each with a reason, to be corrected and enqueued again."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import orjson

from voiceflow_worker.campaigns.files.columns import REASON
from voiceflow_worker.campaigns.files.rows import FileKind, RawRow, RowSource
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding


class RejectsFile:
    """Writes rejected rows to `path` in the form of their source: a CSV with its own delimiter, or JSON lines.

    The complete file appears at the end of the block, if there was no error and at least one row. So corrected rejects
    can be read and written in one run, and a failed run leaves an earlier file unchanged. Raises CampaignFileError when
    it cannot be written.
    """

    @staticmethod
    def refuse_to_replace(read: Path, rejects: Path, source: RowSource) -> None:
        """Raise CampaignFileError if the rejects would replace the file that is read, unless that holds rejects too."""
        if rejects.resolve() == read.resolve() and REASON not in source.columns:
            raise CampaignFileError(
                f"--rejects {rejects} is the file that is read, and would lose its good rows; name another file"
            )

    def __init__(self, path: Path, source: RowSource) -> None:
        self.path = path
        self.count = 0
        self._source = source
        self._file: IO[str] | None = None
        self._part = path

    def __enter__(self) -> Self:
        return self

    def add(self, raw: RawRow, findings: Sequence[Finding]) -> None:
        """Add a row with the reasons, the errors among `findings`."""
        reason = "; ".join(_reason(found) for found in findings if found.is_error)
        try:
            file = self._file or self._begun()
            self._write(file, raw, reason)
        except OSError as error:
            raise CampaignFileError(f"{self.path} cannot be written: {error.strerror or error}") from error
        self.count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is None:
            return
        try:
            self._file.close()
            if kind is None:
                self._part.replace(self.path)
        except OSError as problem:
            raise CampaignFileError(f"{self.path} cannot be written: {problem.strerror or problem}") from problem
        finally:
            self._part.unlink(missing_ok=True)

    def _begun(self) -> IO[str]:
        # In the same folder, so that it can be moved to its place in one step.
        handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", suffix=".part", dir=self.path.parent)
        self._part = Path(name)
        self._file = file = open(handle, "w", encoding="utf-8", newline="")  # noqa: PTH123, SIM115 (closed by __exit__)
        if self._source.kind is FileKind.CSV:
            self._row(file, [*self._source.header, *([REASON] if REASON not in self._source.columns else [])])
        return file

    def _write(self, file: IO[str], raw: RawRow, reason: str) -> None:
        match self._source.kind:
            case FileKind.CSV:
                self._row(file, _with_reason(raw.cells, self._source.columns, reason))
            case FileKind.JSON_LINES | FileKind.JSON if raw.data:
                file.write(orjson.dumps({**raw.data, REASON: reason}).decode() + "\n")
            case FileKind.JSON_LINES | FileKind.JSON:
                # Only a JSON object can have a key for the reason: otherwise it is a comment above the line.
                file.write(f"// {REASON}: {reason}\n{raw.text.rstrip()}\n")

    def _row(self, file: IO[str], cells: Sequence[str]) -> None:
        csv.writer(file, delimiter=self._source.delimiter, lineterminator="\n").writerow(cells)


def _with_reason(cells: Sequence[str], columns: Sequence[str], reason: str) -> list[str]:
    """The cells with the reason in its column, or after the last column; surplus cells come last."""
    width = len(columns)
    own = [*cells[:width], *[""] * (width - len(cells))]
    surplus = list(cells[width:])
    if REASON in columns:
        own[columns.index(REASON)] = reason
        return [*own, *surplus]
    return [*own, reason, *surplus]


def _reason(found: Finding) -> str:
    place = found.column or found.path
    code = f" ({found.code})" if found.code is not None else ""
    return f"{place}: {found.message}{code}" if place else f"{found.message}{code}"
