"""What a method reads does not grow with what the store holds. It is counted: a clock also tells of the machine.

Beside `opener`, a backend defines the fixture `read_so_far`: what its storage has read until now, in units of its own
(rows, index entries, steps of a program).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

import pytest

from voiceflow_worker.core.ports.controls import Limits, gates_open, limits_put
from voiceflow_worker.core.ports.reads import AnyOf, ById, ByKey, Due, Expired, Listing, OfNumber, Read, Waiting
from voiceflow_worker.core.ports.store import (
    AtMost,
    BulkWrite,
    Delete,
    Page,
    Same,
    Slot,
    Store,
    Write,
)
from voiceflow_worker.core.ports.store import tally_change as change
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gate import GateState
from voiceflow_worker.model.jobs.job import Job, JobState

from .samples import NOW, QUEUE, Ground, delete, sample_job
from .writing import DAY, DONE, gated, new, next_of, put, stored, to, told

ReadSoFar = Callable[[], Awaitable[int]]
"""Tells what the storage under test has read until now, by all who have opened it, in units of its own."""
Operation = Callable[[Store], Awaitable[object]]

FEW, MANY = 5, 100
"""How many of everything a small and a large store hold."""
SLACK = 40
"""What a read may cost more in the larger store, beside what it cost in the small one: a seek here, a page there."""
LATER, LONG_AGO = NOW + DAY, NOW - 2 * DAY
SHARED = "+6599999999"
RARE = frozenset({JobState.CANCELLED, JobState.UNREACHED})
PAGE = 3


async def fill(store: Store, first: int, last: int) -> None:
    """Add everything that a store holds, so many of each: each stands in the way of some read without an index."""
    writes, gone = list[Write](), list[Job]()
    for place in range(first, last):
        named = partial(sample_job, due_at=LATER)
        waiting = named(10_000 + place, batch_id=f"a{place}", valid_until=LATER, unique_key=f"w{place}")
        held = named(20_000 + place, batch_id=f"closed {place}")
        ended = [
            named(
                10 * (10_000 + place) + turn, state=JobState.COMPLETED, batch_id="ended", unique_key=f"e{place} {turn}"
            )
            for turn in range(2)
        ]
        sending = named(30_000 + place, state=JobState.SENDING, batch_id=f"a{place}", active_until=LONG_AGO)
        doubted = named(40_000 + place, state=JobState.IN_DOUBT)
        buried = named(50_000 + place, state=JobState.FAILED, unique_key=f"gone {place}")
        in_line = named(60_000 + place, batch_id="long", priority=place % 2)
        gone.append(buried)
        writes += [new(job) for job in (waiting, held, *ended, sending, doubted, buried, in_line)]
        writes += [
            gated(GateState.HELD, batch=f"closed {place}"),
            gated(GateState.HELD, batch=f"nobody's {place}"),
            Write(
                puts=(
                    put(f"opt-out {place}"),
                    put("group", member=f"member {place:05}"),
                    put(f"end {place}", "v", LATER),
                )
            ),
            Write(puts=(put(f"over {place}", "v", LONG_AGO),)),
            Write(events=(replace(told(waiting), at=LONG_AGO), told(ended[0]))),
        ]
    for start in range(0, len(writes), 200):
        answers = await store.write(BulkWrite(writes=tuple(writes[start : start + 200])), now=NOW)
        assert {answer.result for answer in answers} == {DONE}
    assert all(await delete(store, gone, keep_keys_until=LATER))
    before = NOW - timedelta(days=1000)
    await store.prune(QUEUE, now=before, events_before=before, limit=1000)


async def prepare(store: Store, round_: int) -> list[Job]:
    """What the operations are about: the same in each round."""
    jobs = [sample_job(100 * round_ + place, batch_id=f"mine {round_}") for place in range(1, 9)]
    jobs[0] = replace(jobs[0], valid_until=NOW, destination=SHARED, unique_key=f"mine {round_}")
    jobs[7] = replace(jobs[7], state=JobState.SENDING, worker_id="w")
    writes = (
        limits_put(QUEUE, Limits(rate=5.0, max_active=50)),
        put(f"few {round_}", member="x"),
        put(f"same {round_}"),
    )
    await store.write(BulkWrite(writes=(Write(puts=writes),)), now=NOW)
    rare = [sample_job(100 * round_ + place, state=state) for place, state in enumerate(RARE, 20)]
    await stored(store, *jobs, *rare)
    await store.lease(QUEUE, worker_id="w", limit=1, until=LATER, now=NOW)  # puts sub-queues and held batches in order
    return jobs


def reads(round_: int, jobs: list[Job]) -> dict[str, Read]:
    mine = f"mine {round_}"
    behind = jobs[1].id
    return {
        "by id": ById((jobs[1].id,)),
        "by key": ByKey((mine, "gone 1", "free")),
        "due": Due(queue=QUEUE, state=JobState.QUEUED, limit=PAGE),
        "due by now": Due(queue=QUEUE, state=JobState.SENDING, by=NOW),
        "expired": Expired(queue=QUEUE, at=NOW),
        "waiting": Waiting(queue=QUEUE, batch=mine),
        "waiting first": Waiting(queue=QUEUE, batch="long", limit=PAGE),
        "of a number": OfNumber(queue=QUEUE, number=SHARED, limit=PAGE),
        "listed": Listing(queue=QUEUE, limit=PAGE),
        "listed behind": Listing(queue=QUEUE, after=behind, limit=PAGE),
        "listed backwards": Listing(queue=QUEUE, newest=True, limit=PAGE),
        "listed in rare states": Listing(queue=QUEUE, states=RARE, newest=True, limit=PAGE),
        "listed in a state": Listing(queue=QUEUE, states=frozenset({JobState.COMPLETED}), limit=PAGE),
        "listed of a batch": Listing(queue=QUEUE, batch="ended", limit=PAGE),
        "the newest of a batch": Listing(queue=QUEUE, batch="ended", newest=True, limit=PAGE),
    }


def operations(round_: int, jobs: list[Job]) -> dict[str, Operation]:
    """Everything that a store is asked, about a few of its things."""
    fresh = sample_job(100 * round_ + 50, batch_id=f"mine {round_}", unique_key=f"fresh {round_}", due_at=LATER)
    conditions = (
        AtMost("n", (f"none {round_}", f"few {round_}"), 0, "v"),
        AtMost("n", (f"few {round_}",), 3),
        Same("n", f"same {round_}", "v"),
        *gates_open(QUEUE, f"mine {round_}"),
    )
    puts = (put(f"same {round_}", "w"), put("group", member=f"new {round_}"))
    moved = next_of(jobs[7], state=JobState.COMPLETED)
    writes = {
        "write: insert": new(fresh, conditions=conditions, puts=puts, events=(told(fresh),)),
        "write: replace": to(jobs[7], moved, events=(told(moved),)),
        "write: delete": Write(changes=(Delete(moved, LATER, change(moved, None)),)),
    }
    batch = f"mine {round_}"
    return {
        **{f"jobs: {name}": partial(_found, read) for name, read in reads(round_, jobs).items()},
        **{name: partial(_written, write) for name, write in writes.items()},
        "totals": lambda store: store.totals(QUEUE, batches=[None, batch, "a1"]),
        "count": lambda store: store.count(Due(queue=QUEUE, state=JobState.QUEUED, by=NOW)),
        "count: of what is overdue": lambda store: store.count(
            AnyOf((Due(queue=QUEUE, state=JobState.IN_DOUBT, by=NOW), Expired(queue=QUEUE, at=NOW)))
        ),
        "count: of a batch": lambda store: store.count(Waiting(queue=QUEUE, batch="a1")),
        "records: keys": lambda store: store.records({"n": ["opt-out 1", ("group", "member 00001")]}, now=NOW),
        "records: page": lambda store: store.records({"n": Page(limit=PAGE)}, now=NOW),
        "records: page behind": lambda store: store.records({"n": Page(after=("group", ""), limit=PAGE)}, now=NOW),
        "records: page of a group": lambda store: store.records({"n": Page(group="group", limit=PAGE)}, now=NOW),
        "events": lambda store: store.events(QUEUE, limit=PAGE),
        "wait": lambda store: store.wait(QUEUE, seen=0, until=NOW),
        "write: a slot": partial(_written, Write(slot=Slot(QUEUE, NOW, LATER))),
        "lease": lambda store: store.lease(QUEUE, worker_id="w", limit=PAGE, until=LATER, now=NOW),
        "lease: of a batch": lambda store: store.lease(
            QUEUE, worker_id="w", limit=1, until=LATER, now=NOW, batch=f"mine {round_}"
        ),
        "prune": lambda store: store.prune(QUEUE, now=NOW, events_before=NOW - DAY, limit=PAGE),
    }


async def _written(write: Write, store: Store) -> None:
    (answer,) = await store.write(BulkWrite(writes=(write,)), now=NOW)
    assert answer.result is DONE


async def _found(read: Read, store: Store) -> None:
    assert await store.jobs(read, now=NOW)


async def costs(store: Store, read_so_far: ReadSoFar, round_: int) -> dict[str, int]:
    """What each operation reads."""
    found: dict[str, int] = {}
    for name, operation in operations(round_, await prepare(store, round_)).items():
        before = await read_so_far()
        await operation(store)
        found[name] = await read_so_far() - before
    return found


class CostContract(Ground):
    """The sentences on what a method may read."""

    @pytest.fixture
    def read_so_far(self) -> ReadSoFar:
        """What the storage under test has read until now."""
        raise NotImplementedError("a subclass of `CostContract` must define the fixture `read_so_far`")

    async def settle(self, store: Store) -> None:
        """Do at once what the server does by itself before long, such as collecting statistics of its tables."""

    async def test_no_method_reads_more_in_a_larger_store(self, store: Store, read_so_far: ReadSoFar) -> None:
        await fill(store, 0, FEW)
        await self.settle(store)
        small = await costs(store, read_so_far, 1)
        await fill(store, FEW, MANY)
        await self.settle(store)
        large = await costs(store, read_so_far, 2)
        grown = {name: (small[name], cost) for name, cost in large.items() if cost > 2 * small[name] + SLACK}
        assert not grown, f"what is read grows with the store (in a small one, in a large one): {grown}"
        assert sum(small.values()) > len(small), f"hardly anything was counted: {small}"
