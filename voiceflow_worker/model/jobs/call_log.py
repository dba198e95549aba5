"""Rows of the 8x8 log export (voice log export reference), and the rules that match them to POSTs.

No column has the `clientRequestId`, so a row is matched by source, destination and time. An uncertain match settles
nothing, and a call with an uncertain match does not count as missing.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from voiceflow_worker.model.jobs.job import Job, Post
from voiceflow_worker.model.numbers.phone import Likeness, likeness
from voiceflow_worker.model.reports.events import Direction, Payload, read_direction, read_field, read_status
from voiceflow_worker.model.reports.outcome import CallLeg, Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import NOBODY_CALLED
from voiceflow_worker.model.text.wording import count_of

# ruff: noqa: RUF009 (`read_field` makes the field of a dataclass)


def _seconds(payload: Payload, name: str) -> float | None:
    found = payload.duration(name, unit=timedelta(seconds=1))
    return None if found is None else found.total_seconds()


def _sip_code(payload: Payload, name: str) -> int | None:
    found = re.match(r"\d{3}\b", payload.text(name) or "", re.ASCII)  # also `404 Not Found`
    return None if found is None else int(found[0])


_TEXT, _TIME = Payload.text, Payload.moment


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRow:
    """One row of the log export: one leg of a session. Missing or unreadable values are None.

    `status` is the status of the session, and `call_status` that of the leg. Times without a zone are UTC.
    """

    session_id: str | None = read_field(_TEXT, "SessionId")
    call_id: str | None = read_field(_TEXT, "CallId")
    direction: Direction | None = read_field(read_direction, "Direction")
    source: str | None = read_field(_TEXT, "SourceEndpoint")
    destination: str | None = read_field(_TEXT, "DestinationEndpoint")
    initiated_at: datetime | None = read_field(_TIME, "InitiatedAt")
    connected_at: datetime | None = read_field(_TIME, "ConnectedAt")
    disconnected_at: datetime | None = read_field(_TIME, "DisconnectedAt")
    seconds: float | None = read_field(_seconds, "DurationInSec")
    status: SessionStatus | None = read_field(read_status, "SessionStatus")
    status_text: str | None = read_field(_TEXT, "SessionStatus")
    call_status: str | None = read_field(_TEXT, "CallStatus")
    mos: float | None = read_field(Payload.decimal, "MOS")
    sip_code: int | None = read_field(_sip_code, "SipStatus")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedCalls:
    """The rows of the call log for a range of time, both ends included."""

    rows: Sequence[ExportRow]
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time, both ends included."""

    since: datetime
    until: datetime

    def holds(self, at: datetime) -> bool:
        """Return whether a time lies in this window."""
        return self.since <= at <= self.until

    def overlaps(self, other: Window) -> bool:
        """Return whether this window and `other` have a time in common."""
        return self.since <= other.until and other.since <= self.until


def window_of(post: Post, *, skew: timedelta) -> Window:
    """Return the window in which the call of a POST can have been dialled, by clocks that differ by `skew`."""
    return Window(post.began_at - skew, post.valid_until + skew)


@dataclass(frozen=True, slots=True)
class LoggedSession:
    """The rows of one session. A row without a session id counts as a session of its own."""

    session_id: str | None
    legs: tuple[ExportRow, ...]

    @property
    def outcome(self) -> Outcome | None:
        """Outcome, if all rows agree on a known status. Rows of a session that has not ended have no status."""
        status = self.legs[0].status
        if status is None or any(leg.status is not status for leg in self.legs):
            return None
        began = [leg.initiated_at for leg in self.legs if leg.initiated_at is not None]
        ended = [leg.disconnected_at for leg in self.legs if leg.disconnected_at is not None]
        started_at, ended_at = min(began, default=None), max(ended, default=None)
        lasted = (ended_at - started_at).total_seconds() if started_at and ended_at else None
        return Outcome(
            status=status,
            status_text=self.legs[0].status_text or status.value,
            session_id=self.session_id,
            started_at=started_at,
            ended_at=ended_at,
            seconds=lasted,
            legs=tuple(map(_call_leg, sorted(self.legs, key=_dialled))),
            is_partial=len(self.legs) < 2,  # rows come late
        )

    def may_be_of(self, job: Job, post: Post) -> bool:
        """Return whether a row of this session shows a number that the call of this POST may have made ring."""
        ours = job.parties_of(post)
        return any(likeness(leg.destination, number) is not Likeness.OTHER for leg in self.legs for number in ours)

    def likeness(self, source: str, number: str, window: Window) -> Likeness:
        """Return how well this session matches a POST in this window that called `number` from `source`.

        Only the first leg can give SAME. In a later leg, `number` may be the second party of another call.
        """
        fits = [(_leg_likeness(leg, source, number, window), leg.initiated_at) for leg in self.legs]
        best = max(fit for fit, _ in fits)
        times = [at for _, at in fits if at is not None]
        is_clear = self.session_id is not None and len(times) == len(fits)
        if best is Likeness.SAME and is_clear and all(fit is best for fit, at in fits if at == min(times)):
            return best
        return min(best, Likeness.MAYBE)


