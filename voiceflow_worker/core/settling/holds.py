"""Holds of a queue that follow from verdicts: for this worker at once, and for all workers through the store."""

from __future__ import annotations

from datetime import datetime, timedelta

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reading import gates_at
from voiceflow_worker.core.settling.gates import order_gate
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.reports.verdict import Hold

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
