"""A hook: a handler that is told outcomes, which ones, and how it is treated when it fails."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from typing import TypeAlias

import anyio

from voiceflow_worker.core.outcomes.hook_threads import HookThreads
from voiceflow_worker.core.ports import Event, EventKind
from voiceflow_worker.errors import HookGoneError, InvalidInputError, TellAgainError
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.records.call_outcome import CallOutcome

Handler: TypeAlias = Callable[[CallOutcome], Awaitable[object] | object]
"""Takes one outcome; what it returns is not looked at. One that is no coroutine function is run in a thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookOptions:
    """How a hook is treated.

    `limit`: how long a handler may take over one outcome. `concurrency`: how many calls it is told of at the same time;
    the outcomes of one call are told one after the other. After a failure it is told again, at first after `first_wait`
    and then after waits that double up to `longest_wait`, until `give_up_after` has passed since the first failure: the
    outcome is then parked. With `most_waiting` outcomes unsettled, none that is new is read.
    """

    limit: timedelta = timedelta(seconds=30)
    concurrency: int = 8
    first_wait: timedelta = timedelta(seconds=1)
    longest_wait: timedelta = timedelta(minutes=15)
    give_up_after: timedelta = timedelta(days=3)
    most_waiting: int = 1000

    def __post_init__(self) -> None:
        if self.limit <= timedelta() or self.concurrency < 1 or self.most_waiting < 1:
            raise InvalidInputError("a hook needs a limit above 0, and concurrency and most_waiting of at least 1")


@dataclass(slots=True, kw_only=True)
class HookCounts:
    """What a hook was told by this process.

    `told` and `failures` count calls of the handler, `parked` outcomes that were given up, `behind` how often events
    were forgotten before they could be told. `waiting` is how many outcomes are unsettled now.
    """

    told: int = 0
    failures: int = 0
    parked: int = 0
    behind: int = 0
    waiting: int = 0
    is_stopped: bool = False


class Told(Enum):
    """What came of telling a handler."""

    TAKEN = auto()
    FAILED = auto()
    GONE = auto()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of telling a handler, why, and how long it asks to be left alone."""

    told: Told
    error: str = ""
    after: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A handler by its name, and which outcomes it is told."""

    name: str
    handler: Handler
    only: frozenset[JobState] | None = None
    attempts: bool = True
    options: HookOptions = field(default_factory=HookOptions)
    counts: HookCounts = field(default_factory=HookCounts)
    threads: HookThreads = field(default_factory=lambda: HookThreads(HookOptions().concurrency))

    def wants(self, event: Event) -> bool:
        """Whether this hook is told this outcome."""
        if event.kind is EventKind.ATTEMPTED and not self.attempts:
            return False
        return self.only is None or event.state in self.only

    async def tell(self, outcome: CallOutcome) -> Answer:
        """Tell the handler, within its limit. Whatever it raises is an answer."""
        limit = self.options.limit.total_seconds()
        with anyio.move_on_after(limit) as scope:
            try:
                await _run(self.handler, outcome, self.threads)
            except TellAgainError as error:
                return Answer(Told.FAILED, str(error), error.after)
            except HookGoneError as error:
                return Answer(Told.GONE, str(error))
            except Exception as error:  # noqa: BLE001 - a handler is somebody else's code: no fault of it ends the others
                return Answer(Told.FAILED, f"{type(error).__name__}: {error}")
            return Answer(Told.TAKEN)
        if scope.cancelled_caught:
            return Answer(Told.FAILED, f"it took longer than {limit:g} s")
        raise AssertionError("a handler ended in no way")  # pragma: no cover


def made_hook(
    name: str,
    handler: Handler,
    *,
    only: Iterable[JobState] | None,
    attempts: bool,
    options: HookOptions | None,
) -> Hook:
    """A hook of these parts."""
    given = options or HookOptions()
    return Hook(
        name=name,
        handler=handler,
        only=None if only is None else frozenset(only),
        attempts=attempts,
        options=given,
        threads=HookThreads(given.concurrency),
    )


async def _run(handler: Handler, outcome: CallOutcome, threads: HookThreads) -> None:
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None)):  # noqa: B004 - an object with an async __call__
        answer = handler(outcome)
    else:
        answer = await threads.run(handler, outcome)  # it may block
    if inspect.isawaitable(answer):
        await answer
