"""The older port (`core/ports/store.py`) over the nine methods, for callers that have not moved yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from voiceflow_worker.backends.redis.connection.durability import Durability
from voiceflow_worker.backends.redis.connection.link import Link
from voiceflow_worker.backends.redis.connection.survey import Packing
from voiceflow_worker.core.ports import Clock, Control, Event, Jobs, KeyOwner, Limits, Records, Slots
from voiceflow_worker.core.store_port import (
    GATES,
    LIMITS,
    Drop,
    Mode,
    Page,
    Put,
    Query,
    Step,
    Unit,
    gate_from,
    gate_key,
    limits_from,
    limits_put,
)
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.totals import Totals

if TYPE_CHECKING:
    from voiceflow_worker.backends.redis.store import RedisStore

_AT_ONCE = 500
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class OlderJobs(Jobs):
    """The port `Jobs`."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    async def lease(
        self,
        queue: str,
        *,
        worker_id: str,
        limit: int,
        lease_for: timedelta,
        now: datetime,
        batch_id: str | None = None,
    ) -> Sequence[Job]:
        return await self._store.lease(
            queue, worker_id=worker_id, limit=limit, until=now + lease_for, now=now, batch=batch_id
        )

    async def get(self, job_ids: Sequence[str]) -> Mapping[str, Job]:
        by_queue: dict[str, list[str]] = {}
        for job_id in job_ids:
            by_queue.setdefault(job_id.partition(".")[0], []).append(job_id)
        found: dict[str, Job] = {}
        for queue, ids in by_queue.items():
            query = Query(queue=queue, ids=tuple(ids), limit=None)
            found |= {job.id: job for job in await self._store.jobs(query, now=self._store.clock.now())}
        return found

    async def find(self, query: Query) -> Sequence[Job]:
        return await self._store.jobs(query, now=self._store.clock.now())

    async def count(
        self, queue: str, *, batch_id: str | None = None, due_before: datetime | None = None
    ) -> Mapping[JobState, int]:
        return (await self._store.totals(queue, batch=batch_id, due_before=due_before)).states

    async def totals(self, queue: str, *, batch_id: str | None = None) -> Totals:
        return await self._store.totals(queue, batch=batch_id)

    async def owners(self, queue: str, unique_keys: Sequence[str], *, now: datetime) -> Mapping[str, KeyOwner]:
        query = Query(queue=queue, unique_keys=tuple(unique_keys), limit=None)
        found = await self._store.jobs(query, now=now)
        return {
            job.unique_key: KeyOwner(job.id, job.body_digest, job.state) for job in found if job.unique_key is not None
        }

    async def events(self, queue: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        return await self._store.events(queue, after=after, limit=limit)

    async def forget_events(self, queue: str, *, before: datetime) -> int:
        return await _all_pruned(self._store, queue, now=_LONG_AGO, events_before=before)

    async def wait(self, queue: str, *, seen: int, until: datetime) -> int:
        return await self._store.wait(queue, seen=seen, until=until)


class OlderControl(Control):
    """The port `Control`."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    async def configure(self, queue: str, limits: Limits) -> None:
        put = limits_put(queue, limits)
        await self._store.write(Step(units=(Unit(puts=(put,), wakes=queue),)), now=self._store.clock.now())

    async def limits(self, queue: str) -> Limits | None:
        found = (await self._store.records({LIMITS: [queue]}, now=self._store.clock.now()))[LIMITS]
        return limits_from(found[0]) if found else None

    async def gates(self, queue: str) -> Sequence[Gate]:
        """The gates that are not open. The end of a hold is told by its record, which is then gone."""
        found = (await self._store.records({GATES: [queue]}, now=_LONG_AGO))[GATES]
        after = f"{queue} "
        while True:
            page = (await self._store.records({GATES: Page(f"{queue} ", after, _AT_ONCE)}, now=_LONG_AGO))[GATES]
            found = [*found, *page]
            if len(page) < _AT_ONCE:
                return [gate for gate in map(gate_from, found) if gate.state is not GateState.OPEN]
            after = page[-1].key

    async def cancelling(self, queue: str, *, limit: int) -> Sequence[Gate]:
        found: list[Gate] = []
        for gate in await self.gates(queue):
            if len(found) < limit and gate.state is GateState.CANCELLED and await self._jobs(gate, {JobState.QUEUED}):
                found.append(gate)
        return found

    async def _jobs(self, gate: Gate, states: set[JobState]) -> int:
        counted = (await self._store.totals(gate.queue, batch=gate.name)).states
        return sum(counted[state] for state in states)

    async def forget_gates(self, queue: str, *, before: datetime) -> int:
        dropped = 0
        for gate in await self.gates(queue):
            if gate.scope is not GateScope.BATCH or not gate.is_spent(at=before):
                continue
            if await self._jobs(gate, set(JobState)):
                continue
            key = gate_key(queue, gate.name)
            record = (await self._store.records({GATES: [key]}, now=_LONG_AGO))[GATES]
            drops = tuple(Drop(GATES, key, each.value) for each in record)
            await self._store.write(Step(units=(Unit(drops=drops),)), now=_LONG_AGO)
            dropped += 1
        return dropped

    async def take(self, queue: str, *, wanted: int, horizon: timedelta, now: datetime) -> Slots:
        return await self._store.take(queue, wanted=wanted, horizon=horizon, now=now)


class OlderRecords(Records):
    """The port `Records`."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    async def put_if_absent(
        self,
        namespace: str,
        values: Mapping[str, str],
        *,
        expires_at: datetime | None,
        now: datetime,
    ) -> Mapping[str, str]:
        def unit(key: str, value: str, mode: Mode) -> Unit:
            return Unit(puts=(Put(namespace, key, value, expires_at, mode),))

        if not values:
            return {}
        await self._store.write(
            Step(units=tuple(unit(key, value, Mode.KEEP) for key, value in values.items())), now=now
        )
        found = await self.get(namespace, list(values), now=now)
        mine = [unit(key, value, Mode.ALWAYS) for key, value in values.items() if found.get(key) == value]
        await self._store.write(Step(units=tuple(mine)), now=now)
        return found

    async def put(
        self, namespace: str, values: Mapping[str, str], *, expires_at: datetime | None, now: datetime
    ) -> None:
        puts = [Put(namespace, key, value, expires_at) for key, value in values.items()]
        await self._store.write(Step(units=tuple(Unit(puts=(put,)) for put in puts)), now=now)

    async def get(self, namespace: str, keys: Sequence[str], *, now: datetime) -> Mapping[str, str]:
        if not keys:
            return {}
        return {
            record.key: record.value for record in (await self._store.records({namespace: keys}, now=now))[namespace]
        }

    async def scan(
        self, namespace: str, *, now: datetime, prefix: str = "", after: str = "", limit: int = 1000
    ) -> Sequence[tuple[str, str]]:
        found = (await self._store.records({namespace: Page(prefix, after, limit)}, now=now))[namespace]
        return [(record.key, record.value) for record in found]

    async def delete(self, namespace: str, keys: Mapping[str, str | None]) -> None:
        drops = [Unit(drops=(Drop(namespace, key, value),)) for key, value in keys.items()]
        await self._store.write(Step(units=tuple(drops)), now=_LONG_AGO)

    async def prune(self, *, now: datetime) -> int:
        root = f"{self._store.link.root}:queue:"
        found = await self._store.link.ask(lambda line: line.create_request(b"KEYS", f"{root}*:graves:until"))
        queues = {"-", *(key.removeprefix(root).partition(":")[0] for key in found)}
        return sum([await _all_pruned(self._store, queue, now=now, events_before=_LONG_AGO) for queue in queues])


async def _all_pruned(store: RedisStore, queue: str, *, now: datetime, events_before: datetime) -> int:
    deleted = 0
    while some := await store.prune(queue, now=now, events_before=events_before, limit=_AT_ONCE):
        deleted += some
    return deleted


@dataclass(frozen=True, slots=True)
class OlderStore:
    """An open store with the older port."""

    domain: RedisStore
    jobs: OlderJobs = field(init=False)
    control: OlderControl = field(init=False)
    records: OlderRecords = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "jobs", OlderJobs(self.domain))
        object.__setattr__(self, "control", OlderControl(self.domain))
        object.__setattr__(self, "records", OlderRecords(self.domain))

    @property
    def url(self) -> str:
        """The URL of the store, without secrets."""
        return self.domain.url

    @property
    def clock(self) -> Clock:
        """The store's clock."""
        return self.domain.clock

    @property
    def link(self) -> Link:
        """The connection."""
        return self.domain.link

    @property
    def durability(self) -> Durability:
        """The durability of the server."""
        return self.domain.durability

    async def packing(self) -> Packing | None:
        """How the server packs jobs in its memory."""
        return await self.domain.packing()
