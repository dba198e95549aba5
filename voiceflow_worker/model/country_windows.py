"""Calling windows by the country of the number called, and the first time at which a call may ring in its window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.bodies import VALIDITY_EXPIRED
from voiceflow_worker.model.numbers.phone import country_of, dialled_alike
from voiceflow_worker.model.numbers.reading import ALL, INTERNATIONAL, in_table, read_country
from voiceflow_worker.model.text.wording import in_words
from voiceflow_worker.model.times import FIRST_LOOK, zone_of_person
from voiceflow_worker.model.window import (
    EVERY_DAY,
    WHOLE_DAY,
    CallWindow,
    Span,
    Weekday,
    are_own_days,
    parts,
    read_calendar,
    read_days,
    read_spans,
    read_window_zone,
    unknown_holidays,
)
from voiceflow_worker.model.zones import zone_named

NUMBER = "number"
"""In place of a calendar: that of the country of the number called."""
AT_ANY_HOUR: Literal["any"] = "any"
"""In place of hours: calls at any hour of the day are meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountryWindows:
    """Calling windows for numbers of several countries: `CountryWindows.parse("DE=09:00-18:00,*=10:00-20:00")`.

    `hours` are by the country (ISO 3166) of the number called; `*` is for all others. Without `hours`, and where a
    country has no spans, phones ring at any hour. Each of the `holidays` is for the numbers of its country; own days
    are for everybody.
    """

    hours: Mapping[str, tuple[Span, ...]] = field(default_factory=dict[str, tuple[Span, ...]])
    days: frozenset[Weekday] = EVERY_DAY
    holidays: tuple[str, ...] = ()
    time_zone: str | None = None
    _known: dict[str | None, CallWindow | None] = field(
        default_factory=dict[str | None, CallWindow | None], init=False, repr=False, compare=False
    )

    @classmethod
    def parse(
        cls,
        hours: str | None = None,
        *,
        days: str | None = None,
        holidays: str | None = None,
        time_zone: str | None = None,
    ) -> CountryWindows:
        """Read windows from texts: `09:00-20:00`, or by country `DE=09:00-12:00,14:00-18:00,*=any`; and `mon-sat`.

        Holidays are a list, such as `DE-BE,FR,2026-12-24..2027-01-01`; `number` is the calendar of each number's
        country. Raises InvalidInputError.
        """
        return cls(
            hours={} if hours is None else read_hours(hours),
            days=EVERY_DAY if days is None else read_days(days),
            holidays=() if holidays is None else read_holidays(holidays),
            time_zone=None if time_zone is None else read_window_zone(time_zone),
        )

    @classmethod
    def of(cls, window: CallWindow | CountryWindows | Literal["any"]) -> CountryWindows:
        """Return these windows, or those of everybody with one window or "any"."""
        if isinstance(window, CountryWindows):
            return window
        if isinstance(window, str):
            return cls(hours={ALL: ()})
        return cls(hours={ALL: window.spans}, days=window.days, holidays=window.holidays, time_zone=window.time_zone)

    def to(self, numbers: Sequence[str]) -> CallWindow | None:
        """Return the window of a person with these numbers; None for any time. Raises InvalidInputError."""
        window = self._to(numbers[0])
        for number in numbers[1:]:
            if (other := self._to(number)) != window:
                raise InvalidInputError(
                    f"its calling window would be {window} for {numbers[0]} and {other} for {number} of the same "
                    "person; give the numbers a row each"
                )
        return window

    def _to(self, number: str) -> CallWindow | None:
        # The lookup of a country takes 30 µs.
        country = None if {*self.hours} <= {ALL} and all(map(are_own_days, self.holidays)) else country_of(number)
        if country not in self._known:
            spans = self._hours(country, number) if self.hours else WHOLE_DAY
            holidays = self._calendars(country, number)
            is_any = not spans and self.days == EVERY_DAY and not holidays
            window = CallWindow(spans=spans or WHOLE_DAY, days=self.days, holidays=holidays, time_zone=self.time_zone)
            self._known[country] = None if is_any else window
        return self._known[country]

    def _hours(self, country: str | None, number: str) -> tuple[Span, ...]:
        if (found := in_table(self.hours, country)) is None:
            given, own = ", ".join(self.hours), f"{country}=… or " if country else ""
            raise InvalidInputError(
                f"there is no calling window for {number}, which is a number of {country or 'no country'}: there are "
                f"hours for {given}; add {own}{ALL}=…"
            )
        return found

    def _calendars(self, country: str | None, number: str) -> tuple[str, ...]:
        """Return the calendars for the numbers of a country: those that are named, else its own, and the own days."""
        days = [each for each in self.holidays if are_own_days(each)]
        named = {each.partition("-")[0]: () for each in self.holidays if each not in days and each != NUMBER}
        found = [each for each in self.holidays if each.partition("-")[0] == _named(country, named)]
        if not found and NUMBER in self.holidays and country is not None:
            try:
                found = [read_calendar(country)]
            except InvalidInputError:
                raise InvalidInputError(
                    f"the holidays of {country}, the country of {number}, are not known: the `holidays` library has "
                    "no calendar for it; name the calendars that count, such as DE,FR"
                ) from None
        return (*found, *days)


