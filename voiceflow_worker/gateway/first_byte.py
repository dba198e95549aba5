"""The step of the caller before the first byte of a POST."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from voiceflow_worker.gateway.verdict import verdict_on_lateness
from voiceflow_worker.model.reports.verdict import BeforeFirstByte, Departure, NotSentError


class FirstByte:
    """The step before the first byte of one POST, which is taken once. `error` is what the caller's part raised.

    If it returns, the POST may leave: nothing is awaited between its end and the first byte.
    """

    __slots__ = ("_before", "_departure", "_left_at", "_valid_until", "_was_asked", "error")

    def __init__(self, before: BeforeFirstByte, *, valid_until: datetime | None) -> None:
        self._before = before
        self._valid_until = valid_until
        self._was_asked = False
        self._departure: Departure | None = None
        self._left_at = 0.0
        self.error: BaseException | None = None

    async def __call__(self) -> Departure:
        """Await the step of the caller. Raises what it raises, NotSentError, and RuntimeError at a second call."""
        if self._was_asked:
            raise RuntimeError("a POST is sent once: its first byte may have left already")
        self._was_asked = True
        try:
            departure = await self._before()
        except BaseException as error:
            self.error = error
            raise
        if self._valid_until is not None and self._valid_until <= departure.at:
            raise NotSentError(verdict_on_lateness(valid_until=self._valid_until, now=departure.at))
        self._departure, self._left_at = departure, time.monotonic()
        return departure

    @property
    def may_have_left(self) -> bool:
        """True if the first byte may have been sent."""
        return self._departure is not None

    def time_now(self) -> datetime:
        """Return the present time, by the clock that was read before the first byte.

        Raises RuntimeError before that.
        """
        if self._departure is None:
            raise RuntimeError("the POST has not left")
        return self._departure.at + timedelta(seconds=time.monotonic() - self._left_at)
