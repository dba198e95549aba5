"""The notifier that starts an escalation: people on call are phoned one after another until somebody acknowledges."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk import BaseNotifier, Context
from anyio import to_thread

from airflow_provider.calls.tasks import as_airflow_errors, digest, with_fields
from airflow_provider.hooks.voice import DEFAULT_CONNECTION, VoiceFlowHook
from voiceflow_worker.campaigns.reading import Of

log = logging.getLogger(__name__)


class VoiceCallNotifier(BaseNotifier):
    """A notifier that starts an escalation, and returns; a `voiceflow worker` makes its calls.

    It can be a callback of tasks and DAGs, one of the `notifiers` of an `ApprovalOperator`, or the callback of a
    deadline. Its arguments are the fields of an escalation; `say` is a template. For one occasion (the end of a try, of
    all instances of a mapped task, of a run, or a missed deadline), the same people are called once.
    """

    template_fields: Sequence[str] = ("numbers", "say", "source", "voice_profile", "policy", "voiceflow_conn_id")
    field_names: tuple[str, ...]
    numbers: Any
    policy: str | None

    @with_fields(Of.ESCALATION)
    def __init__(self, *, voiceflow_conn_id: str = DEFAULT_CONNECTION, context: Context | None = None) -> None:
        super().__init__()
        self.context = context or {}  # the context of `await notifier`
        self.voiceflow_conn_id = voiceflow_conn_id

    def notify(self, context: Context) -> None:
        """Start the escalation of this occasion. Raises AirflowException."""
        log.info("%s", asyncio.run(self.async_notify(context)))

    async def async_notify(self, context: Context) -> str:
        """Do the same as `notify`. Returns a sentence: of a deadline's callback, Airflow can store only a text."""
        from voiceflow_worker import Escalation, start_escalation  # not when DAGs are parsed

        with as_airflow_errors("phone notification"):
            hook = VoiceFlowHook(self.voiceflow_conn_id)
            settings = await to_thread.run_sync(hook.settings)
            escalation = Escalation.of(
                {name: getattr(self, name) or None for name in self.field_names}, settings=settings
            )
            batch = f"oncall-{digest(*occasion_of(context), self.numbers or self.policy)[:24]}"
            # A second callback may have another text, such as another time: that of the first one counts.
            is_new = await start_escalation(await hook.get_queue(), escalation, name=batch)
            return f"escalation {batch} was {'started' if is_new else 'started before'}"


def occasion_of(context: Mapping[str, Any]) -> tuple[object, ...]:
    """Return the identity of the occasion of this context: its DAG and run, or its try of a task."""
    dag_run, reason = context.get("dag_run"), context.get("reason")
    if "deadline" in context:  # the deadline and the DAG run are plain mappings
        return "deadline", context["deadline"].get("id")
    if dag_run is not None and (reason is not None or "ti" not in context):
        # A callback of a whole run: the context has an arbitrary task instance. A cleared run may fail again.
        return dag_run.dag_id, dag_run.run_id, reason == "success", dag_run.clear_number
    ti = context["ti"]
    begins = str(getattr(ti, "state", None)) == "running"
    return ti.dag_id, ti.run_id, ti.task_id, ti.try_number, begins
