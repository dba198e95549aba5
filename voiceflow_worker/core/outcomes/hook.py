"""Hooks: named handlers of outcomes, with their options and counts."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

import anyio
import anyio.to_thread

from voiceflow_worker.core.ports import Event, EventKind
from voiceflow_worker.errors import HookGoneError, InvalidInputError, TellAgainError
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.records.call_outcome import CallOutcome
from voiceflow_worker.model.text.duration import checked_duration

Handler: TypeAlias = Callable[[CallOutcome], Awaitable[object] | object]
"""A function that takes one outcome. Its result is ignored. If it is not async, it runs in a thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookOptions:
    """Limits and retries of a hook.

    `limit` is the time that the handler may take for one outcome. `concurrency` is the number of calls that it handles
    at the same time; the outcomes of one call come one after the other. A failed delivery is tried again after
    `first_wait`, and then after waits that double up to `longest_wait`. The outcome is parked when `give_up_after` has
    passed since the first failure. While `most_waiting` outcomes wait for delivery, no new ones are read.
    """

    limit: timedelta = timedelta(seconds=30)
    concurrency: int = 8
    first_wait: timedelta = timedelta(seconds=1)
    longest_wait: timedelta = timedelta(minutes=15)
    give_up_after: timedelta = timedelta(days=3)
    most_waiting: int = 1000

    def __post_init__(self) -> None:
        for name in ("limit", "first_wait", "longest_wait", "give_up_after"):
            checked_duration(name, getattr(self, name))
        if self.limit <= timedelta() or self.concurrency < 1 or self.most_waiting < 1:
            raise InvalidInputError("a hook needs a limit above 0, and concurrency and most_waiting of at least 1")


@dataclass(slots=True, kw_only=True)
class HookCounts:
    """Counts of one hook in this process.

    `told` counts the deliveries that succeeded, `failures` those that failed. `parked` counts outcomes that were given
    up, and `behind` counts how often events were deleted before the hook had read them. `waiting` is the number of
    outcomes that wait for delivery now. `is_stopped` means that the handler has raised `HookGoneError`.
    """

    told: int = 0
    failures: int = 0
    parked: int = 0
    behind: int = 0
    waiting: int = 0
    is_stopped: bool = False


class Hook:
    """A handler with its name and options. `only` are the states whose outcomes it receives; None means all."""

    def __init__(
        self,
        name: str,
        handler: Handler,
        *,
        only: Iterable[JobState] | None = None,
        attempts: bool = True,
        options: HookOptions | None = None,
    ) -> None:
        self.name = name
        self.options: HookOptions = options or HookOptions()
        self.counts: HookCounts = HookCounts()
        self._handler = handler
        self._only = None if only is None else frozenset(only)
        self._attempts = attempts
        self._threads = threading.Semaphore(self.options.concurrency)

    def wants(self, event: Event) -> bool:
        """Whether this hook receives the outcome of an event."""
        if event.kind is EventKind.ATTEMPTED and not self._attempts:
            return False
        return self._only is None or event.state in self._only

    async def deliver(self, outcome: CallOutcome) -> None:
        """Call the handler within its time limit. Raises its `HookGoneError`, and `TellAgainError` if it failed."""
        limit = self.options.limit.total_seconds()
        with anyio.move_on_after(limit):
            try:
                return await self._call(outcome)
            except (HookGoneError, TellAgainError):
                raise
            except Exception as error:
                raise TellAgainError(f"{type(error).__name__}: {error}") from error
        raise TellAgainError(f"the handler took longer than {limit:g} s")

    async def _call(self, outcome: CallOutcome) -> None:
        handler = self._handler
        if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None)):  # noqa: B004 - an object with an async __call__
            result = handler(outcome)
        else:
            # With its own limiter, so that other threads, such as those of the store, do not wait for a handler.
            result = await anyio.to_thread.run_sync(
                self._call_in_thread, outcome, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1)
            )
        if inspect.isawaitable(result):
            await result

    def _call_in_thread(self, outcome: CallOutcome) -> Awaitable[object] | object:
        # A thread cannot be ended. One that hangs is left behind after its time limit, but is still counted. So retries
        # cannot add more and more of them.
        if not self._threads.acquire(blocking=False):
            raise TellAgainError(f"all {self.options.concurrency} threads of this hook are busy: it does not return")
        try:
            return self._handler(outcome)
        finally:
            self._threads.release()
