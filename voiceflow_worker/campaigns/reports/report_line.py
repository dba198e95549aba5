"""One line of a report: a call, with its fields as text."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.text.moment import rfc3339
from voiceflow_worker.model.text.printable import printable

_NO_DATA: Mapping[str, object] = {}


class ReportLine(NamedTuple):
    """One call: every field but `data` is a string, empty if missing. Times are RFC 3339.

    `seconds` is the duration of the call. `price` and `billed_seconds` are totals of all its sessions, from 8x8's log.
    `data` has the columns of the campaign's own file, or other data that was stored with the call. Control characters
    are escaped, because reports are also read in terminals.
    """

    destination: str
    state: str
    outcome: str
    code: str
    message: str
    answer: str
    digits: str
    seconds: str
    price: str
    currency: str
    billed_seconds: str
    started_at: str
    ended_at: str
    attempt: str
    source: str
    unique_key: str
    batch_id: str
    created_at: str
    valid_until: str
    session_id: str
    job_id: str
    data: Mapping[str, object] = _NO_DATA


COLUMNS = ReportLine._fields[:-1]
"""The columns of every report: all fields but `data`."""


def report_line(job: Job, *, zone: ZoneInfo | None = None) -> ReportLine:
    """The line of a job, with its newest outcome. Times are in `zone`, by default in UTC.

    Without an outcome, `code` is that of 8x8's answer to the last POST, and `message` is the reason for the job's
    state, else the message of that answer.
    """
    outcome, post = job.outcome, job.last_post
    status = ""
    code = post.code if post is not None else None
    message = job.reason or (post.message if post is not None else None)
    if outcome is not None:
        status = outcome.status.value if outcome.status is not None else outcome.status_text
        code, message = outcome.code, outcome.message or job.reason
    cost = job.cost
    billed = [
        post.charge.billed_seconds for post in job.posts if post.charge and post.charge.billed_seconds is not None
    ]
    return ReportLine(
        destination=job.destination,
        state=job.state.value,
        outcome=_text(status),
        code=_text(code),
        message=_text(message),
        answer=_text(job.answer),
        digits=_text(job.digits),
        seconds=_text(f"{outcome.seconds:g}" if outcome and outcome.seconds is not None else None),
        price=_text(", ".join(str(price) for price in cost.values())),
        currency=_text(", ".join(cost)),
        billed_seconds=_text(f"{sum(billed):g}" if billed else None),
        started_at=_time(outcome.started_at if outcome else None, zone),
        ended_at=_time(outcome.ended_at if outcome else None, zone),
        attempt=str(job.attempt),
        source=job.source,
        unique_key=_text(job.unique_key),
        batch_id=_text(job.batch_id),
        created_at=_time(job.created_at, zone),
        valid_until=_time(job.valid_until, zone),
        session_id=_text(job.session_id),
        job_id=job.id,
        data=job.data or {},
    )


def _time(at: datetime | None, zone: ZoneInfo | None) -> str:
    if at is None or zone is None:
        return _text(rfc3339(at))
    return at.astimezone(zone).isoformat(timespec="seconds")


def _text(value: object) -> str:
    return "" if value is None else printable(str(value))
