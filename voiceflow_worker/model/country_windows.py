"""Calling windows by the country of the number called, and the first time at which a call may ring in its window."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeVar

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.bodies import VALIDITY_EXPIRED
from voiceflow_worker.model.numbers.phone import country_of
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
    days_in_words,
    parts,
    read_calendar,
    read_days,
    read_spans,
    read_window_zone,
    unknown_holidays,
)
from voiceflow_worker.model.zones import zone_named

T = TypeVar("T")

NUMBER = "number"
"""In place of a calendar: that of the country of the number called."""
NONE = "none"
"""In place of a calendar: holidays are days like others."""
AT_ANY_HOUR: Literal["any"] = "any"
"""In place of hours: calls at any hour of the day are meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountryWindows:
    """Calling windows for numbers of several countries: `CountryWindows.parse("DE=09:00-18:00,*=10:00-20:00")`.

    `hours`, `days` and `holidays` are by the country (ISO 3166) of the number called; `*` is for all others. Without
    `hours` at all, phones ring at any hour; with none for a country, that is what was meant. A number for which there
    are no hours or no days cannot be called. A number for whose country there is no calendar is called on holidays too.
    `to` gives the window of one person.
    """

    hours: Mapping[str, tuple[Span, ...]] = field(default_factory=dict[str, tuple[Span, ...]])
    days: Mapping[str, frozenset[Weekday]] = field(default_factory=lambda: {ALL: EVERY_DAY})
    holidays: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    time_zone: str | None = None
    _known: dict[str | None, CallWindow | None] = field(
        default_factory=dict[str | None, CallWindow | None], init=False, repr=False, compare=False
    )
    _differ: bool = field(default=False, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        named = not {*self.hours, *self.days, *self.holidays} <= {ALL} or NUMBER in self.holidays.get(ALL, ())
        object.__setattr__(self, "_differ", named)

    @classmethod
    def parse(
        cls,
        hours: str | None = None,
        *,
        days: str | None = None,
        holidays: str | None = None,
        time_zone: str | None = None,
    ) -> CountryWindows:
        """The windows in texts: `09:00-20:00` and `mon-sat` for everybody, or `DE=09:00-12:00,14:00-18:00,*=any`.

        Holidays are a list, such as `DE-BE,FR,SG`: each calendar is for the numbers of its country. Or they are
        `number`, the calendar of the country of each number; or a table, such as `AT=DE-BY,CH=none,*=number`. Days that
        no country stands before, such as `2026-12-24..2027-01-01`, are for everybody. The defaults are those of
        `CallWindow.parse`. Raises InvalidInputError.
        """
        return cls(
            hours={} if hours is None else read_hours(hours),
            days={ALL: EVERY_DAY} if days is None else read_weekdays(days),
            holidays={} if holidays is None else read_holidays(holidays),
            time_zone=None if time_zone is None else read_window_zone(time_zone),
        )

    @classmethod
    def of(cls, window: CallWindow | CountryWindows | Literal["any"]) -> CountryWindows:
        """A window for everybody, or "any". Each of its calendars is for the numbers of its country."""
        if isinstance(window, CountryWindows):
            return window
        if isinstance(window, str):
            return cls(hours={ALL: ()})
        return cls(
            hours={ALL: window.spans},
            days={ALL: window.days},
            holidays=_own_countries(window.holidays),
            time_zone=window.time_zone,
        )

    def to(self, numbers: Sequence[str]) -> CallWindow | None:
        """Return the window of a person with these numbers, which is the same for each; None for any time.

        Raises InvalidInputError.
        """
        window = self._to(numbers[0])
        for number in numbers[1:]:
            if (other := self._to(number)) != window:
                raise InvalidInputError(
                    f"its calling window would be {window} for {numbers[0]} and {other} for {number} of the same "
                    "person; give the numbers a row each"
                )
        return window

    def fields(self) -> dict[str, str]:
        """The texts that `parse` reads as these windows, by the names of the fields of a campaign."""
        found = {
            "window": _text({name: [",".join(map(str, spans)) or AT_ANY_HOUR] for name, spans in self.hours.items()}),
            "days": _text({name: [days_in_words(days)] for name, days in self.days.items()}),
            "holidays": _text({name: calendars or (NONE,) for name, calendars in self.holidays.items()}),
            "window_time_zone": self.time_zone or "",
        }
        return {name: text for name, text in found.items() if text}

    def _to(self, number: str) -> CallWindow | None:
        country = country_of(number) if self._differ else None  # the lookup takes 30 µs
        if country not in self._known:
            hours = _there(self.hours, country, number, "hours", "calling window") if self.hours else WHOLE_DAY
            days = _there(self.days, country, number, "days", "days")
            holidays = self._calendars(country, number)
            is_any = not hours and days == EVERY_DAY and not holidays
            window = CallWindow(spans=hours or WHOLE_DAY, days=days, holidays=holidays, time_zone=self.time_zone)
            self._known[country] = None if is_any else window
        return self._known[country]

    def _calendars(self, country: str | None, number: str) -> tuple[str, ...]:
        found = in_table(self.holidays, country) or ()
        if NUMBER not in found:
            return found
        others = tuple(each for each in found if each != NUMBER)
        if country is None:
            return others
        try:
            return tuple(dict.fromkeys((*others, read_calendar(country))))
        except InvalidInputError:
            raise InvalidInputError(
                f"the holidays of {country}, the country of {number}, are not known: the `holidays` library has no "
                f"calendar for it; name one for it ({country}=…), or {country}={NONE}"
            ) from None


ANY_HOUR = CountryWindows.of(AT_ANY_HOUR)
"""The windows of everybody who may be called at any hour of each day."""


def _text(table: Mapping[str, Sequence[str]]) -> str:
    """A table as text; what holds for everybody without the country."""
    if list(table) == [ALL] and table[ALL] != (NONE,):
        return ",".join(table[ALL])
    return ",".join(f"{name}={each}" for name, texts in table.items() for each in texts)


def _there(table: Mapping[str, T], country: str | None, number: str, what: str, name: str) -> T:
    found = in_table(table, country)
    if found is None:
        given, own = ", ".join(table), f"{country}=… or " if country else ""
        raise InvalidInputError(
            f"there is no {name} for {number}, which is a number of {country or 'no country'}: there are {what} for "
            f"{given}; add {own}{ALL}=…"
        )
    return found


def read_hours(text: str) -> Mapping[str, tuple[Span, ...]]:
    """The hours of a day by country; none where calls at any hour are meant. Raises InvalidInputError."""
    return _table(text, "hours", lambda hours: () if hours.strip().casefold() == AT_ANY_HOUR else read_spans(hours))


def read_weekdays(text: str) -> Mapping[str, frozenset[Weekday]]:
    """The days of a week by country. Raises InvalidInputError."""
    return _table(text, "days", read_days)


def read_holidays(text: str) -> Mapping[str, tuple[str, ...]]:
    """The calendars of holidays by country; none for a country whose holidays do not count. Raises InvalidInputError.

    A text without countries is a list of calendars, each for the numbers of its country, or `number`.
    """
    entries = parts(text, "holidays")
    if not any("=" in entry for entry in entries):
        return _own_countries(map(_calendar, entries))
    found: dict[str, tuple[str, ...]] = {}
    days = [each for each in entries if are_own_days(each)]
    for entry in entries if not days else [each for each in entries if each not in days]:
        name, sign, calendar = (each.strip() for each in entry.partition("="))
        if not (sign and calendar):
            raise InvalidInputError(
                f"{entry[:40]!r} is no country with its calendar; write it as SG=SG, or *={NUMBER} for all countries "
                "that are not named"
            )
        code, calendar = _country(name), _calendar(calendar)
        before = found.get(code)
        if before is not None and (not before or calendar == NONE):
            raise InvalidInputError(f"{code} has {NONE} and a calendar too; keep one of them")
        found[code] = () if calendar == NONE else tuple(dict.fromkeys((*(before or ()), calendar)))
    return _for_everybody(found, map(read_calendar, days))


def _for_everybody(table: dict[str, tuple[str, ...]], days: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The table, with these own days for all of its countries, and for all others."""
    closed = tuple(days)
    names = (*table, *(() if ALL in table else (ALL,))) if closed else (*table,)
    return {name: tuple(dict.fromkeys((*table.get(name, ()), *closed))) for name in names}


def _own_countries(calendars: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The calendars by the country that each is of; own days are for everybody."""
    found: dict[str, tuple[str, ...]] = {}
    days: list[str] = []
    for calendar in calendars:
        if are_own_days(calendar):
            days.append(calendar)
            continue
        if calendar == NONE:
            raise InvalidInputError(f"{NONE} stands in place of a calendar of one country: CH={NONE}")
        country = ALL if calendar == NUMBER else calendar.partition("-")[0]
        found[country] = tuple(dict.fromkeys((*found.get(country, ()), calendar)))
    return _for_everybody(found, days)


def _calendar(text: str) -> str:
    name = text.strip().casefold()
    return name if name in {NUMBER, NONE} else read_calendar(text)


def _table(text: str, what: str, read: Callable[[str], T]) -> dict[str, T]:
    """What `read` makes of the texts of a table such as `DE=09:00-12:00,14:00-18:00,*=09:00-20:00`."""
    texts: dict[str, list[str]] = {}
    code = ALL
    for entry in parts(text, what):
        name, sign, value = (each.strip() for each in entry.partition("="))
        if sign:
            code = _country(name)
            if not value:
                raise InvalidInputError(f"{entry[:40]!r} has no {what}; write {what} after the =")
        texts.setdefault(code, []).append(value if sign else entry)
    return {code: read(",".join(each)) for code, each in texts.items()}


def _country(name: str) -> str:
    if name == ALL:
        return ALL
    code = read_country(name)
    if code == INTERNATIONAL:
        raise InvalidInputError(f"{name} is no country; write {ALL} for all countries that are not named")
    return code


def certain_zone(numbers: Sequence[str], *, at: datetime = FIRST_LOOK) -> str:
    """The zone of a person with these numbers, for the hours of a window. Raises InvalidInputError if it is unknown."""
    zone, why = zone_of_person(numbers, at=at)
    if zone is None:
        raise InvalidInputError(
            f"{why}, so the local time for its calling window is not known. Give the person a column time_zone, or all "
            "hours one zone: `window_time_zone`."
        )
    return zone


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """The time from which a call may ring, and the time zone of the person. A call with a `problem` is not enqueued."""

    at: datetime
    time_zone: str | None
    problem: Finding | None = None


def first_opening(
    window: CallWindow, *, numbers: Sequence[str], time_zone: str | None, at: datetime, valid_until: datetime | None
) -> Opening:
    """The first time, from `at` on, at which a call to this person may ring.

    The hours of the window are local time in its own zone, if it has one; else in the `time_zone` of the person; else
    at the numbers, if their digits determine one time zone. Never raises: problems are findings.
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
