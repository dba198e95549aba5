"""`voiceflow watch`: show a queue or a batch live in the terminal, with keys to hold and resume it."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import anyio

from voiceflow_worker.cli.messages import ExitCode
from voiceflow_worker.cli.opening import acting, require_batch
from voiceflow_worker.cli.options import AsOption, BatchOption, QueueOptions
from voiceflow_worker.cli.output import Output
from voiceflow_worker.cli.process import signals_to
from voiceflow_worker.errors import StoreUnavailableError, VoiceflowError
from voiceflow_worker.model.records.call_outcome import CallOutcome

if TYPE_CHECKING:
    from rich.live import Live

    from voiceflow_worker.acts import Operator
    from voiceflow_worker.cli.watch_view import Watched
    from voiceflow_worker.core.queue import CallQueue

EVERY = 1.0
"""Seconds between two reads of the store."""
EARLIER = timedelta(minutes=1)
"""The age of the oldest outcomes in the list of last calls when the view starts."""
MOST_SHOWN = 50
"""The largest number of calls that a screen shows."""


async def watch(*, batch: BatchOption = None, as_: AsOption = None, common: QueueOptions = QueueOptions()) -> ExitCode:
    """Watch a queue, or one batch of it: states, outcomes, rate, remaining time, holds, doubts, the last calls.

    Keys: h holds the queue or batch after a confirmation, r resumes it, q quits. With --json, a JSON document is
    printed every second. If stdout is not a terminal, a line of text is printed every second instead of the view.

    Examples:
        voiceflow watch --batch march
        voiceflow watch --json | jq .done
    """
    output = common.output()
    settings = common.settings()
    async with acting(settings, as_) as operator:
        calls = operator.queue(settings.queue)
        await require_batch(calls, batch)
        with anyio.CancelScope() as scope:
            async with signals_to(lambda _: scope.cancel()):
                if output.as_json or not sys.stdout.isatty():
                    return await _tell_lines(output, calls, batch)
                await _Screen(operator, calls.name, batch).run()
    return ExitCode.DONE


async def _read(calls: CallQueue, batch: str | None) -> Watched:
    from voiceflow_worker.cli.watch_view import read_watched

    return await read_watched(calls.store, calls.name, batch_id=batch)


async def _tell_lines(output: Output, calls: CallQueue, batch: str | None) -> ExitCode:
    from voiceflow_worker.cli.watch_view import line

    while True:
        try:
            watched = await _read(calls, batch)
            output.result(watched.as_json(), line(watched))
            sys.stdout.flush()
        except StoreUnavailableError as error:
            output.note(f"{error}; trying again")
        except BrokenPipeError:  # the reader, such as `| head`, has closed the pipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return ExitCode.DONE
        await anyio.sleep(EVERY)


class _Screen:
    """The live view on a terminal."""

    def __init__(self, operator: Operator, queue: str, batch: str | None) -> None:
        self._operator = operator
        self._calls = operator.queue(queue)
        self._batch = batch
        self._last: deque[CallOutcome] = deque(maxlen=MOST_SHOWN)
        self._asks = False
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
                group.start_soon(self._follow)
                group.start_soon(self._refresh, live)
                if keyboard is not None:
                    await self._listen(keyboard)
                    group.cancel_scope.cancel()

    async def _refresh(self, live: Live) -> None:
        from voiceflow_worker.cli.watch_view import KEYS, picture

        watched: Watched | None = None
        while True:
            try:
                watched = await _read(self._calls, self._batch)
            except StoreUnavailableError as error:
                self._notice = f"{error}; trying again"
            bottom = f"Hold {self._name}? y: yes, any other key: no" if self._asks else f"{KEYS}   {self._notice}"
            if watched is not None:
                size = live.console.size
                view = picture(watched, last=list(self._last), width=size.width, height=size.height, bottom=bottom)
                live.update(view, refresh=True)
            with anyio.move_on_after(EVERY):
                await self._pressed.wait()
            self._pressed = anyio.Event()

    async def _follow(self) -> None:
        """Collect the last outcomes, the newest first."""
        since = self._calls.store.clock.now() - EARLIER
        try:
            async for outcome in self._calls.outcomes(since=since):
                if self._batch in {None, outcome.job.batch_id}:
                    self._last.appendleft(outcome)
        except VoiceflowError as error:
            self._notice = str(error)

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
        from voiceflow_worker.acts import Hold, Resume

        who, queue = self._operator, self._calls.name
        if self._asks:
            self._asks = False
            self._notice = "nothing was held"
            if key == "y":
                self._notice = (await Hold(operator=who, queue=queue, batch=self._batch).do()).said
        elif key == "h":
            self._asks = True
        elif key == "r":
            self._notice = (await Resume(operator=who, queue=queue, batch=self._batch).do()).said

    @property
    def _name(self) -> str:
        return f"queue {self._calls.name}" if self._batch is None else f"batch {self._batch}"


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
