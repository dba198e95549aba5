"""The preview of a campaign, made from its calls one by one, and its prices."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import orjson

from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.files.csv_rows import CsvRows
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.actions import Action, heard_in
from voiceflow_worker.model.numbers.phone import country_of
from voiceflow_worker.model.text.wording import count_of, duration_in_words, folded, rate_in_words, rfc3339
from voiceflow_worker.model.times import zone_named
from voiceflow_worker.model.window import CallWindow, zone_of_number

_FIRST_BLOCK = 256
"""The number of rows in a block at first. When there are `_MOST_BLOCKS` blocks, neighbours are joined in pairs."""
_MOST_BLOCKS = 128

_DAYTIME = CallWindow.parse("08:00-21:00")
_FOREVER = datetime.max.replace(tzinfo=UTC)


class CallTimes(NamedTuple):
    """The priority of a call, and the times at which it may ring, to the minute. Equal ones are counted together."""

    priority: int
    not_before: datetime | None
    valid_until: datetime | None
    window: CallWindow | None
    time_zone: str | None

    @classmethod
    def of(cls, call: CheckedCall) -> CallTimes:
        """The times of a call."""
        return cls(
            call.priority,
            _minute(call.not_before),
            _minute(call.valid_until),
            call.window,
            call.time_zone or zone_of_number(call.destination).zone,
        )

    def opens(self, at: datetime) -> datetime | None:
        """The first time from `at` on at which the call may ring; None if there is none."""
        at = max(at, self.not_before or at)
        zone = zone_named(self.time_zone) if self.time_zone is not None else None
        if self.window is None or zone is None:
            return at
        return self.window.opens(at, zone)

    def at_night(self, begin: datetime, calls: int, step: timedelta) -> int:
        """How many of these calls, which leave from `begin` on, one each `step`, leave at night: not in _DAYTIME."""
        zone = zone_named(self.time_zone) if self.time_zone is not None else None
        if self.window is not None or zone is None:
            return 0
        found = 0
        while calls:
            changes = (
                _DAYTIME.closes(begin, zone)
                if (is_day := _DAYTIME.is_open(begin, zone))
                else _DAYTIME.opens(begin, zone)
            )
            left = min(calls, -((begin - changes) // step)) if step and changes is not None else calls
            found += 0 if is_day else left
            begin, calls = begin + left * step, calls - left
        return found

    def closes(self, at: datetime) -> datetime:
        """The end of the window that is open at `at`, or the end of the validity if that is earlier."""
        zone = zone_named(self.time_zone) if self.time_zone is not None else None
        closes = None if self.window is None or zone is None else self.window.closes(at, zone)
        return min(closes or _FOREVER, self.valid_until or _FOREVER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The result of a simulation. `first` and `last` are the times of the first and the last departure.

    `expired` counts calls that never leave, because their validity ends before their turn. `later` counts calls that
    must wait at the start; the first of them may ring at `opens_at`.
    """

    first: datetime | None = None
    last: datetime | None = None
    expired: int = 0
    later: int = 0
    opens_at: datetime | None = None
    at_night: int = 0
    """The calls without a window that leave outside 8 to 21 o'clock at the number."""


