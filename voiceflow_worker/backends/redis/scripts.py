"""The Lua scripts of the Redis store, and the commands that run them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, cast

import orjson

Command = tuple[str | bytes | int, ...]
Exchange = Callable[..., Awaitable[list[Any]]]
"""Sends commands in one write, and returns the answer to each, or its ResponseError."""
_INCLUDE = re.compile(r"^-- @include (.+)$", re.MULTILINE)
_FOLDER = files("voiceflow_worker.backends.redis") / "lua"


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its name, its text (preceded by the files that it includes), and its digest for EVALSHA."""

    name: str
    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """Return the script in `lua/<name>.lua`."""
    own = (_FOLDER / f"{name}.lua").read_text("utf-8")
    included = _INCLUDE.search(own)
    parts = included.group(1).split() if included else []
    shared = [(_FOLDER / "shared" / f"{part}.lua").read_text("utf-8") for part in parts]
    text = "\n".join([*shared, own])
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Script(name, text, sha)


def load() -> None:
    """Read every script now. Later, there may be no free file descriptor to read one."""
    for each in _FOLDER.iterdir():
        if each.name.endswith(".lua"):
            script(each.name.removesuffix(".lua"))


def packed(asked: Mapping[str, Any]) -> bytes:
    """Return the question of a script as JSON. Raises UnicodeEncodeError for half a surrogate pair."""
    try:
        return orjson.dumps(asked)
    except orjson.JSONEncodeError:
        for text in _texts_in(asked):
            text.encode()  # this error names the text; orjson's does not
        raise


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts_in(list(cast("Mapping[str, Any]", value).values()))
    elif isinstance(value, list | tuple):
        for each in cast("Sequence[Any]", value):
            yield from _texts_in(each)
