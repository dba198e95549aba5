"""Tables of findings."""

from __future__ import annotations

from collections.abc import Iterable

from voiceflow_worker.cli.output import Output
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.model.text.counting import count_of


def tell_findings(output: Output, findings: Iterable[Finding], *, title: str | None = None) -> None:
    """A table of findings; nothing when there are none."""
    found = list(findings)
    if not found:
        return
    # Columns without information are left out.
    all_errors = {each.severity for each in found} == {Severity.ERROR}
    columns: dict[str, list[object]] = {
        "#row": [each.row for each in found],
        "column": [each.column or each.path for each in found],
        "level": [None if all_errors else each.severity.value for each in found],
        "what is wrong": [each.message for each in found],
        "#code": [each.code for each in found],
    }
    shown = {name: cells for name, cells in columns.items() if any(cell is not None for cell in cells)}
    output.table(list(shown), list(zip(*shown.values(), strict=True)), title=title)


def in_words(*, errors: int, warnings: int) -> str:
    """Such as `3 errors, 1 warning`."""
    return f"{count_of(errors, 'error')}, {count_of(warnings, 'warning')}"
