"""From Airflow's blocking methods to the library's event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(errand: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run an errand to its end; in a thread of its own where this one has an event loop running."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(errand())
    return run_aside(errand, seconds=None)


def run_aside(errand: Callable[[], Coroutine[Any, Any, T]], *, seconds: float | None) -> T:
    """Run an errand in a thread of its own, for at most `seconds`: a signal handler may interrupt a running loop.

    Raises what the errand raises, and TimeoutError when it takes longer; it is left to itself then.
    """
    answer: list[T] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            answer.append(asyncio.run(errand()))
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            failure.append(error)

    thread = threading.Thread(target=work, name="voiceflow-errand", daemon=True)
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not answer:
        raise TimeoutError(f"not done within {seconds} s")
    return answer[0]
