"""Orders to hold, to open or to cancel."""

from __future__ import annotations

from voiceflow_worker.core import units
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.identity import new_revision
from voiceflow_worker.core.ports.store import GATES, Result, Step, gate_key
from voiceflow_worker.model.jobs.gate import Gate, GateScope


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
