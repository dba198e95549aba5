"""The operator that makes one phone call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from airflow_provider.calls.arguments import read_flow, refuse_none, taking
from airflow_provider.calls.enqueueing import RequestedCall, enqueue_once
from airflow_provider.calls.failures import ended, judge
from airflow_provider.calls.waiting import Goal, WaitStatus
from airflow_provider.operators.voice_task import CallingTask
from voiceflow_worker import InvalidInputError, call_as_json
from voiceflow_worker.campaigns.reading import Of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from voiceflow_worker import Job


class OneCallTask(CallingTask):
    """A task that makes one call. Instances of a mapped task with the same `unique_key` share a call."""

    template_fields: Sequence[str] = (*CallingTask.template_fields, "destination", "unique_key")

    def __init__(self, *, unique_key: str | None = None, on_clear: str = "same_call", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.unique_key = unique_key
        if on_clear not in {"same_call", "call_again"}:
            raise ValueError(f"on_clear={on_clear!r}: use 'same_call' (a clear shows the outcome) or 'call_again'")
        self.on_clear = on_clear

    def _enqueue(self, context: Context) -> Job:
        """Return the job of this task instance. If there is none, enqueue one."""
        job = self._enqueued(
            context, lambda: partial(enqueue_once, requested=self._requested()), lambda job: {"job_id": job.id}
        )
        self._waited = replace(self._waited, job_ids=[job.id])
        self._go_on()
        return job

    def _requested(self) -> RequestedCall:
        """Return the call that this task requests."""
        raise NotImplementedError

    def _call(self, **said: Any) -> RequestedCall:
        """Return the call with the fields of this task, and with those that are `said` here."""
        fields = {"batch": self._identity.batch_id(), **self._said(), **said}
        if "valid_for" in fields:  # the end that comes first counts
            fields.pop("valid_until", None)
        return RequestedCall(
            fields=fields,
            settings=self.hook.settings(),
            unique_key=self.unique_key,
            valid_until=self._latest(),
            again=self.again,
            calls_again=self.on_clear == "call_again",
        )


class VoiceCallOperator(OneCallTask):
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

    template_fields: Sequence[str] = (*OneCallTask.template_fields, "country", "say", "flow", "batch", "data")
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

    def _started(self, context: Context) -> None:
        job = self._enqueue(context)
        self.log.info("call %s to %s is %s", job.id, job.destination, job.state.value)

    def _requested(self) -> RequestedCall:
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
        return self._call(**{name: value for name, value in said.items() if value is not None})

    def _lost(self, status: WaitStatus) -> bool:
        return any(map(self._was_stopped, status.jobs))

    def _done(self, status: WaitStatus, rows: Mapping[str, Any] | None) -> Any:  # noqa: ARG002 - a campaign's has them
        (job,) = status.jobs
        if self._waited.goal is not Goal.NOTHING or job.state.is_final:
            judge([job], fail_on=self.fail_on, store=self.hook.store_url())
            self.log.info("%s", ended(job))
        return call_result(job)


def call_result(job: Job) -> dict[str, Any]:
    """Return the call as JSON. Its outcome is there once, and not again with the attempt that it is from."""
    result: dict[str, Any] = call_as_json(job)
    attempts = cast("list[dict[str, Any]]", result["attempts"])
    if attempts and attempts[-1]["outcome"] == result["outcome"]:
        del attempts[-1]["outcome"]
    return result
