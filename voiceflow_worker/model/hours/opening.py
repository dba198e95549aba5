"""The first time at which a new call may ring, by its calling window and the time zone of its number."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Finding, Remedy
from voiceflow_worker.model.flows.validity import VALIDITY_EXPIRED
from voiceflow_worker.model.hours.window import CallWindow
from voiceflow_worker.model.numbers.time_zone import zone_named, zone_of_number
from voiceflow_worker.model.text.moment import in_words

_MOST_NAMES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """The time from which a call may ring, and the time zone of its window. A call with a `problem` is not enqueued."""

    at: datetime
    time_zone: str | None
    problem: Finding | None = None


def first_opening(
    window: CallWindow, *, number: str, time_zone: str | None, at: datetime, valid_until: datetime | None
) -> Opening:
    """The first time, from `at` on, at which a call to this number may ring.

    The hours of the window are local time in `time_zone`. Without `time_zone`, they are local time at the number, if
    its digits determine the time zone. Never raises: problems are findings.
    """
    name, problem = _zone_for(number, time_zone)
    zone = zone_named(name) if name is not None else None
    if zone is None:
        return Opening(at=at, time_zone=time_zone, problem=problem)
    try:
        opens = window.opens(at, zone)
    except InvalidInputError as error:
        return Opening(at=at, time_zone=name, problem=Finding(message=str(error)))
    if opens is None:
        message = f"its calling window ({window}) does not open within a year; give other hours or days"
        if window.holidays:
            message += ". Or the `holidays` library on this machine lacks the year of the call: install a newer one"
        return Opening(at=at, time_zone=name, problem=Finding(message=message))
    if valid_until is not None and opens >= valid_until:
        message = (
            f"its calling window ({window}) opens in {name} at {in_words(opens)}, but its validity ends at "
            f"{in_words(valid_until)}; {Remedy.GIVE_VALIDITY}, or a wider window"
        )
        expired = Finding(message=message, code=VALIDITY_EXPIRED, remedy=Remedy.GIVE_VALIDITY)
        return Opening(at=opens, time_zone=name, problem=expired)
    return Opening(at=opens, time_zone=name)


def _zone_for(number: str, time_zone: str | None) -> tuple[str | None, Finding | None]:
    if time_zone is not None:
        message = f"{time_zone[:40]!r} is not a time zone; give a name such as Asia/Singapore"
        return time_zone, Finding(column="time_zone", message=message)
    found = zone_of_number(number)
    if found.zone is not None:
        return found.zone, None
    if found.among:
        names = ", ".join(found.among[:_MOST_NAMES])
        more = f" and {len(found.among) - _MOST_NAMES} more" if len(found.among) > _MOST_NAMES else ""
        where = f"may be in several time zones ({names}{more})"
    else:
        where = "is in an unknown time zone"
    message = (
        f"{number} {where}, so the local time for its calling window is not known: {Remedy.NAME_TIME_ZONE} (for "
        "example America/New_York)"
    )
    return None, Finding(column="time_zone", message=message, remedy=Remedy.NAME_TIME_ZONE)
