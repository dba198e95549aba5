"""JSON and TOML whose objects have each name once: of a name that occurs twice, nobody knows what was meant."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from typing import Any

import orjson

from voiceflow_worker.errors import InvalidInputError

_COMMENT = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n\r]*|/\*.*?\*/', re.DOTALL)
_LAST_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[\]}])', re.DOTALL)
_LONGEST_NAME = 40


class RepeatedNameError(ValueError):
    """Raised for a name that occurs twice in one object. The message is a clause."""

    def __init__(self, name: str) -> None:
        self.name: str = name[:_LONGEST_NAME]
        super().__init__(f"has the name {self.name!r} twice in one object; keep one of them")


def _distinct(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise RepeatedNameError(next(name for place, name in enumerate(names) if name in names[:place]))
    return found


_NAMES = json.JSONDecoder(object_pairs_hook=_distinct)


def read_strict_json(text: str | bytes) -> object:
    """Return the value of strict JSON. Raises RepeatedNameError, and orjson.JSONDecodeError for other text."""
    value: object = orjson.loads(text)
    try:
        # orjson keeps the last of two names, and cannot say so.
        _NAMES.decode(text if isinstance(text, str) else text.decode())
    except RecursionError:
        raise orjson.JSONDecodeError("nested too deeply", "", 0) from None
    return value


def read_json(text: str) -> object:
    """Return the value of JSON, in which comments and commas behind the last value are allowed.

    The samples in the guides of 8x8 have both. Raises ValueError, which names the place in the text.
    """
    try:
        return read_strict_json(text)
    except orjson.JSONDecodeError as error:
        strict = _LAST_COMMA.sub(r"\1", _COMMENT.sub(r"\1", text))
        try:
            return read_strict_json(strict)
        except orjson.JSONDecodeError:
            where = (
                f"line {error.lineno}, character {error.colno}" if "\n" in text.strip() else f"character {error.colno}"
            )
            raise ValueError(f"is not JSON: {error.msg} ({where})") from None


def read_toml(text: str, *, place: str) -> dict[str, Any]:
    """Return the document in a text of TOML, which `place` names. Raises InvalidInputError."""
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except ValueError as error:
        twice = "; a name may stand only once in its table: remove one, or rename it" * ("overwrite" in str(error))
        raise InvalidInputError(f"{place} is not TOML: {error}{twice}") from None
