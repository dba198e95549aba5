"""The times of a row: from when on and until when its phones may ring, and in which window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache, partial
from typing import NamedTuple
from zoneinfo import ZoneInfo

from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.values import RowValues
from voiceflow_worker.campaigns.lists.columns import DESTINATION, row_name
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.model.column_time import ColumnTime
from voiceflow_worker.model.country_windows import ANY_HOUR, AT_ANY_HOUR, CountryWindows, first_opening, read_hours
from voiceflow_worker.model.flows.bodies import VALIDITY_EXPIRED, read_valid_until
from voiceflow_worker.model.flows.values import is_missing
from voiceflow_worker.model.text.arguments import time_problem
from voiceflow_worker.model.text.wording import in_words
from voiceflow_worker.model.times import read_time
from voiceflow_worker.model.window import CallWindow
from voiceflow_worker.model.zones import read_zone

_TIMES = frozenset({"time_zone", "not_before", "valid_until", "window"})


class RowTimes(NamedTuple):
    """The times of a row, and its window.

    `validity` is what was asked for if a span decides it, which begins now. If `over` has a column and why, the time of
    the row is over, and nobody is called.
    """

    time_zone: str | None = None
    not_before: datetime | None = None
    valid_until: datetime | None = None
    window: CallWindow | None = None
    over: tuple[str, str] | None = None
    validity: str | None = None


_ANY_TIME = RowTimes()


class Times:
    """Read the times of rows, by these options. With `allows_past`, a validity that has passed is a warning."""

    def __init__(self, options: CampaignOptions, *, now: datetime, allows_past: bool) -> None:
        self._options, self._now = options, now
        self._passed = Severity.WARNING if allows_past else Severity.ERROR
        self._zone = None if options.time_zone is None else read_zone(options.time_zone)
        windows = CountryWindows.of(options.window or AT_ANY_HOUR)
        self._usual = ANY_HOUR if windows == ANY_HOUR else windows
        """The windows of rows that have none of their own."""
        self._windows_of = cache(partial(_with_hours, self._usual))
        self._has_times = any((options.not_before, options.valid_until, options.valid_for)) or windows != ANY_HOUR
        template = options.template
        both = () if template is None else (template, *template.languages.values())
        self._fills_in_validity = any(text.path == "$.validUntil" for each in both for text in each.texts)
        """Whether the validity of a body comes from a column, by a name in the template."""
        self.calendars: dict[str, tuple[datetime, datetime]] = {}
        """The calendars of the calls, each with the first and the last time from which one of its calls may ring."""

    def read(self, values: RowValues, body: Mapping[str, object], numbers: Sequence[str]) -> RowTimes:
        """Read the times of a row, and its window for a person with these numbers.

        The column `valid_until` overrides the `validUntil` of the body. The options `valid_for` and `valid_until` give
        a validity to a row without one, and shorten a longer one. They replace a `validUntil` of the body that has
        passed, as in the examples that 8x8 prints (with a warning); one that comes from a column never. The column
        `not_before` overrides the option. The column `time_zone` is the zone of the person; the option is that of local
        times, in rows without the column.
        """
        if not self._has_times and _TIMES.isdisjoint(values.reserved) and "validUntil" not in body:
            return _ANY_TIME
        wrong = len(values.wrong)
        zone = self._own_zone(values)
        times = RowTimes(zone.key if zone is not None and "time_zone" in values.reserved else None)
        moment, begin = self._begin(values, zone)
        times = self._end(values, body, times._replace(not_before=begin), moment, zone)
        windows = self._usual
        if "window" in values.reserved:
            try:
                windows = self._windows_of(values.reserved["window"])
            except InvalidInputError as error:
                values.error(str(error), column="window")
        has_passed = times.over is not None or (times.valid_until is not None and times.valid_until <= self._now)
        if windows is ANY_HOUR or not numbers or has_passed or len(values.wrong) > wrong:
            return times
        return self._fitted(values, times, windows, numbers)

    def count(self, call: CheckedCall) -> None:
        """Count a call by the calendars of its window."""
        for calendar in () if call.window is None else call.window.holidays:
            starts = call.not_before or self._now
            first, last = self.calendars.get(calendar, (starts, starts))
            self.calendars[calendar] = (min(first, starts), max(last, starts))

    def _own_zone(self, values: RowValues) -> ZoneInfo | None:
        if (name := values.reserved.get("time_zone")) is None:
            return self._zone
        try:
            return read_zone(name)
        except ValueError as error:
            values.error(str(error), column="time_zone")
            return None

    def _begin(self, values: RowValues, zone: ZoneInfo | None) -> tuple[datetime | None, datetime | None]:
        """Read what people are reminded of, which is over afterwards, and from when on phones may ring."""
        starts = self._options.not_before
        if "not_before" in values.reserved:
            return None, _time(values, "not_before", zone)
        if not isinstance(starts, ColumnTime):
            return None, starts
        moment, begin = _counted(values, starts, "not_before", zone)
        return (moment if starts.is_before else None), begin

    def _end(
        self,
        values: RowValues,
        body: Mapping[str, object],
        times: RowTimes,
        last: datetime | None,
        zone: ZoneInfo | None,
    ) -> RowTimes:
        """Read until when phones may ring, and whether that is over. `last` is the end that a column gives."""
        ends = self._options.valid_until
        if isinstance(ends, ColumnTime):
            last = ends = _counted(values, ends, "valid_until", zone)[1]
        offered = min(filter(None, (last, ends)), default=None)
        column = path = None
        if "valid_until" in values.reserved:
            column, own = "valid_until", _time(values, "valid_until", zone)
        else:
            path, own = "$.validUntil", read_valid_until(body.get("validUntil"))  # a wrong time is reported elsewhere
            if own is None and self._options.valid_for is None and offered is None:
                return times
        place = partial(Finding, column=column, path=path, code=VALIDITY_EXPIRED)
        if (problem := time_problem("the validity's end", own)) is not None:
            values.add(place(message=problem))
            return times
        if (over := self._why_over(values, times.not_before, own, last)) is not None:
            return times._replace(over=over)
        return self._settled(values, times, own, offered, place)

    def _why_over(
        self, values: RowValues, begin: datetime | None, own: datetime | None, last: datetime | None
    ) -> tuple[str, str] | None:
        """Return the column and the reason, if the time of a call that is counted from a column is over."""
        counted = (self._options.valid_until, self._options.not_before)
        column = next((each.column for each in counted if isinstance(each, ColumnTime)), None)
        if column is None or values.is_reported(column):
            return None
        end = min(filter(None, (own, last)), default=None)
        if last is not None and last <= self._now:
            return column, f"is over: the call could ring until {in_words(last)}, and this is past"
        if begin is not None and end is not None and begin >= end:
            return column, f"leaves no time for the call: not before {in_words(begin)}, and until {in_words(end)}"
        return None

    def _settled(
        self,
        values: RowValues,
        times: RowTimes,
        own: datetime | None,
        offered: datetime | None,
        place: Callable[..., Finding],
    ) -> RowTimes:
        """Settle the validity of a row, of its own and the offered one."""
        valid_for, begin, validity = self._options.valid_for, times.not_before, None
        if valid_for is not None:
            span = max(self._now, begin or self._now) + valid_for
            validity = " ".join((str(valid_for), *(each.isoformat() for each in (own, offered) if each is not None)))
            offered = span if offered is None else min(span, offered)
        has_passed = own is not None and own <= self._now
        is_of_row = "valid_until" in values.reserved or self._fills_in_validity
        if own is not None and has_passed and (offered is None or is_of_row):
            remedy = "Correct it, or leave the row out." if is_of_row else "Give a later end (`valid_for`)."
            expired = f"the validity period expired at {in_words(own)}. {remedy}"
            values.add(place(severity=self._passed, message=expired))
            return times._replace(valid_until=own)
        if has_passed:
            option = "valid_until" if valid_for is None else "valid_for"
            replaced = (
                f"the validity of this row has passed, and `{option}` of the campaign replaces it: this phone may ring."
                " If it should not, leave the row out."
            )
            values.add(place(severity=Severity.WARNING, message=replaced))
        end = offered if has_passed else min(filter(None, (own, offered)), default=None)
        if begin and end and begin >= end:
            late = (
                f"the validity ends at {in_words(end)}, but the call may not be sent before {in_words(begin)}. Give a"
            )
            values.add(place(message=f"{late} later valid_until, or an earlier not_before."))
        return times._replace(valid_until=end, validity=validity)

    def _fitted(self, values: RowValues, times: RowTimes, windows: CountryWindows, numbers: Sequence[str]) -> RowTimes:
        """Give the row the window of a person with these numbers; an error if it does not open while it is valid."""
        try:
            window = windows.to(numbers)
        except InvalidInputError as error:
            values.error(str(error), column=DESTINATION)
            return times
        if window is None:
            return times
        at = max(self._now, times.not_before or self._now)
        opening = first_opening(
            window, numbers=numbers, time_zone=times.time_zone, at=at, valid_until=times.valid_until
        )
        if (problem := opening.problem) is not None and not values.is_reported(problem.column):
            values.add(problem)
        return times._replace(window=window, time_zone=opening.time_zone)


def _with_hours(windows: CountryWindows, hours: str) -> CountryWindows:
    """Return the windows with these hours instead of their own. Raises InvalidInputError."""
    return replace(windows, hours=read_hours(hours))


def _counted(
    values: RowValues, given: ColumnTime, name: str, zone: ZoneInfo | None
) -> tuple[datetime | None, datetime | None]:
    """Return the time in the column of a row, and the one that is counted from it; an error if they are not certain."""
    cell = values.variables.get(row_name(given.column))
    if values.is_reported(given.column) or values.is_reported("time_zone"):
        return None, None  # each cell has one finding
    try:
        if is_missing(cell):
            raise ValueError(f"is empty, and {name} ({given}) counts from it: give the time, or leave the row out")
        found = given.of(str(cell), zone)
        if (problem := time_problem(name, found[1])) is not None:
            raise ValueError(problem)
    except ValueError as error:
        values.error(str(error), column=given.column)
        return None, None
    return found


def _time(values: RowValues, column: str, zone: ZoneInfo | None) -> datetime | None:
    """Return the time in a reserved column; None, with an error, if it is not certain."""
    # An unknown zone is reported already. With any zone, the rest of the time is checked.
    is_unknown = values.is_reported("time_zone")
    try:
        moment = read_time(values.reserved[column], zone=ZoneInfo("UTC") if is_unknown else zone)
        if column == "not_before" and (problem := time_problem(column, moment)) is not None:
            raise ValueError(problem)
    except ValueError as error:
        values.error(str(error), column=column)
        return None
    return None if is_unknown else moment
