"""The notifier that phones people on call, one after another, until somebody presses a key to acknowledge."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier
from airflow.sdk.exceptions import AirflowException

from airflow_provider.calls.arguments import refuse_number, taking
from airflow_provider.calls.failures import as_airflow_errors
from airflow_provider.calls.identity import TaskIdentity, digest
from airflow_provider.calls.waiting import run, sending
from airflow_provider.hooks.voice import DEFAULT_CONNECTION, VoiceFlowHook
from voiceflow_worker.campaigns.reading import Of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from voiceflow_worker import Escalation
    from voiceflow_worker.types import Alert, EscalationStatus, Wording

log = logging.getLogger(__name__)


class VoiceCallNotifier(BaseNotifier):
    """A notifier that phones `numbers` in order, those of an inner list at once, until somebody presses `key`.

    It can be the `on_failure_callback`, or another callback, of tasks and DAGs, one of the `notifiers` of an
    `ApprovalOperator`, or the callback of a deadline: `DeadlineAlert(callback=AsyncCallback(VoiceCallNotifier,
    kwargs=…))`.

    Its arguments are the fields of an escalation, with their names and meanings. `policy` names a policy of the file in
    the setting `escalations` instead of numbers; what is given here overrides it. The next number is called when the
    call has ended without the key, or 90 s after `answer_within` (a duration, or seconds) at the latest. For one event
    (a failed try, a failed run, a missed deadline, a question that waits), the same people are called once, however
    often the callback runs. The instances of a mapped task that fail have one call together, which names them: it waits
    for `gather` (a timedelta, or seconds) after the first. `say` is a template of the text, by default a sentence that
    names the task or DAG and what happened to it, or the question. "Press 1 to acknowledge." is spoken after it.
    """

    template_fields: Sequence[str] = ("numbers", "say", "source", "voice_profile", "policy", "voiceflow_conn_id")

    fields_given: tuple[str, ...]
    numbers: Sequence[str | Sequence[str]] | str | None
    say: str | None
    source: str | None
    voice_profile: str | None
    policy: str | None
    answer_within: timedelta | float | str | None

    @taking(Of.ESCALATION)
    def __init__(
        self,
        *,
        gather: timedelta | float = timedelta(seconds=10),
        send: str = "here",
        voiceflow_conn_id: str = DEFAULT_CONNECTION,
        context: Context | None = None,
    ) -> None:
        super().__init__()
        if send not in {"here", "worker"}:
            raise ValueError(f"send={send!r}: use 'here' (the callback's process sends) or 'worker'")
        self.context = context or {}  # the context of `await notifier`
        self.gather = gather
        self.send = send
        self.voiceflow_conn_id = voiceflow_conn_id

    def notify(self, context: Context) -> None:
        """Call people until somebody acknowledges. Raises AirflowException if nobody does."""
        with as_airflow_errors("phone notification"):
            hook = VoiceFlowHook(self.voiceflow_conn_id)
            hook.settings()
            status = run(partial(self._called, hook, context))
        self._acknowledged(status)

    async def async_notify(self, context: Context) -> str:
        """Do the same as `notify`, on the event loop of the triggerer. Returns a sentence, which Airflow stores.

        Of a deadline's callback, Airflow stores only a text: any other value would end the triggerer.
        """
        with as_airflow_errors("phone notification"):
            hook = VoiceFlowHook(self.voiceflow_conn_id)
            await hook.asettings()
            status = await self._called(hook, context)
        return self._acknowledged(status)

    def _acknowledged(self, status: EscalationStatus) -> str:
        """Return a sentence of who acknowledged. Raises AirflowException if nobody did."""
        done = status.acknowledged
        if done is None:
            steps = "; ".join(f"{each.number} {each.message}" for each in status.steps)
            raise AirflowException(f"{status.in_words()} with key {status.escalation.key}: {steps}")
        return f"{done.who} acknowledged" + (f" in call {done.call_id}" if done.call_id is not None else "")

    async def _called(self, hook: VoiceFlowHook, context: Mapping[str, Any]) -> EscalationStatus:
        """Begin or carry on with the escalation of this occasion until it has ended. Read the hook's settings first."""
        from voiceflow_worker import Escalations  # not when DAGs are parsed
        from voiceflow_worker.types import Alarms, Alerts

        people = self.numbers or self.policy
        occasion, escalation = (*occasion_of(context), event_of(context), people), self._escalation(hook, context)
        async with hook.opened_queue() as queue:
            escalations = Escalations(queue)
            if (instance := instance_of(context)) is not None:
                alert, wording = self._instance(instance, context)
                key = f"airflow-alarm-{digest(*occasion, 'instances')[:40]}"
                within, told = _duration(self.gather), Alerts(firing={alert.mark: alert})
                heard = await Alarms(escalations).fire(told, escalation, wording=wording, key=key, within=within)
                status = heard.statuses[0]
            else:
                key = f"airflow-alarm-{digest(*occasion)[:40]}"
                # A second callback may have other texts, such as another time. The escalation of the first one is used.
                status = (await escalations.start(escalation, key=key, request=key)).status
            if status.is_open:
                async with sending(hook, queue, batch_id=status.batch_id) if self.send == "here" else nullcontext():
                    status = await escalations.wait(status.id)
        for each in status.steps:
            log.info("%s (call %s): %s", each.number, each.call_id, each.message)
        return status

    def _instance(self, name: str, context: Mapping[str, Any]) -> tuple[Alert, Wording]:
        """Return the failed instance of a mapped task, and how it is spoken of alone and with others."""
        from voiceflow_worker.types import Alert, Wording

        task = TaskIdentity.of(context)
        of_task = f"of the task {_spoken(task.task_id)} of the pipeline {_spoken(task.dag_id)}"
        said, what = self.say, happened(context)
        return Alert(mark=digest(*task.occasion())[:40], text=name), Wording(
            one=said or f"This is Airflow. Instance {{names}} {of_task} has {what}.",
            many=f"{said} {{count}} instances: {{names}}."
            if said
            else f"This is Airflow. {{count}} instances {of_task} have {what}: {{names}}.",
            between=", ",
        )

    def _escalation(self, hook: VoiceFlowHook, context: Mapping[str, Any]) -> Escalation:
        from voiceflow_worker import Escalation  # not when DAGs are parsed

        for name in self.template_fields:
            refuse_number(name, getattr(self, name))
        fields = {name: getattr(self, name) for name in self.fields_given}
        # The connection completes a template that renders to an empty text.
        fields |= {name: fields[name] or None for name in ("source", "voice_profile")}
        fields["say"] = self.say or announcement(context)
        if isinstance(self.answer_within, int | float):
            fields["answer_within"] = _duration(self.answer_within)
        return Escalation.of(fields, settings=hook.settings(), any_number=True)


