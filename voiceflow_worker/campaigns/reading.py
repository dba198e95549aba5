"""What a field is, how the fields that somebody gives are read, all that is wrong together, and what values mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from zoneinfo import ZoneInfo

from voiceflow_worker.campaigns.lists.columns import ColumnRoles
from voiceflow_worker.campaigns.lists.input_file import InputFile
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.country_windows import CountryWindows
from voiceflow_worker.model.flows.actions import MAX_ID_CHARACTERS
from voiceflow_worker.model.flows.values import describe
from voiceflow_worker.model.jobs.admission import priority_problem
from voiceflow_worker.model.jobs.policy import RedialWait, read_redial_after
from voiceflow_worker.model.numbers.reading import read_country
from voiceflow_worker.model.text.wording import did_you_mean, quoted, read_duration, table_text
from voiceflow_worker.model.window import CallWindow

if TYPE_CHECKING:
    from voiceflow_worker.ivr.menu import Menu
    from voiceflow_worker.settings import Settings


class Of(StrEnum):
    """What a field is a field of."""

    CAMPAIGN = "campaign"
    CALL = "call"
    ESCALATION = "escalation"


class Group(StrEnum):
    """The groups in which people see the fields, in their order."""

    WHO = "Who"
    TEXT = "Text"
    WHEN = "When"
    REDIAL = "Redial"
    GUARDS = "Guards"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field, for all interfaces: commands, TOML files, programs, HTTP, the console, Airflow and the docs.

    `read` makes of a value what it means; it may ask the `Reading` for other fields. In `help`, `<name>` is another
    field. `default` says in words what counts without it, and `defaults` of some of what it is a field `of`. `schema`
    is the JSON schema of its values. A field with a `metavar` is an option of commands; others are lines of the file
    of a campaign. A field of the console's page has a `label`. `sets` is the attribute of `CampaignOptions` that has
    its value.

    The field `is_of_one_run` is in no file of options. The text of a field with `instead` is the path of a file; from
    another computer, it may only be of the kinds `uploads`, else that sentence says what to do.
    """

    name: str
    read: Callable[[Any, Reading], object]
    of: frozenset[Of]
    group: Group
    help: str
    default: str = ""
    defaults: Mapping[Of, str] = field(default_factory=dict[Of, str])
    schema: Mapping[str, object]
    metavar: str = ""
    label: str = ""
    sets: str = ""
    is_of_one_run: bool = False
    instead: str = ""
    uploads: tuple[type, ...] = ()

    @property
    def may_be_list(self) -> bool:
        """True if a list of texts may be given, so that an option may be repeated."""
        return "array" in cast("Sequence[str]", self.schema["type"])

    def help_text(self, named: Callable[[str], str]) -> str:
        """Return what the field means, where fields are called what `named` makes of their names."""
        words = self.help.split("<")
        parts = [each.partition(">") for each in words[1:]]
        return words[0] + "".join(f"{named(name)}{rest}" for name, _, rest in parts)


def option(name: str) -> str:
    """Return the name of a field as an option of a command."""
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True, slots=True)
class Given:
    """A value, with the name of its field for people. Relative paths begin in `folder`."""

    value: object
    name: str
    folder: Path | None = None


_MOST_UNKNOWN: Final = 100
"""How many unknown names are looked at: each is compared with all that are known."""
_LONGEST_NAMED: Final = 100
"""The most characters of an unknown name that a message repeats."""


def refused(problems: Iterable[tuple[str, str]]) -> InvalidInputError:
    """Return the error for problems: pairs of the name of a field, or nothing, and why it is refused."""
    named = list(problems)
    said = "; ".join(why if not name or f"{name} " in why else f"{name}: {why}" for name, why in named)
    return InvalidInputError(said).found(*(Finding(column=name or None, message=why) for name, why in named))


def refuse(problems: Iterable[tuple[str, str]]) -> None:
    """Raise InvalidInputError if there are problems."""
    if found := list(problems):
        raise refused(found)


