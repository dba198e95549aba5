"""The outcome of a session: its status and its legs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.flows.bodies import VALIDITY_EXPIRED
from voiceflow_worker.model.numbers.phone import Likeness, likeness
from voiceflow_worker.model.reports.status import (
    FILE_NOT_FETCHED,
    FLOW_INVALID,
    OPT_OUTS,
    REACHED,
    SESSION_VALIDITY_EXPIRED,
    SPEECH_FAILED,
    TRUNK_FULL,
    SessionStatus,
    fold_session_status,
)

MISSED_WINDOW_CODES = frozenset({VALIDITY_EXPIRED, SESSION_VALIDITY_EXPIRED})
"""Codes of 8x8 for a POST whose `validUntil` had passed: nobody was called."""
BODY_CODES = frozenset({FLOW_INVALID, SPEECH_FAILED, FILE_NOT_FETCHED})
"""Codes of sessions whose flow, speech or file failed: every call with the same body has the same end."""

_NOT_ANSWERED = frozenset({SessionStatus.NO_ANSWER, SessionStatus.BUSY})
NOT_CONNECTED = frozenset({SessionStatus.FAILED, SessionStatus.ERROR})
"""Session statuses of calls that did not come about."""
_OF_THE_SECOND = _NOT_ANSWERED | NOT_CONNECTED
"""Session statuses that can come from the leg to the second party. If they do, the first party has answered."""


class CallLeg(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One of the (at most two) calls of a session: the call to the person, or the one that is bridged to it.

    `status` is the spelling of 8x8. `seconds` is the time for which the leg was connected. `sip_code` is how the
    network ended a leg that was not connected.
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
    sip_code: int | None = None

    def likeness(self, number: str) -> Likeness:
        """Return the degree to which this leg goes to a number."""
        return likeness(self.destination, number)


class Outcome(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The end of a session, from its summary (VSS) or the log.

    `status` is None if `status_text`, the spelling of 8x8, is not known. If `is_partial`, `legs` may lack a leg. It
    `rang` if another event of the session says so.
    """

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
    is_partial: bool = False
    rang: bool = False

    def status_of(self, destination: str) -> SessionStatus | None:
        """Return the status of the call to `destination`, the person; None if 8x8's spelling is unknown.

        After the person has answered, the session has the status of the second party (8x8 number masking guide), so
        with two legs the status of the person's leg is returned. Exceptions: the session says that the person was
        reached; it is an opt-out, and the leg was not answered; the status of the leg is unknown, which counts as
        COMPLETED if it was connected. With one leg, the session's status is returned, unless the log lacks the other
        (`is_partial`) and this one shows that the person answered.
        """
        if self.status in REACHED or not self.legs:
            return self.status
        if len(self.legs) == 1:
            answered = self.is_partial and self._shows_an_answer(self.legs[0], destination)
            return SessionStatus.COMPLETED if answered else self.status
        leg = self.leg_to(destination) or self.legs[0]
        status = fold_session_status(leg.status)
        if status is None:
            return self.status if leg.connected_at is None else SessionStatus.COMPLETED
        # A person on the block list is not called again, even if the leg only says "failed".
        return self.status if self.status in OPT_OUTS and status not in REACHED else status

    def leg_to(self, destination: str) -> CallLeg | None:
        """Return the leg to `destination`: the one with its number, else the first."""
        if not self.legs or (len(self.legs) == 1 and self.legs[0].likeness(destination) is Likeness.OTHER):
            return None
        return next((leg for leg in self.legs if leg.likeness(destination) is Likeness.SAME), self.legs[0])

    def sip_code_of(self, destination: str) -> int | None:
        """Return the SIP code with which the call to `destination` failed, if it is known."""
        leg = self.leg_to(destination)
        return None if leg is None or self.status_of(destination) not in NOT_CONNECTED else leg.sip_code

    def with_sip_codes(self, of: Sequence[CallLeg]) -> Outcome:
        """Return the outcome, its legs with the SIP codes that are known of them."""
        if self.status is not None and self.status not in NOT_CONNECTED:
            return self
        legs = tuple(leg if leg.sip_code is not None else replace(leg, sip_code=_code_of(leg, of)) for leg in self.legs)
        return replace(self, legs=legs or tuple(of))

    def _shows_an_answer(self, leg: CallLeg, destination: str) -> bool:
        """Return whether the only leg shows that the person answered, although the session does not."""
        if leg.likeness(destination) is Likeness.OTHER:
            return self.status in _OF_THE_SECOND
        return self.status in _NOT_ANSWERED and fold_session_status(leg.status) in REACHED

    def text_of(self, destination: str) -> str:
        """Return the name of the status of the call to `destination`, or the spelling of 8x8."""
        status = self.status_of(destination)
        return self.status_text if status is None else status.value

    @property
    def missed_its_window(self) -> bool:
        """True if 8x8 dropped the call because its `validUntil` had passed (-2007): nobody was called."""
        return self.code in MISSED_WINDOW_CODES

    @property
    def met_a_full_trunk(self) -> bool:
        """True if the call found no free line (-2010), and nothing says that a phone rang."""
        if self.code != TRUNK_FULL or self.rang:
            return False
        statuses = {self.status, *(fold_session_status(leg.status) for leg in self.legs if leg.status)}
        connected = any(leg.connected_at is not None or leg.seconds for leg in self.legs)
        return statuses <= NOT_CONNECTED and not connected

    @property
    def was_placed(self) -> bool:
        """True if the session counts as an attempt."""
        return not (self.missed_its_window or self.met_a_full_trunk)


def _code_of(leg: CallLeg, known: Sequence[CallLeg]) -> int | None:
    """Return the SIP code that is known of a leg: by its id, else by its number."""
    same = [each for each in known if each.call_id is not None and each.call_id == leg.call_id]
    shown = leg.destination or ""
    alike = [each for each in known if None in {each.call_id, leg.call_id} and each.likeness(shown) is Likeness.SAME]
    return next((each.sip_code for each in (*same, *alike)), None)
