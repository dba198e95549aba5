"""The rows of a campaign and their enqueueing. Each row is called once per task instance, not once per try.

A row is identified by its own key, or else by its phone number. Several rows with one number are told apart by their
content: see `assigned`. A later try enqueues calls for new rows, and cancels waiting calls of removed rows.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider.calls.failures import SECOND_RUN, LateTaskError, has_none
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.made_calls import (
    REMOVED,
    REPLACED,
    TOGETHER,
    CallsChangedError,
    Condition,
    MadeCall,
    called_key,
    called_number,
    calls_made,
    cancel_calls,
    condition_of,
    lost_redial,
    resume_redial,
    unsent_ids,
)
from airflow_provider.calls.people import TaskRows
from airflow_provider.calls.task_record import record_batch, recorded_batches, refuse_unknown_calls
from voiceflow_worker import CallQueue, Finding, InvalidInputError, Job, types
from voiceflow_worker.model.jobs.again import Again, states_of

if TYPE_CHECKING:
    from voiceflow_worker import CampaignOptions
    from voiceflow_worker.types import Actor, EnqueueReport


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedRow:
    """A row that can be called.

    `place` is the index in the list. `called` identifies the row by its own key, or else by its telephone number.
    `digest` is a digest of the row's content.
    """

    place: int
    called: str
    digest: str


@dataclass(slots=True)
class CheckedRows:
    """The result of a check: the rows that can be called, counts of duplicate and of bad rows, and the errors."""

    requested: list[RequestedRow] = field(default_factory=list[RequestedRow])
    duplicates: int = 0
    rejected: int = 0
    errors: list[Finding] = field(default_factory=list[Finding])


def check_rows(rows: Sequence[Mapping[str, Any]], options: CampaignOptions, *, now: datetime) -> CheckedRows:
    """Check rows. Raises CampaignFileError if the template cannot be used.

    The calls of a task form one batch, so a row that names another batch is bad.
    """
    from voiceflow_worker import open_campaign

    checked = CheckedRows()
    for read in open_campaign(rows, options, now=now):
        errors = [finding for finding in read.findings if finding.is_error]
        if read.request is not None and read.request.batch_id != options.batch_id:
            message = f"must be empty, because the batch of this task is {options.batch_id}"
            errors.append(Finding(row=read.raw.number, column="batch_id", message=message))
        reported = {finding.column for finding in errors}
        errors += [
            Finding(
                row=read.raw.number, column=str(name), message=f"has the word None ({value!r}): a value was missing"
            )
            for name, value in rows[read.raw.number - 1].items()
            if isinstance(value, str) and has_none(value) and str(name) not in reported
        ]
        if errors:
            checked.errors += errors
            checked.rejected += 1
        elif read.request is None or read.number is None:
            checked.duplicates += 1
        else:
            called = called_key(read.own_key) if read.own_key is not None else called_number(read.number)
            checked.requested.append(RequestedRow(place=read.raw.number - 1, called=called, digest=read.digest))
    return checked


log = logging.getLogger(__name__)

MOST_NAMED = 20
"""The largest number of bad rows that an error lists."""
_CALLED_BY_SIBLING = (
    "another instance of this task calls the number of this row with a different text; give each row a unique_key"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueuedRows:
    """Counts of rows. `duplicates` are rows that repeat another row or have a call already; `rejected` are bad rows."""

    enqueued: int
    duplicates: int
    rejected: int


@dataclass(slots=True)
class _Plans:
    """The planned actions.

    `kept` has the ids of calls that still have a row, and `outdated` those of them that wait and are to be replaced. A
    row in `make` gets a new call, under the key beside it.
    """

    kept: set[str] = field(default_factory=set[str])
    outdated: list[str] = field(default_factory=list[str])
    make: list[tuple[RequestedRow, str]] = field(default_factory=list[tuple[RequestedRow, str]])
    differing: int = 0
    """The number of rows that were changed, but keep the call that was enqueued before the change."""
    resume: list[Job] = field(default_factory=list[Job])
    """Calls whose redials a task cancelled when it was stopped."""
    cancelled: int = 0
    """The number of rows whose call a person cancelled: nobody is called for them."""
    refused: list[RequestedRow] = field(default_factory=list[RequestedRow])
    """The rows whose number another instance of the task calls with another text."""


async def enqueue_rows(
    queue: CallQueue,
    given: TaskRows,
    options: CampaignOptions,
    identity: TaskIdentity,
    *,
    skip_bad: bool,
    again: Again = False,
    saved: Mapping[str, Any] | None = None,
) -> EnqueuedRows:
    """Enqueue calls for rows without a call, and cancel waiting calls of removed rows.

    Without `skip_bad`, one bad row prevents all new calls, and CampaignFileError is raised with the bad rows. With it,
    the error is raised only if no row can be called. `options` may name the batch. Airflow's task state (`saved`) names
    earlier calls; raises InvalidInputError if the store does not have them. Raises it too if new calls would repeat
    earlier ones of other runs or campaigns, unless `again` is True. Raises LateTaskError, if the validity in the
    options has passed and rows have no call, and CallsChangedError and IntakeError.
    """
    rows, batch_id = given.rows, options.batch_id or identity.batch_id()
    checked, now = CheckedRows(), queue.store.clock.now()
    late = options.valid_until if options.valid_until is not None and options.valid_until <= now else None
    if rows:
        # Rows of a late task may have calls from an earlier try.
        checked = check_rows(rows, options if late is None else replace(options, valid_until=None), now=now)
    checked.errors = [*given.unreadable, *map(given.renumbered, checked.errors)]
    checked.rejected += len(given.unreadable)
    batches = await recorded_batches(queue, identity)
    if rows:
        if not batches:
            refuse_unknown_calls(saved, store=queue.store.url)
        await record_batch(queue, identity, batch_id)
    # Read before the plan, so that calls which another try enqueues from now on are not cancelled.
    unsent = await unsent_ids(queue, {*batches, batch_id}, identity)
    plans = await _planned(queue, identity, checked.requested, batch_id, again)
    for row in plans.refused:
        checked.errors.append(Finding(row=given.number(row.place), message=_CALLED_BY_SIBLING))
    checked.rejected += len(plans.refused)
    called = len(checked.requested) - len(plans.refused)
    # This comes before the check for bad rows. The try with corrected rows enqueues again what it needs.
    unwanted = [job_id for job_id in unsent if job_id not in plans.kept]
    if removed := await cancel_calls(queue, unwanted, reason=REMOVED):
        log.info("%s calls were cancelled, because their rows were removed", len(removed))
    _log_errors(checked.errors)
    if checked.rejected and (not skip_bad or not called):
        raise _bad_rows(checked, total=len(rows) + len(given.unreadable))
    if late is not None and (new := len(plans.make) + len(plans.outdated)):
        raise LateTaskError(late, calls=new)
    await _resume(queue, plans.resume)
    if plans.outdated:
        await cancel_calls(queue, plans.outdated, reason=REPLACED)
        plans = await _planned(queue, identity, checked.requested, batch_id, again)
    if differing := plans.differing + len(plans.outdated):  # calls that left meanwhile
        log.warning("%s rows were changed after their calls were enqueued; no new calls are made for them", differing)
    if plans.cancelled:
        log.warning(
            "%s rows have a call that a person cancelled, and are not called (again='cancelled')", plans.cancelled
        )
    options = replace(options, data={**(options.data or {}), **identity.data()}, own_data=identity.own_data())
    by = types.Actor(on="Airflow", login=identity.in_words)
    report = await _make(queue, plans.make, given, options, again=again, by=by) if plans.make else None
    # A try that was killed while it stored its calls has left them staged. Those that still have a row may go on now.
    for each in {*batches, batch_id}:
        await queue.release_staged(each, among=plans.kept)
    enqueued, duplicates, rejected = (report.enqueued, report.duplicates, report.rejected) if report else (0, 0, 0)
    return EnqueuedRows(
        enqueued=enqueued,
        duplicates=called - len(plans.make) + checked.duplicates + duplicates,
        rejected=checked.rejected + rejected,
    )


def assigned(digests: Sequence[str], calls: Iterable[MadeCall]) -> list[MadeCall | None]:
    """Return the call that each row has already, or None, in the order of the rows.

    A row with the same content as a call gets this call. The other rows get the remaining calls, beginning with calls
    that rang, so that a corrected text does not ring again. Calls that a task cancelled belong to no row.
    """
    standing = [call for call in calls if call.condition is not Condition.CANCELLED_BY_TASK]
    left = sorted(standing, key=lambda call: (call.condition.value, call.place))
    found: list[MadeCall | None] = []
    for digest in digests:
        same = next((call for call in left if call.digest == digest), None)
        if same is not None and not same.is_siblings:
            left.remove(same)  # else any number of rows may share it
        found.append(same)
    others = iter([call for call in left if not call.is_siblings])
    return [call or next(others, None) for call in found]


async def _planned(
    queue: CallQueue, identity: TaskIdentity, requested: Sequence[RequestedRow], batch_id: str, again: Again
) -> _Plans:
    """Return the planned action for each row. Nothing is changed yet."""
    by_called: defaultdict[str, list[RequestedRow]] = defaultdict(list)
    for row in requested:
        by_called[row.called].append(row)
    note = partial(_noted, identity, batch_id, again)
    made = await calls_made(queue, identity, {called: len(rows) for called, rows in by_called.items()}, note=note)
    plans = _Plans()
    for called, rows in by_called.items():
        calls = made[called]
        following = calls[-1].place + 1 if calls else 0
        is_siblings = any(call.is_siblings and call.condition is not Condition.CANCELLED_BY_TASK for call in calls)
        for row, call in zip(rows, assigned([row.digest for row in rows], calls), strict=True):
            same = call is not None and call.digest == row.digest
            if is_siblings and not same:
                plans.refused.append(row)
                continue
            if call is not None:
                plans.kept.add(call.job_id)
                if call.resumes is not None:
                    plans.resume.append(call.resumes)
            is_new = call is None or call.is_again or (call.condition is Condition.ENDED and not same)
            if call is None or is_new:
                plans.make.append((row, identity.call_key(called, following)))
                following += 1
            elif call.condition is Condition.WAITING and not (same and (call.is_own or call.is_siblings)):
                plans.outdated.append(call.job_id)
            else:
                plans.differing += not same
                plans.cancelled += call.condition is Condition.CANCELLED
    return plans


def _noted(identity: TaskIdentity, batch_id: str, again: Again, place: int, job: Job) -> MadeCall:
    is_mine = batch_id == identity.batch_id() or identity.owns(job.data)
    condition = condition_of(job)
    has_ended = condition in {Condition.ENDED, Condition.CANCELLED}
    if identity.is_of_other_run(job.data):
        # Its call stays as it is. If it ended without a ring, this run calls.
        no_ring = {Condition.ENDED, Condition.CANCELLED_BY_TASK}
        condition = Condition.CANCELLED_BY_TASK if condition in no_ring else Condition.RANG
    return MadeCall(
        place=place,
        job_id=job.id,
        digest=job.body_digest,
        condition=condition,
        is_own=job.batch_id == batch_id and is_mine,
        is_siblings=identity.is_sibling_of(job.data),
        is_again=has_ended and job.state in states_of(again),
        resumes=job if lost_redial(job) and not identity.is_of_other_run(job.data) else None,
    )


async def _resume(queue: CallQueue, calls: Sequence[Job]) -> None:
    """Go on with the redials that an earlier try cancelled when it was stopped."""
    late = 0
    for start in range(0, len(calls), TOGETHER):
        resumed = await asyncio.gather(*(resume_redial(queue, job) for job in calls[start : start + TOGETHER]))
        late += resumed.count(None)
    if calls:
        log.info("redials that were cancelled when the task was stopped: %s go on", len(calls) - late)
    if late:
        log.warning("%s redials are not made any more, because their validity or calling window has passed", late)


async def _make(
    queue: CallQueue,
    make: Sequence[tuple[RequestedRow, str]],
    given: TaskRows,
    options: CampaignOptions,
    *,
    again: Again,
    by: Actor,
) -> EnqueueReport:
    from voiceflow_worker import enqueue_rows as enqueue_new

    in_order = sorted(make, key=lambda each: each[0].place)
    keys = {line: key for line, (_, key) in enumerate(in_order, 1)}
    rows = [given.rows[row.place] for row, _ in in_order]
    options = replace(options, keys=keys)
    report = await enqueue_new(queue, rows, options, skip_bad=True, again=again, by=by)
    if report.before:
        repeated = "; ".join(map(str, report.before))
        other = ". A number is called once in a batch: its other words need another batch_id"
        is_same_batch = any(found.age is None for found in report.before)
        raise InvalidInputError(f"{repeated}. {SECOND_RUN}{other if is_same_batch else ''}")
    errors = [found for found in report.findings if found.is_error]
    if errors:
        _log_errors([replace(found, row=given.number(in_order[(found.row or 1) - 1][0].place)) for found in errors])
        raise CallsChangedError(
            f"{len(errors)} of {report.rows} rows passed the check but could not be enqueued: {errors[0].message}. "
            "Another try of this task may have changed the calls at the same time. A retry checks the rows again"
        )
    return report


def _log_errors(errors: Sequence[Finding]) -> None:
    for found in errors:
        log.error("%s", _sentence(found))


def _sentence(found: Finding) -> str:
    """Return a finding as text, such as "row 3: batch_id must be empty". A finding may have no column (`batch_id`)."""
    return f"row {found.row}: {f'{found.column} ' if found.column else ''}{found.message}"


def _bad_rows(checked: CheckedRows, *, total: int) -> Exception:
    from voiceflow_worker.errors import CampaignFileError

    errors = checked.errors
    lines = "; ".join(map(_sentence, errors[:MOST_NAMED]))
    more = f" (and {len(errors) - MOST_NAMED} more)" if len(errors) > MOST_NAMED else ""
    return CampaignFileError(
        f"{checked.rejected} of {total} rows are bad, and nothing was enqueued: {lines}{more}. "
        "Correct these rows, or set skip_bad=True to call the others",
        errors,
    )
