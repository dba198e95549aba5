"""Progress meters on stderr: a bar on a terminal, otherwise a line every few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from voiceflow_worker.model.text.printable import printable_line

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
        self._total = -1
        self._began = (0.0, 0)
        self._shown = -1

    def __call__(self, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if total != self._total:
            self._total, self._began = total, (now, done)
        if now >= self._next:
            self._next = now + LINE_EVERY
            percent = f" ({done * 100 // total} %{self._left(done, now)})" if total else ""
            self._shown = done
            print(f"{self._label}: {note}{percent}", file=sys.stderr, flush=True)

    def _left(self, done: int, now: float) -> str:
        """The remaining time as a clause, by the speed since the total became known.

        Empty if nothing was done since then or since the last line, and when everything is done.
        """
        since, first = self._began
        if done in (first, self._shown) or done >= self._total:
            return ""
        return f", about {(now - since) / (done - first) * (self._total - done):.0f} s left"
