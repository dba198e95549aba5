"""Problems found in a body, a row or a file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """The weight of a finding."""

    ERROR = "error"
    """8x8 would refuse the call, or the call would do something that was not intended. It is not sent."""
    WARNING = "warning"
    """The call is sent. Somebody should look at the finding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One problem of a call flow or a row, with its place and a remedy.

    `path` is the JSON path in the 8x8 body (`$.callflow[1].params.text`). `code` is the status code with which 8x8
    would answer. `file`, `row` (1 is the first line) and `column` are the place in a campaign file.
    """

    message: str
    severity: Severity = Severity.ERROR
    code: int | None = None
    path: str | None = None
    file: str | None = None
    row: int | None = None
    column: str | None = None

    @property
    def is_error(self) -> bool:
        """True if this finding keeps the call from being sent."""
        return self.severity is Severity.ERROR

    def as_json(self) -> dict[str, object]:
        """The finding as a JSON object with every field, as `check` and `enqueue` print it."""
        return {
            "file": self.file,
            "row": self.row,
            "column": self.column,
            "path": self.path,
            "code": self.code,
            "severity": self.severity.value,
            "message": self.message,
        }

    def __str__(self) -> str:
        """The finding as one line of text: place, sentence, code."""
        place = ":".join(str(part) for part in (self.file, self.row, self.column, self.path) if part is not None)
        code = f" ({self.code})" if self.code is not None else ""
        return f"{place}: {self.message}{code}" if place else f"{self.message}{code}"
