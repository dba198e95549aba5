"""Output of commands: documents, text, tables, meters, questions; errors and findings in words; exit codes."""

from __future__ import annotations

import errno
import json
import shlex
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from enum import IntEnum
from pathlib import PurePath
from typing import TYPE_CHECKING, TextIO, TypeVar

from voiceflow_worker.errors import (
    CallFlowError,
    CallLogUnavailableError,
    CallNotSentError,
    InvalidInputError,
    RequestFailedError,
    StoreError,
    UnknownBackendError,
    UnreadableRecordError,
    VoiceflowError,
    VoiceUnavailableError,
)
from voiceflow_worker.finding import Finding, Severity, respelled
from voiceflow_worker.model.text.printable import (
    printable,
    printable_json,
    printable_line,
    without_secrets_in,
)
from voiceflow_worker.model.text.wording import count_of, file_remedy

if TYPE_CHECKING:
    from rich.console import RenderableType


def version_text() -> str:
    """Return what `--version` prints."""
    from importlib.metadata import version

    return f"voiceflow-worker {version('voiceflow-worker')}"


PIPED_WIDTH = 200
"""The width of a table that is written to a file or a pipe, in columns."""


class Output:
    """The output of a command. With `as_json`, stdout carries only JSON."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json

    def document(self, value: Mapping[str, object]) -> None:
        """With `as_json`, print one JSON document to stdout, on one line; otherwise do nothing."""
        if self.as_json:
            print(printable_json(json.dumps(value, ensure_ascii=False)), flush=True)

    def say(self, text: str = "") -> None:
        """Print a line of the command's answer for people, at once: a command that goes on may write to a pipe."""
        print(printable(text), file=self._people, flush=True)

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
        """Print a remark for people, always on stderr. It is dropped if nobody reads it."""
        with suppress(OSError):
            print(printable(text), file=sys.stderr)

    def limited(self, shown: int, limit: int, noun: str, *, then: str = "") -> None:
        """Print a remark if a list ended at its `limit`, and how to get the rest: `then` says more about that."""
        if limit and shown == limit:
            self.note(f"at most {count_of(limit, noun)} listed; --limit 0 lists all{then}")

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
            table.add_row(*(Text(text := printable(_cell(cell)), _COLOURS.get(text, "")) for cell in row))
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
    """Return the text of a cell."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)


_COLOURS = {"error": "red", "failure": "red", "warning": "yellow"}
"""The colours of words in tables; they are shown on a terminal only."""
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
) -> AsyncGenerator[Sequence[T]]:
    """Yield the first `limit` entries that `only` accepts, page by page; all of them if `limit` is 0."""
    left = limit
    async for each in pages:
        page = list(filter(only, each)) if only is not None else each
        yield page[:left] if limit else page
        left -= len(page)
        if limit and left <= 0:
            return


class ExitCode(IntEnum):
    """The exit code of a command."""

    DONE = 0
    UNDONE = 1
    """Something failed, or was left undone."""
    BAD_INPUT = 2
    """Bad usage or bad input."""
    OUT_OF_REACH = 3
    """The store or 8x8 cannot be reached or used."""
    INTERRUPTED = 130
    """Ctrl-C: the exit code of a command that SIGINT ended (128 + 2)."""


_OF_ADDRESSES = {
    errno.EADDRINUSE: "stop the program that uses this port, or give another port",
    errno.EADDRNOTAVAIL: "give an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all its addresses",
}
"""The remedies if the program cannot listen on an address."""


def explained(error: BaseException) -> tuple[ExitCode, str] | None:
    """Return the exit code and the message of an expected error; None for an unexpected one.

    The message says what to type for the remedies of the error. For an exception group of expected errors, the error
    with the highest exit code counts.
    """
    match error:
        case BaseExceptionGroup():
            found = [explained(each) for each in error.exceptions]
            known = [each for each in found if each is not None]
            return max(known, key=lambda each: each[0]) if len(known) == len(found) else None
        case CallFlowError():
            lines = [f"  {found}" for found in typed(error.findings)]
            return ExitCode.BAD_INPUT, "\n".join([f"{error.headline}:", *lines])
        case UnknownBackendError() | InvalidInputError():
            return ExitCode.BAD_INPUT, with_remedies(error)
        case StoreError() if not isinstance(error, UnreadableRecordError):
            return ExitCode.OUT_OF_REACH, f"the store cannot be used: {with_remedies(error)}"
        case CallNotSentError() | CallLogUnavailableError() | VoiceUnavailableError():
            return ExitCode.OUT_OF_REACH, with_remedies(error)
        case RequestFailedError(status=401 | 403):
            return ExitCode.OUT_OF_REACH, with_remedies(error)
        case OSError(errno=int(number)) if number in _OF_ADDRESSES:
            return ExitCode.UNDONE, f"{error.strerror}; {_OF_ADDRESSES[number]}"
        case OSError(filename=None, strerror=str(reason)):
            return ExitCode.UNDONE, reason
        case OSError(filename=str() | PurePath() as file, strerror=str(reason)):
            return ExitCode.UNDONE, f"{file}: {reason}{file_remedy(error)}"
        case UndoneError() | VoiceflowError() | OSError():
            return ExitCode.UNDONE, with_remedies(error)
        case KeyboardInterrupt():
            return ExitCode.INTERRUPTED, ""
        case _:
            return None


def with_remedies(said: str | BaseException) -> str:
    """Return a message, or that of an error, with the options for the fields that it asks to change."""
    return respelled(str(said), _option)


def _option(name: str, value: str) -> str | None:
    """Return the option of a field with a value to paste, in backticks; None for what is no field."""
    from voiceflow_worker.campaigns.fields import FIELDS
    from voiceflow_worker.campaigns.reading import option

    if not any(each.name == name and each.metavar for each in FIELDS):
        return None
    return f"`{option(name)}{value and f' {shlex.quote(value)}'}`"


def tell_error(message: str) -> None:
    """Print an error on stderr, without secrets and control characters; its beginning is red on a terminal."""
    from rich.console import Console
    from rich.text import Text

    line = Text.assemble(("voiceflow:", "red"), f" {printable(without_secrets_in(message))}")
    Console(stderr=True).print(line, soft_wrap=True)


_FIRST_ROWS = 3
MOST_WARNINGS = 20
"""The largest number of different warnings in a table."""


def typed(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings, each with what to type for its remedy in its message."""
    return [replace(each, message=with_remedies(each.message)) for each in findings]


