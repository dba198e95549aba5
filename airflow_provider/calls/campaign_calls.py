"""The calls of a campaign task: each row is called once per task instance, not once per try.

A row is identified by its own key, or else by its phone number and its place among the rows with this number. What a
first try has stored stands: a later try adds the calls of rows that have none, and changes nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_provider.calls.failures import SECOND_RUN, LateTaskError
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.made_calls import MOVED, CallsChangedError, cancel_calls, resume_redials, unsent_ids
from airflow_provider.calls.task_orders import TaskOrders
from airflow_provider.calls.task_record import record_batch, recorded_batches, refuse_unknown_calls
from voiceflow_worker import CallQueue, Finding, InvalidInputError, types
from voiceflow_worker.campaigns.calls.options import CallAgain
from voiceflow_worker.errors import CampaignFileError

if TYPE_CHECKING:
    from voiceflow_worker import Campaign
    from voiceflow_worker.types import EnqueueReport

log = logging.getLogger(__name__)

MOST_NAMED = 20
"""The largest number of bad rows that an error lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueuedRows:
    """Counts of rows. `duplicates` are rows that repeat another row or have a call already; `rejected` are bad rows."""

    enqueued: int
    duplicates: int
    rejected: int


NOBODY = EnqueuedRows(enqueued=0, duplicates=0, rejected=0)


async def enqueue_campaign(
    queue: CallQueue,
    campaign: Campaign,
    identity: TaskIdentity,
    *,
    again: CallAgain = False,
    saved: Mapping[str, Any] | None = None,
) -> EnqueuedRows:
    """Enqueue calls for the rows that have none: see `TaskOrders`. The rows are a list or a file.

    Unless the campaign may skip bad rows, one bad row prevents all new calls, and CampaignFileError is raised with the
    bad rows; if it may, only if no row can be called. Airflow's task state (`saved`) names earlier calls; raises
    InvalidInputError if the store does not have them. Raises it too if new calls would repeat earlier ones of other
    runs or campaigns, unless `again` is True. Raises LateTaskError if the validity has passed and rows have no call,
    and CallsChangedError and IntakeError.
    """
    batch_id, now = campaign.batch_id, queue.store.clock.now()
    batches = {*await recorded_batches(queue, identity)}
    if campaign.rows is None or campaign.rows:
        if not batches:
            refuse_unknown_calls(saved, store=queue.store.url)
        await record_batch(queue, identity, batch_id)
        # A try with another batch waits for the end of this one: what waits in the others is made again in it.
        left = await unsent_ids(queue, batches - {batch_id}, identity)
        await cancel_calls(queue, left, reason=MOVED)
    orders = TaskOrders(identity, again=again, batch_id=batch_id)
    until, data = campaign.options.valid_until, {**(campaign.options.data or {}), **identity.data()}
    late = until if until is not None and until <= now else None
    # Rows of a late task may have calls from an earlier try.
    options = replace(campaign.options, orders=orders, data=data, valid_until=until if late is None else None)
    campaign = replace(campaign, options=options, again=again is True)
    by = types.Actor(on="Airflow", login=identity.in_words)
    report = await (campaign.start(queue, by=by) if late is None else campaign.preview(queue))
    _refuse(report, skip_bad=campaign.skip_bad)
    if late is not None and (new := report.valid + len(orders.elsewhere)):
        raise LateTaskError(late, calls=new)
    enqueued = 0 if report.dry_run else report.enqueued
    if orders.elsewhere and await cancel_calls(queue, sorted(orders.elsewhere), reason=MOVED):
        report = await campaign.start(queue, by=by)  # in the batch for whose end this instance waits
        _refuse(report, skip_bad=campaign.skip_bad)
        report = replace(report, duplicates=report.duplicates - enqueued)
        enqueued += report.enqueued
    if orders.differing:
        log.warning("%s rows were changed after their calls were enqueued; these calls stand", len(orders.differing))
    await resume_redials(queue, orders.stopped.values())
    for each in {*batches, batch_id}:
        # A try that was killed while it stored its calls has left them staged. They may go on now.
        if await queue.staged(each):
            await queue.release_staged(each, among=set(await unsent_ids(queue, [each], identity)))
    return EnqueuedRows(enqueued=enqueued, duplicates=report.duplicates, rejected=report.rejected)


def _refuse(report: EnqueueReport, *, skip_bad: object) -> None:
    """Log the findings. Raise an error if nothing was enqueued, or rows that were good when they were read were not."""
    errors = [found for found in report.findings if found.is_error]
    for found in report.findings:
        log.log(logging.ERROR if found.is_error else logging.WARNING, "%s", _sentence(found))
    if report.rejected and (report.refused or report.rejected == report.rows):
        lines = "; ".join(_sentence(found) for found in errors[:MOST_NAMED])
        more = f" (and {len(errors) - MOST_NAMED} more)" if len(errors) > MOST_NAMED else ""
        raise CampaignFileError(
            f"{report.rejected} of {report.rows} rows are bad, and nothing was enqueued: {lines}{more}. "
            "Correct these rows, or set skip_bad=True to call the others",
            errors,
        )
    if report.refused:
        other = ". A number is called once in a batch: its other words need another batch_id"
        is_same_batch = any(found.age is None for found in report.repeated_calls)
        repeated = "; ".join(map(str, report.repeated_calls))
        raise InvalidInputError(f"{repeated}. {SECOND_RUN}{other if is_same_batch else ''}")
    if report.rejected and not skip_bad:
        raise CallsChangedError(
            f"{report.rejected} of {report.rows} rows passed the check but could not be enqueued: {errors[0].message}. "
            "Another try of this task may have changed the calls at the same time. A retry checks the rows again"
        )


def _sentence(found: Finding) -> str:
    """Return a finding as text, such as "row 3: batch_id must be empty". A finding may have no row and no column."""
    row = "" if found.row is None else f"row {found.row}: "
    return f"{row}{f'{found.column} ' if found.column else ''}{found.message}"
