"""One phone call as a task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, BaseOperator, conf

from airflow_provider.calls.desk import hand_in_at_desk
from airflow_provider.calls.errand import Errand, terms
from airflow_provider.calls.failures import checked_fail_on, judge, told_to_airflow
from airflow_provider.calls.handing_in import OnClear
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.request import WantedCall, flow_of
from airflow_provider.calls.running import run, run_aside
from airflow_provider.calls.standing import Goal, are_settled
from airflow_provider.calls.taken_back import require_not_taken_back
from airflow_provider.calls.waiting import StopFlag
from airflow_provider.hooks.voice import DEFAULT_CONNECTION, VoiceFlowHook
from airflow_provider.links.voice import VoiceCallLink, store_link
from airflow_provider.triggers.voice import VoiceOutcomeTrigger
from voiceflow_worker import call_as_json

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from voiceflow_worker import Job, RedialPolicy, Settings

TAKE_BACK_SECONDS = 15.0


class VoiceCallOperator(BaseOperator):
    """Calls one number, once per task instance: a retry, a lost worker or a cleared task finds the call and goes on.

    `destination`, with `say` (a text) or `flow` (an 8x8 body as a mapping, its JSON, or a `CallFlow`). `source` and
    `voice_profile` come from the connection where they are not given. `valid_for`: nobody is called later than this.

    `send="here"`: this task sends, at its queue's rate. `send="worker"`: a `voiceflow worker` does. `wait_for`:
    `"outcome"` (the end of the call), `"accepted"` (8x8 took it) or None. Of the outcomes (`completed`, `unreached`,
    `failed`, `expired`, `cancelled`, `accepted`, or session statuses such as `NO_ANSWER`), those in `fail_on` fail the
    task for good. A call in doubt for longer than `doubt_patience` fails it too, with a sentence that says how it is
    resolved; a retry looks again and never redials.

    `deferrable` waits in the triggerer. `wait_timeout`: how long the task waits; the call goes on without it.
    `cancel_on_kill` takes the call back if it has not been sent when a user stops the task. `on_clear="call_again"`
    calls again when a user clears the task after the call has ended; `"same_call"` shows the outcome again.
    `redial` (a `RedialPolicy`) is when the library calls again by itself. `menu` and `data` are for answers by key.

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
        self._terms = terms(wait_for=wait_for, send=send, patience=doubt_patience)
        self._stop = StopFlag()
        self._job_ids: list[str] = []

    @cached_property
    def hook(self) -> VoiceFlowHook:
        """The connection."""
        return VoiceFlowHook(self.voiceflow_conn_id)

    # -- what Airflow calls ------------------------------------------------------------------------------------------

    def execute(self, context: Context) -> Any:
        """Hand in the call, or find it, and send and wait as asked."""
        identity = TaskIdentity.of(context)
        with told_to_airflow(f"task {identity}"):
            job = hand_in_at_desk(
                context,
                self._errand,
                partial(self._wanted, identity=identity),
                executor=getattr(self, "executor", None),
                on_clear=OnClear(self.on_clear),
            )
            self.log.info("call %s to %s is %s", job.id, job.destination, job.state.value)
            self._job_ids = [job.id]
            if self._stop.is_set:  # while the call was handed in, and there was none yet to be taken back
                self.on_kill()
            self._stop.check()
            store_link(context, ui_url=self.hook.ui_url(), job_id=job.id)
            if self.deferrable and self._terms.goal is not Goal.NOTHING:
                jobs = run(partial(self._errand.send, self._job_ids, batch_id=job.batch_id))
                return self._go_on(jobs)
            if self._terms.goal is Goal.NOTHING:
                (job,) = run(partial(self._errand.send, self._job_ids, batch_id=job.batch_id))
                return self._done([job]) if job.state.is_final else call_as_json(job)
            return self._done(run(partial(self._errand.send_and_wait, self._job_ids, batch_id=job.batch_id)))

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Go on after the trigger fired: look again, send what fell due, defer again if it is not over."""
        with told_to_airflow(f"task {TaskIdentity.of(context)}"):
            self.hook.settings()
            if event["status"] == "error":
                raise AirflowException(f"waiting for call(s) {', '.join(event['job_ids'])}: {event['error']}")
            self._job_ids = list(event["job_ids"])
            jobs = run(partial(self._errand.look, self._job_ids))
            if self._terms.sends:
                jobs = run(partial(self._errand.send, self._job_ids, batch_id=jobs[0].batch_id))
            return self._go_on(jobs)

    def on_kill(self) -> None:
        """Take the call back if it has not been sent; what is in flight is finished."""
        self._stop.set()
        if self.cancel_on_kill and self._job_ids:
            try:
                run_aside(partial(self._errand.take_back, self._job_ids), seconds=TAKE_BACK_SECONDS)
            except Exception:
                self.log.exception("call %s could not be taken back; it may still be made", self._job_ids)

    # -- steps -------------------------------------------------------------------------------------------------------

    @property
    def _errand(self) -> Errand:
        return Errand(
            hook=self.hook, terms=self._terms, every=self.poll_interval, limit=self.wait_timeout, stop=self._stop
        )

    def _wanted(self, settings: Settings, identity: TaskIdentity) -> WantedCall:
        flow = flow_of(
            destination=self.destination,
            say=self.say,
            flow=self.flow,
            voice_profile=self.voice_profile or settings.voice_profile,
            source=self.source or settings.source,
        )
        return WantedCall(
            flow=flow,
            batch_id=self.batch_id or identity.batch_id(),
            valid_for=self.valid_for,
            not_before=self.not_before,
            priority=self.call_priority,
            redial=self.redial,
            menu=self.menu,
            data=self.data or {},
        )

    def _go_on(self, jobs: Sequence[Job]) -> Any:
        """Finish if the calls are settled, else wait in the triggerer."""
        if are_settled(jobs, self._terms, now=datetime.now(UTC)):
            return self._done(jobs)
        self.defer(
            trigger=VoiceOutcomeTrigger(
                voiceflow_conn_id=self.voiceflow_conn_id,
                job_ids=[job.id for job in jobs],
                wait_for=self.wait_for or "accepted",
                sends=self._terms.sends,
                doubt_patience=self.doubt_patience.total_seconds(),
                poll_interval=self.poll_interval,
                cancel_on_kill=self.cancel_on_kill,
            ),
            method_name="execute_complete",
            timeout=self.wait_timeout,
        )
        return None  # pragma: no cover - defer raises

    def _done(self, jobs: Sequence[Job]) -> Any:
        require_not_taken_back(jobs[0])
        judge(jobs, fail_on=self.fail_on, store=self.hook.store_url())
        return call_as_json(jobs[0])
