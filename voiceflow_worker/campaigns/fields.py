"""The fields of campaigns, calls and escalations. Each is defined here, once, for all interfaces.

From this table come the options of the commands, what a TOML file may have, the schemas of the HTTP API, the form of
the console, the parameters of Airflow's operators, and the page of the docs (`docs/fields.md`). A new field is an
entry with its reader.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from voiceflow_worker.campaigns import reading as values
from voiceflow_worker.campaigns.calls.options import read_again
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.lists.filters import parts_of
from voiceflow_worker.campaigns.lists.input_file import InputFile
from voiceflow_worker.campaigns.reading import Field, Group, Of, Reading, text_of
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.ivr.template_text import is_template
from voiceflow_worker.model.column_time import ColumnTime
from voiceflow_worker.model.country_windows import read_holidays
from voiceflow_worker.model.flows.values import is_object
from voiceflow_worker.model.jobs.job import MOST_NUMBERS
from voiceflow_worker.model.jobs.policy import read_redial_on
from voiceflow_worker.model.numbers.reading import read_sources
from voiceflow_worker.model.text.wording import in_words
from voiceflow_worker.model.times import DateOrder, read_time
from voiceflow_worker.model.window import read_days, read_window_zone
from voiceflow_worker.model.zones import read_zone

if TYPE_CHECKING:
    from collections.abc import Callable

    from voiceflow_worker.ivr.menu import Menu

Schema = Mapping[str, object]

TEXT: Final[Schema] = {"type": ["string", "null"]}
WHOLE: Final[Schema] = {"type": ["integer", "string", "null"]}
YES_NO: Final[Schema] = {"type": ["boolean", "string", "null"]}
# Generators of clients read an object without this, or a list without `items`, as one that holds nothing.
OBJECT: Final[Schema] = {"type": ["object", "null"], "additionalProperties": True}
MENU: Final[Schema] = {"type": ["string", "object", "null"], "additionalProperties": True}
ROWS: Final[Schema] = {"type": ["array", "null"], "items": {"type": "object", "additionalProperties": True}}
WORDS: Final[Schema] = {"type": ["string", "array", "null"], "items": {"type": "string"}}
"""Words as one types them, or a list of them."""
BY_NAME: Final[Schema] = {**WORDS, "type": ["string", "array", "object", "null"], "additionalProperties": WORDS}
"""The same, or an object from names to them, such as countries or outcomes."""
FILTERS: Final[Schema] = {
    "type": ["string", "array", "object", "null"], "additionalProperties": True,
    "items": {"type": ["string", "object"], "additionalProperties": True},
}  # fmt: skip
"""Filters as one types them, or as objects with a column, its value, and whether it is that."""


def schema_of(of: Of, *, without: Iterable[str] = (), required: Iterable[str] = ()) -> dict[str, object]:
    """Return the JSON schema of a request with the fields of a campaign, a call or an escalation."""
    needed = [*required]
    properties = properties_of(of, set(fields_of(of)).difference(without))
    for name in needed:
        kinds = cast("list[str]", properties[name]["type"])
        properties[name]["type"] = [kind for kind in kinds if kind != "null"]
    return {"type": "object", "additionalProperties": False, "required": needed, "properties": properties}


def properties_of(of: Of, names: Collection[str]) -> dict[str, dict[str, object]]:
    """Return the JSON schemas of fields with these names."""
    found: dict[str, dict[str, object]] = {}
    for name, each in fields_of(of).items():
        if name in names:
            default = each.defaults.get(of, each.default)
            words = each.help_text(lambda other: f"`{other}`") + (f" By default: {default}." if default else "")
            found[name] = {**each.schema, "description": words.replace("..", ".")}
    return found


# -- readers that ask for other fields --------------------------------------------------------------------------------


def _plain(read: Callable[[Any], object]) -> Callable[[Any, Reading], object]:
    return lambda value, _: read(value)


def _texts(read: Callable[[str], object]) -> Callable[[Any, Reading], object]:
    return lambda value, _: read(text_of(value))


def _words(read: Callable[[str], object]) -> Callable[[Any, Reading], object]:
    return lambda value, _: read(values.words(value))


def _choice(kind: type[DateOrder]) -> Callable[[Any, Reading], object]:
    return lambda value, _: kind(values.one_of(kind, value))


def _path(value: object, _: Reading) -> Path:
    return Path(text_of(value))


def _as_given(value: Any, _: Reading) -> Any:
    return value


def _file(value: object, reading: Reading) -> Path | InputFile:
    return reading.file("file", value)


_MOST_GIVEN = 10 * MOST_NUMBERS
"""The most further numbers that are read: the same telephone may be written several times."""


def _further(value: Any, _: Reading) -> Sequence[str]:
    if not isinstance(value, (str, list, tuple)):
        raise ValueError("is no list of numbers")  # noqa: TRY004 - as all readers do
    numbers = values.listed(cast("object", value)) or ()
    if len(numbers) > _MOST_GIVEN:  # before each of them becomes a column
        raise ValueError(f"has {len(numbers)} numbers; at most {MOST_NUMBERS} of a person are called")
    return numbers


def _template(value: object, reading: Reading) -> FlowTemplate:
    if isinstance(value, FlowTemplate):
        return value
    if isinstance(value, Mapping):
        return FlowTemplate.parse(cast("object", value), name=reading.shown("template"))
    return FlowTemplate.load(reading.path("template", value))


def _spoken(value: object, _: Reading) -> FlowTemplate:
    return value if isinstance(value, FlowTemplate) else FlowTemplate.speaking(text_of(value))


def _said(value: object, _: Reading) -> FlowTemplate:
    if isinstance(value, FlowTemplate):
        return value
    if not isinstance(value, str) or not value.strip():
        raise ValueError("is not a text to speak")
    try:
        return _template_of(value) if is_template(value) else FlowTemplate.speaking(value)
    except CampaignFileError as error:
        raise ValueError("; ".join(found.message for found in error.findings)) from None


_template_of = lru_cache(maxsize=64)(FlowTemplate.speaking)
"""The template of a text with names, which many calls have in common."""


def _flow(value: object, _: Reading) -> Mapping[str, object]:
    if not is_object(value):
        raise ValueError("is not an object; give a request body of 8x8")
    return value


def _menu(value: object, reading: Reading) -> Menu:
    from voiceflow_worker.ivr.loading import load_menus
    from voiceflow_worker.ivr.menu import Menu

    if isinstance(value, Menu):
        return value
    name, menus = text_of(value), reading.menus
    if menus is None:
        voice = reading.default("voice_profile")
        return load_menus([name], voice_profile=voice, folder=reading.given["ivr"].folder)[0]
    if name not in menus:
        raise ValueError(f"{name[:40]!r} is not one of the menus: {', '.join(menus) or 'there are none'}")
    return menus[name]


def _menu_or_name(value: object, reading: Reading) -> Menu | str:
    if not isinstance(value, Mapping):
        return text_of(value)
    from voiceflow_worker.ivr.menu_data import read_menu

    voice = reading.value("voice_profile") or reading.default("voice_profile")
    return read_menu(cast("object", value), voice_profile=voice)


def _source(value: object, reading: Reading) -> str:
    text = values.words(value)
    read_sources(text, reading.value("country"))
    return text


def _time(value: object, reading: Reading) -> datetime:
    zone = reading.value("time_zone")
    try:
        return read_time(text_of(value), zone=reading.zone if zone is None else read_zone(zone), now=reading.now)
    except ValueError as error:
        hint = "" if reading.has("time_zone") or reading.zone else f" ({reading.named('time_zone')})"
        raise ValueError(f"{error}{hint}") from None


def _moment(value: object, reading: Reading) -> datetime | ColumnTime:
    if "columns" not in reading.fields:  # which only a campaign has
        return _time(value, reading)
    try:
        return ColumnTime.read(text_of(value)) or _time(value, reading)
    except ValueError as error:
        raise ValueError(f"{error}, or as visit - 24h, counted from a column") from None


def _later(value: object, reading: Reading) -> datetime | ColumnTime:
    at = _moment(value, reading)
    if isinstance(at, ColumnTime):
        return at
    if at <= reading.now:
        raise ValueError(f"it is {in_words(at)}, which has passed; give a later time")
    return at


# -- the table --------------------------------------------------------------------------------------------------------

_CAMPAIGN = frozenset({Of.CAMPAIGN})
_ALL = frozenset({Of.CAMPAIGN, Of.CALL, Of.ESCALATION})
_CALL = frozenset({Of.CALL})
_ESCALATION = frozenset({Of.ESCALATION})

# An entry is read at a glance.
# fmt: off
FIELDS: tuple[Field, ...] = (
    # -- who is called, and from which number
    Field(
        name="campaign", read=_path, of=_CAMPAIGN, group=Group.TEXT, schema=TEXT, metavar="FILE", is_of_one_run=True,
        instead="give its fields",
        help="Take the fields from this TOML file. Those that are given here override it.",
    ),
    Field(
        name="to", read=_as_given, of=_CALL, group=Group.WHO, schema={"type": ["string", "integer", "null"]},
        help="The number to call: with + and its country code, or as written in <country>.",
    ),
    Field(
        name="further_numbers", read=_further, of=_CALL, group=Group.WHO,
        schema={"type": ["array", "string", "null"], "items": {"type": "string"}},
        help="Other numbers of the person, each called only if the one before was busy or did not answer.",
    ),
    Field(
        name="numbers", read=_plain(values.steps), of=_ESCALATION, group=Group.WHO,
        schema={
            "type": ["array", "string", "null"],
            "items": {"type": ["string", "array"], "items": {"type": "string"}},
        },
        help="The numbers, in the order of the calls. Those of a list within the list, or with | between them in a "
        "text, are called at once. Give these or a <policy>.",
    ),
    Field(
        name="policy", read=_as_given, of=_ESCALATION, group=Group.WHO, schema=TEXT,
        help="The name of a policy of `serve --escalations`. Fields that are given here override it.",
    ),
    Field(
        name="file", read=_file, of=_CAMPAIGN, group=Group.WHO, schema=TEXT,
        instead="upload the file", uploads=(InputFile,), help="The file of the people to call.",
    ),
    Field(
        name="rows", read=_plain(values.rows), of=_CAMPAIGN, group=Group.WHO, schema=ROWS, is_of_one_run=True,
        help="The people to call: objects from columns to values.",
    ),
    Field(
        name="columns", read=_plain(values.columns), of=_CAMPAIGN, group=Group.WHO, schema=BY_NAME,
        metavar="NAME=COLUMN", sets="columns", label="What a column is taken for",
        help="Map columns: destination=Mobile; repeat it for a second number. Also country, language, a reserved "
        "column, a name in the text (name=Nachname), or ignore=Note.",
    ),
    Field(
        name="country", read=_plain(values.country), of=_ALL, group=Group.WHO, schema=TEXT, metavar="CC",
        sets="country", label="Country of national numbers",
        help="The country of national numbers, such as SG; or international: digits begin with their country code.",
    ),
    Field(
        name="header_row", read=_plain(values.row), of=_CAMPAIGN, group=Group.WHO, schema=WHOLE,
        sets="header_row", label="Row of the header",
        help="The line or row with the names of the columns, if titles stand above it.",
        default="the first that is not empty",
    ),
    Field(
        name="leave_out", read=_plain(parts_of), of=_CAMPAIGN, group=Group.WHO, schema=FILTERS,
        metavar="COLUMN=VALUE", sets="leave_out", label="Leave out rows with",
        help="Call nobody in rows where a column has such a value: Do Not Call=TRUE,Status=Moved; Status!=Booked: "
        "another one or none; Left at=: empty.",
    ),
    Field(
        name="only", read=_plain(parts_of), of=_CAMPAIGN, group=Group.WHO, schema=FILTERS,
        metavar="COLUMN=VALUE", sets="only",
        help="Call only rows where the column has one of these values: Status=Booked,Status=Confirmed. Several "
        "columns must all have one of theirs.",
    ),
    Field(
        name="limit", read=_plain(values.limit), of=_CAMPAIGN, group=Group.WHO, schema=WHOLE, metavar="N", sets="limit",
        default="all rows",
        help="Call only the first so many good rows. With a larger number, or without it, the others follow.",
    ),
    Field(
        name="most", read=_plain(values.limit), of=_CAMPAIGN, group=Group.WHO, schema=WHOLE, sets="most",
        default="any number",
        help="Refuse a file with more rows to call than this, such as a wrong export.",
    ),
    Field(
        name="date_order", read=_choice(DateOrder), of=_CAMPAIGN, group=Group.WHO, schema=TEXT,
        sets="date_order", label="Dates of the file look like",
        help="The order of day, month and year in dates of the file such as 31/1/2030.",
    ),
    Field(
        name="sheet", read=_texts(str), of=_CAMPAIGN, group=Group.WHO, schema=TEXT, metavar="NAME",
        sets="sheet", label="Sheet of the workbook",
        help="The sheet of a workbook, if several have rows.",
    ),
    Field(
        name="encoding", read=_texts(str), of=_CAMPAIGN, group=Group.WHO, schema=TEXT, metavar="NAME",
        sets="encoding", label="Encoding of the file",
        help="The encoding of a CSV file that is not UTF-8 and has no byte order mark: cp1252, cp1250, shift_jis.",
        default="UTF-8",
    ),
    Field(
        name="batch", read=_plain(values.batch), of=_CAMPAIGN | _CALL, group=Group.WHO, schema=TEXT, metavar="ID",
        sets="batch_id", label="Name of the batch",
        help="The id of the batch. In a campaign, {date} is the day in <time_zone>.",
        default="the file's name without its extension",
        defaults={Of.CALL: ""},
    ),
    Field(
        name="source", read=_source, of=_ALL, group=Group.WHO, schema=BY_NAME, metavar="NUMBER",
        label="Number to call from",
        help="The number to call from, if nothing else names one, or one by country: SG=+6531234567,*=+12025550123.",
        default="VOICEFLOW_SOURCE",
    ),
    # -- what they hear
    Field(
        name="template", read=_template, of=_CAMPAIGN, group=Group.TEXT, schema=OBJECT, metavar="FILE",
        instead="give the call flow itself", uploads=(FlowTemplate, dict),
        help="A call flow (JSON) with {{column}} in its texts.",
    ),
    Field(
        name="say", read=_spoken, of=_CAMPAIGN, group=Group.TEXT, schema=TEXT, metavar="TEXT", label="Text to say",
        help="Say this text, with {{column}} in it, instead of a <template>; of a menu, before its first question.",
    ),
    Field(
        name="say", read=_said, of=_CALL, group=Group.TEXT, schema=TEXT,
        help="The text to speak; {{name}} is that of <data>.",
    ),
    Field(
        name="say", read=_plain(values.spoken), of=_ESCALATION, group=Group.TEXT, schema=TEXT,
        help="The text to speak.",
    ),
    Field(
        name="key", read=_plain(values.spoken), of=_ESCALATION, group=Group.TEXT, schema=TEXT, default="1",
        help="The key that acknowledges.",
    ),
    Field(
        name="flow", read=_flow, of=_CALL, group=Group.TEXT, schema=OBJECT,
        help="A request body of 8x8, instead of a text.",
    ),
    Field(
        name="ivr", read=_menu, of=_CAMPAIGN | _CALL, group=Group.TEXT, schema=TEXT, metavar="MODULE:MENU",
        label="Menu",
        help="Begin each call with this menu: restaurant:main for `main` in restaurant.py, or reminder.toml; on a "
        "server, the name of one of its menus.",
    ),
    Field(
        name="menu", read=_menu_or_name, of=_CAMPAIGN, group=Group.TEXT, schema=MENU,
        label="Questions and keys",
        help="The name of the IVR menu that handles the first key press, if a <template> asks the question; in a file "
        "or a program, the menu itself.",
    ),
    Field(
        name="menu", read=_texts(str), of=_CALL, group=Group.TEXT, schema=TEXT,
        help="The name of the IVR menu that handles the first key press, if a <flow> asks the question.",
    ),
    Field(
        name="language", read=_plain(values.language), of=_CALL, group=Group.TEXT, schema=TEXT,
        help="The language of the call, for a menu that has several.",
    ),
    Field(
        name="voice_profile", read=_plain(values.voice), of=_ALL, group=Group.TEXT, schema=TEXT, metavar="NAME",
        label="Voice",
        help="The voice, if nothing else names one.", default="VOICEFLOW_VOICE_PROFILE",
    ),
    Field(
        name="data", read=_plain(values.data), of=_CAMPAIGN | _CALL, group=Group.TEXT, schema=OBJECT, sets="data",
        help="What is stored with each call: names with texts, numbers, true and false.",
    ),
    # -- when phones ring
    Field(
        name="time_zone", read=_texts(lambda text: read_zone(text).key), of=_ALL, group=Group.WHEN,
        schema=TEXT, sets="time_zone",
        help="The time zone of times without one, such as Asia/Singapore; not of windows.",
    ),
    Field(
        name="window", read=_plain(values.window), of=_ALL, group=Group.WHEN, schema=BY_NAME, metavar="HOURS",
        label="Hours in which phones may ring",
        help="Let phones ring only at these hours, in the time zone of the number: 09:00-20:00, any, or by country: "
        "DE=09:00-18:00,*=any. A campaign needs it, here or by VOICEFLOW_WINDOW.",
    ),
    Field(
        name="days", read=_words(read_days), of=_ALL, group=Group.WHEN, schema=WORDS, metavar="DAYS",
        label="Days",
        help="Phones ring only on these days, such as mon-sat or mon,wed.",
    ),
    Field(
        name="holidays", read=_words(read_holidays), of=_ALL, group=Group.WHEN, schema=WORDS, metavar="CC",
        help="Let no phone ring on public holidays: SG,DE-BY; number: of each number's country; own days: "
        "2026-12-24..2027-01-01.",
    ),
    Field(
        name="window_time_zone", read=_texts(read_window_zone), of=_ALL, group=Group.WHEN, schema=TEXT,
        help="The hours and days count in this time zone, instead of that of the number.",
    ),
    Field(
        name="not_before", read=_moment, of=_CAMPAIGN | _CALL, group=Group.WHEN, schema=TEXT, metavar="TIME",
        sets="not_before", label="Not before",
        help="Let no phone ring before this time: 2026-11-20T09:00:00+08:00; with <time_zone> also "
        '"2026-11-20 09:00" or "tomorrow 09:00"; in a campaign also counted from a column: "visit - 1d".',
    ),
    Field(
        name="valid_for", read=_plain(values.duration), of=_CAMPAIGN | _CALL, group=Group.WHEN, schema=TEXT,
        metavar="DURATION", sets="valid_for",
        help="Phones may ring for this long, such as 2h, counted from now or from a later <not_before>.",
    ),
    Field(
        name="valid_until", read=_later, of=_CAMPAIGN | _CALL, group=Group.WHEN, schema=TEXT, metavar="TIME",
        sets="valid_until",
        help="Let no phone ring after this time, written like <not_before>.",
    ),
    # -- if nobody answers
    Field(
        name="redial_on", read=_words(read_redial_on), of=_CAMPAIGN | _CALL, group=Group.REDIAL, schema=WORDS,
        metavar="OUTCOMES",
        help="Redial after busy, no_answer, canceled, unreached (all three), failed, error.",
        default="VOICEFLOW_REDIAL_ON",
    ),
    Field(
        name="redial_max", read=_plain(values.whole), of=_CAMPAIGN | _CALL, group=Group.REDIAL, schema=WHOLE,
        metavar="N", label="Call again at most",
        help="Redial a call at most this many times; alone, after busy and no_answer.",
        default="VOICEFLOW_REDIAL_MAX, else 1",
    ),
    Field(
        name="redial_after", read=_plain(values.redial_after), of=_CAMPAIGN | _CALL, group=Group.REDIAL,
        schema=BY_NAME, metavar="WAIT", label="Wait before calling again",
        help="The wait before a redial, such as 30m, or by outcome: busy=5m,no_answer=2h.",
        default="VOICEFLOW_REDIAL_AFTER, else 30m",
    ),
    Field(
        name="every", read=_plain(values.length), of=_ESCALATION, group=Group.REDIAL, schema=TEXT,
        help="The time from one step to the next, such as 2m.", default="2m",
    ),
    Field(
        name="rounds", read=_plain(values.rounds), of=_ESCALATION, group=Group.REDIAL, schema=WHOLE, default="3",
        help="How often all are called. An escalation has at most 50 calls.",
    ),
    # -- what else holds a campaign back
    Field(
        name="skip_bad", read=_plain(values.yes_or_no), of=_CAMPAIGN, group=Group.GUARDS, schema=YES_NO,
        is_of_one_run=True, label="Leave out the bad rows",
        help="Call the good rows even if others are bad.",
    ),
    Field(
        name="again", read=_plain(read_again), of=_CAMPAIGN, group=Group.GUARDS,
        schema={"type": ["string", "array", "null"], "items": {"type": "string"}}, metavar="STATES",
        is_of_one_run=True, label="Call again",
        help="Call rows again whose calls ended without a ring, in these states: cancelled (by a list), expired, "
        "failed; or all. With elsewhere, allow the words of another batch.",
    ),
    Field(
        name="replace", read=_plain(values.yes_or_no), of=_CAMPAIGN, group=Group.GUARDS, schema=YES_NO,
        is_of_one_run=True, label="Replace the calls that wait and differ",
        help="Of a list that is imported again: change the waiting calls that differ from their rows. Without it, "
        "such a row is an error of the list.",
    ),
    Field(
        name="remove_missing", read=_plain(values.yes_or_no), of=_CAMPAIGN, group=Group.GUARDS,
        schema=YES_NO, is_of_one_run=True, label="Cancel the calls that are no longer in the list",
        help="Cancel the calls of the batch that can still ring and are in no row, or whose row is left out; the first "
        "not, if a row is bad. Not of a new batch.",
    ),
    Field(
        name="rejects", read=_path, of=_CAMPAIGN, group=Group.GUARDS, schema=TEXT, metavar="FILE", is_of_one_run=True,
        instead="leave it out",
        help="Write the rows that are not called to this file.",
    ),
    Field(
        name="priority", read=_plain(values.priority), of=_CAMPAIGN | _CALL, group=Group.GUARDS, schema=WHOLE,
        metavar="N", sets="priority",
        help="The priority, -1000000 to 1000000. Higher ones are sent first.", default="0",
    ),
)
# fmt: on
"""Every field, in the order in which people see them."""

EXCLUDING: Final = (
    ("template", "say"), ("ivr", "menu"), ("valid_for", "valid_until"), ("file", "rows"), ("rejects", "rows"),
)  # fmt: skip
"""The pairs of fields of which only one may be given."""


HOURS: Final = ("window", "days", "holidays", "window_time_zone")
WHEN: Final = (*HOURS, "not_before", "valid_for", "valid_until")
"""The fields that say when phones ring."""


def fields_of(of: Of) -> dict[str, Field]:
    """Return the fields of a campaign, a call or an escalation, by name, in the order in which people see them."""
    return {each.name: each for each in FIELDS if of in each.of}
