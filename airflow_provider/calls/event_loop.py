"""Functions that run coroutines of the library from blocking methods of Airflow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine and return its result. If this thread already runs an event loop, use a new thread."""
    return run_in_thread(work, seconds=None) if _has_loop() else asyncio.run(work())


def _has_loop() -> bool:
    """Return whether this thread runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def run_in_thread(work: Callable[[], Coroutine[Any, Any, T]], *, seconds: float | None) -> T:
    """Run a coroutine in a new thread, and return its result. After `seconds`, raise TimeoutError; the thread goes on.

    This also works in a signal handler, which may have interrupted a running loop.
    """
    done: Future[T] = Future()

    def target() -> None:
        try:
            done.set_result(asyncio.run(work()))
        except BaseException as error:  # noqa: BLE001 - raised again in the waiting thread
            done.set_exception(error)

    Thread(target=target, name="voiceflow-task", daemon=True).start()
    try:
        return done.result(seconds)
    except TimeoutError:
        if done.done():
            raise
        raise TimeoutError(f"the work was not done within {seconds} s") from None
