"""What a field is, and how the fields that somebody gives are read: each by its reader, all that is wrong together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from decimal import Decimal
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import Finding, Remedy

if TYPE_CHECKING:
    from voiceflow_worker.ivr.menu import Menu
    from voiceflow_worker.settings import Settings


class Of(StrEnum):
    """What a field is a field of."""

    CAMPAIGN = "campaign"
    CALL = "call"
    ESCALATION = "escalation"
    SCHEDULE = "schedule"


class Group(StrEnum):
    """The groups in which people see the fields, in their order."""

    WHO = "Who"
    TEXT = "Text"
    WHEN = "When"
    REDIAL = "Redial"
    GUARDS = "Guards"
    PREVIEW = "Preview"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field, for all interfaces: commands, TOML files, programs, HTTP, the console, Airflow and the docs.

    `read` makes of a value what it means; it may ask the `Reading` for other fields. In `help`, `<name>` is another
    field; `helps` has other words for some of what it is a field `of`. `default` says in words what counts without it,
    and `defaults` of some. `schema` is the JSON schema of its values. An option of a command has a `metavar`; `--help`
    only counts those that are `is_rare`. A field of the console's form has a `label`, a `hint`, and perhaps `choices`,
    or `offers`, a list of the page from which a value may be taken. `sets` is the attribute of `CampaignOptions` that
    has its value.

    The field `is_of_one_run` is in no file of options. The text of a field with `instead` is the path of a file; from
    another computer, it may only be of the kinds `uploads`, else that sentence says what to do.
    """

    name: str
    read: Callable[[Any, Reading], object]
    of: frozenset[Of]
    group: Group
    help: str
    helps: Mapping[Of, str] = field(default_factory=dict[Of, str])
    default: str = ""
    defaults: Mapping[Of, str] = field(default_factory=dict[Of, str])
    schema: Mapping[str, object]
    metavar: str = ""
    is_rare: bool = False
    label: str = ""
    hint: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    offers: str = ""
    sets: str = ""
    is_of_one_run: bool = False
    instead: str = ""
    uploads: tuple[type, ...] = ()

    def told(self, of: Of, named: Callable[[str], str]) -> str:
        """What the field means, where fields are called what `named` makes of their names."""
        words = self.helps.get(of, self.help).split("<")
        parts = [each.partition(">") for each in words[1:]]
        return words[0] + "".join(f"{named(name)}{rest}" for name, _, rest in parts)


def option(name: str) -> str:
    """The name of a field as an option of a command."""
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True, slots=True)
class Given:
    """A value, with the name of its field for people. Relative paths begin in `folder`."""

    value: object
    name: str
    folder: Path | None = None


_LONGEST_NAMED: Final = 100
"""The most characters of an unknown name that a message repeats."""


def refused(problems: Iterable[tuple[str, str]], *remedies: Remedy) -> InvalidInputError:
    """The error for problems: pairs of the name of a field, or nothing, and why it is refused."""
    told = list(problems)
    said = "; ".join(why if not name or f"{name} " in why else f"{name}: {why}" for name, why in told)
    found = [Finding(column=name or None, message=why) for name, why in told]
    return InvalidInputError(said).remedied(*remedies).found(*found)


def refuse(problems: Iterable[tuple[str, str]], *remedies: Remedy) -> None:
    """Raise InvalidInputError if there are problems."""
    if told := list(problems):
        raise refused(told, *remedies)


@dataclass(slots=True)
class Reading:
    """The reading of the `given` fields. What is wrong is noted, and raised together by `refuse`.

    What is given nowhere comes from the `settings`. `named` makes the name for people of a name. Days such as
    `tomorrow` are counted from `now`. Without `menus`, a menu is one of a module. With `foreign`, the fields come from
    another computer, and no text in them is a path or a module.
    """

    fields: Mapping[str, Field]
    given: Mapping[str, Given]
    settings: Settings | None
    now: datetime
    named: Callable[[str], str] = str
    foreign: bool = False
    menus: Mapping[str, Menu] | None = None
    problems: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    remedies: list[Remedy] = field(default_factory=list[Remedy])
    _values: dict[str, Any] = field(default_factory=dict[str, Any])

    def has(self, name: str) -> bool:
        """Whether a field is given."""
        return name in self.given

    def value(self, name: str) -> Any:
        """What a field says; None if it is not given, or wrong. Raises CampaignFileError."""
        if name not in self._values:
            self._values[name] = self.read(name, lambda value: self.fields[name].read(value, self))
        return self._values[name]

    def read(self, name: str, read: Callable[[Any], Any]) -> Any:
        """What `read` makes of a field; None if it is not given, or wrong. Raises CampaignFileError."""
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
            self.remedies += error.remedies if isinstance(error, InvalidInputError) else ()
            return None

    def problem(self, name: str, why: str) -> None:
        """Note what is wrong with a field, or without a name, with the whole."""
        self.problems.append((self.shown(name) if name else "", why))

    def shown(self, name: str) -> str:
        """The name of a field for people."""
        return self.given[name].name if name in self.given else self.named(name)

    def file(self, name: str, value: object) -> Path | InputFile:
        """The file that a field names, or that was uploaded."""
        return value if isinstance(value, InputFile) else self.path(name, value)

    def path(self, name: str, value: object) -> Path:
        """The path that a field names."""
        folder = self.given[name].folder
        return Path(text_of(value)) if folder is None else folder / text_of(value)

    def default(self, name: str) -> Any:
        """The value of a setting, else its default."""
        if self.settings is not None:
            return getattr(self.settings, name)
        from voiceflow_worker.settings import Settings  # takes 60 ms to load

        return Settings.model_fields[name].default

    def refuse(self, *excluding: tuple[str, str]) -> None:
        """Read what was not asked for yet, and raise InvalidInputError for all that is wrong.

        That is also pairs of fields that exclude each other.
        """
        for name in self.given:
            self.value(name)
        for one, other in excluding:
            if self.has(one) and self.has(other):
                self.problem(one, f"{self.shown(one)} and {self.shown(other)} exclude each other: give one of them")
        refuse(self.problems, *self.remedies)


def unknown(
    given: Mapping[str, Given],
    known: Iterable[str],
    named: Callable[[str], str],
    *,
    of: str,
    reasons: Mapping[str, str] = MappingProxyType({}),
    where: str = "",
) -> Iterator[tuple[str, str]]:
    """The fields that are not among the known ones, each with why it is refused. `reasons` has that of some."""
    known = frozenset(known)
    for name, each in given.items():
        if name not in known:
            shown = each.name[:_LONGEST_NAMED]
            close = get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {named(close[0])}?" if close else ""
            yield shown, f"{where}{shown} {reasons.get(name) or f'is not {of}{hint}'}"


def paths(given: Mapping[str, Given], fields: Mapping[str, Field]) -> Iterator[tuple[str, str]]:
    """The fields that name a file, each with why it is refused. Who named it cannot know which files are here."""
    for name, each in given.items():
        if name in fields and fields[name].instead and not isinstance(each.value, fields[name].uploads):
            yield each.name, f"it names a file of another computer, which is not read here: {fields[name].instead}"


def text_of(value: object) -> str:
    """A value as a text; a number or a time as it would be typed. Raises ValueError, InvalidInputError."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal | date | time | Path):
        raise InvalidInputError(f"{str(value)[:40]!r} is {type(value).__name__}, not a text; write it as a text")
    text = str(value)
    if not text.strip():
        raise ValueError("it is empty: give a value, or leave it out")
    return text
