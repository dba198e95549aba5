"""`voiceflow status --watch`: a queue or a batch, live in the terminal: the picture, its data, and the keys."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import anyio
from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from voiceflow_worker.cli.output import ExitCode, Output
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reading import gates_of, totals_of
from voiceflow_worker.errors import StoreUnavailableError, VoiceflowError
from voiceflow_worker.model.jobs.gate import Gate
from voiceflow_worker.model.jobs.totals import Totals
from voiceflow_worker.model.text.printable import printable_line
from voiceflow_worker.model.text.wording import count_of, rfc3339
from voiceflow_worker.reporting.batches import BatchProgress, read_batch, read_queue
from voiceflow_worker.reporting.story import closed_in_words, gate_as_json

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from voiceflow_worker.actions import Operator, Question
    from voiceflow_worker.actions.queues import Hold
    from voiceflow_worker.queue import CallQueue


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A queue with its batches, or one batch, at one time. `holds` are the closed gates that stop the calls."""

    progress: BatchProgress
    totals: Totals
    holds: tuple[Gate, ...]
    workers: int
    has_receiver: bool

    def as_json(self) -> dict[str, object]:
        """The data as a JSON document: the progress as `voiceflow batches` prints it, and more."""
        return {
            "at": rfc3339(self.progress.at),
            **self.progress.as_json(),
            "outcomes": self.totals.outcomes,
            "answered": self.totals.answered,
            "workers": self.workers,
            "receiver": self.has_receiver,
            "holds": [gate_as_json(gate) for gate in self.holds],
        }


async def read_watched(store: Store, queue: str, *, batch_id: str | None = None) -> Watched:
    """Read a queue, or one batch of it. Raises StoreError."""
    heartbeats = Heartbeats(store)
    progress = await (read_queue(store, queue) if batch_id is None else read_batch(store, queue, batch_id))
    gates = [gate for gate in await gates_of(store, queue) if gate.is_closed(at=progress.at)]
    return Watched(
        progress=progress,
        totals=await totals_of(store, queue, batch_id),
        holds=tuple(gate for gate in gates if batch_id is None or gate.name == batch_id or gate == progress.hold),
        workers=len(await heartbeats.workers(queue)),
        has_receiver=await heartbeats.has_receiver(),
    )


WIDE = 70
"""The number of columns from which a terminal has room for long labels."""
KEYS = "h hold   r resume   q quit"
_COLOURS = {
    "completed": "green", "accepted": "green", "failed": "red", "in_doubt": "yellow", "expired": "magenta",
    "unreached": "blue", "submitted": "cyan", "sending": "cyan", "leased": "cyan",
    "COMPLETED": "green", "FAILED": "red", "ERROR": "red", "BUSY": "blue", "NO_ANSWER": "blue",
}  # fmt: skip
"""The colours of bars, by state or outcome. Each bar also has its name, so the colours are not needed."""


def picture(watched: Watched, *, width: int, bottom: str = KEYS) -> RenderableType:
    """The picture for a terminal of this width. `bottom` is the last line."""
    states = {state.value: count for state, count in watched.progress.states.items() if count}
    groups = {"state": states, "outcome": watched.totals.outcomes}
    bars = [_bars(name, counts, width=width) for name, counts in groups.items() if counts]
    return Group(
        Text(_title(watched), style="bold"),
        Text(figures(watched)),
        *(Text(alert, style="bold red") for alert in _alerts(watched)),
        *(each for table in bars for each in (Text(), table)),
        Text(bottom, style="reverse"),
    )


def figures(watched: Watched) -> str:
    """The figures on one line: `30 of 90 calls done (33%), 2.5 calls/s by 1 worker, 0:00:24 left`."""
    progress = watched.progress
    share = f" ({progress.done / progress.total:.0%})" if progress.total else ""
    left = ""
    if progress.ends_at is not None:
        left = f", {timedelta(seconds=round((progress.ends_at - progress.at).total_seconds()))} left"
    workers = count_of(watched.workers, "worker")
    rate = f"{progress.rate_now:g} calls/s by {workers}"
    return f"{progress.done} of {count_of(progress.total, 'call')} done{share}, {rate}{left}"


def line(watched: Watched) -> str:
    """The view as one line of text, for a log or a pipe."""
    outcomes = ", ".join(f"{count} {name}" for name, count in watched.totals.outcomes.items())
    parts = (f"{watched.progress.at:%H:%M:%S}Z {figures(watched)}", outcomes, *_alerts(watched))
    return printable_line("; ".join(part for part in parts if part))


