"""The operator that makes one phone call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from airflow_provider.calls.arguments import read_flow, refuse_none, taking
from airflow_provider.calls.enqueueing import RequestedCall
from airflow_provider.calls.failures import ended, judge
from airflow_provider.calls.waiting import Goal, WaitedCalls, WaitStatus
from airflow_provider.operators.voice_task import OneCallTask, WaitingTask, call_result
from voiceflow_worker import InvalidInputError
from voiceflow_worker.campaigns.reading import Of

if TYPE_CHECKING:
    from airflow.sdk import Context


class VoiceCallOperator(WaitingTask, OneCallTask):
    """An operator that calls one number, once per task instance. A retry or a cleared task goes on with the same call.

    A mapped task calls a number once. For several calls to one number, give each a `unique_key`.

    Give `destination`, and one of `say` (a text), `flow` (an 8x8 body as a mapping, its JSON, or a `CallFlow`) and
    `ivr` (a menu). The connection has defaults for `source` and `voice_profile`. All other fields of a call have the
    names and meanings that they have in every interface: `country`, `not_before`, `valid_for`, `valid_until`, `window`,
    `redial_on`, `batch`, `data`, and so on.

    With `send="here"`, this task sends the call, at the rate of its queue. With `send="worker"`, a `voiceflow worker`
    sends it. The task waits for `"outcome"` (the end of the call), for `"accepted"` (8x8 accepted the call), or for
    nothing (`wait_for=None`). Outcomes in `fail_on` fail the task without a retry. The names are `completed`,
    `unreached`, `failed`, `expired`, `cancelled` and `accepted`, and session statuses such as `NO_ANSWER`. A call that
    may or may not have been placed (in doubt) for longer than `doubt_timeout` fails the task too, and the error says
    how to resolve the doubt. Airflow may then retry the task, and the retry waits for the same call.

    With `deferrable`, the task waits in the triggerer. After `wait_timeout` the task fails, but the call goes on. With
    `cancel_on_kill`, an unsent call is cancelled if a user stops the task. If a user clears the task after the call has
    ended, `on_clear="call_again"` makes a new call, and `"same_call"` shows the outcome again.

    The result (XCom) is the call as JSON, as `voiceflow calls show --json` prints it.
    """

    template_fields: Sequence[str] = (
        "destination",
        "country",
        "say",
        "flow",
        "source",
        "voice_profile",
        "batch",
        "unique_key",
        "valid_until",
        "not_before",
        "time_zone",
        "window_time_zone",
        "data",
        "voiceflow_conn_id",
    )
    template_fields_renderers = {"flow": "json", "data": "json"}  # noqa: RUF012 (Airflow declares it so)

    say: str | None
    ivr: object

    @taking(Of.CALL, without=("to", "flow"))
    def __init__(
        self,
        *,
        destination: str | None = None,
        flow: object = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self.flow = flow

    def _started(self, context: Context) -> tuple[WaitedCalls, None]:
        job = self._enqueue(context)
        self.log.info("call %s to %s is %s", job.id, job.destination, job.state.value)
        return replace(self._waited, job_ids=[job.id]), None

    def _calls(self, context: Context, event: Mapping[str, Any]) -> WaitedCalls:  # noqa: ARG002 - a campaign's has more
        return replace(self._waited, job_ids=event.get("job_ids", ()))

    def _lost(self, status: WaitStatus, context: Context) -> bool:  # noqa: ARG002 - a campaign's needs it
        return any(map(self._was_stopped, status.jobs))

    def _requested(self, context: Context) -> RequestedCall:
        refuse_none("say", self.say)
        body = read_flow(self.flow)
        refuse_none("flow", body)
        if self.destination is not None and not isinstance(cast("object", self.destination), str):
            raise InvalidInputError(
                f"destination is a {type(self.destination).__name__}, but a task instance calls one number. For "
                "several numbers, use .partial(…).expand(destination=[…]), or VoiceCampaignOperator"
            )
        if self.say is None and body is None and self.ivr is None:
            raise InvalidInputError(
                "give the operator one of say=…, flow=… and ivr=… (a template that renders to None counts as not given)"
            )
        said = {"to": self.destination or None, "flow": body}
        return self._call(context, **{name: value for name, value in said.items() if value is not None})

    def _done(self, status: WaitStatus, context: Context, rows: Mapping[str, Any] | None) -> Any:  # noqa: ARG002
        (job,) = status.jobs
        if self._waited.goal is Goal.NOTHING and not job.state.is_final:
            return call_result(job)
        judge([job], fail_on=self.fail_on, store=self.hook.store_url())
        self.log.info("%s", ended(job))
        return call_result(job)
