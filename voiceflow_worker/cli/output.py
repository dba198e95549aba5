"""Output of commands: JSON documents, text, notes, tables, progress meters and questions."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO, TypeVar

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.text.printable import printable, printable_json, printable_line

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

    def result(self, document: Mapping[str, object], *lines: str) -> None:
        """Print the result of the command: with `as_json` the document, otherwise the lines."""
        self.document(document)
        self.answer(*lines)

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


LINE_EVERY = 3.0
"""Seconds between two lines of progress if stderr is not a terminal."""


Meter = Callable[[int, int, str], None]
"""A function that shows the amount done, the total, and a note."""


@contextmanager
def meter(label: str) -> Generator[Meter]:
    """Show a meter on stderr while the block lasts. Yields the function that updates it."""
    if not sys.stderr.isatty():
        yield _Lines(printable_line(label))
        return
    from rich import progress as bar
    from rich.console import Console

    columns = (
        bar.TextColumn("{task.description}", markup=False),
        bar.BarColumn(bar_width=30),
        bar.TaskProgressColumn(),
        bar.TextColumn("{task.fields[note]}", markup=False),
        bar.TimeElapsedColumn(),
        bar.TimeRemainingColumn(),
    )
    # Other lines on stderr, such as logs, appear above the bar. Stdout is left alone: it may be a pipe.
    with bar.Progress(*columns, console=Console(file=sys.stderr), redirect_stdout=False) as progress:
        task = progress.add_task(printable_line(label), total=None, note="")
        yield lambda done, total, note: progress.update(task, completed=done, total=total, note=note)


class _Lines:
    def __init__(self, label: str) -> None:
        self._label = label
        self._next = time.monotonic() + LINE_EVERY

    def __call__(self, done: int, total: int, note: str) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LINE_EVERY
            percent = f" ({done * 100 // total} %)" if total else ""
            print(f"{self._label}: {note}{percent}", file=sys.stderr, flush=True)


class UndoneError(Exception):
    """Ends a command with exit code 1: nothing was done, for the reason in the message."""


def confirm(question: str, *, yes: bool) -> None:
    """Ask at the terminal, unless `yes` is True. Raises UndoneError for a no, InvalidInputError without a terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidInputError(f"{question} Input is not a terminal, so nobody can confirm: give --yes")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().casefold() not in {"y", "yes"}:
        raise UndoneError("nothing was changed")


T = TypeVar("T")


async def first(
    pages: AsyncIterable[Sequence[T]], *, limit: int, only: Callable[[T], bool] | None = None
) -> AsyncGenerator[T]:
    """The first `limit` entries of these pages that `only` accepts, or all of them if `limit` is 0."""
    left = limit
    async for each in pages:
        page = list(filter(only, each)) if only is not None else each
        for entry in page[:left] if limit else page:
            yield entry
        left -= len(page)
        if limit and left <= 0:
            return