def _title(watched: Watched) -> str:
    progress = watched.progress
    name = f"queue {progress.queue}" + ("" if progress.batch_id is None else f", batch {progress.batch_id}")
    return printable_line(f"{name}   {progress.at.astimezone():%H:%M:%S}")


def _alerts(watched: Watched) -> Iterable[str]:
    """The lines about holds and doubts, which need a person's attention."""
    for gate in watched.holds:
        yield printable_line(f"HELD: {closed_in_words(gate)}")
    if watched.progress.doubts:
        yield f"IN DOUBT: {count_of(watched.progress.doubts, 'call')}"


def _bars(name: str, counts: Mapping[str, int], *, width: int) -> Table:
    label = 22 if width >= WIDE else 12
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(name, width=label, no_wrap=True)
    table.add_column("calls", justify="right", width=8)
    table.add_column("")
    table.add_column("", justify="right", width=4)
    total = sum(counts.values())
    for each, count in counts.items():
        colour = _COLOURS.get(each, "white")
        bar = ProgressBar(
            total=total, completed=count, width=width - label - 18, complete_style=colour, finished_style=colour
        )
        table.add_row(Text(printable_line(each.replace("_", " "))), str(count), bar, f"{count / total:.0%}")
    return table


EVERY = 1.0
"""Seconds between two reads of the store."""


async def tell_lines(output: Output, calls: CallQueue, batch: str | None) -> ExitCode:
    """Print the data every second until the reader closes the pipe: JSON, or a line of text."""
    while True:
        try:
            watched = await read_watched(calls.store, calls.name, batch_id=batch)
            output.result(watched.as_json(), line(watched))
            sys.stdout.flush()
        except StoreUnavailableError as error:
            output.note(f"{error}; trying again")
        except BrokenPipeError:  # the reader, such as `| head`, has closed the pipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return ExitCode.DONE
        await anyio.sleep(EVERY)


class Screen:
    """The live view on a terminal."""

    def __init__(self, operator: Operator, queue: str, batch: str | None) -> None:
        self._operator = operator
        self._calls = operator.queue(queue)
        self._batch = batch
        self._asked: tuple[Hold, Question] | None = None
        self._notice = ""
        self._pressed = anyio.Event()

    async def run(self) -> None:
        """Show the view until a person quits."""
        from rich.console import Console
        from rich.live import Live

        with (
            _single_keys() as keyboard,
            Live(console=Console(), screen=True, auto_refresh=False, redirect_stdout=False) as live,
        ):
            async with anyio.create_task_group() as group:
                group.start_soon(self._refresh, live)
                if keyboard is not None:
                    await self._listen(keyboard)
                    group.cancel_scope.cancel()

    async def _refresh(self, live: Live) -> None:
        watched: Watched | None = None
        while True:
            trouble = ""
            try:
                watched = await read_watched(self._calls.store, self._calls.name, batch_id=self._batch)
            except StoreUnavailableError as error:
                trouble = f"{error}; trying again"
            bottom = f"{KEYS}   {trouble or self._notice}"
            if self._asked is not None:
                bottom = f"{self._asked[1].title} y: yes, any other key: no"
            if watched is not None:
                live.update(picture(watched, width=live.console.size.width, bottom=bottom), refresh=True)
            with anyio.move_on_after(EVERY):
                await self._pressed.wait()
            self._pressed = anyio.Event()

    async def _listen(self, keyboard: int) -> None:
        """Handle key presses until `q` is pressed or the terminal is gone."""
        while True:
            await anyio.wait_readable(keyboard)
            keys = os.read(keyboard, 64).decode(errors="replace")
            for key in keys.lower() or "q":  # nothing to read: the terminal is gone
                if key == "q":
                    return
                try:
                    await self._press(key)
                except VoiceflowError as error:
                    self._notice = str(error)
            self._pressed.set()

    async def _press(self, key: str) -> None:
        from voiceflow_worker.actions.queues import Hold, Resume

        who, queue = self._operator, self._calls.name
        if self._asked is not None:
            (hold, question), self._asked = self._asked, None
            self._notice = (await hold.do(question.version)).message if key == "y" else "nothing was held"
        elif key == "h":
            hold = Hold(operator=who, queue=queue, batch=self._batch)
            self._asked = hold, await hold.question()
        elif key == "r":
            self._notice = (await Resume(operator=who, queue=queue, batch=self._batch).do()).message


@contextmanager
def _single_keys() -> Generator[int | None]:
    """Yield a file descriptor that gives the terminal's keys one by one, unechoed; None if stdin is no terminal."""
    if not sys.stdin.isatty():
        yield None
        return
    import termios
    import tty

    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)
    try:
        yield keyboard
    finally:
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
