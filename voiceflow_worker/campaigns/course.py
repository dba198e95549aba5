"""The course of a campaign: when its calls would leave, simulated from their times and a rate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

from voiceflow_worker.model.country_windows import CountryWindows
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.numbers.phone import country_of
from voiceflow_worker.model.numbers.plans import planned
from voiceflow_worker.model.text.names_of_the_world import country_name
from voiceflow_worker.model.times import tells_more, zone_of_number
from voiceflow_worker.model.window import WHOLE_DAY, CallWindow
from voiceflow_worker.model.zones import zone_named

if TYPE_CHECKING:
    from voiceflow_worker.core.admission import CheckedCall

_DAYTIME = CallWindow.parse("08:00-21:00")
_OFFSETS = ("Etc/", "GMT", "UTC")
_FOREVER = datetime.max.replace(tzinfo=UTC)
_AT_ONCE = timedelta()
_MOST_REDIALS = 9
"""The redials of a call that are looked at."""


class Hours(Enum):
    """Whether somebody has said at which hours a phone may ring."""

    UNDECIDED = "undecided"
    GIVEN = "given"
    ANY = "any"


class CallTimes(NamedTuple):
    """The priority of a call, and the times at which it may ring. Equal ones are counted together."""

    priority: int
    not_before: datetime | None
    valid_until: datetime | None
    window: CallWindow | None
    time_zone: str | None
    """The zone of the person; None if nobody knows it."""
    number_zones: tuple[str, ...] = ()
    """The zones that the number may be in, by which it is night there, if that of the person is none of a place."""
    country: str = ""
    """The country of the number (ISO 3166)."""
    hours: Hours = Hours.UNDECIDED
    redials: tuple[timedelta, ...] = ()
    """How long after the first attempt a redial may begin that no window keeps back."""

    @classmethod
    def of(cls, call: CheckedCall | Job, windows: CountryWindows | None = None) -> CallTimes:
        """The times of a call, of a campaign with these windows."""
        own, window, redial = call.time_zone, call.window, call.redial
        there = zone_of_number(call.destination) if own is None or own.startswith(_OFFSETS) else None
        zone, among = (None, ()) if there is None else (there.zone, there.among)
        hours = Hours.GIVEN if windows is not None and windows.hours else Hours.UNDECIDED
        if hours is Hours.GIVEN and (window is None or _is_any(window, windows)):
            hours = Hours.ANY
        waits = () if redial is None or window is not None else {redial.wait(each) for each in redial.on}
        most = 0 if redial is None else min(redial.limit, _MOST_REDIALS)
        redials = sorted({wait * place for wait in waits for place in range(1, most + 1)})
        return cls(
            call.priority, call.not_before, call.valid_until, window, own or zone, (zone,) if zone else among,
            country_of(call.destination) or "", hours, (*redials,),
        )  # fmt: skip

    def opens(self, at: datetime) -> datetime | None:
        """The first time from `at` on at which the call may ring; None if there is none."""
        at = max(at, self.not_before or at)
        zone = None if self.window is None else self.window.zone_for(self.time_zone)
        return at if self.window is None or zone is None else self.window.opens(at, zone)

    def night(self, at: datetime) -> tuple[datetime | None, datetime]:
        """When an attempt of a call that leaves at this time begins at night, by the local clock; and until when so.

        It is night outside _DAYTIME, in any of the zones that the number may be in. None if it is day, or if calls at
        any hour are meant.
        """
        found: datetime | None = None
        until = _FOREVER
        names = self.number_zones or (() if self.time_zone is None else (self.time_zone,))
        for zone in () if self.hours is Hours.ANY else filter(None, map(zone_named, names)):
            for wait in (_AT_ONCE, *self.redials):
                begins = at + wait
                if self.valid_until is not None and begins >= self.valid_until:
                    continue
                is_day = _DAYTIME.is_open(begins, zone)
                changes = (_DAYTIME.closes(begins, zone) if is_day else _DAYTIME.opens(begins, zone)) or _FOREVER
                until = min(until, changes - wait)
                found = found or (None if is_day else begins.astimezone(zone))
        return found, until

    def closes(self, at: datetime) -> datetime:
        """The end of the window that is open at `at`, or the end of the validity if that is earlier."""
        zone = None if self.window is None else self.window.zone_for(self.time_zone)
        closes = None if self.window is None or zone is None else self.window.closes(at, zone)
        return min(closes or _FOREVER, self.valid_until or _FOREVER)


def _is_any(window: CallWindow, windows: CountryWindows | None) -> bool:
    """Whether this window, which has days, has any hour because that was meant."""
    return windows is not None and window.spans == WHOLE_DAY and () in windows.hours.values()


class TimesOfCalls:
    """The different times of the calls of a campaign with this window. A row keeps the place of its own.

    It is found when the row is read: its number is looked up then, and would be forgotten until the row is stored.
    """

    def __init__(self, window: CallWindow | CountryWindows | None = None) -> None:
        self.windows: CountryWindows | None = None if window is None else CountryWindows.of(window)
        self.are_asked: bool = True
        """Whether anybody asks for them."""
        self._places: dict[object, int] = {}
        self._all: list[CallTimes] = []

    def place(self, call: CheckedCall) -> int:
        """The place of the times of a call; 0 if nobody asks."""
        if not self.are_asked:
            return 0
        code, key = planned(call.destination).parsed.country_code, None
        if code is not None and not tells_more(code):  # so that the number need not be looked up
            key = code, call.priority, call.not_before, call.valid_until, call.window, call.time_zone
        times = CallTimes.of(call, self.windows) if key not in self._places else None
        place = self._places.setdefault(key or times, len(self._all))
        if times is not None and place == len(self._all):
            self._all.append(times)
        return place

    def __getitem__(self, place: int) -> CallTimes:
        return self._all[place]

    def counted(self, places: Mapping[int, int]) -> dict[CallTimes, int]:
        """How many calls have the times of each of these places."""
        found = Counter[CallTimes]()
        for place, count in places.items():
            found[self._all[place]] += count
        return found

    @property
    def has_hours(self) -> bool:
        """Whether somebody has given hours."""
        return self.windows is not None and bool(self.windows.hours)


@dataclass(slots=True, kw_only=True)
class Course:
    """The result of a simulation. `first` and `last` are the times of the first and the last slot.

    `expired` counts calls that never leave, because their validity ends before their turn. `later` counts calls that
    must wait at the start; the first of them may ring at `opens_at`.
    """

    first: datetime | None = None
    last: datetime | None = None
    expired: int = 0
    later: int = 0
    opens_at: datetime | None = None
    at_night: int = 0
    """The calls that begin outside 8 to 21 o'clock at the number, or are redialled then, with a window or without."""
    undecided: int = 0
    """Those of them for which nobody has given hours."""
    night: tuple[datetime, str] | None = None
    """The first of these, or else of all, by its local clock, with its country."""
    unknown_hour: int = 0
    """The calls that leave at an hour that nobody knows: the number does not tell its time zone, nor does the row."""

    def night_in_words(self, calls: int) -> str:
        """So many calls at night, with the first of them; empty if there are none."""
        if not calls or self.night is None:
            return ""
        at, country = self.night
        begin = "call begins" if calls == 1 else "calls begin"
        first = f"the first at {at:%H:%M}" if calls > 1 else f"at {at:%H:%M}"
        where = f" in {country_name(country)}" if country else ""
        return f"{calls:,} {begin} outside 8 to 21 o'clock at the number, {first}{where}"


