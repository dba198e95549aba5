"""The base class of the sensors."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, BaseSensorOperator, PokeReturnValue

from airflow_provider.operators.voice_task import VoiceTask
from airflow_provider.triggers.voice import safe_after

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class VoiceSensor(VoiceTask, BaseSensorOperator):
    """A sensor that looks at calls. It can poke, reschedule or defer."""

    def poke(self, context: Context) -> PokeReturnValue:
        """Look at the calls once."""
        raise NotImplementedError

    def _wait(self) -> None:
        """Defer the task."""
        raise NotImplementedError

    def execute(self, context: Context) -> Any:
        """Wait in this task, or in the triggerer."""
        if not self.deferrable:
            if self.reschedule:
                self.poke_interval = max(self.poke_interval, safe_after())
            return super().execute(context)
        self._begin_wait(timedelta(seconds=self.timeout))
        return self._poke_or_defer(context)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Look at the calls after the trigger fired, and defer again if the wait has not ended."""
        self._begin_wait(None, event)
        if event["status"] == "error":
            raise AirflowException(f"the wait for calls failed: {event['error']}")
        return self._poke_or_defer(context)

    def _poke_or_defer(self, context: Context) -> Any:
        found = self.poke(context)
        return found.xcom_value if found.is_done else self._wait()
