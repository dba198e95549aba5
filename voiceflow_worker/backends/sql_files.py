"""SQL in the files of a package: each statement has a name, and a sentence over it."""

from __future__ import annotations

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_COMMENTS = re.compile(r"^--.*\n", re.MULTILINE)


def sql_file(package: str, name: str) -> str:
    """The text of a file. Read it early: later, there may be no free file descriptor to read it."""
    return files(package).joinpath(name).read_text(encoding="utf-8")


def statements(package: str, *names: str) -> dict[str, str]:
    """The statements of some files, by their names, without comments.

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
