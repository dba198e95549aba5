"""How a session ended, and its calls, as its summary tells."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from voiceflow_worker.model.status import SessionStatus

MISSED_WINDOW_CODES = frozenset({-1015, -2007})
"""8x8 codes that say the POST's own `validUntil` had passed: nobody was called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLeg:
    """One of the (at most two) calls of a session: the person's, or the one that was bridged to it.

    `status` is the service's own spelling. `seconds` is how long it was connected, `mos` the mean opinion score (1 to
    5), `packet_loss_rate` the share of packets lost (0.01 is 1 %).
    """

    call_id: str | None = None
    source: str | None = None
    destination: str | None = None
    status: str | None = None
    initiated_at: datetime | None = None
    connected_at: datetime | None = None
    disconnected_at: datetime | None = None
    seconds: float | None = None
    mos: float | None = None
    packet_loss_rate: float | None = None
    jitter_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a session ended, as its summary (VSS) tells. `status_text` is the service's own spelling."""

    status: SessionStatus | None
    status_text: str
    code: int | None = None
    message: str | None = None
    session_id: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    seconds: float | None = None
    last_action: str | None = None
    legs: tuple[CallLeg, ...] = ()

    @property
    def missed_its_window(self) -> bool:
        """Whether 8x8 dropped the call because its `validUntil` had passed (-2007): nobody was called."""
        return self.code in MISSED_WINDOW_CODES

    @property
    def was_placed(self) -> bool:
        """Whether this is an attempt: everything that ended a session but a missed window."""
        return not self.missed_its_window
