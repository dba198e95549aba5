"""The preview of a campaign, made from its calls one by one: whom they call, with which words, and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
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
    from voiceflow_worker.core.admission import CheckedCall

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
    """The speech of a stored body."""
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
_UNKNOWN = "unknown"
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
        """The sample as a JSON object, for scripts."""
        return {
            "row": self.row,
            "destination": self.destination,
            "voice_profile": self.speech.voice_profile,
            "text": self.speech.text,
            "characters": len(self.speech.text),
            "seconds": round(self.speech.seconds, 1),
        }


@dataclass(slots=True, kw_only=True)
class Preview:
    """The preview of a campaign. Its times are those of first attempts, without redials.

    `rate` is the rate that the calls can reach: it is lower than the rate of the options if few calls may be
    open at the same time.
    """

    countries: Counter[str] = field(default_factory=Counter[str])
    sources: Counter[str] = field(default_factory=Counter[str])
    """The calls by the number that they come from."""
    further_numbers: int = 0
    """The further numbers of all people together, which are called if the ones before were busy or did not answer."""
    duplicates: int = 0
    suppressed: int | None = None
    """The rows whose number is on the suppression list; None if no store was asked."""
    left_out: int = 0
    bad: int = 0
    texts: list[SampleText] = field(default_factory=list[SampleText])
    longest: SampleText | None = None
    further_texts: tuple[tuple[str, str], ...] = ()
    """What the first person hears after the first question of a menu: each text with its menu and key."""
    seconds: float = 0.0
    rate: float | None = None
    time_zone: str | None = None
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

    @property
    def calls(self) -> int:
        """The number of calls."""
        return self.countries.total()

    @property
    def ends_at(self) -> datetime | None:
        """The earliest end of the last call, if everybody answers and windows stay open; None without calls."""
        if self.starts_at is None or self.last_opens_at is None:
            return None
        sending = timedelta(seconds=(self.calls - 1) / self.rate) if self.rate else timedelta()
        each = self.seconds / self.calls
        return max(self.last_opens_at, self.starts_at + sending) + timedelta(seconds=RINGING + each)

    def in_words(self, *, moment: Callable[[datetime], str] | None = None) -> list[tuple[str, str]]:
        """The preview for people: names of figures, and sentences, with each `moment` by default in their zone."""
        moment = moment or moments_in(self.time_zone)
        rows: list[tuple[str, str]] = [("calls", _counts(self.countries))]
        if len(self.sources) > 1:
            rows.append(("called from", _counts(self.sources)))
        if self.further_numbers:
            more = f"{count_of(self.further_numbers, 'number')}, each only after one that was busy or did not answer"
            rows.append(("further numbers", more))
        if self.later_opens_at is not None:
            wait = "calls wait for their window or their not_before"
            wait = "call waits for its window or its not_before" if self.later == 1 else wait
            rows.append(("not now", f"{self.later:,} {wait}; the first may ring from {moment(self.later_opens_at)} on"))
        if self.starts_at is not None and self.ends_at is not None:
            rate = self.rate and float(f"{self.rate:.3g}")
            rows.append(("starts", moment(self.starts_at)))
            later = duration_in_words(self.ends_at - self.starts_at)
            ends = f"{moment(self.ends_at)}, {later} later, at the earliest"
            rows.append(("ends", f"{ends}, without redials (rate: {rate_in_words(rate)})"))
        if self.moved is not None:
            row, wanted, moved = self.moved
            calls = "call waits for its" if self.moves == 1 else "calls wait for their"
            day = f"{self.moves:,} {calls} window until another day than not_before says"
            rows.append(("moved", f"{day}, such as row {row}: {wanted:{_TIME}} becomes {moved:{_TIME}}"))
        if self.calls:
            each = self.seconds / self.calls
            length = duration_in_words(timedelta(seconds=self.seconds))
            rows.append(("talk time", f"{length}, {each:.0f} s a call (by the length of the texts)"))
        rows += [(f"row {each.row}", _text(each)) for each in self.texts]
        rows += [(f"then, {place}", text) for place, text in self.further_texts]
        if self.longest is not None and self.longest not in self.texts:
            rows.append(("longest text", f"row {self.longest.row}: {_text(self.longest)}"))
        return rows

    def as_json(self) -> dict[str, object]:
        """The preview as a JSON object, for scripts."""
        starts, ends = self.starts_at, self.ends_at
        return {
            "calls": self.calls,
            "countries": dict(self.countries.most_common()),
            "sources": dict(self.sources.most_common()),
            "further_numbers": self.further_numbers,
            "duplicates": self.duplicates,
            "suppressed": self.suppressed,
            "left_out": self.left_out,
            "bad": self.bad,
            "outside_window": self.later,
            "window_opens_at": rfc3339(self.later_opens_at),
            "moved_by_window": self.moves,
            "texts": [each.as_json() for each in self.texts],
            "later": [{"place": place, "text": text} for place, text in self.further_texts],
            "longest": self.longest.as_json() if self.longest is not None else None,
            "rate": self.rate,
            "starts_at": rfc3339(starts),
            "ends_at": rfc3339(ends),
            "duration_seconds": (ends - starts).total_seconds() if ends and starts else None,
            "time_zone": self.time_zone,
            "talk_seconds": round(self.seconds, 1),
        }


@dataclass(slots=True)
class PreviewMaker:
    """A collector of the calls of a campaign. Its memory does not grow with the number of calls."""

    options: PreviewOptions
    later_texts: Callable[[ReadRow], tuple[tuple[str, str], ...]]
    """The function that gives what a row's person hears after the first question of a menu."""
    now: datetime
    asks_store: bool = True
    _shown: Preview = field(default_factory=Preview)
    _zones: set[str | None] = field(default_factory=set[str | None])
    _spoken: set[tuple[object, object]] = field(default_factory=set[tuple[object, object]])

    def add(self, rows: Iterable[ReadRow]) -> None:
        """Add rows. Rows without a call are ignored."""
        for row in rows:
            if row.call is not None:
                self._add(row, row.call)

    def _add(self, row: ReadRow, call: CheckedCall) -> None:
        shown = self._shown
        self._note_times(row, call)
        country = country_of(call.destination) or _UNKNOWN
        shown.countries[country] += 1
        shown.sources[call.source] += 1
        shown.further_numbers += len(call.further_numbers)
        if len(self._zones) < 2:
            self._zones.add(call.time_zone or zone_of_number(call.destination).zone)
        speech = speech_of(call.body)
        sample = SampleText(row=row.raw.number, destination=call.destination, speech=speech)
        if not shown.texts:
            shown.further_texts = self.later_texts(row)
        spoken, texts = (speech.voice_profile, (call.data or {}).get("language")), len(shown.texts)
        if texts < FIRST_TEXTS or (spoken not in self._spoken and texts < MOST_TEXTS):
            self._spoken.add(spoken)
            shown.texts.append(sample)
        if shown.longest is None or len(speech.text) > len(shown.longest.speech.text):
            shown.longest = sample
        shown.seconds += speech.seconds

    def _note_times(self, row: ReadRow, call: CheckedCall) -> None:
        """Note from when on a call may ring, and whether its window moves it to another day than its not_before."""
        shown, window = self._shown, call.window
        opens = at = max(call.not_before or self.now, self.now)
        if window is not None and (zone := window.zone_for(call.time_zone)) is not None:
            opens = window.opens(at, zone) or at
            if call.not_before is not None and opens.astimezone(zone).date() != at.astimezone(zone).date():
                shown.moves += 1
                shown.moved = shown.moved or (row.raw.number, at.astimezone(zone), opens.astimezone(zone))
        shown.starts_at = min(shown.starts_at or opens, opens)
        shown.last_opens_at = max(shown.last_opens_at or opens, opens)
        if opens > self.now:
            shown.later += 1
            shown.later_opens_at = min(shown.later_opens_at or opens, opens)

    def preview(self, *, duplicates: int, suppressed: int, left_out: int, bad: int) -> Preview:
        """The preview of the calls that were added, if they are sent from now on."""
        options, shown = self.options, self._shown
        shown.duplicates, shown.left_out, shown.bad = duplicates, left_out, bad
        shown.suppressed = suppressed if self.asks_store else None
        shown.time_zone = options.time_zone or (next(iter(self._zones)) if len(self._zones) == 1 else None)
        shown.rate = self._rate()
        return shown

    def _rate(self) -> float | None:
        """The rate that the calls can reach, in calls per second; None if it is unlimited."""
        if self.options.max_active is None or not self._shown.calls:
            return self.options.rate
        reached = self.options.max_active / (RINGING + self._shown.seconds / self._shown.calls)
        return reached if self.options.rate is None else min(reached, self.options.rate)


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


def moments_in(time_zone: str | None) -> Callable[[datetime], str]:
    """How times are written for people in a zone, by default in that of this machine."""

    def moment(at: datetime) -> str:
        local = at.astimezone(require_zone(time_zone) if time_zone is not None else None)
        return f"{local:{_TIME}} ({time_zone or local.tzname()})"

    return moment
