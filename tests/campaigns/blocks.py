"""Blocks of a text file of cases: `== ` and a name, fields, and a table, or the lines of a file and what is told of it.

A field is a line `name: value`; a value that begins with {" or [" is JSON. Fields above the first block are those of
all. Lines that begin with # are comments. What the lines mean stands in `cases.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, NamedTuple

NONE = "-"


class Shown(NamedTuple):
    """The value of a cell of a workbook, and its number format."""

    value: object
    code: str


@dataclass
class Case:
    """A block of a file of cases."""

    name: str
    fields: dict[str, Any]
    header: Sequence[str] = ()
    rows: list[tuple[Sequence[object], Sequence[str]]] = field(default_factory=list[Any])
    """The cells and the results of each row of a table."""
    lines: list[str] = field(default_factory=list[str])
    """Of a file."""
    told: list[str] = field(default_factory=list[str])
    """What is heard and told below a file or a table."""


def cases_of(path: Path) -> Iterator[Case]:
    """The cases of a file."""
    shared, case = dict[str, Any](), Case("", {})
    for line in path.read_text(encoding="utf-8").split("\n"):
        sign, _, rest = line.partition(" ")
        if sign == "==":
            if case.name:
                yield case
            case = Case(rest, {**shared})
        elif sign == ">":
            case.lines.append(rest)
        elif line.endswith(" =>"):
            case.header = line.removesuffix(" =>").split(" | ")
        elif case.header and " => " in line:
            cells, _, results = line.rpartition(" => ")
            case.rows.append(([_cell(each.strip(" ")) for each in cells.split(" | ")], results.split(" && ")))
        elif sign in {"=", "!", "?", "@"}:
            case.told.append(line)
        elif sign not in {"", "#"}:
            name, _, value = line.partition(": ")
            is_json = value.startswith(('{"', '["', "[{"))
            (case.fields if case.name else shared)[name] = json.loads(value) if is_json else value
    yield case


def _cell(text: str) -> object:
    if len(text) > 1 and text[0] == text[-1] == '"':
        return json.loads(text)
    if text[:1] != "`":
        return text
    value, _, code = text[1:].rpartition("`")
    return Shown(_typed(value), code) if code else _typed(value)


def _typed(text: str) -> object:
    with suppress(ValueError):
        return json.loads(text)
    for kind in (date, time):
        with suppress(ValueError):
            return kind.fromisoformat(text)
    return datetime.fromisoformat(text)
