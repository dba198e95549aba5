"""The sensor that waits for calls of other tasks or programs, and the base of sensors."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.exceptions import AirflowException, AirflowSkipException

from airflow_provider.calls.event_loop import run
from airflow_provider.calls.failures import as_airflow_errors, checked_fail_on, ended, judge
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.waiting.polling import UNKNOWN_AFTER, swept, why_unknown
from airflow_provider.calls.waiting.status import CompletionThreshold, Goal, WaitedCalls, WaitStatus, is_settled
from airflow_provider.operators.voice_task import VoiceTask, call_result
from airflow_provider.triggers.voice import safe_after
from voiceflow_worker import CallQueue, InvalidInputError, Job, JobState

if TYPE_CHECKING:
    from airflow.sdk import Context


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
        with self._softly():
            self._begin_wait(timedelta(seconds=self.timeout))
            return self._poke_or_defer(context)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Look at the calls after the trigger fired, and defer again if the wait has not ended."""
        with self._softly():
            self._begin_wait(None, event)
            self._refuse_late(event)
            if event["status"] == "error":
                raise AirflowException(f"the wait for calls failed: {event['error']}")
            return self._poke_or_defer(context)

    @contextmanager
    def _softly(self) -> Generator[None]:
        """Skip a deferrable task that fails, if it has `soft_fail`, as Airflow does with a resumed one."""
        try:
            yield
        except AirflowSkipException:
            raise
        except AirflowException as error:
            if not self.soft_fail:
                raise
            raise AirflowSkipException(f"skipped, because soft_fail is set: {error}") from error

    def _poke_or_defer(self, context: Context) -> Any:
        found = self.poke(context)
        return found.xcom_value if found.is_done else self._wait()


@dataclass(frozen=True, slots=True)
class _Look:
    """The result of one look: whether the wait has ended, the calls to judge, and the result of the task."""

    is_done: bool
    jobs: Sequence[Job] = ()
    result: Any = None
    unknown: str | None = None
    """The sentence that a batch has no calls, if it has had none for a while."""


class VoiceOutcomeSensor(VoiceSensor):
    """A sensor that waits until calls have ended: one (`job_id`), several (`job_ids`), or a batch (`batch_id`).

    Ids are strings, or the output of the task that made the calls (`call.output`). The sensor waits for all calls, for
    a number of them (`at_least`), or for a share (`ratio`). With `wait_for="accepted"`, it waits until 8x8 has accepted
    the calls. Outcomes in `fail_on` fail the task without a retry. A call in doubt for longer than `doubt_timeout`
    also fails the task, and the error says how to resolve the doubt. The sensor can poke, reschedule or defer
    (`deferrable`).

    The result is the call as JSON, `{"total", "states", "job_ids"}` for several calls, or the report of the batch.
    """

    template_fields: Sequence[str] = ("job_id", "job_ids", "batch_id", "voiceflow_conn_id")

    def __init__(
        self,
        *,
        job_id: str | None = None,
        job_ids: object = None,
        batch_id: str | None = None,
        at_least: int | None = None,
        ratio: float | None = None,
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
        self.threshold = CompletionThreshold(at_least=at_least, ratio=ratio)
        self.wait_for = wait_for
        self.fail_on = checked_fail_on(fail_on)
        goal = Goal.named(wait_for)
        if goal is Goal.NOTHING:
            raise ValueError("wait_for of a sensor must be 'outcome' or 'accepted'")
        self._options = replace(self._options, goal=goal)
        self._first_look: float | None = None

    def poke(self, context: Context) -> PokeReturnValue:
        """Look at the calls once. Raises AirflowFailException (outcomes in `fail_on`) and AirflowException (doubt)."""
        with as_airflow_errors(f"task {TaskIdentity.of(context)}"):
            self.hook.settings()
            look = run(self._look)
            if look.unknown:
                self.log.warning("%s. The sensor waits for it until its timeout", look.unknown)
            if not look.is_done:
                return PokeReturnValue(is_done=False)
            for job in look.jobs if self.batch_id is None else ():
                self.log.info("%s", ended(job))
            judge(look.jobs, fail_on=self.fail_on, store=self.hook.store_url())
            return PokeReturnValue(is_done=True, xcom_value=look.result)

    def _wait(self) -> None:
        self._defer(
            job_ids=[] if self.batch_id else self._ids(),
            batch_id=self.batch_id,
            every=self.poke_interval,
            enough=self.threshold.as_json(),
        )

    def _ids(self) -> list[str]:
        given: object = self.job_id if self.job_ids is None else self.job_ids
        return [_id_of(each) for each in given] if _are_several(given) else [_id_of(given)]

    async def _look(self) -> _Look:
        ids = [] if self.batch_id is not None else self._ids()
        waited = WaitedCalls(self._options, job_ids=ids, batch_id=self.batch_id)
        async with self.hook.opened_queue() as queue:
            status = await swept(queue, waited, policy=self.hook.settings().policy())
            is_done = waited.is_over(status, self.threshold)
            if self.batch_id is None:
                now = queue.store.clock.now()
                ended = [job for job in status.jobs if is_settled(job, self._options, now=now)]
                states = dict(Counter(job.state.value for job in status.jobs))
                several: Any = {"total": status.total, "states": states, "job_ids": ids}
                result = several if self.job_id is None else call_result(status.jobs[0])
                return _Look(is_done=is_done, jobs=ended, result=result)
            if not is_done:
                return _Look(is_done=False, unknown=await self._unknown(queue, status))
            over = [state for state in JobState if state.is_final or state is JobState.IN_DOUBT]
            jobs = await queue.find(states=over, batch_id=self.batch_id, limit=None)
            report = await queue.report(self.batch_id)
            return _Look(is_done=True, jobs=jobs, result=report.as_json())

    async def _unknown(self, queue: CallQueue, status: WaitStatus) -> str | None:
        """Return that the batch has no calls, once it has had none for a minute; at each look of a rescheduled task."""
        self._first_look = time.monotonic() if self._first_look is None else self._first_look
        if status.total or (time.monotonic() - self._first_look < UNKNOWN_AFTER and not self.reschedule):
            return None
        return await why_unknown(queue, self.batch_id)


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
