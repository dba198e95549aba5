"""The findings of a file, up to a limit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.model.text.wording import count_of

MOST = {Severity.ERROR: 100_000, Severity.WARNING: 10_000}
"""The largest number of listed findings of each severity. At about 500 bytes each, they take 55 MB at most."""


class Findings:
    """A list of findings, with a limit for each severity. Findings beyond the limit are only counted."""

    def __init__(self) -> None:
        self._listed: list[Finding] = []
        self._counts: Counter[Severity] = Counter()

    def add(self, findings: Iterable[Finding]) -> None:
        """Add findings. They are listed in the order in which they are added."""
        for found in findings:
            self._counts[found.severity] += 1
            if self._counts[found.severity] <= MOST[found.severity]:
                self._listed.append(found)

    def all(self, *, file: str | None) -> tuple[Finding, ...]:
        """The listed findings. If some are not listed, one more finding says how many."""
        left_out = self._counts.total() - len(self._listed)
        if not left_out:
            return tuple(self._listed)
        more = f"{count_of(left_out, 'more finding')} {'is' if left_out == 1 else 'are'} not listed"
        last = Finding(file=file, severity=Severity.WARNING, message=more)
        return (*self._listed, last)
