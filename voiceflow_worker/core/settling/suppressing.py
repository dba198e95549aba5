"""The suppression list as people use it: who is put on it has no waiting call any more."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing
from functools import partial

from voiceflow_worker.core.audit import Actor, AuditedStore, AuditEntry
from voiceflow_worker.core.base.identity import QueueNames
from voiceflow_worker.core.base.reading import count_states, find_jobs, find_pages
from voiceflow_worker.core.base.round_trips import gather
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reads import Listing, OfNumber
from voiceflow_worker.core.settling.changes import PAGE, Changes
from voiceflow_worker.core.suppression import SuppressedNumbers, Suppression, why_refused
from voiceflow_worker.errors import JobError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.job import Job, JobState, ReasonKind
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.numbers.phone import aliases
from voiceflow_worker.model.text.wording import count_of

_NOT_BEGUN = frozenset({JobState.QUEUED, JobState.LEASED})


class SuppressionList(SuppressedNumbers):
    """The numbers that are not called. Every queue looks up a number before it sends a call to it.

    Numbers are read as in lists (`read_number`), with a `country`, and are stored in E.164 form. Methods raise
    StoreUnavailableError. For an argument that is not one number they raise PhoneNumberError, and change nothing.
    `policy` is that of the workers; `by` is who puts numbers on the list, for the audit log of the calls that end.
    """

    def __init__(self, store: Store, *, policy: CallPolicy | None = None, by: Actor | None = None) -> None:
        super().__init__(store)
        self._policy = policy or CallPolicy()
        self._by = by or Actor()

    async def end_waiting(self, listed: Mapping[str, Suppression]) -> None:
        """End the waiting calls to these numbers, in every known queue. The audit log of their batches names them.

        A call that waits for a redial ends as `unreached`, another one as `cancelled`; one that is due after an entry
        ends stays. Of each queue this reads the calls of these numbers, or the waiting calls if they are fewer. Calls
        that only connect to a number end when they would be sent. Raises StoreError; it is then safe to repeat this.
        """
        now, by = self._clock.now(), replace(self._by, key=None)
        standing = {each: entry for number, entry in listed.items() for each in aliases(number)}
        waiting: dict[tuple[str, str], dict[str, Job]] = {}

        def ended(job: Job) -> Job:
            refused = why_refused(job, standing, at=max(now, job.due_at))
            if refused is None or job.state not in _NOT_BEGUN:
                return job
            who = f", put there by {by.called}" if by.login is not None and by.called not in refused[1] else ""
            reason, kind = f"{refused[1]}{who}", ReasonKind.SUPPRESSED
            return lifecycle.cancel(job, at=now, reason=reason, kind=kind, policy=self._policy)

        async def end(found: Job, changes: Changes) -> bool:
            with contextlib.suppress(JobError):  # one that has begun since can no longer be ended
                changed = await changes.change(found.id, ended, base=found)
                return changed.new is not changed.old
            return False

        for queue in await QueueNames(self._store).known():
            async for page in self._to(standing, queue):
                for job in page:
                    if ended(job) is not job:
                        waiting.setdefault((queue, job.batch_id or ""), {})[job.id] = job
        for (queue, batch), jobs in sorted(waiting.items()):
            numbers = [job.destination for job in jobs.values()]
            entry = AuditEntry.of(by, "suppress", at=now, queue=queue, batch=batch or None, numbers=numbers)
            log = AuditedStore(self._store, entry)
            changes = Changes(log.store if batch else self._store, self._policy)
            gone = sum(await gather(*(partial(end, job, changes) for job in jobs.values())))
            if log.is_kept:
                await log.finish(f"{count_of(gone, 'waiting call')} ended")

    async def _to(self, numbers: Collection[str], queue: str) -> AsyncIterator[Sequence[Job]]:
        """Pages of jobs of a queue, with all waiting calls to these numbers."""
        states = await count_states(self._store, queue)
        if sum(states[each] for each in _NOT_BEGUN) < len(numbers):
            async with aclosing(find_pages(self._store, Listing(queue=queue, states=_NOT_BEGUN, limit=PAGE))) as pages:
                async for page in pages:
                    yield page
            return
        reads = (partial(find_jobs, self._store, OfNumber(queue=queue, number=each)) for each in numbers)
        for found in await gather(*reads):
            yield found