def tell_findings(output: Output, findings: Sequence[Finding], *, title: str | None = None) -> None:
    """Print a table of findings: all errors, then the first warnings. Those that differ only in their row share a line.

    Nothing is printed if there are none.
    """
    alike: dict[Finding, list[int]] = {}
    for each in findings:
        rows_of = alike.setdefault(replace(each, row=None), [])
        if each.row is not None:
            rows_of.append(each.row)
    errors = [each for each in alike if each.is_error]
    warnings = [each for each in alike if not each.is_error]
    all_errors = {each.severity for each in findings} == {Severity.ERROR}
    rows = [
        {
            "row": _in_short(alike[each]),
            "column": each.column or each.path,
            "level": None if all_errors else each.severity.value,
            "what is wrong": each.message,
            "code": each.code,
        }
        for each in (*errors, *warnings[:MOST_WARNINGS])
    ]
    output.records(rows, title=title)


def _in_short(rows: Sequence[int]) -> str | int | None:
    """Return the first row numbers, and the count of all of them if there are more."""
    if len(rows) < 2:
        return rows[0] if rows else None
    first = ", ".join(map(str, rows[:_FIRST_ROWS]))
    return first if len(rows) <= _FIRST_ROWS else f"{first} and {len(rows) - _FIRST_ROWS} more"


def counted(findings: Collection[Finding]) -> str:
    """Return the counts of findings in words, such as `3 errors, 1 warning`."""
    errors = sum(each.is_error for each in findings)
    return f"{count_of(errors, 'error')}, {count_of(len(findings) - errors, 'warning')}"
