"""Whatever is asked of a Redis store in whatever order, it answers as the memory store does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import anyio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.redis_server import RedisServer
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.contract import NOW, QUEUE, sample_job
from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.core.ports import Event, EventKind, Limits, Move, Order, Query, Store
from voiceflow_worker.errors import KeyConflictError
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState
from voiceflow_worker.model.jobs.job import Job, JobState

MINUTE = timedelta(minutes=1)
BATCHES = [None, "a", "b", "=x:ids"]
numbers = st.integers(1, 12)
minutes = st.integers(0, 6).map(lambda each: NOW + each * MINUTE)
batches = st.sampled_from(BATCHES)
keys = st.sampled_from([None, None, "k1", "k2", "k3"])
states = st.sampled_from(list(JobState))
destinations = st.sampled_from(["+6581", "+6582"])
_stores = count()


@dataclass(frozen=True)
class Step:
    """One command; `run` does it on a store and tells what came of it, without what the store makes up itself."""

    name: str
    run: Callable[[Store], Any]

    def __repr__(self) -> str:
        return self.name


def bare(job: Job) -> Job:
    """A job without its revision, which a lease makes up."""
    return replace(job, revision="")


def enqueue(specs: Sequence[tuple[int, int, str | None, str | None, str, datetime, datetime | None, str]]) -> Step:
    jobs = [
        sample_job(
            number, priority=priority, batch_id=batch, unique_key=key, body_digest=digest, due_at=due,
            valid_until=valid, destination=destination,
        )
        for number, priority, batch, key, digest, due, valid, destination in specs
    ]  # fmt: skip

    async def run(store: Store) -> Any:
        try:
            answers = await store.jobs.enqueue(jobs, now=NOW)
        except KeyConflictError as error:
            return error.conflicts
        return [(bare(answer.job), answer.created) for answer in answers]

    return Step(f"enqueue({specs})", run)


def lease(limit: int, batch: str | None, at: datetime) -> Step:
    async def run(store: Store) -> Any:
        leased = await store.jobs.lease(QUEUE, worker_id="w", limit=limit, lease_for=2 * MINUTE, now=at, batch_id=batch)
        return [bare(job) for job in leased]

    return Step(f"lease({limit}, {batch!r}, {at:%M})", run)


def commit(moves: Sequence[tuple[int, dict[str, Any], bool, bool]], token: str) -> Step:
    async def run(store: Store) -> Any:
        found = await store.jobs.get([sample_job(number).id for number, *_ in moves])
        made: list[Move] = []
        for place, (number, fields, stale, tells) in enumerate(moves):
            old = found.get(sample_job(number).id, sample_job(number))
            event = Event(job_id=old.id, kind=EventKind.ENDED, at=NOW, state=old.state, revision="r")
            new = replace(old, **fields, revision=f"{token}-{place}")
            made.append(Move(replace(old, revision="stale") if stale else old, new, (event,) if tells else ()))
        first = await store.jobs.commit(made)
        return first, await store.jobs.commit(made)

    return Step(f"commit({moves})", run)


def delete(chosen: Sequence[int], until: datetime) -> Step:
    async def run(store: Store) -> Any:
        found = await store.jobs.get([sample_job(number).id for number in chosen])
        jobs = [found[sample_job(number).id] for number in chosen if sample_job(number).id in found]
        return await store.jobs.delete(jobs, keep_keys_until=until)

    return Step(f"delete({chosen}, {until:%M})", run)


def gate(state: GateState, batch: str | None, until: datetime | None, since: datetime) -> Step:
    scope, name = (GateScope.QUEUE, QUEUE) if batch is None else (GateScope.BATCH, batch)
    ordered = Gate(queue=QUEUE, scope=scope, name=name, state=state, until=until, reason="a | b", since=since)

    async def run(store: Store) -> Any:
        return await store.control.gate(ordered), {each.name: each for each in await store.control.gates(QUEUE)}

    return Step(f"gate({state}, {batch!r}, {until}, {since:%M})", run)


def configure(most: int | None) -> Step:
    async def run(store: Store) -> Any:
        await store.control.configure(QUEUE, Limits(rate=10, burst=2, max_active=most))
        return await store.control.limits(QUEUE)

    return Step(f"configure({most})", run)


def find(query: Query) -> Step:
    async def run(store: Store) -> Any:
        found = [bare(job) for job in await store.jobs.find(query)]
        # In `Order.ANY` each store takes the jobs that cost it the least, so a limit may choose others.
        if query.order is not Order.ANY:
            return found
        return len(found) if query.limit is not None else sorted(found, key=lambda job: job.id)

    return Step(f"find({query})", run)


def look(batch: str | None, due: datetime | None, at: datetime) -> Step:
    async def run(store: Store) -> Any:
        return (
            await store.jobs.count(QUEUE, batch_id=batch, due_before=due),
            await store.jobs.owners(QUEUE, ["k1", "k2", "k3"], now=at),
            [(event.job_id, event.at, event.state) for event in await store.jobs.events(QUEUE)],
        )

    return Step(f"look({batch!r}, {due}, {at:%M})", run)


def prune(at: datetime) -> Step:
    async def run(store: Store) -> Any:
        # How many is not compared: of a key that has a new owner one store drops the tombstone at once, another here.
        await store.records.prune(now=at)

    return Step(f"prune({at:%M})", run)


fields = st.fixed_dictionaries(
    {"state": states, "due_at": minutes, "active_until": st.one_of(st.none(), minutes)},
    optional={
        "batch_id": batches,
        "priority": st.integers(-1, 2),
        "destination": destinations,
        "valid_until": st.one_of(st.none(), minutes),
    },
)
queries = st.builds(
    Query,
    queue=st.just(QUEUE),
    states=st.one_of(st.none(), st.just(frozenset({JobState.QUEUED})), st.frozensets(states, max_size=3)),
    batch_id=batches,
    destination=st.one_of(st.none(), destinations),
    unique_key=keys,
    due_before=st.one_of(st.none(), minutes),
    valid_before=st.one_of(st.none(), minutes),
    order=st.sampled_from(Order),
    limit=st.one_of(st.none(), st.integers(0, 5)),
).flatmap(
    lambda query: st.sampled_from([None, sample_job(4).id]).map(
        lambda after: replace(query, after=after if query.order is Order.CREATED else None)
    )
)
specs = st.tuples(
    numbers, st.integers(-1, 2), batches, keys, st.sampled_from(["x", "x", "x", "y"]), minutes,
    st.one_of(st.none(), minutes), destinations,
)  # fmt: skip
steps = st.one_of(
    st.lists(specs, min_size=1, max_size=5, unique_by=lambda spec: spec[0]).map(enqueue),
    st.builds(lease, st.integers(0, 6), batches, minutes),
    st.builds(
        commit,
        st.lists(st.tuples(numbers, fields, st.booleans(), st.booleans()), max_size=4, unique_by=lambda move: move[0]),
        st.uuids().map(str),
    ),
    st.builds(delete, st.lists(numbers, max_size=4, unique=True), minutes),
    st.builds(gate, st.sampled_from([*GateState, GateState.OPEN]), batches, st.one_of(st.none(), minutes), minutes),
    st.builds(configure, st.one_of(st.none(), st.integers(1, 6))),
    queries.map(find),
    st.builds(look, batches, st.one_of(st.none(), minutes), minutes),
    st.builds(prune, minutes),
)


async def compare(url: str, commands: Sequence[Step]) -> None:
    memory = MemoryStore()
    async with open_store(f"{url}?prefix=same{next(_stores)}") as redis:
        for command in commands:
            expected, found = await command.run(memory), await command.run(redis)
            assert found == expected, command
        for last in (find(Query(queue=QUEUE, limit=None)), look(None, None, NOW)):
            assert await last.run(redis) == await last.run(memory)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.data_too_large])
@given(commands=st.lists(steps, min_size=1, max_size=25))
def test_any_commands_are_answered_as_memory_answers_them(redis_server: RedisServer, commands: Sequence[Step]) -> None:
    anyio.run(compare, redis_server.url, commands)
