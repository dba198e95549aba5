"""Who asks for a call: one task instance, the same through retries, lost workers and clears."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LONGEST_BATCH = 50
"""`clientBatchId` is at most 50 characters (8x8 callflows guide)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskIdentity:
    """One task instance, as Airflow knows it by its key; `max_tries` grows with each clear by a user, and only then.

    Not in it, for they change while the task instance stays the same or are undefined: `try_number`, the id of a try
    (`ti.id`), the logical date.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    max_tries: int = 0

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
        )

    def key(self, item: str = "", *, generation: int = 0) -> str:
        """The unique key of one call of this task instance: a digest, the same for each try.

        `item` tells the calls of one task instance apart. `generation` counts the calls that were asked for anew.
        """
        return f"airflow-{self._digest(item, *([generation] if generation else []))[:40]}"

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

    def _digest(self, *more: object) -> str:
        told = json.dumps([self.dag_id, self.run_id, self.task_id, self.map_index, *more], ensure_ascii=False)
        return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()

    def __str__(self) -> str:
        place = f"[{self.map_index}]" if self.map_index >= 0 else ""
        return f"{self.dag_id}.{self.task_id}{place} of run {self.run_id}"
