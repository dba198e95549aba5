"""Render the templates: states, times and numbers in the words and colours of people. Every value is escaped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple, cast
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from voiceflow_worker.campaigns.fields import fields_of
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.console.page import Page, PageRequest, sentence
from voiceflow_worker.finding import respelled
from voiceflow_worker.model.jobs.call_json import CallResult, is_result, result_of
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.reports.status import OPT_OUTS, SessionStatus
from voiceflow_worker.model.text.printable import shown_in_page
from voiceflow_worker.model.text.wording import duration_in_words
from voiceflow_worker.reporting.story import ending

ZONE: ContextVar[ZoneInfo] = ContextVar("zone", default=ZoneInfo("UTC"))  # noqa: B039 - a zone does not change
"""The zone of all times on the page that is shown, and of those that are typed into it."""
_FORMS = {
    "full": "%b {day}, %Y, %H:%M:%S",
    "short": "%b {day}, %H:%M",
    "time": "%H:%M:%S",
}
_LABELS = {name: each.label for name, each in fields_of(Of.CAMPAIGN).items() if each.label}


class Tone(NamedTuple):
    """A tone. `colour` is a class of the style sheet, `sign` a symbol of the layout, `label` the words."""

    colour: str
    sign: str
    label: str


_TONES: Mapping[str, Tone] = {
    JobState.COMPLETED: Tone("good", "check", "answered"),
    JobState.ACCEPTED: Tone("good", "up", "end unknown"),
    JobState.UNREACHED: Tone("idle", "minus", "not reached"),
    JobState.FAILED: Tone("bad", "cross", "failed"),
    JobState.EXPIRED: Tone("idle", "hourglass", "expired"),
    JobState.CANCELLED: Tone("idle", "ban", "cancelled"),
    JobState.IN_DOUBT: Tone("warn", "question", "in doubt"),
    **dict.fromkeys((JobState.SUBMITTED, JobState.SENDING, "calling"), Tone("busy", "phone", "calling")),
    **dict.fromkeys((JobState.LEASED, JobState.QUEUED, "waiting"), Tone("idle", "clock", "waiting")),
    SessionStatus.COMPLETED: Tone("good", "check", "answered"),
    SessionStatus.NO_ANSWER: Tone("idle", "minus", "no answer"),
    SessionStatus.BUSY: Tone("idle", "phone", "busy"),
    SessionStatus.CANCELED: Tone("idle", "ban", "canceled"),
    SessionStatus.FAILED: Tone("bad", "cross", "failed"),
    SessionStatus.ERROR: Tone("bad", "cross", "error"),
    **{each: Tone("warn", "ban", each.replace("_", " ").lower()) for each in OPT_OUTS},
}
"""Tones by states and outcomes. Those of states are in the order of a bar: ended calls first, waiting calls last."""
DESK = {name: frozenset(state for state in JobState if _TONES[state].label == name) for name in ("waiting", "calling")}
"""The states of calls that have not ended, by the words that people use for them."""


def tone_of(name: str) -> Tone:
    """Return the tone of a state or an outcome, in the words of people; a neutral tone for an unknown name."""
    return _TONES.get(name) or Tone("idle", "dot", name)


def pieces_of(states: Mapping[JobState, int]) -> list[tuple[str, float, float]]:
    """Return the bar of these calls by state: the colour of each piece, its start and its width in percent."""
    total, start, found = sum(states.values()) or 1, 0.0, list[tuple[str, float, float]]()
    for state in (each for each in _TONES if isinstance(each, JobState)):
        width = 100 * states.get(state, 0) / total
        if width and state not in DESK["waiting"]:
            found.append((tone_of(state).colour, round(start, 3), round(width, 3)))
        start += width
    return found


def moment(at: datetime, form: str = "full") -> str:
    """Return a time in the zone of the page: `full`, `short` (no year, no seconds), or the `time` of the day."""
    local = at.astimezone(ZONE.get())
    return f"{local:{_FORMS[form].format(day=local.day)}}"


def with_labels(text: str) -> str:
    """Return a message with the page's labels of the fields to change."""

    def spelling(name: str, value: str) -> str | None:
        return f"“{_LABELS[name]}”{value and f': {value}'}" if name in _LABELS else None

    return respelled(text, spelling)


def label_of(name: str) -> str:
    """Return what the page calls a field of a campaign; the name itself, if the page has no such field."""
    return _LABELS.get(name, name)


def span(duration: timedelta) -> str:
    """Return a duration in words that stays on one line: `6 min 7 s`, with no-break spaces."""
    return duration_in_words(duration).replace(" ", "\u00a0")


def answer_in_words(answer: str) -> str:
    """Return the name that somebody gave an answer, or the words of a result of our own, which no answer may have."""
    return answer.replace("_", " ") if is_result(answer) else answer


def _ended(job: Job) -> str:
    """Return how a call ended, in a few words: `no answer`, `busy (486)`, `completed, 35 s`."""
    status = job.outcome_status
    return ending(job) if status is None else ending(job).replace(status.value, tone_of(status.value).label, 1)


def _result(job: Job) -> str:
    """Return the result of a call: `no answer`, or the name of an answer; empty while it is open."""
    result = result_of(job)
    return "" if result is CallResult.OPEN else answer_in_words(result)


def draw(page: Page, asked: PageRequest, *, live_only: bool = False, **more: object) -> bytes:
    """Render a page, or only its live part, as UTF-8. Half a surrogate pair, as in some JSON, becomes `?`.

    Templates call the macros in `parts.html` as `ui.badge(…)`.
    """
    frame = "live.html" if live_only else "layout.html"
    template = templates().get_template(page.template)
    text = template.render(**page.shown, **more, frame=frame, page=page, asked=asked, home=asked.home)
    return text.encode("utf-8", errors="replace")


_FILTERS: dict[str, Callable[[Any], Any]] = {
    "own": escape,  # a token of ours, which is no name of anything
    "segment": lambda value: escape(quote(str(value), safe="", errors="replace")),  # also one value of a query
    "query": lambda values: escape(urlencode(values, errors="replace", doseq=True)),
    "moment": datetime.fromisoformat,
    "written": moment,
    "with_labels": with_labels,
    "ended": _ended,
    "result": _result,
    "answer": answer_in_words,
    "sentence": sentence,
    "tone": tone_of,
    "grouped": lambda value: Markup(f"{value:,.0f}"),  # noqa: S704 - digits
    "pieces": pieces_of,
    "span": span,
    "pairs": lambda names: [(name, name) for name in names],
}


@cache
def templates() -> Environment:
    """Return all templates. They are compiled once in a process, for all its receivers, because this takes 0.2 s."""
    made: Any = Environment(
        loader=PackageLoader("voiceflow_worker.console"),
        autoescape=True,
        finalize=shown_in_page,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= _FILTERS
    made.globals |= {"zone": ZONE.get}
    made.globals["ui"] = made.get_template("parts.html").module
    for name in made.list_templates(extensions=["html"]):
        made.get_template(name)  # read now, because later no file descriptor may be left
    return cast("Environment", made)
