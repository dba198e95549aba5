"""The base classes of operators and sensors."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseOperator, BaseSensorOperator, conf
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSensorTimeout, AirflowTaskTimeout

from airflow_provider.calls.arguments import refuse_number
from airflow_provider.calls.enqueueing import TaskState
from airflow_provider.calls.failures import as_airflow_errors, checked_fail_on
from airflow_provider.calls.identity import OncePer, TaskIdentity
from airflow_provider.calls.made_calls import Stop, lost_redial, was_cancelled_by_task
from airflow_provider.calls.waiting import (
    SENT_WITHIN,
    Goal,
    TaskStoppedError,
    Wait,
    WaitedCalls,
    WaitStatus,
    run,
    run_in_thread,
    waited_too_long,
)
from airflow_provider.hooks.voice import DEFAULT_CONNECTION, VoiceFlowHook
from airflow_provider.triggers.voice import VoiceOutcomeTrigger
from voiceflow_worker import CallQueue, Campaign, InvalidInputError
from voiceflow_worker.campaigns.calls.options import CallAgain, read_again
from voiceflow_worker.model.column_time import ColumnTime
from voiceflow_worker.model.times import read_time
from voiceflow_worker.model.zones import read_zone

if TYPE_CHECKING:
    from airflow.sdk import Context

    from voiceflow_worker import Job

log = logging.getLogger(__name__)

STOP_SECONDS = 3.0
"""Seconds that a stop of a running task may take here. Then calls in flight need theirs."""

T = TypeVar("T")


class VoiceTask(BaseOperator):
    """A task that waits for calls, in its own process or in the triggerer."""

    ui_color = "#e8f3ee"
    _identity: TaskIdentity

    def __init__(
        self,
        *,
        doubt_timeout: timedelta = timedelta(minutes=15),
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        voiceflow_conn_id: str = DEFAULT_CONNECTION,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.doubt_timeout = doubt_timeout
        self.deferrable = deferrable
        self.voiceflow_conn_id = voiceflow_conn_id
        self._waited = WaitedCalls(doubt_timeout=doubt_timeout)
        self._ends: dict[str, datetime] = {}
        self._is_stopped = False

    @cached_property
    def hook(self) -> VoiceFlowHook:
        """The hook for the connection of this task."""
        return VoiceFlowHook(self.voiceflow_conn_id)

    @contextmanager
    def _acting(self, context: Context) -> Generator[None]:
        """Act as the task instance of this context, and raise the library's errors as those of Airflow."""
        self._identity = TaskIdentity.of(context)
        with as_airflow_errors(f"task {self._identity}"):
            yield

    def _begin_wait(self, limit: timedelta | None) -> None:
        """Set the ends of the wait: `limit` and the `execution_timeout` from now.

        Airflow itself does not look at the `execution_timeout` of a task that is deferred.
        """
        ends, now = {"until": limit, "times_out_at": self.execution_timeout}, datetime.now(UTC)
        self._ends = {name: now + each for name, each in ends.items() if each is not None}

    def _resume(self, event: Mapping[str, Any]) -> None:
        """Go on with the wait that an event ends: with its ends and its calls.

        Raises the trigger's error, or AirflowTaskTimeout after the `execution_timeout`: Airflow calls `on_kill`.
        """
        names = {"until", "times_out_at", "began"} & event.keys()
        self._ends = {name: datetime.fromisoformat(event[name]) for name in names}
        self._waited = replace(self._waited, job_ids=event.get("job_ids", ()), batch_id=event.get("batch_id"))
        if event["status"] == "error":
            error = AirflowFailException if event.get("is_final") else AirflowException
            raise error(f"the wait for calls failed: {event['error']}")
        if event["status"] == "timeout":
            raise AirflowTaskTimeout(f"task {self.task_id} took longer than its execution_timeout")
        if event["status"] == "late":
            error = AirflowSensorTimeout if isinstance(self, BaseSensorOperator) else AirflowException
            raise error(f"task {self.task_id}: {waited_too_long(self._waited)}")

    def _wait_for(self, *, every: float) -> Wait:
        """Return the wait for the calls in this process."""
        ends = {"late": self._ends["until"]} if "until" in self._ends else {}
        return Wait(hook=self.hook, calls=self._waited, every=every, ends=ends, is_stopped=lambda: self._is_stopped)

    def _defer(self, *, every: float, **more: Any) -> None:
        """Wait in the triggerer until the wait is over. `more` are arguments of the trigger."""
        ends: dict[str, Any] = {name: end.isoformat() for name, end in self._ends.items()}
        rest = None if "until" not in self._ends else max(self._ends["until"] - datetime.now(UTC), timedelta(0))
        self.defer(
            trigger=VoiceOutcomeTrigger(
                voiceflow_conn_id=self.voiceflow_conn_id,
                job_ids=self._waited.job_ids,
                batch_id=self._waited.batch_id,
                wait_for=self._waited.goal.value,
                sends=self._waited.sends,
                doubt_timeout=self.doubt_timeout.total_seconds(),
                poll_interval=every,
                **{**more, **ends},
            ),
            method_name="execute_complete",
            # The trigger ends the wait, and says of which calls; if none runs, Airflow ends it.
            timeout=None if rest is None else rest + timedelta(minutes=10),
        )


