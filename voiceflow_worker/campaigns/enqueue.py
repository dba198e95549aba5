"""The enqueuing of a campaign's rows, all or none, or with `skip_bad` the good rows; and its report."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TypedDict, Unpack

from anyio import to_thread

from voiceflow_worker.campaigns.calls.options import ELSEWHERE, NO_WINDOW, CallAgain, CampaignOptions, dated
from voiceflow_worker.campaigns.calls.row_reader import ReadRow, menu_puts
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import CampaignRows
from voiceflow_worker.campaigns.enqueue_report import End, EnqueueReport, Findings, RowsRefusedError
from voiceflow_worker.campaigns.lists.columns import UNIQUE_KEY
from voiceflow_worker.campaigns.lists.input_file import InputFile
from voiceflow_worker.campaigns.lists.rows import FileKind, Row
from voiceflow_worker.campaigns.lists.source import Spool, kind_of, open_list
from voiceflow_worker.campaigns.plan import LOOKED_UP, ImportOrder, Judged, Plan, Planner
from voiceflow_worker.campaigns.preview import Preview, PreviewOptions
from voiceflow_worker.campaigns.rejects import Reject, reason_of, rejects_file
from voiceflow_worker.campaigns.uncalled import Entry, cell_text, kept_rows
from voiceflow_worker.core.admission import AdmissionResult, CheckedCall, Standing
from voiceflow_worker.core.audit import Actor, AuditEntry
from voiceflow_worker.core.base.identity import new_revision
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.core.idempotency import StartKey
from voiceflow_worker.core.imports import TAKEN_OVER_AFTER, BatchList, Import, lists_of
from voiceflow_worker.core.ports.store import BulkWrite, Drop, Put, Result
from voiceflow_worker.core.writes import removed
from voiceflow_worker.errors import (
    CampaignFileError,
    ChangedSinceError,
    IntakeError,
    InvalidInputError,
    TakenOverError,
)
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.ivr.template_text import is_template
from voiceflow_worker.model.flows.bodies import VALIDITY_EXPIRED
from voiceflow_worker.model.jobs.differences import can_still_ring
from voiceflow_worker.model.jobs.job import ON_THE_WAY, again_key, split_key
from voiceflow_worker.model.text.printable import as_stored
from voiceflow_worker.model.text.wording import count_of, duration_in_words, in_words, rate_in_words
from voiceflow_worker.queue import CallQueue

CHUNK = 1000
"""The number of rows enqueued in one trip to the store. A larger number could delay a worker on the same store."""


class StartOptions(TypedDict, total=False):
    """Who starts a campaign, and on which conditions. All of it may be left out.

    `by` is the person who starts it; the audit log keeps this. Durations such as `valid_for` count from `now`, by
    default the time of the store's clock. With the `version` of a preview as the `expected_version`, nothing is stored
    if the rows would not do what that showed: ChangedSinceError. `key` is that of a request of a program.
    """

    by: str | Actor | None
    now: datetime | None
    expected_version: str | None
    key: StartKey | None


class EnqueueOptions(StartOptions, total=False):
    """How the rows are enqueued. All of it may be left out.

    With `skip_bad` the good rows are enqueued although others are bad. With `again`, rows whose calls ended without a
    ring are called: see `enqueue_file`. With `replace`, waiting calls that differ from their rows are changed to what
    these say; with `remove_missing`, calls of the batch that can still ring and are in no row are cancelled. `rejects`
    gets the bad and the suppressed rows of a file, each with a reason. `dry_run` stores nothing, and without a queue it
    reads no store. If `only_new`, calls that differ from their rows, or whose rows are left out, stay as they are.
    With `assumptions`, the report of a dry run has a preview of the calls, and each names the calls that are too many
    for the rate.
    """

    skip_bad: bool
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
    report of a dry run names them. No call is sent before the last one is stored: the batch begins held. If the import
    is interrupted, the batch stays held, until the same list is imported again, or another one.

    A row is its key: its `unique_key`, else its number within the batch. Two different calls of one key are both bad; a
    row equal to an earlier one is a duplicate. A row whose call exists is the same, or changed while that waits, on the
    way, over, or cancelled by a person (`campaigns.plan.judge`). `again` names states in which calls ended without a
    ring (cancelled by a list, expired, failed): such a row gets a new call, whose key ends in `/again-2` and so on.
    With `elsewhere` among them, the words may be those of a call of another batch, which are an error else.

    Raises CampaignFileError for a file that cannot be read (RowsRefusedError is one), and InvalidInputError for a wrong
    option; nothing is stored then. Raises IntakeError beside another import of the batch, and StoreError if the store
    fails; it is then safe to enqueue the file again.
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
) -> EnqueueReport:
    """Report every problem of a campaign, a request body or a call flow template: a dry run without a store.

    A validity of a request body that has passed is a warning. If the file itself is a template, only its constant parts
    are checked. A file that cannot be read is reported as a finding. Raises InvalidInputError for a wrong option.
    """
    chosen = options or CampaignOptions()
    try:
        template = None if chosen.template is not None else await to_thread.run_sync(_template_in, path)
        if template is not None:
            is_bad = any(found.is_error for found in template.findings)
            return EnqueueReport(
                batch_id=chosen.batch_id or "", dry_run=True, rows=1, findings=template.findings,
                counts={End.BAD if is_bad else End.NEW: 1},
            )  # fmt: skip
        check = Enqueueing(None, path, chosen, now=now, dry_run=True, assumptions=assumptions, checks=True)
    except CampaignFileError as error:
        found = _unreadable(error, str(path))
        return EnqueueReport(batch_id=chosen.batch_id or "", dry_run=True, refused=True, findings=(*found,))
    return await check.run()


def _unreadable(error: CampaignFileError, file: str | None) -> Sequence[Finding]:
    """Return the findings of a file that cannot be read."""
    # The file has a field of its own in the finding, so its name is left out of the message.
    short = str(error).removeprefix(file or "").lstrip(" :,")
    return error.findings or (Finding(file=file, message=short),)


def _template_in(path: Path | InputFile) -> FlowTemplate | None:
    """Return the call flow template that the file is; None if it is not one. Raises CampaignFileError."""
    file = InputFile(path) if isinstance(path, Path) else path
    if kind_of(file) is not FileKind.JSON:
        return None
    found = next((raw.data for raw in open_list(file, kind=FileKind.JSON)), None)
    return FlowTemplate.parse(found, name=str(path)) if is_template(json.dumps(found)) else None


_CHANGED_SINCE = (
    "nothing was enqueued: the list is not as the preview showed it, or more calls would be changed or cancelled than "
    "that said. Make a new preview, and start from it"
)
_ROUNDS = 20
"""How often rows are judged again whose calls somebody else changes at the same time."""
_RESULTS = {End.BAD: "bad", End.SUPPRESSED: "suppressed", End.LEFT_OUT: "left out", End.SAME: "duplicate"}
"""The results of rows that call nobody."""


class Enqueueing:
    """The enqueuing of the rows of one campaign, which are `given` as a file or as mappings. It is `run` once.

    If it `checks`, a file that cannot be read to its end is reported as a finding, beside the rows that were read.
    """

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
        if queue is None and not how.get("dry_run", False):
            raise ValueError("a queue is needed unless this is a dry run")
        self.queue: CallQueue | None = queue
        self.how: EnqueueOptions = how
        self.now: datetime = how.get("now") or (datetime.now(UTC) if queue is None else queue.store.clock.now())
        options = dated(options, self.now)
        self.options: CampaignOptions = options
        self.campaign: CampaignRows = CampaignRows(given, options, now=self.now, checks=checks)
        if not options.has_hours and not checks and self.campaign.source.kind is not FileKind.JSON:
            raise InvalidInputError(NO_WINDOW).found(Finding(column="window", kind="no_window", message=NO_WINDOW))
        self._checks = checks
        self._by, self._key = Actor.of(how.get("by")), how.get("key")
        self._dry_run, self._version = how.get("dry_run", False), how.get("expected_version")
        self._order = ImportOrder(
            again=how.get("again") or frozenset(), replace=how.get("replace", False),
            remove_missing=how.get("remove_missing", False), keep_changed=how.get("only_new", False),
        )  # fmt: skip
        self._planner = Planner(
            queue=queue, order=self._order, people=self.campaign.people, file=self.campaign.file,
            column=self.campaign.number_column, pattern=options.batch_pattern,
        )  # fmt: skip
        self._found = Findings()
        self._found.add(self.campaign.findings)
        self._read_as = Counter[End]()
        """The words of rows that make no call, as they were read."""
        self._rows = 0
        self._batches = set[str]()
        """The batches of all good rows."""
        self._digest = hashlib.blake2b(digest_size=16)
        self._keyless = set[int]()
        """The rows without a key of their own; they are bad if some have one."""
        self._has_own_keys = self._lacks_keys = False
        """Whether rows have a key of their own, and whether one that is left out has none that can be read."""
        self._latest = self.now
        """The latest time at which a call may begin, from which its rows are kept."""
        self._reject: Reject | None = None
        has_texts = not checks or self.campaign.source.kind is not FileKind.JSON
        self._preview: Preview | None = None
        if self._dry_run and has_texts and (assumed := how.get("assumptions")) is not None:
            self._preview = Preview(assumed, self.now)

    async def run(self) -> EnqueueReport:
        """Enqueue the rows: see `enqueue_file`."""
        with ExitStack() as stack:
            self._spool = Spool(stack.enter_context(TemporaryFile()))
            if (rejects := self.how.get("rejects")) is not None and self.campaign.input is not None:
                writer = rejects_file(rejects, self.campaign.source, read=self.campaign.input)
                self._reject = stack.enter_context(writer)
            report = await self._carried_out(is_wrong=await self._read())
        if report.refused and not self._dry_run:
            raise RowsRefusedError.of(report)
        return report

    # -- the rows are read, and spooled -----------------------------------------------------------------------------

    async def _read(self) -> bool:
        """Read all rows; return whether the list as a whole is wrong."""
        campaign = self.campaign
        # Files may lie on slow disks. Rows of a program are taken in its own thread: a cursor may allow no other.
        take_part, in_thread = partial(next, campaign.parts(CHUNK), None), campaign.input is not None
        try:
            # Only the end of the rows is None: a failure is raised, and ends the loop too.
            while (part := await to_thread.run_sync(take_part) if in_thread else take_part()) is not None:
                # In a thread, because a worker may share this event loop.
                self._take_in(await to_thread.run_sync(campaign.read, part))
        except CampaignFileError as error:
            if not self._checks:
                raise
            self._found.add(_unreadable(error, campaign.file))
        of_all = [*campaign.closing_findings(), *self._problem_of_size()]
        self._found.add(of_all)
        return any(each.is_error for each in (*campaign.findings, *of_all))

    def _take_in(self, rows: Sequence[ReadRow]) -> None:
        """Count rows, and spool them."""
        spooled, limit, people = list[tuple[Any, ...]](), self.options.limit, self.campaign.people
        for read in rows:
            self._rows += 1
            row, kind, why = read, End.NEW, ""
            is_late = limit is not None and self._rows > limit and not (row.is_bad or row.is_left_out)
            if is_late:
                message = f"waits: the limit is {count_of(limit or 0, 'row')} of the file"
                late = Finding(file=self.campaign.file, row=row.raw.number, severity=Severity.WARNING, message=message)
                row, kind = row.without_call(late), End.LEFT_OUT
            elif row.call is None:
                kind = End.SAME if row.duplicate_of is not None else End.LEFT_OUT if row.is_left_out else End.BAD
            self._found.add(row.findings)
            asked = "" if row.call is None else row.call.asked
            self._digest.update(f"{row.key} {asked} {kind}\n".encode("utf-8", "surrogatepass"))
            if (call := row.call) is not None:
                self._batches.add(call.batch_id or row.batch_id)
                self._has_own_keys |= row.has_own_key
                self._keyless |= set[int]() if row.has_own_key else {row.raw.number}
                self._latest = max(filter(None, (self._latest, call.not_before, call.valid_until)))
            else:
                self._read_as[kind] += 1
                why = reason_of(row.findings)
                self._lacks_keys |= kind is End.LEFT_OUT and row.key is None
                if kind is not End.SAME:
                    people.silence(row, is_left_out=kind is End.LEFT_OUT and not is_late)
                if kind is End.BAD and self._reject is not None:
                    self._reject(row.raw, row.findings)
            fields = None if call is None else tuple(call)
            spooled.append((row.batch_id, tuple(row.raw), fields, row.key, row.has_own_key, kind, why))
        try:
            self._spool.put(spooled)
        except OSError as error:
            where = f"in {error.filename} while the file is read"
            raise CampaignFileError(f"the rows cannot be stored {where}: {error.strerror}") from error

    def _problem_of_size(self) -> Sequence[Finding]:
        """Return what is wrong with how many rows are called, or that none is though missing ones are removed."""
        most, rows = self.options.most, self._rows - self._read_as[End.LEFT_OUT]
        if most is not None and rows > most:
            message = f"{count_of(rows, 'row')} would be called, and most allows {most}: check the file, or allow more"
        elif self._order.remove_missing and not self._rows:
            message = (
                "the list has no rows, and with remove_missing each waiting call of its batch would be cancelled: "
                "give a list with rows, or cancel the batch"
            )
        else:
            return ()
        return (Finding(file=self.campaign.file, message=message),)

    def _to_call(self, plan: Plan | None = None, among: Collection[End] = ()) -> Iterator[list[ReadRow]]:
        """Yield the rows with calls, in parts; of a plan, those with one of these words."""
        for part in self._spool:
            yield [
                ReadRow(Row._make(raw), CheckedCall._make(call), key, has_own_key)
                for _, raw, call, key, has_own_key, *_ in part
                if call is not None and (plan is None or plan.rows.get(raw[0], End.NEW) in among)
            ]

    # -- the rows are compared with the store -------------------------------------------------------------------------

    async def _carried_out(self, *, is_wrong: bool) -> EnqueueReport:
        """Plan the list and store it, until nobody has changed what it was planned by; return the report."""
        queue = self.queue
        for turn in range(_ROUNDS):
            if turn and queue is not None and (report := await self._answer(queue)) is not None:
                return report
            lists = {} if queue is None else await lists_of(queue.store, queue.name, self._all_batches)
            plan = await self._plan(lists)
            refused = is_wrong or self._is_refused(plan)
            if self._version is not None and not refused and not self._is_as_shown(plan):
                raise ChangedSinceError(_CHANGED_SINCE)
            if queue is None or self._dry_run or refused:
                await self._show(plan)
                return self._report(plan, refused=refused)
            if self._is_done(plan, lists):
                return self._report(plan)
            try:
                if (report := await self._store(queue, plan, lists)) is not None:
                    return report
            except TakenOverError:
                if turn == _ROUNDS - 1:
                    raise
        raise IntakeError("other imports of the same batch began again and again. Import the list again")

    def _is_refused(self, plan: Plan) -> bool:
        """Return whether nothing is to be stored because of what the rows and the calls are."""
        is_wrong = any(each.is_error for each in plan.findings)
        is_wrong |= bool(plan.called_elsewhere) and ELSEWHERE not in self._order.again
        is_wrong |= bool(plan.counts[End.CHANGED]) and not (self._order.replace or self._order.keep_changed)
        return is_wrong or bool(self._bad(plan) and not self.how.get("skip_bad", False))

    def _bad(self, plan: Plan) -> int:
        return self._read_as[End.BAD] + plan.counts[End.BAD]

    def _is_done(self, plan: Plan, lists: Mapping[str, BatchList]) -> bool:
        """Return whether the same list was imported last, so that nothing is to be written, not even that it was."""
        is_last = all(each.has_ended(self._list_digest) for each in lists.values())
        changes = plan.counts[End.NEW] + plan.counts[End.CHANGED] + len(plan.missing)
        return self._key is None and is_last and not changes

    async def _answer(self, queue: CallQueue) -> EnqueueReport | None:
        """Return the report of another program that has carried out the same request meanwhile."""
        self._key = None if self._key is None else await self._key.read(queue.store)
        result = None if self._key is None else self._key.start.result
        return None if result is None else EnqueueReport(**result, dry_run=False)

    async def _plan(self, lists: Mapping[str, BatchList]) -> Plan:
        """Compare the rows with the calls that are stored. Raises InvalidInputError for a cancelled batch."""
        queue, plan, planner = self.queue, Plan(), self._planner
        if queue is not None:
            await queue.admitter.require_open(self._all_batches)
            plan.findings += self._problems_of_lists(queue, lists)
        clashes, keyless = self.campaign.people.clashes, self._keyless if self._has_own_keys else ()
        step, place, late, looked_up = max(1, self._rows // LOOKED_UP), 0, 0, list[ReadRow]()
        rate = None if (assumed := self.how.get("assumptions")) is None else assumed.rate
        each_after = timedelta(seconds=1 / rate if rate else 0)
        for chunk in self._to_call():
            good = list[ReadRow]()
            for row in chunk:
                number = row.raw.number
                if number in clashes:
                    plan.add(planner.bad(row, self.campaign.clash(clashes[number], row)))
                elif number in keyless:
                    missing = "is empty, and other rows have a unique_key. Fill it in."
                    plan.add(planner.bad(row, Finding(column=UNIQUE_KEY, message=missing)))
                else:
                    good.append(row)
            for judged in await planner.judged(good):
                plan.add(judged)
                until = judged.row.call.valid_until if judged.status is End.NEW and judged.row.call else None
                late += until is not None and until < self.now + plan.counts[End.NEW] * each_after
                is_new, place = judged.status is End.NEW and not judged.row.has_own_key, place + 1
                if is_new and place % step == 0 and len(looked_up) < LOOKED_UP:
                    looked_up.append(judged.row)
        cut = {str(each.hold.token) for each in lists.values() if each.hold is not None}
        had_calls = await planner.find_missing(plan, self._all_batches, cut=cut)
        if self._order.remove_missing and not had_calls and queue is not None:
            message = (
                f"nothing can be missing from batch {self._batch}, which is new: start it without `remove_missing`"
            )
            plan.findings.append(Finding(file=self.campaign.file, message=message))
        if late:
            message = (
                f"{late} of {count_of(plan.counts[End.NEW], 'new call')} will not be sent before their validity ends: "
                f"at {rate_in_words(rate)}, the last one has its turn in "
                f"{duration_in_words(plan.counts[End.NEW] * each_after)}. Give a longer `valid_for`, or raise the rate"
            )
            late_calls = Finding(file=self.campaign.file, kind="late", severity=Severity.WARNING, message=message)
            plan.findings.append(late_calls)
        planner.judge_missing(plan, is_whole=not (self._bad(plan) or self._lacks_keys))
        plan.findings += await planner.find_elsewhere(plan, looked_up, self._batches)
        return plan

    @property
    def _all_batches(self) -> set[str]:
        """Batches of the list, also of one without a good row."""
        is_whole = self._order.remove_missing or not self._batches
        return self._batches | ({self.campaign.batch_id} if is_whole else set[str]())

    @property
    def _identity(self) -> str:
        """Words for what distinguishes the rows of the list."""
        if not self._has_own_keys:
            return "their number"
        if not self.campaign.source.kind.is_table and self.options.template is None:
            return "clientRequestId"
        roles = self.options.roles
        names = roles.keys or (roles.names.get(UNIQUE_KEY, UNIQUE_KEY),)
        return f"the column{'s' if len(names) > 1 else ''} {' and '.join(names)}"

    def _problems_of_lists(self, queue: CallQueue, lists: Mapping[str, BatchList]) -> list[Finding]:
        """Return why the list cannot be one of its batches. Raises IntakeError beside another import."""
        found, now = list[Finding](), queue.store.clock.now()
        for each in lists.values():
            if each.identity not in {None, self._identity}:
                message = (
                    f"batch {each.batch} distinguishes rows by {each.identity}, and this list by {self._identity}. "
                    "Give another `batch`."
                )
                found.append(Finding(file=self.campaign.file, message=message))
            run = each.open_run()
            if run is not None and run.digest != self._list_digest and now - run.wrote < TAKEN_OVER_AFTER:
                raise IntakeError(
                    f"another list is being imported into batch {each.batch}, since {in_words(run.began)}. Nothing was "
                    "enqueued. Try again in a minute: it is taken over then, if it has stopped"
                )
        return found

    @property
    def _list_digest(self) -> str:
        return f"{self._digest.hexdigest()}.{self._identity.replace(' ', '-')}"

    def _version_of(self, plan: Plan) -> str:
        return f"{self._digest.hexdigest()}.{plan.counts[End.CHANGED]}.{len(plan.missing)}"

    def _is_as_shown(self, plan: Plan) -> bool:
        """Return whether the rows are those of the preview, and no more calls are changed or cancelled than it said."""
        digest, *counts = (self._version or "").split(".")
        now, *found = self._version_of(plan).split(".")
        return digest == now and all(int(was) >= int(each) for was, each in zip(counts, found, strict=False))

    async def _show(self, plan: Plan) -> None:
        """Look the rows up without storing them: who is suppressed, and what those who are called hear."""
        for chunk in self._to_call(plan, {End.NEW, End.CHANGED}):
            rows = [row for row in chunk if plan.rows.get(row.raw.number, End.NEW) is End.NEW]
            if self.queue is not None and rows:
                listed = await self.queue.admitter.listed([row.call for row in rows if row.call is not None])
                for place, number in listed.items():
                    plan.move(self._planner.suppressed(rows[place], number))
            for row in chunk:
                if self._preview is not None and plan.rows.get(row.raw.number) is not End.SUPPRESSED:
                    self._preview.add(row, self.campaign.later_texts)

    # -- and stored -------------------------------------------------------------------------------------------------

    async def _store(self, queue: CallQueue, plan: Plan, lists: Mapping[str, BatchList]) -> EnqueueReport | None:
        """Store what is planned, as an import; None if another import has begun since it was planned."""
        order, key = self._order, self._key
        action = "replace" if order.replace or order.remove_missing else "start"
        entry = AuditEntry.of(self._by, action, at=queue.store.clock.now(), queue=queue.name, batch=self._batch)
        reason = (
            f"a list is being imported, ordered by {self._by.called}, {self._by.on}. If it was interrupted, import the "
            "same list again, or another one, which completes it"
        )
        run = new_revision()
        imported = await Import.begin(
            queue.store, queue.name, lists, run_id=run, digest=self._list_digest, identity=self._identity,
            reason=reason, conditions=() if key is None else (key.condition,),
            puts=[*menu_puts(self.options), *(() if key is None else (key.put(run=run),))],
        )  # fmt: skip
        if imported is None:
            return None
        await self._store_rows(queue, plan, imported, {End.NEW})
        if order.replace:
            await self._store_rows(queue, plan, imported, {End.CHANGED})
        await self._remove(queue, plan, imported)
        puts, drops = await self._uncalled(queue, plan, imported)
        report = self._report(plan)
        result = f"{count_of(report.enqueued, 'call')} of {self._rows} enqueued"
        if action == "replace":
            what = ", ".join(f"{each} {count}" for each, count in sorted(plan.changed_in.items()))
            result += f", {plan.counts[End.CHANGED]} changed" + (f" ({what})" if what else "")
            result += f", {plan.removed} removed"
        puts += replace(entry, result=result).puts()
        if key is not None:
            names = ("batch_id", "rows", "counts", "replaces", "removed")
            puts.append(key.put(run=imported.id, result={name: getattr(report, name) for name in names}))
        await imported.end(puts=puts, drops=drops)
        return report

    async def _store_rows(self, queue: CallQueue, plan: Plan, imported: Import, among: Collection[End]) -> None:
        """Store the new calls of rows, or change those that exist."""
        shared = dict[int, list[str]]()
        for each in plan.missing if self._order.remove_missing else ():
            if each.shares is not None:
                shared.setdefault(each.shares, []).append(each.id)
        for chunk in self._to_call(plan, among):
            await imported.beat()
            await self._store_chunk(queue, plan, imported, chunk, shared)

    async def _store_chunk(
        self, queue: CallQueue, plan: Plan, imported: Import, left: Sequence[ReadRow], shared: Mapping[int, list[str]]
    ) -> None:
        """Store rows in one trip to the store; those whose calls have moved are judged again."""
        for turn in range(_ROUNDS):
            if not left:
                return
            is_known = turn == 0 and not any(row.raw.number in plan.rows or row.raw.number in shared for row in left)
            judged = [Judged(row, End.NEW) for row in left] if is_known else await self._planner.judged(left)
            rows, calls, standing = list[Judged](), list[CheckedCall](), dict[int, Standing]()
            for each in judged:
                is_stored = each.status is End.NEW or (each.status is End.CHANGED and self._order.replace)
                if each.row.call is None or not is_stored:
                    plan.move(each)
                    continue
                call, beside = await self._beside(queue, each, each.row.call, shared)
                standing |= {} if beside is None else {len(rows): beside}
                rows.append(each)
                calls.append(call)
            admitted = await queue.admitter.admit(
                calls, condition=imported.condition, token=imported.id, standing=standing
            )
            left = []
            for place, (each, admission) in enumerate(zip(rows, admitted, strict=True)):
                if admission.has_moved:
                    left = [*left, each.row]
                else:
                    self._note_admitted(plan, each, admission)
                    plan.removed += len(standing[place].removed) if place in standing and admission.is_new else 0
        in_use = "another program changes the call of this row again and again. Import the same list again."
        for row in left:
            plan.move(self._planner.bad(row, Finding(message=in_use)))

    async def _beside(
        self, queue: CallQueue, judged: Judged, call: CheckedCall, shared: Mapping[int, list[str]]
    ) -> tuple[CheckedCall, Standing | None]:
        """Return the call of a row, with the stored calls that change in its write."""
        if judged.status is End.CHANGED:
            return call, Standing(changed=judged.job)
        gone = await get_jobs(queue.store, shared.get(judged.row.raw.number, ()))
        ended = [job for job in gone.values() if can_still_ring(job)]
        if judged.job is not None:
            key = judged.job.unique_key or ""
            call = call._replace(unique_key=again_key(key, split_key(key)[1] + 1))
        return call, Standing(before=judged.job, removed=ended) if judged.job is not None or ended else None

    def _note_admitted(self, plan: Plan, judged: Judged, admission: AdmissionResult) -> None:
        """Note what became of a row that was to be stored."""
        row = judged.row
        if admission.suppressed is not None:
            plan.move(self._planner.suppressed(row, admission.suppressed))
        elif admission.findings:
            # The row was valid when it was read, but its validity may have passed since.
            wrong = [
                replace(found, column="valid_until", path=None) if _is_late(found) else found
                for found in admission.findings
            ]
            plan.move(self._planner.bad(row, *wrong))
        else:
            if admission.changed is not None:
                plan.changed_in.update(admission.changed.notes[-1].text.split(" and "))
            # Another program has stored the same call, or an erased one had its key.
            status = End.SAME if admission.is_new is False and admission.changed is None else judged.status
            if plan.rows.get(row.raw.number, End.NEW) is not status:
                plan.move(judged._replace(status=status))

    async def _remove(self, queue: CallQueue, plan: Plan, imported: Import) -> None:
        """Cancel the calls that are in no row, if that is ordered, and those that only an interrupted import stored."""
        store, sent, left = queue.store, list[str](), sorted(each.id for each in plan.missing if each.is_removed)
        for _ in range(_ROUNDS):
            moved = list[str]()
            for first in range(0, len(left), CHUNK):
                await imported.beat()
                now, some = store.clock.now(), left[first : first + CHUNK]
                jobs = [job for job in (await get_jobs(store, some)).values() if can_still_ring(job)]
                end = partial(removed, at=now, policy=queue.policy, store_id=store.id, conditions=(imported.condition,))
                answers = await store.write(BulkWrite(writes=tuple(map(end, jobs))), now=now) if jobs else ()
                for job, answer in zip(jobs, answers, strict=True):
                    if answer.result is Result.NOT_FREE:
                        raise TakenOverError(job.batch_id)
                    if answer.result is not Result.DONE:
                        moved.append(job.id)
                    elif job.state in ON_THE_WAY:
                        sent.append(job.id)
                    else:
                        plan.removed += 1
            if not (left := moved):
                break
        if sent:
            names = ", ".join([*sent[:5], *(["…"] if len(sent) > 5 else [])])
            message = f"{count_of(len(sent), 'call')} may still ring, and are not called again: {names}"
            plan.findings.append(Finding(file=self.campaign.file, severity=Severity.WARNING, message=message))

    async def _uncalled(self, queue: CallQueue, plan: Plan, imported: Import) -> tuple[list[Put], list[Drop]]:
        """Return what keeps the rows that call nobody with their batches, in place of earlier ones of the file."""
        kept, names = {batch_id: list[Entry]() for batch_id in self._all_batches}, dict[str, None]()
        source = self.campaign.source
        for part in self._spool if not source.kind.is_table else ():
            for _, raw, *_ in part:
                names |= dict.fromkeys(Row._make(raw).names)
        columns = tuple(map(str.strip, source.header)) or (*names,)
        for part in self._spool:
            for batch_id, fields, call, _, _, kind, why in part:
                raw, result = Row._make(fields), (_RESULTS.get(kind, ""), why)
                if call is not None:
                    if (silent := plan.silent.get(raw.number)) is None:
                        continue
                    result = _RESULTS[silent.status], reason_of(silent.row.findings)
                cells = raw.cells if source.kind.is_table else [cell_text(raw.data.get(name)) for name in columns]
                kept.setdefault(batch_id, []).append([raw.number, list(map(cell_text, cells)), *result])
        sheet, read = self.options.sheet, self.campaign.input
        name = "" if read is None else as_stored(f"{read.name}, sheet {sheet}" if sheet else read.name)
        puts, drops = list[Put](), list[Drop]()
        for batch_id, rows in kept.items():
            if rows or len(kept) == 1:
                more, ended = await kept_rows(
                    queue.store, queue.name, batch_id, rows, name=name, columns=columns, token=imported.id,
                    until=self._latest + queue.policy.retention,
                )  # fmt: skip
                puts += more
                drops += ended
        return puts, drops

    # -- the report -------------------------------------------------------------------------------------------------

    @property
    def _batch(self) -> str:
        """Batch of the rows, or one of them."""
        own = self.campaign.batch_id
        return own if not self._batches or own in self._batches else min(self._batches)

    def _report(self, plan: Plan, *, refused: bool = False) -> EnqueueReport:
        if (reject := self._reject) is not None:
            for judged in plan.silent.values():
                reject(judged.row.raw, judged.row.findings)
        self._found.add([*plan.findings, *self._planner.ended(plan)])
        return EnqueueReport(
            batch_id=self._batch, batches=sorted(self._batches) if len(self._batches) > 1 else (),
            dry_run=self._dry_run, refused=refused, replaces=self._order.replace, rows=self._rows,
            counts=plan.counts + self._read_as, removed=plan.removed, over_differ=plan.over_differ,
            stays=plan.stays, preview=self._preview, findings=self._found.all(file=self.campaign.file),
            again=plan.called_elsewhere if ELSEWHERE not in self._order.again or self._dry_run else 0,
            unread=self.campaign.values.unread(), partly_filled=self.campaign.values.partly_filled(),
            version=self._version_of(plan),
        )  # fmt: skip


def _is_late(found: Finding) -> bool:
    return found.code == VALIDITY_EXPIRED and found.path == "$.validUntil"
