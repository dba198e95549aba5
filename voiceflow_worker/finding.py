"""Problems found in a body, a row, a file, or in what calls depend on, and what solves them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib import resources
from string import Formatter
from typing import Final, Self, cast


class Remedy(StrEnum):
    """An action that solves a problem, worded for any user interface. Each interface has names of its own for it."""

    typed: str
    """The option, the setting or the command, for people at a command line."""
    fields: tuple[str, ...]
    """The fields of a campaign, for programs, and for pages, which have a label for each."""

    def __new__(cls, words: str, typed: str, *fields: str) -> Self:
        """The remedy with these words, which are its value."""
        remedy = str.__new__(cls, words)
        remedy._value_, remedy.typed, remedy.fields = words, typed, fields
        return remedy

    ALLOW_PLAIN_HTTP = "allow plain HTTP if you trust the network", "VOICEFLOW_ALLOW_PLAIN_HTTP=yes"
    CALL_ENDED = (
        "call the people whose calls were cancelled, have expired or failed",
        "--again cancelled,expired,failed",
        "again",
    )
    CALL_AGAIN = "allow calling these people again", "--again; another store: --store URL, or VOICEFLOW_STORE", "again"
    CHECK_API_KEY = "check the API key", "VOICEFLOW_API_KEY"
    CHECK_BASE_URL = "check the base URL", "VOICEFLOW_BASE_URL"
    CHECK_SUB_ACCOUNT = "check the sub-account id", "VOICEFLOW_SUB_ACCOUNT"
    CANCEL_BATCH = "cancel the batch", "`voiceflow calls cancel --batch ID`"
    FORCE_REDIAL = "force the redial to call again", "--force"
    GIVE_SOURCE = "give a source for all rows", "--source", "source"
    GIVE_TEXT = "give a template or a text", "--template FLOW.json, or --say TEXT", "say", "template"
    REPLACE = "change the waiting calls that differ to what these rows say", "--replace", "replace"
    REMOVE_MISSING = (
        "cancel the calls that wait and are left out, or in no row",
        "--remove-missing",
        "remove_missing",
    )
    GIVE_HOURS = (
        "give the hours in which phones may ring, or `any` if any hour is meant",
        "--window 09:00-20:00, or --window any; for all campaigns VOICEFLOW_WINDOW",
        "window",
    )
    GIVE_VALIDITY = "give a later end of validity", "--valid-for", "valid_for"
    GIVE_VOICE = "give a voice for all rows", "--voice-profile", "voice_profile"
    IGNORE_COLUMN = "ignore the column", "--columns ignore=NAME", "columns"
    TAKE_COLUMN = "take the column for that", "--columns ROLE=NAME", "columns"
    LEAVE_OUT = "leave rows out by this column", "--leave-out COLUMN=VALUE", "leave_out"
    NAME_BATCH = "name the batch", "--batch", "batch"
    NAME_COLUMN = "name the column of the numbers to call", "--columns destination=NAME", "columns"
    NAME_COLUMNS = "name the column of numbers, or each of them", "--columns destination=NAME, once for each"
    NAME_COUNTRY = (
        "give the country of national numbers, or international for digits that begin with their country code",
        "--country SG, or --country international",
        "country",
    )
    NAME_COUNTRIES = (
        (
            "give the country of national numbers, or the column of the countries if rows differ, or international for "
            "digits that begin with their country code"
        ),
        "--country SG, --columns country=NAME, or --country international",
        "country",
        "columns",
    )
    NAME_DATE_ORDER = "give the order of day, month and year in the file's dates", "--date-order dmy", "date_order"
    NAME_OUTCOMES = (
        "name the outcomes after which to redial, or allow no redial",
        "--redial-on busy,no_answer, or --redial-max 0",
        "redial_on",
        "redial_max",
    )
    NAME_LANGUAGES = "name the column of the languages", "--columns language=NAME", "columns"
    NAME_HEADER = "name the row of the header", "--header-row N", "header_row"
    NAME_SHEET = "name the sheet to read", "--sheet NAME", "sheet"
    NAME_TIME_ZONE = "give the calls a time zone", "--time-zone, or a column time_zone", "time_zone"
    NAME_WINDOW_ZONE = (
        "give the person a time zone, or the window one",
        "a column time_zone, or --window-time-zone",
        "time_zone",
        "window_time_zone",
    )
    OTHER_BATCH = "use another batch id", "--batch", "batch"
    RESTORE = "restore a backup", "`voiceflow restore FILE`"
    SET_STATE_DIR = "set the state directory", "VOICEFLOW_STATE_DIR"
    UNSUPPRESS = "remove the number from the suppression list to call it", "`voiceflow suppress remove NUMBER`"

    @property
    def sentence(self) -> str:
        """The words with a capital first letter, to begin a sentence."""
        return self[0].upper() + self[1:]


class Message(str):
    """A sentence, with what it was made of: its `kind`, the `values` in it, and the remedies that it `needs`.

    It is its text wherever a text is wanted. Texts that are put together keep only what they are told to: `parts` are
    the remedies, messages and errors in a text.
    """

    __slots__ = ("kind", "needs", "values")

    kind: str | None
    values: Mapping[str, object]
    needs: tuple[Remedy, ...]

    def __new__(
        cls,
        text: str,
        *parts: str | BaseException,
        kind: str | None = None,
        values: Mapping[str, object] | None = None,
    ) -> Self:
        """The message with this text, which needs what its parts need."""
        message = super().__new__(cls, text)
        message.kind, message.values = kind, values or {}
        message.needs = tuple(dict.fromkeys(need for part in parts for need in message_of(part).needs))
        return message

    def plus(self, more: str, *parts: str) -> Message:
        """The message with more behind it."""
        return Message(f"{self}{more}", self, *parts, kind=self.kind, values=self.values)

    def giving(self, given: Mapping[Remedy, str | Sequence[object]]) -> Message:
        """The message, with the values that its remedies have here, such as the filter that leaves rows out."""
        return Message(self, self, kind=self.kind, values={**self.values, "given": {**self.given, **given}})

    @property
    def given(self) -> Mapping[Remedy, str | Sequence[object]]:
        """The values of its remedies, as far as they are known."""
        return cast("Mapping[Remedy, str | Sequence[object]]", self.values.get("given", {}))

    @property
    def cause(self) -> object:
        """What rows have in common of which this is true: all but what it quotes of a single row, such as a number."""
        shared = [f"{name}: {value}" for name, value in self.values.items() if name not in _OF_ONE_ROW]
        return self.kind, *(_QUOTED.sub("", each) for each in (shared if self.kind else [self]))

    def named(self, called: Callable[[Remedy, str], str]) -> Message:
        """The message as it is, followed by what an interface calls its remedies, each with its value or nothing."""
        given = {
            each: value if isinstance(value, str) else ",".join(map(str, value)) for each, value in self.given.items()
        }
        names = dict.fromkeys(called(each, given.get(each, "")) for each in self.needs)
        what = "; ".join(name for name in names if name)
        return self.plus(f" ({what})") if what else self

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a campaign to change, by which its remedies are carried out."""
        return tuple(dict.fromkeys(name for need in self.needs for name in need.fields))


