"""The files of a report: CSV and Excel, both from one pass over the calls."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from zoneinfo import ZoneInfo

from anyio import to_thread

from voiceflow_worker.campaigns.reports.report_csv import LineSpool, write_csv_report
from voiceflow_worker.campaigns.reports.report_xlsx import needs_xlsxwriter, write_xlsx_report
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.reporting.report import Report, build_full_report


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFiles:
    """The files that a report is written to. A format whose file is None is left out.

    `select` are the columns of the calls, instead of all: of the report, or of the campaign's own file. Times are in
    `zone`, by default in UTC. Raises InvalidInputError if two formats have the same file.
    """

    csv: Path | None = None
    xlsx: Path | None = None
    select: Sequence[str] = ()
    zone: ZoneInfo | None = None

    def __post_init__(self) -> None:
        wanted = [each for each in (self.csv, self.xlsx) if each is not None]
        if len(set(wanted)) < len(wanted):
            raise InvalidInputError("two formats of the report have the same file; give each format its own file")

    def __bool__(self) -> bool:
        return any((self.csv, self.xlsx))


async def write_report_files(
    files: ReportFiles,
    store: Store,
    queue: str,
    batch_ids: Sequence[str | None],
    *,
    progress: Callable[[int, str], None] | None = None,
) -> list[Report]:
    """Write the reports of these batches into the files, and return the reports.

    A batch id of None stands for the whole queue. The Excel file has the reports side by side, and the calls;
    the CSV file has only the calls, one on each line. Each call is read once. Each file gets its name when it is
    complete. Memory does not grow with the calls. `progress` is called with a number of calls and a text: `read`, or
    `written to FILE`. Raises OSError, StoreError, and InvalidInputError if a library is missing, or if no call has a
    selected column.
    """
    if files.xlsx is not None:
        needs_xlsxwriter()
    with TemporaryFile() as held:
        spool, read = LineSpool(held, select=files.select, zone=files.zone), 0

        async def also(calls: Sequence[Job]) -> None:
            nonlocal read
            if files:
                await to_thread.run_sync(spool.add, calls)
            read += len(calls)
            if progress is not None:
                progress(read, "read")

        reports = [
            await build_full_report(store, queue, batch_id, zone=files.zone, also=also) for batch_id in batch_ids
        ]
        _ = spool.columns  # raises before a file is written
        now = store.clock.now()
        if files.csv is not None:
            await _stepped(files.csv, write_csv_report(files.csv, spool), progress)
        if files.xlsx is not None:
            workbook = write_xlsx_report(files.xlsx, reports, spool, at=now)
            await _stepped(files.xlsx, workbook, progress)
    return reports


async def _stepped(file: Path, steps: Generator[int], progress: Callable[[int, str], None] | None) -> None:
    """Run the steps of a generator in threads. A cancellation takes effect after a step, and closes the generator."""
    with closing(steps):
        while (count := await to_thread.run_sync(next, steps, None)) is not None:
            if progress is not None:
                progress(count, f"written to {file}")
