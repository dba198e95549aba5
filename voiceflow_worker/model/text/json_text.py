"""JSON, JSON5 and TOML whose objects have each name once: of one that stands twice, nobody knows what was meant."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from typing import Any, NoReturn, cast

import orjson

from voiceflow_worker.errors import InvalidInputError

_SIGN = re.compile(
    r"""//[^\n\r\u2028\u2029]*|/\*.*?\*/|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[][{},:]|[^][{},:\s"'/]+""", re.DOTALL
)
_LONGEST_NAME = 40


class RepeatedNameError(ValueError):
    """Raised for a name that stands twice in one object. The message is a clause."""

    def __init__(self, name: str) -> None:
        self.name: str = name[:_LONGEST_NAME]
        super().__init__(f"has the name {self.name!r} twice in one object; keep one of them")


def distinct(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """The object with these names and values: an `object_pairs_hook` for json. Raises RepeatedNameError."""
    found = dict(pairs)
    if len(found) != len(pairs):
        _refuse([name for name, _ in pairs])
    return found


_NAMES = json.JSONDecoder(object_pairs_hook=distinct)


def read_strict_json(text: str | bytes) -> object:
    """The value of strict JSON. Raises RepeatedNameError, and orjson.JSONDecodeError for other text."""
    value: object = orjson.loads(text)
    try:
        # orjson keeps the last of two names, and cannot say so.
        _NAMES.decode(text if isinstance(text, str) else text.decode())
    except RecursionError:
        raise orjson.JSONDecodeError("nested too deeply", "", 0) from None
    return value


def read_toml(text: str, *, place: str) -> dict[str, Any]:
    """The document in a text of TOML, which `place` names. Raises InvalidInputError."""
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except ValueError as error:
        twice = "; a name may stand only once in its table: remove one, or rename it" * ("overwrite" in str(error))
        raise InvalidInputError(f"{place} is not TOML: {error}{twice}") from None


def refuse_repeated_names(text: str) -> None:
    """Raise RepeatedNameError if an object in a valid text of JSON5 has a name twice."""
    import pyjson5

    # The names of each object around a place; None for an array.
    around: list[list[str] | None] = []
    is_name = False
    for sign in _SIGN.findall(text):
        if sign.startswith(("//", "/*")):
            continue
        if sign in {"{", "["}:
            around.append([] if sign == "{" else None)
            is_name = sign == "{"
        elif sign in {"}", "]"}:
            names = around.pop() if around else None
            if names is not None and len(set(names)) < len(names):
                _refuse(names)
            is_name = False
        elif sign == ",":
            is_name = bool(around) and around[-1] is not None
        elif is_name and around and (names := around[-1]) is not None:
            names.append(next(iter(cast("dict[str, object]", pyjson5.decode(f"{{{sign}:0}}")))))
            is_name = False


def _refuse(names: Sequence[str]) -> NoReturn:
    raise RepeatedNameError(next(name for place, name in enumerate(names) if name in names[:place]))
