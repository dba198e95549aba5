"""A Redis store with the nine methods of `core/store_port.py`, over the keys of this backend.

`write` is one script. Counters are still kept from the tallies of jobs, and leases and departure times read the gates
and limits of the queue, which follow their records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

from voiceflow_worker.backends.matching import matches
from voiceflow_worker.backends.record import from_micros, to_micros
from voiceflow_worker.backends.redis.connection.codec import (
    Argument,
    buried,
    event_text,
    gate_field,
    gate_text,
    grave_of,
    micros,
    new_job,
    next_job,
    optional,
)
from voiceflow_worker.backends.tombstones import known_state
from voiceflow_worker.core import ports
from voiceflow_worker.core.ports import Clock, Event
from voiceflow_worker.core.ports.identity import queue_of
from voiceflow_worker.core.store_port import (
    GATES,
    LIMITS,
    Absent,
    Answer,
    AtMost,
    Delete,
    Insert,
    Need,
    OpenGate,
    Order,
    Owner,
    Page,
    Put,
    Query,
    Record,
    Replace,
    Result,
    Same,
    Slots,
    Step,
    Unit,
    Wanted,
    Written,
    check_step,
    gate_from,
    gate_key,
    limits_from,
)
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.totals import Totals

if TYPE_CHECKING:
    from voiceflow_worker.backends.redis.store import RedisStore

AT_ONCE = 16
"""The most units of one script, unless they belong together: the server is busy with them for less than a millisecond,
and more of them would save nothing."""
_PLAIN = {"done": Result.DONE, "stale": Result.STALE, "unvetted": Result.UNVETTED, "withheld": Result.WITHHELD}


class OneDomain:
    """The nine methods over an open Redis store."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._link = store.link
        self._keys = store.keys
        self._registers = store.registers

    @property
    def url(self) -> str:
        return self._store.url

    @property
    def clock(self) -> Clock:
        return self._store.clock

    async def write(self, step: Step, *, now: datetime) -> Written:
        check_step(step)
        for namespace in {put.namespace for unit in step.units for put in unit.puts}:
            await self._registers.note(self._keys.namespaces, namespace)
        for queue in {unit.change.job.queue for unit in step.units if isinstance(unit.change, Insert)}:
            await self._registers.note(self._keys.queues, queue)
        units, answers, server = step.units, list[Answer](), ""
        known = [""] if step.known is None else ["same", *self._same(step.known, units)]
        size = max(len(units), 1) if step.together else AT_ONCE
        for start in range(0, max(len(units), 1), size):
            some = units[start : start + size]
            has_needs = int(any(unit.needs for unit in some))
            args: list[Argument] = [to_micros(now), step.server or "", int(step.together), has_needs, *known]
            for unit in some:
                args += self._unit(unit)
            run = self._link.run_durably if step.durable else self._link.run
            server, *found = orjson.loads(await run("write", self._keys.queue("-"), args))
            answers += [_answer(unit, each) for unit, each in zip(some, found, strict=True)]
        return Written(tuple(answers), server)

    async def lease(
        self, queue: str, *, worker_id: str, limit: int, until: datetime, now: datetime, batch: str | None = None
    ) -> Sequence[Job]:
        return await self._store.jobs.lease(
            queue, worker_id=worker_id, limit=limit, lease_for=until - now, now=now, batch_id=batch
        )

    async def take(self, queue: str, *, wanted: int, horizon: timedelta, now: datetime) -> Slots:
        taken = await self._store.control.take(queue, wanted=wanted, horizon=horizon, now=now)
        return Slots(taken.times, taken.next_at)

    async def jobs(self, query: Query, *, now: datetime) -> Sequence[Job]:
        jobs = self._store.jobs
        if query.ids is None and query.unique_keys is None:
            return await jobs.find(_older(query))
        found = list((await jobs.get(query.ids or ())).values())
        if query.ids is None and query.unique_keys:
            found = await self._of_keys(query.queue, query.unique_keys, now)
        matching = [job for job in found if matches(_older(query), job)]
        matching.sort(key=lambda job: (job.due_at if query.order is Order.DUE else job.created_at, job.id))
        if query.order is Order.NEWEST:
            matching.reverse()
        return matching if query.limit is None else matching[: max(query.limit, 0)]

    async def _of_keys(self, queue: str, keys: Sequence[str], now: datetime) -> list[Job]:
        args: list[Argument] = [to_micros(now), *(optional(key) for key in dict.fromkeys(keys))]
        answers = await self._link.run("owners", self._keys.queue(queue), args)
        graves = [buried(queue, answer[0]) for answer in answers if len(answer) == 1]
        living = await self._store.jobs.get([answer[0] for answer in answers if len(answer) > 1])
        return [*living.values(), *graves]

    async def totals(self, queue: str, *, batch: str | None = None) -> Totals:
        return await self._store.jobs.totals(queue, batch_id=batch)

    async def records(self, wanted: Wanted, *, now: datetime) -> Mapping[str, Sequence[Record]]:
        args: list[Argument] = [to_micros(now)]
        for namespace, each in wanted.items():
            args.append(self._keys.namespace(namespace))
            if isinstance(each, Page):
                first = f"({each.after}" if each.after >= each.prefix and each.after else f"[{each.prefix}"
                # No text has the byte 0xFF, so it comes after every key with the prefix.
                args += ("page", first, each.prefix, max(each.limit, 0))
            else:
                args += ("keys", len(each), *each)
        answers = orjson.loads(await self._link.run("read_records", self._keys.queue("-"), args))
        return {
            namespace: [_record(*fields) for fields in _threes(answer or ())]
            for namespace, answer in zip(wanted, answers, strict=True)
        }

    async def events(self, queue: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        return await self._store.jobs.events(queue, after=after, limit=limit)

    async def wait(self, queue: str, *, seen: int, until: datetime) -> int:
        return await self._store.jobs.wait(queue, seen=seen, until=until)

    async def prune(self, *, now: datetime, events_before: datetime, limit: int) -> int:
        queues = [self._keys.queue(each) for each in await self._registers.names(self._keys.queues)]
        namespaces = await self._registers.names(self._keys.namespaces)
        pruned = 0
        for name, key, before in (
            *(("record_prune", self._keys.namespace(each), now) for each in namespaces),
            *(("prune_graves", key, now) for key in queues),
            *(("forget_events", key, events_before) for key in queues),
        ):
            if (left := limit - pruned) > 0:
                pruned += int(await self._link.run(name, key, [to_micros(before), left]))
        return pruned

    async def close(self) -> None:
        """Nothing: the store is closed by its context manager."""

    def _unit(self, unit: Unit) -> list[Argument]:
        change = unit.change
        head: list[Argument] = ["", "", "", "", ""]
        arguments: Sequence[Argument] = ()
        match change:
            case Insert(job):
                head = ["insert", job.id, "", job.revision, optional(job.unique_key)]
                arguments = new_job(job)
            case Replace(revision, job):
                head, arguments = ["move", job.id, revision, job.revision, ""], next_job(job)
            case Delete(job, keep_key_until):
                head = ["delete", job.id, job.revision, "", ""]
                arguments = [job.id, to_micros(keep_key_until), grave_of(job)]
            case None:
                pass
        queue = "-" if change is None else change.job.queue
        if unit.events:
            queue = queue_of(unit.events[0].job_id)
        args: list[Argument] = [head[0], self._keys.queue(queue), *head[1:], len(unit.needs)]
        for need in unit.needs:
            args += self._need(need, unit)
        args.append(len(unit.puts))
        for put in unit.puts:
            args += (self._keys.namespace(put.namespace), put.key, put.value, micros(put.ends_at), put.mode.value)
        args.append(len(unit.drops))
        for drop in unit.drops:
            args += (self._keys.namespace(drop.namespace), drop.key, optional(drop.value))
        follows = [each for put in unit.puts for each in self._follow(put)]
        args += (len(follows), *(argument for each in follows for argument in each))
        args.append(len(unit.events))
        for event in unit.events:
            args += (to_micros(event.at), event_text(event))
        return [*args, "" if unit.wakes is None else self._keys.queue(unit.wakes), len(arguments), *arguments]

    def _need(self, need: Need, unit: Unit) -> list[Argument]:
        match need:
            case Absent(namespace, keys, owner):
                return ["absent", self._keys.namespace(namespace), owner or "", len(keys), *keys]
            case AtMost(namespace, prefix, most, owner):
                return ["most", self._keys.namespace(namespace), owner or "", prefix, most]
            case Same():
                return ["same", *self._same(need, (unit,))]
            case OpenGate(queue, batch):
                keys = (gate_key(queue, None),) if batch is None else (gate_key(queue, None), gate_key(queue, batch))
                return ["gate", self._keys.namespace(GATES), len(keys), *keys]

    def _same(self, need: Same, units: Sequence[Unit]) -> list[Argument]:
        """The arguments of a `Same` condition; its own new value too, which counts as of an earlier try."""
        own = [
            put.value for unit in units for put in unit.puts if (put.namespace, put.key) == (need.namespace, need.key)
        ]
        values = [optional(need.value), *(optional(value) for value in own)]
        return [
            self._keys.namespace(need.namespace),
            need.key,
            len(values),
            *values,
            optional(own[-1] if own else None),
        ]

    def _follow(self, put: Put) -> Iterator[Sequence[Argument]]:
        """What leases and departure times read of a put gate, or of put limits."""
        record = Record(put.key, put.value, put.ends_at)
        if put.namespace == GATES:
            gate = gate_from(record)
            yield "", self._keys.queue(gate.queue), gate_field(gate.scope, gate.name), gate_text(gate), ""
        elif put.namespace == LIMITS:
            limits = limits_from(record)
            rate = "" if limits.rate is None else repr(float(limits.rate))
            most = "" if limits.max_active is None else limits.max_active
            yield "1", self._keys.queue(put.key), rate, limits.burst, most


def _answer(unit: Unit, answer: Sequence[Any]) -> Answer:
    match answer:
        case ["exists", owner, digest, state, ""]:
            return Answer(result=Result.EXISTS, owner=Owner(owner, digest, known_state(state, owner=owner)))
        case ["exists", _, _, _, grave]:
            job = buried("", grave)
            return Answer(result=Result.EXISTS, owner=Owner(job.id, job.body_digest, job.state))
        case ["not free", int(place), key, value, ends]:
            record = None if value is False else _record(key, value, ends)
            return Answer(result=Result.NOT_FREE, need=unit.needs[place], record=record)
        case [plain]:
            return Answer(result=_PLAIN[plain])
        case _:
            raise ValueError(f"the script write.lua gave an unknown answer: {answer!r}")


def _record(key: str, value: str, ends: str) -> Record:
    return Record(key, value, from_micros(int(ends)) if ends else None)


def _threes(fields: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    return zip(fields[::3], fields[1::3], fields[2::3], strict=True)


def _older(query: Query) -> ports.Query:
    order = Order.CREATED if query.order is Order.ANY and query.after is not None else query.order
    return ports.Query(
        queue=query.queue,
        states=query.states,
        batch_id=query.batch_id,
        destination=query.destination,
        outcomes=query.outcomes,
        due_before=query.due_before,
        valid_before=query.valid_before,
        after=query.after,
        order=ports.Order(order.value),
        limit=query.limit,
    )
