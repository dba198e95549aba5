"""Progress meters on stderr: a bar on a terminal, otherwise a line every few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from voiceflow_worker.model.text.printable import printable_line

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_EVERY = 3.0
"""Seconds between two plain lines: often enough to see that it lives, seldom enough for a log."""


class Meter(Protocol):
    """Shows how far something is."""

    def show(self, done: int, total: int, note: str) -> None:
        """The bar stands at `done` of `total`; `note` says it for people."""
        ...


@contextmanager
def meter(label: str) -> Generator[Meter]:
    """A meter on stderr, for as long as the block lasts."""
    if not sys.stderr.isatty():
        yield _Lines(printable_line(label))
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
    )
    # What others print on stderr meanwhile (logs) is put above the bar. Stdout may be a pipe, and is not ours.
    with Progress(*columns, console=Console(file=sys.stderr), redirect_stdout=False) as progress:
        yield _Bar(progress, progress.add_task(printable_line(label), total=None, note=""))


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def show(self, done: int, total: int, note: str) -> None:
        self._progress.update(self._task, completed=done, total=total, note=note)


class _Lines:
    def __init__(self, label: str) -> None:
        self._label = label
        self._next = time.monotonic() + LINE_EVERY

    def show(self, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + LINE_EVERY
            percent = f" ({done * 100 // total} %)" if total else ""
            print(f"{self._label}: {note}{percent}", file=sys.stderr, flush=True)