@dataclass(slots=True)
class Reading:
    """The reading of the `given` fields. What is wrong is noted, and raised together by `refuse`.

    What is given nowhere comes from the `settings`. `named` makes the name for people of a name. Days such as
    `tomorrow` are counted from `now`, and times that name no zone are read in `zone`. Without `menus`, a menu is one
    of a module. With `foreign`, the fields come from another computer, and no text in them is a path or a module.
    """

    fields: Mapping[str, Field]
    given: Mapping[str, Given]
    settings: Settings | None
    now: datetime
    named: Callable[[str], str] = str
    foreign: bool = False
    menus: Mapping[str, Menu] | None = None
    problems: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    zone: ZoneInfo | None = None
    _values: dict[str, Any] = field(default_factory=dict[str, Any])

    def has(self, name: str) -> bool:
        """Return whether a field is given."""
        return name in self.given

    def value(self, name: str) -> Any:
        """Return what a field says; None if it is not given, or wrong. Raises CampaignFileError."""
        if name not in self._values:
            self._values[name] = self.read(name, lambda value: self.fields[name].read(value, self))
        return self._values[name]

    def read(self, name: str, read: Callable[[Any], Any]) -> Any:
        """Return what `read` makes of a field; None if it is not given, or wrong. Raises CampaignFileError."""
        if name not in self.given:
            return None
        try:
            return read(self.given[name].value)
        except CampaignFileError as error:
            if not self.foreign:
                raise  # it names its file, and has findings
            found = error.findings or (Finding(message=str(error)),)
            error.found(*(replace(each, column=self.shown(name)) if each.row is None else each for each in found))
            raise
        except (ValueError, InvalidInputError) as error:
            self.problem(name, str(error))
            return None

    def problem(self, name: str, why: str) -> None:
        """Note what is wrong with a field, or without a name, with the whole."""
        self.problems.append((self.shown(name) if name else "", why))

    def shown(self, name: str) -> str:
        """Return the name of a field for people."""
        return self.given[name].name if name in self.given else self.named(name)

    def file(self, name: str, value: object) -> Path | InputFile:
        """Return the file that a field names, or that was uploaded."""
        return value if isinstance(value, InputFile) else self.path(name, value)

    def path(self, name: str, value: object) -> Path:
        """Return the path that a field names."""
        folder = self.given[name].folder
        return Path(text_of(value)) if folder is None else folder / text_of(value)

    def default(self, name: str) -> Any:
        """Return the value of a setting, else its default."""
        if self.settings is not None:
            return getattr(self.settings, name)
        from voiceflow_worker.settings import defaults  # most readers have settings

        return defaults()[name]

    def refuse(self, *excluding: tuple[str, str]) -> None:
        """Read what was not asked for yet, and raise InvalidInputError for all that is wrong.

        That is also pairs of fields that exclude each other.
        """
        for name in self.given:
            self.value(name)
        for one, other in excluding:
            if self.has(one) and self.has(other):
                self.problem(one, f"{self.shown(one)} and {self.shown(other)} exclude each other: give one of them")
        refuse(self.problems)


def unknown(
    given: Mapping[str, Given],
    known: Iterable[str],
    named: Callable[[str], str],
    *,
    of: str,
    reasons: Mapping[str, str] = MappingProxyType({}),
    where: str = "",
) -> Iterator[tuple[str, str]]:
    """Yield the fields that are not among the known ones, each with why it is refused. `reasons` has that of some."""
    known = frozenset(known)
    others = [(name, each) for name, each in given.items() if name not in known]
    for name, each in others[:_MOST_UNKNOWN]:
        shown = each.name[:_LONGEST_NAMED]
        hint = did_you_mean(str(name), known, shown=named)
        yield shown, f"{where}{shown} {reasons.get(name) or f'is not {of}{hint}'}"
    if len(others) > _MOST_UNKNOWN:
        yield "", f"{where}{len(others) - _MOST_UNKNOWN} more names are not {of}"


def paths(given: Mapping[str, Given], fields: Mapping[str, Field]) -> Iterator[tuple[str, str]]:
    """Yield the fields that name a file, each with why it is refused. Who named it cannot know which files are here."""
    for name, each in given.items():
        if name in fields and fields[name].instead and not isinstance(each.value, fields[name].uploads):
            yield each.name, f"it names a file of another computer, which is not read here: {fields[name].instead}"