class CallPlan:
    """The calls of a file, counted by their times and by their position in the file.

    Calls that are due at the same time leave in the order of the file. The file is divided into blocks, at most 128, so
    that memory does not grow with the number of rows.
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[int, CallTimes]] = Counter()
        self._block = _FIRST_BLOCK
        self._rows = 0

    def add(self, call: CheckedCall) -> None:
        """Add a call, in the order of the file."""
        block = self._rows // self._block
        if block == _MOST_BLOCKS:
            self._block *= 2
            block //= 2
            wider: Counter[tuple[int, CallTimes]] = Counter()
            for (place, times), count in self._counts.items():
                wider[place // 2, times] += count
            self._counts = wider
        self._counts[block, CallTimes.of(call)] += 1
        self._rows += 1

    def simulated(self, start: datetime, *, rate: float | None) -> Course:
        """The course of calls that leave from `start` on, by the rules of the queue.

        The calls leave at `rate` calls per second; if it is None, all calls that are due leave at once.
        Calls of a higher priority leave first, then those that are due earlier. A call whose window closes before its
        turn is due again when the window opens again. Each call is assumed to need one attempt.
        """
        later, opens_at = self._later(start)
        course = Course(later=later, opens_at=opens_at)
        waiting = [
            (opens, order, _Group(opens, block, order, times, count))
            for order, ((block, times), count) in enumerate(self._counts.items())
            if (opens := times.opens(start)) is not None
        ]
        heapify(waiting)
        due: list[tuple[int, datetime, int, int, _Group]] = []
        step = timedelta(seconds=1 / rate) if rate is not None else timedelta()
        now = start
        while waiting or due:
            if not due:
                now = max(now, waiting[0][0])
            while waiting and waiting[0][0] <= now:
                heappush(due, heappop(waiting)[-1].in_turn())
            each = due[0][-1]
            ends = each.times.closes(now)
            if ends <= now:
                heappop(due)
                opens = each.times.opens(now)
                if opens is None or opens >= (each.times.valid_until or _FOREVER):
                    course = replace(course, expired=course.expired + each.calls)
                else:
                    heappush(waiting, (opens, each.order, each._replace(due=opens)))
                continue
            until = min(ends, waiting[0][0] if waiting else _FOREVER)
            # The number of departures between now and `until`.
            taken = min(each.calls, -((now - until) // step)) if step else each.calls
            at_night = course.at_night + each.times.at_night(now, taken, step)
            course = replace(course, first=course.first or now, last=now + (taken - 1) * step, at_night=at_night)
            now += taken * step
            heappop(due)
            if taken < each.calls:
                heappush(due, each._replace(calls=each.calls - taken).in_turn())
        return course

    def _later(self, start: datetime) -> tuple[int, datetime | None]:
        """The number of calls that must wait at the start, and the first time at which one of them may ring."""
        later, first = 0, _FOREVER
        for (_, times), count in self._counts.items():
            opens = times.opens(start)
            if opens is None or opens > start:
                later += count
                first = min(first, opens or _FOREVER)
        return later, None if first == _FOREVER else first


class _Group(NamedTuple):
    """The calls of one block with equal times, and the time at which they are due."""

    due: datetime
    block: int
    order: int
    times: CallTimes
    calls: int

    def in_turn(self) -> tuple[int, datetime, int, int, _Group]:
        """The sort key of a due group. Its last element is the group itself."""
        return -self.times.priority, self.due, self.block, self.order, self


def _minute(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC).replace(second=0, microsecond=0)


_PLACES = ("prefix", "country")
_PRICES = ("per_minute", "per_call")
_COUNTRY = re.compile(r"[A-Za-z]{2}", re.ASCII)
_PREFIX = re.compile(r"\+?([1-9][0-9]{0,14})", re.ASCII)
_CURRENCY = re.compile(r"[A-Za-z]{3}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The price of a call: a part for each minute, and a part for each call."""

    currency: str
    per_minute: Decimal = Decimal(0)
    per_call: Decimal = Decimal(0)

    def of(self, calls: int, *, seconds: float) -> Decimal:
        """The price of this number of calls, which last `seconds` in all."""
        return self.per_call * calls + self.per_minute * Decimal(str(round(seconds, 3))) / 60


@dataclass(slots=True)
class PriceTable:
    """Prices by the first digits of a number and by country. The longest matching digits decide, else the country."""

    name: str
    prefixes: dict[str, Price] = field(default_factory=dict[str, Price])
    countries: dict[str, Price] = field(default_factory=dict[str, Price])

    @classmethod
    def load(cls, path: Path) -> PriceTable:
        """The table in a CSV file with the columns `country` or `prefix`, `currency`, and `per_minute` or `per_call`.

        Raises CampaignFileError, which names every bad line.
        """
        table = cls(str(path))
        rows = CsvRows(InputFile(path), judge=_header_problem)
        names = [folded(name) for name in rows.columns]
        findings: list[Finding] = []
        for raw in rows:
            problem = next((message for _, message in raw.problems), None)
            if problem is None:
                cells = zip(names, raw.cells, strict=True)
                problem = table._add({name: cell.strip() for name, cell in cells if cell.strip()})
            if problem is not None:
                findings.append(Finding(file=str(path), row=raw.number, message=problem))
        if findings:
            lines = "; ".join(f"line {found.row} {found.message}" for found in findings[:5])
            raise CampaignFileError(f"{path} is not a price table: {lines}", findings)
        if not table.prefixes and not table.countries:
            raise CampaignFileError(f"{path} has no prices")
        return table

    def price_of(self, number: str) -> Price | None:
        """The price of a call to a number in E.164 form; None if the table has none."""
        digits = number.removeprefix("+")
        if self.prefixes:
            for length in range(len(digits), 0, -1):
                if (found := self.prefixes.get(digits[:length])) is not None:
                    return found
        return self.countries.get(country_of(number) or "") if self.countries else None

    def _add(self, row: Mapping[str, str]) -> str | None:
        """Add a line. Returns the reason why it cannot be read, or None."""
        if not _CURRENCY.fullmatch(row.get("currency", "")):
            return "has no currency of three letters, such as USD"
        if not any(name in row for name in _PRICES):
            return "has no price: give per_minute or per_call"
        try:
            amounts = {name: _amount(row[name]) for name in _PRICES if name in row}
        except ValueError as error:
            return str(error)
        price = Price(currency=row["currency"].upper(), **amounts)
        if (prefix := row.get("prefix")) is not None:
            match = _PREFIX.fullmatch(prefix)
            if match is None:
                return f"has the prefix {prefix!r}; write the first digits of a number with its country code: +658"
            return None if self.prefixes.setdefault(match[1], price) is price else f"gives a second price for {prefix}"
        country = row.get("country", "")
        if not _COUNTRY.fullmatch(country):
            return f"has the country {country!r}; write two letters, such as SG, or give a prefix"
        return (
            None
            if self.countries.setdefault(country.upper(), price) is price
            else f"gives a second price for {country}"
        )


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"has the price {text!r}; write a number such as 0.045")
    return amount


