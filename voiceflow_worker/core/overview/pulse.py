"""The heartbeat of one worker, with the rate of its calls in the last 5 seconds."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

import structlog

from voiceflow_worker.core.overview.heartbeat import Heartbeats, WorkerBeat
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import VoiceflowError

_log = structlog.get_logger("voiceflow.worker")

RATE_WINDOW = 5.0
BATCHES_SHOWN = 50


class Pulse:
    """Counts the POSTs of one worker that 8x8 has answered, and stores the worker's heartbeats.

    `in_flight` returns the number of calls that the worker is sending.
    """

    def __init__(self, store: Store, *, queue: str, worker_id: str, in_flight: Callable[[], int]) -> None:
        self._clock = store.clock
        self._heartbeats = Heartbeats(store)
        self._queue = queue
        self._worker_id = worker_id
        self._in_flight = in_flight
        self._answered: deque[tuple[float, str | None]] = deque()

    def count(self, batch_id: str | None) -> None:
        """Count a POST that 8x8 has answered, for a call of this batch."""
        self._answered.append((self._clock.monotonic(), batch_id))

    async def beat(self) -> None:
        """Store a heartbeat. Raises StoreError."""
        await self._heartbeats.worker(self._now())

    async def end(self) -> None:
        """Delete the heartbeat of a worker that stops. A failure is only logged."""
        try:
            await self._heartbeats.worker_left(self._now())
        except VoiceflowError as error:
            _log.warning("the heartbeat of this worker was not deleted; it expires by itself", error=str(error))

    def _now(self) -> WorkerBeat:
        now = self._clock.monotonic()
        while self._answered and self._answered[0][0] < now - RATE_WINDOW:
            self._answered.popleft()
        batches = Counter(batch_id for _, batch_id in self._answered if batch_id is not None)
        return WorkerBeat(
            worker_id=self._worker_id,
            queue=self._queue,
            rate=len(self._answered) / RATE_WINDOW,
            in_flight=self._in_flight(),
            batches={name: count / RATE_WINDOW for name, count in batches.most_common(BATCHES_SHOWN)},
        )
