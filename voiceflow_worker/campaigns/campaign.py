"""A campaign from its preview to its report: a file of people, and the batch of their calls."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.campaign_rows import batch_of
from voiceflow_worker.campaigns.enqueue import EnqueueReport, OnProgress, enqueue_file
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.campaigns.preview import PreviewOptions
from voiceflow_worker.campaigns.reports.report_files import ReportFiles, write_report_files
from voiceflow_worker.core.overview.batches import BatchProgress, read_batch
from voiceflow_worker.core.overview.report import Report
from voiceflow_worker.core.ports.reading import limits_of
from voiceflow_worker.core.queue import CallQueue
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.gate import Gate


class Campaign:
    """A file of people, and the batch of their calls in a queue.

    The batch id comes from the options, else from the name of the file without its extensions. Without a `file`, the
    campaign is a batch that was enqueued before: `Campaign(queue, batch_id="people")`. Rows that name another batch are
    not part of the campaign. Raises InvalidInputError if neither a file nor a batch is given, and CampaignFileError if
    the file's name cannot be a batch id.
    """

    def __init__(
        self,
        queue: CallQueue,
        file: Path | str | None = None,
        options: CampaignOptions | None = None,
        *,
        batch_id: str | None = None,
    ) -> None:
        self.queue = queue
        options = options or CampaignOptions()
        if batch_id is not None and options.batch_id not in {None, batch_id}:
            raise InvalidInputError(
                f"batch_id={batch_id!r} and the options name different batches; name the batch once"
            )
        self._options = replace(options, batch_id=batch_id or options.batch_id)
        self._file = Path(file) if file is not None else None
        named = self._options.batch_id or (batch_of(InputFile(self._file)) if self._file is not None else None)
        if named is None:
            raise InvalidInputError("a campaign needs a file, or the batch_id of calls that were enqueued before")
        self.batch_id = named

    async def preview(self, assumptions: PreviewOptions | None = None) -> EnqueueReport:
        """The report of a dry run: bad rows, duplicates, and a `preview` of texts, duration and cost.

        Nothing is stored. By default, the preview assumes the limits of the queue. Raises the errors of `enqueue`.
        """
        if assumptions is None:
            limits = await limits_of(self.queue.store, self.queue.name)
            assumptions = (
                PreviewOptions()
                if limits is None or limits.are_unreadable
                else PreviewOptions(rate=limits.rate, max_active=limits.max_active)
            )
        now = self.queue.store.clock.now()
        return await enqueue_file(
            self.queue, self._given(), self._options, now=now, dry_run=True, assumptions=assumptions
        )

    async def enqueue(
        self,
        *,
        skip_bad: bool = False,
        rejects: Path | None = None,
        again: bool = False,
        progress: OnProgress | None = None,
    ) -> EnqueueReport:
        """Enqueue all rows, or none if one is bad: see `enqueue_file`. Enqueuing the same file again adds nothing.

        Raises CampaignFileError, InvalidInputError, StoreError.
        """
        return await enqueue_file(
            self.queue,
            self._given(),
            self._options,
            now=self.queue.store.clock.now(),
            skip_bad=skip_bad,
            rejects=rejects,
            again=again,
            progress=progress,
        )

    async def progress(self) -> BatchProgress:
        """The progress of the batch: calls by state, rate, remaining time, hold and doubts. Raises StoreError."""
        return await read_batch(self.queue.store, self.queue.name, self.batch_id)

    async def hold(self, *, until: datetime | None = None, reason: str = "") -> Gate:
        """Hold the batch until this time, or until `resume`. No more calls are sent; calls in flight finish."""
        return await self.queue.hold(batch_id=self.batch_id, until=until, reason=reason)

    async def resume(self) -> Gate:
        """End a hold of the batch. A cancelled batch stays cancelled, as the returned gate shows."""
        return await self.queue.resume(batch_id=self.batch_id)

    async def cancel(self, *, reason: str = "the campaign was cancelled") -> int:
        """Cancel the batch for good, and return the number of cancelled calls. Sent calls are not stopped."""
        return await self.queue.cancel_batch(self.batch_id, reason=reason)

    async def report(
        self,
        *,
        totals_only: bool = False,
        csv: Path | None = None,
        xlsx: Path | None = None,
        html: Path | None = None,
    ) -> Report:
        """The report of the batch, also written to these files. The calls are read once for all files.

        Without files, `totals_only` reads only the counters, which takes milliseconds. Raises OSError, StoreError, and
        InvalidInputError if two files are the same, or the library for Excel files is missing.
        """
        files = ReportFiles(csv=csv, xlsx=xlsx, html=html)
        if not files:
            return await self.queue.report(self.batch_id, totals_only=totals_only)
        return (await write_report_files(files, self.queue.store, self.queue.name, [self.batch_id]))[0]

    def _given(self) -> Path:
        if self._file is None:
            raise InvalidInputError(f"the campaign of batch {self.batch_id} has no file: there are no rows to enqueue")
        return self._file
