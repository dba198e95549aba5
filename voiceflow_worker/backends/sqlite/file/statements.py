"""The SQL of this backend: named statements in .sql files, each with a comment that describes it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType


@cache
def statements(name: str) -> Mapping[str, str]:
    """The statements of `sql/<name>.sql` by their names. A trace shows them with their comments."""
    found: dict[str, str] = {}
    for part in script(name).split("-- name: ")[1:]:
        title, _, text = part.partition("\n")
        found[title.strip()] = text.strip().rstrip(";")
    return MappingProxyType(found)


@cache
def script(name: str) -> str:
    """The whole text of `sql/<name>.sql`."""
    return files("voiceflow_worker.backends.sqlite").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


def load() -> None:
    """Read every file of statements now. Later, there may be no free file descriptor to read one."""
    for each in files("voiceflow_worker.backends.sqlite").joinpath("sql").iterdir():
        if each.name.endswith(".sql"):
            statements(each.name.removesuffix(".sql"))
