"""The enqueuing of a campaign's rows, all or none, or with `skip_bad` the good rows; and its report."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Protocol, TypedDict, Unpack

from anyio import to_thread

from voiceflow_worker.campaigns.calls.options import (
    NO_WINDOW,
    BadRowLimit,
    CallAgain,
    CampaignOptions,
    dated,
    may_leave_out,
)
from voiceflow_worker.campaigns.calls.row_reader import menu_puts
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import CampaignRows
from voiceflow_worker.campaigns.enqueue_report import End, EnqueueReport, RowsRefusedError
from voiceflow_worker.campaigns.imports import Import, cut_imports, none_begun
from voiceflow_worker.campaigns.intake import RowEnqueuer
from voiceflow_worker.campaigns.list_order import ListOrder
from voiceflow_worker.campaigns.lists.input_file import InputFile
from voiceflow_worker.campaigns.lists.rows import FileKind
from voiceflow_worker.campaigns.lists.source import kind_of, open_list
from voiceflow_worker.campaigns.plan import LOOK_AGAIN, Plan, Planner, enqueue_lock
from voiceflow_worker.campaigns.preview import PreviewMaker, PreviewOptions
from voiceflow_worker.campaigns.rejects import rejects_file
from voiceflow_worker.campaigns.removal import Removal
from voiceflow_worker.campaigns.row_ends import RowEnd, RowEnds, digest_of
from voiceflow_worker.campaigns.row_list import RowKeeper
from voiceflow_worker.core.audit import Actor, AuditEntry, audited
from voiceflow_worker.core.base.background import LeaderLease
from voiceflow_worker.core.base.reading import starts_of
from voiceflow_worker.core.gates import until_left
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import Same
from voiceflow_worker.errors import CampaignFileError, ChangedSinceError, InvalidInputError
from voiceflow_worker.finding import Finding
from voiceflow_worker.ivr.template_text import is_template
from voiceflow_worker.model.jobs.gate import Gate
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
    default the time of the store's clock. With the `version` of a preview as the `expected_version`, nothing is stored
    if the rows would not do what that showed: ChangedSinceError. `warn` gets what concerns the rows as a whole, such as
    hidden ones, before the first call is stored.
    """

    by: str | Actor | None
    now: datetime | None
    expected_version: str | None
    progress: OnProgress | None
    warn: Callable[[Sequence[Finding]], None] | None


class EnqueueOptions(StartOptions, total=False):
    """How the rows are enqueued. All of it may be left out.

    With `skip_bad` the good rows are enqueued although others are bad, with a limit only if no more are bad than that.
    With `again`, people who were called before are called again: see `enqueue_file`. With `replace`, waiting calls that
    differ from their rows are replaced by these; with `remove_missing`, waiting calls of the batch are cancelled that
    are not in the list, unless a row of it is bad. `rejects` gets the bad and the
    suppressed rows of a file in their original form, each with a reason. `dry_run` stores nothing, and without a queue
    it reads no store. If `only_new`, calls that differ from their rows, or whose rows are left out, stay as they are.
    With `assumptions`, the report of a dry run has a preview of the calls.
    """

    skip_bad: bool | BadRowLimit
    again: CallAgain
    replace: bool
    remove_missing: bool
    only_new: bool
    rejects: Path | None
    dry_run: bool
    assumptions: PreviewOptions | None


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
    ends = RowEnds(file=str(path), batch_id=chosen.batch_id or "", dry_run=True)
    try:
        template = None if chosen.template is not None else await to_thread.run_sync(_template_in, path)
        if template is not None:
            is_bad = any(found.is_error for found in template.findings)
            ends.rows = ends.counts[End.BAD if is_bad else End.NEW] = 1
            ends.found.add(template.findings)
            return ends.report(refused=False)
        check = Enqueueing(
            None, path, chosen, now=now, dry_run=True, assumptions=assumptions, progress=progress, checks=True
        )
    except CampaignFileError as error:
        ends.unreadable(error)
        return ends.report(refused=True)
    return await check.run()


