"""The form of a campaign: what it holds between two steps, what its controls show, and what a person has changed.

One signed field of the page holds the campaign as its file would. What a control shows follows from that alone; so a
control that was sent as it was shown changes nothing, and neither does one that was not shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple, Self
from urllib.parse import unquote

from itsdangerous import BadData, URLSafeSerializer

from voiceflow_worker.campaigns.fields import fields_of
from voiceflow_worker.campaigns.lists.columns import COUNTRY, DESTINATION, IGNORE, ColumnRoles, row_name
from voiceflow_worker.campaigns.lists.filters import Filter, Part, parts_of, read_filter, text_of_parts
from voiceflow_worker.campaigns.reading import Group, Of
from voiceflow_worker.console.formats import label_of
from voiceflow_worker.console.questions import PREFIX, every
from voiceflow_worker.console.sessions import PageForm
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Message
from voiceflow_worker.model.country_windows import AT_ANY_HOUR, read_weekdays
from voiceflow_worker.model.jobs.policy import read_redial_on
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.window import EVERY_DAY, Weekday

FIELDS = {name: each for name, each in fields_of(Of.CAMPAIGN).items() if each.label}
"""The fields of a campaign that the page has."""
FILTERS = ("leave_out", "only")
"""The fields that hold filters as data."""
UPLOADS = {"file": "upload"}
"""The field of the file that is kept between two forms, with the value that then names it."""
TICKS = tuple(name for name, each in FIELDS.items() if each.is_of_one_run)
"""What answers the findings of a preview: it may be chosen between a preview and the start."""
LIST, COUNTS, ONLY_NEW, PROPOSED = "list", "counts", "add", "proposed"
"""The choice that a list which is imported again asks for: it counts, or it only adds who is new; and whether it was
proposed, and not chosen by a person."""
TEXTS = (*(name for name in FIELDS if name not in UPLOADS), "queue", "number", LIST)
"""The fields of the page that hold texts."""
STEPS = {"people": "People", "words": "Words", "hours": "Hours", "check": "Check", "ready": "Start"}
"""The steps of the form, in their order."""
_STEP_OF_GROUP = {Group.WHO: "people", Group.TEXT: "words"}
STEP_OF = {
    name: "check" if each.is_of_one_run else _STEP_OF_GROUP.get(each.group, "hours") for name, each in FIELDS.items()
}
"""The step of each field."""
COLUMN = "column "
"""What the name of the control of a column's role begins with."""
FURTHER = "further numbers"
"""The role of a person's numbers, but that of the first."""
ROLE_WORDS: Mapping[str, str] = {
    DESTINATION: "the number to call",
    FURTHER: "a further number of the person",
    "name": "the name of the person",
    COUNTRY: "the country of the number",
    "source": "the number to call from",
    "unique_key": "the key of the call",
    "batch_id": "the batch of the call",
    "voice_profile": "the voice",
    "language": "the language of the menu",
    "time_zone": "the time zone of the person",
    "not_before": "the time before which nobody is called",
    "valid_until": "the time after which nobody is called",
    "window": "the hours in which phones may ring",
    "priority": "the order of the calls",
    IGNORE: "nothing: it is not read",
}
"""The roles that a person may give to a column, in words. A column may have others, such as the name of a variable."""
_LOOKS: Mapping[str, str] = {
    "date": "a date",
    "phone": "a telephone number, which is not called",
    "text": "a text or a number",
    "empty": "empty in the first rows",
    "refusal": "left out: the reason of an earlier refusal",
}
YES = "yes"
_CLOCK = "((?:[01][0-9]|2[0-3]):[0-5][0-9])"
_CLOCKS = re.compile(rf"\s*{_CLOCK}?\s*-\s*{_CLOCK}?\s*")
_MOMENT = re.compile(rf"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})?(?:(?<=\d)[ T](?=\d))?{_CLOCK}?")
"""What fields of browsers can show of hours, and of days with times."""
NO_DAY = "no day"
"""What is refused if nobody has ticked a day."""
DAYS = tuple(each.name.lower() for each in Weekday)
AGAIN_AFTER = ("busy", "no_answer", "canceled")


class Parts(NamedTuple):
    """A field that several controls show: `split` makes their values, None if they cannot show it; `join` the field."""

    split: Callable[[str], Mapping[str, str] | None]
    join: Callable[[Mapping[str, str]], str]


def _window(text: str) -> Mapping[str, str] | None:
    if text in {"", AT_ANY_HOUR}:
        return {"from": "", "to": "", "any": YES if text else ""}
    found = _CLOCKS.fullmatch(text)
    return {"from": found[1] or "", "to": found[2] or "", "any": ""} if found else None


