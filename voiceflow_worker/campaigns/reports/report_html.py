"""A report as one self-contained HTML page: figures, bars, and a table of the calls."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path

from anyio import open_file

from voiceflow_worker.campaigns.files.whole_file import whole_file
from voiceflow_worker.campaigns.reports.report import build_report, jobs_of
from voiceflow_worker.campaigns.reports.report_line import ReportLine, report_line
from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.records.call_json import rfc3339
from voiceflow_worker.model.text.printable import shown_in_page

MOST_ROWS = 5000
"""The most calls in the table, because browsers are slow with more. The CSV has them all."""

_GOOD = {JobState.COMPLETED.value, "COMPLETED"}
_BAD = {JobState.FAILED.value, JobState.EXPIRED.value, JobState.IN_DOUBT.value, "FAILED", "ERROR"}


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a chart: `width` in percent of the longest, `share` in percent of all."""

    name: str
    count: int
    width: float
    share: float
    tone: str


async def write_html_report(path: Path, store: Store, queue: str, batch_id: str | None, *, at: datetime) -> int:
    """Write the page of a batch or queue at the time `at`; returns the number of its calls. Raises OSError."""
    from jinja2 import Environment, StrictUndefined

    report = await build_report(store, queue, batch_id)
    lines: list[ReportLine] = []
    async with aclosing(jobs_of(store, queue, batch_id)) as jobs:
        async for job in jobs:
            lines.append(report_line(job))
            if len(lines) == MOST_ROWS:
                break
    page_file = resources.files("voiceflow_worker.campaigns.reports").joinpath("report.html.jinja")
    source = page_file.read_text(encoding="utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined, finalize=shown_in_page).from_string(source)
    page = template.render(
        report=report,
        queue=queue,
        lines=lines,
        written_at=rfc3339(at),
        states=bars({state.value: report.states.get(state, 0) for state in JobState}),
        outcomes=bars(report.outcomes),
        digits=bars(report.digits),
    )
    with whole_file(path) as unfinished:
        async with await open_file(unfinished, "w", encoding="utf-8") as file:
            await file.write(page)
    return report.total


def bars(counts: Mapping[str, int]) -> list[Bar]:
    """The bars of a chart, without empty ones."""
    longest, total = max(counts.values(), default=0), sum(counts.values())
    return [
        Bar(name, count, round(100 * count / longest, 2), round(100 * count / total, 1), _tone(name))
        for name, count in counts.items()
        if count
    ]


def _tone(name: str) -> str:
    return "good" if name in _GOOD else "bad" if name in _BAD else "plain"
