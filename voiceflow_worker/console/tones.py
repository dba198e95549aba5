"""Say states and outcomes in words and colours; draw a bar of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from voiceflow_worker.model.flows.actions import heard_in
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.reports.status import OPT_OUTS, SessionStatus


class Tone(NamedTuple):
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
    "waiting": (_IDLE, "clock"),
    "calling": (_BUSY, "phone"),
    SessionStatus.COMPLETED: (_GOOD, "check"),
    SessionStatus.NO_ANSWER: (_IDLE, "minus"),
    SessionStatus.BUSY: (_IDLE, "phone"),
    SessionStatus.CANCELED: (_IDLE, "ban"),
    SessionStatus.FAILED: (_BAD, "cross"),
    SessionStatus.ERROR: (_BAD, "cross"),
    **dict.fromkeys(OPT_OUTS, (_WARN, "ban")),
}


DESK = {
    "waiting": frozenset({JobState.QUEUED, JobState.LEASED}),
    "calling": frozenset({JobState.SENDING, JobState.SUBMITTED}),
}
"""The states of calls that have not ended, by the words that people use for them."""
_LABELS: Mapping[str, str] = {
    **{state: words for words, states in DESK.items() for state in states},
    JobState.COMPLETED: "answered",
    JobState.ACCEPTED: "end unknown",
    JobState.UNREACHED: "not reached",
    SessionStatus.COMPLETED: "answered",
}
"""The words for states and outcomes whose names at the engine and at 8x8 say less to people."""


def tone_of(name: str) -> Tone:
    """Return the tone of a state or an outcome, in the words of people; a neutral tone for an unknown name."""
    colour, sign = _TONES.get(name, (_IDLE, "dot"))
    return Tone(colour, sign, _LABELS.get(name) or (name.replace("_", " ").lower() if name in _TONES else name))


_KINDS = {
    "text": "Says",
    "fileUrl": "Plays",
    "promptMessage": "Asks",
    "successMessage": "Says after valid keys",
    "failureMessage": "Says after invalid keys",
}


class Said(NamedTuple):
    """One text of a call, with its purpose (`kind`) and the voice that speaks it."""

    kind: str
    text: str
    voice: str | None = None


def texts_of(body: str) -> list[Said]:
    """Return the texts of a body, in the order in which they are spoken; empty for a body that cannot be read."""
    try:
        read: object = json.loads(body)
    except ValueError:
        return []
    return [Said(kind=_KINDS[each.name], text=each.text, voice=each.voice) for each in heard_in(read)]


_ORDER = (
    *(JobState.COMPLETED, JobState.ACCEPTED, JobState.UNREACHED, JobState.FAILED, JobState.EXPIRED, JobState.CANCELLED),
    *(JobState.IN_DOUBT, JobState.SUBMITTED, JobState.SENDING, JobState.LEASED, JobState.QUEUED),
)
"""The order of states in a bar: ended calls first, waiting calls last."""


class Piece(NamedTuple):
    """A piece of a bar. `start` and `width` are in percent."""

    colour: str
    start: float
    width: float


def pieces_of(states: Mapping[JobState, int]) -> list[Piece]:
    """Return the bar of these calls by state: each piece begins where the one before ends."""
    total, start, found = sum(states.values()) or 1, 0.0, list[Piece]()
    for state in _ORDER:
        width = 100 * states.get(state, 0) / total
        if width and state not in DESK["waiting"]:
            found.append(Piece(tone_of(state).colour, round(start, 3), round(width, 3)))
        start += width
    return found
