"""Recurring times: a cron expression in a time zone, each of whose runs starts once, whatever the clocks do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

MISFIRE = timedelta(minutes=15)
"""How late a run may start by default."""
_EXAMPLE = "minute, hour, day of the month, month and day of the week, such as 0 9 * * mon-fri"
_LONGEST = 200
_FIELDS = {"minute": 59, "hour": 23, "day of the month": 31, "month": 12, "day of the week": 7}
"""The fields, each with its highest value."""
_STEP = re.compile(r"/(\d+)")
_ANY_TIME = datetime(2020, 1, 1)  # noqa: DTZ001 (a local time of any zone)


def read_cron(text: str) -> str:
    """The cron expression in a text, in its five fields. Raises ValueError for any other text, or if it never runs."""
    written = " ".join(text.split())
    count = len(written.split())
    if count != 5 or len(written) > _LONGEST:
        raise ValueError(f"{written[:40]!r} is not a cron expression: give five fields: {_EXAMPLE}")
    try:
        runs_at = next(_simulated(written, _ANY_TIME), None)
    except (CronSimError, AssertionError, ValueError) as error:
        wrong = str(error).removeprefix("Bad ").replace("-", " ") or "one of its fields"
        raise ValueError(f"{written!r} is not a cron expression: its {wrong} is wrong; give {_EXAMPLE}") from None
    for (name, highest), field in zip(_FIELDS.items(), written.split(), strict=True):
        if step := next((each for each in _STEP.findall(field) if int(each) > highest), None):
            raise ValueError(
                f"{written!r} would not run every {step}: the {name} ends with {highest}, and begins anew; give a "
                f"step of at most {highest}"
            )
    if runs_at is None:
        raise ValueError(f"{written!r} never runs: no such day exists")
    return written


@dataclass(frozen=True, slots=True)
class Recurrence:
    """The runs of a cron expression, at the local times of a zone. A run never starts later than `misfire`.

    Its times are those of Debian's cron, which cronsim has: with a `*` at the beginning of the minutes or the hours, it
    runs whenever clocks show its minutes, over changes of the clocks too. Otherwise a local time that happens twice,
    because clocks go back, has one run, at the first time; one that is skipped has its run at the next minute.
    """

    cron: str
    zone: ZoneInfo
    misfire: timedelta = MISFIRE

    def after(self, at: datetime) -> Iterator[datetime]:
        """The runs after a time, in UTC, in their order."""
        for local in _simulated(self.cron, at.astimezone(self.zone)):
            if (found := local.astimezone(UTC)) > at:
                yield found

    def within(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The runs after a time, until another one inclusively."""
        for at in self.after(after):
            if at > until:
                return
            yield at

    def last(self, until: datetime, *, since: datetime, count: int) -> list[datetime]:
        """The last runs after a time, until another one inclusively: so many at most."""
        span = timedelta(hours=1)
        while True:
            begin = max(since, until - span)
            found = list(self.within(begin, until))
            if len(found) >= count or begin == since:
                return found[-count:]
            span *= 4

    def local(self, at: datetime) -> datetime:
        """The local time of a run."""
        return at.astimezone(self.zone)

    def batch_id(self, name: str, at: datetime) -> str:
        """The name of the batch of a run: the schedule and the local time, and `-2` for the second time it is shown."""
        local = self.local(at)
        return f"{name}-{local:%Y-%m-%d-%H%M}{'-2' * local.fold}"

    def in_words(self) -> str:
        """When it runs, in words."""
        words = _simulated(self.cron, _ANY_TIME).explain()
        return f"{words[0].lower()}{words[1:]}"


def _simulated(cron: str, after: datetime) -> CronSim:
    """The times of an expression after another one. Raises CronSimError, AssertionError, ValueError."""
    return CronSim(cron.lower(), after)
