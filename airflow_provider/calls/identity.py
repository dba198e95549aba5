"""The identity of a task instance, which stays the same through retries, lost workers and clears."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from voiceflow_worker.types import Actor


class OncePer(StrEnum):
    """What the keys of a task's calls hold for."""

    RUN = "run"
    """Each run of the DAG makes its own calls."""
    DAG = "dag"
    """All runs of the DAG together call a number, or a unique key, once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskIdentity:
    """The key of a task instance in Airflow.

    `max_tries` changes only when a user clears the instance: to the tries until then, plus the `retries` that the task
    has then, which may be the same sum as before. `tries_before` is `max_tries` without these `retries`. `clear_number`
    counts the clears of the DAG run; only a clear can give an instance another index. The key has no `try_number`, no
    id of a try (`ti.id`) and no logical date, because these change between tries or may be undefined.

    In a task loop (Airflow 3.4), each iteration is an instance of its own. `loop` has its number, its trajectory, and
    its region. A clear of later iterations forks the loop, which runs them again: the trajectory grows, or at least
    the region is another, and `max_tries` begins again.

    `once_per` is an option of the task: see `OncePer`.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    max_tries: int = 0
    tries_before: int = 0
    clear_number: int = 0
    loop: tuple[int, int, str] | None = None
    once_per: OncePer = OncePer.RUN

    @property
    def in_words(self) -> str:
        """Return the DAG, its run and the task, for people."""
        place = "" if self.map_index < 0 else f"[{self.map_index}]"
        return f"DAG {self.dag_id}, run {self.run_id}, task {self.task_id}{place}"

    @property
    def actor(self) -> Actor:
        """Return who acts on calls, for the audit log."""
        return Actor(on="Airflow", login=self.in_words)

    @classmethod
    def of(cls, context: Mapping[str, Any]) -> TaskIdentity:
        """Return the identity of the task instance that runs in this Airflow context."""
        ti, loop = context["ti"], context.get("loop")
        max_tries = getattr(ti, "max_tries", 0) or 0
        map_index = getattr(ti, "map_index", None)
        return cls(
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            map_index=-1 if map_index is None else map_index,
            max_tries=max_tries,
            tries_before=max_tries - (getattr(context.get("task"), "retries", 0) or 0),
            clear_number=getattr(context.get("dag_run"), "clear_number", 0) or 0,
            loop=None if loop is None else (loop.index, loop.trajectory, loop.region_id),
        )

    @property
    def is_mapped(self) -> bool:
        """True if the task was expanded into several instances."""
        return self.map_index >= 0

    def call_key(self, called: str, place: int) -> str:
        """Return the unique key of the task's call number `place` (from 0) to `called`, a phone number or a key.

        It is the same in all tries, and for all instances of a mapped task. An unmapped task that makes one call has an
        empty `called`, unless the key is the same for all runs.
        """
        task = self._task if self.once_per is OncePer.RUN else (self.dag_id, None, *self._task[2:])
        return f"airflow-{digest(*task, called, place)[:40]}"

    def batch_id(self) -> str:
        """Return a readable id for the batch with the calls of this instance: at most 50 characters, as 8x8 allows."""
        return f"{self.dag_id[:16]}.{self.task_id[:16]}.{digest(*self._task, self.map_index, 'batch')[:16]}"

    def new_import(self) -> str:
        """Return a new name for an import of this instance's calls: what is stored together, and stopped together."""
        return f"{self._imports}{secrets.token_hex(8)}"

    def has_imported(self, name: str | None) -> bool:
        """Return whether this is the name of an import of this instance."""
        return name is not None and name.startswith(self._imports)

    @property
    def _imports(self) -> str:
        return f"airflow-{digest(*self._task, self.map_index)[:20]}-"

    def data(self) -> dict[str, object]:
        """Return the identity as data of a call, for reports, menus and later tries."""
        return {
            "airflow_dag_id": self.dag_id,
            "airflow_run_id": self.run_id,
            "airflow_task_id": self.task_id,
            "airflow_map_index": self.map_index,
            "airflow_max_tries": self.max_tries,
            "airflow_tries_before": self.tries_before,
            "airflow_clear_number": self.clear_number,
            "airflow_once_per": self.once_per.value,
            **({} if self.loop is None else {"airflow_loop": list(self.loop)}),
        }

    def owns(self, data: Mapping[str, object] | None) -> bool:
        """Return whether a try of this instance enqueued the call with this data."""
        return self._agrees(data, "dag_id", "run_id", "task_id", "map_index") and self._iteration(data) == (
            None if self.loop is None else self.loop[0]
        )

    def finds(self, data: Mapping[str, object] | None) -> bool:
        """Return whether this task's keys find the call with this data."""
        run = () if self.once_per is OncePer.DAG else ("run_id",)
        return self._agrees(data, "dag_id", *run, "task_id", "once_per")

    def is_of_other_run(self, data: Mapping[str, object] | None) -> bool:
        """Return whether another run of the DAG enqueued the call with this data."""
        return self._agrees(data, "dag_id") and not self._agrees(data, "run_id")

    def is_under_other_keys(self, data: Mapping[str, object] | None) -> bool:
        """Return whether another run of the DAG enqueued the call with this data, or this task with another option.

        This task's keys do not find such a call.
        """
        is_mine = self._agrees(data, "dag_id", "task_id")
        return not self.finds(data) and (is_mine or self.is_of_other_run(data))

    def is_sibling_of(self, data: Mapping[str, object] | None) -> bool:
        """Return whether another instance of the same expansion enqueued the task's call with this data."""
        found = data or {}
        is_other = self.is_mapped and found.get("airflow_map_index", self.map_index) != self.map_index
        return is_other and not self.is_of_other_run(data) and found.get("airflow_clear_number") == self.clear_number

    def was_cleared_since(self, data: Mapping[str, object] | None) -> bool:
        """Return whether a user has cleared this instance since the task enqueued the call with this data."""
        if self.is_of_other_run(data):
            return False
        found: Mapping[str, Any] = data or {}
        if self.loop is not None and (then := found.get("airflow_loop")) and tuple(then[1:]) != self.loop[1:]:
            return bool(self.loop[1] >= then[1])
        tries, before, clears = (found.get(f"airflow_{name}") for name in ("max_tries", "tries_before", "clear_number"))
        run_was_cleared = isinstance(clears, int) and self.clear_number > clears
        # A new version of the DAG may have other `retries`, without a clear.
        is_moved = run_was_cleared and isinstance(before, int) and self.tries_before != before
        was_cleared = isinstance(tries, int) and (self.max_tries != tries or is_moved)
        # Instances that share a call may have been cleared unequally often: one clear makes one new call.
        return was_cleared and (not self.is_mapped or run_was_cleared)

    def as_json(self) -> dict[str, Any]:
        """Return the identity as an argument of a trigger."""
        loop = {} if self.loop is None else {"loop": list(self.loop)}
        return {name: getattr(self, name) for name in ("dag_id", "run_id", "task_id", "map_index")} | loop

    def _agrees(self, data: Mapping[str, object] | None, *names: str) -> bool:
        """Return whether the call with this data has these parts of the identity."""
        mine, found = self.data(), data or {}
        return all(found.get(f"airflow_{name}") == mine[f"airflow_{name}"] for name in names)

    @staticmethod
    def _iteration(data: Mapping[str, Any] | None) -> object:
        return ((data or {}).get("airflow_loop") or [None])[0]

    @property
    def _task(self) -> tuple[object, ...]:
        loop = () if self.loop is None else (("loop", self.loop[0]),)
        return self.dag_id, self.run_id, self.task_id, *loop

    def occasion(self, *, together: bool = False) -> tuple[object, ...]:
        """Return what tells the tries of this instance, or of all instances `together`, from those of others.

        The number of the try is not part of it.
        """
        index = () if together else (self.map_index,)
        fork = () if self.loop is None else self.loop[1:]
        return *self._task, *index, *fork

    def __str__(self) -> str:
        index = f"[{self.map_index}]" if self.is_mapped else ""
        loop = "" if self.loop is None else f", iteration {self.loop[0]},"
        return f"{self.dag_id}.{self.task_id}{index}{loop} of run {self.run_id}"


def digest(*parts: object) -> str:
    """Return a digest of these parts, written as JSON."""
    text = json.dumps(parts, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
