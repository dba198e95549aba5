"""The enqueueing of a task's calls, once for all its tries: one call, or a campaign. See `TaskOrders`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from anyio import to_thread

from airflow_provider.calls.failures import SECOND_RUN, LateTaskError
from airflow_provider.calls.identity import OncePer, TaskIdentity
from airflow_provider.calls.made_calls import (
    INTERRUPTED,
    STOPPED_BY_AIRFLOW,
    CallsChangedError,
    TaskOrders,
    discard_staged,
    resume_redials,
)
from voiceflow_worker import (
    CallQueue,
    Finding,
    InvalidInputError,
    Job,
    VoiceflowError,
)
from voiceflow_worker.campaigns.called_before import said_before
from voiceflow_worker.campaigns.calls.options import CallAgain
from voiceflow_worker.campaigns.fields import WHEN
from voiceflow_worker.campaigns.plan import enqueue_lock
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.core.idempotency import KeyMatch, enqueue_idempotent, existing_call
from voiceflow_worker.errors import CampaignFileError, KeyConflictError
from voiceflow_worker.model.numbers.phone import phone_identity
from voiceflow_worker.service.named_call import read_call

if TYPE_CHECKING:
    from voiceflow_worker import Campaign, Settings
    from voiceflow_worker.core.admission import CheckedCall
    from voiceflow_worker.types import EnqueueReport


KEPT_FOR = timedelta(days=400)
"""The lifetime of a record, which is the same as the lifetime of a unique key."""
KEY = "voiceflow_calls"


class TaskStateAwayError(VoiceflowError):
    """Raised when Airflow's task state cannot be read or written. A retry can succeed."""


class TaskState:
    """Airflow's task state of one task instance (since 3.3): which store has its calls, and one of them or their batch.

    The store prevents second calls, so a try that meets another store, or one that was emptied, makes none. (What a
    store that was rolled back has forgotten of POSTs is found by the journal files of workers.)
    """

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._state: Any = context.get("task_state_store")

    async def require_known(self, queue: CallQueue, *, retention: timedelta) -> None:
        """Raise InvalidInputError if the store is not the one that had the calls of this task; TaskStateAwayError.

        The store may have deleted a call when `retention` has passed.
        """
        saved: Mapping[str, str] = {} if self._state is None else await self._asked("read", self._state.get, KEY) or {}
        if not saved:
            return
        is_recent = queue.store.clock.now() < datetime.fromisoformat(saved["at"]) + retention
        if saved["store_id"] == queue.store.id and not (is_recent and not await _has(queue, saved)):
            return
        raise InvalidInputError(
            f"this task has enqueued {saved.get('job_id') or saved['batch_id']} in the store {saved['store']}, but the "
            f"store {queue.store.url} does not know it. The store was emptied or restored from an older copy, or the "
            "connection now names another store. Nothing more was sent, because a person might be called a second "
            "time. Restore the newest copy of the store and clear this task. If your 8x8 account shows that nobody was "
            "called, start a new run of the DAG instead"
        )

    async def keep(self, queue: CallQueue, names: Mapping[str, str]) -> None:
        """Keep the store, and `names`: `{"job_id"}` or `{"batch_id"}`. Raises TaskStateAwayError."""
        if self._state is not None:
            at = queue.store.clock.now().isoformat()
            saved = {**names, "store": queue.store.url, "store_id": queue.store.id, "at": at}
            await self._asked("written", partial(self._state.set, retention=KEPT_FOR), KEY, saved)

    async def _asked(self, done: str, ask: Callable[..., Any], *given: object) -> Any:
        try:
            # On another thread: that of the event loop must not wait for Airflow, whose answer may need the loop.
            return await to_thread.run_sync(ask, *given)
        except Exception as error:
            raise TaskStateAwayError(f"no calls are sent: Airflow's task state cannot be {done} ({error})") from error


async def _has(queue: CallQueue, names: Mapping[str, str]) -> bool:
    if "batch_id" in names:
        return bool(await queue.find(batch_id=names["batch_id"], limit=1))
    return bool(await get_jobs(queue.store, [names["job_id"]]))


log = logging.getLogger(__name__)

MOST_NAMED = 20
"""The largest number of bad rows that an error lists."""


# --- one call ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedCall:
    """A call that a task asks for: the `fields` of a call, which the settings complete.

    A mapped task identifies the call by its `unique_key`, if it has one, instead of its number. No new call is made
    from `valid_until` on.
    """

    fields: Mapping[str, Any]
    settings: Settings | None = None
    unique_key: str | None = None
    valid_until: datetime | None = None
    again: CallAgain = False
    """Whether to call although another run of the DAG said the same to the number in the last days."""
    calls_again: bool = False
    """Whether a clear calls again although the call has ended."""

    def read(self, key: str, *, now: datetime, is_new: bool) -> CheckedCall:
        """Return the call. When a phone may ring is read only for a new call. Raises InvalidInputError."""
        fields = {name: value for name, value in self.fields.items() if is_new or name not in WHEN}
        return read_call(
            fields, key=key, settings=self.settings, now=now,
            named=lambda name: "destination" if name == "to" else name,
        )  # fmt: skip


