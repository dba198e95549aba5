"""Findings of a large file, all that fit."""

from __future__ import annotations

from collections.abc import Iterable

from voiceflow_worker.finding import Finding, Severity

MOST_ERRORS = 100_000
MOST_WARNINGS = 10_000
"""About 500 bytes each: what nobody will read does not have to be kept."""


class Findings:
    """Collects findings; beyond the limits it only counts them."""

    def __init__(self) -> None:
        self._kept: list[Finding] = []
        self.errors = 0
        self.warnings = 0

    def add(self, findings: Iterable[Finding]) -> None:
        """Add findings, in the order in which they are to be told."""
        for found in findings:
            if found.is_error:
                self.errors += 1
                if self.errors <= MOST_ERRORS:
                    self._kept.append(found)
            else:
                self.warnings += 1
                if self.warnings <= MOST_WARNINGS:
                    self._kept.append(found)

    def all(self, *, file: str) -> tuple[Finding, ...]:
        """Everything that was kept, and a last one that tells how much was not."""
        left_out = max(self.errors - MOST_ERRORS, 0) + max(self.warnings - MOST_WARNINGS, 0)
        if not left_out:
            return tuple(self._kept)
        told = Finding(file=file, severity=Severity.WARNING, message=f"{left_out} more findings are not listed")
        return (*self._kept, told)
