"""Who asks for a call: one task instance, the same through retries, lost workers and clears."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LONGEST_BATCH = 50
"""`clientBatchId` is at most 50 characters (8x8 callflows guide)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskIdentity:
    """One task instance, as Airflow knows it by its key; `max_tries` grows with each clear by a user, and only then.

    `clear_number` counts the clears of its run: only a clear can give an instance of a mapped task another index.

    Not in it, for they change while the task instance stays the same or are undefined: `try_number`, the id of a try
    (`ti.id`), the logical date.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    max_tries: int = 0
    clear_number: int = 0

    @classmethod
    def of(cls, context: Mapping[str, Any]) -> TaskIdentity:
        """The identity of the task instance that runs in this Airflow context."""
        ti = context["ti"]
        map_index = getattr(ti, "map_index", -1)
        return cls(
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            map_index=-1 if map_index is None else map_index,
            max_tries=getattr(ti, "max_tries", 0) or 0,
            clear_number=getattr(context.get("dag_run"), "clear_number", 0) or 0,
        )

    @property
    def is_mapped(self) -> bool:
        """Whether its task was expanded into several instances."""
        return self.map_index >= 0

    def key(self, item: str = "", *, generation: int = 0) -> str:
        """The unique key of one call of this task instance: a digest, the same for each try.

        `item` tells the calls of one task instance apart. `generation` counts the calls that were asked for anew.
        """
        return f"airflow-{self._digest(item, *([generation] if generation else []))[:40]}"

    def call_key(self, called: str, ordinal: int, *, generation: int) -> str:
        """The unique key of the `ordinal`-th call to what is `called`: one for all instances of a mapped task.

        `called` is a number or a row's own key. `generation` counts the calls that took the place of one another.
        """
        told = [self.dag_id, self.run_id, self.task_id, "calls", called, ordinal, generation]
        return f"airflow-{_digest(told)[:40]}"

    def scope(self) -> str:
        """A digest of the task in its run: all instances of a mapped task share it."""
        return _digest([self.dag_id, self.run_id, self.task_id])[:40]

    def batch_id(self) -> str:
        """A batch of this task instance alone, which people can recognize."""
        return f"{self.dag_id[:16]}.{self.task_id[:16]}.{self._digest('batch')[:16]}"[:LONGEST_BATCH]

    def data(self) -> dict[str, object]:
        """What the call's job carries of it, for reports, menus and the next try."""
        return {
            "airflow_dag_id": self.dag_id,
            "airflow_run_id": self.run_id,
            "airflow_task_id": self.task_id,
            "airflow_map_index": self.map_index,
            "airflow_max_tries": self.max_tries,
        }

    def owns(self, data: Mapping[str, object] | None) -> bool:
        """Whether a call with this data was handed in by this task instance, in whichever try."""
        mine = {name: value for name, value in self.data().items() if name != "airflow_max_tries"}
        return data is not None and mine.items() <= data.items()

    def as_json(self) -> dict[str, Any]:
        """As a trigger carries it."""
        return {"dag_id": self.dag_id, "run_id": self.run_id, "task_id": self.task_id, "map_index": self.map_index}

    def _digest(self, *more: object) -> str:
        return _digest([self.dag_id, self.run_id, self.task_id, self.map_index, *more])

    def __str__(self) -> str:
        place = f"[{self.map_index}]" if self.map_index >= 0 else ""
        return f"{self.dag_id}.{self.task_id}{place} of run {self.run_id}"


def _digest(told: Sequence[object]) -> str:
    text = json.dumps(told, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
