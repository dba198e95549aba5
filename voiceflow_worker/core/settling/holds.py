"""Holds of queues and batches: gates, holds with reasons, and batches that stop themselves."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from voiceflow_worker.core import units
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.identity import new_revision
from voiceflow_worker.core.ports.reading import gates_at
from voiceflow_worker.core.ports.record_set import RecordSet, json_records
from voiceflow_worker.core.ports.store import GATES, Result, Step, gate_key
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.jobs.policy import Measured, StopRules, why_stop
from voiceflow_worker.model.reports.verdict import Hold


async def order_gate(store: Store, ordered: Gate) -> Gate:
    """Store the gate that results from an order, and return it. Once this returns, no call leaves against it later.

    The rules are those of `model.jobs.gate.merged`. Raises StoreError; the same order may then be given again.
    """
    key = gate_key(ordered.queue, None if ordered.scope is GateScope.QUEUE else ordered.name)
    now = ordered.since
    token = new_revision()
    found = (await store.records({GATES: [key]}, now=now))[GATES]
    standing = found[0] if found else None
    while True:
        gate, unit = units.gate_order(standing, ordered, token=token)
        (answer,) = (await store.write(Step(units=(unit,)), now=now)).answers
        if answer.result is Result.DONE:
            return gate
        standing = answer.record  # somebody else's order came between


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
        self.reason: str = ""

    def close(self, hold: Hold) -> Gate:
        """Hold the queue for this worker at once. Pass the returned gate to `order` to hold the queue for all workers.

        Use this only once for each answer: a second use could give the hold a later end.
        """
        now = self._clock.now()
        # Before the trip to the store: calls that have not left yet must not leave.
        self._closed_at = self._clock.monotonic()
        self.reason = hold.reason
        until = None if hold.until_opened else self._until(hold, now)
        return Gate.of(self._queue, None, GateState.HELD, since=now, until=until, reason=hold.reason)

    async def order(self, gate: Gate) -> datetime | None:
        """Close a gate for all workers; returns the time at which it opens, or None if a person must open it."""
        return (await order_gate(self._store, gate)).until

    def heed(self, gate: Gate) -> None:
        """Follow a hold that was read from the store: calls that this worker has leased already must not leave."""
        self._closed_at = self._clock.monotonic()
        self.reason = gate.reason

    def closed_since(self, leased_at: float) -> bool:
        """Whether this worker has seen a hold after `leased_at` (monotonic seconds).

        A job that was leased after the hold is not affected by it: the store's gate has let it pass.
        """
        return self._closed_at >= leased_at

    async def reason_since(self, leased_at: float, *, batch_id: str | None) -> str | None:
        """The reason why a call leased at `leased_at` may not leave now: a hold or a closed gate; None if it may."""
        if self.closed_since(leased_at):
            return self.reason
        for gate in (await gates_at(self._store, self._queue, {None, batch_id})).values():
            if gate.is_closed(at=self._clock.now()):
                return gate.reason or f"the {gate.scope} is {gate.state}"
        return None

    def relax(self) -> None:
        """Set the pause back to 1 s, after an answer without a hold."""
        self._pause = FIRST_PAUSE

    def _until(self, hold: Hold, now: datetime) -> datetime:
        if hold.retry_after is not None:
            return now + hold.retry_after
        if self._paused_until is not None and now < self._paused_until:
            # Fifty calls in flight get the same 429: the pause doubles once, not fifty times.
            return self._paused_until
        self._paused_until = now + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        return self._paused_until


RULES, MEASURED = "batch-stops", "batch-measured"
KEPT = timedelta(days=400)
READ_EVERY = 5.0
"""Seconds until the rules of all batches are read again. The first calls of a new batch ring for longer."""
IDLE = 30.0
"""Seconds until a batch that has nothing to send is checked again."""
STOPPED = "stopped itself: "
"""The words with which the reason begins when a batch stopped itself by a rule."""

_TO_SEND = (JobState.QUEUED, JobState.LEASED)

_log = structlog.get_logger("voiceflow.stops")


def stop_rules(store: Store) -> RecordSet[StopRules]:
    """The stop rules of batches, by `<queue>/<batch>`."""
    return json_records(store, RULES, StopRules, keep_for=KEPT)


class BatchStops:
    """The rules by which batches of one queue stop themselves. Methods raise StoreError.

    Any number of processes may check the rules. After a person has resumed a batch, only later figures count, so the
    old figures do not hold it again.
    """

    def __init__(self, store: Store, queue: str) -> None:
        self._store = store
        self._prefix = f"{queue}/"
        self._queue = queue
        self._rules = stop_rules(store)
        self._measured = json_records(store, MEASURED, Measured, keep_for=KEPT)
        self._known: dict[str, StopRules] = {}
        self._read_again = 0.0
        self._idle: dict[str, float] = {}

    async def put(self, batch_id: str, rules: StopRules) -> None:
        """Set the rules of a batch. If a new rule is None, the earlier rule stays."""
        key = self._prefix + batch_id
        before = (await self._rules.get([key])).get(key)
        await self._rules.put({key: rules.over(before)})

    async def look(self) -> None:
        """Hold the batches that have reached a limit and have calls to send."""
        now = self._store.clock.monotonic()
        if now >= self._read_again:
            found = await self._rules.all(prefix=self._prefix)
            self._known = {key: rules for key, rules in found if rules is not None and rules.needs_totals}
            self._read_again = now + READ_EVERY
        ruled = [
            (key.removeprefix(self._prefix), rules)
            for key, rules in self._known.items()
            if self._idle.get(key, now) <= now
        ]
        if not ruled:
            return
        gates = await gates_at(self._store, self._queue, [batch_id for batch_id, _ in ruled])
        for batch_id, rules in ruled:
            await self._judge(batch_id, rules, gates.get(batch_id))

    async def _judge(self, batch_id: str, rules: StopRules, gate: Gate | None) -> None:
        key, now = self._prefix + batch_id, self._store.clock.now()
        is_held = gate is not None and gate.until is None
        is_ours = gate is not None and is_held and gate.reason.startswith(STOPPED)
        if is_held and not is_ours:
            return  # held or cancelled by a person; judged once it is resumed
        totals = await self._store.totals(self._queue, batch=batch_id)
        if not any(totals.states[state] for state in _TO_SEND):
            self._idle[key] = self._store.clock.monotonic() + IDLE
            return
        measured = Measured.of(totals)
        before = (await self._measured.get([key])).get(key)
        reason = why_stop(rules, measured.since(before))
        if reason is None:
            return
        if not is_ours:
            since = "" if before is None else "since it was resumed, "
            reason_shown = f"{STOPPED}{since}{reason}"
            held = Gate.of(self._queue, batch_id, GateState.HELD, since=now, reason=reason_shown)
            await order_gate(self._store, held)
            _log.error("a batch stopped itself", batch=batch_id, reason=reason)
        # After the hold: a process that dies between the two leaves a batch that is held once more when it is resumed.
        await self._measured.put({key: measured})
