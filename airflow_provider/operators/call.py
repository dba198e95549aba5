"""The operator that makes one phone call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, BaseOperator, conf

from airflow_provider.calls.cancellation import refuse_cancelled
from airflow_provider.calls.event_loop import run, run_in_thread
from airflow_provider.calls.failures import as_airflow_errors, checked_fail_on, judge
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.single.enqueueing import OnClear
from airflow_provider.calls.single.request import RequestedCall, flow_of
from airflow_provider.calls.single.task_call import TaskCall
from airflow_provider.calls.waiting.polling import StopFlag
from airflow_provider.calls.waiting.status import Goal, WaitOptions, is_settled
from airflow_provider.hooks.voice import DEFAULT_CONNECTION, VoiceFlowHook
from airflow_provider.links.voice import VoiceCallLink, store_link
from airflow_provider.triggers.voice import VoiceOutcomeTrigger
from voiceflow_worker import call_as_json

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from voiceflow_worker import Job, RedialPolicy, Settings

CANCEL_SECONDS = 15.0


class VoiceCallOperator(BaseOperator):
    """An operator that calls one number, once per task instance: a retry or a cleared task goes on with the call.

    `destination`, with `say` (a text) or `flow` (an 8x8 body as a mapping, its JSON, or a `CallFlow`). The connection
    has defaults for `source` and `voice_profile`. `valid_for`: nobody is called later than this.

    `send="here"`: this task sends, at its queue's rate. `send="worker"`: a `voiceflow worker` sends. `wait_for`:
    `"outcome"` (the end of the call), `"accepted"` (8x8 accepted it) or None. Outcomes in `fail_on` (`completed`,
    `unreached`, `failed`, `expired`, `cancelled`, `accepted`, or session statuses such as `NO_ANSWER`) fail the task
    for good. A call in doubt for longer than `doubt_patience` fails it too, and the error says how to resolve it; a
    retry looks again and never redials.

    `deferrable` waits in the triggerer. `wait_timeout` limits the wait; the call goes on without the task.
    `cancel_on_kill` cancels an unsent call if a user stops the task. `on_clear="call_again"` calls again if a user
    clears the task after the call has ended; `"same_call"` shows the outcome again. `redial` (a `RedialPolicy`) lets
    the library call again. `menu` and `data` are for answers by key.

    The result (XCom) is the call as JSON, as `voiceflow calls show --json` prints it.
    """

    template_fields: Sequence[str] = (
        "destination",
        "say",
        "flow",
        "source",
        "voice_profile",
        "batch_id",
        "data",
        "voiceflow_conn_id",
    )
    template_fields_renderers = {"flow": "json", "data": "json"}  # noqa: RUF012 (Airflow declares it so)
    operator_extra_links = (VoiceCallLink(),)
    ui_color = "#e8f3ee"

    def __init__(
        self,
        *,
        destination: str | None = None,
        say: str | None = None,
        flow: object = None,
        voice_profile: str | None = None,
        source: str | None = None,
        valid_for: timedelta | None = None,
        not_before: datetime | None = None,
        priority: int = 0,
        batch_id: str | None = None,
        redial: RedialPolicy | None = None,
        menu: str | None = None,
        data: Mapping[str, object] | None = None,
        send: str = "here",
        wait_for: str | None = "outcome",
        fail_on: Iterable[str] = ("failed", "expired"),
        wait_timeout: timedelta | None = timedelta(hours=24),
        doubt_patience: timedelta = timedelta(minutes=15),
        poll_interval: float = 5.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        cancel_on_kill: bool = True,
        on_clear: str = "same_call",
        voiceflow_conn_id: str = DEFAULT_CONNECTION,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self.say = say
        self.flow = flow
        self.voice_profile = voice_profile
        self.source = source
        self.valid_for = valid_for
        self.not_before = not_before
        self.call_priority = priority
        self.batch_id = batch_id
        self.redial = redial
        self.menu = menu
        self.data = data
        self.send = send
        self.wait_for = wait_for
        self.fail_on = checked_fail_on(fail_on)
        self.wait_timeout = wait_timeout
        self.doubt_patience = doubt_patience
        self.poll_interval = poll_interval
        self.deferrable = deferrable
        self.cancel_on_kill = cancel_on_kill
        self.on_clear = OnClear(on_clear).value
        self.voiceflow_conn_id = voiceflow_conn_id
        self._options = WaitOptions.of(wait_for=wait_for, send=send, patience=doubt_patience)
        self._stop = StopFlag()
        self._job_id: str | None = None

    @cached_property
    def hook(self) -> VoiceFlowHook:
        """The connection."""
        return VoiceFlowHook(self.voiceflow_conn_id)

    def execute(self, context: Context) -> Any:
        """Enqueue the call, or find it, then send and wait."""
        with as_airflow_errors(f"task {TaskIdentity.of(context)}"):
            job = self._call.enqueue(
                context, self._requested, executor=getattr(self, "executor", None), on_clear=self.on_clear
            )
            self.log.info("call %s to %s is %s", job.id, job.destination, job.state.value)
            self._job_id = job.id
            if self._stop.is_set:  # while the call was enqueued, and could not be cancelled yet
                self.on_kill()
            self._stop.check()
            store_link(context, ui_url=self.hook.ui_url(), job_id=job.id)
            if self._options.goal is Goal.NOTHING:
                job = run(partial(self._call.send, job.id))
                return self._done(job) if job.state.is_final else call_as_json(job)
            if self.deferrable:
                return self._done_or_deferred(run(partial(self._call.send, job.id)))
            return self._done(run(partial(self._call.send_and_wait, job.id)))

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Look again after the trigger fired, send a call that is due, and defer again if it is not over."""
        with as_airflow_errors(f"task {TaskIdentity.of(context)}"):
            self.hook.settings()
            if event["status"] == "error":
                raise AirflowException(f"waiting for call {', '.join(event['job_ids'])}: {event['error']}")
            (job_id,) = event["job_ids"]
            self._job_id = job_id
            job = run(partial(self._call.look, job_id))
            if self._options.sends:
                job = run(partial(self._call.send, job.id))
            return self._done_or_deferred(job)

    def on_kill(self) -> None:
        """Cancel the call if it has not been sent; a call in flight is finished."""
        self._stop.set()
        if self.cancel_on_kill and self._job_id is not None:
            try:
                run_in_thread(partial(self._call.cancel, self._job_id), seconds=CANCEL_SECONDS)
            except Exception:
                self.log.exception("call %s could not be cancelled; it may still be made", self._job_id)

    @property
    def _call(self) -> TaskCall:
        return TaskCall(
            hook=self.hook, options=self._options, every=self.poll_interval, limit=self.wait_timeout, stop=self._stop
        )

    def _requested(self, settings: Settings, identity: TaskIdentity) -> RequestedCall:
        flow = flow_of(
            destination=self.destination,
            say=self.say,
            flow=self.flow,
            voice_profile=self.voice_profile or settings.voice_profile,
            source=self.source or settings.source,
        )
        return RequestedCall(
            flow=flow,
            batch_id=self.batch_id or identity.batch_id(),
            valid_for=self.valid_for,
            not_before=self.not_before,
            priority=self.call_priority,
            redial=self.redial,
            menu=self.menu,
            data=self.data or {},
        )

    def _done_or_deferred(self, job: Job) -> Any:
        if is_settled(job, self._options, now=datetime.now(UTC)):
            return self._done(job)
        self.defer(
            trigger=VoiceOutcomeTrigger(
                voiceflow_conn_id=self.voiceflow_conn_id,
                job_ids=[job.id],
                wait_for=self.wait_for or "accepted",
                sends=self._options.sends,
                doubt_patience=self.doubt_patience.total_seconds(),
                poll_interval=self.poll_interval,
                cancel_on_kill=self.cancel_on_kill,
            ),
            method_name="execute_complete",
            timeout=self.wait_timeout,
        )
        return None  # pragma: no cover - defer raises

    def _done(self, job: Job) -> Any:
        refuse_cancelled(job)
        judge([job], fail_on=self.fail_on, store=self.hook.store_url())
        return call_as_json(job)
