"""Numbers, times and names as the console writes them."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from babel import Locale

from voiceflow_worker.campaigns.fields import fields_of
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.finding import respelled
from voiceflow_worker.model.jobs.call_json import is_result
from voiceflow_worker.model.text.wording import duration_in_words

ZONE: ContextVar[ZoneInfo] = ContextVar("zone", default=ZoneInfo("UTC"))  # noqa: B039 - a zone does not change
"""The zone of all times on the page that is shown, and of those that are typed into it."""
NOW: ContextVar[datetime | None] = ContextVar("now", default=None)
"""The time at which the page is shown."""
_DAY, _TIME = "%b {day}", "%H:%M"
_FORMS = {
    "full": f"{_DAY}, %Y, {_TIME}:%S",
    **dict.fromkeys(("said", "near"), f"{_DAY}, %Y, {_TIME}"),
    "short": f"{_DAY}, {_TIME}",
    "time": f"{_TIME}:%S",
}

_DAYS = {-1: " yesterday", 0: "", 1: " tomorrow"}


def answer_in_words(answer: str) -> str:
    """The name that somebody gave an answer, or the words of a result of our own, which no answer may have."""
    return answer.replace("_", " ") if is_result(answer) else answer


def countries() -> Mapping[str, str]:
    """The names of countries and regions, by their codes."""
    names: Mapping[str, str] = Locale("en").territories
    return names


def number(value: float, digits: int = 0) -> str:
    """A number such as 50,014, with its digits in groups."""
    return f"{value:,.{digits}f}"


def moment(at: datetime, form: str = "full") -> str:
    """A time in the zone of the page: `full`, `short` (no year, no seconds), `said` in a sentence, or the `time`.

    If it is `near`, it is said as people do: one of today has no day, and one of tomorrow has that word.
    """
    local, now = at.astimezone(ZONE.get()), NOW.get()
    days = None if now is None else (local.date() - now.astimezone(ZONE.get()).date()).days
    if form == "near" and days is not None and days in _DAYS:
        return f"{local:{_TIME}}{_DAYS[days]}"
    return f"{local:{_FORMS[form].format(day=local.day)}}"


def with_labels(text: str) -> str:
    """Return a message with the page's labels of the fields that it tells to change."""

    def spelling(name: str, value: str) -> str | None:
        return f"“{_LABELS[name]}”{value and f': {value}'}" if name in _LABELS else None

    return respelled(text, spelling)


_LABELS = {name: each.label for name, each in fields_of(Of.CAMPAIGN).items() if each.label}


def label_of(name: str) -> str:
    """What the page calls a field of a campaign; the name itself, if the page has no such field."""
    return _LABELS.get(name, name)


def span(duration: timedelta) -> str:
    """A duration in words that stays on one line: `6 min 7 s`, with no-break spaces."""
    return duration_in_words(duration).replace(" ", "\u00a0")