def _template_in(path: Path | InputFile) -> FlowTemplate | None:
    """The call flow template that the file is; None if it is not one. Raises CampaignFileError."""
    file = InputFile(path) if isinstance(path, Path) else path
    if kind_of(file) is not FileKind.JSON:
        return None
    found = next((raw.data for raw in open_list(file, kind=FileKind.JSON)), None)
    return FlowTemplate.parse(found, name=str(path)) if is_template(json.dumps(found)) else None


_CHANGED_SINCE = (
    "nothing was enqueued: what the preview showed has changed since, such as which calls already exist, or who was "
    "called before. Make a new preview, and start from it"
)


class Enqueueing:
    """The enqueuing of the rows of one campaign, which are `given` as a file or as mappings. It is `run` once.

    If it `checks`, a file that cannot be read to its end is reported as a finding, beside the rows that were read.
    """

    _rows: RowKeeper

    def __init__(
        self,
        queue: CallQueue | None,
        given: Path | InputFile | Iterable[Mapping[str, object]],
        options: CampaignOptions,
        *,
        checks: bool = False,
        **how: Unpack[EnqueueOptions],
    ) -> None:
        if wrong := how.keys() - EnqueueOptions.__optional_keys__:
            raise TypeError(f"an enqueue has no option {min(wrong)!r}")
        self.queue: CallQueue | None = queue
        self.how: EnqueueOptions = how
        self.now: datetime = how.get("now") or (datetime.now(UTC) if queue is None else queue.store.clock.now())
        options = dated(options, self.now)
        self.options: CampaignOptions = options
        self.campaign: CampaignRows = CampaignRows(given, options, now=self.now, checks=checks)
        if not options.has_hours and not checks and self.campaign.source.kind is not FileKind.JSON:
            raise InvalidInputError(NO_WINDOW).found(Finding(column="window", kind="no_window", message=NO_WINDOW))
        self._checks = checks
        self._actor = Actor.of(how.get("by"))
        self._dry_run, self._version = how.get("dry_run", False), how.get("expected_version")
        self._order = ListOrder(
            queue=queue, options=options, file=self.campaign.file, column=self.campaign.number_column,
            again=how.get("again", False), replace=how.get("replace", False), keeps=how.get("only_new", False),
            remove_missing=how.get("remove_missing", False), shows=self._dry_run or self._version is not None,
            since=None if self._actor.claim is None else self._actor.claim.since,
        )  # fmt: skip
        self._enqueuer = RowEnqueuer(self._order)
        self._batches = set[str]()
        """The batches of all good rows."""
        self._removal: Removal | None = None
        """What ends calls that are no longer in the list, if that is ordered."""
        self._keys: Mapping[str, str] = {}
        """The further keys that calls get, by their ids."""
        self._cut: Sequence[Gate] = ()
        """The imports that were cut, and that these rows complete."""
        self._none_begun: tuple[Same, ...] = ()
        """The conditions that no other import has begun in these batches since the rows were compared."""
        self._ends = RowEnds(
            file=self.campaign.file, batch_id=self.campaign.batch_id, dry_run=self._dry_run,
            batches=self._batches,
            replaces=self._order.replace,
        )  # fmt: skip
        has_texts = not checks or not (self.campaign.has_numbers_only or self.campaign.source.kind is FileKind.JSON)
        if self._dry_run and has_texts and (assumed := how.get("assumptions")) is not None:
            self._ends.maker = PreviewMaker(
                assumed, self.campaign.later_texts, now=self.now, asks_store=queue is not None
            )
        self._ends.found.add(self.campaign.findings)

    async def run(self) -> EnqueueReport:
        """Enqueue the rows: see `enqueue_file`."""
        report = await self._report()
        if report.refused and not self._dry_run:
            raise RowsRefusedError.of(report)
        return report

    async def _report(self) -> EnqueueReport:
        queue, campaign, ends = self.queue, self.campaign, self._ends
        if queue is None and not self._dry_run:
            raise ValueError("a queue is needed unless this is a dry run")
        shown = ""  # what is stored at the end is not read again
        starts = () if queue is None else await starts_of(queue.store, queue.name)
        self._enqueuer.unfinished = frozenset(start.start for start in starts)
        planner = None if queue is None else Planner(
            order=self._order, queue=queue, seen=campaign.keys, index=campaign.persons, has_staged=bool(starts)
        )  # fmt: skip
        with ExitStack() as stack:
            held = stack.enter_context(TemporaryFile())
            self._rows = RowKeeper(campaign, held, self.options, keeps_all=queue is not None and not self._dry_run)
            if (rejects := self.how.get("rejects")) is not None and campaign.input is not None:
                ends.reject = stack.enter_context(rejects_file(rejects, campaign.source, read=campaign.input))
            has_made_key = await self._read(planner)
            ends.found.add(closing := campaign.closing_findings())
            if closing and (warn := self.how.get("warn")) is not None:
                warn(closing)
            is_wrong = ends.problem_of_size(self.options.most, removes=self._order.remove_missing)
            is_wrong = is_wrong or any(each.is_error for each in (*campaign.findings, *closing))
            stores = not (self._dry_run or self._is_refused(is_wrong=is_wrong))
            needs_lock = has_made_key or self._order.replace or self._order.remove_missing or self._version is not None
            if queue is not None and stores and not needs_lock:
                # Whoever ends another start must know that nobody goes on with it.
                needs_lock = any(start.name in self._batches for start in await starts_of(queue.store, queue.name))
            is_locked = needs_lock and stores
            name = f"batch {campaign.batch_id}"
            async with nullcontext() if queue is None or not is_locked else enqueue_lock(queue, name) as lock:
                wrong = await self._find_cut()
                plan = None if planner is None else await self._compare(planner)
                removal = None if planner is None or plan is None else Removal(planner, plan, self._listed)
                wrong += [] if removal is None else await removal.problems(batch_id=campaign.batch_id)
                ends.found.add(wrong)
                is_wrong = is_wrong or any(each.is_error for each in wrong) or (ends.again > 0 and not self._dry_run)
                refused = self._is_refused(is_wrong=is_wrong)
                # Days such as tomorrow are others after midnight.
                own = self.options
                shown = f"{own.batch_id}.{own.not_before}.{own.valid_until}.{ends.shown()}"
                self._keys = {} if plan is None else plan.keys
                self._removal = removal if self._order.remove_missing else None
                if self._version is not None and not refused:
                    found = f"{shown}.{digest_of(await self._suppressed())}"
                    if self._version != found:
                        raise ChangedSinceError(_CHANGED_SINCE)
                if queue is None or self._dry_run or refused:
                    await self._show(refused=refused)
                else:
                    await self._start(queue, lock)
        values = campaign.values
        return ends.report(
            refused=refused, unread=values.unread(), partly_filled=values.partly_filled(),
            version=f"{shown}.{digest_of(ends.suppressed())}",
        )  # fmt: skip

    def _is_refused(self, *, is_wrong: bool) -> bool:
        """Whether nothing may be enqueued, because the list is wrong, or something of it is undecided."""
        bad, rows = self._ends.counts[End.BAD], self._ends.rows - self._ends.left_out
        may_leave = may_leave_out(bad, rows=rows, limit=self.how.get("skip_bad", False))
        return is_wrong or not may_leave or self._ends.is_undecided(self._order)

    async def _read(self, planner: Planner | None) -> bool:
        """Read all rows, and spool those that make calls; returns whether one of these has no key of its own."""
        campaign, has_made_key = self.campaign, False
        # Files may lie on slow disks. Rows of a program are taken in its own thread: a cursor may allow no other.
        take_part, in_thread = partial(next, campaign.parts(CHUNK), None), campaign.input is not None
        try:
            # Only the end of the rows is None: a failure is raised, and ends the loop too.
            while (part := await to_thread.run_sync(take_part) if in_thread else take_part()) is not None:
                # In a thread, because a worker may share this event loop.
                ends = await self._enqueuer.classify(await to_thread.run_sync(campaign.read, part))
                has_made_key = self._take_in(ends, planner) or has_made_key
                if (progress := self.how.get("progress")) is not None:
                    done, size = (0, 0) if (file := campaign.input) is None else (file.position, file.size)
                    progress(Phase.READING, done=done, total=max(size, done), rows=self._ends.rows)
        except CampaignFileError as error:
            if not self._checks:
                raise
            self._ends.unreadable(error)
        self._ends.name(*self._enqueuer.names)
        return has_made_key

    def _take_in(self, ends: Sequence[RowEnd], planner: Planner | None) -> bool:
        """Count the ends of rows, and spool these; returns whether one that makes a call has no key of its own."""
        has_made_key = False
        for end in ends:
            self._ends.add(end)
            if (row := end.row) is None:
                continue
            if end.makes_call:
                has_made_key = has_made_key or row.has_made_key
            elif end.kind is End.LATE:
                self.campaign.persons.silence(row, self.campaign.batch_in(row.raw), is_left_out=False)
            if row.call is not None and row.call.batch_id:
                self._batches.add(row.call.batch_id)
        if planner is not None:
            planner.add(ends)
        try:
            self._rows.add(ends)
        except OSError as error:
            where = f"in {error.filename} while the file is read"
            raise CampaignFileError(f"the rows cannot be stored {where}: {error.strerror}") from error
        return has_made_key

    async def _compare(self, planner: Planner) -> Plan:
        """Compare the rows with the calls that are stored, and count what comes of that."""
        plan = await planner.find(self._rows.to_call, self._listed, self._ends)
        self._ends.add_repeated(plan.repeated, column=self.campaign.number_column, again=self._order.again is True)
        return plan

    @property
    def _listed(self) -> set[str]:
        """The batches of the list."""
        return {*self._batches, self.campaign.batch_id}

    async def _find_cut(self) -> list[Finding]:
        """Find the imports that these rows complete. Returns errors about those that other rows have to complete."""
        if self.queue is None:
            return []
        while True:
            self._none_begun = await none_begun(self.queue, self._batches)
            self._cut, others, is_beginning = await cut_imports(
                self.queue, self._batches, self.campaign.keys, changes=self._order.replace or self._order.remove_missing
            )
            if self._dry_run or not is_beginning:
                break
            await self.queue.store.clock.sleep(LOOK_AGAIN)
        return [replace(each, file=self.campaign.file) for each in others]

    # -- the rows that were read and compared are enqueued, or only looked up --------------------------------------

    @property
    def _gone(self) -> int:
        """How many calls are to end."""
        return 0 if self._removal is None else self._removal.plan.in_no_row + len(self._removal.plan.left_out)

    @property
    def _has_work(self) -> bool:
        """Whether there may be something to store."""
        return bool(len(self._rows) or self._gone)

    async def _suppressed(self) -> set[int]:
        """The rows that would be suppressed."""
        suppressed = set[int]()
        for chunk in self._rows.to_call():
            rows = list(filter(self._ends.makes_call, chunk))
            found = await self._enqueuer.enqueue(rows, staging=None)
            suppressed |= {end.number for end in found if end.kind is End.SUPPRESSED}
        return suppressed

    async def _show(self, *, refused: bool) -> None:
        """Only look the rows up. Raises InvalidInputError for a cancelled batch, as the import itself does."""
        await self._enqueue(None)
        if self.queue is not None and not refused and self._has_work:
            await self.queue.admitter.require_open(self._batches)
        if not refused and self._removal is not None:
            self._removal.tell_staying(self._ends)

    async def _start(self, queue: CallQueue, lock: LeaderLease | None) -> None:
        """Enqueue all rows as an import, which completes those that were cut. Its calls are staged until its end."""
        order, ends, by = self._order, self._ends, self._actor
        action = "replace" if order.replace or order.remove_missing else "start"
        entry = AuditEntry.of(by, action, at=queue.store.clock.now(), queue=queue.name, batch=ends.batch)
        async with audited(queue.store, entry, by.claim) as store:
            conditions = () if lock is None else (lock.condition,)
            imported = Import(queue, store.store, conditions=conditions, by=by)
            await self._carry_out(queue, imported, store.store)
            done = f"{count_of(ends.counts[End.NEW], 'call')} of {ends.rows} enqueued"
            what = ", ".join(f"{each} {count}" for each, count in sorted(self._enqueuer.changed_in.items()))
            changed = f"{ends.counts[End.CHANGED]} changed" + (f" ({what})" if what else "")
            store.result = ", ".join([done, *([changed, f"{ends.removed} removed"] if action == "replace" else [])])
            store.ends_with = store.result
            await imported.end(self._cut)

    async def _carry_out(self, queue: CallQueue, imported: Import, store: Store) -> None:
        """Store what is new, then change and remove in the order of the list, and look again at what was on its way.

        Who is cut before a call was changed leaves staged calls; after that, the same list, or a newer one, goes on.
        """
        removal = self._removal
        changes, later = self._ends.to_call(End.CHANGED), self._ends.to_call(End.ON_THE_WAY)
        gone = self._gone
        if self._has_work:  # a cancelled batch is refused, also if a person has cancelled each call of it
            await imported.begin(self._none_begun, calls=len(self._rows), puts=menu_puts(self.options))
        await queue.admitter.give_keys(self._keys, staging=imported.staging)
        silenced = self._ends.silenced
        await self._rows.keep(queue, self._ends, imported.staging.conditions)
        if self._ends.counts[End.NEW]:
            await self._enqueue(imported, but=changes | later)
        total = len(changes) + gone
        if total and imported.staging.records:
            await imported.note_changes(0, total)
        if changes:
            await self._enqueue(imported, among=changes, total=total)
        if removal is not None:
            await removal.run(store, self._ends)
        if later or gone:
            await until_left(store, [queue.name])
            await self._enqueue(imported, among=later)
            if removal is not None:
                await removal.run(store, self._ends, on_the_way=True)
        if self._ends.silenced > silenced:
            await self._rows.keep(queue, self._ends, imported.staging.conditions)

    async def _enqueue(
        self,
        imported: Import | None,
        *,
        among: Collection[int] | None = None,
        but: Collection[int] = (),
        total: int = 0,
    ) -> None:
        """Enqueue rows; without an import, find only who is suppressed.

        The rows are `among` these, or all `but` those. With a `total` of changes, it is noted how far they are.
        """
        done, ends = 0, self._ends
        size = min(CHUNK, max(len(among or ()) // 10, 10)) if total else CHUNK
        for chunk in self._rows.to_call(among, but=but) if among is None or among else ():
            for start in range(0, len(chunk), size):
                if total and done and imported is not None:
                    await imported.note_changes(done, total)
                some = chunk[start : start + size]
                rows = list(filter(ends.makes_call, some))
                staging = None if imported is None else imported.staging
                try:
                    found = await self._enqueuer.enqueue(rows, staging=staging, ends=ends)
                except InvalidInputError:
                    if imported is not None and not (done or total):
                        await imported.end()  # no call was stored
                    raise
                for end in found:
                    ends.move(end)
                if ends.maker is not None:
                    without = {end.number for end in found if end.row is not None and end.row.call is None}
                    ends.maker.add(row for row in rows if row.raw.number not in without)
                done += len(some)
                if imported is not None and (progress := self.how.get("progress")) is not None:
                    count = len(self._rows)
                    progress(Phase.ENQUEUEING, done=min(done, count), total=count, rows=ends.rows)
