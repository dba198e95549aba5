"""Handlers, run within a limit: async ones here, sync ones in a thread of their own."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from datetime import timedelta
from typing import cast

import anyio
from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

from voiceflow_worker.ivr.caller import Caller
from voiceflow_worker.ivr.steps import Handler, Step

THREADS = 100
"""Sync handlers at once. A handler that hangs is given up by its caller, and its thread is not waited for."""


class HandlerTooSlowError(Exception):
    """Raised when a handler took longer than its limit. It is caught where answers are made, and told nobody else."""


async def handled(handler: Handler, caller: Caller, *, limit: timedelta) -> Step:
    """What a handler gives. Raises HandlerTooSlowError, and whatever the handler raises."""
    step: Step | None = None
    with anyio.move_on_after(limit.total_seconds()) as scope:
        if _is_async(handler):
            step = await cast("Awaitable[Step]", handler(caller))
        else:
            given = await to_thread.run_sync(handler, caller, abandon_on_cancel=True, limiter=_threads())
            step = await given if inspect.isawaitable(given) else given
    if scope.cancelled_caught:
        raise HandlerTooSlowError(f"the handler took longer than {limit.total_seconds():g} s")
    return cast("Step", step)


def _is_async(handler: Handler) -> bool:
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004


_limiter: RunVar[CapacityLimiter] = RunVar("voiceflow-handler-threads")


def _threads() -> CapacityLimiter:
    """One for each event loop. The loop's own would let handlers that hang keep everybody else's work waiting."""
    try:
        return _limiter.get()
    except LookupError:
        limiter = CapacityLimiter(THREADS)
        _limiter.set(limiter)
        return limiter
