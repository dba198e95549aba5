"""Read-only queries of the store for the pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from voiceflow_worker.core.events.progress import CallProgress
from voiceflow_worker.core.overview.status import QueueStatus, read_status
from voiceflow_worker.core.overview.story import Story, story
from voiceflow_worker.core.ports import Query, Store
from voiceflow_worker.core.ports.identity import job_of, queue_of
from voiceflow_worker.core.ports.queue_names import QueueNames
from voiceflow_worker.errors import PhoneNumberError
from voiceflow_worker.model.jobs.gate import Gate, GateScope
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.tally import Totals
from voiceflow_worker.model.numbers.phone import parse_number, usual_form
from voiceflow_worker.model.text.names import QUEUE_NAME

DEFAULT_QUEUE = "default"
CALLS_A_PAGE = 100
MOST_DOUBTS = 20
MOST_FOUND = 100
MOST_READ = 500
"""Calls to one number that are looked at to find the newest: stores list the oldest first."""
LONGEST_NAME = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchView:
    """A batch and one page of its calls; `after` is where the next page goes on, None when there is none.

    `totals` stand on the first page only.
    """

    queue: str
    batch_id: str
    states: Mapping[JobState, int]
    gate: Gate | None
    totals: Totals | None
    calls: tuple[Job, ...]
    after: str | None

    @property
    def total(self) -> int:
        """All calls of the batch that the store holds."""
        return sum(self.states.values())

    @property
    def states_there(self) -> list[tuple[str, int]]:
        """The states that any call is in."""
        return [(state.value, self.states[state]) for state in JobState if self.states[state]]


class PageQueries:
    """The queries of one store for the pages. Every method raises StoreError."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def queues(self, *, also: str | None = None) -> list[tuple[QueueStatus, Sequence[Job]]]:
        """The queues that ever had a worker, the default one, and `also`; each with its oldest calls in doubt."""
        looks: list[tuple[QueueStatus, Sequence[Job]]] = []
        for name in await self._names(also):
            status = await read_status(self._store, name)
            doubts: Sequence[Job] = ()
            if status.doubts:
                doubts = await self._store.jobs.find(
                    Query(queue=name, states=frozenset({JobState.IN_DOUBT}), limit=MOST_DOUBTS)
                )
            looks.append((status, doubts))
        return looks

    async def call(self, job_id: str) -> tuple[Job, Story] | None:
        """The call with this id and its story; None if there is none."""
        job = await self._job(job_id)
        if job is None:
            return None
        heard = await CallProgress(self._store).of_job(job)
        return job, story(job, at=self._store.clock.now(), heard=heard)

    async def find(self, text: str, *, also: str | None = None) -> list[Job]:
        """The calls with this id, `clientRequestId`, number or unique key, the newest first; `MOST_FOUND` at most."""
        job = await self._job(text)
        if job is None and (post := job_of(text)) is not None:
            job = await self._job(post[0])
        if job is not None:
            return [job]
        number = _number(text)
        found: dict[str, Job] = {}
        for name in await self._names(also):
            questions = [Query(queue=name, unique_key=text, limit=MOST_FOUND)]
            if number is not None:
                questions.append(Query(queue=name, destination=number, limit=MOST_READ))
            for question in questions:
                found |= {job.id: job for job in await self._store.jobs.find(question)}
        return sorted(found.values(), key=lambda job: (job.created_at, job.id), reverse=True)[:MOST_FOUND]

    async def batch(self, queue: str, batch_id: str, *, after: str | None) -> BatchView | None:
        """A batch, and its calls behind `after`; None if there is no such batch."""
        if not QUEUE_NAME.fullmatch(queue) or len(batch_id) > LONGEST_NAME:
            return None
        if after is not None and (len(after) > LONGEST_NAME or queue_of(after) != queue):
            return None
        states = await self._store.jobs.count(queue, batch_id=batch_id)
        gate = await self._gate(queue, batch_id)
        if not any(states.values()) and gate is None:
            return None
        calls = await self._store.jobs.find(Query(queue=queue, batch_id=batch_id, after=after, limit=CALLS_A_PAGE + 1))
        shown = tuple(calls[:CALLS_A_PAGE])
        return BatchView(
            queue=queue,
            batch_id=batch_id,
            states=states,
            gate=gate,
            totals=await self._store.jobs.totals(queue, batch_id=batch_id) if after is None else None,
            calls=shown,
            after=shown[-1].id if len(calls) > CALLS_A_PAGE else None,
        )

    async def _job(self, job_id: str) -> Job | None:
        # Only for what can be an id: some stores find the job by the queue in it.
        if len(job_id) > LONGEST_NAME or "." not in job_id or not QUEUE_NAME.fullmatch(queue_of(job_id)):
            return None
        return (await self._store.jobs.get([job_id])).get(job_id)

    async def _names(self, also: str | None) -> list[str]:
        known = await QueueNames(self._store).known()
        named = {also} if also is not None and QUEUE_NAME.fullmatch(also) else set[str]()
        return sorted({DEFAULT_QUEUE, *known, *named})

    async def _gate(self, queue: str, batch_id: str) -> Gate | None:
        now = self._store.clock.now()
        for gate in await self._store.control.gates(queue):
            if gate.scope is GateScope.BATCH and gate.name == batch_id and gate.is_closed(at=now):
                return gate
        return None


def _number(text: str) -> str | None:
    try:
        return usual_form(parse_number(text).e164)
    except PhoneNumberError:
        return None
