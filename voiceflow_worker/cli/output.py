"""Output of commands: JSON documents, text, notes and tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from voiceflow_worker.model.text.printable import printable, printable_json

if TYPE_CHECKING:
    from rich.console import RenderableType

PIPED_WIDTH = 200
"""The width of a table that is written to a file or a pipe, in columns."""


class Output:
    """The output of a command. With `as_json`, stdout carries only JSON."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json

    def document(self, value: Mapping[str, object]) -> None:
        """With `as_json`, write one JSON document to stdout, on one line; otherwise do nothing."""
        if self.as_json:
            # JSON between programs is UTF-8 (RFC 8259 §8.1), even if the terminal has another encoding.
            sys.stdout.flush()
            sys.stdout.buffer.write(printable_json(json.dumps(value, ensure_ascii=False)).encode() + b"\n")
            sys.stdout.buffer.flush()

    def say(self, text: str = "") -> None:
        """Print a line of the command's answer for people."""
        print(printable(text), file=self._people)

    def answer(self, *lines: str) -> None:
        """Print these lines; with `as_json`, print nothing."""
        if not self.as_json:
            for line in lines:
                self.say(line)

    def note(self, text: str) -> None:
        """Print a remark for people, always on stderr."""
        print(printable(text), file=sys.stderr)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
        """Print a table for people. A column whose name begins with `#` is aligned to the right, as numbers are.

        A column named `id` is never wrapped, so that ids can be copied.
        """
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title and printable(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for column in columns:
            table.add_column(
                column.lstrip("#"),
                justify="right" if column.startswith("#") else "left",
                overflow="fold",
                no_wrap=column == "id",
            )
        for row in rows:
            # Text, because rich reads brackets in a str as markup.
            table.add_row(*(Text(printable(_cell(cell))) for cell in row))
        self.print(table)

    def print(self, shown: RenderableType) -> None:
        """Print an object of the library rich, such as a table, for people."""
        from rich.console import Console

        stream = self._people
        width = None if stream.isatty() else PIPED_WIDTH
        Console(file=stream, width=width, highlight=False, markup=False).print(shown)

    def records(
        self, rows: Iterable[Mapping[str, object]], *, nothing: str | None = None, title: str | None = None
    ) -> None:
        """Print rows. With `as_json`, each row is a document; otherwise the rows are a table without empty columns.

        `nothing` is the text that is printed on stderr if there are no rows.
        """
        found = list(rows)
        for row in found:
            self.document(row)
        if nothing and not found:
            self.note(nothing)
        if found and not self.as_json:
            names = [name for name in found[0] if any(row[name] is not None for row in found)]
            numbers = {name for name in _NUMBERS if not any(isinstance(row.get(name), str) for row in found)}
            headers = [f"#{name}" if name in numbers else name.replace("_", " ") for name in names]
            self.table(headers, [[row[name] for name in names] for row in found], title=title)

    @property
    def _people(self) -> TextIO:
        return sys.stderr if self.as_json else sys.stdout


def _cell(value: object) -> str:
    """The text of a cell."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)


_NUMBERS = frozenset({"seconds", "answered", "size", "row", "code", "attempts"})
