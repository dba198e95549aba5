"""The notifier that phones people on call, one after another, until somebody presses a key to acknowledge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, BaseNotifier

from airflow_provider.calls.event_loop import run
from airflow_provider.calls.failures import as_airflow_errors
from airflow_provider.hooks.voice import DEFAULT_CONNECTION, VoiceFlowHook
from airflow_provider.notifications.escalation import Escalation, escalate, occasion_of, waiting_subject
from voiceflow_worker import InvalidInputError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class VoiceCallNotifier(BaseNotifier):
    """A notifier that phones `numbers` in order until somebody presses `acknowledge_key`.

    It can be the `on_failure_callback` of tasks and DAGs, one of the `notifiers` of an `ApprovalOperator`, or the
    callback of a deadline (Airflow 3): `DeadlineAlert(callback=AsyncCallback(VoiceCallNotifier, kwargs=…))`.

    A person is called within `answer_within` (a timedelta, or seconds), or not at all. The next number is called when
    the call has ended without the key, or 90 s after `answer_within` at the latest. For one event (a failed try, a
    failed run, a missed deadline, a question that waits), each number is called once, even if the callback runs again.
    `say` is a template of the text, by default a sentence that names the failed task or DAG, or the question. "Press 1
    to acknowledge." is spoken after it.
    """

    template_fields: Sequence[str] = ("numbers", "say", "source", "voice_profile", "voiceflow_conn_id")

    def __init__(
        self,
        *,
        numbers: Sequence[str] | str,
        say: str | None = None,
        acknowledge_key: str = "1",
        answer_within: timedelta | float = timedelta(minutes=2),
        source: str | None = None,
        voice_profile: str | None = None,
        send: str = "here",
        voiceflow_conn_id: str = DEFAULT_CONNECTION,
        context: Context | None = None,
    ) -> None:
        super().__init__()
        if send not in {"here", "worker"}:
            raise ValueError(f"send={send!r}: use 'here' (the callback's process sends) or 'worker'")
        self.context = context or {}  # the context of `await notifier` (Airflow 3)
        self.numbers = numbers
        self.say = say
        self.acknowledge_key = acknowledge_key
        self.answer_within = answer_within
        self.source = source
        self.voice_profile = voice_profile
        self.send = send
        self.voiceflow_conn_id = voiceflow_conn_id

    def notify(self, context: Context) -> None:
        """Call people until somebody acknowledges. Raises AirflowException if nobody does."""
        with as_airflow_errors("phone notification"):
            hook = VoiceFlowHook(self.voiceflow_conn_id)
            hook.settings()
            result = run(partial(escalate, hook, self._escalation(hook, context)))
        self._require_acknowledged(result)

    async def async_notify(self, context: Context) -> str:
        """Do the same as `notify`, on the event loop of the triggerer. Returns a sentence, which Airflow stores.

        Of a deadline's callback, Airflow stores only a text: any other value would end the triggerer.
        """
        with as_airflow_errors("phone notification"):
            hook = VoiceFlowHook(self.voiceflow_conn_id)
            await hook.asettings()
            result = await escalate(hook, self._escalation(hook, context))
        self._require_acknowledged(result)
        return f"{result['acknowledged_by']} acknowledged in call {result['job_ids'][-1]}"

    def _require_acknowledged(self, result: Mapping[str, Any]) -> None:
        if result["acknowledged_by"] is None:
            raise AirflowException(
                f"none of {', '.join(_listed(self.numbers))} acknowledged with key {self.acknowledge_key}; "
                f"their calls: {', '.join(result['job_ids']) or 'none could be made'}"
            )

    def _escalation(self, hook: VoiceFlowHook, context: Mapping[str, Any]) -> Escalation:
        settings = hook.settings()
        source, voice = self.source or settings.source, self.voice_profile or settings.voice_profile
        if not source or not voice:
            raise InvalidInputError("source and voice_profile are needed: give them as arguments or in the connection")
        within = self.answer_within
        return Escalation(
            occasion=occasion_of(context),
            numbers=_listed(self.numbers),
            question=self.say or announcement(context),
            source=source,
            voice_profile=voice,
            key=self.acknowledge_key,
            answer_within=within if isinstance(within, timedelta) else timedelta(seconds=within),
            send_here=self.send == "here",
        )


def announcement(context: Mapping[str, Any]) -> str:
    """Return a spoken sentence about the occasion: it names the DAG, task or question, but no run or time."""
    kind, dag_id, *_ = occasion_of(context)
    dag = _spoken(dag_id)
    match kind:
        case "deadline":
            return f"This is Airflow. The pipeline {dag} has missed its deadline."
        case "run":
            return f"This is Airflow. The pipeline {dag} has failed."
        case "question":
            return f"This is Airflow. The pipeline {dag} waits for an answer: {waiting_subject(context)}"
        case _:
            ti = context.get("ti") or context.get("task_instance")
            return f"This is Airflow. The task {_spoken(getattr(ti, 'task_id', ''))} of the pipeline {dag} has failed."


def _spoken(name: object) -> str:
    return str(name or "").replace("_", " ").replace(".", " ").replace("-", " ").strip() or "without a name"


def _listed(numbers: Sequence[str] | str) -> list[str]:
    given = numbers.split(",") if isinstance(numbers, str) else numbers
    return [str(number).strip() for number in given if str(number).strip()]
