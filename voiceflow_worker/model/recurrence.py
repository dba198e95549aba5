"""Recurring times: a cron expression in a time zone, each of whose firings happens once, whatever the clocks do."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

MISFIRE = timedelta(minutes=15)
"""How late a firing may be by default."""
_EXAMPLE = "minute, hour, day of the month, month and day of the week, such as 0 9 * * mon-fri"
_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * sun",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_LONGEST = 200
_FIELDS = {"minute": 59, "hour": 23, "day of the month": 31, "month": 12, "day of the week": 7}
"""The fields, each with its highest value."""
_STEP = re.compile(r"/(\d+)")
_ANY_TIME = datetime(2020, 1, 1)  # noqa: DTZ001 (a local time of any zone)


def read_cron(text: str) -> str:
    """The cron expression in a text, in its five fields. Raises ValueError for any other text, or if it never fires."""
    written = " ".join(text.split())
    if (meant := _NICKNAMES.get(written.lower())) is not None:
        raise ValueError(f"write {written} as {meant}")
    count = len(written.split())
    if count != 5 or len(written) > _LONGEST:
        raise ValueError(f"{written[:40]!r} is not a cron expression: give five fields: {_EXAMPLE}")
    try:
        fires = next(CronSim(written, _ANY_TIME), None)
    except (CronSimError, AssertionError, ValueError) as error:
        wrong = str(error).removeprefix("Bad ").replace("-", " ") or "one of its fields"
        raise ValueError(f"{written!r} is not a cron expression: its {wrong} is wrong; give {_EXAMPLE}") from None
    for (name, highest), field in zip(_FIELDS.items(), written.split(), strict=True):
        if step := next((each for each in _STEP.findall(field) if int(each) > highest), None):
            raise ValueError(
                f"{written!r} would not fire every {step}: the {name} ends with {highest}, and begins anew; give a "
                f"step of at most {highest}"
            )
    if fires is None:
        raise ValueError(f"{written!r} never fires: no such day exists")
    return written


@dataclass(frozen=True, slots=True)
class Recurrence:
    """The firings of a cron expression, at the local times of a zone.

    A local time that happens twice, because clocks go back, fires the first time. One that is skipped fires at the next
    minute that exists, together with what fires there anyway. A firing is never later than `misfire`.
    """

    cron: str
    zone: ZoneInfo
    misfire: timedelta = MISFIRE

    def after(self, at: datetime) -> Iterator[datetime]:
        """The firings after a time, in UTC, in their order."""
        last = at
        # Asked in local times without a zone, the library has no rules of its own for clocks that change.
        for local in CronSim(self.cron, at.astimezone(self.zone).replace(tzinfo=None)):
            fires = _first_time_of(local, self.zone)
            if fires > last:
                last = fires
                yield fires

    def within(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The firings after a time, until another one inclusively."""
        for fires in self.after(after):
            if fires > until:
                return
            yield fires

    def local(self, at: datetime) -> datetime:
        """The local time of a firing."""
        return at.astimezone(self.zone)


def _first_time_of(local: datetime, zone: ZoneInfo) -> datetime:
    """The first time, in UTC, at which clocks show a local time; if they skip it, the next minute that they show."""
    first, second = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))

    def shown(at: datetime) -> datetime:
        return at.astimezone(zone).replace(tzinfo=None)

    if shown(first) == local:
        return first
    # PEP 495: for a skipped time, `second` is before the change of the clocks, and `first` after it.
    seconds = range(int((first - second).total_seconds()) + 1)
    jump = second + timedelta(seconds=bisect_left(seconds, local, key=lambda each: shown(second + timedelta(0, each))))
    return jump + timedelta(seconds=-shown(jump).second % 60)
