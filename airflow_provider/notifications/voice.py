"""The notifier that starts an escalation: people on call are phoned one after another until somebody acknowledges."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier

from airflow_provider.calls.arguments import with_fields
from airflow_provider.calls.failures import as_airflow_errors
from airflow_provider.calls.keys import digest
from airflow_provider.hooks.voice import DEFAULT_CONNECTION, VoiceFlowHook
from voiceflow_worker.campaigns.reading import Of

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

_HAPPENED = {"success": "succeeded", "running": "started", "up_for_retry": "failed, and will be tried again"}


class VoiceCallNotifier(BaseNotifier):
    """A notifier that starts an escalation, and returns; a `voiceflow worker` makes its calls.

    It can be a callback of tasks and DAGs, one of the `notifiers` of an `ApprovalOperator`, or the callback of a
    deadline. Its arguments are the fields of an escalation; `every` may be seconds. `say` is a template, by
    default a sentence that names the task or DAG and what happened. For one occasion (the end of a try, of all
    instances of a mapped task, of a run, or a missed deadline), the same people are called once.
    """

    template_fields: Sequence[str] = ("numbers", "say", "source", "voice_profile", "policy", "voiceflow_conn_id")
    field_names: tuple[str, ...]
    numbers: Any
    say: str | None
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
            hook, occasion = VoiceFlowHook(self.voiceflow_conn_id), occasion_of(context)
            fields = {name: getattr(self, name) or None for name in self.field_names}
            fields["say"] = self.say or announcement(*occasion)
            if isinstance(within := fields.get("every"), int | float):
                fields["every"] = timedelta(seconds=within)
            escalation = Escalation.of(fields, settings=await hook.asettings())
            batch = f"oncall-{digest(*occasion, self.numbers or self.policy)[:24]}"
            async with hook.opened_queue() as queue:
                # A second callback may have another text, such as another time: that of the first one counts.
                is_new = await start_escalation(queue, escalation, name=batch)
            return f"escalation {batch} was {'started' if is_new else 'started before'}"


def occasion_of(context: Mapping[str, Any]) -> tuple[object, ...]:
    """Return the DAG, the task if one ended, what happened, and what tells this occasion from others."""
    dag_run: Any = context.get("dag_run")
    ti, reason = context.get("ti"), context.get("reason")
    if "deadline" in context:  # the deadline and the DAG run are plain mappings
        return dag_run["dag_id"], None, "missed its deadline", context["deadline"].get("id")
    if ti is None or reason is not None:
        # A callback of a whole run: the context has an arbitrary task instance. A cleared run may fail again.
        happened = "succeeded" if reason == "success" else "failed"
        return dag_run.dag_id, None, happened, dag_run.run_id, getattr(dag_run, "clear_number", 0)
    # If a process was killed, the DAG processor calls, and knows no state.
    is_tried_again = ti.try_number <= (getattr(ti, "max_tries", 0) or 0)
    state = getattr(ti, "state", None) or ("up_for_retry" if is_tried_again else "failed")
    happened = _HAPPENED.get(str(getattr(state, "value", state)), "failed")
    return ti.dag_id, ti.task_id, happened, ti.run_id, ti.try_number


def announcement(dag_id: object, task_id: object, happened: object, *_: object) -> str:
    """Return a spoken sentence about an occasion: it names the DAG or task, but no run or time."""
    subject = f"pipeline {dag_id}" if task_id is None else f"task {task_id} of the pipeline {dag_id}"
    return f"This is Airflow. The {subject.translate(str.maketrans('_.-', '   '))} has {happened}."
