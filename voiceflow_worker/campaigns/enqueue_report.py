"""The report of enqueuing a file, and the counts that it is made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime

from voiceflow_worker.campaigns.called_before import CalledBefore
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.files.findings import Findings
from voiceflow_worker.campaigns.files.rejects import RejectsFile
from voiceflow_worker.campaigns.intake import Judged, Taken
from voiceflow_worker.campaigns.preview.preview import Preview, PreviewMaker
from voiceflow_worker.finding import Finding, Severity

_NO_COUNTS = frozenset({"file", "findings", "preview"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueueReport:
    """The result of enqueuing a file.

    `batch_id` is the batch of rows that name no batch. `enqueued` counts new jobs. `duplicates` counts rows whose call
    existed before, in the store or earlier in the file. `suppressed` counts rows whose number is on the suppression
    list, `rejected` counts bad rows, and `rows` counts all rows. `valid` counts rows that made new jobs; if nothing was
    stored, it counts rows that could have made them. `again` counts rows whose number already has another call in the
    batch, or the same call in another batch. `refused` is True if nothing was enqueued because of bad rows or rows
    counted in `again`.
    """

    batch_id: str
    enqueued: int = 0
    duplicates: int = 0
    suppressed: int = 0
    rejected: int = 0
    findings: tuple[Finding, ...] = ()
    rows: int = 0
    valid: int = 0
    again: int = 0
    dry_run: bool
    refused: bool
    preview: Preview | None = None
    """The preview of a dry run, if it was asked for."""

    def as_json(self) -> dict[str, object]:
        """The report as a JSON object, for scripts."""
        shown = {
            each.name: getattr(self, each.name) for each in fields(self) if each.name not in {"refused", "preview"}
        }
        preview = {} if self.preview is None else {"preview": self.preview.as_json()}
        return {**shown, "findings": [found.as_json() for found in self.findings], **preview}


@dataclass(slots=True, kw_only=True)
class Tally:
    """The running counts of the rows of a file."""

    file: str | None
    batch_id: str
    dry_run: bool
    findings: Findings = field(default_factory=Findings)
    rows: int = 0
    valid: int = 0
    enqueued: int = 0
    duplicates: int = 0
    suppressed: int = 0
    rejected: int = 0
    again: int = 0
    preview: PreviewMaker | None = None

    def called_before(self, found: Iterable[CalledBefore]) -> None:
        """Count the rows that would call people again, and add errors about them. In a dry run, add warnings."""
        severity = Severity.WARNING if self.dry_run else Severity.ERROR
        for each in found:
            self.again += each.count
            self.findings.add([each.finding(file=self.file, severity=severity)])

    def judged(self, judged: Judged, rejects: RejectsFile | None) -> None:
        """Count rows that were read, and write the bad ones to `rejects`."""
        self.rows += len(judged.rows)
        self.valid += len(judged.new)
        self.duplicates += len(judged.known)
        self.rejected += len(judged.bad)
        for row in judged.rows:
            self.findings.add(row.findings)
        _write(judged.bad, rejects)

    def taken(self, rows: Sequence[ReadRow], taken: Taken, rejects: RejectsFile | None) -> None:
        """Count what became of `rows`, which `judged` had counted as valid. The refused ones go to `rejects`."""
        if self.preview is not None:
            left_out = {row.raw.number for row in (*taken.suppressed, *taken.refused)}
            self.preview.add(row for row in rows if row.raw.number not in left_out)
        self.enqueued += taken.enqueued
        self.duplicates += taken.duplicates
        self.suppressed += len(taken.suppressed)
        self.valid -= taken.duplicates + len(taken.suppressed) + len(taken.refused)
        self.rejected += len(taken.refused)
        for row in (*taken.suppressed, *taken.refused):
            self.findings.add(row.findings[-1:])  # the others were added when the row was read
        _write(taken.refused, rejects)

    def report(self, *, refused: bool, now: datetime) -> EnqueueReport:
        """The report of these counts. Its preview assumes that the calls are sent from `now` on."""
        counts = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in _NO_COUNTS}
        preview = None
        if self.preview is not None:
            preview = self.preview.preview(
                start=now, duplicates=self.duplicates, suppressed=self.suppressed, bad=self.rejected
            )
        return EnqueueReport(**counts, findings=self.findings.all(file=self.file), refused=refused, preview=preview)


def _write(rows: Sequence[ReadRow], rejects: RejectsFile | None) -> None:
    if rejects is not None:
        for row in rows:
            rejects.add(row.raw, row.findings)