def _dialled(row: ExportRow) -> tuple[bool, float]:
    """Return the sort key of a row in its session: by time; rows without a time come last."""
    return row.initiated_at is None, row.initiated_at.timestamp() if row.initiated_at is not None else 0.0


def _call_leg(row: ExportRow) -> CallLeg:
    return CallLeg(
        call_id=row.call_id,
        source=row.source,
        destination=row.destination,
        status=row.call_status,
        initiated_at=row.initiated_at,
        connected_at=row.connected_at,
        disconnected_at=row.disconnected_at,
        seconds=row.seconds,
        mos=row.mos,
        sip_code=row.sip_code if row.connected_at is None and not row.seconds else None,
    )


def _leg_likeness(leg: ExportRow, source: str, number: str, window: Window) -> Likeness:
    if leg.direction is Direction.INBOUND:
        return Likeness.OTHER
    if leg.initiated_at is None:
        in_time = Likeness.MAYBE
    else:
        in_time = Likeness.SAME if window.holds(leg.initiated_at) else Likeness.OTHER
    return min(in_time, likeness(leg.source, source), likeness(leg.destination, number))


class LoggedSessions:
    """The sessions of a log, found by their id or by their time."""

    def __init__(self, rows: Iterable[ExportRow]) -> None:
        legs: dict[str, list[ExportRow]] = {}
        sessions: list[LoggedSession] = []
        for row in rows:
            if row.session_id is None:
                sessions.append(LoggedSession(None, (row,)))
            else:
                legs.setdefault(row.session_id, []).append(row)
        self._by_id = {session_id: LoggedSession(session_id, tuple(each)) for session_id, each in legs.items()}
        sessions += self._by_id.values()
        timed = [(leg.initiated_at, index) for index, each in enumerate(sessions) for leg in each.legs]
        known = sorted((at, index) for at, index in timed if at is not None)
        self._times = [at for at, _ in known]
        self._indexes = [index for _, index in known]
        self._timeless = {index for at, index in timed if at is None}
        self.sessions = sessions

    def get(self, session_id: str) -> LoggedSession | None:
        """Return the session with this id."""
        return self._by_id.get(session_id)

    def candidates(self, source: str, number: str, window: Window) -> list[tuple[LoggedSession, Likeness]]:
        """Return the sessions that match, or may match, a POST in this window."""
        first, behind = bisect_left(self._times, window.since), bisect_right(self._times, window.until)
        near = sorted({*self._indexes[first:behind], *self._timeless})
        compared = [(self.sessions[index], self.sessions[index].likeness(source, number, window)) for index in near]
        return [(session, fit) for session, fit in compared if fit is not Likeness.OTHER]


def may_own(post: Post, window: Window, *, skew: timedelta) -> bool:
    """Return whether a row in this window could belong to this POST, which has no session."""
    return post.session_id is None and post.verdict not in NOBODY_CALLED and window_of(post, skew=skew).overlaps(window)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The session of a POST in a log, or why none was found."""

    session: LoggedSession | None = None
    reason: str = ""


def matched(
    candidates: Iterable[tuple[LoggedSession, Likeness]], *, taken: Collection[str], competing: Sequence[str]
) -> Match:
    """Return the session of a POST, if exactly one session matches and no other may match.

    `taken` are sessions of other POSTs; `competing` names other POSTs to which the session could belong.
    """
    free = [(session, fit) for session, fit in candidates if session.session_id not in taken]
    unclear = sum(1 for _, fit in free if fit is not Likeness.SAME)
    if not free:
        return Match(reason="no row found in the log of 8x8; one may come later")
    if unclear:
        return Match(
            reason=f"{count_of(unclear, 'session')} in the log of 8x8 might be this call, but no row proves it"
        )
    if len(free) > 1:
        return Match(reason=f"{len(free)} sessions in the log of 8x8 match this call, which can have only one")
    if competing:
        return Match(reason=f"the session in the log of 8x8 may also belong to {', '.join(competing)}")
    return Match(session=free[0][0])
