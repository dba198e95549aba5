"""A report as a CSV with one line for each call."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import astuple
from pathlib import Path

from anyio import open_file

from voiceflow_worker.campaigns.files.whole_file import whole_file
from voiceflow_worker.campaigns.reports.report import PAGE, jobs_of
from voiceflow_worker.campaigns.reports.report_line import COLUMNS, report_line
from voiceflow_worker.core.ports import Store

# A spreadsheet runs a cell that begins so as a formula (OWASP, CSV injection); numbers, as +6587654321, only count.
_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r\n]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)


async def write_csv_report(path: Path, store: Store, queue: str, batch_id: str | None) -> int:
    """Write one line for each call of a batch or queue, in the order of enqueuing; returns their number.

    The file gets its name when it is complete. Raises OSError.
    """
    count = 0
    with whole_file(path) as unfinished:
        async with await open_file(unfinished, "w", encoding="utf-8", newline="") as file:
            await file.write(_lines([COLUMNS]))
            waiting: list[tuple[str, ...]] = []
            async with aclosing(jobs_of(store, queue, batch_id)) as jobs:
                async for job in jobs:
                    waiting.append(astuple(report_line(job)))
                    count += 1
                    if len(waiting) == PAGE:
                        await file.write(_lines(waiting))
                        waiting.clear()
            await file.write(_lines(waiting))
    return count


def harmless(cell: str) -> str:
    """The text with an apostrophe in front if a spreadsheet could run it as a formula."""
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


def _lines(rows: Iterable[Iterable[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([harmless(cell) for cell in row] for row in rows)
    return text.getvalue()
