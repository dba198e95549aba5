"""The progress of batches and of whole queues: calls by state, rate, hold and remaining time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from voiceflow_worker.core.audit import LATEST, PAGE, AuditEntry, entries_on
from voiceflow_worker.core.base.identity import (
    MOST_READ,
    NAMES_AT_ONCE,
    BatchNames,
    NamedBatch,
    QueueNames,
)
from voiceflow_worker.core.base.reading import count_states, due_count, gates_at, gates_of
from voiceflow_worker.core.base.round_trips import gather
from voiceflow_worker.core.drain import held_count
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.jobs.gate import Gate, GateScope
from voiceflow_worker.model.jobs.job import FINAL_STATES, JobState
from voiceflow_worker.model.jobs.totals import Totals
from voiceflow_worker.model.text.wording import count_of, rfc3339
from voiceflow_worker.reporting.gates import gate_as_json
from voiceflow_worker.reporting.status import NextCall, next_call

AT_ONCE = 8
"""The number of batches that are read at the same time, to save time: a read mostly waits for the store."""
BATCHES_A_PAGE = 50
AlsoListed = Callable[[str, Iterable[str]], Awaitable[set[str]]]
"""A function that returns which batches of a queue are listed although they have no call."""
_UNDER_WAY = (JobState.SENDING, JobState.SUBMITTED)
_TO_SEND = (JobState.QUEUED, JobState.LEASED, JobState.SENDING)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchProgress:
    """The progress of one batch, or of a whole queue if `batch_id` is None.

    `rate_now` is in calls per second, over the last 5 seconds. `hold` is the closed gate of the batch or of its queue,
    if any. `ends_at` is the time at which the last call leaves, at the present rate. It is None if no call waits or
    none can leave, and if it cannot be known: if a call waits behind a hold, or is not due by then, because it waits
    for its redial, its window or its time. `unknown` then says why, in words. `next_call` is when the next call may
    begin, if none of the waiting calls may begin now. `ordered` are the last acts of people on the batch.
    """

    queue: str
    batch_id: str | None
    states: Mapping[JobState, int]
    rate_now: float
    hold: Gate | None
    at: datetime
    ends_at: datetime | None
    unknown: str = ""
    next_call: NextCall | None = None
    ordered: tuple[AuditEntry, ...] = ()

    @property
    def total(self) -> int:
        """Number of calls in the store."""
        return sum(self.states.values())

    @property
    def done(self) -> int:
        """Number of calls that have ended."""
        return sum(self.states[state] for state in FINAL_STATES)

    @property
    def doubts(self) -> int:
        """Number of calls in doubt, which need evidence or a person."""
        return self.states[JobState.IN_DOUBT]

    @property
    def to_send(self) -> int:
        """Number of calls that have not left yet."""
        return _to_send(self.states)

    @property
    def under_way(self) -> int:
        """Number of calls that are being sent, ringing or in conversation."""
        return sum(self.states[state] for state in _UNDER_WAY)

    def as_json(self) -> dict[str, object]:
        """Return the progress as JSON, for scripts."""
        return {
            **({} if self.batch_id is None else {"batch_id": self.batch_id}),
            "queue": self.queue,
            "total": self.total,
            "states": {state.value: self.states[state] for state in JobState},
            "done": self.done,
            "rate_now": self.rate_now,
            "ends_at": rfc3339(self.ends_at),
            "next_at": rfc3339(None if self.next_call is None else self.next_call.at),
            "hold": None if self.hold is None else gate_as_json(self.hold),
            "doubts": self.doubts,
            "ordered": [each.as_json() for each in self.ordered],
        }


async def read_queues(store: Store, *, also: str | None = None) -> list[BatchProgress]:
    """Return the progress of all queues that had a call or a worker, sorted by name. Raises StoreError.

    The queue `also` is included in any case.
    """
    names = {*await QueueNames(store).known(), *([also] if also else [])}
    return [await read_queue(store, queue) for queue in sorted(names)]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPage:
    """One page of batches, the newest first. The next page begins behind the place `after`; None at the end."""

    batches: Sequence[BatchProgress]
    after: str | None


async def read_batches(
    store: Store,
    queues: Sequence[str],
    *,
    after: str = "",
    limit: int = BATCHES_A_PAGE,
    name: str = "",
    with_next: bool = True,
    also: AlsoListed | None = None,
) -> BatchPage:
    """One page of the batches of these queues that still have calls, the newest first. Raises StoreError.

    Of those of a queue without a call, those that `also` returns are there too. With `name`, only batches whose names
    contain this text. At most `MOST_READ` batches are looked through for a page, which has fewer than `limit` then.
    Without `with_next`, `next_call` is not read: it costs a round trip a batch.
    """
    found: list[tuple[NamedBatch, str, Totals]] = []
    looked_at, at_end = 0, False
    while len(found) < limit and looked_at < MOST_READ and not at_end:
        size = NAMES_AT_ONCE if name else limit
        pages = [(queue, await BatchNames(store, queue).page(after=after, limit=size)) for queue in queues]
        at_end = all(len(page) < size for _, page in pages)
        # What comes after the end of a full page comes after the others only as far as that page goes.
        ends = min((page[-1].sort_key for _, page in pages if len(page) >= size), default=None)
        named = sorted((each, queue) for queue, page in pages for each in page if ends is None or each.sort_key <= ends)
        looked_at += len(named)
        wanted = [(each, queue) for each, queue in named if name.casefold() in each.name.casefold()]
        found += await _with_calls(store, wanted, also)
        after = named[-1][0].sort_key if named else after
    page = found[:limit]
    if len(found) > limit:
        after, at_end = page[-1][0].sort_key, False
    return BatchPage(batches=await _progress(store, page, with_next=with_next), after=None if at_end else after)


async def _with_calls(
    store: Store,
    named: Sequence[tuple[NamedBatch, str]],
    also: AlsoListed | None = None,
) -> list[tuple[NamedBatch, str, Totals]]:
    """Return those of these batches that have calls, with their totals: a round trip a queue, and one for `also`."""
    counted: dict[tuple[str, str], Totals] = {}
    for queue in dict.fromkeys(queue for _, queue in named):
        names = [each.name for each, of in named if of == queue]
        found = dict(zip(names, await store.totals(queue, batches=names), strict=True))
        without = [name for name, totals in found.items() if not any(totals.states.values())]
        left = {*without} - (await also(queue, without) if also and without else set[str]())
        counted |= {(queue, name): totals for name, totals in found.items() if name not in left}
    return [(each, queue, counted[queue, each.name]) for each, queue in named if (queue, each.name) in counted]


async def _progress(
    store: Store, batches: Sequence[tuple[NamedBatch, str, Totals]], *, with_next: bool
) -> list[BatchProgress]:
    """Return the progress of these batches, in their order."""
    now = store.clock.now()
    found: dict[tuple[str, str], BatchProgress] = {}
    for queue in dict.fromkeys(queue for _, queue, _ in batches):
        states = {each.name: totals.states for each, of, totals in batches if of == queue}
        rates = await Heartbeats(store).batches(queue)
        gates = _closed((await gates_at(store, queue, [None, *states])).values(), now)
        acts = await entries_on(store, queue, limit=PAGE)
        reads = [
            partial(
                _of, store, queue, name, counts, gates=gates, rate=rates.get(name, 0.0), at=now, with_next=with_next
            )
            for name, counts in states.items()
        ]
        for each in await gather(*reads, at_once=AT_ONCE):
            ordered = tuple(act for act in acts if act.batch == each.batch_id)[:LATEST]
            found[queue, each.batch_id or ""] = replace(each, ordered=ordered)
    return [found[queue, each.name] for each, queue, _ in batches]


async def read_batch(store: Store, queue: str, batch_id: str) -> BatchProgress:
    """Return the progress of one batch, with a total of 0 if it is unknown. Raises StoreError."""
    now, rates = store.clock.now(), await Heartbeats(store).batches(queue)
    gates = _closed((await gates_at(store, queue, [None, batch_id])).values(), now)
    states = await count_states(store, queue, batch_id=batch_id)
    found = await _of(store, queue, batch_id, states, gates=gates, rate=rates.get(batch_id, 0.0), at=now)
    return replace(found, ordered=tuple(await entries_on(store, queue, batch=batch_id)))


async def read_queue(store: Store, queue: str) -> BatchProgress:
    """Return the progress of one queue, with a total of 0 if it is unknown. Raises StoreError."""
    now, beats = store.clock.now(), await Heartbeats(store).workers(queue)
    states, gates = await count_states(store, queue), _closed(await gates_of(store, queue), now)
    return await _of(store, queue, None, states, gates=gates, rate=sum(beat.rate for beat in beats), at=now)


async def _of(
    store: Store,
    queue: str,
    batch_id: str | None,
    states: Mapping[JobState, int],
    *,
    gates: Mapping[str | None, Gate],
    rate: float,
    at: datetime,
    with_next: bool = True,
) -> BatchProgress:
    hold = gates.get(batch_id) or gates.get(None)
    ends_at, unknown = None, ""
    if hold is not None:
        unknown = "on hold"
    elif not rate:
        unknown = "nothing is being sent now"
    elif _to_send(states):
        ends_at = at + timedelta(seconds=_to_send(states) / rate)
        due = await due_count(store, queue, by=ends_at, batch_id=batch_id)
        held = await held_count(store, queue, gates.values(), by=ends_at) if batch_id is None else 0
        later = states[JobState.QUEUED] - due
        if held or later > 0:
            ends_at = None
            waits = ((held, "behind a hold"), (later, "for a redial, a calling window or their time"))
            unknown = ", ".join(f"{count_of(count, 'call')} waiting {why}" for count, why in waits if count > 0)
    return BatchProgress(
        queue=queue,
        batch_id=batch_id,
        states=states,
        rate_now=round(rate, 3),
        hold=hold,
        at=at,
        ends_at=ends_at,
        unknown=unknown,
        next_call=await next_call(store, queue, batch_id=batch_id) if with_next and states[JobState.QUEUED] else None,
    )


def _to_send(states: Mapping[JobState, int]) -> int:
    return sum(states[state] for state in _TO_SEND)


def _closed(gates: Iterable[Gate], now: datetime) -> dict[str | None, Gate]:
    """Return the closed gates by batch; the queue's own gate is under None."""
    return {None if gate.scope is GateScope.QUEUE else gate.name: gate for gate in gates if gate.is_closed(at=now)}
