"""Tables of findings."""

from __future__ import annotations

from collections.abc import Sequence

from voiceflow_worker.cli.output import Output
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.model.text.counting import count_of


def tell_findings(output: Output, findings: Sequence[Finding], *, title: str | None = None) -> None:
    """Print a table of findings; nothing when there are none."""
    all_errors = {each.severity for each in findings} == {Severity.ERROR}
    rows = [
        {
            "row": each.row,
            "column": each.column or each.path,
            "level": None if all_errors else each.severity.value,
            "what is wrong": each.message,
            "code": each.code,
        }
        for each in findings
    ]
    output.records(rows, title=title)


def in_words(*, errors: int, warnings: int) -> str:
    """The two counts in words, such as `3 errors, 1 warning`."""
    return f"{count_of(errors, 'error')}, {count_of(warnings, 'warning')}"
