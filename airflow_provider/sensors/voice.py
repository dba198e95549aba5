"""The sensor that waits for calls of other tasks or programs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, cast

from airflow.sdk import BaseSensorOperator, Context, PokeReturnValue, conf

from airflow_provider.calls.tasks import as_airflow_errors, checked_fail_on, judge
from airflow_provider.calls.waiting import WaitedCalls
from airflow_provider.hooks.voice import DEFAULT_CONNECTION, VoiceFlowHook
from airflow_provider.triggers.voice import VoiceOutcomeTrigger, safe_after
from voiceflow_worker import JobState, call_as_json


class VoiceOutcomeSensor(BaseSensorOperator):
    """A sensor that waits until calls have ended: one (`job_id`), several (`job_ids`), or a batch (`batch_id`).

    Ids are texts, or the output of the task that made the calls. Final states and answers in `fail_on` fail the task
    without a retry. The result is the call as JSON, a list of them, or the report of the batch.
    """

    template_fields: Sequence[str] = ("job_id", "job_ids", "batch_id", "voiceflow_conn_id")

    def __init__(
        self,
        *,
        job_id: Any = None,
        job_ids: Any = None,
        batch_id: str | None = None,
        fail_on: Iterable[str] = ("failed", "expired"),
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        voiceflow_conn_id: str = DEFAULT_CONNECTION,
        poke_interval: timedelta | float = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        if [job_id, job_ids, batch_id].count(None) != 2:
            raise ValueError("give the sensor exactly one of job_id, job_ids and batch_id")
        self.job_id = job_id
        self.job_ids = job_ids
        self.batch_id = batch_id
        self.fail_on = checked_fail_on(fail_on, answers=None)
        self.deferrable = deferrable
        self.voiceflow_conn_id = voiceflow_conn_id

    def execute(self, context: Context) -> Any:  # noqa: RET503 - `defer` raises
        """Wait in this task, or in the triggerer."""
        if self.reschedule:
            self.poke_interval = max(self.poke_interval, safe_after())
        if not self.deferrable:
            return super().execute(context)
        trigger = VoiceOutcomeTrigger(self._calls, self.voiceflow_conn_id, every=self.poke_interval)
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timedelta(seconds=self.timeout))

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:  # noqa: ARG002 (Airflow gives it)
        """Judge the calls after the trigger has fired."""
        return self.poke(context).xcom_value

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002 (Airflow gives it)
        """Look at the calls once. Raises AirflowFailException and, for a doubt, AirflowException."""
        with as_airflow_errors(f"sensor {self.task_id}"):
            hook = VoiceFlowHook(self.voiceflow_conn_id)
            hook.settings()
            return asyncio.run(self._look(hook))

    async def _look(self, hook: VoiceFlowHook) -> PokeReturnValue:
        queue = await hook.get_queue()
        status = await self._calls.status(queue)
        self.log.info("%s: %s", self._calls, status)
        if not status.is_over:
            return PokeReturnValue(is_done=False)
        jobs = status.jobs
        result: Any = [call_as_json(job) for job in jobs]
        if self.batch_id is not None:
            ends = [state for state in JobState if state.is_final or state is JobState.IN_DOUBT]
            jobs = await queue.find(states=ends, batch_id=self.batch_id, limit=None)
            result = (await queue.report(self.batch_id)).as_json()
        judge(jobs, fail_on=self.fail_on, store=queue.store.url)
        return PokeReturnValue(is_done=True, xcom_value=result if self.job_id is None else result[0])

    @property
    def _calls(self) -> WaitedCalls:
        given: Iterable[Any] = () if self.batch_id else [self.job_id] if self.job_ids is None else self.job_ids
        ids = [str(cast("Mapping[str, Any]", each)["id"] if isinstance(each, Mapping) else each) for each in given]
        return WaitedCalls(job_ids=ids, batch_id=self.batch_id)
