"""The tone of a state or an outcome: the colour of its badge, and the sign and the words in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.reports.status import OPT_OUTS, SessionStatus


@dataclass(frozen=True, slots=True)
class Tone:
    """A tone. `colour` is a class of the style sheet, `sign` a symbol of the layout, `label` the words."""

    colour: str
    sign: str
    label: str


_GOOD, _BAD, _WARN, _BUSY, _IDLE = "good", "bad", "warn", "busy", "idle"

_TONES: Mapping[str, tuple[str, str]] = {
    JobState.QUEUED: (_IDLE, "clock"),
    JobState.LEASED: (_BUSY, "clock"),
    JobState.SENDING: (_BUSY, "up"),
    JobState.SUBMITTED: (_BUSY, "phone"),
    JobState.IN_DOUBT: (_WARN, "question"),
    JobState.COMPLETED: (_GOOD, "check"),
    JobState.ACCEPTED: (_GOOD, "up"),
    JobState.UNREACHED: (_IDLE, "minus"),
    JobState.FAILED: (_BAD, "cross"),
    JobState.EXPIRED: (_IDLE, "hourglass"),
    JobState.CANCELLED: (_IDLE, "ban"),
    SessionStatus.COMPLETED: (_GOOD, "check"),
    SessionStatus.NO_ANSWER: (_IDLE, "minus"),
    SessionStatus.BUSY: (_IDLE, "phone"),
    SessionStatus.CANCELED: (_IDLE, "ban"),
    SessionStatus.FAILED: (_BAD, "cross"),
    SessionStatus.ERROR: (_BAD, "cross"),
    **dict.fromkeys(OPT_OUTS, (_WARN, "ban")),
}


def tone_of(name: str) -> Tone:
    """The tone of a state or an outcome; a neutral tone for an unknown name. The label of `in_doubt` is "in doubt"."""
    colour, sign = _TONES.get(name, (_IDLE, "dot"))
    return Tone(colour, sign, name.replace("_", " ").lower() if name in _TONES else name)
