"""Enqueueing of the rows of a campaign. Each row is called once per task instance, not once per try.

A row is identified by its own key, or else by its phone number and its ordinal among the rows with this phone
number. A later try enqueues calls for new rows, and cancels waiting calls of removed rows.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_provider.calls.campaigns.rows import (
    CheckedRows,
    RequestedRow,
    TaskRows,
    check_rows,
)
from airflow_provider.calls.cancellation import REMOVED, REPLACED, cancel_calls, unsent_ids
from airflow_provider.calls.earlier.expansion import Expansion
from airflow_provider.calls.earlier.ordinals import claim_ordinals
from airflow_provider.calls.earlier.prior_calls import (
    MARGIN,
    Condition,
    PriorCall,
    RowAction,
    assigned,
    condition_of,
    prior_calls,
)
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.task_record import TaskRecord, load_record, refuse_unknown_calls, save_record
from voiceflow_worker import CallQueue, Finding, VoiceflowError

if TYPE_CHECKING:
    from voiceflow_worker import CampaignOptions, EnqueueReport

log = logging.getLogger(__name__)

MOST_NAMED = 20
"""The largest number of bad rows that an error lists."""


class RowsChangedError(VoiceflowError):
    """Raised when another try of the same task changed the task's calls at the same time. A retry can succeed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueuedRows:
    """Counts of rows. `duplicates` are rows that repeat another row or have a call already; `rejected` are bad rows."""

    enqueued: int
    duplicates: int
    rejected: int


@dataclass(slots=True)
class _Plans:
    """The planned actions. `kept` has the ids of calls that still have a row.

    For the rows in `replace`, a waiting call is cancelled and a new call made. The rows in `make` get a new call.
    """

    kept: set[str] = field(default_factory=set[str])
    replace: list[tuple[RequestedRow, PriorCall]] = field(default_factory=list[tuple[RequestedRow, PriorCall]])
    make: list[tuple[RequestedRow, PriorCall]] = field(default_factory=list[tuple[RequestedRow, PriorCall]])
    differing: int = 0
    """The number of rows that were changed, but keep the call that was enqueued before the change."""


async def enqueue_rows(
    queue: CallQueue,
    given: TaskRows,
    options: CampaignOptions,
    identity: TaskIdentity,
    *,
    skip_bad: bool,
    saved: Mapping[str, Any] | None = None,
    expansion: Expansion | None = None,
) -> EnqueuedRows:
    """Enqueue calls for rows without a call, and cancel waiting calls of removed rows.

    Without `skip_bad`, one bad row prevents all new calls, and CampaignFileError is raised with the bad rows. With it,
    the error is raised only if no row can be called. `options` may name the batch. Airflow's task state (`saved`) names
    earlier calls; raises InvalidInputError if the store does not have them. Raises RowsChangedError.
    """
    rows, expansion = given.rows, expansion or Expansion()
    enqueueing = _Enqueueing(queue, identity, batch_id=options.batch_id or identity.batch_id(), expansion=expansion)
    checked = CheckedRows()
    if rows:
        checked = check_rows(rows, options, now=queue.store.clock.now())
    checked.errors = [*given.unreadable, *map(given.renumbered, checked.errors)]
    checked.rejected += len(given.unreadable)
    record = await enqueueing.record(rows, saved)
    # Read before the plan, so that calls which another try enqueues from now on are not cancelled.
    unsent = await unsent_ids(queue, record.batches, identity)
    plans = await enqueueing.plan(checked.requested)
    # This comes before the check for bad rows. The try with corrected rows enqueues again what it needs.
    unwanted = [job_id for job_id in unsent if job_id not in plans.kept]
    removed = len(await cancel_calls(queue, unwanted, reason=REMOVED))
    removed += await expansion.cancel_removed(queue, identity)
    if removed:
        log.info("%s calls were cancelled, because their rows were removed", removed)
    _log_errors(checked.errors)
    if checked.rejected and (not skip_bad or not checked.requested):
        raise _bad_rows(checked, total=len(rows) + len(given.unreadable))
    report = await enqueueing.carry_out(plans, given, options)
    enqueued, duplicates, rejected = (report.enqueued, report.duplicates, report.rejected) if report else (0, 0, 0)
    return EnqueuedRows(
        enqueued=enqueued,
        duplicates=len(checked.requested) - len(plans.make) + checked.duplicates + duplicates,
        rejected=checked.rejected + rejected,
    )


