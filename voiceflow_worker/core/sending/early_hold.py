"""Early holds: holds that an answer causes before its verdict is known."""

from __future__ import annotations

from datetime import datetime

import structlog

from voiceflow_worker.core.sending.reply import Reply
from voiceflow_worker.core.settling.holds import Holds
from voiceflow_worker.errors import StoreError
from voiceflow_worker.model.jobs.gate import Gate
from voiceflow_worker.model.reports.verdict import Hold, Verdict

_log = structlog.get_logger("voiceflow.submit")


class EarlyHold:
    """The hold of one POST whose verdict is still awaited, ordered once.

    Nothing else may leave after it. Waiting for the verdict would let calls leave for as long as that takes.
    """

    __slots__ = ("_gate", "_holds", "_is_ordered", "_until")

    def __init__(self, holds: Holds) -> None:
        self._holds = holds
        self._gate: Gate | None = None
        self._until: datetime | None = None
        self._is_ordered = False

    async def order(self, hold: Hold) -> None:
        """Hold the queue. If the store is away, the hold is ordered again with the verdict."""
        self._gate = self._holds.close(hold)
        try:
            self._until = await self._holds.order(self._gate)
            self._is_ordered = True
        except StoreError as error:
            _log.warning("the store did not take a hold; it is ordered again with the verdict", error=str(error))

    def reply(self, verdict: Verdict, *, at: datetime) -> Reply | None:
        """The reply with this verdict; None without an early hold."""
        if self._gate is None:
            return None
        return Reply(verdict, at, gate=None if self._is_ordered else self._gate, held_until=self._until)
