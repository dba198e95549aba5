"""The course of a campaign: when its calls would leave, simulated from their times and a rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.times import zone_of_number
from voiceflow_worker.model.window import CallWindow
from voiceflow_worker.model.zones import zone_named

if TYPE_CHECKING:
    from voiceflow_worker.core.admission import CheckedCall

_DAYTIME = CallWindow.parse("08:00-21:00")
_OFFSETS = ("Etc/", "GMT", "UTC")
_FOREVER = datetime.max.replace(tzinfo=UTC)


class CallTimes(NamedTuple):
    """The priority of a call, and the times at which it may ring. Equal ones are counted together."""

    priority: int
    not_before: datetime | None
    valid_until: datetime | None
    window: CallWindow | None
    time_zone: str | None
    """The zone of the person; None if nobody knows it."""
    number_zone: str | None = None
    """The zone of the number, by which it is night there, if that of the person is a mere offset (`Etc/GMT+8`)."""

    @classmethod
    def of(cls, call: CheckedCall | Job) -> CallTimes:
        """The times of a call."""
        own = call.time_zone
        there = zone_of_number(call.destination).zone if own is None or own.startswith(_OFFSETS) else None
        return cls(call.priority, call.not_before, call.valid_until, call.window, own or there, there)

    def opens(self, at: datetime) -> datetime | None:
        """The first time from `at` on at which the call may ring; None if there is none."""
        at = max(at, self.not_before or at)
        zone = None if self.window is None else self.window.zone_for(self.time_zone)
        return at if self.window is None or zone is None else self.window.opens(at, zone)

    def night(self, at: datetime) -> tuple[bool, datetime]:
        """Whether it is night at the number at this time, outside _DAYTIME, and until when that is so."""
        name = self.number_zone or self.time_zone
        if name is None or (zone := zone_named(name)) is None:
            return False, _FOREVER
        is_day = _DAYTIME.is_open(at, zone)
        return not is_day, (_DAYTIME.closes(at, zone) if is_day else _DAYTIME.opens(at, zone)) or _FOREVER

    def closes(self, at: datetime) -> datetime:
        """The end of the window that is open at `at`, or the end of the validity if that is earlier."""
        zone = None if self.window is None else self.window.zone_for(self.time_zone)
        closes = None if self.window is None or zone is None else self.window.closes(at, zone)
        return min(closes or _FOREVER, self.valid_until or _FOREVER)


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
    """The calls that leave outside 8 to 21 o'clock at the number, with a window and without one."""
    unknown_hour: int = 0
    """The calls that leave at an hour that nobody knows: the number does not tell its time zone, nor does the row."""


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
        is_night, changes = times.night(now)
        until = min(ends, changes, waiting[0][0] if waiting else _FOREVER, max(until_at_most, now + step))
        # The number of slots between now and `until`.
        taken = min(count, -((now - until) // step)) if step else count
        course.first, course.last = course.first or now, now + (taken - 1) * step
        course.at_night += taken if is_night else 0
        course.unknown_hour += taken if times.time_zone is None else 0
        now += taken * step
        if taken < count:
            heappush(due, (priority, since, order, times, count - taken))
    return course