@dataclass(frozen=True, slots=True)
class _Enqueueing:
    """The enqueueing of rows by one try of a task instance."""

    queue: CallQueue
    identity: TaskIdentity
    batch_id: str
    expansion: Expansion

    async def record(self, rows: Sequence[Mapping[str, Any]], saved: Mapping[str, Any] | None) -> TaskRecord:
        """Return the record of earlier tries, with the batch of this try added. Save it if there are rows."""
        record = await load_record(self.queue, self.identity)
        if record is None:
            if rows:
                refuse_unknown_calls(saved, store=self.queue.store.url)
            record = TaskRecord()
        record = record.with_batch(self.batch_id)
        if rows:
            await save_record(self.queue, self.identity, record)
        return record

    async def plan(self, requested: Sequence[RequestedRow]) -> _Plans:
        """Return the planned action for each row. Nothing is changed yet."""
        by_called: defaultdict[str, list[RequestedRow]] = defaultdict(list)
        for row in requested:
            by_called[row.called].append(row)
        made = await self._prior_calls(requested, by_called)
        plans = _Plans()
        for called, alike in by_called.items():
            for row, call in zip(alike, assigned([row.digest for row in alike], made[called]), strict=True):
                match call.action_for(row.digest):
                    case RowAction.KEEP:
                        plans.differing += call.digest != row.digest
                    case RowAction.REPLACE:
                        plans.replace.append((row, call))
                    case RowAction.MAKE:
                        plans.make.append((row, call))
                if call.job_id is not None:
                    plans.kept.add(call.job_id)
        return plans

    async def carry_out(self, plans: _Plans, given: TaskRows, options: CampaignOptions) -> EnqueueReport | None:
        """Cancel the calls that are replaced, and enqueue the missing calls."""
        await self._replace(plans)
        if plans.differing:
            log.warning(
                "%s rows were changed after their calls were enqueued; no new calls are made for them", plans.differing
            )
        return await self._make(plans.make, given, options) if plans.make else None

    async def _prior_calls(
        self,
        requested: Sequence[RequestedRow],
        by_called: Mapping[str, Sequence[RequestedRow]],
    ) -> dict[str, list[PriorCall]]:
        async def look_up(wanted: Mapping[str, Collection[int]]) -> dict[str, list[PriorCall]]:
            return await prior_calls(self.queue, self.identity, wanted, batch_id=self.batch_id)

        made = await look_up({called: range(len(alike) + MARGIN) for called, alike in by_called.items()})
        while more := {
            called: range(len(found), len(found) + MARGIN)
            for called, found in made.items()
            if any(call.condition is not Condition.FREE for call in found[-MARGIN:])
        }:
            for called, found in (await look_up(more)).items():
                made[called] += found
        if not self.identity.is_mapped:
            return made
        in_order = [row.called for row in requested]
        ordinals = await claim_ordinals(self.queue, self.identity, in_order, made, self.expansion)
        own: dict[str, set[int]] = {called: set() for called in by_called}
        for called, ordinal in zip(in_order, ordinals, strict=True):
            own[called].add(ordinal)
        return await look_up(own)

    async def _replace(self, plans: _Plans) -> None:
        """Cancel the waiting calls in `replace`, and add their rows to `make`. Calls sent meanwhile are kept."""
        ids = [str(call.job_id) for _, call in plans.replace]
        cancelled = await cancel_calls(self.queue, ids, reason=REPLACED)
        left = await self.queue.store.jobs.get([job_id for job_id in ids if job_id not in cancelled])
        never_called = {Condition.CANCELLED_BY_TASK, Condition.ENDED}
        for row, call in plans.replace:
            job = left.get(str(call.job_id))
            if call.job_id in cancelled or (job is not None and condition_of(job) in never_called):
                plans.make.append((row, call))
            else:
                plans.differing += 1

    async def _make(
        self,
        make: Sequence[tuple[RequestedRow, PriorCall]],
        given: TaskRows,
        options: CampaignOptions,
    ) -> EnqueueReport:
        from voiceflow_worker import enqueue_rows as enqueue_new

        in_order = sorted(make, key=lambda each: each[0].place)
        keys = {
            line: self.identity.call_key(row.called, call.ordinal, generation=call.generation + 1)
            for line, (row, call) in enumerate(in_order, 1)
        }
        rows = [given.rows[row.place] for row, _ in in_order]
        options = replace(options, keys=keys, data={**(options.data or {}), **self.identity.data()})
        report = await enqueue_new(self.queue, rows, options, skip_bad=True)
        errors = [found for found in report.findings if found.is_error]
        if errors:
            _log_errors([replace(found, row=given.number(in_order[(found.row or 1) - 1][0].place)) for found in errors])
            raise RowsChangedError(
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
    from voiceflow_worker import CampaignFileError

    errors = checked.errors
    lines = "; ".join(map(_sentence, errors[:MOST_NAMED]))
    more = f" (and {len(errors) - MOST_NAMED} more)" if len(errors) > MOST_NAMED else ""
    return CampaignFileError(
        f"{checked.rejected} of {total} rows are bad, and nothing was enqueued: {lines}{more}. "
        "Correct these rows, or set skip_bad=True to call the others",
        errors,
    )
