"""Tables of findings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from voiceflow_worker.cli.output import Output
from voiceflow_worker.cli.remedies import with_remedies
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.model.text.counting import count_of

_FIRST_ROWS = 3
MOST_WARNINGS = 20
"""The largest number of different warnings in a table."""


def typed(findings: Iterable[Finding]) -> list[Finding]:
    """The findings, each with what to type for its remedy in its message."""
    return [replace(each, message=with_remedies(each.message, [each.remedy]), remedy=None) for each in findings]


def tell_findings(output: Output, findings: Sequence[Finding], *, title: str | None = None) -> None:
    """Print a table of findings: all errors, then the first warnings. Those that differ only in their row share a line.

    Nothing is printed if there are none.
    """
    alike: dict[Finding, list[int]] = {}
    for each in findings:
        rows_of = alike.setdefault(replace(each, row=None), [])
        if each.row is not None:
            rows_of.append(each.row)
    errors = [each for each in alike if each.is_error]
    warnings = [each for each in alike if not each.is_error]
    all_errors = {each.severity for each in findings} == {Severity.ERROR}
    rows = [
        {
            "row": _in_short(alike[each]),
            "column": each.column or each.path,
            "level": None if all_errors else each.severity.value,
            "what is wrong": each.message,
            "code": each.code,
        }
        for each in (*errors, *warnings[:MOST_WARNINGS])
    ]
    output.records(rows, title=title)


def _in_short(rows: Sequence[int]) -> str | int | None:
    """The first row numbers, and the count of all of them if there are more."""
    if len(rows) < 2:
        return rows[0] if rows else None
    first = ", ".join(map(str, rows[:_FIRST_ROWS]))
    return first if len(rows) <= _FIRST_ROWS else f"{first} and {len(rows) - _FIRST_ROWS} more"


def in_words(*, errors: int, warnings: int) -> str:
    """The two counts in words, such as `3 errors, 1 warning`."""
    return f"{count_of(errors, 'error')}, {count_of(warnings, 'warning')}"
