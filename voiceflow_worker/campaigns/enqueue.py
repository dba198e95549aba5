"""The enqueuing of a campaign's rows: all or none, or with `skip_bad` the good rows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Protocol

from anyio import to_thread

from voiceflow_worker.campaigns.called_before import CallsBefore
from voiceflow_worker.campaigns.calls.options import CampaignOptions, Purpose
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import CampaignRows, in_parts, open_campaign
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport, Tally
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.campaigns.files.packs import Packs
from voiceflow_worker.campaigns.files.rejects import RejectsFile
from voiceflow_worker.campaigns.files.rows import FileKind, RawRow
from voiceflow_worker.campaigns.intake import Intake
from voiceflow_worker.campaigns.preview.preview import PreviewMaker, PreviewOptions
from voiceflow_worker.campaigns.sources.detection import kind_of, open_source
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.core.queue import CallQueue
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.model.flows.template_text import is_template
from voiceflow_worker.model.flows.values import is_list, is_object

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


async def enqueue_file(
    queue: CallQueue | None,
    path: Path | InputFile,
    options: CampaignOptions | None = None,
    *,
    now: datetime | None = None,
    skip_bad: bool = False,
    rejects: Path | None = None,
    dry_run: bool = False,
    assumptions: PreviewOptions | None = None,
    again: bool = False,
    progress: OnProgress | None = None,
) -> EnqueueReport:
    """Make jobs of the rows of a file, and report the result.

    If a row is bad, nothing is enqueued, and the report names every bad row; with `skip_bad` the good rows are
    enqueued. A row is bad if it breaks a rule, or if its unique key belongs to a different call in the store or earlier
    in the file. A row whose call exists already, in the store or earlier in the file, is a duplicate and makes no job.
    A file whose enqueue was interrupted can therefore be enqueued again.

    If a row without its own unique key calls a number that already has another call in the same batch, nothing is
    enqueued, unless `again` is True. This happens, for example, after the template was corrected. The same holds if
    another batch has made the same call in the last seven days, for example because the file was renamed. Deleted calls
    do not count, and neither do calls that ended without a ring, such as cancelled ones.

    `rejects` gets the bad rows in their original form, each with a reason. `dry_run` stores nothing, and without a
    queue it reads no store. With `assumptions`, the report of a dry run has a preview of the calls. `now` is the time
    of the store's clock by default. Raises CampaignFileError for a file that cannot be read, and InvalidInputError for
    a wrong option; nothing is stored then. Raises StoreError if the store fails; it is then safe to enqueue the file
    again.
    """
    now = _now(queue, now)
    campaign, report = _opened(path, options, now=now, purpose=Purpose.ENQUEUE, progress=progress)
    with ExitStack() as stack:
        rejected = None
        if rejects is not None and campaign.input is not None:
            RejectsFile.refuse_name(rejects, campaign.input, campaign.source)
            rejected = stack.enter_context(RejectsFile(rejects, campaign.source))
        enqueueing = _Enqueueing(queue, campaign, options or CampaignOptions(), skip_bad=skip_bad, again=again)
        return await enqueueing.run(
            dry_run=dry_run, now=now, assumptions=assumptions, rejected=rejected, progress=report
        )


async def check_file(
    path: Path | InputFile,
    options: CampaignOptions | None = None,
    *,
    now: datetime,
    assumptions: PreviewOptions | None = None,
    progress: OnProgress | None = None,
) -> EnqueueReport:
    """Report every problem of a campaign, a request body or a call flow template: a dry run without a store.

    A validity that has passed is a warning. Without a template in the options, only the numbers and reserved columns of
    a table are checked. If the file itself is a template, only its constant parts are checked. A file that cannot be
    read is reported as a finding. Raises InvalidInputError for a wrong option.
    """
    chosen = options or CampaignOptions()
    tally = Tally(file=str(path), batch_id=chosen.batch_id or "", dry_run=True)
    try:
        template = None if chosen.template is not None else await to_thread.run_sync(_template_in, path, chosen)
        if template is not None:
            tally.rows = tally.valid = 1
            tally.findings.add(template.findings)
            return tally.report(refused=False, now=now)
        campaign, report = _opened(path, chosen, now=now, purpose=Purpose.CHECK, progress=progress)
    except CampaignFileError as error:
        tally.unreadable(error)
        return tally.report(refused=True, now=now)
    if campaign.is_bare or campaign.source.kind is FileKind.JSON:
        assumptions = None
    enqueueing = _Enqueueing(None, campaign, chosen, skip_bad=False, again=False, checks=True)
    return await enqueueing.run(dry_run=True, now=now, assumptions=assumptions, progress=report)


def _template_in(path: Path | InputFile, options: CampaignOptions) -> FlowTemplate | None:
    """The call flow template that the file is; None if it is not one. Raises CampaignFileError."""
    file = InputFile(path) if isinstance(path, Path) else path
    if (options.file_kind or kind_of(file)) is not FileKind.JSON:
        return None
    found = next((raw.data for raw in open_source(file, kind=FileKind.JSON)), None)
    return FlowTemplate.parse(found, name=str(path)) if _is_template(found) else None


def _is_template(value: object) -> bool:
    if isinstance(value, str):
        return is_template(value)
    if is_object(value):
        return any(_is_template(item) for item in value.values())
    return is_list(value) and any(_is_template(item) for item in value)


async def enqueue_rows(
    queue: CallQueue | None,
    rows: Iterable[Mapping[str, object]],
    options: CampaignOptions | None = None,
    *,
    now: datetime | None = None,
    skip_bad: bool = False,
    dry_run: bool = False,
    assumptions: PreviewOptions | None = None,
    again: bool = False,
) -> EnqueueReport:
    """Make jobs of rows that a program has, such as the records of a query, and report the result.

    Each row is a mapping from columns to values, as in a file: `enqueue_file` explains bad rows, duplicates, keys and
    errors. Without a template, each row is a request body. Findings count the rows from 1. The rows may come from a
    generator: they are read once, in the caller's thread, and never all at the same time. The options must name the
    batch. Without rows, nobody is called.
    """
    now = _now(queue, now)
    campaign = open_campaign(rows, options, now=now)
    enqueueing = _Enqueueing(queue, campaign, options or CampaignOptions(), skip_bad=skip_bad, again=again)
    return await enqueueing.run(dry_run=dry_run, now=now, assumptions=assumptions)


Report = Callable[[Phase, int, int, int], None]


def _opened(
    path: Path | InputFile,
    options: CampaignOptions | None,
    *,
    now: datetime,
    purpose: Purpose,
    progress: OnProgress | None,
) -> tuple[CampaignRows, Report]:
    """The opened campaign, and the function that reports its progress. Raises CampaignFileError, InvalidInputError."""
    read_bytes = 0

    def on_bytes(count: int) -> None:
        nonlocal read_bytes
        read_bytes = count  # reported with the next chunk, in the caller's own thread

    def report(phase: Phase, done: int, total: int, rows: int) -> None:
        if progress is not None and phase is Phase.ENQUEUEING:
            progress(phase, done=done, total=total, rows=rows)
        elif progress is not None:
            size = campaign.input.size if campaign.input is not None else 0
            progress(phase, done=read_bytes, total=max(size, read_bytes), rows=rows)

    campaign = open_campaign(path, options, now=now, purpose=purpose, on_bytes=on_bytes)
    return campaign, report


def _now(queue: CallQueue | None, now: datetime | None) -> datetime:
    if now is not None:
        return now
    return datetime.now(UTC) if queue is None else queue.store.clock.now()


@dataclass(slots=True)
class _Enqueueing:
    """The enqueuing of the rows of one campaign."""

    queue: CallQueue | None
    campaign: CampaignRows
    options: CampaignOptions
    _: KW_ONLY
    skip_bad: bool
    again: bool
    checks: bool = False
    """Whether a file that cannot be read to its end is reported as a finding, beside the rows that were read."""

    async def run(
        self,
        *,
        dry_run: bool,
        now: datetime,
        assumptions: PreviewOptions | None,
        rejected: RejectsFile | None = None,
        progress: Report | None = None,
    ) -> EnqueueReport:
        """Enqueue the rows: see `enqueue_file`. `progress` gets the phase, rows done, their total, and rows read."""
        queue, campaign = self.queue, self.campaign
        if queue is None and not dry_run:
            raise ValueError("a queue is needed unless this is a dry run")
        tally = Tally(file=campaign.file, batch_id=campaign.batch_id, dry_run=dry_run)
        if dry_run and assumptions is not None:
            tally.preview = PreviewMaker(assumptions)
        tally.findings.add(campaign.findings)
        intake = Intake(queue, campaign.file, self.options)
        before = CallsBefore(queue, campaign.keys) if queue is not None and not self.again else None
        with TemporaryFile() as file:
            held = Packs(file)
            try:
                async with aclosing(self._chunks()) as chunks:
                    async for rows in chunks:
                        judged = await intake.judge(rows)
                        tally.judged(judged, rejected)
                        if self.checks:
                            tally.listen(judged.new)
                        if before is not None:
                            await before.add(judged.new)
                        _hold(judged.new, held)
                        if progress is not None:
                            progress(Phase.READING, 0, 0, tally.rows)
                campaign.refuse_empty(found_any=tally.rows > 0)
            except CampaignFileError as error:
                if not self.checks:
                    raise
                tally.unreadable(error)
            tally.findings.add(campaign.repeats())
            refused = tally.rejected > 0 and not self.skip_bad
            if before is not None and not refused:
                tally.called_before(await before.find(map(_unpacked, held)))
                refused = tally.again > 0 and not dry_run
            stores = not (dry_run or refused)
            done = 0
            for pack in held:
                rows = _unpacked(pack)
                tally.taken(rows, await intake.hand_in(rows, dry_run=not stores), rejected)
                done += len(rows)
                if stores and progress is not None:
                    progress(Phase.ENQUEUEING, done, len(held), tally.rows)
        return tally.report(refused=refused, now=now)

    async def _chunks(self) -> AsyncGenerator[list[ReadRow]]:
        """The rows of the campaign. They are read in a thread, because a worker may share this event loop."""
        take = partial(next, in_parts(self.campaign.source, CHUNK), None)
        # Files may lie on slow disks. Rows of a program are taken in its own thread: a cursor may allow no other.
        while part := await to_thread.run_sync(take) if self.campaign.input is not None else take():
            yield await to_thread.run_sync(self.campaign.read, part)


def _hold(rows: Sequence[ReadRow], held: Packs) -> None:
    """Store each row that has a call, with this call, until the whole file has been read. Findings are dropped."""
    try:
        held.put([(tuple(row.raw), tuple(row.call), row.has_made_key) for row in rows if row.call is not None])
    except OSError as error:
        where = f"in {error.filename} while the file is read"
        raise CampaignFileError(f"the rows cannot be stored {where}: {error.strerror}") from error


def _unpacked(pack: Sequence[tuple[Any, ...]]) -> list[ReadRow]:
    return [
        ReadRow(RawRow._make(raw), made := CheckedCall._make(call), made.digest, has_made_key=has_made_key)
        for raw, call, has_made_key in pack
    ]
