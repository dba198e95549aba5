"""Holds: a verdict that closes a queue closes it for all workers, at once for this one."""

from __future__ import annotations

from datetime import datetime, timedelta

from voiceflow_worker.core.ports import Clock, Control
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState
from voiceflow_worker.model.reports.verdict import Hold

FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(seconds=60)


class Holds:
    """Orders gates for one queue, and tells this worker's calls that are about to leave.

    A 429 without a time holds for 1 s, doubled each time until an answer is no 429, up to 60 s.
    """

    def __init__(self, control: Control, clock: Clock, *, queue: str) -> None:
        self._control = control
        self._clock = clock
        self._queue = queue
        self._pause = FIRST_PAUSE
        self._paused_until: datetime | None = None
        self._closed_at = float("-inf")
        self.reason = ""

    def close(self, hold: Hold) -> Gate:
        """Hold the queue for this worker, at once; gives the gate that `order` then closes for all.

        Its time counts from now. It is made once for each answer, however often the order has to be repeated.
        """
        now = self._clock.now()
        # First here, before the store hears of it: what has not left yet must not leave.
        self._closed_at = self._clock.monotonic()
        self.reason = hold.reason
        return Gate(
            queue=self._queue,
            scope=GateScope.QUEUE,
            name=self._queue,
            state=GateState.HELD,
            until=None if hold.until_opened else self._until(hold, now),
            reason=hold.reason,
            since=now,
        )

    async def order(self, gate: Gate) -> datetime | None:
        """Close a gate for all workers; gives when it opens by itself, None if a person must open it."""
        return (await self._control.gate(gate)).until

    def heed(self, gate: Gate) -> None:
        """Somebody else holds the queue: what this worker has leased before must not leave either."""
        self._closed_at = self._clock.monotonic()
        self.reason = gate.reason

    def closed_since(self, leased_at: float) -> bool:
        """Whether this worker has heard of a hold after `leased_at` (monotonic seconds).

        What is leased later passed the store's gate, and is none of our business.
        """
        return self._closed_at >= leased_at

    def relax(self) -> None:
        """An answer that was no 429: the next one starts at the first pause again."""
        self._pause = FIRST_PAUSE

    def _until(self, hold: Hold, now: datetime) -> datetime:
        if hold.retry_after is not None:
            return now + hold.retry_after
        if self._paused_until is not None and now < self._paused_until:
            # Fifty calls in flight see the same 429: that is one reason to wait longer, not fifty.
            return self._paused_until
        self._paused_until = now + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        return self._paused_until