_FIELD: Final = re.compile(r"`([a-z_]+)(?:: ([^`]+))?`")


def respelled(message: str, spelling: Callable[[str, str], str | None]) -> str:
    """Return a message with its fields as an interface spells them.

    A message has a field to change in backticks, with a value if one can be pasted: `country`, `columns: name=Land`.
    `spelling` returns how the interface spells a field with this value or an empty text, or None for no field.
    """
    return _FIELD.sub(lambda found: spelling(found[1], found[2] or "") or found[0], message)


def fields_in(message: str) -> tuple[str, ...]:
    """Return the names of the fields that a message tells to change."""
    return tuple(dict.fromkeys(found[1] for found in _FIELD.finditer(message)))


_QUOTED: Final = re.compile(r"'[^']*'")
_OF_ONE_ROW: Final = frozenset({"number", "value", "row", "earlier", "first", "given", "time", "key", "call", "person"})


def message_of(what: str | BaseException) -> Message:
    """A text, or the message of an error, as it was made."""
    if isinstance(what, Message):
        return what
    if isinstance(what, BaseException) and (made := [each for each in what.args if isinstance(each, Message)]):
        return made[0]
    message = Message(str(what))
    message.needs = (what,) if isinstance(what, Remedy) else getattr(what, "needs", ())
    return message


