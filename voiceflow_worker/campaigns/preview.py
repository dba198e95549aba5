"""The preview of a campaign, made from its calls one by one: whom they call, with which words, and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import orjson

from voiceflow_worker.model.flows.actions import Action, heard_in
from voiceflow_worker.model.numbers.phone import country_of
from voiceflow_worker.model.text.wording import count_of, duration_in_words, rate_in_words, rfc3339
from voiceflow_worker.model.times import zone_of_number
from voiceflow_worker.model.zones import require_zone

if TYPE_CHECKING:
    from voiceflow_worker.campaigns.calls.row_reader import ReadRow

_ASKED = {"successMessage", "failureMessage"}
"""Parameters whose texts are spoken only after key presses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """All texts that a call speaks to the person who answers, in order, and the voice of the first text."""

    text: str = ""
    voice_profile: str | None = None
    seconds: float = 0.0
    """How long the texts take; recordings come on top."""


def speech_of(body: str) -> Speech:
    """Return the speech of a stored body."""
    silent = (each for each in heard_in(orjson.loads(body)) if each.action is not Action.PLAY_FILE)
    heard = [each for each in silent if each.name not in _ASKED]
    return Speech(
        text=" ".join(each.text for each in heard),
        voice_profile=next((each.voice for each in heard if each.voice is not None), None),
        seconds=sum(each.seconds for each in heard),
    )


FIRST_TEXTS, MOST_TEXTS = 3, 12
"""How many texts a preview shows of the first rows, and at most with the first of each further voice and language."""
RINGING = 15.0
"""The assumed number of seconds for which a phone rings before somebody answers. A ringing call is open, too."""
_MOST_COUNTRIES = 8
_LONGEST_TEXT = 300
_TIME = "%a %d %b %Y %H:%M"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewOptions:
    """The assumptions of a preview.

    `rate` is in calls per second; None means unlimited. At most `max_active` calls are open at the same time.
    `time_zone` is the zone of the times that people read.
    """

    rate: float | None = 10.0
    max_active: int | None = None
    time_zone: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleText:
    """A text as it will be spoken, and its row in the file."""

    row: int
    destination: str
    speech: Speech

    def as_json(self) -> dict[str, object]:
        """Return the sample as a JSON object, for scripts."""
        return {
            "row": self.row,
            "destination": self.destination,
            "voice_profile": self.speech.voice_profile,
            "text": self.speech.text,
            "characters": len(self.speech.text),
            "seconds": round(self.speech.seconds, 1),
        }


