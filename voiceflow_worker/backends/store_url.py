"""What a backend reads before it opens a store: the store's URL, and its own SQL files. It knows no backend."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from voiceflow_worker.errors import SettingsError
from voiceflow_worker.model.text.printable import without_secrets

REDIS_SCHEMES = ("redis", "rediss", "redis+sentinel", "valkey", "valkeys")
POSTGRES_SCHEMES = ("postgresql", "postgres")


def is_server(url: str) -> bool:
    """Return True if a URL is that of a server with a store of ours."""
    return url.partition(":")[0].lower() in {*REDIS_SCHEMES, *POSTGRES_SCHEMES}


FAILOVERS = {"held": False, "trusted": True}
"""The values of `failover` in the URL of a server: whether it is certain that a server that takes over lacks nothing.

If not, each queue is held after a failover until a person resumes it."""


class Promise(StrEnum):
    """The durability that the user requests of a server, by the option `durability` of its URL."""

    STRICT = "strict"
    """Refuse a server that forgets calls when it, or its machine, restarts, or when its memory is full."""
    BEST_EFFORT = "best-effort"
    """Accept any server, although people may then be called twice."""


PROMISES = {promise.value: promise for promise in Promise}
T = TypeVar("T")


def one_of(known: Mapping[str, T], options: Mapping[str, str], name: str, shown: str, *, default: str) -> T:
    """Return the value of an option of a URL, which must be one of the known texts. Raises SettingsError."""
    text = options.get(name, default)
    if text.lower() not in known:
        raise SettingsError(
            f"the option {name} of the store URL {shown} has an unknown value; use one of {', '.join(known)}"
        )
    return known[text.lower()]


POSTGRES_SCHEMA = "voiceflow"
"""The schema of a PostgreSQL store whose URL names none."""


def path_of(url: str) -> Path:
    """Return the absolute path of the file in `sqlite:///relative.db` or `sqlite:////absolute.db`, or in a `file:` URL.

    The text after the third slash is the path; nothing in it is decoded. Raises SettingsError for a URL with a host or
    options, or without a file.
    """
    scheme, _, rest = url.partition(":")
    shown = without_secrets(url, options=True)
    example = f"write {scheme}:///relative.db or {scheme}:////absolute.db"
    if rest.startswith("//") and not rest.startswith("///"):
        raise SettingsError(f"the store URL {shown!r} has a host, but a file needs none; {example}")
    name, _, options = rest.removeprefix("//").removeprefix("/").partition("?")
    if options:
        raise SettingsError(f"the store URL {shown!r} has options, but the URL of a file has none; {example}")
    if not name or name.endswith("/"):
        raise SettingsError(f"the store URL {shown!r} names no file; {example}")
    if name == ":memory:":
        raise SettingsError(f"the store URL {shown!r} is SQLite's name for a database in memory; write memory://")
    return Path(name).absolute()


def sync_path(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def file_of(url: str) -> Path | None:
    """Return the file in a URL of a SQLite store; None for other stores. Raises SettingsError if the URL is wrong."""
    return path_of(url) if url.lower().startswith(("sqlite:", "file:")) else None


def said_to_libpq() -> dict[str, str]:
    """Return what libpq takes from its own variables (`PGHOST`, …) and files if a URL lacks it."""
    from psycopg import pq

    found = {each.keyword.decode(): each.val for each in pq.Conninfo.get_defaults() if each.val != each.compiled}
    return {name: value.decode() for name, value in found.items() if value is not None}


_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_COMMENTS = re.compile(r"^--.*\n", re.MULTILINE)


def sql_file(package: str, name: str) -> str:
    """Return the text of a file. Read it early: later, there may be no free file descriptor to read it."""
    return files(package).joinpath(name).read_text(encoding="utf-8")


def statements(package: str, *names: str) -> dict[str, str]:
    """Return the statements of some files, by their names, without comments.

    A statement begins with a line `-- name: NAME`, then comes what it is for, as a comment, and it ends with a
    semicolon. Raises ValueError if two statements have one name.
    """
    found: dict[str, str] = {}
    for name in names:
        _, *parts = _NAME.split(sql_file(package, name))
        for title, text in zip(parts[::2], parts[1::2], strict=True):
            if title in found:
                raise ValueError(f"{name} has a second statement with the name {title}")
            found[title] = _COMMENTS.sub("", text).strip().removesuffix(";")
    return found
