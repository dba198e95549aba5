"""The sending tasks of a worker. Each task sends one call at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

import anyio
import structlog
from anyio.abc import TaskGroup

from voiceflow_worker.core.sending.submit import Flight, Submitter

_log = structlog.get_logger("voiceflow.worker")


class Senders:
    """Sends prepared calls in tasks that are reused, and counts the calls in flight.

    `on_freed` is called when the worker may have room for another call.
    """

    def __init__(self, submitter: Submitter, *, on_freed: Callable[[], None]) -> None:
        self._submitter = submitter
        self._on_freed = on_freed
        self._flying = 0
        self._ready: deque[Flight] = deque()
        self._idle: list[anyio.Event] = []

    @property
    def flying(self) -> int:
        """The number of leased calls that wait for their departure or for the answer of 8x8."""
        return self._flying

    @property
    def in_flight(self) -> int:
        """The number of leased calls without a stored verdict."""
        return self._flying + self._submitter.settling

    def occupy(self, count: int) -> None:
        """Count calls that were leased."""
        self._flying += count

    def free(self, count: int) -> None:
        """Subtract calls that were leased but will not be sent."""
        self._flying -= count
        if count:
            self._on_freed()

    def send(self, flights: Iterable[Flight], group: TaskGroup) -> None:
        """Send calls that `occupy` counted, in tasks of this group.

        Calls that have not left when the group ends are put back.
        """
        for flight in flights:
            self._ready.append(flight)
            if self._idle:
                self._idle.pop().set()
            else:
                group.start_soon(self._send_calls)

    async def _send_calls(self) -> None:
        woken = anyio.Event()
        try:
            while True:
                while self._ready:
                    await self._fly(self._ready.popleft())
                woken = anyio.Event()
                self._idle.append(woken)
                await woken.wait()
        finally:
            if woken in self._idle:
                self._idle.remove(woken)
            left, self._ready = self._ready, deque()
            if left:
                await self._submitter.give_back(left)
                self.free(len(left))

    async def _fly(self, flight: Flight) -> None:
        try:
            await self._submitter.fly(flight)
        except Exception:  # noqa: BLE001 - a fault of one call must not end the others; the call ends in doubt
            _log.exception(
                "an unexpected error stopped the sending of a call, or the reading of its answer; when its lease ends, "
                "the call is queued again or in doubt",
                job=flight.job.id,
            )
        finally:
            self._flying -= 1
            self._on_freed()
