"""Batches that stop themselves: each is held when its totals reach a limit that was set for it."""

from __future__ import annotations

from datetime import timedelta

import structlog

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reading import gates_at
from voiceflow_worker.core.ports.record_set import RecordSet, json_records
from voiceflow_worker.core.settling.gates import order_gate
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.jobs.stop_rules import Measured, StopRules, why_stop

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