@dataclass(slots=True)
class Preview:
    """The preview of the calls of a campaign that are added one by one. Its memory does not grow with their number.

    The times are those of first attempts, without redials.
    """

    options: PreviewOptions
    now: datetime
    countries: Counter[str] = field(default_factory=Counter[str])
    sources: Counter[str] = field(default_factory=Counter[str])
    """The calls by the number that they come from."""
    texts: list[SampleText] = field(default_factory=list[SampleText])
    longest: SampleText | None = None
    further_texts: tuple[tuple[str, str], ...] = ()
    """What the first person hears after the first question of a menu: each text with its menu and key."""
    seconds: float = 0.0
    moves: int = 0
    """The calls that a window moves to another day than their not_before."""
    moved: tuple[int, datetime, datetime] | None = None
    """The row of the first of them, from when, and to when, by the clock of the window."""
    starts_at: datetime | None = None
    """The first time at which a call may ring; None without calls."""
    last_opens_at: datetime | None = None
    """The last of the times from which calls may ring."""
    later: int = 0
    """The calls that wait for their window or their not_before."""
    later_opens_at: datetime | None = None
    """The first time at which one of them may ring."""
    _zones: set[str | None] = field(default_factory=set[str | None])
    _spoken: set[tuple[object, object]] = field(default_factory=set[tuple[object, object]])

    def add(self, row: ReadRow, later_texts: Callable[[ReadRow], tuple[tuple[str, str], ...]]) -> None:
        """Add a row with a call. `later_texts` gives what its person hears after the first question of a menu."""
        if (call := row.call) is None:
            return
        self.countries[country_of(call.destination) or "unknown"] += 1
        self.sources[call.source] += 1
        if len(self._zones) < 2:
            self._zones.add(call.time_zone or zone_of_number(call.destination).zone)
        speech = speech_of(call.body)
        sample = SampleText(row=row.raw.number, destination=call.destination, speech=speech)
        if not self.texts:
            self.further_texts = later_texts(row)
        spoken, texts = (speech.voice_profile, (call.data or {}).get("language")), len(self.texts)
        if texts < FIRST_TEXTS or (spoken not in self._spoken and texts < MOST_TEXTS):
            self._spoken.add(spoken)
            self.texts.append(sample)
        if self.longest is None or len(speech.text) > len(self.longest.speech.text):
            self.longest = sample
        self.seconds += speech.seconds
        opens = at = max(call.not_before or self.now, self.now)
        if call.window is not None and (zone := call.window.zone_for(call.time_zone)) is not None:
            opens = call.window.opens(at, zone) or at
            if call.not_before is not None and opens.astimezone(zone).date() != at.astimezone(zone).date():
                self.moves += 1
                self.moved = self.moved or (row.raw.number, at.astimezone(zone), opens.astimezone(zone))
        self.starts_at = min(self.starts_at or opens, opens)
        self.last_opens_at = max(self.last_opens_at or opens, opens)
        if opens > self.now:
            self.later += 1
            self.later_opens_at = min(self.later_opens_at or opens, opens)

    @property
    def calls(self) -> int:
        """Number of calls."""
        return self.countries.total()

    @property
    def rate(self) -> float | None:
        """Rate that the calls can reach, in calls per second, if few may be open at once; None if unlimited."""
        if self.options.max_active is None or not self.calls:
            return self.options.rate
        reached = self.options.max_active / (RINGING + self.seconds / self.calls)
        return reached if self.options.rate is None else min(reached, self.options.rate)

    @property
    def time_zone(self) -> str | None:
        """Zone of the times that people read: that of the options, else the one of all people."""
        return self.options.time_zone or (next(iter(self._zones)) if len(self._zones) == 1 else None)

    @property
    def ends_at(self) -> datetime | None:
        """Earliest end of the last call, if everybody answers and windows stay open; None without calls."""
        if self.starts_at is None or self.last_opens_at is None:
            return None
        sending = timedelta(seconds=(self.calls - 1) / self.rate) if self.rate else timedelta()
        return max(self.last_opens_at, self.starts_at + sending) + timedelta(
            seconds=RINGING + self.seconds / self.calls
        )

    def in_words(self) -> list[tuple[str, str]]:
        """Return the preview for people: names of figures, and sentences, with times in their zone."""
        zone = None if self.time_zone is None else require_zone(self.time_zone)

        def moment(at: datetime) -> str:
            local = at.astimezone(zone)
            return f"{local:{_TIME}} ({self.time_zone or local.tzname()})"

        rows: list[tuple[str, str]] = [("calls", _counts(self.countries))]
        if len(self.sources) > 1:
            rows.append(("called from", _counts(self.sources)))
        if self.later_opens_at is not None:
            wait = f"{count_of(self.later, 'call')} waiting for a window or a not_before"
            rows.append(("not now", f"{wait}; the first may ring from {moment(self.later_opens_at)} on"))
        if self.starts_at is not None and self.ends_at is not None:
            rate = self.rate and float(f"{self.rate:.3g}")
            rows.append(("starts", moment(self.starts_at)))
            later = duration_in_words(self.ends_at - self.starts_at)
            ends = f"{moment(self.ends_at)}, {later} later, at the earliest"
            rows.append(("ends", f"{ends}, without redials (rate: {rate_in_words(rate)})"))
        if self.moved is not None:
            row, wanted, moved = self.moved
            calls = f"{count_of(self.moves, 'call')} moved to another day by a window"
            rows.append(("moved", f"{calls}, such as row {row}: {wanted:{_TIME}} becomes {moved:{_TIME}}"))
        rows += [(f"row {each.row}", _text(each)) for each in self.texts]
        rows += [(f"then, {place}", text) for place, text in self.further_texts]
        if self.longest is not None and self.longest not in self.texts:
            rows.append(("longest text", f"row {self.longest.row}: {_text(self.longest)}"))
        return rows

    def as_json(self) -> dict[str, object]:
        """Return the preview as a JSON object, for scripts."""
        return {
            "calls": self.calls,
            "countries": dict(self.countries.most_common()),
            "sources": dict(self.sources.most_common()),
            "outside_window": self.later,
            "window_opens_at": rfc3339(self.later_opens_at),
            "moved_by_window": self.moves,
            "texts": [each.as_json() for each in self.texts],
            "later": [{"place": place, "text": text} for place, text in self.further_texts],
            "longest": self.longest.as_json() if self.longest is not None else None,
            "rate": self.rate,
            "starts_at": rfc3339(self.starts_at),
            "ends_at": rfc3339(self.ends_at),
            "time_zone": self.time_zone,
        }


def _counts(countries: Counter[str]) -> str:
    shown = [f"{country} {count:,}" for country, count in countries.most_common(_MOST_COUNTRIES)]
    more = len(countries) - _MOST_COUNTRIES
    rest = f", {more} more" if more > 0 else ""
    return f"{countries.total():,}" + (f": {', '.join(shown)}{rest}" if shown else "")


def _text(sample: SampleText) -> str:
    speech = sample.speech
    text = speech.text if len(speech.text) <= _LONGEST_TEXT else f"{speech.text[:_LONGEST_TEXT]}…"
    voice = f" ({speech.voice_profile})" if speech.voice_profile else ""
    return f"{sample.destination}{voice}: {text}" if text else f"{sample.destination}: no spoken text"