def text_of(value: object) -> str:
    """Return a value as a text; a number or a time as it would be typed. Raises ValueError, InvalidInputError."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal | date | time | Path):
        raise InvalidInputError(f"{quoted(value)} is {describe(value)}, not a text; write it as a text")
    text = str(value)
    if not text.strip():
        raise ValueError("it is empty: give a value, or leave it out")
    return text


T = TypeVar("T")
MOST_ROUNDS: Final = 50
ROUNDS: Final = f"give a number from 1 to {MOST_ROUNDS}"


def words(value: object) -> str:
    """Return a text with commas, which may be a list, or a table of names: `busy=5m,no_answer=2h`."""
    value = table_text(value)
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(map(text_of, cast("Iterable[object]", value)))
    return text_of(value)


def limit(value: object) -> int:
    """Return a number of rows, from 1 on."""
    if (found := whole(value)) < 1:
        raise ValueError(f"{found} is no number of rows: give 1 or more, or nothing for all rows")
    return found


def columns(value: object) -> Mapping[str, str | Sequence[str]]:
    """Return which column is what: a mapping, or pairs as they are typed."""
    if isinstance(value, Mapping | list | tuple):
        return ColumnRoles.of(cast("object", value)).as_table()
    return ColumnRoles.of(text_of(value)).as_table()


def row(value: object) -> int:
    """Return the number of a row, from 1 on."""
    if not (found := whole(value)):
        raise ValueError("rows are numbered from 1 on")
    return found


def window(value: object) -> CountryWindows:
    """Return the hours of a window."""
    if isinstance(value, CallWindow | CountryWindows):
        return CountryWindows.of(value)
    return CountryWindows.parse(words(value))


def duration(value: object) -> timedelta:
    """Return a duration, such as 2h."""
    return value if isinstance(value, timedelta) else _as_duration(read_duration, text_of(value))


def length(value: object) -> timedelta:
    """Return a duration above 0."""
    found = duration(value)
    if not found:
        raise ValueError(f"{value!s} is not above 0: give a duration such as 15m")
    return found


def redial_after(value: object) -> RedialWait:
    """Return the wait before a redial, or one for each outcome."""
    if isinstance(value, timedelta | Mapping):
        return read_redial_after(value)  # pyright: ignore[reportUnknownArgumentType]
    return _as_duration(read_redial_after, words(value))


def _as_duration(read: Callable[[str], T], text: str) -> T:
    try:
        return read(text)
    except ValueError as error:
        raise ValueError(f"{text[:40]!r} is not a duration: {error}") from None


def whole(value: object) -> int:
    """Return a whole number from 0 on."""
    text = text_of(value)
    try:
        found = int(text)
    except ValueError:
        found = -1
    if found < 0:
        raise ValueError(f"{text[:40]!r} is not a whole number from 0 on")
    return found


def priority(value: object) -> int:
    """Return a priority."""
    text = text_of(value)
    try:
        found: object = int(text)
    except ValueError:
        found = text
    if problem := priority_problem(found):
        raise ValueError(problem)
    return cast("int", found)


YES, NO = frozenset({"yes", "true"}), frozenset({"no", "false"})


def yes_or_no(value: object) -> bool:
    """Yes or no, as a word or as true and false."""
    word = value if isinstance(value, bool) else text_of(value).strip().lower()
    if word not in {True, False} | YES | NO:
        raise ValueError(f"{str(value)[:40]!r} is neither yes nor no")
    return word is True or word in YES


def one_of(kind: Iterable[str], value: object) -> str:
    """One of these texts, in any case."""
    text = text_of(value).strip().lower()
    known = [str(each) for each in kind]
    if text not in known:
        raise ValueError(f"{text[:40]!r} is none of {', '.join(known)}")
    return text


def country(value: object) -> str:
    """Return the country of national numbers."""
    return read_country(text_of(value))


_VOICE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]*", re.ASCII)


def voice(value: object) -> str:
    """Return the name of a voice, such as en-US-JennyNeural."""
    text = text_of(value)
    if not isinstance(value, str) or _VOICE.fullmatch(text.strip()) is None:
        raise ValueError(f"{quoted(value)} is no name of a voice: write it as en-US-JennyNeural")
    return text


def language(value: object) -> str:
    """Return a language, by its code or its English name."""
    text = text_of(value)
    if not isinstance(value, str) or not text.strip()[0].isalpha():
        raise ValueError(f"{quoted(value)} is no language: write its code or its name, such as de or German")
    return text


def batch(value: object) -> str:
    """Return the id of a batch."""
    text = text_of(value)
    if isinstance(value, float) or (isinstance(value, int) and value < 0):
        raise ValueError(f"{quoted(value)} is no batch id: write it as a text")
    if len(text) > MAX_ID_CHARACTERS:
        raise ValueError(f"{text[:40]!r} is no batch id: it must have 1 to {MAX_ID_CHARACTERS} characters")
    return text


def rows(value: object) -> Iterable[Mapping[str, object]]:
    """Return the people of a program."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise InvalidInputError(f"they are {describe(value)}; give mappings, one for each row")  # pyright: ignore[reportUnknownArgumentType]
    given = cast("Iterable[Mapping[str, object]]", value)
    if isinstance(given, Iterator):
        raise InvalidInputError("they can be read only once, by the preview or by the start; give a list of them")
    return given


def data(value: object) -> Mapping[str, object]:
    """Return what is kept with each call."""
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"it is {describe(value)}; give names with their values")
    return cast("Mapping[str, object]", value)


def spoken(value: object) -> str:
    """Return a text that is spoken as it is."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("give a text")
    return value


def rounds(value: object) -> int:
    """Return the number of rounds of an escalation."""
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdigit() and len(value) < 5 else 0
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_ROUNDS:
        raise ValueError(ROUNDS)
    return value


def listed(numbers: object) -> list[str] | None:
    """Return the numbers in a list, or in a text with commas; None if there is none. Raises InvalidInputError."""
    if isinstance(numbers, str):
        numbers = numbers.split(",")
    if not isinstance(numbers, list | tuple):
        return None
    return list(filter(None, map(_listed, cast("Iterable[object]", numbers)))) or None


def _listed(number: object) -> str:
    """Return a number of a list; empty if there is none."""
    if isinstance(number, bool) or not isinstance(number, str | int):
        raise InvalidInputError(f"{quoted(number)} is {describe(number)}, not a telephone number; write it as a text")
    return str(number).strip()


def steps(numbers: object) -> list[str | list[str]] | None:
    """Return the steps of an escalation: each a number, or a list of those that are called at once.

    A text has commas between the steps, and | between the numbers of one. Raises InvalidInputError.
    """
    if isinstance(numbers, str):
        numbers = [each.split("|") for each in numbers.split(",")]
    if not isinstance(numbers, list | tuple):
        return None
    given = cast("Iterable[object]", numbers)
    read = [listed(cast("object", each)) if isinstance(each, list | tuple) else _listed(each) for each in given]
    return [each for each in read if each] or None
