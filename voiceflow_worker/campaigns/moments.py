"""Spoken dates and times that people hardly mean: over, at night, at midnight, of another calendar, or "tomorrow"."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import partial

from voiceflow_worker.campaigns.files.rows import RawRow
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.finding import Message, tell
from voiceflow_worker.model.times import PersonZone, UnknownZoneError, counted_moment

_MOMENT = re.compile(
    r"(?:(\d{4})-(\d{2})-(\d{2}))?(?:(?<=\d)[T ](?=\d))?(?:(\d{1,2}):(\d{2})(?::\d{2}(?:\.\d+)?)?)?", re.ASCII
)
_VISIT = re.compile(
    "visit|appoint|termin(?!at)|besuch|booking|buchung|meeting|cita|rdv|rendez|appuntament|consulta|afspraak|wizyta|"
    "randevu|kunjungan|slot|schule|预约|預約|予約|예약|запис"
)
_BEFORE = re.compile("last|prev|prior|past|letzt|dernier|ultim|últim|former|since|seit|created|booked|gebucht")
_DATED = re.compile(
    "(?:^|_)(?:(?:date|datum|fecha|dato|when|time|uhrzeit|day|tag|due|tanggal)(?:_|$)|(?:(?:start|end|due|birth|event)?"
    "(?:dates?|times?|datetime|timestamp)|starts?|begins?|ends?|expir(?:es|y|ation)|until|deadline|zeit|beginn|ende|"
    "ablauf|frist|hora|heure|inicio|inizio|mulai)(?:_(?:at|on|utc))?$)|日期|日付|時間"
)
_TOMORROW = re.compile(
    r"\b(?:tomorrow|(?<!guten )morgen|demain|mañana|domani|amanhã|jutro|besok|esok|yar[iı]n|zítra|завтра)\b|"  # noqa: RUF001
    "明天|明日|내일|พรุ่งนี้", re.IGNORECASE,
)  # fmt: skip
_OTHER_CALENDARS = {"+977": ("the Nepali calendar (Bikram Sambat)", 56, 57), "+251": ("the Ethiopian calendar", -8, -7)}
"""The calendars of countries, by their calling codes, with the years by which they differ from the Gregorian one."""
_NOON, _MORNING = 13, range(1, 6)
Note = Callable[..., None]
"""What counts the rows of which the same is said: see `RowNotes.add`."""


@dataclass(slots=True)
class _Column:
    """What a column holds so far. `days` are its first two days, `latest` is the latest hour of its `times`.

    By its name, it is what people are reminded of (`is_visit`), or a moment at least (`is_dated`).
    """

    is_visit: bool
    is_dated: bool
    times: int = 0
    midnights: int = 0
    latest: int = 0
    days: set[date] = field(default_factory=set[date])


class SpokenMoments:
    """What is said once of the dates and times in the columns that texts speak; `note` counts rows that are alike.

    `clocks` are the columns that are spoken as times of day, `texts` what is spoken around the values.
    """

    def __init__(
        self, spoken: Iterable[str], clocks: Collection[str], texts: Iterable[str], now: datetime, note: Note
    ) -> None:
        self._columns = {
            name: _Column(is_visit=_is_visit(name), is_dated=_is_visit(name) or _DATED.search(name) is not None)
            for name in spoken
        }
        self._clocks = clocks
        self._word = next((found[0] for text in texts if (found := _TOMORROW.search(text))), None)
        self._now = now
        self._note = note

    def add(self, raw: RawRow, call: CheckedCall) -> None:
        """Add a row with a call."""
        data: Mapping[str, object] = call.data or {}
        for name, column in self._columns.items():
            value = data.get(name)
            text = "" if value is None or isinstance(value, bool) else str(value)
            if not text[:1].isdigit():
                continue
            note = partial(self._note, raw, name, row=raw.number, value=text)
            day, at = _read(text) if "-" in text or name in self._clocks else (None, None)
            if day is not None and (found := self._doubt(column, call, day, at)) is not None:
                note(found[0], **found[1])
            if at is not None and name in self._clocks:
                column.times += 1
                column.latest = max(column.latest, at.hour)
                if at == time():
                    column.midnights += 1
                    note("midnight")
                elif at.hour in _MORNING:
                    note("night")
            if column.is_dated and (counted := counted_moment(text)) is not None:
                note("counted", what=counted[1], meant=counted[0])

    def _doubt(
        self, column: _Column, call: CheckedCall, day: date, at: time | None
    ) -> tuple[str, dict[str, str]] | None:
        """What is to be said of the rows with such a day, if anything is."""
        if len(column.days) < 2:
            column.days.add(day)
        for code, (calendar, least, most) in _OTHER_CALENDARS.items():
            if call.destination.startswith(code) and least - 1 <= day.year - self._now.year <= most + 1:
                return "other_calendar", {"calendar": calendar}
        if not column.is_visit or not self._is_over(call, day, at):
            return None
        return "over", {}

    def _is_over(self, call: CheckedCall, day: date, at: time | None) -> bool:
        """Whether a moment is over before the call can ring."""
        if abs(day - self._now.date()) > timedelta(days=8):
            return day < self._now.date()
        starts = max(call.not_before or self._now, self._now)
        zone = PersonZone(call.time_zone, call.numbers)
        try:
            local = zone.zone()
        except UnknownZoneError:
            return datetime.combine(day, at or time.max, UTC) + timedelta(hours=12) < starts
        if call.window is not None:
            starts = call.window.opens(starts, local) or starts
        return datetime.combine(day, at or time.max, local) < starts

    def idle(self) -> set[tuple[str, str]]:
        """The notes that are not told after all, since other rows have made them certain."""
        night = {("night", name) for name, column in self._columns.items() if column.latest >= _NOON}
        return night | {("midnight", name) for name, each in self._columns.items() if each.midnights < each.times}

    def findings(self) -> Iterator[tuple[str, Message]]:
        """The columns in which several days are spoken as one, each with the message."""
        for name, column in self._columns.items():
            if self._word is not None and len(column.days) > 1 and column.is_visit:
                yield name, tell("several_days", word=self._word)


def _is_visit(name: str) -> bool:
    """Whether a column has by its name what people are reminded of, and nothing that has been."""
    return _VISIT.search(name) is not None and _BEFORE.search(name) is None


def _read(text: str) -> tuple[date | None, time | None]:
    """The date and the time of day of a cell such as 2030-01-31 09:00, as far as it has them alone."""
    if (match := _MOMENT.fullmatch(text)) is None:
        return None, None
    try:
        day = date(int(match[1]), int(match[2]), int(match[3])) if match[1] else None
        return day, time(int(match[4]), int(match[5])) if match[4] else None
    except ValueError:
        return None, None
