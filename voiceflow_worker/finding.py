"""Problems found in a body, a row or a file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding weighs."""

    ERROR = "error"
    """8x8 would refuse this, or it would not do what was meant: it is not sent."""
    WARNING = "warning"
    """It is sent; someone should look at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, where it stands, and what to do about it.

    `path` is the JSON path in the 8x8 body (`$.callflow[1].params.text`), `code` the 8x8 status code that the service
    would answer with, `file`, `row` (1 is the first line of the file) and `column` the place in a campaign file.
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
        """Whether this finding keeps the call from being sent."""
        return self.severity is Severity.ERROR

    def as_json(self) -> dict[str, object]:
        """The finding with every field, for scripts; JSON lines of `check` and `enqueue` are made of these."""
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
        """The finding as one line for people: place, sentence, code."""
        place = ":".join(str(part) for part in (self.file, self.row, self.column, self.path) if part is not None)
        code = f" ({self.code})" if self.code is not None else ""
        return f"{place}: {self.message}{code}" if place else f"{self.message}{code}"
