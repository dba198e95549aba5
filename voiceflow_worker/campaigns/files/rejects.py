"""The file of rejected rows in their original form, each with a reason, to be corrected and enqueued again."""

from __future__ import annotations

import csv
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import orjson

from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.campaigns.files.packs import whole_file
from voiceflow_worker.campaigns.files.rows import REASON, RawRow, RowSource
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding

_OTHER_FORMATS = frozenset({".xlsx", ".xlsm", ".xls", ".parquet", ".gz"})


class RejectsFile:
    """The file of rejected rows, in the form of the input file: CSV with the same delimiter, or JSON lines.

    The rows of workbooks and Parquet files become a CSV file. The reason is the first cell of a row, so that the
    reasons are in one column even if some rows have too many cells.

    The complete file appears at the end of the block, if there was no error and at least one row. Otherwise an earlier
    file with this name stays unchanged. One run can therefore read corrected rejects and write new ones to the same
    file. Raises CampaignFileError if the file cannot be written.
    """

    @staticmethod
    def refuse_name(rejects: Path, read: InputFile, source: RowSource) -> None:
        """Raise CampaignFileError for a name that the file of rejects cannot have.

        The rejects must not replace the file that is read, except if that file is itself a file of rejects. The name
        must not have the extension of another format.
        """
        if rejects.suffix.lower() in _OTHER_FORMATS:
            extension = ".csv" if source.kind.is_table else ".jsonl"
            raise CampaignFileError(
                f"{rejects}: rejects are written as plain text; give the file the extension {extension}"
            )
        if read.path is not None and rejects.resolve() == read.path.resolve() and REASON not in source.columns:
            raise CampaignFileError(
                f"{rejects} is the input file: the rejects would replace its good rows; name another file"
            )

    def __init__(self, path: Path, source: RowSource) -> None:
        self.path = path
        self._source = source
        self._open = ExitStack()
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        return self

    def add(self, raw: RawRow, findings: Sequence[Finding]) -> None:
        """Add a row. Its reasons are the errors among `findings`."""
        reason = "; ".join(_reason(found) for found in findings if found.is_error)
        with self._refusing():
            if self._file is None:
                unfinished = self._open.enter_context(whole_file(self.path))
                unfinished.touch(mode=0o600)
                self._file = self._open.enter_context(unfinished.open("w", encoding="utf-8", newline=""))
                if self._source.kind.is_table:
                    self._row(self._file, REASON, self._source.header)
            self._write(self._file, raw, reason)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._refusing():
            self._open.__exit__(kind, error, traceback)

    @contextmanager
    def _refusing(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise CampaignFileError(f"{self.path} cannot be written: {error.strerror or error}") from error

    def _write(self, file: IO[str], raw: RawRow, reason: str) -> None:
        match self._source.kind:
            case kind if kind.is_table:
                self._row(file, reason, raw.cells)
            case _ if raw.data:
                file.write(orjson.dumps({**raw.data, REASON: reason}).decode() + "\n")
            case _:
                # Without a JSON object there is no key for the reason: it becomes a comment above the line.
                text = raw.text.rstrip()
                # A line that had NUL characters has lost them. As a JSON string, it cannot be called uncorrected.
                is_changed = bool(raw.problems) and raw.code is None
                file.write(f"// {REASON}: {reason}\n{orjson.dumps(text).decode() if is_changed else text}\n")

    def _row(self, file: IO[str], reason: str, cells: Sequence[str]) -> None:
        # In a file of rejects, the first cell of a row is the old reason, except in a row of a single cell.
        own = cells[1:] if self._source.columns[0] == REASON and len(cells) > 1 else cells
        csv.writer(file, delimiter=self._source.delimiter or ",", lineterminator="\n").writerow([reason, *own])


def _reason(found: Finding) -> str:
    place = found.column or found.path
    code = f" ({found.code})" if found.code is not None else ""
    return f"{place}: {found.message}{code}" if place else f"{found.message}{code}"