def _header_problem(names: Sequence[str]) -> str | None:
    present = set(map(folded, names))
    lacking = [" or ".join(each) for each in (_PLACES, _PRICES) if not present & set(each)]
    if "currency" not in present:
        lacking.append("currency")
    return f"is not a price table: it has no column {', no column '.join(lacking)}" if lacking else None


CHARACTERS_A_SECOND = 15.0
"""The pace of a voice that reads an alphabet: 150 words a minute."""
SYLLABLES_A_SECOND = 4.5
"""The pace of a voice that reads Chinese, Japanese or Korean. Each character is a syllable or a word."""

_ASKED = {"successMessage", "failureMessage"}
"""Parameters whose texts are spoken only after key presses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """All texts that a call speaks to the person who answers, in order, and the voice of the first text."""

    text: str = ""
    voice_profile: str | None = None
    seconds: float = 0.0


def speech_of(body: str) -> Speech:
    """The speech of a stored body. Audio files are left out."""
    heard = [
        each for each in heard_in(orjson.loads(body)) if each.action is not Action.PLAY_FILE and each.name not in _ASKED
    ]
    return Speech(
        text=" ".join(each.text for each in heard),
        voice_profile=next((each.voice for each in heard if each.voice is not None), None),
        seconds=sum(seconds_of(each.text) * each.times for each in heard),
    )


def seconds_of(text: str) -> float:
    """The seconds that a voice takes to speak a text, estimated from its length."""
    if text.isascii():
        return len(text) / CHARACTERS_A_SECOND
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return (len(text) - wide) / CHARACTERS_A_SECOND + wide / SYLLABLES_A_SECOND


FIRST_TEXTS = 3
RINGING = 15.0
"""The assumed number of seconds for which a phone rings before somebody answers. A ringing call is open, too."""
_UNKNOWN = "unknown"
_MOST_COUNTRIES = 8
_LONGEST_TEXT = 300
_TIME = "%a %d %b %Y %H:%M"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewOptions:
    """The assumptions of a preview.

    `rate` is in calls per second; None means unlimited. At most `max_active` calls are open at the same time. Each call
    lasts `seconds`, by default the time to speak its texts. `time_zone` is the zone of the times that people read.
    """

    rate: float | None = 10.0
    max_active: int | None = None
    seconds: float | None = None
    prices: PriceTable | None = None
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The preview of a campaign. Its times are those of first attempts, without redials.

    `cost` is the cost of all calls by currency, if everybody answers. `unpriced` counts calls without a price, by
    country. `rate` is the rate that the calls can reach: it is lower than the rate of the options if few calls may be
    open at the same time.
    """

    calls: int
    countries: Mapping[str, int]
    sources: Mapping[str, int]
    """The calls by the number that they come from."""
    further_numbers: int
    """The further numbers of all people together, which are called if the ones before were busy or did not answer."""
    duplicates: int
    suppressed: int | None
    """The rows whose number is on the suppression list; None if no store was asked."""
    bad: int
    texts: tuple[SampleText, ...]
    longest: SampleText | None
    later: tuple[tuple[str, str], ...]
    """What the first person hears after the first question of a menu: each text with its menu and key."""
    seconds: float
    assumed_seconds: float | None
    rate: float | None
    time_zone: str | None
    course: Course
    cost: Mapping[str, Decimal]
    unpriced: Mapping[str, int]
    prices: str | None

    @property
    def ends_at(self) -> datetime | None:
        """The expected end of the last call; None if no call leaves."""
        if self.course.last is None:
            return None
        each = self.seconds / self.calls if self.calls else 0.0
        return self.course.last + timedelta(seconds=RINGING + each)

    def in_words(self) -> list[tuple[str, str]]:
        """The preview for people: names of figures, and sentences."""
        course = self.course
        rows: list[tuple[str, str]] = [("calls", _counts(self.calls, self.countries))]
        if len(self.sources) > 1:
            rows.append(("called from", _counts(self.calls, self.sources)))
        if self.further_numbers:
            more = f"{count_of(self.further_numbers, 'number')}, each only after one that was busy or did not answer"
            rows.append(("further numbers", more))
        duplicates = "duplicate" if self.duplicates == 1 else "duplicates"
        left_out = {duplicates: self.duplicates, "suppressed": self.suppressed, "bad": self.bad}
        if any(left_out.values()):
            rows.append(("left out", ", ".join(f"{count:,} {name}" for name, count in left_out.items() if count)))
        if course.later:
            opens = f"; the first may ring from {_local(course.opens_at, self.time_zone)} on" if course.opens_at else ""
            wait = "call waits for its window or its" if course.later == 1 else "calls wait for their window or their"
            rows.append(("not now", f"{course.later:,} {wait} not_before{opens}"))
        if course.first is not None and self.ends_at is not None:
            rate = self.rate and float(f"{self.rate:.3g}")
            rows.append(("starts", _local(course.first, self.time_zone)))
            later = duration_in_words(self.ends_at - course.first)
            ends = f"{_local(self.ends_at, self.time_zone)}, {later} later"
            rows.append(("ends", f"{ends}, without redials (rate: {rate_in_words(rate)})"))
        if course.at_night:
            begin = "call begins" if course.at_night == 1 else "calls begin"
            rows.append(
                (
                    "at night",
                    f"{course.at_night:,} {begin} outside 8 to 21 o'clock at the number; give a calling window",
                )
            )
        if course.expired:
            turn = "its turn" if course.expired == 1 else "their turn"
            rows.append(("expire", f"{count_of(course.expired, 'call')} whose validity would end before {turn}"))
        if self.calls:
            each = self.seconds / self.calls
            why = "assumed" if self.assumed_seconds is not None else "by the length of the texts"
            length = duration_in_words(timedelta(seconds=self.seconds))
            rows.append(("talk time", f"{length}, {each:.0f} s a call ({why})"))
        if self.prices is not None:
            amounts = ", ".join(f"{currency} {amount:,.2f}" for currency, amount in self.cost.items()) or "nothing"
            rows.append(("cost", f"{amounts} if everybody answers, by {self.prices}"))
        if self.unpriced:
            rows.append(("no price", _counts(sum(self.unpriced.values()), self.unpriced)))
        rows += [(f"row {each.row}", _text(each)) for each in self.texts]
        rows += [(f"then, {place}", text) for place, text in self.later]
        if self.longest is not None and self.longest not in self.texts:
            rows.append(("longest text", f"row {self.longest.row}: {_text(self.longest)}"))
        return rows

    def as_json(self) -> dict[str, object]:
        """The preview as a JSON object, for scripts."""
        course, ends = self.course, self.ends_at
        return {
            "calls": self.calls,
            "countries": dict(self.countries),
            "sources": dict(self.sources),
            "further_numbers": self.further_numbers,
            "duplicates": self.duplicates,
            "suppressed": self.suppressed,
            "bad": self.bad,
            "outside_window": course.later,
            "window_opens_at": rfc3339(course.opens_at),
            "expired_before_their_turn": course.expired,
            "at_night": course.at_night,
            "texts": [each.as_json() for each in self.texts],
            "later": [{"place": place, "text": text} for place, text in self.later],
            "longest": self.longest.as_json() if self.longest is not None else None,
            "rate": self.rate,
            "starts_at": rfc3339(course.first),
            "ends_at": rfc3339(ends),
            "duration_seconds": (ends - course.first).total_seconds() if ends and course.first else None,
            "time_zone": self.time_zone,
            "talk_seconds": round(self.seconds, 1),
            "assumed_seconds": self.assumed_seconds,
            "cost": {currency: float(round(amount, 4)) for currency, amount in self.cost.items()},
            "unpriced": dict(self.unpriced),
            "prices": self.prices,
        }


