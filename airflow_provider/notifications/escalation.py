"""Escalation: people are called one after another until somebody presses a key to acknowledge."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider.calls.identity import TaskIdentity, digest
from airflow_provider.calls.waiting.polling import StopFlag, WaitedTooLongError, poll
from airflow_provider.calls.waiting.worker import sending
from voiceflow_worker import CallQueue, Job, VoiceflowError, read_number, telephone_of
from voiceflow_worker.errors import TooLateError

if TYPE_CHECKING:
    from airflow_provider.hooks.voice import VoiceFlowHook

log = logging.getLogger(__name__)

MENU = "approval"
RING = timedelta(seconds=90)
"""The time after `answer_within` in which a call that was placed at the last moment can still ring and be answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """A series of calls to people, one after the other, until one of them acknowledges by pressing `key`.

    A person is called within `answer_within`, or not at all. The next number is called when the call has ended without
    `key`, or `RING` after `answer_within` at the latest. `occasion` identifies the event: if a callback runs twice for
    the same event, the second run makes no new calls.
    """

    occasion: tuple[object, ...]
    numbers: Sequence[str]
    question: str
    source: str
    voice_profile: str
    key: str
    answer_within: timedelta
    send_here: bool

    @property
    def batch_id(self) -> str:
        """The id of the batch with these calls."""
        return f"alarm.{digest(*self.occasion, 'batch')[:24]}"

    def is_acknowledged(self, job: Job) -> bool:
        """Return whether the person pressed the key in this call."""
        return job.answer == "yes"


def occasion_of(context: Mapping[str, Any]) -> tuple[object, ...]:
    """Return the occasion of a call: a deadline, a run of a DAG, one try of a task instance, or its open question."""
    dag_run: Any = context.get("dag_run")
    if "deadline" in context:  # the deadline and the DAG run are plain mappings
        run_id = dag_run.get("dag_run_id") or dag_run.get("run_id")
        return ("deadline", dag_run.get("dag_id"), run_id, context["deadline"].get("id"))
    ti = context.get("ti") or context.get("task_instance")
    if ti is None or "reason" in context:
        # A callback of a whole run: the context has an arbitrary task instance. A cleared run may fail again.
        dag_id = getattr(dag_run, "dag_id", None) or getattr(context.get("dag"), "dag_id", None)
        run_id = context.get("run_id") or getattr(dag_run, "run_id", None)
        return ("run", dag_id, run_id, getattr(dag_run, "clear_number", 0) or 0)
    task = TaskIdentity.of({"ti": ti, "loop": context.get("loop")})
    # A task that asks people (`ApprovalOperator`) calls its notifiers before it waits; it may still fail after that.
    kind = "task" if waiting_subject(context) is None else "question"
    return (kind, *task.occasion, getattr(ti, "try_number", 0))


def waiting_subject(context: Mapping[str, Any]) -> str | None:
    """Return the subject of the question for which the task of this context waits; None if it is no such task."""
    subject = getattr(context.get("task"), "subject", None)
    has_failed = context.get("exception") is not None
    return str(subject) if subject and hasattr(context.get("task"), "notifiers") and not has_failed else None


async def escalate(hook: VoiceFlowHook, escalation: Escalation) -> dict[str, Any]:
    """Call one number after another until somebody acknowledges.

    Returns `{"acknowledged_by": number, "job_ids": ids of all calls}`. The number is None if nobody acknowledged.
    A number that cannot be called is logged and skipped. Read the hook's settings first.
    """
    job_ids: list[str] = []
    stop = StopFlag()
    async with (
        hook.opened_queue() as queue,
        sending(hook, queue, batch_id=escalation.batch_id, stop=stop, sends=escalation.send_here),
    ):
        listed: Counter[str] = Counter()
        for number in escalation.numbers:
            try:
                telephone = telephone_of(read_number(number))
                listed[telephone] += 1
                job = await _call(queue, escalation, number, key=(telephone, listed[telephone]))
                job_ids.append(job.id)
                job = await _answered(queue, escalation, job, stop)
            except VoiceflowError as error:
                log.warning("%s could not be called: %s", number, error)
                continue
            if escalation.is_acknowledged(job):
                log.info("%s acknowledged with key %s in call %s", number, escalation.key, job.id)
                return {"acknowledged_by": number, "job_ids": job_ids}
            log.warning("%s did not acknowledge: call %s is %s", number, job.id, job.state.value)
    log.error("none of %s acknowledged", ", ".join(escalation.numbers))
    return {"acknowledged_by": None, "job_ids": job_ids}


async def _call(queue: CallQueue, escalation: Escalation, number: str, *, key: tuple[str, int]) -> Job:
    """Return the call to this number for this occasion. If there is none, enqueue one.

    `key` has the telephone of the number, and the place of this call (from 1) among the calls to the telephone.
    """
    from voiceflow_worker.ivr import approval_call, approval_data

    # Not the place in the list: a second callback may have the numbers in another order.
    unique_key = f"airflow-alarm-{digest(*escalation.occasion, *key)[:40]}"
    # A second callback may have another text, for instance another time. The existing call is used.
    found = await queue.find(unique_key=unique_key)
    if found:
        return found[0]
    choices = {escalation.key: "acknowledged"}
    question, voice_profile = escalation.question, escalation.voice_profile
    how = f"Press {escalation.key} to acknowledge."
    return await queue.enqueue(
        approval_call(
            number, source=escalation.source, question=question, voice_profile=voice_profile, choices=choices, how=how
        ),
        unique_key=unique_key,
        batch_id=escalation.batch_id,
        priority=1_000,
        valid_for=escalation.answer_within,
        menu=MENU,
        data=approval_data(question, voice_profile=voice_profile, choices=choices, how=how),
    )


async def _answered(queue: CallQueue, escalation: Escalation, job: Job, stop: StopFlag) -> Job:
    """Wait until the call is acknowledged or has ended, or its time is over (an unsent call is then cancelled)."""
    try:
        return await poll(
            queue,
            partial(queue.get, job.id),
            lambda job: job.state.is_final or escalation.is_acknowledged(job),
            subject=f"call {job.id}",
            every=1.0,
            limit=escalation.answer_within + RING,
            stop=stop,
        )
    except WaitedTooLongError:
        with contextlib.suppress(TooLateError):
            return await queue.cancel(job.id, reason="nobody answered in time; the next number is called")
        return await queue.get(job.id)
