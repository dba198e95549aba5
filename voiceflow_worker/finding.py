"""Problems found in a body, a row, a file, or in what calls depend on, and what solves them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

_FIELD: Final = re.compile(r"`([a-z_]+)(?:: ([^`]+))?`")
_OF_ONE_ROW: Final = re.compile(r"'[^']*'|\S*\d\S*")


def respelled(message: str, spelling: Callable[[str, str], str | None]) -> str:
    """Return a message with its fields as an interface spells them.

    A message has a field to change in backticks, with a value if one can be pasted: `country`, `columns: name=Land`.
    `spelling` returns how the interface spells a field with this value or an empty text, or None for no field.
    """
    return _FIELD.sub(lambda found: spelling(found[1], found[2] or "") or found[0], message)


class Severity(StrEnum):
    """The weight of a finding."""

    ERROR = "error"
    """8x8 would refuse the call, or the call would do something that was not intended. It is not sent."""
    WARNING = "warning"
    """The call is sent. Somebody should look at the finding."""


def columns_text(names: Iterable[str]) -> str:
    """Return these names, such as those of columns, in a line with commas, in quotes where a name has one."""
    lines = (" ".join(each.splitlines()) for each in names)
    quoted = ('"' + each.replace('"', '""') + '"' if {",", '"'} & {*each} else each for each in lines)
    return ",".join(quoted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One problem of a call flow or a row, with its place and a remedy.

    `message` is a sentence; fields to change are in backticks (`respelled`). `kind` is a word that is the same for all
    messages about one matter, if programs ask for it. `path` is the JSON path in the 8x8 body
    (`$.callflow[1].params.text`). `code` is the status code with which 8x8 would answer. `file`, `row` (1 is the first
    line) and `column` are the place in a campaign file, and `person` is the name in the row, for people.
    """

    message: str
    kind: str | None = None
    severity: Severity = Severity.ERROR
    code: int | None = None
    path: str | None = None
    file: str | None = None
    row: int | None = None
    column: str | None = None
    person: str = field(default="", repr=False, compare=False)

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields to change, by their names."""
        return tuple(dict.fromkeys(found[1] for found in _FIELD.finditer(self.message)))

    @property
    def cause(self) -> tuple[str | None, str]:
        """Kind and the message without the words of a single row, such as a number: equal for rows that are alike.

        These words are in single quotes, or have a digit.
        """
        return self.kind, _OF_ONE_ROW.sub("", self.message)

    @property
    def is_error(self) -> bool:
        """True if this finding keeps the call from being sent."""
        return self.severity is Severity.ERROR

    def as_json(self) -> dict[str, object]:
        """Return the finding as a JSON object with every field but the name, as `check` and `enqueue` print it."""
        return {
            "file": self.file,
            "row": self.row,
            "column": self.column,
            "path": self.path,
            "code": self.code,
            "severity": self.severity.value,
            "kind": self.kind,
            "message": self.message,
            "fields": list(self.fields),
        }

    def __str__(self) -> str:
        """Return the finding as one line of text: place, sentence, code."""
        place = ":".join(str(part) for part in (self.file, self.row, self.column, self.path) if part is not None)
        code = f" ({self.code})" if self.code is not None else ""
        return f"{place}: {self.message}{code}" if place else f"{self.message}{code}"


class Level(StrEnum):
    """The level of a diagnosis."""

    OK = "ok"
    WARNING = "warning"
    """Somebody should look at it, but calls are still made."""
    FAILURE = "failure"
    """Calls cannot be made, or they might be lost, late or made twice."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The result of a check of what calls depend on: a message, and a remedy. `check` is the name of the check.

    `waits_for` names the other check that must be ok before this one can be made. `about` is what a page shows in its
    own way, such as a gate.
    """

    level: Level
    message: str
    remedy: str | None = None
    waits_for: str | None = None
    check: str = ""
    about: object = None

    def as_json(self) -> dict[str, object]:
        """Return the diagnosis for scripts."""
        return {"check": self.check, "level": self.level.value, "message": self.message, "remedy": self.remedy}


def ok(message: str) -> Diagnosis:
    """Return a diagnosis of level ok."""
    return Diagnosis(Level.OK, message)


def warning(message: str, *, remedy: str | None = None) -> Diagnosis:
    """Return a diagnosis of level warning."""
    return Diagnosis(Level.WARNING, message, remedy)


def failure(message: str, *, remedy: str | None = None) -> Diagnosis:
    """Return a diagnosis of level failure."""
    return Diagnosis(Level.FAILURE, message, remedy)
