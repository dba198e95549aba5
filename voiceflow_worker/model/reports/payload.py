"""A tolerant reader of JSON objects in webhooks: names match in any spelling, and odd values are kept."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import field, fields
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, TypeVar, cast

from voiceflow_worker.model.flows.values import is_list, is_object
from voiceflow_worker.model.numbers import phone

# 8x8 sends "null" and "Null" for missing values.
_NOTHING = frozenset({"", "null", "none"})
_WHOLE = re.compile(r"[+-]?\d{1,18}(?:\.0+)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d{1,18}(?:\.\d{1,18})?", re.ASCII)
_LARGEST = 10**18
# A time above this is in milliseconds since 1970: in seconds, it would be in the year 5138.
_SECONDS_END = 10**11

LONGEST_TEXT = 4000
"""The most characters of a text that are kept: far more than in any example of the guides."""
LONGEST_EVENT_ID = 200
"""The most characters of an identifier in an event; longer ones are ignored. Identifiers of 8x8 have 36 characters, and
ours at most 50."""
_LONGEST_NAME = 64
"""The longest name that is cached: names invented by a stranger must not fill the memory."""


class Payload:
    """One JSON object of an event, read field by field.

    Names are matched without case, dashes and underscores (`CallA`, `callA`). `rest` returns the fields that were not
    read or could not be read. No method raises.
    """

    def __init__(self, data: Mapping[str, object]) -> None:
        self._data = data
        self._names: dict[str, str] = {}
        for name, value in data.items():  # of two spellings of one name, the first one with a value
            if value is not None:
                self._names.setdefault(fold_name(name), name)
        self._read: set[str] = set()
        self._within: dict[str, Payload] = {}

    def text(self, name: str, *, longest: int = LONGEST_TEXT) -> str | None:
        """A string without surrounding blanks, or an integer as a string; None for null, "null" and an empty string.

        A string of more than `longest` characters is cut.
        """
        found = self._names.get(fold_name(name))
        if found is None:
            return None
        value = self._data[found]
        if isinstance(value, str):
            self._read.add(found)
            text = value[:longest].strip()
            return None if text.casefold() in _NOTHING else text
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST:
            self._read.add(found)
            return str(value)
        return None

    def identifier(self, name: str) -> str | None:
        """An id, as a string. An id of more than 200 characters is not read: None."""
        value = self._value(name)
        if isinstance(value, str) and len(value) > LONGEST_EVENT_ID:
            return None
        return self.text(name)

    def number(self, name: str) -> str | None:
        """A telephone number: with its + if it is in E.164 form, otherwise (masked, withheld) unchanged."""
        text = self.text(name)
        return phone.normalise(text) if text is not None and phone.is_e164(text) else text

    def whole(self, name: str) -> int | None:
        """A whole number, which the field may have as a string; None for any other value."""
        value = self._value(name)
        if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
            value = float(value) if "." in value else int(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
            return None
        if value != int(value):
            return None
        self._done(name)
        return int(value)

    def decimal(self, name: str) -> float | None:
        """A finite number, which the field may have as a string; None for any other value."""
        value = self._value(name)
        if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
            return None
        self._done(name)
        return float(value)

    def duration(self, name: str, *, unit: timedelta) -> timedelta | None:
        """A number of units (`unit`), as a duration; None for a negative number and for a century or more."""
        count = self.decimal(name)
        if count is None or not 0 <= count < timedelta(days=36500) / unit:
            self._read.discard(self._names.get(fold_name(name), ""))
            return None
        return count * unit

    def moment(self, name: str) -> datetime | None:
        """A time in UTC, from ISO 8601 (in UTC if it has no zone), or from seconds or milliseconds since 1970."""
        value = self._value(name)
        if isinstance(value, str) and _NUMBER.fullmatch(value.strip()) and len(value.strip()) > len("20240325"):
            value = float(value)
        moment = _moment(value)
        if moment is not None:
            self._done(name)
        return moment

    def nested(self, name: str) -> Payload | None:
        """An object within this object. `rest` does not have the unread fields of the inner object."""
        value = self._value(name)
        if not is_object(value):
            return None
        self._done(name)
        return Payload(value)

    def within(self, name: str) -> Payload:
        """An object within this object, empty if missing. `rest` has the inner object's unread fields under `name`."""
        if name not in self._within:
            self._within[name] = self.nested(name) or Payload({})
        return self._within[name]

    def listed(self, name: str) -> tuple[Payload, ...]:
        """The objects in an array. An array that has other values too counts as unread: `rest` returns all of it."""
        value = self._value(name)
        if not is_list(value):
            return ()
        objects = tuple(Payload(item) for item in value if is_object(item))
        if len(objects) == len(value):
            self._done(name)
        return objects

    def raw(self, name: str) -> object:
        """The value, unchanged; None if it is missing."""
        self._done(name)
        return self._value(name)

    def rest(self, *, ignoring: frozenset[str] = frozenset()) -> dict[str, object]:
        """The fields that were not read, under their own names, without nulls."""
        rest = {
            name: value
            for name, value in self._data.items()
            if value is not None and name not in self._read and name not in ignoring
        }
        return rest | {name: unread for name, inner in self._within.items() if (unread := inner.rest())}

    def _value(self, name: str) -> object:
        found = self._names.get(fold_name(name))
        return None if found is None else self._data[found]

    def _done(self, name: str) -> None:
        found = self._names.get(fold_name(name))
        if found is not None:
            self._read.add(found)


