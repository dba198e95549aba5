"""Single JSON values: checks by type, and the text by which two are compared."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TypeGuard, cast

import orjson

# Tab, line feed and carriage return are whitespace to a speech engine; the other control characters are noise, and
# lone surrogates cannot be sent at all (RFC 8259 §8.2).
_UNSPEAKABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def is_object(value: object) -> TypeGuard[Mapping[str, object]]:
    """Return whether the value is a JSON object: a mapping whose keys are strings."""
    # dict first: a check for Mapping, an abstract class, takes 10 times as long, and this runs on every enqueue.
    if not isinstance(value, (dict, Mapping)):
        return False
    # A loop, because `all` would make a generator each time.
    for key in cast("Mapping[object, object]", value):  # noqa: SIM110
        if not isinstance(key, str):
            return False
    return True


def is_list(value: object) -> TypeGuard[Sequence[object]]:
    """Return whether the value is a JSON array."""
    return isinstance(value, (list, tuple))  # `list | tuple` is made again each time


def describe(value: object) -> str:
    """Return the type of a JSON value, in words."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case _ if is_object(value):
            return "an object"
        case _ if is_list(value):
            return "an array"
        case _:
            # Only Python callers can pass these: sets, datetimes, mappings with keys that are not strings.
            return f"a Python {type(value).__name__} that is not JSON"


EXACT = 10**15
"""The smallest number with more than 15 digits. Floating-point numbers, and all numbers of Excel, keep only 15."""
_MISSING = frozenset(
    {"None", "nan", "NaN", "-nan", "NaT", "<NA>", "null", "NULL", "(null)", "<null>", "<nil>", "\\N", "undefined"}
)
_LONGEST_MISSING = 12


WHOLE = re.compile(r"[+-]?\d{1,15}", re.ASCII)
DECIMAL = re.compile(r"[+-]?\d{1,15}\.\d{1,15}", re.ASCII)
"""The numbers that are certain."""


class UnspeakableError(ValueError):
    """Raised for a value that no text can be made of. The message is a clause."""


def is_missing(value: object) -> bool:
    """Return whether a value is missing: None, an empty text, NaN, or a word that programs write for these.

    The words have the capitals that programs write: Nan is a name.
    """
    match value:
        case str():
            return not value or (len(value) < _LONGEST_MISSING and value.strip() in _MISSING)
        case float():
            return math.isnan(value)
        case _:
            return value is None


def language_in(data: Mapping[str, object]) -> str | None:
    """Return the language that the data of a call names, in `language`; None if it names none."""
    found = data.get("language")
    return None if is_missing(found) else str(found).strip() or None


def exact_number(value: float) -> float:
    """Return a number as spreadsheets show it, with at most 15 digits: 25 for 25.0, and 0.3 for 0.1 + 0.2.

    Raises UnspeakableError for a number whose last digits are lost, and for infinity.
    """
    if not math.isfinite(value):
        raise UnspeakableError(f"holds {value}, which is not a number; correct it")
    if abs(value) >= EXACT:
        raise UnspeakableError(
            f"holds a number of more than 15 digits ({value:.0f}), so its last digits are lost; write it as text"
        )
    return int(value) if value.is_integer() else float(f"{value:.15g}")


def value_text(value: object) -> str:
    """Return the text of a value, as it is spoken. Raises UnspeakableError for null, arrays and inexact numbers."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return f"{Decimal(repr(exact_number(value))):f}"
        case None:
            raise UnspeakableError("is null, which cannot be spoken; give it a value")
        case _ if isinstance(value, Mapping) or is_list(value):
            raise UnspeakableError(
                f"holds {describe(cast('object', value))}, which cannot be spoken; name one of its parts"
            )
        case _:
            return str(value)


def written(value: object) -> str:
    """Return the text of a value, trimmed; of one that cannot be spoken, what Python prints."""
    try:
        return value_text(value).strip()
    except UnspeakableError:
        return str(value)


def unspeakable(text: str) -> str | None:
    """Return the first character that 8x8 would refuse in a text, with its position; None if there is none."""
    found = None if text.isprintable() else _UNSPEAKABLE.search(text)  # `isprintable` is faster
    if found is None:
        return None
    return f"the control character U+{ord(found[0]):04X} at character {found.start() + 1}"


def json_problem(value: object) -> str | None:
    """Return the reason why a value cannot be sent as JSON, and kept; None if it can."""
    try:
        orjson.dumps(value)
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return str(error)
    return "a text has a NUL character" if "\\u0000" in text else None


def canonical_json(document: object) -> str:
    """Return a JSON value as one text, whatever the order of its names and the spelling of its numbers."""
    return json.dumps(_plain(document), ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if is_object(value):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if is_list(value) else value
