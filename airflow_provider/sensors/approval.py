"""The sensor that asks a person by telephone and waits for a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider.calls.cancellation import refuse_cancelled
from airflow_provider.calls.event_loop import run, run_in_thread
from airflow_provider.calls.failures import as_airflow_errors, doubt, ending, never_rang
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.single.enqueueing import OnClear
from airflow_provider.calls.single.request import RequestedCall
from airflow_provider.calls.single.task_call import TaskCall
from airflow_provider.calls.waiting.polling import StopFlag
from airflow_provider.calls.waiting.status import WaitOptions, WaitStatus, status_of
from airflow_provider.hooks.voice import DEFAULT_CONNECTION, VoiceFlowHook
from airflow_provider.links.voice import VoiceCallLink, store_link
from airflow_provider.triggers.outcome import safe_after
from airflow_provider.triggers.voice import VoiceOutcomeTrigger
from voiceflow_worker import InvalidInputError, Job

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from voiceflow_worker import Settings

MENU = "approval"
"""The menu that ships with the library; `voiceflow serve` answers its key presses."""
CHOICES = {"1": "approved", "2": "rejected"}
_WAYS = ("fail", "skip", "return")


class IvrApprovalSensor(BaseSensorOperator):
    """A sensor that calls a person once, asks `question`, and waits for a key. The result is that key, such as "1".

    `choices` names the meanings of the keys, and is read out after a question that names no key. With a key in
    `approve` the DAG goes on. For another key `on_reject` decides: "fail", "skip", or "return" (the key, for a branch).
    If nobody answers or presses a key, `on_silence` decides: "fail", "skip", or "return" (None).

    `voiceflow serve` stores the answer: Airflow needs no webhook, and the telephone system has no credentials
    of Airflow. `send`, `valid_for`, `on_clear`, … as in `VoiceCallOperator`.
    """

    template_fields: Sequence[str] = ("destination", "question", "source", "voice_profile", "voiceflow_conn_id")
    operator_extra_links = (VoiceCallLink(),)
    ui_color = "#e8f3ee"

    def __init__(
        self,
        *,
        destination: str,
        question: str,
        choices: Mapping[str, str] | None = None,
        approve: Sequence[str] = ("1",),
        on_reject: str = "fail",
        on_silence: str = "fail",
        voice_profile: str | None = None,
        source: str | None = None,
        valid_for: timedelta | None = timedelta(hours=1),
        send: str = "here",
        doubt_patience: timedelta = timedelta(minutes=15),
        on_clear: str = "same_call",
        poke_interval: timedelta | float = 5.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        cancel_on_kill: bool = True,
        voiceflow_conn_id: str = DEFAULT_CONNECTION,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.destination = destination
        self.question = question
        self.choices = dict(choices or CHOICES)
        self.approve = tuple(approve)
        if unknown := [key for key in self.approve if key not in self.choices]:
            raise ValueError(f"approve has {unknown}, which are not keys of the choices {list(self.choices)}")
        for name, way in (("on_reject", on_reject), ("on_silence", on_silence)):
            if way not in _WAYS:
                raise ValueError(f"{name}={way!r}: use 'fail', 'skip' or 'return'")
        self.on_reject = on_reject
        self.on_silence = on_silence
        self.voice_profile = voice_profile
        self.source = source
        self.valid_for = valid_for
        self.send = send
        self.doubt_patience = doubt_patience
        self.on_clear = OnClear(on_clear).value
        self.deferrable = deferrable
        self.cancel_on_kill = cancel_on_kill
        self.voiceflow_conn_id = voiceflow_conn_id
        self._options = WaitOptions.of(wait_for="outcome", send=send, patience=doubt_patience)
        self._stop = StopFlag()
        self._job_id: str | None = None

    @cached_property
    def hook(self) -> VoiceFlowHook:
        """The connection."""
        return VoiceFlowHook(self.voiceflow_conn_id)

    def poke(self, context: Context) -> PokeReturnValue:
        """Enqueue the call if there is none, send it if it is due, and look for a key."""
        with as_airflow_errors(f"task {TaskIdentity.of(context)}"):
            job_id = self._job_id or self._enqueue(context)
            run(partial(self._call.send, job_id))
            return self._judged(run(partial(self._call.look, job_id)))

    def execute(self, context: Context) -> Any:
        """Wait in this task, or in the triggerer."""
        if not self.deferrable:
            if self.reschedule:
                self.poke_interval = max(self.poke_interval, safe_after())
            return super().execute(context)
        return self._poke_or_defer(context)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Go on after the trigger fired."""
        if event["status"] == "error":
            raise AirflowException(f"waiting for the answer: {event['error']}")
        return self._poke_or_defer(context)

    def on_kill(self) -> None:
        """Cancel the call if it has not been sent."""
        self._stop.set()
        if self.cancel_on_kill and self._job_id is not None:
            try:
                run_in_thread(partial(self._call.cancel, self._job_id), seconds=15)
            except Exception:
                self.log.exception("call %s could not be cancelled; it may still be made", self._job_id)

    @property
    def _call(self) -> TaskCall:
        return TaskCall(hook=self.hook, options=self._options, every=self.poke_interval, limit=None, stop=self._stop)

    def _enqueue(self, context: Context) -> str:
        job = self._call.enqueue(
            context, self._requested, executor=getattr(self, "executor", None), on_clear=self.on_clear
        )
        self._job_id = job.id
        if self._stop.is_set:  # while the call was enqueued, and could not be cancelled yet
            self.on_kill()
        self._stop.check()
        store_link(context, ui_url=self.hook.ui_url(), job_id=job.id)
        return job.id

    def _requested(self, settings: Settings, identity: TaskIdentity) -> RequestedCall:
        from voiceflow_worker import approval_call, approval_data

        source, voice = self.source or settings.source, self.voice_profile or settings.voice_profile
        if not source or not voice:
            raise InvalidInputError("source and voice_profile are needed: give them here or in the connection")
        return RequestedCall(
            flow=approval_call(
                self.destination, source=source, question=self.question, voice_profile=voice, choices=self.choices
            ),
            batch_id=identity.batch_id(),
            valid_for=self.valid_for,
            menu=MENU,
            data=approval_data(self.question, voice_profile=voice, choices=self.choices),
        )

    def _judged(self, job: Job) -> PokeReturnValue:
        refuse_cancelled(job)
        key = pressed(job, self.choices)
        if key in self.approve:
            return PokeReturnValue(is_done=True, xcom_value=key)
        if key is not None:
            said = f"{job.destination} pressed {key} ({self.choices[key]}) in call {job.id}."
            return self._ended(self.on_reject, said, result=key)
        store = self.hook.store_url()
        match status_of(job, self._options, now=datetime.now(UTC)):
            case WaitStatus.DOUBTFUL:
                raise AirflowException(doubt(job, store=store))
            case WaitStatus.OVER if never_rang(job):
                raise AirflowFailException(ending(job, store=store))
            case WaitStatus.OVER:
                return self._ended(self.on_silence, f"nobody pressed a key: {ending(job, store=store)}", result=None)
            case _:
                return PokeReturnValue(is_done=False)

    def _ended(self, way: str, said: str, *, result: str | None) -> PokeReturnValue:
        self.log.info(said)
        if way == "skip":
            raise AirflowSkipException(said)
        if way == "fail":
            raise AirflowFailException(said)
        return PokeReturnValue(is_done=True, xcom_value=result)

    def _poke_or_defer(self, context: Context) -> Any:
        found = self.poke(context)
        if found.is_done:
            return found.xcom_value
        self.defer(
            trigger=VoiceOutcomeTrigger(
                voiceflow_conn_id=self.voiceflow_conn_id,
                job_ids=[str(self._job_id)],
                sends=self._options.sends,
                doubt_patience=self.doubt_patience.total_seconds(),
                poll_interval=self.poke_interval,
                cancel_on_kill=self.cancel_on_kill,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout),
        )
        return None  # pragma: no cover - defer raises


def pressed(job: Job, choices: Mapping[str, str]) -> str | None:
    """The last key that was pressed in this call, if it is one of the choices."""
    last = (job.digits or "").rpartition(",")[2]
    return last if last in choices else None
