"""A witness beside the store: Airflow's task state (3.3), which survives a crash, a retry and a clear.

The store is what keeps a task from calling twice. One that was lost, emptied or exchanged would keep nothing, and
Airflow still knows that there was a call.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

from voiceflow_worker import InvalidInputError

log = logging.getLogger(__name__)

KEY = "voiceflow_calls"
KEPT_FOR = timedelta(days=400)
"""As long as a store keeps unique keys."""


class Witness:
    """Remembers in Airflow which call a task instance handed in; does nothing before Airflow 3.3."""

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._state = context.get("task_state_store")

    def recall(self) -> Mapping[str, Any] | None:
        """What an earlier try told: `{"job_id" or "batch_id", "store"}`; None for nothing."""
        if self._state is None:
            return None
        try:
            told = self._state.get(KEY)
        except Exception:  # noqa: BLE001 - an Airflow that cannot tell must not keep the store from telling
            log.warning("Airflow's task state could not be read; only the store is asked for earlier calls")
            return None
        return cast("Mapping[str, Any]", told) if isinstance(told, Mapping) else None

    def remember(self, told: Mapping[str, str]) -> None:
        """Tell Airflow which call this task instance has handed in."""
        if self._state is None or self.recall() == told:
            return
        try:
            self._state.set(KEY, dict(told), retention=KEPT_FOR)
        except Exception:  # noqa: BLE001 - the store is what keeps the promise; this is a second look
            log.warning("Airflow's task state could not be written; only the store remembers call %s", told)


def refuse_amnesia(told: Mapping[str, Any] | None, *, store: str) -> None:
    """Raise InvalidInputError: Airflow knows of a call that this store has never heard of."""
    if told is None:
        return
    what = f"call {told['job_id']}" if "job_id" in told else f"batch {told.get('batch_id')}"
    raise InvalidInputError(
        f"an earlier try of this task handed {what} to the store {told.get('store')}, and the store {store} does not "
        "know it: it was emptied, restored from an older copy, or the connection now names another. Calling now could "
        "call a person twice, so nothing was sent. Bring that store back and clear this task; or, once you know from "
        "your 8x8 account that nobody was called, run the DAG anew"
    )
