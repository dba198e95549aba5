"""The report of batches: totals, outcomes, answers, hours, countries and costs, and its tables."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar
from zoneinfo import ZoneInfo

from voiceflow_worker.core.base.reading import totals_of
from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.reports.outcome import BAD_MOS, MOST_JITTER_MS, MOST_LOST
from voiceflow_worker.model.text.arguments import checked
from voiceflow_worker.model.text.printable import printable_line
from voiceflow_worker.model.text.wording import count_of, in_words
from voiceflow_worker.reporting.breakdown import Breakdown, rate_of, read_breakdown

if TYPE_CHECKING:
    from rich.console import Group, RenderableType


Key = TypeVar("Key")


class Share(float):
    """A share from 0 to 1 that is printed in percent."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"{float(self):.1%}"


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A table of one or several reports. Columns whose names begin with `#` hold numbers; None is an empty cell."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


def side_by_side(
    title: str, key: str, columns: Sequence[str], reports: Mapping[str, Mapping[Key, tuple[object, ...]]]
) -> ReportTable:
    """A table with a row for each key that any report has. `key` is the heading of the column of keys.

    `reports` has the rows of each report, by the name of the report. `columns` are the headings of the values of a row.
    With several reports, only the first and the last value of each row are shown.
    """
    keys = list(dict.fromkeys(key for rows in reports.values() for key in rows))
    shown, headers = range(len(columns)), list(columns)
    if len(reports) > 1:
        # Only the first and the last, such as attempts and their answer rate, because more columns do not fit.
        shown = range(0, len(columns), len(columns) - 1 or 1)
        headers = [f"{name}, {columns[place]}" if len(shown) > 1 else name for name in reports for place in shown]
    empty = (None,) * len(columns)
    return ReportTable(
        title,
        (key, *(f"#{header}" for header in headers)),
        tuple((each, *(rows.get(each, empty)[place] for rows in reports.values() for place in shown)) for each in keys),
    )


