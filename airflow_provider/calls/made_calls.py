"""The calls that a task has made: their cancellation when it is stopped, and what each is to a later try."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial

from airflow_provider.calls.arguments import has_none
from airflow_provider.calls.failures import never_rang
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.waiting import WaitedCalls
from voiceflow_worker import CallQueue, Job, JobState, VoiceflowError
from voiceflow_worker.campaigns.calls.options import CallAgain, states_of
from voiceflow_worker.core.idempotency import KeyMatch
from voiceflow_worker.core.imports import stop_imports
from voiceflow_worker.errors import IllegalMoveError

# Stored with cancelled calls, and compared by later tries.
STOPPED_BY_AIRFLOW = "Airflow stopped its task"
INTERRUPTED = "its Airflow task was killed while it stored its calls, and lists other rows now"
_OURS = frozenset({STOPPED_BY_AIRFLOW, INTERRUPTED})
RESUMED = "its Airflow task goes on with the redial that it had cancelled"
UNSENT = frozenset({JobState.QUEUED, JobState.LEASED})

log = logging.getLogger(__name__)

PAGE = 1000
TOGETHER = 200
"""The largest number of redials that are requested at the same time."""


class CallsChangedError(VoiceflowError):
    """Raised when another try or instance has changed the task's calls at the same time. A retry can succeed."""


class TaskOrders:
    """The orders of a task instance: a call of an earlier try stands, whatever the task says by then.

    A call that certainly rang nobody's phone is made again in three cases: a task cancelled it when it was stopped,
    `again` names its state, or a user cleared the task since. (A clear makes a call that a person cancelled only if it
    is the only call of its task, which has no `batch_id` of a campaign.) If the task calls once in all runs, the call
    of another run is made again only if it was not sent and no person cancelled it. If a clear `calls_again`, it also
    makes a call again that has ended, but never one in doubt. The instances of a mapped task share a call to a number
    if they say the same.
    """

    other = (
        "another instance of this task calls the number of this row with a different text; give each row a unique_key"
    )

    def __init__(
        self,
        identity: TaskIdentity,
        *,
        again: CallAgain = False,
        calls_again: bool = False,
        batch_id: str | None = None,
    ) -> None:
        self._identity = identity
        self._again = states_of(again)
        self._calls_again = calls_again
        self._batch_id = batch_id
        self.stopped: dict[str, Job] = {}
        """The calls that were met whose redial a task cancelled, by id. The redial goes on."""
        self.imports: set[str] = set()
        """The imports of this instance that stored the calls that were met."""
        self.differing: set[str] = set()
        """The calls that were met which say something else than their rows do now, by id."""

    def key(self, called: str, place: int) -> str:
        """Return the unique key of a row."""
        return self._identity.call_key(called, place)

    def match(self, owner: Job, digest: str) -> KeyMatch:
        """Return whether this call stands for a row or a task with its key."""
        if owner.worker_id is not None and self._identity.has_imported(owner.worker_id):
            self.imports.add(owner.worker_id)
        if self._is_again(owner):
            return KeyMatch.AGAIN
        if self._identity.is_of_other_run(owner.data):
            return KeyMatch.SAME
        is_siblings = self._identity.is_sibling_of(owner.data)
        if owner.digest != digest:
            if is_siblings:
                return KeyMatch.OTHER
            self.differing.add(owner.id)
        if lost_redial(owner):
            self.stopped[owner.id] = owner
        # What waits in the batch of an instance that had another index before a clear is made in the batch for whose
        # end this instance waits.
        is_elsewhere = self._batch_id is not None and not is_siblings and not self._is_here(owner)
        is_waiting = owner.state in UNSENT and owner.attempt == 0
        return KeyMatch.AGAIN if is_elsewhere and is_waiting else KeyMatch.SAME

    def is_own(self, job: Job) -> bool:
        """Return whether the keys of this task find this call."""
        return self._identity.finds(job.data)

    def goes_on(self, owner: Job) -> bool:
        """Return whether a task cancelled the redial of this call, and not a list without its row."""
        return lost_redial(owner)

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
            return self._batch_id is None or job.state is not JobState.CANCELLED
        return self._calls_again and job.state.is_final

    def _is_here(self, job: Job) -> bool:
        return job.batch_id == self._batch_id and self._identity.owns(job.data)


def was_cancelled_by_task(job: Job) -> bool:
    """Return whether a task cancelled this call before it rang."""
    return job.state is JobState.CANCELLED and job.reason in _OURS and never_rang(job)


def lost_redial(job: Job) -> bool:
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
            return await queue.redial(job.id, note=RESUMED, post=job.post_count, not_before=due, goes_on=True)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """The stop of a task: what has not been sent of its `calls` is cancelled, so that its next try makes it again.

    Its tries have stored the calls of a campaign by these `imports`.
    """

    identity: TaskIdentity
    calls: WaitedCalls
    imports: Sequence[str] = ()

    async def carry_out(self, opened: AbstractAsyncContextManager[CallQueue]) -> None:
        """Cancel the calls in the queue that is to be `opened`, and log their number, or why they were not."""
        try:
            async with opened as queue:
                log.info("the task was stopped: %s unsent calls were cancelled", await self._cancel(queue))
        except Exception:
            log.exception("the task was stopped, but %s could not be cancelled and may still be sent", self.calls)

    async def _cancel(self, queue: CallQueue) -> int:
        by, batch_id = self.identity.actor, self.calls.batch_id
        queue = CallQueue(queue.store, queue.name, policy=queue.policy, by=by)
        unsent, ended = self.calls.job_ids, 0
        if batch_id is not None:
            # At first what its tries have stored: one write stops it, however many calls it has.
            if imports := [(batch_id, token) for token in self.imports]:
                stopped = partial(stop_imports, by=by, reason=STOPPED_BY_AIRFLOW, policy=queue.policy)
                ended = await stopped(queue.store, queue.name, imports)
            found = calls_of_batch(queue, batch_id, UNSENT)
            unsent = [job.id async for job in found if self.identity.owns(job.data)]
        if unsent:
            ended += len(await queue.cancel_many(unsent, reason=STOPPED_BY_AIRFLOW, for_good=False))
        return ended

    def tell_cut(self) -> None:
        """Log that Airflow gives no more time."""
        log.warning(
            "the stop of %s takes longer than Airflow waits. It goes on while this process runs. What is left of a "
            "campaign then is held: nobody is called for it, unless this task is cleared or tried again",
            self.calls,
        )


async def discard_staged(queue: CallQueue, batch_id: str, identity: TaskIdentity, *, reason: str) -> int:
    """Cancel the calls of this instance that a stop, or a killed try (INTERRUPTED), has left staged; return how many.

    The try after a killed one lets them ring if it lists all of their rows. So this one lists other rows.
    """
    count = 0
    while imports := [  # the try that was stopped may be discarding them too
        each
        for each in await queue.staged(batch_id)
        if identity.has_imported(each.gate.start)
        and (each.gate.reason == STOPPED_BY_AIRFLOW) == (reason == STOPPED_BY_AIRFLOW)
    ]:
        count += await queue.discard_staged(batch_id, imports=imports, reason=reason)
    return count


async def calls_of_batch(queue: CallQueue, batch_id: str, states: Collection[JobState]) -> AsyncIterator[Job]:
    """Yield the calls of a batch that are in `states`. The store is read in pages."""
    after: str | None = None
    while found := await queue.find(states=states, batch_id=batch_id, after=after, limit=PAGE):
        for job in found:
            yield job
        after = found[-1].id