def _moment(text: str) -> Mapping[str, str] | None:
    found = _MOMENT.fullmatch(text)
    with suppress(ValueError):
        _ = found and found[1] and date.fromisoformat(found[1])
        return {"date": found[1] or "", "time": found[2] or ""} if found else None
    return None


def _days(text: str) -> Mapping[str, str] | None:
    with suppress(InvalidInputError):
        table = read_weekdays(text) if text not in {"", NO_DAY} else {"*": frozenset[Weekday]() if text else EVERY_DAY}
        return None if [*table] != ["*"] else {n: YES if Weekday(p) in table["*"] else "" for p, n in enumerate(DAYS)}
    return None


def _joined_days(parts: Mapping[str, str]) -> str:
    chosen = [name for name, ticked in parts.items() if ticked]
    return "" if len(chosen) == len(DAYS) else ",".join(chosen) or NO_DAY


def _outcomes(text: str) -> Mapping[str, str] | None:
    with suppress(InvalidInputError):
        found = read_redial_on(text) if text else frozenset[SessionStatus]()
        known = {name: next(iter(read_redial_on(name))) for name in AGAIN_AFTER}
        return {n: YES if each in found else "" for n, each in known.items()} if found <= {*known.values()} else None
    return None


def _joined_outcomes(parts: Mapping[str, str]) -> str:
    return ",".join(name for name, ticked in parts.items() if ticked)


def _joined_window(parts: Mapping[str, str]) -> str:
    if parts["from"] or parts["to"]:
        return f"{parts['from']}-{parts['to']}"
    return AT_ANY_HOUR if parts["any"] else ""


def _joined_moment(parts: Mapping[str, str]) -> str:
    return f"{parts['date']} {parts['time']}".strip()


PARTS: Mapping[str, Parts] = {
    "window": Parts(_window, _joined_window),
    "days": Parts(_days, _joined_days),
    "not_before": Parts(_moment, _joined_moment),
    "redial_on": Parts(_outcomes, _joined_outcomes),
}