@dataclass(slots=True)
class PreviewMaker:
    """A collector of the calls of a campaign. Its memory does not grow with the number of calls."""

    options: PreviewOptions
    later_texts: Callable[[ReadRow], tuple[tuple[str, str], ...]]
    """The function that gives what a row's person hears after the first question of a menu."""
    asks_store: bool = True
    _plan: CallPlan = field(default_factory=CallPlan)
    _countries: Counter[str] = field(default_factory=Counter[str])
    _sources: Counter[str] = field(default_factory=Counter[str])
    _unpriced: Counter[str] = field(default_factory=Counter[str])
    _bills: dict[Price, list[float]] = field(default_factory=dict[Price, list[float]])
    _texts: list[SampleText] = field(default_factory=list[SampleText])
    _further_numbers: int = 0
    _longest: SampleText | None = None
    _later: tuple[tuple[str, str], ...] = ()
    _seconds: float = 0.0
    _zones: set[str | None] = field(default_factory=set[str | None])

    def add(self, rows: Iterable[ReadRow]) -> None:
        """Add rows. Rows without a call are ignored."""
        for row in rows:
            if row.call is not None:
                self._add(row, row.call)

    @property
    def calls(self) -> int:
        """The number of calls that were added."""
        return self._countries.total()

    def _add(self, row: ReadRow, call: CheckedCall) -> None:
        self._plan.add(call)
        country = country_of(call.destination) or _UNKNOWN
        self._countries[country] += 1
        self._sources[call.source] += 1
        self._further_numbers += len(call.further_numbers)
        if len(self._zones) < 2:
            self._zones.add(call.time_zone or zone_of_number(call.destination).zone)
        speech = speech_of(call.body)
        sample = SampleText(row=row.raw.number, destination=call.destination, speech=speech)
        if not self._texts:
            self._later = self.later_texts(row)
        if len(self._texts) < FIRST_TEXTS:
            self._texts.append(sample)
        if self._longest is None or len(speech.text) > len(self._longest.speech.text):
            self._longest = sample
        seconds = speech.seconds if self.options.seconds is None else self.options.seconds
        self._seconds += seconds
        if self.options.prices is not None:
            price = self.options.prices.price_of(call.destination)
            if price is None:
                self._unpriced[country] += 1
            else:
                bill = self._bills.setdefault(price, [0, 0.0])
                bill[0] += 1
                bill[1] += seconds

    def preview(self, *, start: datetime, duplicates: int, suppressed: int, bad: int) -> Preview:
        """The preview of the calls that were added, if they are sent from `start` on."""
        options = self.options
        totals: dict[str, Decimal] = {}
        for price, (count, seconds) in self._bills.items():
            totals[price.currency] = totals.get(price.currency, Decimal(0)) + price.of(int(count), seconds=seconds)
        zone = options.time_zone or (next(iter(self._zones)) if len(self._zones) == 1 else None)
        rate = self._rate()
        return Preview(
            calls=self.calls,
            countries=dict(self._countries.most_common()),
            sources=dict(self._sources.most_common()),
            further_numbers=self._further_numbers,
            duplicates=duplicates,
            suppressed=suppressed if self.asks_store else None,
            bad=bad,
            texts=tuple(self._texts),
            longest=self._longest,
            later=self._later,
            seconds=self._seconds,
            assumed_seconds=options.seconds,
            rate=rate,
            time_zone=zone,
            course=self._plan.simulated(start, rate=rate),
            cost=totals,
            unpriced=dict(self._unpriced.most_common()),
            prices=options.prices.name if options.prices is not None else None,
        )

    def _rate(self) -> float | None:
        """The rate that the calls can reach, in calls per second; None if it is unlimited."""
        if self.options.max_active is None or not self.calls:
            return self.options.rate
        reached = self.options.max_active / (RINGING + self._seconds / self.calls)
        return reached if self.options.rate is None else min(reached, self.options.rate)


def _counts(total: int, countries: Mapping[str, int]) -> str:
    shown = [f"{country} {count:,}" for country, count in list(countries.items())[:_MOST_COUNTRIES]]
    more = len(countries) - _MOST_COUNTRIES
    rest = f", {more} more" if more > 0 else ""
    return f"{total:,}" + (f": {', '.join(shown)}{rest}" if shown else "")


def _text(sample: SampleText) -> str:
    speech = sample.speech
    text = speech.text if len(speech.text) <= _LONGEST_TEXT else f"{speech.text[:_LONGEST_TEXT]}…"
    voice = f" ({speech.voice_profile})" if speech.voice_profile else ""
    return f"{sample.destination}{voice}: {text}" if text else f"{sample.destination}: no spoken text"


def _local(at: datetime, time_zone: str | None) -> str:
    local = at.astimezone(ZoneInfo(time_zone) if time_zone is not None else None)
    return f"{local:{_TIME}} ({time_zone or local.tzname()})"
