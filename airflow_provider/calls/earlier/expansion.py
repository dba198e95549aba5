"""The instances of a mapped task and their states, as Airflow reports them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider.calls.cancellation import REMOVED, cancel_calls, unsent_ids, unsent_to
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.task_record import load_record
from voiceflow_worker import CallQueue

log = logging.getLogger(__name__)

_NOT_CLEARED = frozenset(
    {"success", "failed", "skipped", "upstream_failed", "deferred", "up_for_reschedule", "up_for_retry"}
)
"""States of instances that have run. A cleared instance is in another state until it has run again."""

_MAYBE_CLEARED = frozenset({"failed", "skipped", "upstream_failed", "up_for_retry"})
"""States that an instance can also have after a clear without claiming calls, for example if the store is away."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """The states of a mapped task's instances by map index; None if Airflow did not report them."""

    states: Mapping[int, str | None] | None = None

    @classmethod
    def of(cls, context: Mapping[str, Any]) -> Expansion:
        """Return the expansion of the task in this context. Airflow is asked for the states only after a clear."""
        identity = TaskIdentity.of(context)
        if not identity.is_mapped or not identity.clear_number:
            return cls()
        try:
            return cls(_states(context))
        except Exception:
            log.warning(
                "Airflow does not report the other instances of task %s; calls of removed instances are not cancelled",
                identity,
                exc_info=True,
            )
            return cls()

    def has_run(self, index: int) -> bool:
        """Return whether an instance has run and was not cleared to run again. Such an instance keeps its call."""
        return self.states is not None and self.states.get(index) in _NOT_CLEARED

    def may_be_cleared(self, index: int) -> bool:
        """Return whether an instance that has run and has claimed no calls may have been cleared all the same."""
        return self.states is not None and self.states.get(index) in _MAYBE_CLEARED

    async def cancel_removed(self, queue: CallQueue, identity: TaskIdentity) -> int:
        """Cancel the unsent calls of the instances that Airflow has removed. Returns the number of cancelled calls."""
        unwanted: list[str] = []
        for index in [index for index, state in (self.states or {}).items() if state == "removed"]:
            removed = replace(identity, map_index=index)
            if (record := await load_record(queue, removed)) is not None:
                unwanted += await unsent_ids(queue, record.batches, removed)
                unwanted += [job.id for number in record.numbers for job in await unsent_to(queue, number, removed)]
        return len(await cancel_calls(queue, unwanted, reason=REMOVED))


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
