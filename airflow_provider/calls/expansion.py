"""The instances of a mapped task, as Airflow reports them to one of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.memory import recall
from airflow_provider.calls.taken_back import REMOVED, cancel_calls, unsent_calls
from voiceflow_worker import CallQueue, Job, JobState

log = logging.getLogger(__name__)

_NOT_CLEARED = frozenset(
    {"success", "failed", "skipped", "upstream_failed", "deferred", "up_for_reschedule", "up_for_retry"}
)
"""States of instances that have run. One that was cleared passes through others first, and claims its call in them."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """The states of the instances by map index; None where nothing is known of them."""

    states: Mapping[int, str | None] | None = None

    @classmethod
    def of(cls, context: Mapping[str, Any]) -> Expansion:
        """The expansion of the task that runs in this context; before the first clear nothing is asked."""
        identity = TaskIdentity.of(context)
        if not identity.is_mapped or not identity.clear_number:
            return cls()
        try:
            return cls(_states(context))
        except Exception:
            log.warning("Airflow does not give the states of the other instances of task %s", identity, exc_info=True)
            return cls()

    def has_removed(self, index: int) -> bool:
        """Whether the task no longer has this instance, for it was expanded over fewer items."""
        return self.states is not None and self.states.get(index, "removed") == "removed"

    def has_run(self, index: int) -> bool:
        """Whether this instance ran before the clear and was not cleared: it keeps the call that it made."""
        return self.states is not None and self.states.get(index) in _NOT_CLEARED

    async def take_back_removed(self, queue: CallQueue, identity: TaskIdentity) -> int:
        """Cancel the unsent calls of the instances that were removed; returns how many."""
        unwanted: list[str] = []
        for index in [each for each in self.states or () if self.has_removed(each)]:
            removed = replace(identity, map_index=index)
            if (memory := await recall(queue, removed)) is None:
                continue
            unwanted += await unsent_calls(queue, memory.batches, removed)
            for number in memory.numbers:
                unwanted += [job.id for job in await unsent_to(queue, number, removed)]
        return len(await cancel_calls(queue, unwanted, reason=REMOVED))


async def unsent_to(queue: CallQueue, number: str, identity: TaskIdentity) -> list[Job]:
    """The calls of a task instance to this number that have not been sent."""
    found = await queue.find(states=[JobState.QUEUED, JobState.LEASED], destination=number, limit=None)
    return [job for job in found if identity.owns(job.data)]


def _states(context: Mapping[str, Any]) -> dict[int, str | None] | None:
    ti: Any = context["ti"]
    dag_run: Any = context.get("dag_run")
    if hasattr(ti, "get_task_states"):  # Airflow 3
        states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id])
        mapped = f"{ti.task_id}_"
        return {
            int(name.removeprefix(mapped)): state
            for name, state in states.get(ti.run_id, {}).items()
            if name.startswith(mapped)
        }
    if hasattr(dag_run, "get_task_instances"):  # Airflow 2
        return {each.map_index: each.state for each in dag_run.get_task_instances() if each.task_id == ti.task_id}
    return None
