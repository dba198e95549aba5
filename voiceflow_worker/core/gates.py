"""Gates: orders to hold, to open and to cancel; and holds, as a worker follows them.

No call leaves against an order that has returned. So an order waits until the calls that were about to leave when it
was stored have left or gone back, which takes at most `SENT_WITHIN` seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from datetime import datetime, timedelta

import structlog

from voiceflow_worker.core.base.identity import accounts_of, new_revision, queue_put
from voiceflow_worker.core.base.reading import find_jobs, gates_at, read_each
from voiceflow_worker.core.base.round_trips import RateLimitedLog
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.controls import (
    CANCELLED,
    GATES,
    cancelled_from,
    cancelled_put,
    gate_from,
    gate_member,
    gate_put,
    member_of,
    not_cancelled,
    orders_in,
)
from voiceflow_worker.core.ports.reads import Due
from voiceflow_worker.core.ports.store import BulkWrite, Key, Record, Result, Same, Write
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState, merged
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.reports.verdict import QueueHold

_log = structlog.get_logger("voiceflow.holds")


def write_of_order(standing: Record | None, ordered: Gate, *, token: str) -> tuple[Gate, Write]:
    """Return an order to hold, to open or to cancel: the gate that results, and its write.

    `standing` is the record of the gate as the caller read it. If it has changed since, the write is NOT_FREE with the
    new one, and the order is made again from that. So the last order that is written counts, whatever any clock says.
    The record names the orders before it by their tokens: a repeat of one of them, late, changes nothing.
    """
    was, before = (None, ()) if standing is None else (gate_from(standing), orders_in(standing))
    if was is not None:  # no two orders have one time, by which people tell holds apart
        ordered = replace(ordered, since=max(ordered.since, was.since + timedelta(milliseconds=1)))
    gate = was if was is not None and token in before else merged(was, ordered, at=ordered.since)
    conditions = [Same(GATES, ordered.queue, None if standing is None else standing.value, member_of(ordered))]
    if gate.state is not GateState.CANCELLED and gate.scope is GateScope.BATCH:
        conditions.append(not_cancelled(gate.queue, gate.name))
    if gate is was:
        return gate, Write(conditions=tuple(conditions))
    put = gate_put(gate, token=token, before=before)
    puts = [put, queue_put(gate.queue)]
    if gate.state is GateState.CANCELLED:
        puts.append(cancelled_put(gate, token=token))
    return gate, Write(
        conditions=tuple(conditions),
        puts=tuple(puts),
        wakes=ordered.queue,
    )


CheckGate = Callable[[Gate | None], None]
"""A function that gets the present gate, if any, and raises an error if it must stay as it is."""


async def standing_gate(store: Store, queue: str, batch_id: str | None) -> Gate | None:
    """Return the gate of a queue or of a batch, opened ones too; None if nobody has ordered anything.

    Raises StoreError.
    """
    wanted: dict[str, list[str | Key]] = {GATES: [(queue, gate_member(batch_id))]}
    if batch_id is not None:
        wanted[CANCELLED] = [(queue, batch_id)]
    found = await store.records(wanted, now=store.clock.now())
    for record in found.get(CANCELLED, ()):
        return cancelled_from(record)
    return gate_from(found[GATES][0]) if found[GATES] else None


async def order_gate(store: Store, ordered: Gate, *, check: CheckGate | None = None) -> Gate:
    """Store the gate that results from an order, and return it. Calls that are about to leave may still (`until_left`).

    The rules are those of `model.jobs.gate.merged`. `check` gets the gate that the order would change, as a condition
    of the write. Raises its error, and StoreError; an order with a token may then be
    given again.
    """
    now = ordered.since
    token = ordered.token or new_revision()
    found = (await store.records({GATES: [(ordered.queue, member_of(ordered))]}, now=now))[GATES]
    standing = found[0] if found else None
    while True:
        if check is not None:
            check(None if standing is None else gate_from(standing))
        gate, write = write_of_order(standing, ordered, token=token)
        (answer,) = await store.write(BulkWrite(writes=(write,)), now=now)
        if answer.result is Result.DONE:
            return gate
        if isinstance(answer.condition, Same) and answer.condition.namespace == CANCELLED and answer.record is not None:
            return cancelled_from(answer.record)
        standing = answer.record  # somebody else's order came between


SENT_WITHIN = 2.0
"""Seconds within which a call leaves after its worker has asked for its journal entry; otherwise it goes back. So two
seconds after a hold, a cancel or an opt-out was stored, no call leaves against it."""
_LOOK_EVERY = 0.1


async def until_left(
    store: Store,
    queues: Iterable[str],
    *,
    batch_id: str | None = None,
    numbers: Container[str] | None = None,
    but: str | None = None,
) -> int:
    """Wait until each call that is `sending` now has left or gone back; returns how many may still ring.

    With `numbers`, only calls to or with one of these count; the call with the id `but` does not. This takes at most
    `SENT_WITHIN` seconds, of a clock that never jumps: the time of a journal entry shows nothing here, because the
    clock may have been set since. Raises StoreError.
    """
    until = store.clock.monotonic() + SENT_WITHIN
    sending: dict[str, Job] = {}
    for queue in queues:
        for job in await find_jobs(store, Due(queue=queue, state=JobState.SENDING)):
            is_of_them = batch_id in {None, job.batch_id} and job.id != but
            if is_of_them and (numbers is None or any(number in numbers for number in job.parties)):
                sending[job.id] = job
    while sending and (left := until - store.clock.monotonic()) > 0:
        await store.clock.sleep(min(_LOOK_EVERY, left))
        current = (await read_each(store, list(sending))).jobs  # one that a newer version has changed has left, too
        sending = {job.id: job for job in current.values() if sending[job.id].revision == job.revision}
    return len(sending)


async def hold_until_left(
    store: Store,
    queue: str,
    *,
    batch_id: str | None,
    until: datetime | None = None,
    reason: str = "",
    check: CheckGate | None = None,
) -> Gate:
    """Hold a queue or a batch, and wait as `until_left` does; returns the gate as it is then. Raises StoreError."""
    now = store.clock.now()
    ordered = Gate.of(queue, batch_id, GateState.HELD, since=now, until=until, reason=reason)
    gate = await order_gate(store, ordered, check=check)
    await until_left(store, [queue], batch_id=batch_id)
    now = store.clock.now()
    found = (await gates_at(store, queue, [batch_id])).get(batch_id)
    if found is None and gate.is_closed(at=now):
        return Gate.of(queue, batch_id, GateState.OPEN, since=now)
    return found or gate


FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(seconds=60)


class Holds:
    """Closes gates of one queue, and keeps back this worker's calls that have not left.

    A 429 that names no time holds the queue for 1 s. Each such 429 after the end of a pause doubles the next pause, up
    to 60 s. An answer without a hold sets the pause back to 1 s.
    """

    def __init__(self, store: Store, *, queue: str) -> None:
        self._store = store
        self._clock = store.clock
        self._queue = queue
        self._pause = FIRST_PAUSE
        self._paused_until: datetime | None = None
        self._closed_at = float("-inf")
        self._log_limit = RateLimitedLog(monotonic=self._clock.monotonic)
        self.reason: str = ""

    def close(self, hold: QueueHold) -> Gate:
        """Hold the queue for this worker at once. Pass the returned gate to `order` to hold the queue for all workers.

        Use this only once for each answer: a second use could give the hold a later end.
        """
        now = self._clock.now()
        # Before the trip to the store: calls that have not left yet must not leave.
        self._closed_at = self._clock.monotonic()
        self.reason = hold.reason
        if hold.until_opened and self._log_limit.admit(hold.reason) is not None:  # each call in flight meets the cause
            remedy = f"correct the cause, then run `voiceflow resume --queue {self._queue}`"
            _log.error("the queue is held until somebody resumes it", reason=hold.reason, remedy=remedy)
        until = None if hold.until_opened else self._until(hold, now)
        gate = Gate.of(self._queue, None, GateState.HELD, since=now, until=until, reason=hold.reason)
        return replace(gate, token=new_revision())

    async def order(self, gate: Gate, *, of_account: bool = False) -> datetime | None:
        """Close a gate for all workers; return the time at which it opens, or None if a person must open it.

        With `of_account`, the other queues of the same account of 8x8 are held, too.
        """
        until = (await order_gate(self._store, gate)).until
        if not of_account:
            return until
        accounts = dict(await accounts_of(self._store).all())
        own = accounts.get(self._queue)
        for queue, account in accounts.items():
            if queue != self._queue and own is not None and account == own:
                await order_gate(self._store, replace(gate, queue=queue, name=queue))
        return until

    def apply(self, gate: Gate) -> None:
        """Follow a hold that was read from the store: calls that this worker has leased already must not leave."""
        self._closed_at = self._clock.monotonic()
        self.reason = gate.reason

    def closed_since(self, leased_at: float) -> bool:
        """Return whether this worker has seen a hold after `leased_at` (monotonic seconds).

        A job that was leased after the hold is not affected by it: the store's gate has let it pass.
        """
        return self._closed_at >= leased_at

    def relax(self) -> None:
        """Set the pause back to 1 s, after an answer without a hold."""
        self._pause = FIRST_PAUSE

    def _until(self, hold: QueueHold, now: datetime) -> datetime:
        if hold.retry_after is not None:
            return now + hold.retry_after
        if self._paused_until is not None and now < self._paused_until:
            # Fifty calls in flight get the same 429: the pause doubles once, not fifty times.
            return self._paused_until
        self._paused_until = now + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        return self._paused_until