@dataclass(slots=True)
class CampaignForm:
    """A campaign as its file would say it: its fields as texts, by name, those of questions one by one.

    Beside them are the ids of uploaded files, the zone of typed times, and the version of the last preview. Methods
    raise InvalidInputError.
    """

    values: dict[str, str]

    @classmethod
    def opened(cls, text: str, *, key: str) -> Self:
        """The form in a signed field; an empty one if it is not genuine."""
        with suppress(BadData):
            return cls(dict(URLSafeSerializer(key, salt="campaign").loads(text)))
        return cls({})

    def proposes(self, choice: str) -> bool:
        """Propose this choice of a list, or none, unless a person has chosen; returns whether that changes anything."""
        if choice == self.get(LIST) or (self.get(LIST) and not self.get(PROPOSED)):
            return False
        self.values |= {LIST: choice, PROPOSED: choice and YES}
        return True

    def signed(self, *, key: str) -> str:
        """The form as the value of a field."""
        kept = {name: value for name, value in self.values.items() if value}
        return str(URLSafeSerializer(key, salt="campaign").dumps(kept))

    def get(self, name: str) -> str:
        """The text of a field; empty without one."""
        return self.values.get(name, "")

    def part(self, name: str) -> object:
        """All that the form holds of a field, to be compared: the file that was uploaded, or each part of a menu."""
        parts = {key: value for key, value in self.values.items() if key.startswith(PREFIX) and value}
        return (self.get(UPLOADS.get(name, name)), parts if name == "menu" else {})

    @property
    def roles(self) -> ColumnRoles:
        """Which column is what."""
        try:
            return ColumnRoles.of(self.get("columns") or ())
        except InvalidInputError as error:
            raise InvalidInputError(Message(f"{label_of('columns')}: {error}", error)) from None

    def role_of(self, column: str) -> str:
        """The role of a column; empty if it has none."""
        key, numbers = row_name(column), self.roles.numbers
        table = {**self.roles.as_table(), FURTHER: [*numbers[1:]], DESTINATION: [*numbers[:1]]}
        return next((name for name, of in table.items() if key in map(row_name, _listed(of))), "")

    def give_roles(self, picked: Iterable[tuple[str, str]]) -> None:
        """Give columns roles, each in place of the one it has and, of a role of one column, of the one that has it."""
        table = {name: [*_listed(of)] for name, of in self.roles.as_table().items()}
        taken = dict[str, str]()
        for column, role in sorted(picked, key=lambda each: each[1] not in {DESTINATION, FURTHER}):
            numbers = table.get(DESTINATION, [])
            table = {name: [each for each in of if row_name(each) != row_name(column)] for name, of in table.items()}
            held = table.get(role, [])
            if role == FURTHER:
                table.setdefault(DESTINATION, []).append(column)
            elif role == DESTINATION:
                table[role] = [column, *(each for each in held if each in numbers[1:])]
            elif role == IGNORE:
                table[role] = [*held, column]
            elif role:
                if role in taken:
                    raise InvalidInputError(f"{taken[role]} and {column} are both taken for {role_in_words(role)}")
                taken[role], table[role] = column, [column]
        self._keep_roles(table)

    def keep_columns(self, present: Iterable[str]) -> None:
        """Keep the roles of these columns alone."""
        keys = set(map(row_name, present))
        self._keep_roles(
            {n: [o for o in _listed(of) if row_name(o) in keys] for n, of in self.roles.as_table().items()}
        )

    def _keep_roles(self, table: Mapping[str, Sequence[str]]) -> None:
        self.values["columns"] = ColumnRoles.of({name: [*of] for name, of in table.items() if of}).as_text()

    def filters(self, name: str = "leave_out") -> Sequence[Part]:
        """The filters in a field: as they were typed, or as data."""
        return parts_of(text) if (text := self.get(name)) else ()

    def decides(self, column: str) -> bool:
        """Whether it says what a column is, or who is called by it; what cannot be read, the check tells."""
        with suppress(InvalidInputError):
            filters = [_read(part, [column]) for name in FILTERS for part in self.filters(name)]
            return bool(self.role_of(column)) or any(each is not None and each.is_of(column) for each in filters)
        return True

    def shown(self, name: str) -> str:
        """What a control shows; nothing of a field that cannot be read, which the check tells."""
        with suppress(ValueError, InvalidInputError):
            return self._shown(name)
        return ""

    def _shown(self, name: str) -> str:
        field, _, part = name.partition(".")
        if field in PARTS and part:
            return (PARTS[field].split(self.get(field)) or {}).get(part, "")
        if name.startswith(COLUMN):
            return self.role_of(unquote(name.removeprefix(COLUMN)))
        if name in FILTERS:
            with suppress(InvalidInputError):
                return text_of_parts(self.filters(name), typed=True)
        return self.get(next(iter(every(name, self.values)), ""))

    def take(self, form: PageForm) -> None:
        """Take what a person has changed since the page was shown."""
        changed: dict[str, str] = {}
        for name, given in form.lists().items():
            # A picker and a text may show one field: the one that was changed counts. A tick is behind its blank.
            shown = self.shown(name).split()
            is_tick = name not in FIELDS or name in TICKS
            new = [each for each in (given[-1:] if is_tick else given) if each.split() != shown]
            if new:
                changed[name] = new[-1]
        self._change(changed)
        for name in form.lists():  # a text for all languages is shown as that of the first
            if (whole := name.rpartition(".")[0]).startswith(PREFIX):
                self.values.pop(whole, None)

    def _filters_in(self, name: str, text: str) -> str:
        """The text of filters that a person has changed: those of it that were shown are what they were."""
        with suppress(InvalidInputError):  # which the check tells
            shown = {each.typed: each for each in self.filters(name) if isinstance(each, Filter)}
            return text_of_parts(shown.get(str(each), each) for each in parts_of(text))
        return text

    def _change(self, changed: Mapping[str, str]) -> None:
        roles: list[tuple[str, str]] = []
        parted: dict[str, dict[str, str]] = {}
        for name, value in changed.items():
            field, _, part = name.partition(".")
            if name in FILTERS and value:
                self.values[name] = self._filters_in(name, value)
            elif name in TEXTS or name.startswith(PREFIX):
                self.values |= dict.fromkeys(every(name, self.values), value)
            elif field in PARTS and part:
                parted.setdefault(field, {})[part] = value
        for field, parts in parted.items():
            # What the controls cannot show is shown as nothing, and stays as long as nobody changes them.
            split = PARTS[field].split(self.get(field)) or dict.fromkeys(PARTS[field].split("") or (), "")
            self.values[field] = PARTS[field].join({**split, **parts})
        for name, value in changed.items():
            if name.startswith(COLUMN):
                roles.append((unquote(name.removeprefix(COLUMN)), value))
        self.give_roles(roles)


def role_in_words(role: str) -> str:
    """A role, or what a column without one is taken for, in the words of the page."""
    return {**_LOOKS, **ROLE_WORDS}.get(role, role)


def _read(part: Part, columns: Iterable[str]) -> Filter | None:
    """A filter of one of these columns; None for one of another, or that has no one reading, which the check tells."""
    with suppress(InvalidInputError):
        return read_filter(part, columns) if isinstance(part, str) else part
    return None


def _listed(columns: str | Sequence[str]) -> Sequence[str]:
    return [columns] if isinstance(columns, str) else columns