@cache
def sentences() -> Mapping[str, str]:
    """What is told of rows, columns and files: the sentences in English, by the words of their kinds."""
    return tomllib.loads(resources.files("voiceflow_worker").joinpath("sentences.toml").read_text(encoding="utf-8"))


@cache
def names_in(kind: str) -> Sequence[str]:
    """The names in a sentence: of its values, and of the remedies that it needs."""
    found = Formatter().parse(sentences()[kind])
    return [name.partition(".")[0] for _, name, _, _ in found if name]


def tell(kind: str, **values: object) -> Message:
    """The message of a kind with these values, of which one may be a remedy."""
    fixed = {name: Remedy[name] for name in names_in(kind) if name in Remedy.__members__}
    given = {name: value for name, value in values.items() if isinstance(value, Remedy)}
    data = {name: value for name, value in values.items() if name not in given}
    text = sentences()[kind].format(**values, **fixed)
    return Message(text, *fixed.values(), *given.values(), kind=kind, values=data)


class Severity(StrEnum):
    """The weight of a finding."""

    ERROR = "error"
    """8x8 would refuse the call, or the call would do something that was not intended. It is not sent."""
    WARNING = "warning"
    """The call is sent. Somebody should look at the finding."""


def columns_text(names: Iterable[str]) -> str:
    """These names, such as those of columns, in a line with commas, in quotes where a name has one."""
    lines = (" ".join(each.splitlines()) for each in names)
    quoted = ('"' + each.replace('"', '""') + '"' if {",", '"'} & {*each} else each for each in lines)
    return ",".join(quoted)


def ranges_text(rows: Iterable[int], *, most: int) -> str:
    """Write rows as `7, 12-14 and others`: at most so many ranges are named."""
    found: list[tuple[int, int]] = []
    for row in rows:
        if found and row == found[-1][1] + 1:
            found[-1] = found[-1][0], row
        else:
            found.append((row, row))
    named = (f"{first}" if first == last else f"{first}-{last}" for first, last in found[:most])
    return ", ".join(named) + (" and others" if len(found) > most else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One problem of a call flow or a row, with its place and a remedy.

    `message` is a sentence, with its data if it is a `Message`. `path` is the JSON path in the 8x8 body
    (`$.callflow[1].params.text`). `code` is the status code with which 8x8 would answer. `file`, `row` (1 is the first
    line) and `column` are the place in a campaign file, and `person` is the name in the row, for people.
    """

    message: str
    severity: Severity = Severity.ERROR
    code: int | None = None
    path: str | None = None
    file: str | None = None
    row: int | None = None
    column: str | None = None
    person: str = field(default="", repr=False, compare=False)

    @property
    def told(self) -> Message:
        """The message with its kind, its values and its remedies."""
        return message_of(self.message)

    @property
    def kind(self) -> str | None:
        """A word for what is wrong, the same for all messages of this kind."""
        return self.told.kind

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a campaign to change."""
        return self.told.fields

    @property
    def is_error(self) -> bool:
        """True if this finding keeps the call from being sent."""
        return self.severity is Severity.ERROR

    def as_json(self) -> dict[str, object]:
        """The finding as a JSON object with every field but the name, as `check` and `enqueue` print it."""
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
        """The diagnosis for scripts."""
        return {"check": self.check, "level": self.level.value, "message": self.message, "remedy": self.remedy}


def ok(message: str) -> Diagnosis:
    """A diagnosis of level ok."""
    return Diagnosis(Level.OK, message)


def warning(message: str, *, remedy: str | None = None) -> Diagnosis:
    """A diagnosis of level warning."""
    return Diagnosis(Level.WARNING, message, remedy)


def failure(message: str, *, remedy: str | None = None) -> Diagnosis:
    """A diagnosis of level failure."""
    return Diagnosis(Level.FAILURE, message, remedy)
