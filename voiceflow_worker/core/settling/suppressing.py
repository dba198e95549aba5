"""The suppression list as people use it: who is put on it has no waiting call any more."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial

from voiceflow_worker.core.audit import Actor, AuditEntry
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.identity import QueueNames
from voiceflow_worker.core.ports.reading import count_states, find_jobs
from voiceflow_worker.core.ports.reads import OfNumber
from voiceflow_worker.core.ports.round_trips import gather
from voiceflow_worker.core.ports.store import BulkWrite, Write
from voiceflow_worker.core.settling.changes import Changes
from voiceflow_worker.core.suppression import SuppressedNumbers, Suppression, why_refused
from voiceflow_worker.errors import JobError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.job import Job, JobState, ReasonKind
from voiceflow_worker.model.jobs.policy import CallPolicy
from voiceflow_worker.model.numbers.phone import all_spellings
from voiceflow_worker.model.text.arguments import checked
from voiceflow_worker.model.text.wording import count_of

MOST_NAMED = 20
"""The most calls that an entry of the audit log names."""
_NOT_BEGUN = frozenset({JobState.QUEUED, JobState.LEASED})


@checked
class SuppressionList(SuppressedNumbers):
    """The numbers that are not called. Every queue looks up a number before it sends a call to it.

    Numbers may be written as people write them (`read_number`), with a `country`, and are stored in E.164 form. Methods
    raise StoreUnavailableError. For an argument that is not one certain number they raise PhoneNumberError, and change
    nothing. Only `add` takes an uncertain one: all its readings go on the list. `policy` is that of the workers; `by`
    is who puts numbers on the list, for the audit log of the calls that end.
    """

    def __init__(self, store: Store, *, policy: CallPolicy | None = None, by: Actor | None = None) -> None:
        super().__init__(store)
        self._policy = policy or CallPolicy()
        self._by = by or Actor()

    async def add(
        self,
        *numbers: str,
        reason: str = "",
        until: datetime | None = None,
        country: str | None = None,
        file: str | None = None,
        check: Callable[[str], None] | None = None,
    ) -> Mapping[str, Suppression]:
        """Put numbers on the list, as `SuppressedNumbers.add` does, and end the waiting calls to them (`end_waiting`).

        A call that waits for a redial ends as `unreached`, another one as `cancelled`.
        """
        stored = await super().add(*numbers, reason=reason, until=until, country=country, file=file, check=check)
        await self.end_waiting(stored)
        return stored

    async def end_waiting(self, listed: Mapping[str, Suppression], *, changes: Changes | None = None) -> None:
        """End the waiting calls to these numbers, in every known queue. The audit log of their batches names them.

        A call that is due after an entry ends stays. This reads the calls of these numbers, in queues with waiting
        calls. Calls that only connect to a number end when they would be sent. Raises StoreError; it is then safe to
        repeat this.
        """
        waiting: list[str] = []
        for queue in await QueueNames(self._store).known():
            counted = await count_states(self._store, queue)
            waiting += [queue] if any(counted[state] for state in _NOT_BEGUN) else []
        if not waiting:
            return
        now, by = self._clock.now(), self._by
        gone: dict[tuple[str, str], list[Job]] = {}
        changes = changes or Changes(self._store, self._policy)

        def end(job: Job) -> Job:
            refused = why_refused(job, listed, at=max(now, job.due_at))
            if refused is None:
                return job
            unnamed = by.login is not None and by.called not in refused[1]
            reason = f"{refused[1]}, put there by {by.called}" if unnamed else refused[1]
            return lifecycle.cancel(job, at=now, reason=reason, kind=ReasonKind.SUPPRESSED, policy=self._policy)

        async def end_calls(queue: str, number: str) -> None:
            for found in await find_jobs(self._store, OfNumber(queue=queue, number=number)):
                if found.state not in _NOT_BEGUN:
                    continue
                with contextlib.suppress(JobError):  # one that has begun since can no longer be ended
                    ended = await changes.change(found.id, end, base=found)
                    if ended.new is not ended.old and found.batch_id is not None:
                        gone.setdefault((queue, found.batch_id), []).append(found)

        wanted = [(queue, number) for queue in waiting for number in all_spellings(listed)]
        await gather(*(partial(end_calls, queue, number) for queue, number in wanted))
        entries: list[AuditEntry] = []
        for (queue, batch), jobs in sorted(gone.items()):
            ids = ", ".join(sorted(job.id for job in jobs)[:MOST_NAMED])
            entries.append(
                AuditEntry.of(
                    replace(by, key=None, claim=None, order=None), "suppress", at=now, queue=queue, batch=batch,
                    numbers=list(dict.fromkeys(job.destination for job in jobs)),
                    result=f"{count_of(len(jobs), 'waiting call')} ended: {ids}",
                )
            )  # fmt: skip
        if entries:
            await self._store.write(BulkWrite(writes=tuple(Write(puts=each.puts()) for each in entries)), now=now)
