"""The operator that makes one phone call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider.calls.event_loop import run
from airflow_provider.calls.failures import as_airflow_errors, checked_fail_on, ended, judge
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.made_calls import refuse_cancelled
from airflow_provider.calls.single_call import RequestedCall, flow_of
from airflow_provider.calls.task_record import bad_ends, instances_of
from airflow_provider.calls.waiting.status import Goal, WaitedCalls, WaitStatus
from airflow_provider.calls.waiting.task_calls import TaskCalls
from airflow_provider.operators.voice_task import OneCallTask, call_result

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from voiceflow_worker import RedialPolicy


class VoiceCallOperator(OneCallTask):
    """An operator that calls one number, once per task instance. A retry or a cleared task goes on with the same call.

    A mapped task calls a number once. For several calls to one number, give each a `unique_key`.

    Give `destination`, and either `say` (a text) or `flow` (an 8x8 body as a mapping, its JSON, or a `CallFlow`). The
    connection has defaults for `source` and `voice_profile`. A national number needs a `country`, such as SG. Nobody is
    called before `not_before`, after `valid_for` or `valid_until`, or outside the hours of `window`, which are those
    at the number, or of `window_time_zone`. `time_zone` is that of times without a zone.

    With `send="here"`, this task sends the call, at the rate of its queue. With `send="worker"`, a `voiceflow worker`
    sends it. The task waits for `"outcome"` (the end of the call), for `"accepted"` (8x8 accepted the call), or for
    nothing (`wait_for=None`). Outcomes in `fail_on` fail the task without a retry. The names are `completed`,
    `unreached`, `failed`, `expired`, `cancelled` and `accepted`, and session statuses such as `NO_ANSWER`. A call in
    doubt for longer than `doubt_timeout` fails the task too, and the error says how to resolve the doubt. Airflow may
    then retry the task, and the retry waits for the same call. Of a mapped task, such ends fail no instance as long as
    not more than `fail_ratio` of all its instances have them.

    With `deferrable`, the task waits in the triggerer. After `wait_timeout` the task fails, but the call goes on. With
    `cancel_on_kill`, an unsent call is cancelled if a user stops the task. If a user clears the task after the call has
    ended, `on_clear="call_again"` makes a new call, and `"same_call"` shows the outcome again. `redial` (a
    `RedialPolicy`) lets the library call again. `menu` names the menu for key presses, and `data` is stored with the
    call.

    The result (XCom) is the call as JSON, as `voiceflow calls show --json` prints it, with its outcome once.
    """

    template_fields: Sequence[str] = (
        "destination",
        "country",
        "say",
        "flow",
        "source",
        "voice_profile",
        "batch_id",
        "unique_key",
        "valid_until",
        "not_before",
        "time_zone",
        "window_time_zone",
        "data",
        "voiceflow_conn_id",
    )
    template_fields_renderers = {"flow": "json", "data": "json"}  # noqa: RUF012 (Airflow declares it so)

    def __init__(
        self,
        *,
        destination: str | None = None,
        country: str | None = None,
        say: str | None = None,
        flow: object = None,
        priority: int = 0,
        batch_id: str | None = None,
        redial: RedialPolicy | None = None,
        menu: str | None = None,
        data: Mapping[str, object] | None = None,
        wait_for: str | None = "outcome",
        fail_on: Iterable[str] = ("failed", "expired"),
        fail_ratio: float = 0.0,
        wait_timeout: timedelta | None = timedelta(hours=24),
        poll_interval: float = 5.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self.country = country
        self.say = say
        self.flow = flow
        self.call_priority = priority
        self.batch_id = batch_id
        self.redial = redial
        self.menu = menu
        self.data = data
        self.wait_for = wait_for
        self.fail_on = checked_fail_on(fail_on)
        self.fail_ratio = fail_ratio
        self.wait_timeout = wait_timeout
        self.poll_interval = poll_interval
        self._options = replace(self._options, goal=Goal.named(wait_for))

    def execute(self, context: Context) -> Any:
        """Enqueue the call if no earlier try has done so, then send it and wait."""
        with as_airflow_errors(f"task {TaskIdentity.of(context)}"):
            self._begin_wait(self.wait_timeout)
            job = self._enqueue(context)
            self.log.info("call %s to %s is %s", job.id, job.destination, job.state.value)
            calls = self._calls(context, job.id)
            if self._options.goal is not Goal.NOTHING and not self.deferrable:
                return self._done(run(calls.send_and_wait), context)
            return self._done_or_deferred(run(calls.send), context)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Look at the call after the trigger fired, send it if it is due, and defer again if it has not ended."""
        with as_airflow_errors(f"task {TaskIdentity.of(context)}"):
            self._begin_wait(self.wait_timeout, event)
            self.hook.settings()
            if event["status"] == "error":
                raise AirflowException(f"the wait for call {', '.join(event['job_ids'])} failed: {event['error']}")
            (job_id,) = event["job_ids"]
            self._take(job_id)
            calls = self._calls(context, job_id)
            run(calls.look)
            return self._done_or_deferred(run(calls.send), context)

    def _calls(self, context: Context, job_id: str) -> TaskCalls:
        waited = WaitedCalls(self._options, job_ids=[job_id])
        return self._task_calls(context, waited, every=self.poll_interval)

    def _requested(self, context: Context) -> RequestedCall:
        settings = self.hook.settings()
        flow = flow_of(
            destination=self.destination,
            country=self.country,
            say=self.say,
            flow=self.flow,
            voice_profile=self.voice_profile or settings.voice_profile,
            source=self.source or settings.source,
        )
        return self._call(
            flow,
            batch_id=self.batch_id or TaskIdentity.of(context).batch_id(),
            priority=self.call_priority,
            redial=self.redial,
            menu=self.menu,
            data=self.data or {},
        )

    def _done_or_deferred(self, status: WaitStatus, context: Context) -> Any:
        (job,) = status.jobs
        if self._options.goal is Goal.NOTHING and not job.state.is_final:
            return call_result(job)
        if status.has_ended:
            return self._done(status, context)
        self._defer(job_ids=[job.id], every=self.poll_interval, cancel_on_kill=self.cancel_on_kill)
        return None  # pragma: no cover - defer raises

    def _done(self, status: WaitStatus, context: Context) -> Any:
        (job,) = status.jobs
        refuse_cancelled(job)
        try:
            judge([job], fail_on=self.fail_on, store=self.hook.store_url())
        except AirflowException as error:
            if not self._is_tolerated(context, is_bad=True):
                raise
            self.log.warning("%s (fail_ratio allows it)", error)
        else:
            self._is_tolerated(context, is_bad=False)
            self.log.info("%s", ended(job))
        return call_result(job)

    def _is_tolerated(self, context: Context, *, is_bad: bool) -> bool:
        """Record the end of this instance, and return whether not too many instances of the task have bad ends."""
        identity = TaskIdentity.of(context)
        if not identity.is_mapped or not self.fail_ratio:
            return False
        total = instances_of(context, identity)

        async def counted() -> int:
            async with self.hook.opened_queue() as queue:
                return await bad_ends(queue, identity, is_bad=is_bad, total=total)

        return run(counted) <= total * self.fail_ratio