def instance_of(context: Mapping[str, Any]) -> str | None:
    """Return the name of the failed instance of a mapped task, for people; None for all other occasions."""
    if occasion_of(context)[0] != "task" or not TaskIdentity.of(context).is_mapped:
        return None
    return str(getattr(context["ti"], "rendered_map_index", None) or context["ti"].map_index)


def occasion_of(context: Mapping[str, Any]) -> tuple[object, ...]:
    """Return the occasion of a call: a deadline, a run of a DAG, one try of a task instance, or its open question."""
    dag_run: Any = context.get("dag_run")
    if "deadline" in context:  # the deadline and the DAG run are plain mappings
        return ("deadline", dag_run["dag_id"], dag_run.get("dag_run_id"), context["deadline"].get("id"))
    ti = context.get("ti")
    if ti is None or "reason" in context:
        # A callback of a whole run: the context has an arbitrary task instance. A cleared run may fail again.
        dag_id = getattr(dag_run, "dag_id", None) or getattr(context.get("dag"), "dag_id", None)
        return ("run", dag_id, context.get("run_id"), getattr(dag_run, "clear_number", 0) or 0)
    task = TaskIdentity.of(context)
    # A task that asks people (`ApprovalOperator`) calls its notifiers before it waits; it may still fail after that.
    kind = "task" if waiting_subject(context) is None else "question"
    # The instances of a mapped task fail together.
    return (kind, task.dag_id, *task.occasion(together=kind == "task"), getattr(ti, "try_number", 0))


def event_of(context: Mapping[str, Any]) -> str:
    """Return what happened to the task or run of this context, as the name of the state that it has come into."""
    if "reason" in context:
        return "success" if context["reason"] == "success" else "failed"
    ti = context.get("ti")
    if (state := getattr(ti, "state", None)) is not None:
        return str(getattr(state, "value", state))
    # A process was killed, so the DAG processor calls, and knows no state.
    is_tried_again = getattr(ti, "try_number", 0) <= (getattr(ti, "max_tries", 0) or 0)
    return "up_for_retry" if ti is not None and is_tried_again else "failed"


_HAPPENED = {"success": "succeeded", "running": "started", "up_for_retry": "failed, and will be tried again"}


def happened(context: Mapping[str, Any]) -> str:
    """Return what has happened to the task or run of this context, as the end of a spoken sentence after "has"."""
    return _HAPPENED.get(event_of(context), "failed")


def waiting_subject(context: Mapping[str, Any]) -> str | None:
    """Return the subject of the question for which the task of this context waits; None if it is no such task."""
    task, state = context.get("task"), getattr(context.get("ti"), "state", None)
    subject = getattr(task, "subject", None)
    has_ended = context.get("exception") is not None or state not in {None, "running"}
    return str(subject) if subject and hasattr(task, "notifiers") and not has_ended else None


def announcement(context: Mapping[str, Any]) -> str:
    """Return a spoken sentence about the occasion: it names the DAG, task or question, but no run or time."""
    kind, dag_id, *_ = occasion_of(context)
    dag = _spoken(dag_id)
    match kind:
        case "deadline":
            return f"This is Airflow. The pipeline {dag} has missed its deadline."
        case "run":
            return f"This is Airflow. The pipeline {dag} has {happened(context)}."
        case "question":
            return f"This is Airflow. The pipeline {dag} waits for an answer: {waiting_subject(context)}"
        case _:
            task = _spoken(context["ti"].task_id)
            return f"This is Airflow. The task {task} of the pipeline {dag} has {happened(context)}."


def _spoken(name: object) -> str:
    return str(name or "").replace("_", " ").replace(".", " ").replace("-", " ").strip() or "without a name"


def _duration(given: timedelta | float) -> timedelta:
    return given if isinstance(given, timedelta) else timedelta(seconds=given)
