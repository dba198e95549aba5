"""The schedule of a row: its time zone, `not_before`, `valid_until` and calling window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from zoneinfo import ZoneInfo

from voiceflow_worker.campaigns.calls.options import CampaignOptions, Purpose
from voiceflow_worker.campaigns.calls.times import read_time, read_zone
from voiceflow_worker.finding import Finding, Remedy, Severity
from voiceflow_worker.model.flows.rules import VALIDITY_EXPIRED, read_valid_until
from voiceflow_worker.model.jobs.admission import time_problem
from voiceflow_worker.model.text.wording import in_words
from voiceflow_worker.model.window import CallWindow, first_opening


@dataclass(slots=True)
class Schedule:
    """The times of one row. Its findings have a column, but no row number yet."""

    time_zone: str | None = None
    not_before: datetime | None = None
    valid_until: datetime | None = None
    findings: list[Finding] = field(default_factory=list[Finding])


def read_schedule(
    reserved: Mapping[str, str],
    body: Mapping[str, object],
    options: CampaignOptions,
    *,
    now: datetime,
    purpose: Purpose,
) -> Schedule:
    """The times of a row.

    The column `valid_until` overrides the `validUntil` of the body. The options `valid_for` and `valid_until` replace a
    validity that is missing or has passed, and shorten a longer one. The columns `not_before` and `time_zone` override
    the options.
    """
    schedule = Schedule(time_zone=options.time_zone, not_before=options.not_before)
    zone = _zone(reserved, schedule)
    if (text := reserved.get("not_before")) is not None:
        schedule.not_before = _time(text, "not_before", zone, schedule)
    column: str | None = "valid_until"
    if (text := reserved.get("valid_until")) is not None:
        own = _time(text, "valid_until", zone, schedule)
    else:
        own = read_valid_until(body.get("validUntil"))  # a malformed time is reported with the body
        column = None
        if own is None and options.valid_for is None and options.valid_until is None:
            return schedule
    path = "$.validUntil" if column is None else None
    found = partial(Finding, column=column, path=path, code=VALIDITY_EXPIRED)
    problem = time_problem("the validity's end", own)
    if problem is not None:
        schedule.findings.append(found(message=problem))
    else:
        schedule.findings += _settle_validity(schedule, own, found, options, now=now, purpose=purpose)
    return schedule


def fit_window(schedule: Schedule, window: CallWindow, *, number: str | None, now: datetime) -> None:
    """Add a finding if the window does not open while the row is valid.

    The window applies in the time zone of the row, else of the options, else of the telephone number. The schedule
    gets this zone. A schedule with errors is not changed, nor is one whose validity has passed.
    """
    has_passed = schedule.valid_until is not None and schedule.valid_until <= now
    if number is None or has_passed or any(found.is_error for found in schedule.findings):
        return
    opening = first_opening(
        window,
        number=number,
        time_zone=schedule.time_zone,
        at=max(now, schedule.not_before or now),
        valid_until=schedule.valid_until,
    )
    if opening.problem is not None:
        schedule.findings.append(opening.problem)
    schedule.time_zone = opening.time_zone


def _zone(reserved: Mapping[str, str], schedule: Schedule) -> ZoneInfo | None:
    name = reserved.get("time_zone", schedule.time_zone)
    if name is None:
        return None
    try:
        zone = read_zone(name)
    except ValueError as error:
        schedule.findings.append(Finding(column="time_zone", message=str(error)))
        return None
    schedule.time_zone = zone.key
    return zone


def _time(text: str, column: str, zone: ZoneInfo | None, schedule: Schedule) -> datetime | None:
    try:
        moment = read_time(text, zone=zone)
        problem = time_problem(column, moment) if column == "not_before" else None
        if problem is None:
            return moment
        schedule.findings.append(Finding(column=column, message=problem))
    except ValueError as error:
        # An unknown zone was reported already.
        if zone is not None or not any(found.column == "time_zone" for found in schedule.findings):
            schedule.findings.append(Finding(column=column, message=str(error)))
    return None


def _settle_validity(
    schedule: Schedule,
    own: datetime | None,
    found: Callable[..., Finding],
    options: CampaignOptions,
    *,
    now: datetime,
    purpose: Purpose,
) -> Iterator[Finding]:
    offered = options.valid_until
    if options.valid_for is not None:
        offered = max(now, schedule.not_before or now) + options.valid_for
    if offered is not None:
        schedule.valid_until = offered if own is None or own <= now else min(own, offered)
    else:
        schedule.valid_until = own
        if own is not None and own <= now:
            severity = Severity.WARNING if purpose is Purpose.CHECK else Severity.ERROR
            expired = f"the validity period expired at {in_words(own)}; {Remedy.GIVE_VALIDITY}"
            yield found(severity=severity, message=expired, remedy=Remedy.GIVE_VALIDITY)
            return
    begin, end = schedule.not_before, schedule.valid_until
    if begin and end and begin >= end:
        yield found(
            message=f"the validity ends at {in_words(end)}, but the call may not be sent before {in_words(begin)}; "
            "give a later valid_until or an earlier not_before"
        )
