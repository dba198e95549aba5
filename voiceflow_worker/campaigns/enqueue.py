"""The enqueuing of a campaign's rows, all or none, or with `skip_bad` the good rows; and its report."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Protocol, TypedDict, Unpack

from anyio import to_thread

from voiceflow_worker.campaigns.called_before import CalledBefore
from voiceflow_worker.campaigns.calls.options import (
    BadRowLimit,
    CallAgain,
    CampaignOptions,
    may_leave_out,
    states_of,
)
from voiceflow_worker.campaigns.calls.request import ReadRow, menu_puts
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import CampaignRows
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport, RowCounts, RowsRefusedError
from voiceflow_worker.campaigns.files.formats import kind_of, open_source
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.campaigns.files.rows import (
    FileKind,
    RawRow,
    SpooledRows,
    reason_of,
    rejects_file,
)
from voiceflow_worker.campaigns.imports import Import, cut_imports, none_begun
from voiceflow_worker.campaigns.intake import ClassifiedRows, OrderKeys, RowEnqueuer
from voiceflow_worker.campaigns.plan import LOOK_AGAIN, Plan, Planner, enqueue_lock
from voiceflow_worker.campaigns.preview import Preview, PreviewMaker, PreviewOptions
from voiceflow_worker.campaigns.removal import Removal
from voiceflow_worker.campaigns.row_list import RowKeeper
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.core.audit import Actor, AuditEntry, audited
from voiceflow_worker.core.base.background import LeaderLease
from voiceflow_worker.core.base.reading import limits_of, starts_of
from voiceflow_worker.core.gates import until_left
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import Condition, Same
from voiceflow_worker.errors import CampaignFileError, ChangedSinceError, InvalidInputError
from voiceflow_worker.finding import Finding
from voiceflow_worker.ivr.template_text import is_template
from voiceflow_worker.model.jobs.admission import Key
from voiceflow_worker.model.jobs.gate import Gate
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.text.arguments import checked
from voiceflow_worker.model.text.wording import count_of
from voiceflow_worker.queue import CallQueue

CHUNK = 1000
"""The number of rows enqueued in one trip to the store. A larger number could delay a worker on the same store."""


class Phase(StrEnum):
    """The two phases of enqueuing a file."""

    READING = "reading"
    ENQUEUEING = "enqueueing"


class OnProgress(Protocol):
    """A function that gets the progress of an enqueue: first of the bytes read, then of the rows enqueued."""

    def __call__(self, phase: Phase, *, done: int, total: int, rows: int) -> None:
        """Take the progress: `done` of `total` bytes, and later `done` of `total` rows. `rows` counts the rows read."""
        ...


class StartOptions(TypedDict, total=False):
    """Who starts a campaign, and on which conditions. All of it may be left out.

    `by` is the person who starts it; the audit log keeps this. Durations such as `valid_for` count from `now`, by
    default the time of the store's clock. Under `conditions`, each call is stored, and all of them ring, only while
    those hold; otherwise IntakeError is raised. With the `version` of a preview as the `expected_version`, nothing is
    stored if the rows would not do what that showed: ChangedSinceError. `warn` gets what concerns the rows as a whole,
    such as hidden ones, before the first call is stored. `before_end` is awaited when all calls are stored, and none of
    them may ring yet. `token` names the import (`core.imports.stop_imports`), which has a new one by default.
    """

    by: str | Actor | None
    now: datetime | None
    conditions: tuple[Condition, ...]
    expected_version: str | None
    progress: OnProgress | None
    warn: Callable[[Sequence[Finding]], None] | None
    before_end: Callable[[], Awaitable[object]] | None
    token: Key | None


class EnqueueOptions(StartOptions, total=False):
    """How the rows are enqueued. All of it may be left out.

    With `skip_bad` the good rows are enqueued although others are bad, with a limit only if no more are bad than that.
    With `again`, people who were called before are called again: see `enqueue_file`. With `replace`, waiting calls that
    differ from their rows are replaced by these; with `remove_missing`, waiting calls of the batch are cancelled that
    are not in the list, unless a row of it is bad. `rejects` gets the bad and the
    suppressed rows of a file in their original form, each with a reason. `dry_run` stores nothing, and without a queue
    it reads no store. With `assumptions`, the report of a dry run has a preview of the calls. If `needs_hours`, calls
    that would begin at night are an error, unless somebody has given hours.
    """

    skip_bad: bool | BadRowLimit
    again: CallAgain
    replace: bool
    remove_missing: bool
    only_new: bool
    rejects: Path | None
    dry_run: bool
    assumptions: PreviewOptions | None
    needs_hours: bool


@checked
async def enqueue_file(
    queue: CallQueue | None,
    path: Path | InputFile,
    options: CampaignOptions | None = None,
    **how: Unpack[EnqueueOptions],
) -> EnqueueReport:
    """Make jobs of the rows of a file, and report the result.

    If a row is bad, nothing is enqueued, and RowsRefusedError names every bad row, unless `skip_bad` allows it; the
    report of a dry run names them. A row is bad
    if it breaks a rule, or if its unique key belongs to a different call in the store or earlier in the file. A row
    whose call exists already, in the store or earlier in the file, is a duplicate and makes no job. A file whose
    enqueue was interrupted can therefore be enqueued again. No call is sent before the last one is stored; if the
    enqueue is interrupted, its calls stay staged: stored, but not sent.

    If a row without its own unique key calls a number that already has another call in the same batch, nothing is
    enqueued, unless `again` is True. This happens, for example, after the template was corrected. The same holds if
    another batch has made the same call in the last seven days, for example because the file was renamed. Deleted calls
    do not count, and neither do calls that ended without a ring, such as cancelled ones. `again` may also be a set of
    the states cancelled, expired and failed: then a row whose own call has ended in one of them gets a new call, as the
    row says now, which takes over the unique key. Without it, such rows are duplicates, and a finding counts them.

    Raises CampaignFileError for a file that cannot be read (RowsRefusedError is one), and InvalidInputError for a wrong
    option; nothing is stored then. Raises StoreError if the store fails; it is then safe to enqueue the file again.
    """
    return await Enqueueing(queue, path, options or CampaignOptions(), **how).run()


@checked
async def enqueue_rows(
    queue: CallQueue | None,
    rows: Iterable[Mapping[str, object]],
    options: CampaignOptions | None = None,
    **how: Unpack[EnqueueOptions],
) -> EnqueueReport:
    """Make jobs of rows that a program has, such as the records of a query, and report the result.

    Each row is a mapping from columns to values, as in a file: `enqueue_file` explains bad rows, duplicates, keys and
    errors. Without a template, each row is a request body. Findings count the rows from 1. The rows may come from a
    generator: they are read once, in the caller's thread, and never all at the same time. The options must name the
    batch. Without rows, nobody is called.
    """
    return await Enqueueing(queue, rows, options or CampaignOptions(), **how).run()


async def check_file(
    path: Path | InputFile,
    options: CampaignOptions | None = None,
    *,
    now: datetime,
    assumptions: PreviewOptions | None = None,
    progress: OnProgress | None = None,
) -> EnqueueReport:
    """Report every problem of a campaign, a request body or a call flow template: a dry run without a store.

    A validity of a request body that has passed is a warning. Without a template in the options, only the numbers and
    reserved columns of a table are checked. If the file itself is a template, only its constant parts are checked. A
    file that cannot be read is reported as a finding. Raises InvalidInputError for a wrong option.
    """
    chosen = options or CampaignOptions()
    counts = RowCounts(file=str(path), batch_id=chosen.batch_id or "", dry_run=True)
    try:
        template = None if chosen.template is not None else await to_thread.run_sync(_template_in, path)
        if template is not None:
            counts.rows = 1
            counts.rejected = int(any(found.is_error for found in template.findings))
            counts.valid = 1 - counts.rejected
            counts.found.add(template.findings)
            counts.preview = Preview(files=dict.fromkeys(template.files, 1))
            return counts.report(refused=False)
        check = Enqueueing(
            None, path, chosen, now=now, dry_run=True, assumptions=assumptions, progress=progress, checks=True
        )
    except CampaignFileError as error:
        counts.unreadable(error)
        return counts.report(refused=True)
    return await check.run()


def _template_in(path: Path | InputFile) -> FlowTemplate | None:
    """The call flow template that the file is; None if it is not one. Raises CampaignFileError."""
    file = InputFile(path) if isinstance(path, Path) else path
    if kind_of(file) is not FileKind.JSON:
        return None
    found = next((raw.data for raw in open_source(file, kind=FileKind.JSON)), None)
    return FlowTemplate.parse(found, name=str(path)) if is_template(json.dumps(found)) else None


@dataclass(slots=True)
class Enqueueing:
    """The enqueuing of the rows of one campaign, which are `given` as a file or as mappings. It is `run` once."""

    queue: CallQueue | None
    given: Path | InputFile | Iterable[Mapping[str, object]]
    options: CampaignOptions
    _: KW_ONLY
    by: str | Actor | None = None
    now: datetime | None = None
    conditions: tuple[Condition, ...] = ()
    expected_version: str | None = None
    progress: OnProgress | None = None
    warn: Callable[[Sequence[Finding]], None] | None = None
    before_end: Callable[[], Awaitable[object]] | None = None
    token: str | None = None
    skip_bad: bool | BadRowLimit = False
    again: CallAgain = False
    replace: bool = False
    remove_missing: bool = False
    only_new: bool = False
    """Whether calls that differ from their rows, or whose rows are left out, are to stay as they are."""
    rejects: Path | None = None
    dry_run: bool = False
    assumptions: PreviewOptions | None = None
    needs_hours: bool = False
    checks: bool = False
    """Whether a file that cannot be read to its end is reported as a finding, beside the rows that were read."""
    campaign: CampaignRows = field(init=False)
    _actor: Actor = field(init=False)
    _batches: set[str] = field(default_factory=set[str], init=False)
    """The batches of all good rows."""
    _cut: Sequence[Gate] = field(default=(), init=False)
    """The imports that were cut, and that these rows complete."""
    _none_begun: tuple[Same, ...] = field(default=(), init=False)
    """The conditions that no other import has begun in these batches since the rows were compared with their calls."""
    _kept: RowKeeper | None = field(default=None, init=False)
    """The rows that are kept for the list of them; None if nothing is to be stored."""
    _planner: Planner | None = field(default=None, init=False)
    """The comparison with stored calls; None without a store."""
    _plan: Plan = field(default_factory=Plan, init=False)

    def __post_init__(self) -> None:
        self._actor = Actor.of(self.by)
        self.now = self.now or (datetime.now(UTC) if self.queue is None else self.queue.store.clock.now())
        self.campaign = CampaignRows(
            self.given,
            self.options,
            now=self.now,
            checks=self.checks,
        )
        if self.checks and (self.campaign.has_numbers_only or self.campaign.source.kind is FileKind.JSON):
            self.assumptions = None  # there is nothing to preview

    async def run(self) -> EnqueueReport:
        """Enqueue the rows: see `enqueue_file`."""
        report = await self._report()
        if report.refused and not self.dry_run:
            raise RowsRefusedError.of(report)
        return report

    async def _report(self) -> EnqueueReport:
        queue, campaign, now = self.queue, self.campaign, self.now or datetime.now(UTC)
        if queue is None and not self.dry_run:
            raise ValueError("a queue is needed unless this is a dry run")
        counts, rate = self._no_counts(now), await self._rate()  # what is stored at the end is not read again
        starts = () if queue is None else await starts_of(queue.store, queue.name)
        enqueuer = self._enqueuer(starts)
        if queue is not None:
            self._planner = self._planner_of(queue, has_staged=bool(starts))
        with ExitStack() as stack:
            spooled = SpooledRows(stack.enter_context(TemporaryFile()))
            if queue is not None and not self.dry_run:
                temporary = stack.enter_context(TemporaryFile())
                self._kept = RowKeeper(queue, campaign, temporary, self.options)
            if self.rejects is not None and campaign.input is not None:
                counts.reject = stack.enter_context(rejects_file(self.rejects, campaign.source, read=campaign.input))
            needs_lock = await self._read(enqueuer, counts, spooled) or self.replace or self.remove_missing
            closing = campaign.closing_findings()
            counts.found.add(closing)
            counts.unread, counts.partly_filled = campaign.unread, campaign.partly_filled
            counts.moments = campaign.moments
            if self.warn is not None and closing:
                self.warn(closing)
            is_wrong = (  # as a whole
                counts.has_more_than(self.options.most)
                or (self.remove_missing and counts.would_empty())
                or any(each.is_error for each in (*campaign.findings, *closing))
            )
            refused = (
                is_wrong
                or counts.is_undecided(removes=self.remove_missing, keeps=self.only_new)
                or not self._may_leave_out(counts)
            )
            if queue is not None and not (self.dry_run or refused or needs_lock):
                # Whoever ends another start must know that nobody goes on with it.
                needs_lock = any(start.name in self._batches for start in await starts_of(queue.store, queue.name))
            needs_lock = (needs_lock or self.expected_version is not None) and not (self.dry_run or refused)
            name = f"batch {campaign.batch_id}"
            async with nullcontext() if queue is None or not needs_lock else enqueue_lock(queue, name) as lock:
                wrong = await self._find_cut()
                await self._compare(spooled, counts)
                wrong += await self._undecided(counts)
                counts.found.add(wrong)
                calls_again = counts.again > 0 and not self.dry_run
                is_wrong = (
                    is_wrong
                    or any(each.is_error for each in wrong)
                    or counts.is_undecided(removes=self.remove_missing, keeps=self.only_new)
                )
                refused = is_wrong or calls_again or not self._may_leave_out(counts)
                shown = counts.shown()
                if self.expected_version is not None and not refused:
                    await self._require_shown(shown, spooled, enqueuer, counts)
                    refused = self.needs_hours and counts.find_night(now, rate, needs_hours=True)
                    counts.times.clear()
                if queue is None or self.dry_run or refused:
                    await self._enqueue_all(spooled, enqueuer, counts, None)
                    if not refused and (removal := self._removal) is not None:
                        removal.tell_staying(counts, late=enqueuer.has_late)
                else:
                    await self._import(queue, lock, spooled, enqueuer, counts)
                counts.version = f"{shown}.{counts.suppressed}"
            if counts.times and (self.dry_run or not refused):
                refused = counts.find_night(now, rate, needs_hours=self.needs_hours) or refused
        return counts.report(refused=refused)

    def _no_counts(self, now: datetime) -> RowCounts:
        """The counts before the first row is read."""
        campaign = self.campaign
        counts = RowCounts(
            file=campaign.file, batch_id=campaign.batch_id, dry_run=self.dry_run, replaces=self.replace,
            call_times=campaign.times,
        )  # fmt: skip
        if self.dry_run and self.assumptions is not None:
            counts.maker = PreviewMaker(
                self.assumptions, campaign.later_texts, campaign.times, now=now, asks_store=self.queue is not None
            )
        campaign.times.are_asked = counts.maker is not None or not campaign.times.has_hours
        counts.found.add(campaign.findings)
        return counts

    async def _rate(self) -> float | None:
        """The rate at which the calls are sent, as far as it is known."""
        if self.assumptions is not None:
            return self.assumptions.rate
        limits = None if self.queue is None else await limits_of(self.queue.store, self.queue.name)
        return PreviewOptions().rate if limits is None else limits.rate

    def _enqueuer(self, starts: Iterable[Gate]) -> RowEnqueuer:
        orders, campaign = self.options.orders, self.campaign
        return RowEnqueuer(
            self.queue, campaign.file, self.options, campaign.number_column,
            None if orders is None else OrderKeys(orders, self.queue, campaign.keys), states_of(self.again),
            self.replace, self._cut_at, frozenset(start.start for start in starts), self.only_new,
        )  # fmt: skip

    def _planner_of(self, queue: CallQueue, *, has_staged: bool) -> Planner:
        options, campaign, again = self.options, self.campaign, self.again is True
        before = CalledBefore(
            queue=queue, orders=options.orders, schedule_batches=options.schedule_batches,
            same_people_batch=options.same_people_batch,
        )  # fmt: skip
        return Planner(
            queue=queue, seen=campaign.keys, orders=options.orders, before=before,
            # Not even `again` calls those again whom this campaign itself may have called, before it was cut.
            since=self._cut_at if again else None, has_staged=has_staged, again=again,
            again_cancelled=again or JobState.CANCELLED in states_of(self.again),
            shows=self.dry_run or self.expected_version is not None, replace=self.replace, keeps=self.only_new,
            file=campaign.file, column=campaign.number_column,
        )  # fmt: skip

    async def _read(
        self,
        enqueuer: RowEnqueuer,
        counts: RowCounts,
        spooled: SpooledRows,
    ) -> bool:
        """Read all rows, count them, and spool the new ones; returns whether one of these has no key of its own."""
        campaign, has_made_key = self.campaign, False

        def take_in(classified: ClassifiedRows) -> None:
            nonlocal has_made_key
            self._batches |= {row.call.batch_id for row in classified.rows if row.call and row.call.batch_id}
            counts.add_classified(classified)
            if self._planner is not None:
                self._planner.add(classified.new, classified.known)
                for row in classified.rows:
                    if row.call is None and row.duplicate_of is None:
                        self._planner.silent.add(row, campaign.batch_in(row.raw))
            has_made_key = has_made_key or any(row.has_made_key for row in classified.new)
            _spool(classified, spooled, self._kept)

        # Files may lie on slow disks. Rows of a program are taken in its own thread: a cursor may allow no other.
        take_part, in_thread = partial(next, campaign.parts(CHUNK), None), campaign.input is not None
        try:
            # Only the end of the rows is None: a failure is raised, and ends the loop too.
            while (part := await to_thread.run_sync(take_part) if in_thread else take_part()) is not None:
                # In a thread, because a worker may share this event loop.
                classified = await enqueuer.classify(await to_thread.run_sync(campaign.read, part))
                take_in(classified)
                if self.progress is not None:
                    done, size = (0, 0) if (file := campaign.input) is None else (file.position, file.size)
                    self.progress(Phase.READING, done=done, total=max(size, done), rows=counts.rows)
        except CampaignFileError as error:
            if not self.checks:
                raise
            counts.unreadable(error)
        async for classified in enqueuer.classify_changed(CHUNK):
            take_in(classified)
        return has_made_key

    def _may_leave_out(self, counts: RowCounts) -> bool:
        return may_leave_out(counts.rejected, rows=counts.rows - counts.left_out, limit=self.skip_bad)

    async def _compare(self, spooled: SpooledRows, counts: RowCounts) -> None:
        """Compare the rows with the calls that are stored, and count what comes of that."""
        if self._planner is None:
            return
        plan = self._plan = await self._planner.find(lambda: map(_unspooled, spooled), self._listed)
        counts.add_planned(plan)
        if self._kept is not None:
            self._kept.stand |= {row: key for row, (_, key, _) in plan.told.items() if key} | {
                row: key for row, key in plan.same.items() if key
            }
            self._kept.replaced |= {*plan.replaced, *self._kept.stand.values()}
        counts.called_before = sum(each.count for each in plan.repeated)
        if self.again is not True:
            counts.add_repeated(plan.repeated, column=self.campaign.number_column)
        elif self.dry_run:
            counts.again = counts.called_before

    @property
    def _listed(self) -> set[str]:
        """The batches of the list."""
        return {*self._batches, self.campaign.batch_id}

    async def _undecided(self, counts: RowCounts) -> list[Finding]:
        """What is wrong with what is left out or removed."""
        if self._planner is None:
            return []
        removal = Removal(self._planner, self._plan, self._listed)
        if self.remove_missing:
            return await removal.findings(counts.file, batch_id=self.campaign.batch_id)
        return removal.left_out(counts.file, keeps=self.only_new)

    async def _require_shown(self, shown: str, spooled: SpooledRows, enqueuer: RowEnqueuer, counts: RowCounts) -> None:
        """Raise ChangedSinceError if a preview has shown anything else of the rows, or of who is suppressed.

        The times of those that are called are counted.
        """
        suppressed = 0
        for chunk in spooled:
            rows = list(filter(self._plan.has, _unspooled(chunk)))
            without = {row.raw.number for row in (await enqueuer.enqueue(rows, staging=None)).suppressed}
            suppressed += len(without)
            counts.add_times(row for row in rows if row.raw.number not in without)
        if self.expected_version != f"{shown}.{suppressed}":
            raise ChangedSinceError(
                "nothing was enqueued: what the preview showed has changed since, such as which calls already exist, "
                "or who was called before. Make a new preview, and start from it"
            )

    @property
    def _cut_at(self) -> datetime | None:
        """When the start of this campaign began that was cut, and goes on now."""
        return None if self._actor.claim is None else self._actor.claim.since

    async def _find_cut(self) -> list[Finding]:
        """Find the imports that these rows complete. Returns errors about those that other rows have to complete.

        Orders that share a batch, such as the tasks of Airflow, complete their own: the others are none of theirs.
        """
        if self.queue is None:
            return []
        while True:
            self._none_begun = await none_begun(self.queue, self._batches)
            self._cut, others, is_beginning = await cut_imports(
                self.queue, self._batches, self.campaign.keys, changes=self.replace or self.remove_missing
            )
            if self.dry_run or not is_beginning:
                break
            await self.queue.store.clock.sleep(LOOK_AGAIN)
        return [] if self.options.orders is not None else [replace(each, file=self.campaign.file) for each in others]

    async def _import(
        self,
        queue: CallQueue,
        lock: LeaderLease | None,
        spooled: SpooledRows,
        enqueuer: RowEnqueuer,
        counts: RowCounts,
    ) -> None:
        """Enqueue all rows as an import. Its calls are staged until the last one is stored."""
        by, at = self._actor, queue.store.clock.now()
        action = "replace" if self.replace or self.remove_missing else "start"
        entry = AuditEntry.of(by, action, at=at, queue=queue.name, batch=self.campaign.batch_id)
        async with audited(queue.store, entry, by.claim, is_once=bool(self.conditions)) as store:
            conditions = self.conditions if lock is None else (*self.conditions, lock.condition)
            imported = Import(queue, store.store, conditions=conditions, by=by, token=self.token)
            await self._carry_out(spooled, enqueuer, counts, imported, store.store)
            done = f"{count_of(counts.enqueued, 'call')} of {counts.rows} enqueued"
            what = ", ".join(f"{each} {count}" for each, count in sorted(counts.changes.items()))
            more = [f"{counts.replaced} changed" + (f" ({what})" if what else ""), f"{counts.removed} removed"]
            store.result = ", ".join([done, *(more if action == "replace" else [])])

    @property
    def _removal(self) -> Removal | None:
        """What ends calls that are no longer in the list, if that is ordered."""
        if self._planner is None or not self.remove_missing:
            return None
        return Removal(self._planner, self._plan, self._listed)

    async def _carry_out(
        self, spooled: SpooledRows, enqueuer: RowEnqueuer, counts: RowCounts, imported: Import, store: Store
    ) -> None:
        """Store what is new, then change and remove in the order of the list, look again, and let the calls ring.

        Who is cut before a call was changed leaves staged calls; after that, the same list, or a newer one, goes on.
        """
        queue, plan, removal = self.queue, self._plan, self._removal
        if queue is None:
            return
        later = {*enqueuer.later, *plan.later}
        changes = {*enqueuer.changes, *plan.pairs} - later
        gone = 0 if removal is None else plan.in_no_row + len(plan.left_out)
        if len(spooled) or gone:
            await imported.begin(self._none_begun, calls=len(spooled), puts=menu_puts(self.options))
        if self._kept is not None:
            await self._kept.keep(imported.staging.conditions)
        if len(spooled) > len(changes) + len(later):
            await self._enqueue_all(spooled, enqueuer, counts, imported, but=changes | later)
        total = len(changes) + gone
        if total and imported.has_begun:
            await imported.note_changes(0, total)
        if changes:
            await self._enqueue_all(spooled, enqueuer, counts, imported, among=changes, total=total)
        if removal is not None:
            await removal.run(store, counts, late=enqueuer.has_late)
        if later or gone:
            await until_left(store, [queue.name])
            counts.valid, counts.on_the_way = counts.valid + len(later), counts.on_the_way - len(later)
            await self._enqueue_all(spooled, enqueuer, counts, imported, among=later)
            if removal is not None:
                await removal.run(store, counts, late=enqueuer.has_late, on_the_way=True)
        if self._kept is not None and self._kept.uncalled:
            await self._kept.keep(imported.staging.conditions)
        if self.before_end is not None:
            await self.before_end()
        await imported.end(self._cut)

    async def _enqueue_all(
        self,
        spooled: SpooledRows,
        enqueuer: RowEnqueuer,
        counts: RowCounts,
        imported: Import | None,
        *,
        among: Collection[int] | None = None,
        but: Collection[int] = (),
        total: int = 0,
    ) -> None:
        """Enqueue rows; without an import, find only who is suppressed.

        The rows are `among` these, or all `but` those. With a `total` of changes, it is noted how far they are.
        """
        done, kept = 0, None if imported is None else self._kept
        size = min(CHUNK, max(len(among or ()) // 10, 10)) if total else CHUNK
        for chunk in spooled if among is None or among else ():
            has_number = [each for each in chunk if _is_among(each, among, but)]
            for start in range(0, len(has_number), size):
                if total and done and imported is not None:
                    await imported.note_changes(done, total)
                some = has_number[start : start + size]
                rows = list(filter(self._plan.has, _unspooled(some)))
                staging = None if imported is None else imported.staging
                try:
                    found = await enqueuer.enqueue(rows, staging=staging, pairs=self._plan.pairs)
                except InvalidInputError:
                    if imported is not None and not (done or total):
                        await imported.end()  # no call was stored
                    raise
                counts.add_enqueued(rows, found)
                if kept is not None:
                    told = (("suppressed", found.suppressed), ("bad", found.refused))
                    kept.uncalled |= {
                        row.raw.number: (what, reason_of(row.findings)) for what, some in told for row in some
                    }
                done += len(some)
                if imported is not None and self.progress is not None:
                    self.progress(Phase.ENQUEUEING, done=min(done, len(spooled)), total=len(spooled), rows=counts.rows)


def _is_among(spooled: tuple[Any, ...], among: Collection[int] | None, but: Collection[int]) -> bool:
    """Whether a spooled row has one of these numbers, and none of the others."""
    number = spooled[0][_NUMBER]
    return number not in but and (among is None or number in among)


_NUMBER = RawRow._fields.index("number")


def _spool(found: ClassifiedRows, spooled: SpooledRows, kept: RowKeeper | None) -> None:
    """Store each row, and those that make new calls with these, until the whole file has been read."""
    try:
        new = [(tuple(row.raw), tuple(row.call), row.has_made_key, row.times) for row in found.new if row.call]
        spooled.put(new)  # without their findings
        if kept is not None:
            kept.add(found)
    except OSError as error:
        where = f"in {error.filename} while the file is read"
        raise CampaignFileError(f"the rows cannot be stored {where}: {error.strerror}") from error


def _unspooled(chunk: Sequence[tuple[Any, ...]]) -> list[ReadRow]:
    return [
        ReadRow(RawRow._make(raw), made := CheckedCall._make(call), made.digest, has_made_key=made_key, times=times)
        for raw, call, made_key, times in chunk
    ]