async def enqueue_once(queue: CallQueue, requested: RequestedCall, identity: TaskIdentity) -> Job:
    """Return the job of this task instance. If no try has enqueued a job yet, enqueue one.

    The instances of a mapped task that call the same number, or have the same `unique_key`, share one call.

    Raises InvalidInputError if the call that stands is to another number, if another instance of the mapped task has a
    different call for the same number or key, and if another run of the DAG has called the number with the same words.
    Raises LateTaskError, IntakeError, CallsChangedError, and the errors of `CallQueue.enqueue`.
    """
    now = queue.store.clock.now()
    wanted = requested.read("-", now=now, is_new=False)
    key = identity.call_key(_called(requested, wanted, identity), 0)
    orders = TaskOrders(identity, again=requested.again, calls_again=requested.calls_again)

    def judge(job: Job) -> KeyMatch:
        found = orders.match(job, wanted.digest)
        if found is KeyMatch.OTHER:
            raise InvalidInputError(
                f"instance {(job.data or {}).get('airflow_map_index')} of this task makes a different call, {job.id} "
                f"to {job.destination}. A mapped task makes one call for each number: if several instances call one "
                "number with different texts, give each call a unique_key"
            )
        if (
            found is KeyMatch.SAME
            and job.body
            and phone_identity(job.destination) != phone_identity(wanted.destination)
        ):
            raise InvalidInputError(
                f"this task now requests a call to {wanted.destination}, but an earlier try has enqueued call {job.id} "
                f"to {job.destination} ({job.state.value}), which stands. A task instance calls only one number. If it "
                f"has not been sent, run `voiceflow calls cancel {job.id}`, and clear this task; else call the new "
                "number in a new run of the DAG; or set on_clear='call_again', and clear the task when that call has "
                "ended"
            )
        return found

    async def make() -> CheckedCall:
        call = requested.read(key, now=queue.store.clock.now(), is_new=True)
        ends = min(filter(None, (call.valid_until, requested.valid_until)), default=None)
        return call._replace(valid_until=ends, data={**(call.data or {}), **identity.data()})

    job = await existing_call(queue, key, judge)
    if job is None:
        if requested.valid_until is not None and requested.valid_until <= now:
            raise LateTaskError(requested.valid_until, calls=1)
        # Two runs that begin at once must not both find nobody called.
        alone = enqueue_lock(queue, f"batch {wanted.batch_id}", number=wanted.destination)
        try:
            async with nullcontext() if requested.again is True else alone as lock:
                if lock is not None:
                    await _refuse_said_before(queue, wanted, identity)
                conditions = () if lock is None else (lock.condition,)
                job, _ = await enqueue_idempotent(queue, key, make, judge, conditions=conditions)
        except KeyConflictError as error:
            why = "another try of this task has just changed its call. A retry looks again"
            raise CallsChangedError(why) from error
    (job,) = await resume_redials(queue, orders.stopped.values()) or (job,)
    if identity.is_of_other_run(job.data):
        run = (job.data or {}).get("airflow_run_id")
        made = "run %s of this DAG made call %s to %s, so this run does not call (once_per='dag')"
        log.info(made, run, job.id, job.destination)
    elif job.digest != wanted.digest:
        log.warning("the text was changed after call %s was enqueued; the call keeps its text", job.id)
    return job


def _called(requested: RequestedCall, wanted: CheckedCall, identity: TaskIdentity) -> str:
    """Return the name of what the call is counted by. An unmapped task has one call in a run, whatever it calls."""
    if not identity.is_mapped and identity.once_per is OncePer.RUN:
        return ""
    key = requested.unique_key
    return f"number {phone_identity(wanted.destination)}" if key is None else f"key {key}"


async def _refuse_said_before(queue: CallQueue, wanted: CheckedCall, identity: TaskIdentity) -> None:
    """Raise InvalidInputError if another run of the DAG has called the number with the same words."""

    def counts(job: Job) -> bool:
        return identity.is_under_other_keys(job.data)

    job = await said_before(queue, destination=wanted.destination, digest=wanted.digest, counts=counts)
    if job is not None:
        raise InvalidInputError(
            f"run {(job.data or {}).get('airflow_run_id')} of this DAG says the same to {job.destination}, in call "
            f"{job.id}, enqueued at {job.created_at:%Y-%m-%d %H:%M:%S} UTC ({job.state.value}). {SECOND_RUN}"
        )


# --- a campaign -------------------------------------------------------------------------------------------------------


