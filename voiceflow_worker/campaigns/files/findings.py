"""The findings of a file, up to a limit."""

from __future__ import annotations

from collections.abc import Iterable

from voiceflow_worker.finding import Finding, Severity

MOST_ERRORS = 100_000
MOST_WARNINGS = 10_000
"""The most findings of each kind that are listed. One takes about 500 bytes of memory."""


class Findings:
    """A list of findings. Findings beyond the limits are only counted."""

    def __init__(self) -> None:
        self._listed: list[Finding] = []
        self.errors = 0
        self.warnings = 0

    def add(self, findings: Iterable[Finding]) -> None:
        """Add findings, in the order of the report."""
        for found in findings:
            if found.is_error:
                self.errors += 1
                if self.errors <= MOST_ERRORS:
                    self._listed.append(found)
            else:
                self.warnings += 1
                if self.warnings <= MOST_WARNINGS:
                    self._listed.append(found)

    def all(self, *, file: str) -> tuple[Finding, ...]:
        """The listed findings. If some are not listed, one more finding says how many."""
        left_out = max(self.errors - MOST_ERRORS, 0) + max(self.warnings - MOST_WARNINGS, 0)
        if not left_out:
            return tuple(self._listed)
        last = Finding(file=file, severity=Severity.WARNING, message=f"{left_out} more findings are not listed")
        return (*self._listed, last)
