"""Read-only queries of the store for the pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import anyio
import anyio.lowlevel

from voiceflow_worker.core.events.progress import CallProgress
from voiceflow_worker.core.overview.status import QueueStatus, read_status
from voiceflow_worker.core.overview.story import Story, story
from voiceflow_worker.core.ports import Query, Store
from voiceflow_worker.core.ports.identity import checked_queue, job_of, queue_of
from voiceflow_worker.core.ports.queue_names import QueueNames
from voiceflow_worker.errors import InvalidInputError, PhoneNumberError
from voiceflow_worker.model.jobs.gate import Gate, GateScope
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.numbers.phone import parse_number, usual_form
from voiceflow_worker.model.reports.status import REACHED

DEFAULT_QUEUE = "default"
CALLS_A_PAGE = 100
MOST_DOUBTS = 20
MOST_FOUND = 100
MOST_READ = 500
"""Calls to one number that are looked at to find the newest: stores list the oldest first."""
MOST_COUNTED = 5000
"""Calls of a batch whose outcomes are counted for its page. `voiceflow report` counts them all."""
LONGEST_NAME = 256

# Reading a job takes some 30 µs, in the process that answers the webhooks: a page of so many holds those up for 5 ms.
_READ_AT_ONCE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """A queue, and the oldest of its calls in doubt."""

    status: QueueStatus
    doubts: tuple[Job, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallView:
    """A call and its story."""

    job: Job
    story: Story


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOutcomes:
    """How the first `counted` calls of a batch ended, and what was pressed in them."""

    counted: int
    outcomes: Mapping[str, int]
    answered: int
    digits: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchView:
    """A batch and one page of its calls; `after` is where the next page goes on, None when there is none.

    `tally` is counted for the first page only.
    """

    queue: str
    batch_id: str
    states: Mapping[JobState, int]
    gate: Gate | None
    tally: BatchOutcomes | None
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
    """Looks into one store. Every method raises StoreError."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # One at a time: twenty people who reload the page of a large batch must not take the receiver's time.
        self._counting = anyio.Lock()

    async def queues(self, *, also: str | None = None) -> list[QueueView]:
        """The queues that ever had a worker, the default one, and `also`."""
        looks: list[QueueView] = []
        for name in await self._names(also):
            status = await read_status(self._store, name)
            doubts: Sequence[Job] = ()
            if status.doubts:
                doubts = await self._store.jobs.find(
                    Query(queue=name, states=frozenset({JobState.IN_DOUBT}), limit=MOST_DOUBTS)
                )
            looks.append(QueueView(status=status, doubts=tuple(doubts)))
        return looks

    async def call(self, job_id: str) -> CallView | None:
        """The call with this id; None if there is none."""
        job = await self._job(job_id)
        if job is None:
            return None
        heard = await CallProgress(self._store).of_job(job)
        return CallView(job=job, story=story(job, at=self._store.clock.now(), heard=heard))

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
        if not _is_queue(queue) or len(batch_id) > LONGEST_NAME:
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
            tally=await self._tally(queue, batch_id) if after is None else None,
            calls=shown,
            after=shown[-1].id if len(calls) > CALLS_A_PAGE else None,
        )

    async def _job(self, job_id: str) -> Job | None:
        # A store is asked about what can be an id only: some of them find the job's place by the queue in it.
        if len(job_id) > LONGEST_NAME or "." not in job_id or not _is_queue(queue_of(job_id)):
            return None
        return (await self._store.jobs.get([job_id])).get(job_id)

    async def _names(self, also: str | None) -> list[str]:
        known = await QueueNames(self._store).known()
        named = {also} if also is not None and _is_queue(also) else set[str]()
        return sorted({DEFAULT_QUEUE, *known, *named})

    async def _gate(self, queue: str, batch_id: str) -> Gate | None:
        now = self._store.clock.now()
        for gate in await self._store.control.gates(queue):
            if gate.scope is GateScope.BATCH and gate.name == batch_id and gate.is_closed(at=now):
                return gate
        return None

    async def _tally(self, queue: str, batch_id: str) -> BatchOutcomes:
        outcomes: Counter[str] = Counter()
        digits: Counter[str] = Counter()
        counted = answered = 0
        after: str | None = None
        async with self._counting:
            while counted < MOST_COUNTED:
                page = await self._store.jobs.find(
                    Query(queue=queue, batch_id=batch_id, after=after, limit=_READ_AT_ONCE)
                )
                for job in page:
                    if job.digits:
                        digits[job.digits] += 1
                    if (outcome := job.outcome) is not None:
                        outcomes[outcome.text_of(job.destination)] += 1
                        answered += job.outcome_status in REACHED
                counted += len(page)
                if len(page) < _READ_AT_ONCE:
                    break
                after = page[-1].id
                await anyio.lowlevel.checkpoint()
        return BatchOutcomes(
            counted=counted,
            outcomes=dict(outcomes.most_common()),
            answered=answered,
            digits=dict(sorted(digits.items())),
        )


def _is_queue(name: str) -> bool:
    try:
        checked_queue(name)
    except InvalidInputError:
        return False
    return True


def _number(text: str) -> str | None:
    try:
        return usual_form(parse_number(text).e164)
    except PhoneNumberError:
        return None
