"""The Lua scripts, read from their files when they are first used."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_INCLUDE = re.compile(r"^-- @include (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its name, its text (preceded by the files that it includes), and its digest for EVALSHA."""

    name: str
    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """The script in `lua/<name>.lua`."""
    folder = files("voiceflow_worker.backends.redis") / "lua"
    own = (folder / f"{name}.lua").read_text("utf-8")
    included = _INCLUDE.search(own)
    parts = included.group(1).split() if included else []
    shared = [(folder / "shared" / f"{part}.lua").read_text("utf-8") for part in parts]
    text = "\n".join([*shared, own])
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Script(name, text, sha)


def load() -> None:
    """Read every script now. Later, there may be no free file descriptor to read one."""
    for each in (files("voiceflow_worker.backends.redis") / "lua").iterdir():
        if each.name.endswith(".lua"):
            script(each.name.removesuffix(".lua"))
