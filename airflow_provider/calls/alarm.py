"""An alarm: one person after the other is called until somebody acknowledges by key."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.sending import worker_for
from airflow_provider.calls.waiting import StopFlag, WaitedTooLongError, at_work, until
from voiceflow_worker import CallQueue, Job, TooLateError, VoiceflowError

if TYPE_CHECKING:
    from airflow_provider.hooks.voice import VoiceFlowHook

log = logging.getLogger(__name__)

MENU = "approval"
RING = timedelta(seconds=90)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Whom to call, in this order, what to ask, which key acknowledges, and how long each has to do so.

    `occasion` tells this alarm from others: a callback that fires twice for one occasion calls nobody twice.
    """

    occasion: tuple[object, ...]
    numbers: Sequence[str]
    question: str
    source: str
    voice_profile: str
    key: str
    answer_within: timedelta
    send_here: bool

    def digest(self, *more: object) -> str:
        """A digest of the occasion."""
        told = json.dumps([*self.occasion, *more], ensure_ascii=False, default=str)
        return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def batch_id(self) -> str:
        """The batch of this alarm's calls."""
        return f"alarm.{self.digest('batch')[:24]}"


def occasion_of(context: Mapping[str, Any]) -> tuple[object, ...]:
    """What this callback is about: a deadline, a run of a DAG, or one try of a task instance."""
    dag_run: Any = context.get("dag_run")
    if "deadline" in context:  # both are plain mappings then
        run_id = dag_run.get("dag_run_id") or dag_run.get("run_id")
        return ("deadline", dag_run.get("dag_id"), run_id, context["deadline"].get("id"))
    ti = context.get("ti") or context.get("task_instance")
    if ti is None or "reason" in context:
        # Of a whole run: which task instance the context shows is chance. A run that is cleared may fail anew.
        dag: Any = context.get("dag")
        dag_id = getattr(dag_run, "dag_id", None) or getattr(dag, "dag_id", None)
        run_id = context.get("run_id") or getattr(dag_run, "run_id", None)
        return ("run", dag_id, run_id, getattr(dag_run, "clear_number", 0) or 0)
    who = TaskIdentity.of({"ti": ti})
    return ("task", who.dag_id, who.run_id, who.task_id, who.map_index, getattr(ti, "try_number", 0))


async def raise_alarm(hook: VoiceFlowHook, alarm: Alarm) -> dict[str, Any]:
    """Call one number after the other until somebody presses the key.

    Says who did, and which calls were made: `{"acknowledged_by", "job_ids"}`. A number that cannot be called (wrong,
    refused, in doubt) is passed over for the next one, and told in the log. The hook's settings were asked for before.
    """
    settings = hook.settings()
    job_ids: list[str] = []
    async with hook.opened_queue() as queue, contextlib.AsyncExitStack() as stack:
        stop = StopFlag()
        if alarm.send_here:
            voice = await stack.enter_async_context(hook.get_client())
            worker = await worker_for(queue, voice, settings, batch_id=alarm.batch_id)
            await stack.enter_async_context(at_work(worker, stop=stop))
        for place, number in enumerate(alarm.numbers):
            try:
                job = await _call(queue, alarm, number, place)
                job_ids.append(job.id)
                job = await _answer(queue, alarm, job, stop)
            except VoiceflowError as error:
                log.warning("the alarm could not call %s: %s", number, error)
                continue
            if _acknowledged(job, alarm):
                log.info("%s acknowledged by key %s in call %s", number, alarm.key, job.id)
                return {"acknowledged_by": number, "job_ids": job_ids}
            log.warning("%s did not acknowledge: call %s is %s", number, job.id, job.state.value)
    log.error("nobody of %s acknowledged the alarm", ", ".join(alarm.numbers))
    return {"acknowledged_by": None, "job_ids": job_ids}


async def _call(queue: CallQueue, alarm: Alarm, number: str, place: int) -> Job:
    from voiceflow_worker import approval_call, approval_data

    choices = {alarm.key: "acknowledged"}
    flow = approval_call(
        number, source=alarm.source, question=alarm.question, voice_profile=alarm.voice_profile, choices=choices
    )
    unique_key = f"airflow-alarm-{alarm.digest(place, number)[:40]}"
    # The text of a second firing may differ (it tells the time): the call that is there is the one.
    found = await queue.find(unique_key=unique_key)
    if found:
        return found[0]
    return await queue.enqueue(
        flow,
        unique_key=unique_key,
        batch_id=alarm.batch_id,
        priority=1_000,
        valid_for=alarm.answer_within,
        menu=MENU,
        data=approval_data(alarm.question, voice_profile=alarm.voice_profile, choices=choices),
    )


async def _answer(queue: CallQueue, alarm: Alarm, job: Job, stop: StopFlag) -> Job:
    """The job once it is acknowledged or over; a call that is not even sent in time is taken back."""

    def is_reached(jobs: Sequence[Job]) -> bool:
        return all(job.state.is_final or _acknowledged(job, alarm) for job in jobs)

    try:
        (job,) = await until(
            queue, [job.id], is_reached, every=1.0, limit=alarm.answer_within + RING, stop=stop, sends=False
        )
    except WaitedTooLongError:
        with contextlib.suppress(TooLateError):
            return await queue.cancel(job.id, reason="nobody answered in time; the alarm goes to the next number")
        return await queue.get(job.id)
    return job


def _acknowledged(job: Job, alarm: Alarm) -> bool:
    return alarm.key in (job.digits or "").split(",")
