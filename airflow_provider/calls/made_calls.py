"""The calls that a task has made: their cancellation when it is stopped, and what each is to a later try."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Any

from airflow_provider.calls.arguments import has_none
from airflow_provider.calls.failures import never_rang
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.task_state import batches_of, taken_by
from voiceflow_worker import CallQueue, Job, JobState, VoiceflowError
from voiceflow_worker.campaigns.calls.options import CallAgain, states_of
from voiceflow_worker.core.idempotency import KeyMatch
from voiceflow_worker.core.imports import StagedImport, stop_imports
from voiceflow_worker.core.ports.store import Same
from voiceflow_worker.errors import IllegalMoveError, StaleJobError
from voiceflow_worker.types import Actor

# Stored with cancelled calls, and compared by later tries.
STOPPED_BY_AIRFLOW = "Airflow stopped its task"
MOVED = "its Airflow task makes it again in another batch"
INTERRUPTED = "its Airflow task was killed while it stored its calls, and lists other rows now"
_OURS = frozenset({STOPPED_BY_AIRFLOW, MOVED, INTERRUPTED})
RESUMED = "its Airflow task goes on with the redial that it had cancelled"
UNSENT = frozenset({JobState.QUEUED, JobState.LEASED})

log = logging.getLogger(__name__)

PAGE = 1000
TOGETHER = 200
"""The largest number of redials that are requested at the same time."""


class CallsChangedError(VoiceflowError):
    """Raised when the task's calls were changed by another try or instance at the same time. A retry can succeed."""


class OnClear(StrEnum):
    """The behaviour of a task that a user clears after its call has ended."""

    SAME_CALL = "same_call"
    """The task shows the outcome of the earlier call."""
    CALL_AGAIN = "call_again"
    """The task calls again, once per clear."""


class TaskOrders:
    """The orders of a task instance: a call of an earlier try stands, whatever the task says by then.

    A call that certainly rang nobody's phone is made again in three cases: a task cancelled it when it was stopped,
    `again` names its state, or a user cleared the task since. (A clear makes a call that a person cancelled only if it
    is the only call of its task.) If the task calls once in all runs, the call of another run is made again only if it
    was not sent and no person cancelled it. With CALL_AGAIN, a clear also makes a call again that has ended, but never
    one in doubt. The instances of a mapped task share a call to a number if they say the same.

    `on_clear` is for a task with one call. A campaign has None, and its `batch_id`.
    """

    other = (
        "another instance of this task calls the number of this row with a different text; give each row a unique_key"
    )

    def __init__(
        self,
        identity: TaskIdentity,
        *,
        again: CallAgain = False,
        on_clear: OnClear | None = None,
        batch_id: str | None = None,
    ) -> None:
        self._identity = identity
        self._again = states_of(again)
        self._on_clear = on_clear
        self._batch_id = batch_id
        self.stopped: dict[str, Job] = {}
        """The calls that were met whose redial a task cancelled, by id. The redial goes on."""
        self.elsewhere: set[str] = set()
        """The waiting calls that were met in the batch of an instance that had another index before a clear, by id."""
        self.differing: set[str] = set()
        """The calls that were met which say something else than their rows do now, by id."""

    def key(self, called: str, place: int) -> str:
        """Return the unique key of a row."""
        return self._identity.call_key(called, place)

    def match(self, owner: Job, digest: str) -> KeyMatch:
        """Return whether this call stands for a row or a task with its key."""
        if self._is_again(owner):
            return KeyMatch.AGAIN
        if self._identity.is_of_other_run(owner.data):
            return KeyMatch.SAME
        is_siblings = self._identity.is_sibling_of(owner.data)
        if owner.body_digest != digest:
            if is_siblings:
                return KeyMatch.OTHER
            self.differing.add(owner.id)
        if _lost_redial(owner):
            self.stopped[owner.id] = owner
        is_waiting = owner.state in UNSENT and owner.attempt == 0
        if self._batch_id is not None and is_waiting and not is_siblings and not self._is_here(owner):
            self.elsewhere.add(owner.id)
        return KeyMatch.SAME

    def is_own(self, job: Job) -> bool:
        """Return whether the keys of this task find this call."""
        return self._identity.finds(job.data)

    def problems(self, row: Mapping[str, object]) -> Iterable[tuple[str, str]]:
        """Return the columns whose text has the word None."""
        return [
            (str(name), f"has the word None ({value!r}): a value was missing")
            for name, value in row.items()
            if isinstance(value, str) and has_none(value)
        ]

    def _is_again(self, job: Job) -> bool:
        is_silent = never_rang(job)
        if was_cancelled_by_task(job) or (is_silent and job.state in self._again):
            return True
        if self._identity.is_of_other_run(job.data):
            return is_silent and job.state is not JobState.CANCELLED
        if not self._identity.was_cleared_since(job.data):
            return False
        if is_silent:
            return self._on_clear is not None or job.state is not JobState.CANCELLED
        return self._on_clear is OnClear.CALL_AGAIN and job.state.is_final

    def _is_here(self, job: Job) -> bool:
        is_mine = self._batch_id == self._identity.batch_id() or self._identity.owns(job.data)
        return is_mine and job.batch_id == self._batch_id