async def enqueue_campaign(
    queue: CallQueue,
    campaign: Campaign,
    identity: TaskIdentity,
    *,
    again: CallAgain = False,
    late: datetime | None = None,
) -> tuple[dict[str, int], list[str]]:
    """Enqueue calls for the rows that have none. The rows are a list or a file.

    A row is identified by its own key, or else by its phone number and its place among the rows with this number. What
    a first try has stored stands: a later try adds the calls of rows that have none, and changes nothing else. Returns
    counts of rows, for the result of the task: `duplicates` repeat another row or have a call already; `left_out` are
    those that a column leaves out; `rejected` are bad. The names of the imports that have stored the calls follow.

    Unless the campaign may skip bad rows, one bad row prevents all new calls, and CampaignFileError is raised with the
    bad rows; if it may, only if no row can be called. Raises InvalidInputError if new calls would repeat earlier ones
    of other runs or campaigns, unless `again` is True. If the validity has passed, at `late`, and rows have no call,
    raises LateTaskError. Raises CallsChangedError and IntakeError.
    """
    batch_id = campaign.batch_id
    token = identity.new_import()
    await discard_staged(queue, batch_id, identity, reason=STOPPED_BY_AIRFLOW)
    orders = TaskOrders(identity, again=again, batch_id=batch_id)
    data = {**(campaign.options.data or {}), **identity.data()}
    options = replace(campaign.options, orders=orders, data=data)
    campaign = replace(campaign, options=options, again=again is True)
    report = await (_started(campaign, queue, identity, token) if late is None else campaign.preview(queue))
    _refuse(report, skip_bad=campaign.skip_bad)
    if late is not None and report.valid:
        raise LateTaskError(late, calls=report.valid)
    enqueued = 0 if report.dry_run else report.enqueued + report.replaced
    if await discard_staged(queue, batch_id, identity, reason=INTERRUPTED):
        report = await _started(campaign, queue, identity, token)
        _refuse(report, skip_bad=campaign.skip_bad)
        report = replace(report, duplicates=report.duplicates - enqueued)
        enqueued += report.enqueued + report.replaced
    if orders.differing:
        log.warning("%s rows were changed after their calls were enqueued; these calls stand", len(orders.differing))
    await resume_redials(queue, orders.stopped.values())
    counts = {"enqueued": enqueued, "duplicates": report.duplicates, "left_out": report.left_out}
    counts["rejected"] = report.rejected
    log.info(
        "batch %s: %s calls enqueued; rows that repeat another or had a call: %s; left out: %s; bad: %s",
        batch_id,
        *counts.values(),
    )
    return counts, sorted({token, *orders.imports})


async def _started(campaign: Campaign, queue: CallQueue, identity: TaskIdentity, token: str) -> EnqueueReport:
    """Start a campaign; of one that is refused, return the report too."""
    from voiceflow_worker.types import RowsRefusedError  # not when DAGs are parsed

    try:
        return await campaign.start(queue, by=identity.actor, token=token)
    except RowsRefusedError as error:
        return error.report


def _refuse(report: EnqueueReport, *, skip_bad: object) -> None:
    """Log the findings. Raise an error if nothing was enqueued, or rows that were good when they were read were not."""
    errors = [found for found in report.findings if found.is_error]
    for found in report.findings:
        log.log(logging.ERROR if found.is_error else logging.WARNING, "%s", _sentence(found))
    if columns := report.columns_in_words():
        log.info("not spoken, and no filter of rows: %s", columns)
    lines = "; ".join(_sentence(found) for found in errors[:MOST_NAMED])
    more = f" (and {len(errors) - MOST_NAMED} more)" if len(errors) > MOST_NAMED else ""
    if report.rejected and (report.refused or report.rejected + report.left_out == report.rows):
        raise CampaignFileError(
            f"{report.rejected} of {report.rows} rows are bad, and nothing was enqueued: {lines}{more}. "
            "Correct these rows, or set skip_bad=True to call the others",
            errors,
        )
    if report.refused and not report.repeated_calls:
        raise CampaignFileError(f"nothing was enqueued: {lines}{more}", errors)
    if report.refused:
        raise InvalidInputError(f"{lines}{more}. {SECOND_RUN}")
    if report.rejected and not skip_bad:
        raise CallsChangedError(
            f"{report.rejected} of {report.rows} rows passed the check but could not be enqueued: {errors[0].message}. "
            "Another try of this task may have changed the calls at the same time. A retry checks the rows again"
        )


def _sentence(found: Finding) -> str:
    """Return a finding as text, such as "row 3: batch_id must be empty". A finding may have no row and no column."""
    row = "" if found.row is None else f"row {found.row}: "
    message = found.told.named(lambda remedy, value: ", ".join(remedy.fields) + (value and f": {value}"))
    return f"{row}{f'{found.column} ' if found.column else ''}{message}"
