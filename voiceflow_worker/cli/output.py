"""Output of commands: JSON documents, text, notes and tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO, cast

from voiceflow_worker.cli.remedies import in_commands
from voiceflow_worker.model.text.printable import printable, printable_json

if TYPE_CHECKING:
    from rich.console import Console

PIPED_WIDTH = 200
"""Columns of a table that is written to a file or a pipe, where no terminal says how wide it is."""


class Output:
    """What a command has to say. With `as_json`, stdout carries JSON and nothing else."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json

    def document(self, value: Mapping[str, object]) -> None:
        """Write one JSON document, on one line, to stdout; nothing without `as_json`."""
        if self.as_json:
            # JSON is UTF-8 between programs (RFC 8259 §8.1), whatever the terminal speaks.
            sys.stdout.flush()
            sys.stdout.buffer.write(
                printable_json(json.dumps(_in_commands(value), ensure_ascii=False)).encode() + b"\n"
            )
            sys.stdout.buffer.flush()

    def say(self, text: str = "") -> None:
        """Tell people something: the command's own answer."""
        print(printable(in_commands(text)), file=self._people)

    def answer(self, *lines: str) -> None:
        """Say these lines, unless a JSON document has said it all."""
        if not self.as_json:
            for line in lines:
                self.say(line)

    def note(self, text: str) -> None:
        """Tell people something beside the answer: always on stderr."""
        print(printable(in_commands(text)), file=sys.stderr)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
        """Show people a table. Columns whose name begins with `#` are numbers, and stand to the right.

        A column named `id` is never folded: ids are there to be copied.
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
            # Text, not str: what stands in people's files is not markup.
            table.add_row(*(Text(printable(_cell(column, cell))) for column, cell in zip(columns, row, strict=True)))
        self._console().print(table)

    @property
    def _people(self) -> TextIO:
        return sys.stderr if self.as_json else sys.stdout

    def _console(self) -> Console:
        from rich.console import Console

        stream = self._people
        return Console(file=stream, width=None if stream.isatty() else PIPED_WIDTH, highlight=False, markup=False)


def _cell(column: str, value: object) -> str:
    """A cell with its remedies as commands; ids, keys, batches and numbers are there to be copied as they are."""
    text = "" if value is None else str(value)
    return text if column.lstrip("#") in _COPIED else in_commands(text)


_COPIED = frozenset({"id", "batch", "key", "number", "destination", "queue"})
_SENTENCES = frozenset({"message", "reason", "error", "remedy"})
"""The members of a JSON document that this library words. All others are printed as they are."""


def _in_commands(value: object, *, name: str = "") -> object:
    match value:
        case str():
            return in_commands(value) if name in _SENTENCES else value
        case Mapping():
            members = cast("Mapping[str, object]", value)
            return {key: each if key == "data" else _in_commands(each, name=key) for key, each in members.items()}
        case list() | tuple():
            return [_in_commands(each, name=name) for each in cast("Sequence[object]", value)]
        case _:
            return value