def fold_name(name: str) -> str:
    """A name in lower case without dashes, underscores and blanks: `eventtype` for EVENT_TYPE and event-type."""
    return _remembered_fold(name) if len(name) <= _LONGEST_NAME else _fold(name)


def _fold(name: str) -> str:
    return "".join(filter(str.isalnum, name)).casefold()


# Cached, because folding took half the time of reading a summary, and events have few names.
_remembered_fold = lru_cache(maxsize=2048)(_fold)


def _moment(value: object) -> datetime | None:
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value.strip())
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            return None
        return datetime.fromtimestamp(value if value < _SECONDS_END else value / 1000, tz=UTC)
    except (ValueError, OverflowError, OSError):  # no such day, or beyond the year 9999
        return None


T = TypeVar("T")
_READER, _IS_NEEDED = "reader", "is needed"


def read_field(
    reader: Callable[[Payload, str], T], name: str, *, within: str | None = None, default: T | None = None
) -> T:
    """A dataclass field whose value `reader` reads from a payload, under `name`.

    `within` is the name of an object in the payload. If given, the value is read from that object.
    """

    def read(payload: Payload) -> T:
        return reader(payload if within is None else payload.within(within), name)

    return cast("T", field(default=default, metadata={_READER: read}))


def needed_field(reader: Callable[[Payload, str], T | None], name: str) -> T:
    """A required dataclass field, read as by `read_field`. If its value is missing, `entry_of` returns None."""

    def read(payload: Payload) -> T | None:
        return reader(payload, name)

    return cast("T", field(metadata={_READER: read, _IS_NEEDED: True}))


def read_fields(kind: Callable[..., object], payload: Payload) -> dict[str, Any]:
    """The declared fields of a dataclass, read from a payload."""
    return {name: reader(payload) for name, reader, _ in _declared(kind)}


def entry_of(kind: Callable[..., T], payload: Payload) -> T | None:
    """A dataclass with its fields read from a payload; None if a field that it needs is missing."""
    found = read_fields(kind, payload)
    lacks_one = any(is_needed and found[name] is None for name, _, is_needed in _declared(kind))
    return None if lacks_one else kind(**found)


@lru_cache
def _declared(kind: Any) -> tuple[tuple[str, Callable[[Payload], object], bool], ...]:
    return tuple(
        (each.name, each.metadata[_READER], _IS_NEEDED in each.metadata)
        for each in fields(kind)
        if _READER in each.metadata
    )
