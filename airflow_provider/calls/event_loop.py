"""The library's event loop under Airflow's blocking methods."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run this to its end, in a new thread if this one already has a running event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    return run_in_thread(work, seconds=None)


def run_in_thread(work: Callable[[], Coroutine[Any, Any, T]], *, seconds: float | None) -> T:
    """Run this in a new thread, because a signal handler may interrupt a running loop.

    Raises TimeoutError after `seconds`; the thread goes on.
    """
    done: Future[T] = Future()

    def target() -> None:
        try:
            done.set_result(asyncio.run(work()))
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            done.set_exception(error)

    Thread(target=target, name="voiceflow-task", daemon=True).start()
    try:
        return done.result(seconds)
    except TimeoutError:
        if done.done():
            raise
        raise TimeoutError(f"not done within {seconds} s") from None