ANY_HOUR = CountryWindows.of(AT_ANY_HOUR)
"""The windows of everybody who may be called at any hour of each day."""


def _named(country: str | None, names: Mapping[str, object]) -> str | None:
    """Return the one of these names that a country has; a territory is a part of the country that is dialled alike."""
    alike = () if country is None else (country, dialled_alike(country)[0])
    return next((name for name in alike if name in names), None)


def read_hours(text: str) -> Mapping[str, tuple[Span, ...]]:
    """Read the hours of a day by country; no spans where calls at any hour are meant. Raises InvalidInputError."""
    texts: dict[str, list[str]] = {}
    code = ALL
    for entry in parts(text, "hours"):
        name, sign, value = (each.strip() for each in entry.partition("="))
        if sign:
            code = ALL if name == ALL else read_country(name)
            if code == INTERNATIONAL or not value:
                raise InvalidInputError(f"{entry[:40]!r} is no country with its hours; write it as SG=09:00-20:00")
        texts.setdefault(code, []).append(value if sign else entry)
    whole = {code: ",".join(each) for code, each in texts.items()}
    return {code: () if each.casefold() == AT_ANY_HOUR else read_spans(each) for code, each in whole.items()}


def read_holidays(text: str) -> tuple[str, ...]:
    """Read a list of calendars of holidays, or `number`, such as `DE-BY,SG,2026-12-28`. Raises InvalidInputError."""
    entries = parts(text, "holidays")
    return tuple(dict.fromkeys(NUMBER if each.casefold() == NUMBER else read_calendar(each) for each in entries))


def certain_zone(numbers: Sequence[str], *, at: datetime = FIRST_LOOK) -> str:
    """Return the zone of a person for the hours of a window. Raises InvalidInputError if it is unknown."""
    zone, why = zone_of_person(numbers, at=at)
    if zone is None:
        raise InvalidInputError(
            f"{why}, so the local time for its calling window is not known. Give the person a column time_zone, or all "
            "hours one zone: `window_time_zone`."
        )
    return zone


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """The time from which a call may ring, and the zone of the person. A call with a `problem` is not enqueued."""

    at: datetime
    time_zone: str | None
    problem: Finding | None = None


def first_opening(
    window: CallWindow, *, numbers: Sequence[str], time_zone: str | None, at: datetime, valid_until: datetime | None
) -> Opening:
    """Return the first time, from `at` on, at which a call to this person may ring. Problems are findings.

    The hours are those of the window's own zone, else of the `time_zone` of the person, else of the numbers.
    """
    if window.time_zone is None and time_zone is None:
        try:
            time_zone = certain_zone(numbers, at=at)
        except InvalidInputError as error:
            problem = Finding(column="time_zone", message=str(error))
            return Opening(at=at, time_zone=None, problem=problem)
    name = window.time_zone or time_zone or ""
    zone = zone_named(name)
    if zone is None:
        message = f"{name[:40]!r} is not a time zone; give a name such as Asia/Singapore"
        return Opening(at=at, time_zone=time_zone, problem=Finding(column="time_zone", message=message))
    try:
        opens = window.opens(at, zone)
    except InvalidInputError as error:
        return Opening(at=at, time_zone=time_zone, problem=Finding(message=str(error)))
    if opens is None:
        message = f"its calling window ({window}) does not open within a year; give other hours or days"
        if unknown := unknown_holidays(window.holidays, years=(at.year, at.year + 1)):
            message += f". No holidays known for {unknown}: install a newer version of the library holidays"
        return Opening(at=at, time_zone=time_zone, problem=Finding(message=message))
    if valid_until is not None and opens >= valid_until:
        message = (
            f"its calling window ({window}) opens in {name} at {in_words(opens)}, but its validity ends at "
            f"{in_words(valid_until)}. Give a later end (`valid_for`), or a wider window."
        )
        expired = Finding(message=message, code=VALIDITY_EXPIRED)
        return Opening(at=opens, time_zone=time_zone, problem=expired)
    return Opening(at=opens, time_zone=time_zone)
