"""Waits, with a limit, for conditions that no event announces."""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from voiceflow_worker.errors import StoreUnavailableError

T = TypeVar("T")

LIMIT = 60.0
"""Seconds that a condition may take: a failing test ends, and a busy machine fails none."""


async def until(holds: Callable[[], bool | Awaitable[bool]], *, within: float = LIMIT) -> None:
    """Wait, in an event loop, until the condition holds; raise TimeoutError after `within` seconds."""
    pause = 0.001
    with anyio.fail_after(within):
        while True:
            found = holds()
            if await found if inspect.isawaitable(found) else found:
                return
            await anyio.sleep(pause)  # between two looks: the condition has no event
            pause = min(1.3 * pause, 0.02)


async def once_available(ask: Callable[[], Awaitable[T]], *, within: float = LIMIT) -> T:
    """Ask a store again and again until it is available; give its answer."""
    answers: list[T] = []

    async def is_answered() -> bool:
        with contextlib.suppress(StoreUnavailableError):
            answers.append(await ask())
        return bool(answers)

    await until(is_answered, within=within)
    return answers[0]


def wait_until(
    holds: Callable[[], bool], what: str | Callable[[], str], *, within: float = LIMIT, every: float = 0.02
) -> None:
    """Wait, outside an event loop, until the condition holds; raise AssertionError after `within` seconds."""
    ends = time.monotonic() + within
    while not holds():
        if time.monotonic() > ends:
            raise AssertionError(f"not within {within:.0f} s: {what if isinstance(what, str) else what()}")
        time.sleep(every)  # between two looks: the condition has no event