def tables_as_rich(title: str, tables: Iterable[ReportTable], lines: Iterable[str]) -> Group:
    """A title (unless it is empty), tables and lines for a terminal."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = [Text(_shown(title))] if title else []
    for each in tables:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in each.columns:
            is_number = column.startswith("#")
            table.add_column(_shown(column.lstrip("#")), justify="right" if is_number else "left", overflow="fold")
        for row in each.rows:
            table.add_row(*(Text(_shown(cell)) for cell in row))
        parts.append(table)
    return Group(*parts, *map(Text, lines))


def as_plain_text(shown: RenderableType) -> str:
    """A rich renderable as plain text."""
    from io import StringIO

    from rich.console import Console

    text = StringIO()
    Console(file=text, width=200, color_system=None, highlight=False, markup=False).print(shown)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def shown_cell(value: object) -> str:
    """A cell as text: durations as `0:12:30`, times in their zone or else in UTC, None as an empty text."""
    match value:
        case None:
            return ""
        case datetime():
            return in_words(value, value.tzinfo if isinstance(value.tzinfo, ZoneInfo) else None)
        case float() if not isinstance(value, Share):
            return f"{value:g}"
        case _:
            return str(value)


def _shown(value: object) -> str:
    return printable_line(shown_cell(value))


MOST_KEYS = 20
"""The most rows in the tables of keys pressed and of reasons. Digits that people type, such as customer numbers, may
differ in each call, and so may reasons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The figures of one batch, or of a whole queue if `batch_id` is None.

    `outcomes` counts calls by the outcome of their newest session. `answered` counts the calls that a person answered,
    and `answer_rate` is their share, 0 to 1, of the calls with an outcome; it is None without outcomes. Calls that
    wait, expired, or were refused or cancelled do not lower the rate. `answers` counts calls by the answer that a menu
    names, and `other_keys` counts the calls with key presses, but without such an answer.
    `seconds` is the total duration of all sessions, and `cost` their known price, by currency.
    `placed` counts the calls that were placed, and `priced` the calls with a known price. `pruned` counts calls of the
    batch that were deleted; the totals still include them. `breakdown` is None if only totals were requested. `print`
    shows a report as tables, and so does the `print` of rich.
    """

    queue: str
    batch_id: str | None
    total: int
    states: Mapping[JobState, int]
    outcomes: Mapping[str, int]
    answered: int
    answers: Mapping[str, int] = field(default_factory=dict[str, int])
    other_keys: int = 0
    seconds: float = 0.0
    cost: Mapping[str, Decimal] = field(default_factory=dict[str, Decimal])
    placed: int = 0
    priced: int = 0
    pruned: int = 0
    breakdown: Breakdown | None = None

    @property
    def name(self) -> str:
        """The subject of the report, such as `batch people`."""
        return f"queue {self.queue}" if self.batch_id is None else f"batch {self.batch_id}"

    @property
    def short_name(self) -> str:
        """The name of the batch; for a whole queue, `queue NAME`."""
        return self.batch_id or self.name

    @property
    def ended(self) -> int:
        """The number of calls that ended with an outcome."""
        return sum(self.outcomes.values())

    @property
    def answer_rate(self) -> float | None:
        """The share of answered calls among those that ended with an outcome."""
        return rate_of(self.answered, self.ended)

    @property
    def digits(self) -> Mapping[str, int]:
        """The number of calls by the pressed keys; empty without a breakdown."""
        return {} if self.breakdown is None else self.breakdown.digits

    def as_json(self) -> dict[str, object]:
        """The report for scripts: every state, and the outcomes and answers that occurred."""
        return {
            "batch_id": self.batch_id,
            "queue": self.queue,
            "total": self.total,
            "states": {state.value: self.states.get(state, 0) for state in JobState},
            "outcomes": dict(self.outcomes),
            "answered": self.answered,
            "answer_rate": self.answer_rate,
            "answers": dict(self.answers),
            "other_keys": self.other_keys,
            "seconds": self.seconds,
            "cost": {currency: float(price) for currency, price in sorted(self.cost.items())},
            "placed": self.placed,
            "priced": self.priced,
            "pruned": self.pruned,
            **({} if self.breakdown is None else self.breakdown.as_json()),
        }

    def __str__(self) -> str:
        return as_plain_text(self.__rich__())

    def __rich__(self) -> RenderableType:
        return reports_as_rich([self])


@checked
async def build_report(store: Store, queue: str, batch_id: str | None) -> Report:
    """The report of a batch, or of the whole queue if `batch_id` is None, from counters alone.

    This takes milliseconds.
    """
    found = await totals_of(store, queue, batch_id)
    pruned = found.pruned_states
    states = {state: count + pruned[state] for state, count in found.states.items()}
    return Report(
        queue=queue,
        batch_id=batch_id,
        total=sum(states.values()),
        states={state: count for state, count in states.items() if count},
        outcomes=found.outcomes,
        answered=found.answered,
        answers=found.answers,
        other_keys=found.other_keys,
        seconds=found.seconds,
        cost=found.cost,
        placed=found.placed,
        priced=found.priced,
        pruned=sum(pruned.values()),
    )


async def build_full_report(
    store: Store,
    queue: str,
    batch_id: str | None,
    *,
    zone: ZoneInfo | None = None,
    also: Callable[[Sequence[Job]], Awaitable[None]] | None = None,
) -> Report:
    """The report with its breakdown, for which each call is read once. `also` gets each page of calls.

    Times are shown in `zone`, by default in UTC.
    """
    breakdown = await read_breakdown(store, queue, batch_id, zone=zone, also=also)
    return replace(await build_report(store, queue, batch_id), breakdown=breakdown)


def reports_as_rich(reports: Sequence[Report]) -> RenderableType:
    """Reports for a terminal: one report as tables and lines of figures, several reports as tables side by side."""
    if len(reports) == 1:
        (report,) = reports
        return tables_as_rich(f"{report.name}: {count_of(report.total, 'call')}", tables_of(reports), _lines(report))
    return tables_as_rich("", [totals_table(reports), *tables_of(reports)], [])


def figures_of(report: Report) -> dict[str, object]:
    """The single-valued figures of a report, by name. Unknown figures are None, and durations are timedeltas."""
    details, rate = report.breakdown, report.answer_rate
    talked = details.answered_seconds if details is not None else None
    answered = sum(each.answered for each in details.by_country.values()) if details is not None else 0
    return {
        "calls": report.total,
        "with an outcome": report.ended,
        "answered": report.answered,
        "answer rate": None if rate is None else Share(rate),
        "answered with bad sound": details.bad_sound or None if details is not None else None,
        "numbers that do not exist": details.dead_numbers or None if details is not None else None,
        "talk time": None if talked is None else _duration(talked),
        "talk time of an answered call": _duration(talked / answered) if talked is not None and answered else None,
        "duration of all calls": _duration(report.seconds),
        **{f"cost, {currency}": price for currency, price in sorted(report.cost.items())},
        "calls with a price": report.priced if report.cost else None,
        "first call": details.began_at if details is not None else None,
        "end of the last call": details.ended_at if details is not None else None,
        "deleted calls": report.pruned or None,
    }


def totals_table(reports: Sequence[Report]) -> ReportTable:
    """The table of `figures_of`: a row for each figure that any report has, and a column for each report."""
    found = [figures_of(report) for report in reports]
    names = list(dict.fromkeys(name for each in found for name, value in each.items() if value is not None))
    columns = [f"#{report.short_name}" for report in reports]
    return ReportTable(
        "Totals", ("figure", *columns), tuple((name, *(each.get(name) for each in found)) for name in names)
    )


def tables_of(reports: Sequence[Report]) -> list[ReportTable]:
    """The tables of reports, without empty ones."""
    hour = f"hour in {', '.join(dict.fromkeys(each.breakdown.time_zone for each in reports if each.breakdown))}"
    of_calls, rates = ("calls",), ("answered", "answer rate")
    found = [
        _table("States", "state", of_calls, reports, _states),
        _table("Outcomes", "outcome", of_calls, reports, lambda each: _counted(each.outcomes)),
        _table("Answers", "answer", of_calls, reports, _answers),
        _table("Keys pressed", "keys pressed", of_calls, reports, lambda each: _counted(_shortened(each.digits))),
        _table("Attempts per call", "attempts", of_calls, reports, _attempts),
        _table("By hour", hour, ("attempts", *rates), reports, _hours),
        _table("By country", "country", ("calls", "with an outcome", *rates), reports, _countries),
        _table("Not reached", "reason", of_calls, reports, _failures),
    ]
    return [table for table in found if table.rows]


def _table(
    title: str,
    key: str,
    columns: Sequence[str],
    reports: Sequence[Report],
    rows_of: Callable[[Report], Mapping[Key, tuple[object, ...]]],
) -> ReportTable:
    table = side_by_side(title, key, columns, {report.short_name: rows_of(report) for report in reports})
    return replace(table, rows=tuple(sorted(table.rows, key=str))) if rows_of is _hours else table


def _lines(report: Report) -> Iterator[str]:
    figures = {name: shown_cell(value) for name, value in figures_of(report).items() if value is not None}
    if report.answer_rate is not None:
        yield f"answered: {report.answered} of {report.ended} ({report.answer_rate:.0%})"
        if "talk time" in figures:
            each = figures.get("talk time of an answered call")
            yield f"talk time: {figures['talk time']}" + (f", {each} for each answered call" if each else "")
        yield f"duration of all calls: {figures['duration of all calls']}, answered or not"
    if "answered with bad sound" in figures:
        yield (
            f"answered with bad sound: {figures['answered with bad sound']} (a MOS below {BAD_MOS}, more than "
            f"{MOST_LOST:.0%} of the packets lost, or more than {MOST_JITTER_MS} ms of jitter)"
        )
    if "numbers that do not exist" in figures:
        batch = "" if report.batch_id is None else f"--batch {shlex.quote(report.batch_id)} "
        yield (
            f"numbers that do not exist: {figures['numbers that do not exist']}; to call them no more: `voiceflow "
            f"report {batch}--csv calls.csv`, then `voiceflow suppress import calls.csv --columns destination=called "
            "--only result=dead_number`"
        )
    if report.cost:
        yield f"cost: {', '.join(f'{price} {currency}' for currency, price in sorted(report.cost.items()))}"
    if "first call" in figures:
        yield f"from {figures['first call']} to {figures.get('end of the last call', 'now')}"
    if report.pruned:
        deleted = count_of(report.pruned, "call")
        yield f"deleted after they had ended: {deleted}; their hours, countries, attempts and talk time are unknown"


def _counted(counts: Mapping[Key, int]) -> dict[Key, tuple[object, ...]]:
    return {name: (count,) for name, count in counts.items()}


def _states(report: Report) -> dict[str, tuple[object, ...]]:
    return _counted({state.value: report.states[state] for state in JobState if report.states.get(state)})


def _answers(report: Report) -> dict[str, tuple[object, ...]]:
    """The answers, and the other keys in one row if there are answers; else the table of the keys says it all."""
    others = {"other keys": report.other_keys} if report.answers and report.other_keys else {}
    return _counted({**report.answers, **others})


def _shortened(counts: Mapping[str, int]) -> Mapping[str, int]:
    """The most frequent entries, in the order of `counts`, and the sum of the others."""
    if len(counts) <= MOST_KEYS:
        return counts
    frequent = set(sorted(counts, key=lambda name: -counts[name])[:MOST_KEYS])
    others = sum(count for name, count in counts.items() if name not in frequent)
    return {name: count for name, count in counts.items() if name in frequent} | {"others": others}


def _attempts(report: Report) -> dict[int, tuple[object, ...]]:
    return _counted(report.breakdown.attempts if report.breakdown is not None else {})


def _hours(report: Report) -> dict[str, tuple[object, ...]]:
    hours = () if report.breakdown is None else report.breakdown.by_hour.items()
    return {f"{hour:02}:00": (each.total, each.answered, _share(each.answer_rate)) for hour, each in hours}


def _countries(report: Report) -> dict[str, tuple[object, ...]]:
    countries = () if report.breakdown is None else report.breakdown.by_country.items()
    return {
        country or "unknown": (each.total, each.ended, each.answered, _share(each.answer_rate))
        for country, each in countries
    }


def _failures(report: Report) -> dict[str, tuple[object, ...]]:
    return _counted({} if report.breakdown is None else _shortened(report.breakdown.failures))


def _share(rate: float | None) -> Share | None:
    return None if rate is None else Share(rate)


def _duration(seconds: float) -> timedelta:
    return timedelta(seconds=round(seconds))
