"""The older port (`core/ports/store.py`) over the nine methods, until nobody uses it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from voiceflow_worker.core.ports import Control, Event, Jobs, KeyOwner, Records
from voiceflow_worker.core.store_port import (
    GATES,
    LIMITS,
    Absent,
    Drop,
    Limits,
    Page,
    Put,
    Query,
    Record,
    Result,
    Slots,
    Step,
    Store,
    Unit,
    gate_from,
    limits_from,
    limits_put,
)
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.totals import Totals

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_MANY = 1000


class OlderJobs(Jobs):
    """The port `Jobs`."""

    def __init__(self, store: Store) -> None:
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
        until = now + lease_for
        return await self._store.lease(queue, worker_id=worker_id, limit=limit, until=until, now=now, batch=batch_id)

    async def get(self, job_ids: Sequence[str]) -> Mapping[str, Job]:
        found: dict[str, Job] = {}
        for queue in {each.partition(".")[0] for each in job_ids}:
            query = Query(queue=queue, ids=tuple(job_ids), limit=None)
            found |= {job.id: job for job in await self.find(query)}
        return {each: found[each] for each in job_ids if each in found}

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
        return await _prune(self._store, queue, _LONG_AGO, before)

    async def wait(self, queue: str, *, seen: int, until: datetime) -> int:
        return await self._store.wait(queue, seen=seen, until=until)


class OlderControl(Control):
    """The port `Control`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def configure(self, queue: str, limits: Limits) -> None:
        await _write(self._store, Unit(puts=(limits_put(queue, limits),), wakes=queue))

    async def limits(self, queue: str) -> Limits | None:
        found = (await self._store.records({LIMITS: [queue]}, now=_now(self._store)))[LIMITS]
        return limits_from(found[0]) if found else None

    async def gates(self, queue: str) -> Sequence[Gate]:
        gates = [gate_from(each) for each in await self._gates(queue, _LONG_AGO)]
        return [gate for gate in gates if gate.state is not GateState.OPEN]

    async def _gates(self, queue: str, now: datetime) -> list[Record]:
        found = list((await self._store.records({GATES: [queue]}, now=now))[GATES])
        page = Page(prefix=f"{queue} ", limit=_MANY)
        while True:
            records = (await self._store.records({GATES: page}, now=now))[GATES]
            found += records
            if len(records) < _MANY:
                return found
            page = Page(prefix=page.prefix, after=records[-1].key, limit=_MANY)

    async def cancelling(self, queue: str, *, limit: int) -> Sequence[Gate]:
        queued: list[Gate] = []
        for gate in await self.gates(queue):
            if gate.state is GateState.CANCELLED and len(queued) < limit:
                totals = await self._store.totals(queue, batch=gate.name)
                queued += [gate] if totals.states[JobState.QUEUED] else []
        return queued

    async def forget_gates(self, queue: str, *, before: datetime) -> int:
        drops: list[Drop] = []
        for record in await self._gates(queue, _LONG_AGO):
            gate = gate_from(record)
            if gate.scope is GateScope.BATCH and gate.is_spent(at=before):
                query = Query(queue=queue, batch_id=gate.name, limit=1)
                if not await self._store.jobs(query, now=before):
                    drops.append(Drop(GATES, record.key, record.value))
        await _write(self._store, Unit(drops=tuple(drops)))
        return len(drops)

    async def take(self, queue: str, *, wanted: int, horizon: timedelta, now: datetime) -> Slots:
        return await self._store.take(queue, wanted=wanted, horizon=horizon, now=now)


class OlderRecords(Records):
    """The port `Records`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def put_if_absent(
        self, namespace: str, values: Mapping[str, str], *, expires_at: datetime | None, now: datetime
    ) -> Mapping[str, str]:
        puts = {key: Put(namespace, key, value, expires_at) for key, value in values.items()}
        units = tuple(Unit(needs=(Absent(namespace, (put.key,)),), puts=(put,)) for put in puts.values())
        written = await self._store.write(Step(units=units), now=now)
        taken = {
            answer.record.key: answer.record.value
            for answer in written.answers
            if answer.result is Result.NOT_FREE and answer.record is not None
        }
        again = [Unit(puts=(puts[key],)) for key, value in taken.items() if value == values[key]]
        await self._store.write(Step(units=tuple(again)), now=now)
        return {**values, **taken}

    async def put(
        self, namespace: str, values: Mapping[str, str], *, expires_at: datetime | None, now: datetime
    ) -> None:
        units = tuple(Unit(puts=(Put(namespace, key, value, expires_at),)) for key, value in values.items())
        await self._store.write(Step(units=units), now=now)

    async def get(self, namespace: str, keys: Sequence[str], *, now: datetime) -> Mapping[str, str]:
        found = (await self._store.records({namespace: list(keys)}, now=now))[namespace]
        return {record.key: record.value for record in found}

    async def scan(
        self, namespace: str, *, now: datetime, prefix: str = "", after: str = "", limit: int = 1000
    ) -> Sequence[tuple[str, str]]:
        page = Page(prefix=prefix, after=after, limit=limit)
        return [(each.key, each.value) for each in (await self._store.records({namespace: page}, now=now))[namespace]]

    async def delete(self, namespace: str, keys: Mapping[str, str | None]) -> None:
        await _write(self._store, *(Unit(drops=(Drop(namespace, key, value),)) for key, value in keys.items()))

    async def prune(self, *, now: datetime) -> int:
        return sum([await _prune(self._store, queue, now, _LONG_AGO) for queue in self._queues()])

    def _queues(self) -> Iterable[str]:
        return ("",)


def _now(store: Store) -> datetime:
    return store.clock.now()


async def _write(store: Store, *units: Unit) -> None:
    await store.write(Step(units=units), now=_now(store))


async def _prune(store: Store, queue: str, now: datetime, events_before: datetime) -> int:
    pruned = 0
    while True:
        some = await store.prune(queue, now=now, events_before=events_before, limit=_MANY)
        pruned += some
        if some < _MANY:
            return pruned
