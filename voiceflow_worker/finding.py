"""Problems found in a body, a row, a file, or in what calls depend on, and what solves them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Remedy(StrEnum):
    """An action that solves a problem, worded for any user interface.

    Messages, reasons of holds and tables of codes contain the words. An error or a finding also carries the remedy
    itself, so that a user interface can add the name of its own command or setting.
    """

    ALLOW_PLAIN_HTTP = "allow plain HTTP if you trust the network"
    CALL_ENDED = "call the people whose calls were cancelled, have expired or failed"
    CALL_AGAIN = "allow calling these people again"
    CHECK_API_KEY = "check the API key"
    CHECK_BASE_URL = "check the base URL"
    CHECK_SUB_ACCOUNT = "check the sub-account id"
    DECIDE_STAGED = "let the staged calls ring, or discard them"
    FORCE_REDIAL = "force the redial to call again"
    GIVE_SOURCE = "give a source for all rows"
    GIVE_TEMPLATE = "give a template, a call flow that asks the first question of the menu"
    GIVE_TEXT = "give a template or a text"
    GIVE_VALIDITY = "give a later end of validity"
    GIVE_VOICE = "give a voice for all rows"
    MAKE_BACKUP = "make a backup of it"
    NAME_BATCH = "name the batch"
    NAME_COLUMN = "name the column of the numbers to call"
    NAME_COLUMNS = "name the column of numbers, or each of them"
    NAME_COUNTRY = (
        "give the country of national numbers, or international for digits that begin with their country code"
    )
    NAME_COUNTRIES = (
        "give the country of national numbers, or the column of the countries if rows differ, or international for "
        "digits that begin with their country code"
    )
    NAME_DATE_ORDER = "give the order of day, month and year in the file's dates"
    NAME_OUTCOMES = "name the outcomes after which to redial, or allow no redial"
    NAME_LANGUAGES = "name the column of the languages"
    NAME_SHEET = "name the sheet to read"
    NAME_TIME_ZONE = "give the calls a time zone"
    NAME_WINDOW_ZONE = "give the person a time zone, or the window one"
    OTHER_BATCH = "use another batch id"
    RESTORE = "restore a backup"
    SET_STATE_DIR = "set the state directory"
    SKIP_NUMBERS = "skip such numbers, and call the person's others"
    SHORTEN_RETENTION = "shorten the retention of ended calls"
    UNSUPPRESS = "remove the number from the suppression list to call it"

    @property
    def sentence(self) -> str:
        """The words with a capital first letter, to begin a sentence."""
        return self[0].upper() + self[1:]


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
    would answer. `file`, `row` (1 is the first line) and `column` are the place in a campaign file. `remedy` is the
    action that the message names, if a user interface can add its own command for it.
    """

    message: str
    severity: Severity = Severity.ERROR
    code: int | None = None
    path: str | None = None
    file: str | None = None
    row: int | None = None
    column: str | None = None
    remedy: Remedy | None = None

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

    `waits_for` names the other check that must be ok before this one can be made. `remedies` are for each interface to
    say in its own words.
    """

    level: Level
    message: str
    remedy: str | None = None
    waits_for: str | None = None
    check: str = ""
    remedies: tuple[Remedy, ...] = ()

    def as_json(self) -> dict[str, object]:
        """The diagnosis for scripts."""
        return {"check": self.check, "level": self.level.value, "message": self.message, "remedy": self.remedy}


def ok(message: str) -> Diagnosis:
    """A diagnosis of level ok."""
    return Diagnosis(Level.OK, message)


def warning(message: str, *, remedy: str | None = None) -> Diagnosis:
    """A diagnosis of level warning."""
    return Diagnosis(Level.WARNING, message, remedy)


def failure(message: str, *, remedy: str | None = None, remedies: tuple[Remedy, ...] = ()) -> Diagnosis:
    """A diagnosis of level failure."""
    return Diagnosis(Level.FAILURE, message, remedy, remedies=remedies)
