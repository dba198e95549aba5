"""The check that later tries of a task will see the store: a file on one host is unknown on another."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import conf

from voiceflow_worker import InvalidInputError

if TYPE_CHECKING:
    from airflow_provider.hooks.voice import VoiceFlowHook

log = logging.getLogger(__name__)

ONE_HOST = frozenset({"LocalExecutor", "SequentialExecutor", "DebugExecutor"})
"""Executors whose tasks all run on one host. Others (Celery, Kubernetes, Edge, batch services) may move a try."""

_FILES = ("sqlite:", "file:")


def require_lasting_store(hook: VoiceFlowHook, *, executor: str | None) -> None:
    """Raise InvalidInputError for a store that the next try of this task may not see."""
    store = hook.store_url()
    if is_relative(store):
        log.warning(
            "the store %s is relative to the working directory: tasks, the triggerer and `voiceflow serve` may each "
            "use another file. Use four slashes and an absolute path",
            store,
        )
    configured = conf.get("core", "executor", fallback="") or ""
    require_lasting(store, executor=executor_of(executor, configured), allowed=hook.allows_local_store())


def require_lasting(store: str, *, executor: str, allowed: bool) -> None:
    """Raise InvalidInputError for a store that the next try under this executor may not see.

    `allowed`: the user says that all workers share the file on storage that supports locks.
    """
    url = store.lower()
    if url.startswith("memory:"):
        raise InvalidInputError(
            "the store is memory://, which forgets every call when the task's process ends: a retry would call again. "
            "Set the connection's store to a redis:// URL, or to sqlite:////absolute/path.db if all tasks run on one "
            "host"
        )
    movers = [name for name in executors(executor) if name not in ONE_HOST]
    if url.startswith(_FILES) and movers and not allowed:
        raise InvalidInputError(
            f"the store is a file ({store}) and {' and '.join(movers)} may run the next try on another host, which "
            "would not see the call and make it again. Use a redis:// store; or, if every worker, the triggerer and "
            "`voiceflow serve` share this file, set allow_local_store=true in the connection's extra"
        )


def executors(configured: str) -> list[str]:
    """The class names in a value of `[core] executor`, without modules, aliases and teams; a bare alias as it is."""
    parts = configured.replace(";", ",").split(",")
    names = [part.strip().rpartition("=")[2].rpartition(":")[2].rpartition(".")[2].strip() for part in parts]
    return [name for name in names if name]


def executor_of(task_executor: str | None, configured: str) -> str:
    """The executor that the task names, by alias or class; else all that are configured."""
    if not task_executor:
        return configured
    for part in configured.replace(";", ",").split(","):
        alias, colon, path = part.strip().rpartition("=")[2].partition(":")
        if colon and alias == task_executor:
            return path
    return task_executor


def is_relative(store: str) -> bool:
    """Whether the store is a file relative to the working directory: three slashes, not four."""
    scheme, _, path = store.partition("://")
    return f"{scheme.lower()}:" in _FILES and not path.startswith("//")
