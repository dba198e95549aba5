"""The geometry and tones of charts. Lengths are in percent, so that a chart fits any width without a script."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from voiceflow_worker.model.flows.actions import heard_in
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
    """The tone of a state or an outcome, in the words of people; a neutral tone for an unknown name."""
    colour, sign = _TONES.get(name, (_IDLE, "dot"))
    return Tone(colour, sign, _LABELS.get(name) or (name.replace("_", " ").lower() if name in _TONES else name))


_KINDS = {
    "text": "Says",
    "fileUrl": "Plays",
    "promptMessage": "Asks",
    "successMessage": "Says after valid keys",
    "failureMessage": "Says after invalid keys",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One text of a call, with its purpose (`kind`) and the voice that speaks it."""

    kind: str
    text: str
    voice: str | None = None


def texts_of(body: str) -> list[Said]:
    """The texts of a body, in the order in which they are spoken; empty for a body that cannot be read."""
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


@dataclass(frozen=True, slots=True)
class ChartBar:
    """A piece of a bar, for `count` calls.

    `start` and `width` are in percent of the chart.
    """

    name: str
    count: int
    colour: str
    start: float = 0.0
    width: float = field(kw_only=True)


def bar_of_states(states: Mapping[JobState, int]) -> list[ChartBar]:
    """The pieces of a bar that shows the states of these calls."""
    colours = {state.value: "rest" if state in DESK["waiting"] else tone_of(state).colour for state in _ORDER}
    return bars({state.value: states.get(state, 0) for state in _ORDER}, colours)


def bars(counts: Mapping[str, int], colours: Mapping[str, str] | None = None) -> list[ChartBar]:
    """A bar for each name, as wide as its share of all counts; they begin where the one before ends."""
    total, start = sum(counts.values()), 0.0
    found: list[ChartBar] = []
    for name, count in counts.items():
        if count:
            width = 100 * count / total
            colour = (colours or {}).get(name, "busy")
            found.append(ChartBar(name, count, colour, start=round(start, 3), width=round(width, 3)))
            start += width
    return found