class CallingTask(VoiceTask):
    """A task that makes calls, can send them itself, waits for them, and fails by their ends.

    If a user stops the task, its unsent calls are cancelled. Its other arguments are fields of a campaign or a call
    (`calls/arguments.py`), with their names and meanings.

    No phone rings before `not_before` (a time, or a text such as `2026-11-20 09:00`, which is local time in
    `time_zone`), nor after `valid_until`, nor outside `window` (a `CallWindow`, or hours such as `09:00-20:00`), `days`
    and `holidays`, which count at the number, or in `window_time_zone`. A task that begins after `valid_until` makes no
    new calls, and fails.

    Another run of the DAG that would say the same to the same people fails too, unless `again` is True. With
    `once_per="dag"`, all runs of the DAG together call a number or unique key once; `again="cancelled"` then calls also
    those whose call of another run a person has cancelled.
    """

    template_fields: Sequence[str] = (
        "source",
        "voice_profile",
        "valid_until",
        "not_before",
        "time_zone",
        "window_time_zone",
        "voiceflow_conn_id",
    )
    fields_given: tuple[str, ...] = ()
    # These of the fields are asked for one by one.
    source: str | None
    voice_profile: str | None
    batch: str | None
    valid_for: timedelta | str | None
    valid_until: datetime | str | None
    not_before: datetime | str | None
    time_zone: str | None
    window_time_zone: str | None

    def __init__(
        self,
        *,
        send: str = "here",
        cancel_on_kill: bool = True,
        again: CallAgain | str = False,
        once_per: str = "run",
        wait_for: str | None = "outcome",
        fail_on: Iterable[str] = ("failed", "expired"),
        wait_timeout: timedelta | None = timedelta(hours=24),
        poll_interval: float = 5.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if send not in {"here", "worker"}:
            raise ValueError(f"send={send!r}: use 'here' (this task sends) or 'worker' (a voiceflow worker sends)")
        self.send = send
        self.cancel_on_kill = cancel_on_kill
        self.again = read_again(again)
        if once_per not in set(OncePer):
            raise ValueError(f"once_per={once_per!r}: use 'run' (each run calls) or 'dag' (all runs call once)")
        self.once_per = once_per
        self.wait_for = wait_for
        self.fail_on = checked_fail_on(fail_on)
        self.wait_timeout = wait_timeout
        self.poll_interval = poll_interval
        self._waited = replace(self._waited, sends=send == "here", goal=Goal.named(wait_for))
        self._imports: Sequence[str] = ()
        # Wrong hours and durations are refused when the DAG is read.
        if said := self._said("window", "days", "holidays", "valid_for"):
            Campaign.of({"rows": [], "batch": "-", **said})

    def execute(self, context: Context) -> Any:
        """Enqueue the calls that no earlier try has enqueued, then send and wait."""
        with self._acting(context):
            self._begin_wait(self.wait_timeout)
            return self._begun(context)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Judge the calls after the trigger fired. If a stop of an earlier try came late, make and await them again."""
        with self._acting(context):
            self.hook.settings()
            self._imports = event.get("imports", ())
            self._resume(event)
            return self._ended(context, event.get("rows"))

    def on_kill(self) -> None:
        """Cancel the calls that have not been sent. Calls in flight are finished."""
        self._is_stopped = True
        if not self.cancel_on_kill or not (self._waited.job_ids or self._waited.batch_id):
            return
        stop = Stop(identity=self._identity, calls=self._waited, imports=self._imports)
        # Airflow ends a process by force 5 s after its signal, but none whose `execution_timeout` has passed.
        limit = None if isinstance(sys.exc_info()[1], AirflowTaskTimeout) else STOP_SECONDS
        try:
            run_in_thread(lambda: stop.carry_out(self.hook.opened_queue()), seconds=limit)
        except TimeoutError:
            stop.tell_cut()

    def _latest(self) -> datetime | None:
        """Return the time from which on no phone rings, if it is the same for all rows. Raises InvalidInputError."""
        given = self.valid_until
        if given is None:
            return None
        text = given.isoformat() if isinstance(given, datetime) else given
        try:
            if ColumnTime.read(text) is not None:
                return None
            return read_time(text, zone=None if self.time_zone is None else read_zone(self.time_zone))
        except ValueError as error:
            raise InvalidInputError(f"valid_until {error}") from None

    def _said(self, *names: str) -> dict[str, Any]:
        """The fields that were given, by name: these, or all of them. The connection completes an empty one."""
        given = {name: getattr(self, name) for name in names or self.fields_given}
        completed = {name for name in ("source", "voice_profile") if given.get(name) == ""}
        return {name: value for name, value in given.items() if value is not None and name not in completed}

    def _rendered(self, context: Context) -> Iterator[tuple[str, object]]:  # noqa: ARG002 - campaigns look into it
        """Yield the fields that Airflow renders and that are texts."""
        for name in self.template_fields:
            if name not in {"rows", "parameters", "flow", "data"}:
                yield name, getattr(self, name)

    def _enqueued(
        self,
        context: Context,
        make: Callable[[], Callable[..., Coroutine[Any, Any, T]]],
        named: Callable[[T], Mapping[str, str] | None],
    ) -> T:
        """Return what `make`'s function has enqueued in the queue of the connection, as this task instance.

        The connection and the store are checked first. Airflow's task state gets what it is `named`.
        """
        for name, value in self._rendered(context):
            refuse_number(name, value)
        settings = self.hook.settings()
        self.hook.require_lasting_store()
        if self._waited.sends:
            self.hook.get_client()
        identity = replace(self._identity, once_per=OncePer(self.once_per))
        enqueue, state = make(), TaskState(context)

        async def enqueued() -> T:
            async with self.hook.opened_queue() as queue:
                await state.require_known(queue, retention=settings.retention)
                acting = CallQueue(queue.store, queue.name, policy=queue.policy, by=identity.actor)
                found = await enqueue(acting, identity=identity)
                self._ends["began"] = queue.store.clock.now()
                if (names := named(found)) is not None:
                    await state.keep(queue, names)
                return found

        return run(enqueued)

    def _begun(self, context: Context) -> Any:
        rows = self._started(context)
        wait, waits = self._wait_for(every=self.poll_interval), self._waited.goal is not Goal.NOTHING
        if waits and not self.deferrable:
            how = run(wait.for_end)
        else:
            # If the task waits elsewhere, or for nothing, it still sends what is due.
            how = run(partial(wait.for_sending, within=SENT_WITHIN if waits else None))
        if how == "late":
            raise AirflowException(waited_too_long(self._waited, within=f" within {self.wait_timeout}"))
        # Others may add calls to a batch whose wait is over.
        return self._ended(context, rows, is_over=waits and not self.deferrable)

    def _ended(self, context: Context, rows: Mapping[str, Any] | None, *, is_over: bool = False) -> Any:
        status = run(self._wait_for(every=self.poll_interval).look)
        if self._waited.goal is Goal.NOTHING:
            if self._waited.sends and status.waiting:
                log.warning(
                    "%s: calls that are due later: %s. This task does not wait for them (wait_for=None), so a "
                    "`voiceflow worker` has to send them",
                    self._waited,
                    status.waiting,
                )
        else:
            if not (is_over or self._waited.is_over(status)):
                self._defer(every=self.poll_interval, rows=rows)
            if self._lost(status):  # the stop of an earlier try came late
                self.log.warning("calls of %s were cancelled while this task waited; they are made again", self._waited)
                return self._begun(context)
        return self._done(status, rows)

    def _started(self, context: Context) -> Mapping[str, Any] | None:
        """Enqueue the calls, for which it waits then. Return the counts of the rows of a campaign."""
        raise NotImplementedError

    def _lost(self, status: WaitStatus) -> bool:
        """Return whether calls were cancelled by a stop of this task, although it goes on."""
        raise NotImplementedError

    def _done(self, status: WaitStatus, rows: Mapping[str, Any] | None) -> Any:
        """Judge the calls, and return the result of the task."""
        raise NotImplementedError

    def _defer(self, *, every: float, **more: Any) -> None:
        if self.cancel_on_kill:
            more |= {"owner": self._identity.as_json(), "imports": [*self._imports] or None}
        super()._defer(every=every, **more)

    def _was_stopped(self, job: Job) -> bool:
        """Return whether a stop has cancelled this call since this task has enqueued it: that of an earlier try."""
        began = self._ends.get("began")
        is_later = job.successor is None and (began is None or job.touched_at > began)
        return is_later and (was_cancelled_by_task(job) or lost_redial(job))

    def _go_on(self) -> None:
        """Raise TaskStoppedError if the task was stopped meanwhile."""
        if self._is_stopped:  # calls that were enqueued after `on_kill` are cancelled now
            self.on_kill()
            raise TaskStoppedError("Airflow stopped this task")