LONGEST_COURSE = timedelta(days=2 * 365)
"""How far a course is simulated, from the first call on. At a tiny rate, calls would leave beyond the calendar."""


def simulated(calls: Mapping[CallTimes, int], start: datetime, *, rate: float | None) -> Course:
    """The course of calls that leave from `start` on, by the rules of the queue; they are counted by their times.

    Those of equal times leave together, the first in the file first. The calls leave at `rate` calls per second; if it
    is None, all calls that are due leave at once. Calls of a higher priority leave first, then those that are due
    earlier. A call whose window closes before its turn is due again when the window opens again. Each call is assumed
    to need one attempt. What would leave after `LONGEST_COURSE` is left out.
    """
    course, step = Course(), timedelta(seconds=1 / rate) if rate is not None else timedelta()
    waiting: list[tuple[datetime, int, CallTimes, int]] = []
    for order, (times, count) in enumerate(calls.items()):
        if (opens := times.opens(start)) is not None:
            waiting.append((opens, order, times, count))
        if opens != start:
            course.later += count
            course.opens_at = min(filter(None, (course.opens_at, opens)), default=None)
    heapify(waiting)
    due: list[tuple[int, datetime, int, CallTimes, int]] = []
    now = start
    until_at_most = max(start, waiting[0][0] if waiting else start) + LONGEST_COURSE
    while (waiting or due) and now < until_at_most:
        if not due:
            now = max(now, waiting[0][0])
        while waiting and waiting[0][0] <= now:
            since, order, times, count = heappop(waiting)
            heappush(due, (-times.priority, since, order, times, count))
        priority, since, order, times, count = heappop(due)
        ends = times.closes(now)
        if ends <= now:
            opens = times.opens(now)
            if opens is None or opens >= (times.valid_until or _FOREVER):
                course.expired += count
            else:
                heappush(waiting, (opens, order, times, count))
            continue
        night, changes = times.night(now)
        until = min(ends, changes, waiting[0][0] if waiting else _FOREVER, max(until_at_most, now + step))
        # The number of slots between now and `until`.
        taken = min(count, -((now - until) // step)) if step else count
        course.first, course.last = course.first or now, now + (taken - 1) * step
        if night is not None:
            is_undecided = times.hours is Hours.UNDECIDED
            if course.night is None or (is_undecided and not course.undecided):
                course.night = night, times.country
            course.at_night += taken
            course.undecided += taken if is_undecided else 0
        course.unknown_hour += 0 if times.time_zone or times.number_zones else taken
        now += taken * step
        if taken < count:
            heappush(due, (priority, since, order, times, count - taken))
    return course
