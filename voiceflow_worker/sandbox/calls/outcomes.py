"""The course of calls, chosen by a script, or by a seed and the destination. Equal inputs give equal courses."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from voiceflow_worker.model.flows.actions import Action, read_action
from voiceflow_worker.model.flows.values import is_object
from voiceflow_worker.model.reports.status import SESSION_VALIDITY_EXPIRED, SessionStatus, session_error
from voiceflow_worker.sandbox.calls.speech import repetitions, seconds_of
from voiceflow_worker.sandbox.orders.orders import Script

# The share of each outcome in percent, in the order of the draw.
_SHARES = {
    SessionStatus.COMPLETED: 72,
    SessionStatus.NO_ANSWER: 13,
    SessionStatus.BUSY: 8,
    SessionStatus.FAILED: 5,
    SessionStatus.ERROR: 2,
}
_FAILED_CODES = (-2004, -2010, -2002)
_NEVER_RINGS = frozenset({SessionStatus.UNSUBSCRIBED_CONTACT})
_ANSWERED = frozenset(
    {SessionStatus.COMPLETED, SessionStatus.COMPLETED_UNSUBSCRIBED, SessionStatus.COMPLETED_UNSUB_ERROR}
)
_RING_SECONDS = {
    SessionStatus.NO_ANSWER: (28.0, 45.0),
    SessionStatus.BUSY: (0.5, 3.0),
    SessionStatus.FAILED: (0.2, 2.0),
    SessionStatus.ERROR: (0.2, 2.0),
}
_SUMMARY_LAG = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCall:
    """The planned course of one call. Durations are in simulated seconds: they are not divided by the speed yet."""

    status: SessionStatus
    code: int | None = None
    message: str | None = None
    dial_seconds: float = 0.0
    ring_seconds: float = 0.0
    talk_seconds: float = 0.0
    lag_seconds: float = _SUMMARY_LAG
    mos: float = 4.3
    packet_loss: float = 0.0
    jitter: float = 1.0
    luck: int = 0
    """The seed for the choices of the person on the phone."""

    @property
    def rings(self) -> bool:
        """True if the number is dialled at all."""
        return self.status not in _NEVER_RINGS

    @property
    def is_answered(self) -> bool:
        """True if the call is answered."""
        return self.status in _ANSWERED


class Outcomes:
    """The maker of call plans. With the same seed, the n-th call to a destination always goes the same way."""

    def __init__(self, seed: int | str) -> None:
        self._seed = seed
        self._calls: dict[str, int] = {}

    def plan(self, destination: str, actions: Sequence[object], *, script: Script | None = None) -> PlannedCall:
        """Return the plan of the next call to `destination`. If the call is answered, it runs `actions`."""
        nth = self._calls.get(destination, 0)
        self._calls[destination] = nth + 1
        luck = self._luck(f"{destination}/{nth}")
        dice = Random(luck)
        (status,) = dice.choices(list(_SHARES), list(_SHARES.values()))
        code = _code(status, dice, actions)
        if script is not None and script.outcome is not None:
            status, code = script.outcome, script.error_code
        elif script is not None and script.error_code is not None:
            code = script.error_code
        planned = PlannedCall(
            status=status,
            code=code,
            message=_message(code, script),
            ring_seconds=_ringing(status, dice),
            talk_seconds=_talking(actions) * dice.uniform(0.8, 1.1) if status in _ANSWERED else 0.0,
            mos=round(dice.uniform(3.9, 4.5), 2),
            packet_loss=round(dice.uniform(0, 0.8), 2),
            jitter=round(dice.uniform(0.2, 9), 2),
            luck=luck,
        )
        return planned if script is None else _as_scripted(planned, script)

    def inbound(self, source: str) -> PlannedCall:
        """Return the plan of the next call that `source` makes to a number of the account."""
        caller = f"from {source}"
        nth = self._calls.get(caller, 0)
        self._calls[caller] = nth + 1
        return PlannedCall(status=SessionStatus.COMPLETED, luck=self._luck(f"{caller}/{nth}"))

    def _luck(self, call: str) -> int:
        return int.from_bytes(hashlib.blake2b(f"{self._seed}/{call}".encode(), digest_size=8).digest())

    def clear(self) -> None:
        """Start again: the next call to each destination counts as the first."""
        self._calls.clear()


def too_late(plan: PlannedCall) -> PlannedCall:
    """Return the plan of a call whose validity passed before it was dialled."""
    return PlannedCall(
        status=SessionStatus.ERROR,
        code=SESSION_VALIDITY_EXPIRED,
        message=_message(SESSION_VALIDITY_EXPIRED, None),
        dial_seconds=plan.dial_seconds,
        lag_seconds=plan.lag_seconds,
    )


def _as_scripted(plan: PlannedCall, script: Script) -> PlannedCall:
    def chosen(scripted: float | None, otherwise: float) -> float:
        return otherwise if scripted is None else scripted

    return replace(
        plan,
        dial_seconds=chosen(script.dial_seconds, plan.dial_seconds),
        ring_seconds=chosen(script.ring_seconds, plan.ring_seconds),
        talk_seconds=chosen(script.talk_seconds, plan.talk_seconds) if plan.is_answered else 0.0,
        lag_seconds=chosen(script.delay_seconds, plan.lag_seconds),
    )


def _code(status: SessionStatus, dice: Random, actions: Sequence[object]) -> int | None:
    if status is SessionStatus.FAILED:
        return dice.choice(_FAILED_CODES)
    if status is SessionStatus.ERROR:
        plays = any(is_object(entry) and entry.get("action") == Action.PLAY_FILE for entry in actions)
        return -2006 if plays else -2005
    return None


def _message(code: int | None, script: Script | None) -> str | None:
    if script is not None and script.error_message is not None:
        return script.error_message
    return None if code is None else session_error(code).meaning


def _ringing(status: SessionStatus, dice: Random) -> float:
    if status in _NEVER_RINGS:
        return 0.0
    return dice.uniform(*_RING_SECONDS.get(status, (3.0, 20.0)))


def _talking(actions: Sequence[object]) -> float:
    """Return the seconds that the actions take if the person listens to the end."""
    seconds = 1.0
    for entry in actions:
        action, params = read_action(entry)
        seconds += seconds_of(action, params) * repetitions(params)
    return seconds
