"""Findings for people: where, what, and what 8x8 would answer."""

from __future__ import annotations

from collections.abc import Iterable

from voiceflow_worker.cli.output import Output, count_of
from voiceflow_worker.model.finding import Finding, Severity


def tell_findings(output: Output, findings: Iterable[Finding], *, title: str | None = None) -> None:
    """A table of findings; nothing when there are none."""
    found = list(findings)
    if not found:
        return
    # Where all are errors, a column that says so everywhere tells nothing.
    levels = {each.severity for each in found} != {Severity.ERROR}
    output.table(
        ("#row", "column", *(["level"] if levels else []), "what is wrong", "#code"),
        [
            (each.row, each.column or each.path, *([each.severity.value] if levels else []), each.message, each.code)
            for each in found
        ],
        title=title,
    )


def in_words(*, errors: int, warnings: int) -> str:
    """Such as `3 errors, 1 warning`."""
    return f"{count_of(errors, 'error')}, {count_of(warnings, 'warning')}"
