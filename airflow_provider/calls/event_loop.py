"""Coroutines of the library in blocking methods of Airflow, and the check of a store before them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import conf

from voiceflow_worker import InvalidInputError

if TYPE_CHECKING:
    from airflow_provider.hooks.voice import VoiceFlowHook


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


log = logging.getLogger(__name__)

ONE_HOST = frozenset({"LocalExecutor"})
"""Executors that run all tasks on one host. Others (Celery, Kubernetes, Edge, batch services) may use several hosts."""

_FILES = ("sqlite:", "file:")


def require_lasting_store(hook: VoiceFlowHook) -> None:
    """Raise InvalidInputError if the next try of this task might be unable to read the store."""
    store = hook.store_url()
    if is_relative(store):
        log.warning(
            "the path of the store %s is relative to the working directory, so tasks, the triggerer and `voiceflow "
            "serve` may use different files. Use an absolute path, such as sqlite:////srv/voiceflow/calls.db",
            store,
        )
    configured = conf.get("core", "executor", fallback="") or ""
    require_lasting(store, executor=configured, allowed=hook.allows_local_store())


def require_lasting(store: str, *, executor: str, allowed: bool) -> None:
    """Raise InvalidInputError if the next try, under this executor, might be unable to read the store.

    `allowed` is True if the user declared that all workers share the file, on storage that supports locks.
    """
    url = store.lower()
    if url.startswith("memory:"):
        raise InvalidInputError(
            "the store is memory://, which loses every call when the process of the task ends, so a retry would call "
            "again. Set the store of the connection to a postgresql:// or redis:// URL, or to "
            "sqlite:////absolute/path.db if all tasks run on one host"
        )
    movers = [name for name in executors(executor) if name not in ONE_HOST]
    if url.startswith(_FILES) and movers and not allowed:
        raise InvalidInputError(
            f"the store is a file ({store}), but {' and '.join(movers)} may run the next try on another host, which "
            "cannot read the file and would call again. Use a postgresql:// or redis:// store. If every worker, the "
            "triggerer and `voiceflow serve` share this file, set allow_local_store=true in the extra of the "
            "connection instead"
        )


def executors(configured: str) -> list[str]:
    """Return the names of the executors in a value of `[core] executor`, each without an alias or a module path."""
    parts = configured.replace(";", ",").split(",")
    names = [part.strip().rpartition("=")[2].rpartition(".")[2].strip() for part in parts]
    return [name for name in names if name]


def is_relative(store: str) -> bool:
    """Return whether the store is a file with a relative path: its URL has three slashes, not four."""
    scheme, _, path = store.partition("://")
    return f"{scheme.lower()}:" in _FILES and not path.startswith("//")
