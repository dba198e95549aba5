"""The identity of a task instance, which stays the same through retries, lost workers and clears."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

LONGEST_BATCH = 50
"""The largest number of characters in a `clientBatchId` (8x8 callflows guide)."""
_CLEARS = (
    "airflow_max_tries", "airflow_tries_before", "airflow_clear_number", "airflow_loop_trajectory",
    "airflow_loop_region",
)  # fmt: skip
"""Data of a call that tell how often its task instance had been cleared when the call was enqueued."""
_ONCE_PER = "airflow_once_per"


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

    In a task loop (Airflow 3.4), each iteration is an instance of its own, with the number `loop_index`. A clear of
    later iterations forks the loop, which runs them again: `loop_trajectory` grows, or at least `loop_region` is
    another, and `max_tries` begins again.

    `once_per` is an option of the task: see `OncePer`.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    max_tries: int = 0
    tries_before: int = 0
    clear_number: int = 0
    loop_index: int | None = None
    loop_trajectory: int = 1
    loop_region: str = ""
    once_per: OncePer = OncePer.RUN

    @property
    def in_words(self) -> str:
        """Return the DAG, its run and the task, for people."""
        place = "" if self.map_index < 0 else f"[{self.map_index}]"
        return f"DAG {self.dag_id}, run {self.run_id}, task {self.task_id}{place}"

    @classmethod
    def of(cls, context: Mapping[str, Any]) -> TaskIdentity:
        """Return the identity of the task instance that runs in this Airflow context."""
        ti = context["ti"]
        map_index = getattr(ti, "map_index", -1)
        loop = context.get("loop")
        index, trajectory, region = (_part(loop, name) for name in ("index", "trajectory", "region_id"))
        max_tries = getattr(ti, "max_tries", 0) or 0
        return cls(
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            map_index=-1 if map_index is None else map_index,
            max_tries=max_tries,
            tries_before=max_tries - (getattr(context.get("task"), "retries", 0) or 0),
            clear_number=getattr(context.get("dag_run"), "clear_number", 0) or 0,
            loop_index=index if isinstance(index, int) else None,
            loop_trajectory=trajectory if isinstance(trajectory, int) else 1,
            loop_region="" if region is None else str(region),
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

    def scope(self) -> str:
        """Return a digest of the task and its run, the same for all instances of a mapped task."""
        return digest(*self._task)[:40]

    def batch_id(self) -> str:
        """Return a readable id for the batch with the calls of this instance."""
        return f"{self.dag_id[:16]}.{self.task_id[:16]}.{digest(*self._task, self.map_index, 'batch')[:16]}"[
            :LONGEST_BATCH
        ]

    def data(self) -> dict[str, object]:
        """Return the identity as data of a call, for reports, menus and later tries."""
        loop = {
            "airflow_loop_index": self.loop_index,
            "airflow_loop_trajectory": self.loop_trajectory,
            "airflow_loop_region": self.loop_region,
        }
        return {
            "airflow_dag_id": self.dag_id,
            "airflow_run_id": self.run_id,
            "airflow_task_id": self.task_id,
            "airflow_map_index": self.map_index,
            "airflow_max_tries": self.max_tries,
            "airflow_tries_before": self.tries_before,
            "airflow_clear_number": self.clear_number,
            _ONCE_PER: self.once_per.value,
            **({} if self.loop_index is None else loop),
        }

    def owns(self, data: Mapping[str, object] | None) -> bool:
        """Return whether a try of this instance enqueued the call with this data."""
        if data is None:
            return False
        mine = {name: value for name, value in self.data().items() if name not in {*_CLEARS, _ONCE_PER}}
        return mine.items() <= data.items() and data.get("airflow_loop_index") == self.loop_index

    def own_data(self) -> Mapping[str, object]:
        """Return the part of the data that all calls have which are found by this task's keys."""
        run = {} if self.once_per is OncePer.DAG else {"airflow_run_id": self.run_id}
        return {
            "airflow_dag_id": self.dag_id,
            **run,
            "airflow_task_id": self.task_id,
            _ONCE_PER: self.once_per.value,
        }

    def is_of_other_run(self, data: Mapping[str, object] | None) -> bool:
        """Return whether another run of the DAG enqueued the call with this data."""
        found = data or {}
        return found.get("airflow_dag_id") == self.dag_id and found.get("airflow_run_id") != self.run_id

    def is_under_other_keys(self, data: Mapping[str, object] | None) -> bool:
        """Return whether another run of the DAG enqueued the call with this data, or this task with another option.

        This task's keys do not find such a call.
        """
        found = data or {}
        if self.own_data().items() <= found.items():
            return False
        is_mine = found.get("airflow_dag_id") == self.dag_id and found.get("airflow_task_id") == self.task_id
        return is_mine or self.is_of_other_run(data)

    def is_sibling_of(self, data: Mapping[str, object] | None) -> bool:
        """Return whether another instance of the same expansion enqueued the task's call with this data."""
        found = data or {}
        is_other = self.is_mapped and found.get("airflow_map_index", self.map_index) != self.map_index
        return is_other and not self.is_of_other_run(data) and found.get("airflow_clear_number") == self.clear_number

    def was_cleared_since(self, data: Mapping[str, object] | None) -> bool:
        """Return whether a user has cleared this instance since the task enqueued the call with this data."""
        if self.is_of_other_run(data):
            return False
        tries, before, clears, trajectory, region = ((data or {}).get(name) for name in _CLEARS)
        if self.loop_index is not None and isinstance(trajectory, int):
            if self.loop_trajectory != trajectory:
                return self.loop_trajectory > trajectory
            if region and self.loop_region and region != self.loop_region:
                return True
        run_was_cleared = isinstance(clears, int) and self.clear_number > clears
        # A new version of the DAG may have other `retries`, without a clear.
        is_moved = run_was_cleared and isinstance(before, int) and self.tries_before != before
        was_cleared = isinstance(tries, int) and (self.max_tries != tries or is_moved)
        # Instances that share a call may have been cleared unequally often: one clear makes one new call.
        return was_cleared and (not self.is_mapped or run_was_cleared)

    def as_json(self) -> dict[str, Any]:
        """Return the identity as an argument of a trigger."""
        loop = {} if self.loop_index is None else {"loop_index": self.loop_index}
        return {
            "dag_id": self.dag_id,
            "run_id": self.run_id,
            "task_id": self.task_id,
            "map_index": self.map_index,
            **loop,
        }

    @property
    def _task(self) -> tuple[object, ...]:
        loop = () if self.loop_index is None else (("loop", self.loop_index),)
        return self.dag_id, self.run_id, self.task_id, *loop

    @property
    def occasion(self) -> tuple[object, ...]:
        """The parts that tell the tries of this instance from all others; the number of the try is not among them."""
        fork = () if self.loop_index is None else ((self.loop_trajectory, self.loop_region),)
        return *self._task, self.map_index, *fork

    def __str__(self) -> str:
        index = f"[{self.map_index}]" if self.is_mapped else ""
        loop = "" if self.loop_index is None else f", iteration {self.loop_index},"
        return f"{self.dag_id}.{self.task_id}{index}{loop} of run {self.run_id}"


def _part(loop: object, name: str) -> object:
    """Return a field of the loop in a context, which is an object or a mapping."""
    if isinstance(loop, Mapping):
        return cast("Mapping[str, object]", loop).get(name)
    return getattr(loop, name, None)


def digest(*parts: object) -> str:
    """Return a digest of these parts, written as JSON."""
    text = json.dumps(parts, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
