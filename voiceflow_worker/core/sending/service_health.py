"""How 8x8 has treated the POSTs of one worker lately."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from voiceflow_worker.core.base.background import Task, fault_in_words
from voiceflow_worker.core.base.clock import ahead_of_8x8, clock_of_worker
from voiceflow_worker.core.ports import Clock
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind
from voiceflow_worker.model.text.wording import count_of, in_words

SLOW = 5.0
"""Seconds after which an answer of 8x8 is slow, and after which one is missed while none comes."""
CALM = 15.0
"""Seconds after which a trouble with 8x8 is over, once POSTs succeed that were sent later than what met it."""
FORGOTTEN = 60.0
"""Seconds after which a trouble with 8x8 is over if no POST meets it, because none is sent."""
HELD_FOR = 360.0
"""The same for a trouble that puts calls in doubt: the queue then holds itself, for up to five minutes."""
_LASTS = {Task.SILENT: HELD_FOR, Task.ERRORS: HELD_FOR, Task.REFUSED: float("inf"), Task.CLOCK_OFF: float("inf")}


@dataclass(frozen=True, slots=True)
class _Trouble:
    """What POSTs have met since a time: so many, the last of them sent at `sent_at`. It is told until `until`."""

    since: datetime
    sent_at: float
    until: float
    error: str
    count: int = 1


class ServiceHealth:
    """How 8x8 has treated the POSTs of one worker lately. A POST counts by the time at which it was sent.

    The Date of a clear answer also shows whether the clock is off by more than `clock_skew`. `unanswered` gives the
    times at which the POSTs of now were sent.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        clock_skew: timedelta = timedelta(seconds=10),
        unanswered: Callable[[], Iterable[float]] = tuple,
    ) -> None:
        self._clock = clock
        self._clock_skew = clock_skew
        self._unanswered = unanswered
        self._troubles: dict[Task, _Trouble] = {}
        self._good = self._answered = float("-inf")
        self._wall = 0.0

    def note(self, verdict: Verdict, sent_at: float) -> None:
        """Note the verdict on a POST that was sent at this monotonic time."""
        now, error, lasts = self._clock.monotonic(), verdict.message, 0.0
        if verdict.http_status is not None:
            self._answered = now
        is_good = verdict.http_status is not None and verdict.kind is not VerdictKind.UNKNOWN and now - sent_at <= SLOW
        if is_good:
            self._good = max(self._good, sent_at)
        if verdict.is_clear and verdict.server_date is not None:
            self._look_at_clock(verdict.server_date, sent_at)
        if verdict.hold is not None and verdict.hold.until_opened:
            trouble, error = Task.REFUSED, verdict.hold.reason
        elif verdict.kind is VerdictKind.UNKNOWN:
            trouble = Task.SILENT if verdict.http_status is None else Task.ERRORS
        elif verdict.hold is not None and verdict.http_status is not None:
            trouble, error = Task.THROTTLED, verdict.hold.reason
            lasts = FORGOTTEN if verdict.hold.retry_after is None else verdict.hold.retry_after.total_seconds()
        elif is_good:
            return
        elif verdict.http_status is not None:
            trouble, error = Task.SLOW, f"its last answer took {now - sent_at:.0f} s"
        elif verdict.is_outage:
            trouble = Task.UNREACHABLE
        else:
            return
        self._met(trouble, error, sent_at, lasts=lasts)

    def _look_at_clock(self, theirs: datetime, sent_at: float) -> None:
        now = self._clock.now()
        before = now - timedelta(seconds=self._clock.monotonic() - sent_at)
        ahead = ahead_of_8x8(theirs, before=before, after=now)
        if abs(ahead) > self._clock_skew:
            self._wall = self._ahead_of_monotonic()
            self._met(Task.CLOCK_OFF, clock_of_worker(ahead), sent_at)
        else:
            self._troubles.pop(Task.CLOCK_OFF, None)

    def _ahead_of_monotonic(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()

    def _met(self, trouble: Task, error: str, sent_at: float, *, lasts: float = 0.0) -> None:
        now, known = self._clock.monotonic(), self._now().get(trouble)
        until = now + max(_LASTS.get(trouble, FORGOTTEN), lasts)
        if known is None:
            self._troubles[trouble] = _Trouble(self._time_of(sent_at), sent_at, until, error)
        else:
            newest = max(sent_at, known.sent_at)
            self._troubles[trouble] = _Trouble(known.since, newest, max(until, known.until), error, known.count + 1)

    def _time_of(self, monotonic: float) -> datetime:
        return self._clock.now() - timedelta(seconds=self._clock.monotonic() - monotonic)

    @property
    def failing(self) -> dict[str, str]:
        """The troubles of now, each with its beginning and the last error."""
        troubles = self._now()
        found: dict[str, str] = {name: fault_in_words(each.since, each.error) for name, each in troubles.items()}
        now, silent = self._clock.monotonic(), troubles.get(Task.SILENT)
        waiting = [at for at in self._unanswered() if min(now - at, now - self._answered) > SLOW]
        if waiting or silent is not None:
            since = self._time_of(min(waiting)) if silent is None else silent.since
            missed = count_of(len(waiting) + (0 if silent is None else silent.count), "request")
            last = "" if silent is None else f"; the last: {silent.error}"
            found[Task.SILENT] = f"{missed} without an answer since {in_words(since)}{last}"
        return found

    def _now(self) -> dict[Task, _Trouble]:
        now = self._clock.monotonic()
        if abs(self._ahead_of_monotonic() - self._wall) > self._clock_skew.total_seconds():
            self._troubles.pop(Task.CLOCK_OFF, None)  # somebody has set the clock
        self._troubles = {
            name: each
            for name, each in self._troubles.items()
            if now < each.until
            and (name is Task.THROTTLED or not (self._good > each.sent_at and now - each.sent_at > CALM))
        }
        return self._troubles