def was_cancelled_by_task(job: Job) -> bool:
    """Return whether a task cancelled this call before it rang."""
    return job.state is JobState.CANCELLED and job.reason in _OURS and never_rang(job)


def refuse_cancelled(job: Job) -> None:
    """Raise CallsChangedError if a task cancelled this call."""
    if was_cancelled_by_task(job):
        raise CallsChangedError(
            f"call {job.id} to {job.number} was cancelled ({job.reason}) while this task waited for it. Nobody "
            "was called. A retry makes a new call"
        )


def _lost_redial(job: Job) -> bool:
    """Return whether a task cancelled the redial that this call waited for. An earlier POST may have rung."""
    is_ended = job.state in {JobState.CANCELLED, JobState.UNREACHED}
    return is_ended and job.reason in _OURS and not never_rang(job) and bool(job.posts)


async def resume_redials(queue: CallQueue, calls: Collection[Job]) -> list[Job]:
    """Go on with redials that a task cancelled, when they would have been due. Returns the calls that go on.

    The person's next number is due at once.
    """

    async def resumed(job: Job) -> Job | None:
        post = job.posts[-1]
        ended = (post.outcome.ended_at if post.outcome is not None else None) or post.answered_at
        due = None if ended is None or job.redial is None or job.place else ended + job.redial.wait(job.outcome_status)
        try:
            return await acting_on(queue, job).redial(
                job.id, note=RESUMED, post=job.post_count, not_before=due, goes_on=True
            )
        except IllegalMoveError:
            return None

    going, jobs = list[Job](), list(calls)
    for start in range(0, len(jobs), TOGETHER):
        found = await asyncio.gather(*map(resumed, jobs[start : start + TOGETHER]))
        going += [job for job in found if job is not None]
    if jobs:
        log.info("redials that were cancelled when the task was stopped: %s go on", len(going))
    if late := len(jobs) - len(going):
        log.warning("%s redials are not made any more, because their validity or calling window has passed", late)
    return going


class Stop:
    """The stop of one try of a task: what has not been sent is cancelled, unless a later try has taken it over.

    It is the stop of a campaign, or of the calls `job_ids`. Without the try (`identity`, `try_id`) nothing is compared.
    """

    def __init__(
        self,
        identity: TaskIdentity | None,
        try_id: str,
        *,
        job_ids: Sequence[str] = (),
        batch_id: str | None = None,
    ) -> None:
        self._identity = identity
        self._try_id = try_id
        self._job_ids = job_ids
        self._batch_id = batch_id

    async def carry_out(self, opened: AbstractAsyncContextManager[CallQueue]) -> None:
        """Cancel the calls in the queue that is to be `opened`, and log their number, or why they were not.

        Of a campaign, the first write keeps all calls from being sent, however far the rest comes.
        """
        try:
            async with opened as queue:
                ended = await self._cancel(queue)
        except StaleJobError:
            log.info("the task was stopped, but a later try has taken over its calls: they go on")
        except Exception:
            log.exception("the task was stopped, but %s could not be cancelled and may still be sent", self)
        else:
            log.info("the task was stopped: %s unsent calls were cancelled", ended)

    async def _cancel(self, queue: CallQueue) -> int:
        identity = self._identity
        conditions = () if identity is None else (taken_by(identity, self._try_id),)
        if identity is None or self._batch_id is None:
            return await cancel_calls(queue, self._job_ids, reason=STOPPED_BY_AIRFLOW, conditions=conditions)
        imports = await imports_of(queue, identity)
        by = Actor(on="Airflow", login=identity.in_words)
        ended = await stop_imports(
            queue.store, queue.name, imports, batch=self._batch_id, by=by, asked=self._try_id,
            reason=STOPPED_BY_AIRFLOW, conditions=conditions, policy=queue.policy,
        )  # fmt: skip
        if ended is None:
            raise StaleJobError(self._batch_id)
        batches = {self._batch_id, *(name for name, _ in imports)}
        return ended + await cancel_unsent(queue, batches, identity, conditions=conditions)

    @property
    def cut(self) -> str:
        """What is logged when Airflow gives no more time."""
        return (
            f"the stop of {self} takes longer than Airflow waits for it. It goes on while this process runs. What is "
            "left of a campaign then is staged: nobody is called for it, unless this task is cleared or tried again"
        )

    def as_arguments(self) -> dict[str, Any]:
        """Return the try as arguments of a trigger."""
        return {"owner": None if self._identity is None else self._identity.as_json(), "try_id": self._try_id}

    def __str__(self) -> str:
        return f"batch {self._batch_id}" if self._batch_id is not None else f"call {', '.join(self._job_ids)}"


