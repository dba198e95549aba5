"""The execution of handlers within a time limit: async ones in the event loop, sync ones in a thread."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from datetime import timedelta
from typing import cast

import anyio
from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

from voiceflow_worker.ivr.caller import Caller
from voiceflow_worker.ivr.menu import Handler, Step

THREADS = 100
"""The most sync handlers that run at one time. A handler that hangs is abandoned, together with its thread."""


class HandlerTooSlowError(Exception):
    """Raised inside this package when a handler took longer than its limit."""


async def handled(handler: Handler, caller: Caller, *, limit: timedelta) -> Step:
    """Run a handler and return its step. Raises HandlerTooSlowError, and the errors of the handler."""
    step: Step | None = None
    with anyio.move_on_after(limit.total_seconds()) as scope:
        if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None)):  # noqa: B004
            step = await cast("Awaitable[Step]", handler(caller))
        else:
            given = await to_thread.run_sync(handler, caller, abandon_on_cancel=True, limiter=_threads())
            step = await given if inspect.isawaitable(given) else given
    if scope.cancelled_caught:
        raise HandlerTooSlowError(f"the handler took longer than {limit.total_seconds():g} s")
    return cast("Step", step)


_limiter: RunVar[CapacityLimiter] = RunVar("voiceflow-handler-threads")


def _threads() -> CapacityLimiter:
    """The limiter for threads of handlers. In the default limiter, handlers that hang would block other threads."""
    try:
        return _limiter.get()
    except LookupError:
        limiter = CapacityLimiter(THREADS)
        _limiter.set(limiter)
        return limiter
