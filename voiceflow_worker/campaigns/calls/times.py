"""The times of a row: from when on and until when its phones may ring, and in which window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache, partial
from zoneinfo import ZoneInfo

from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.values import Draft
from voiceflow_worker.campaigns.lists.columns import DESTINATION, row_name
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Finding, Severity, message_of, tell
from voiceflow_worker.model.column_time import ColumnTime
from voiceflow_worker.model.country_windows import ANY_HOUR, AT_ANY_HOUR, CountryWindows, first_opening, read_hours
from voiceflow_worker.model.flows.rules import VALIDITY_EXPIRED, read_valid_until
from voiceflow_worker.model.flows.values import is_missing
from voiceflow_worker.model.numbers.phone import canonical_number
from voiceflow_worker.model.text.arguments import time_problem
from voiceflow_worker.model.text.wording import in_words
from voiceflow_worker.model.times import read_time
from voiceflow_worker.model.window import CallWindow
from voiceflow_worker.model.zones import read_zone

_TIMES = frozenset({"time_zone", "not_before", "valid_until", "window"})


@dataclass(slots=True)
class RowTimes:
    """The times of one row, and its window. Its findings have a column, but no row number yet.

    `zone` is that of its local times. `validity` is what was asked for if a span decides it, which begins now. If
    `over` has a column and why, the time of the row is over, and nobody is called.
    """

    time_zone: str | None = None
    not_before: datetime | None = None
    valid_until: datetime | None = None
    window: CallWindow | None = None
    over: tuple[str, str] | None = None
    zone: ZoneInfo | None = None
    validity: str | None = None
    findings: list[Finding] = field(default_factory=list[Finding])

    @property
    def is_wrong(self) -> bool:
        """Whether one of the times has an error."""
        return any(found.is_error for found in self.findings)

    def wrong(self, column: str, message: str) -> None:
        """Add an error."""
        self.findings.append(Finding(column=column, message=message))


_ANY_TIME = RowTimes()


class Times:
    """Reads the times of rows, by these options. With `allows_past`, a validity that has passed is a warning."""

    def __init__(self, options: CampaignOptions, *, now: datetime, allows_past: bool) -> None:
        self._options = options
        self._now = now
        self._passed = Severity.WARNING if allows_past else Severity.ERROR
        windows = CountryWindows.of(options.window or AT_ANY_HOUR)
        self._usual = ANY_HOUR if windows == ANY_HOUR else windows
        """The windows of rows that have none of their own."""
        self._windows_of = cache(partial(_with_hours, self._usual))
        """The windows of a row with these hours."""
        self._has_times = any((options.not_before, options.valid_until, options.valid_for)) or windows != ANY_HOUR
        counted = (options.valid_until, options.not_before)
        self._counted_from = next((each.column for each in counted if isinstance(each, ColumnTime)), None)
        """The column that times are counted from."""
        template = options.template
        both = () if template is None else (template, *template.languages.values())
        self._fills_in_validity = any(text.path == "$.validUntil" for each in both for text in each.texts)
        """Whether the validity of a body comes from a column, by a name in the template."""
        self.calendars: dict[str, tuple[datetime, datetime]] = {}
        """The calendars of the calls, each with the first and the last time from which one of its calls may ring."""

    def read(self, draft: Draft, body: Mapping[str, object], numbers: tuple[str | None, Sequence[str]]) -> RowTimes:
        """The times of a row, and its window for a person with these numbers, a first and further ones.

        The column `valid_until` overrides the `validUntil` of the body. The options `valid_for` and `valid_until` give
        a validity to a row without one, and shorten a longer one. They replace a `validUntil` of the body that has
        passed, as in the examples that 8x8 prints (with a warning); one that comes from a column never. The column
        `not_before` overrides the option. The column `time_zone` is the zone of the person; the option is that of local
        times, in rows without the column.
        """
        if not self._has_times and _TIMES.isdisjoint(draft.reserved) and "validUntil" not in body:
            return _ANY_TIME
        times = RowTimes()
        self._read_zone(times, draft)
        last = self._begin(times, draft)
        self._end(times, draft, body, last)
        known = [*map(canonical_number, filter(None, numbers[:1])), *numbers[1]]
        windows = self._own_windows(times, draft)
        if windows is not ANY_HOUR:
            self._fit(times, windows, known)
        if times.findings:
            draft.findings += [found for found in times.findings if not draft.is_reported(found.column)]
        return times

    def count(self, call: CheckedCall) -> None:
        """Count a call by the calendars of its window."""
        for calendar in () if call.window is None else call.window.holidays:
            starts = call.not_before or self._now
            first, last = self.calendars.get(calendar, (starts, starts))
            self.calendars[calendar] = (min(first, starts), max(last, starts))

    def _read_zone(self, times: RowTimes, draft: Draft) -> None:
        name, default = draft.reserved.get("time_zone"), self._options.time_zone
        if name is None:
            times.zone = None if default is None else read_zone(default)
            return
        try:
            times.zone = read_zone(name)
            times.time_zone = times.zone.key
        except ValueError as error:
            times.wrong("time_zone", message_of(error))

    def _own_windows(self, times: RowTimes, draft: Draft) -> CountryWindows:
        """The windows of the row: the column `window` has its hours, and the rest is as for all."""
        if "window" not in draft.reserved:
            return self._usual
        try:
            return self._windows_of(draft.reserved["window"])
        except InvalidInputError as error:
            times.wrong("window", message_of(error))
            return self._usual

    def _begin(self, times: RowTimes, draft: Draft) -> datetime | None:
        """Read from when on phones may ring. Returns what people are reminded of then, and is over afterwards."""
        starts = self._options.not_before
        if "not_before" in draft.reserved:
            times.not_before = _time(times, draft, "not_before")
        elif isinstance(starts, ColumnTime):
            moment, times.not_before = _counted(times, draft, starts, "not_before")
            return moment if starts.is_before else None
        else:
            times.not_before = starts
        return None

    def _end(self, times: RowTimes, draft: Draft, body: Mapping[str, object], last: datetime | None) -> None:
        """Read until when phones may ring, and whether that is over."""
        ends = self._options.valid_until
        if isinstance(ends, ColumnTime):
            last = ends = _counted(times, draft, ends, "valid_until")[1]
        offered, is_of_column = min(filter(None, (last, ends)), default=None), "valid_until" in draft.reserved
        if is_of_column:
            own = _time(times, draft, "valid_until")
            found = partial(Finding, column="valid_until", code=VALIDITY_EXPIRED)
        else:
            own = read_valid_until(body.get("validUntil"))  # a malformed time is reported with the body
            found = partial(Finding, path="$.validUntil", code=VALIDITY_EXPIRED)
            if own is None and self._options.valid_for is None and offered is None:
                return
        if (problem := time_problem("the validity's end", own)) is not None:
            times.findings.append(found(message=problem))
            return
        times.over = self._why_over(times, own, last)
        if times.over is None:
            is_of_row = is_of_column or self._fills_in_validity
            times.findings += self._settled(times, own, offered, found, is_of_row=is_of_row)

    def _why_over(self, times: RowTimes, own: datetime | None, last: datetime | None) -> tuple[str, str] | None:
        """The column and the reason, if the time of a call that is counted from a column is over."""
        column, begin, end = self._counted_from, times.not_before, min(filter(None, (own, last)), default=None)
        if column is None or times.is_wrong:
            return None
        if last is not None and last <= self._now:
            return column, f"is over: the call could ring until {in_words(last)}, and this is past"
        if begin is not None and end is not None and begin >= end:
            return column, f"leaves no time for the call: not before {in_words(begin)}, and until {in_words(end)}"
        return None

    def _settled(
        self,
        times: RowTimes,
        own: datetime | None,
        offered: datetime | None,
        found: Callable[..., Finding],
        *,
        is_of_row: bool,
    ) -> Iterator[Finding]:
        """Settle the validity of a row, of its own and the offered one."""
        valid_for, has_passed = self._options.valid_for, own is not None and own <= self._now
        if valid_for is not None:
            counted = max(self._now, times.not_before or self._now) + valid_for
            ends = (each.isoformat() for each in (own, offered) if each is not None)
            times.validity = " ".join((str(valid_for), *ends))
            offered = counted if offered is None else min(counted, offered)
        if offered is not None and not (has_passed and is_of_row):
            times.valid_until = offered if own is None or has_passed else min(own, offered)
            if has_passed:
                option = "valid_until" if valid_for is None else "valid_for"
                replaced = (
                    f"the validity of this row has passed, and the campaign's {option} replaces it: this phone may "
                    "ring; if it should not, leave the row out"
                )
                yield found(severity=Severity.WARNING, message=replaced)
        else:
            times.valid_until = own
            if own is not None and has_passed:
                kind = "expired_in_row" if is_of_row else "expired"
                yield found(severity=self._passed, message=tell(kind, ended=in_words(own)))
                return
        begin, end = times.not_before, times.valid_until
        if begin and end and begin >= end:
            yield found(
                message=f"the validity ends at {in_words(end)}, but the call may not be sent before {in_words(begin)}; "
                "give a later valid_until or an earlier not_before"
            )

    def _fit(self, times: RowTimes, windows: CountryWindows, numbers: Sequence[str]) -> None:
        """Find the window of a person with these numbers. Adds a finding if it does not open while the row is valid.

        The times get the zone of the row, else of the numbers. Times with errors are not changed,
        nor are those whose validity has passed; there is no window then.
        """
        has_passed = times.over is not None or (times.valid_until is not None and times.valid_until <= self._now)
        if not numbers or has_passed or times.is_wrong:
            return
        try:
            window = windows.to(numbers)
        except InvalidInputError as error:
            times.wrong(DESTINATION, message_of(error))
            return
        if window is None:
            return
        at = max(self._now, times.not_before or self._now)
        opening = first_opening(
            window, numbers=numbers, time_zone=times.time_zone, at=at, valid_until=times.valid_until
        )
        if opening.problem is not None:
            times.findings.append(opening.problem)
        times.window, times.time_zone = window, opening.time_zone


def _with_hours(windows: CountryWindows, hours: str) -> CountryWindows:
    """The windows with these hours instead of their own. Raises InvalidInputError."""
    return replace(windows, hours=read_hours(hours))


def _counted(times: RowTimes, draft: Draft, given: ColumnTime, name: str) -> tuple[datetime | None, datetime | None]:
    """The time in the column of a row, and the one that is counted from it; a finding if they are not certain."""
    column = row_name(given.column)
    if column not in draft.variables or any(found.column in {"time_zone", given.column} for found in times.findings):
        return None, None  # each cell has one finding
    cell = draft.variables[column]
    try:
        if is_missing(cell):
            raise ValueError(f"is empty, and {name} ({given}) counts from it: give the time, or leave the row out")
        found = given.of(str(cell), times.zone)
        problem = time_problem(name, found[1])
        if problem is None:
            return found
        times.wrong(given.column, problem)
    except ValueError as error:
        times.wrong(given.column, message_of(error))
    return None, None


def _time(times: RowTimes, draft: Draft, column: str) -> datetime | None:
    """The time in a reserved column; None, with a finding, if it is not certain."""
    text = draft.reserved[column]
    try:
        moment = read_time(text, zone=times.zone)
        problem = time_problem(column, moment) if column == "not_before" else None
        if problem is None:
            return moment
        times.wrong(column, problem)
    except ValueError as error:
        if times.zone is None and any(found.column == "time_zone" for found in times.findings):
            # The unknown zone was reported already. With any zone, the rest of the time is checked.
            try:
                read_time(text, zone=ZoneInfo("UTC"))
            except ValueError as own:
                times.wrong(column, message_of(own))
            return None
        times.wrong(column, message_of(error))
    return None
