"""Sensors: one waits for calls of other tasks or programs, one asks a person by telephone and waits for a key press."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from airflow.sdk import BaseOperator, BaseSensorOperator, PokeReturnValue
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferralTimeout,
)

from airflow_provider.calls.arguments import refuse_none, taking
from airflow_provider.calls.enqueueing import RequestedCall
from airflow_provider.calls.failures import checked_fail_on, doubt, ended, ending, judge, never_rang
from airflow_provider.calls.waiting import Goal, WaitLog, run
from airflow_provider.operators.call import OneCallTask, call_result
from airflow_provider.operators.voice_task import VoiceTask
from airflow_provider.triggers.voice import safe_after
from voiceflow_worker import InvalidInputError, Job, JobState
from voiceflow_worker.campaigns.reading import Of

if TYPE_CHECKING:
    from airflow.sdk import Context

MENU = "approval"
"""The built-in menu for approvals. `voiceflow serve` answers its key presses."""
CHOICES = {"1": "approved", "2": "rejected"}
_WAYS = ("fail", "skip", "return")
_OF_OPERATORS: dict[str, Any] = {"wait_for": "outcome", "fail_on": (), "wait_timeout": None, "poll_interval": 5.0}
"""The arguments of operators that an approval does not take."""


class VoiceSensor(VoiceTask, BaseSensorOperator):
    """A sensor that looks at calls. It can poke, reschedule or defer."""

    def poke(self, context: Context) -> PokeReturnValue:
        """Look at the calls once."""
        raise NotImplementedError

    def execute(self, context: Context) -> Any:
        """Wait in this task, or in the triggerer."""
        if not self.deferrable:
            if self.reschedule:
                self.poke_interval = max(self.poke_interval, safe_after())
            return BaseSensorOperator.execute(self, context)
        self._begin_wait(timedelta(seconds=self.timeout))
        with self._softly():
            return self._poke_or_defer(context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after the trigger. Airflow's own method would skip more errors than in a sensor that pokes."""
        with self._softly():
            try:
                return BaseOperator.resume_execution(self, next_method, next_kwargs, context)
            except TaskDeferralTimeout as error:
                raise AirflowSensorTimeout(*error.args) from error

    @contextmanager
    def _softly(self) -> Generator[None]:
        """Skip this task, if it says so, for the errors for which a sensor that pokes is skipped."""
        try:
            yield
        except (AirflowFailException, AirflowSensorTimeout, AirflowTaskTimeout) as error:
            if not (self.soft_fail or self.never_fail):
                raise
            raise AirflowSkipException(f"skipped, because soft_fail or never_fail is set: {error}") from error

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Look at the calls after the trigger fired, and defer again if the wait has not ended."""
        with self._acting(context):
            self._resume(event)
        return self._poke_or_defer(context)

    def _poke_or_defer(self, context: Context) -> Any:
        found = self.poke(context)
        return found.xcom_value if found.is_done else self._defer(every=self.poke_interval)


class VoiceOutcomeSensor(VoiceSensor):
    """A sensor that waits until calls have ended: one (`job_id`), several (`job_ids`), or a batch (`batch_id`).

    Ids are strings, or the output of the task that made the calls (`call.output`). The sensor waits for all calls. With
    `wait_for="accepted"`, it waits until 8x8 has accepted the calls. Outcomes in `fail_on` fail the task without a
    retry. A call in doubt for longer than `doubt_timeout` also fails the task, and the error says how to resolve the
    doubt. The sensor can poke, reschedule or defer (`deferrable`).

    The result is the call as JSON, `{"total", "states", "job_ids"}` for several calls, or the report of the batch.
    """

    template_fields: Sequence[str] = ("job_id", "job_ids", "batch_id", "voiceflow_conn_id")

    def __init__(
        self,
        *,
        job_id: str | None = None,
        job_ids: object = None,
        batch_id: str | None = None,
        wait_for: str = "outcome",
        fail_on: Iterable[str] = ("failed", "expired"),
        poke_interval: timedelta | float = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        if sum(given is not None for given in (job_id, job_ids, batch_id)) != 1:
            raise ValueError("give the sensor exactly one of job_id, job_ids and batch_id")
        self.job_id = job_id
        self.job_ids = job_ids
        self.batch_id = batch_id
        self.wait_for = wait_for
        self.fail_on = checked_fail_on(fail_on)
        goal = Goal.named(wait_for)
        if goal is Goal.NOTHING:
            raise ValueError("wait_for of a sensor must be 'outcome' or 'accepted'")
        self._waited = replace(self._waited, goal=goal, begins_later=True)
        self._told: WaitLog | None = None

    def poke(self, context: Context) -> PokeReturnValue:
        """Look at the calls once. Raises AirflowFailException (outcomes in `fail_on`) and AirflowException (doubt)."""
        with self._acting(context):
            self.hook.settings()
            found = run(self._look)
            if found is None:
                return PokeReturnValue(is_done=False)
            jobs, result = found
            for job in jobs if self.batch_id is None else ():
                self.log.info("%s", ended(job))
            judge(jobs, fail_on=self.fail_on, store=self.hook.store_url())
            return PokeReturnValue(is_done=True, xcom_value=result)

    def _ids(self) -> list[str]:
        given: object = self.job_id if self.job_ids is None else self.job_ids
        return [_id_of(each) for each in given] if _are_several(given) else [_id_of(given)]

    async def _look(self) -> tuple[Sequence[Job], Any] | None:
        """Return the calls to judge, and the result of the task; None while the wait goes on."""
        ids = () if self.batch_id else self._ids()
        waited = self._waited = replace(self._waited, job_ids=ids, batch_id=self.batch_id)
        async with self.hook.opened_queue() as queue:
            status = await self._wait_for(every=self.poke_interval).look()
            if not waited.is_over(status):
                self._told = self._told or WaitLog(waited, is_first=not self.reschedule)
                await self._told.tell(queue, status)
                return None
            if self.batch_id is not None:
                over = [state for state in JobState if state.is_final or state is JobState.IN_DOUBT]
                jobs = await queue.find(states=over, batch_id=self.batch_id, limit=None)
                return jobs, (await queue.report(self.batch_id)).as_json()
            now = queue.store.clock.now()
            settled = [job for job in status.jobs if waited.is_settled(job, now=now)]
            if self.job_id is not None:
                return settled, call_result(status.jobs[0])
            states = {state.value: count for state, count in status.states.items()}
            return settled, {"total": status.total, "states": states, "job_ids": [*waited.job_ids]}


def _are_several(given: object) -> TypeGuard[Iterable[object]]:
    return isinstance(given, Iterable) and not isinstance(given, str | Mapping)


def _id_of(given: object) -> str:
    """Return the id of a call. `given` is the id itself, or the call as JSON, which contains the id."""
    if isinstance(given, Mapping):
        given = cast("Mapping[str, object]", given).get("id")
    if not isinstance(given, str) or not given:
        raise InvalidInputError(
            f"{given!r} is not the id of a call. Give a string such as default.01J…, or a call as VoiceCallOperator "
            "returns it"
        )
    return given


class IvrApprovalSensor(VoiceSensor, OneCallTask):
    """A sensor that calls a person once, asks `question`, and returns the key that the person presses, such as "1".

    `choices` gives each key a meaning. They are read out after the question, so it names no keys. `how` replaces the
    sentence with the keys; give an empty text if the question names them. After a key in
    `approve`, the DAG goes on. After another key, `on_reject` decides: "fail", "skip", or "return" (the key, for a
    branch). If nobody answers or presses a key, `on_silence` decides: "fail", "skip", or "return" (None).

    `voiceflow serve` stores the key, so Airflow needs no webhook, and the telephone system needs no credentials of
    Airflow. `send`, `valid_for`, `window`, `on_clear` and other options work as in `VoiceCallOperator`.
    """

    template_fields: Sequence[str] = (*OneCallTask.template_fields, "question", "how")

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
        # Each run asks its question, and waits for the end of the call.
        super().__init__(again=True, poke_interval=poke_interval, **_OF_OPERATORS, **kwargs)
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
        with self._acting(context):
            if not self._waited.job_ids:
                self._enqueue(context)
            wait = self._wait_for(every=self.poke_interval)
            run(wait.for_sending)
            (job,) = run(wait.look).jobs
            if self._was_stopped(job):  # the stop of an earlier try came late: the call is made again
                self._enqueue(context)
                return PokeReturnValue(is_done=False)
            return self._judged(job)

    def _requested(self) -> RequestedCall:
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
        return self._call(flow=flow.to_body(), menu=MENU, data=data)

    def _judged(self, job: Job) -> PokeReturnValue:
        key = pressed(job, self.choices)
        if key is not None:
            said = f"{job.destination} pressed {key} ({self.choices[key]}) in call {job.id}"
            return self._decide("return" if key in self.approve else self.on_reject, said, result=key)
        if not self._waited.is_settled(job, now=datetime.now(UTC)):
            return PokeReturnValue(is_done=False)
        store = self.hook.store_url()
        if job.state is JobState.IN_DOUBT:
            raise AirflowException(doubt(job, store=store))
        if never_rang(job):
            raise AirflowFailException(ending(job, store=store))
        return self._decide(self.on_silence, f"nobody pressed a key: {ending(job, store=store)}", result=None)

    def _decide(self, way: str, said: str, *, result: str | None) -> PokeReturnValue:
        self.log.info(said)
        if way == "skip":
            raise AirflowSkipException(said)
        if way == "fail":
            raise AirflowFailException(said)
        return PokeReturnValue(is_done=True, xcom_value=result)


def pressed(job: Job, choices: Mapping[str, str]) -> str | None:
    """Return the last key that was pressed in this call, or None if it is not one of the choices."""
    last = (job.digits or "").rpartition(",")[2]
    return last if last in choices else None