async def imports_of(queue: CallQueue, identity: TaskIdentity) -> list[tuple[str, str]]:
    """Return the imports of all tries of a campaign task, each as its batch and its token."""
    batches = await batches_of(queue, identity).all()
    return [(name, token) for name, tokens in batches for token in (tokens or "").split()]


async def cancel_calls(
    queue: CallQueue, job_ids: Sequence[str], *, reason: str, conditions: tuple[Same, ...] = ()
) -> int:
    """Cancel those of the calls that have not been sent, and return their number. Raises StaleJobError."""
    if not job_ids:
        return 0
    acting = acting_on(queue, await queue.get(job_ids[0]))
    return len(await acting.cancel_many(job_ids, reason=reason, conditions=conditions))


async def discard_staged(queue: CallQueue, batch_id: str, identity: TaskIdentity, *, is_stopped: bool) -> int:
    """Cancel the staged calls of this instance, and return their number.

    They were stopped, or a killed try has left them. The try after that lets them ring if it lists all of their rows:
    so this one lists other rows.
    """
    own, count = {token for _, token in await imports_of(queue, identity)}, 0
    reason = STOPPED_BY_AIRFLOW if is_stopped else INTERRUPTED

    def is_mine(each: StagedImport) -> bool:
        return each.gate.start in own and (each.gate.reason == STOPPED_BY_AIRFLOW) == is_stopped

    # The try that was stopped may be discarding them too.
    while imports := [each for each in await queue.staged(batch_id) if is_mine(each)]:
        count += await queue.discard_staged(batch_id, imports=imports, reason=reason)
    return count


async def cancel_unsent(
    queue: CallQueue,
    batch_ids: Collection[str],
    identity: TaskIdentity,
    *,
    reason: str = STOPPED_BY_AIRFLOW,
    conditions: tuple[Same, ...] = (),
) -> int:
    """Cancel the unsent calls of a task instance in these batches, which stay open for the next try."""
    found = [job.id for job in await _unsent(queue, batch_ids, identity)]
    return await cancel_calls(queue, found, reason=reason, conditions=conditions)


async def _unsent(queue: CallQueue, batch_ids: Collection[str], identity: TaskIdentity) -> list[Job]:
    """Return a task instance's unsent calls in these batches.

    All calls in the batch that is named after the task instance belong to this instance.
    """
    return [
        job
        for batch_id in batch_ids
        async for job in calls_of_batch(queue, batch_id, UNSENT)
        if batch_id == identity.batch_id() or identity.owns(job.data)
    ]


async def calls_of_batch(queue: CallQueue, batch_id: str, states: Collection[JobState]) -> AsyncIterator[Job]:
    """Yield the calls of a batch that are in `states`. The store is read in pages."""
    after: str | None = None
    while found := await queue.find(states=states, batch_id=batch_id, after=after, limit=PAGE):
        for job in found:
            yield job
        after = found[-1].id


def acting_on(queue: CallQueue, job: Job) -> CallQueue:
    """Return the queue for an action of the task instance that made this call: the audit log has its DAG and run."""
    data = job.data or {}
    words = {"airflow_dag_id": "DAG", "airflow_run_id": "run", "airflow_task_id": "task"}
    named = [f"{word} {data[name]}" for name, word in words.items() if data.get(name) is not None]
    by = Actor(on="Airflow", login=", ".join(named) or None)
    return CallQueue(queue.store, queue.name, policy=queue.policy, by=by)
