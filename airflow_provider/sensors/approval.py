"""The sensor that asks a person by telephone and waits for a key press."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import PokeReturnValue
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from airflow_provider.calls.arguments import taking
from airflow_provider.calls.event_loop import run
from airflow_provider.calls.failures import as_airflow_errors, doubt, ending, never_rang, refuse_none
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.made_calls import refuse_cancelled
from airflow_provider.calls.single_call import RequestedCall
from airflow_provider.calls.waiting.status import WaitedCalls, is_settled
from airflow_provider.operators.voice_task import OneCallTask
from airflow_provider.sensors.outcome import VoiceSensor
from voiceflow_worker import InvalidInputError, Job, JobState
from voiceflow_worker.campaigns.reading import Of

if TYPE_CHECKING:
    from airflow.sdk import Context

MENU = "approval"
"""The built-in menu for approvals. `voiceflow serve` answers its key presses."""
CHOICES = {"1": "approved", "2": "rejected"}
_WAYS = ("fail", "skip", "return")


class IvrApprovalSensor(OneCallTask, VoiceSensor):
    """A sensor that calls a person once, asks `question`, and returns the key that the person presses, such as "1".

    `choices` gives each key a meaning. They are read out after the question, so it names no keys. `how` replaces the
    sentence with the keys; give an empty text if the question names them. After a key in
    `approve`, the DAG goes on. After another key, `on_reject` decides: "fail", "skip", or "return" (the key, for a
    branch). If nobody answers or presses a key, `on_silence` decides: "fail", "skip", or "return" (None).

    `voiceflow serve` stores the key, so Airflow needs no webhook, and the telephone system needs no credentials of
    Airflow. `send`, `valid_for`, `window`, `on_clear` and other options work as in `VoiceCallOperator`.
    """

    template_fields: Sequence[str] = (
        "destination",
        "question",
        "how",
        "source",
        "voice_profile",
        "unique_key",
        "valid_until",
        "not_before",
        "time_zone",
        "window_time_zone",
        "voiceflow_conn_id",
    )

    @taking(
        Of.CALL,
        without=("to", "say", "flow", "ivr", "menu", "language", "data", "country"),
        valid_for=timedelta(hours=1),
    )
    def __init__(
        self,
        *,
        destination: str,
        question: str,
        choices: Mapping[str, str] | None = None,
        how: str | None = None,
        approve: Sequence[str] = ("1",),
        on_reject: str = "fail",
        on_silence: str = "fail",
        poke_interval: timedelta | float = 5.0,
        **kwargs: Any,
    ) -> None:
        # Each run asks its question.
        super().__init__(again=True, poke_interval=poke_interval, **kwargs)
        self.destination = destination
        self.question = question
        self.choices = dict(choices or CHOICES)
        self.how = how
        self.approve = tuple(approve)
        if unknown := [key for key in self.approve if key not in self.choices]:
            raise ValueError(f"approve has {unknown}, but the keys of the choices are {list(self.choices)}")
        for name, way in (("on_reject", on_reject), ("on_silence", on_silence)):
            if way not in _WAYS:
                raise ValueError(f"{name}={way!r}: use 'fail', 'skip' or 'return'")
        self.on_reject = on_reject
        self.on_silence = on_silence

    def poke(self, context: Context) -> PokeReturnValue:
        """Enqueue the call if there is none, send it if it is due, and look for a key press."""
        with as_airflow_errors(f"task {TaskIdentity.of(context)}"):
            job_id = self._job_id or self._enqueue(context).id
            waited = WaitedCalls(self._options, job_ids=[job_id])
            calls = self._task_calls(context, waited, every=self.poke_interval)
            run(calls.send)
            (job,) = run(calls.look).jobs
            return self._judged(job)

    def _requested(self, context: Context) -> RequestedCall:
        from voiceflow_worker.ivr import approval_call, approval_data

        settings = self.hook.settings()
        if not self.question:
            raise InvalidInputError("question is missing: a template that renders to None counts as not given")
        refuse_none("question", self.question)
        refuse_none("how", self.how)
        source, voice = self.source or settings.source, self.voice_profile or settings.voice_profile
        if not source or not voice:
            raise InvalidInputError("source and voice_profile are needed: give them as arguments or in the connection")
        asked: dict[str, Any] = {"voice_profile": voice, "choices": self.choices, "how": self.how}
        flow = approval_call(self.destination, source=source, question=self.question, **asked)
        data = approval_data(self.question, approve=self.approve, **asked)
        return self._call(context, flow=flow.to_body(), menu=MENU, data=data)

    def _judged(self, job: Job) -> PokeReturnValue:
        refuse_cancelled(job)
        key = pressed(job, self.choices)
        if key in self.approve:
            self.log.info("%s pressed %s (%s) in call %s", job.destination, key, self.choices[key], job.id)
            return PokeReturnValue(is_done=True, xcom_value=key)
        if key is not None:
            said = f"{job.destination} pressed {key} ({self.choices[key]}) in call {job.id}."
            return self._ended(self.on_reject, said, result=key)
        if not is_settled(job, self._options, now=datetime.now(UTC)):
            return PokeReturnValue(is_done=False)
        store = self.hook.store_url()
        if job.state is JobState.IN_DOUBT:
            raise AirflowException(doubt(job, store=store))
        if never_rang(job):
            raise AirflowFailException(ending(job, store=store))
        return self._ended(self.on_silence, f"nobody pressed a key: {ending(job, store=store)}", result=None)

    def _ended(self, way: str, said: str, *, result: str | None) -> PokeReturnValue:
        self.log.info(said)
        if way == "skip":
            raise AirflowSkipException(said)
        if way == "fail":
            raise AirflowFailException(said)
        return PokeReturnValue(is_done=True, xcom_value=result)

    def _wait(self) -> None:
        self._defer(
            job_ids=[str(self._job_id)],
            every=self.poke_interval,
            cancel_on_kill=self.cancel_on_kill,
        )


def pressed(job: Job, choices: Mapping[str, str]) -> str | None:
    """Return the last key that was pressed in this call, or None if it is not one of the choices."""
    last = (job.digits or "").rpartition(",")[2]
    return last if last in choices else None
