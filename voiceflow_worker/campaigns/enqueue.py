"""The enqueuing of a campaign file: all rows or none, or with `skip_bad` the good rows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import Protocol

from anyio import to_thread

from voiceflow_worker.campaigns.called_before import CallsBefore
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport, Tally
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.campaigns.files.packs import Packs
from voiceflow_worker.campaigns.files.rejects import RejectsFile
from voiceflow_worker.campaigns.files.rows import RawRow
from voiceflow_worker.campaigns.intake import Intake
from voiceflow_worker.campaigns.preview.preview import PreviewMaker, PreviewOptions
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.core.queue import CallQueue
from voiceflow_worker.errors import CampaignFileError

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
    now: datetime,
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
    enqueued, unless `again` is True. This happens, for example, after the template was corrected. Deleted calls do not
    count, and neither do calls that ended without a ring, such as cancelled ones.

    `rejects` gets the bad rows in their original form, each with a reason. `dry_run` stores nothing, and without a
    queue it reads no store. With `assumptions`, the report of a dry run has a preview of the calls. Raises
    CampaignFileError for a file that cannot be read, and InvalidInputError for a wrong option; nothing is stored then.
    Raises StoreError if the store fails; it is then safe to enqueue the file again.
    """
    if queue is None and not dry_run:
        raise ValueError("a queue is needed unless this is a dry run")
    read_bytes = 0

    def on_bytes(count: int) -> None:
        nonlocal read_bytes
        read_bytes = count  # reported with the next chunk, in the caller's own thread

    def report_reading() -> None:
        if progress is not None:
            size = max(campaign.input.size, read_bytes)
            progress(Phase.READING, done=read_bytes, total=size, rows=tally.rows)

    campaign = open_campaign(path, options, now=now, on_bytes=on_bytes)
    tally = Tally(file=campaign.file, batch_id=campaign.batch_id, dry_run=dry_run)
    if dry_run and assumptions is not None:
        tally.preview = PreviewMaker(assumptions)
    tally.findings.add(campaign.findings)
    intake = Intake(queue, campaign.file, options or CampaignOptions())
    before = CallsBefore(queue) if queue is not None and not again else None
    with ExitStack() as stack:
        held = Packs(stack.enter_context(TemporaryFile()))
        rejected = None
        if rejects is not None:
            RejectsFile.refuse_name(rejects, campaign.input, campaign.source)
            rejected = stack.enter_context(RejectsFile(rejects, campaign.source))
        reading = iter(campaign)
        # In a thread: files may lie on slow disks, and a worker may share this event loop.
        while rows := await to_thread.run_sync(lambda: list(islice(reading, CHUNK))):
            judged = await intake.judge(rows)
            tally.judged(judged, rejected)
            if before is not None:
                await before.add(judged)
            _hold(judged.new, held)
            report_reading()
        tally.findings.add(campaign.repeats())
        refused = tally.rejected > 0 and not skip_bad
        if before is not None and not refused:
            tally.called_before(await before.find())
            refused = tally.again > 0 and not dry_run
        stores = not (dry_run or refused)
        done = 0
        for pack in held:
            rows = [ReadRow(RawRow._make(raw), CheckedCall._make(call)) for raw, call in pack]
            tally.taken(rows, await intake.hand_in(rows, dry_run=not stores), rejected)
            done += len(rows)
            if stores and progress is not None:
                progress(Phase.ENQUEUEING, done=done, total=len(held), rows=tally.rows)
    return tally.report(refused=refused, now=now)


def _hold(rows: Sequence[ReadRow], held: Packs) -> None:
    """Store each row that has a call, with this call, until the whole file has been read. Findings are dropped."""
    try:
        held.put([(tuple(row.raw), tuple(row.call)) for row in rows if row.call is not None])
    except OSError as error:
        where = f"in {error.filename} while the file is read"
        raise CampaignFileError(f"the rows cannot be stored {where}: {error.strerror}") from error
