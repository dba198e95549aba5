"""Whether a store can keep the promise where this task runs: a file on one host knows nothing of the next try's."""

from __future__ import annotations

from voiceflow_worker import InvalidInputError

STAYS = frozenset({"LocalExecutor", "SequentialExecutor", "DebugExecutor"})
"""Executors whose tasks all run on one host. Others (Celery, Kubernetes, Edge, batch services) may move a try."""

_FILES = ("sqlite:", "file:")


def require_lasting(store: str, *, executor: str, allowed: bool) -> None:
    """Raise InvalidInputError for a store that the next try of a task may not see.

    `executor` is what Airflow is configured with, or what the task names. `allowed`: the user said that it is fine (the
    file is on storage that all workers share, and that keeps locks).
    """
    url = store.lower()
    if url.startswith("memory:"):
        raise InvalidInputError(
            "the store is memory://, which forgets every call when the task's process ends: a retry would call again. "
            "Set the connection's store to a redis:// URL, or to sqlite:////absolute/path.db where all tasks run on "
            "one host"
        )
    movers = [name for name in executors(executor) if name not in STAYS]
    if url.startswith(_FILES) and movers and not allowed:
        raise InvalidInputError(
            f"the store is a file ({store}) and {' and '.join(movers)} may run the next try on another host, which "
            "would not see the call and make it again. Use a redis:// store; or, if every worker, the triggerer and "
            "`voiceflow serve` see this very file, set allow_local_store=true in the connection's extra"
        )


def executors(configured: str) -> list[str]:
    """The class names in a value of `[core] executor`: several, with modules, aliases or teams before them.

    A bare alias stays as it is: what nobody knows may move a task.
    """
    names: list[str] = []
    for part in configured.replace(";", ",").split(","):
        name = part.strip().rpartition("=")[2].rpartition(":")[2].rpartition(".")[2].strip()
        if name:
            names.append(name)
    return names


def executor_of(task_executor: str | None, configured: str) -> str:
    """What runs this task: the executor it names, by its alias or class, or all that are configured."""
    if not task_executor:
        return configured
    for part in configured.replace(";", ",").split(","):
        alias, colon, path = part.strip().rpartition("=")[2].partition(":")
        if colon and alias == task_executor:
            return path
    return task_executor


def is_relative(store: str) -> bool:
    """Whether a store is a file named relative to the working directory: three slashes, not four."""
    scheme, _, path = store.partition("://")
    return f"{scheme.lower()}:" in _FILES and not path.startswith("//")
