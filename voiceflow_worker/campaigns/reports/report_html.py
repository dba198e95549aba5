"""Reports as one self-contained HTML page: figures, bars, and a table of the calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from itertools import chain, islice
from pathlib import Path

from voiceflow_worker.campaigns.files.rows import whole_file
from voiceflow_worker.campaigns.reports.report_csv import LineSpool, ReportColumn, data_text
from voiceflow_worker.core.reporting.report import Report, ReportTable, Share, shown_cell, tables_of, totals_table
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.text.printable import shown_in_page
from voiceflow_worker.model.text.wording import in_words, zone_words

MOST_ROWS = 5000
"""The largest number of calls in the table, because browsers are slow with more. The CSV file has all calls."""
LONGEST_NAME = 30
"""The largest number of characters of a name in a chart."""

_COLUMNS = tuple(
    ReportColumn(heading, name)
    for heading, name in (
        ("destination", "destination"), ("result", "result"), ("state", "state"), ("outcome", "outcome"),
        ("code", "code"), ("keys", "digits"), ("seconds", "seconds"), ("started", "started_at"),
        ("message", "message"), ("key", "unique_key"),
    )
)  # fmt: skip
"""The columns of the table of calls, if none are selected."""

_GOOD = {JobState.COMPLETED.value, "COMPLETED"}
_BAD = {JobState.FAILED.value, JobState.EXPIRED.value, JobState.IN_DOUBT.value, "FAILED", "ERROR"}


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a chart. `width` is in percent of the chart, and `text` stands beside the bar."""

    name: str
    width: float
    text: str
    tone: str


@dataclass(frozen=True, slots=True)
class Chart:
    """The bars of one table of one report."""

    title: str
    bars: tuple[Bar, ...]


def write_html_report(path: Path, reports: Sequence[Report], spool: LineSpool, *, at: datetime) -> None:
    """Write the page of one report, or of several reports side by side, dated `at`. Raises OSError."""
    from jinja2 import Environment, StrictUndefined

    tables = tables_of(reports)
    page_file = resources.files("voiceflow_worker.campaigns.reports").joinpath("report.html.jinja")
    source = page_file.read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, finalize=shown_in_page)
    environment.filters["cell"] = shown_cell
    environment.filters["data_text"] = data_text
    page = environment.from_string(source).render(
        title=" · ".join(_heading(report) for report in reports),
        queues=", ".join(dict.fromkeys(report.queue for report in reports)),
        reports=[
            (_heading(report), [chart_of(table) for table in tables_of([report]) if not _is_wide(table)])
            for report in reports
        ],
        compared=[totals_table(reports), *(each for each in tables if len(reports) > 1 or _is_wide(each))],
        columns=spool.columns if spool.select else _COLUMNS,
        lines=islice(chain.from_iterable(spool.packs()), MOST_ROWS),
        shown=min(len(spool), MOST_ROWS),
        total=sum(report.total for report in reports),
        written_at=in_words(at, spool.zone),
        zone=zone_words(spool.zone),
    )
    with whole_file(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def chart_of(table: ReportTable) -> Chart:
    """A table of one report as bars.

    A table of more than two columns has shares in its last column, and its bars show them. The bars of other tables
    show each count in percent of all counts, as their texts do.
    """
    is_rate = len(table.columns) > 2
    total = sum(row[1] for row in table.rows if isinstance(row[1], int)) or 1
    bars: list[Bar] = []
    for name, *cells in table.rows:
        first, last = cells[0], cells[-1]
        if is_rate:
            width = float(last) if isinstance(last, Share) else 0.0
            text = f"{last} of {cells[-3]}" if isinstance(last, Share) else f"{first}, none ended"
        else:
            count = first if isinstance(first, int) else 0
            width, text = count / total, f"{count} ({Share(count / total)})"
        bars.append(Bar(shown_cell(name), round(100 * width, 2), text, _tone(shown_cell(name))))
    return Chart(f"Answer rate by {table.columns[0]}" if is_rate else table.title, tuple(bars))


def _is_wide(table: ReportTable) -> bool:
    """True if the names in a table are too long to leave room for bars."""
    return any(len(shown_cell(row[0])) > LONGEST_NAME for row in table.rows)


def _heading(report: Report) -> str:
    return "All calls" if report.batch_id is None else f"Batch {report.batch_id}"


def _tone(name: str) -> str:
    return "good" if name in _GOOD else "bad" if name in _BAD else "plain"
