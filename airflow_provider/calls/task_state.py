"""Airflow's task state (3.3): a second record of a task's calls, which survives a crash, a retry and a clear.

The store prevents second calls. If it is lost, emptied or replaced, Airflow still knows that there was a call.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

from airflow_provider.calls.task_record import KEPT_FOR
from voiceflow_worker import InvalidInputError

log = logging.getLogger(__name__)

KEY = "voiceflow_calls"


class AirflowTaskState:
    """The task state of one task instance; empty before Airflow 3.3."""

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._state = context.get("task_state_store")

    def load(self) -> Mapping[str, Any] | None:
        """The state that an earlier try saved, `{"job_id" or "batch_id", "store"}`; None if there is none."""
        if self._state is None:
            return None
        try:
            saved = self._state.get(KEY)
        except Exception:  # noqa: BLE001 - an unreadable state must not keep the store from being asked
            log.warning("Airflow's task state cannot be read; only the store is asked for earlier calls")
            return None
        return cast("Mapping[str, Any]", saved) if isinstance(saved, Mapping) else None

    def save(self, state: Mapping[str, str]) -> None:
        """Save the call or batch that this task instance has enqueued."""
        if self._state is None or self.load() == state:
            return
        try:
            self._state.set(KEY, dict(state), retention=KEPT_FOR)
        except Exception:  # noqa: BLE001 - the store prevents second calls; this is a second record
            log.warning("Airflow's task state cannot be written; only the store knows of %s", state)


def refuse_unknown_calls(saved: Mapping[str, Any] | None, *, store: str) -> None:
    """Raise InvalidInputError if Airflow has `saved` a call; for a store that does not know it."""
    if saved is None:
        return
    what = f"call {saved['job_id']}" if "job_id" in saved else f"batch {saved.get('batch_id')}"
    raise InvalidInputError(
        f"an earlier try of this task enqueued {what} in the store {saved.get('store')}, and the store {store} does "
        "not know it: it was emptied, restored from an older copy, or the connection now names another. Calling now "
        "could call a person twice, so nothing was sent. Bring that store back and clear this task; or, if your 8x8 "
        "account shows that nobody was called, run the DAG anew"
    )
