"""The report of enqueuing a file, and the counts that it is made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime

import orjson

from voiceflow_worker.campaigns.called_before import CalledBefore
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.files.findings import Findings
from voiceflow_worker.campaigns.files.rejects import RejectsFile
from voiceflow_worker.campaigns.intake import Judged, Taken
from voiceflow_worker.campaigns.preview.preview import Preview, PreviewMaker
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.model.flows.actions import Action, heard_in

_PLAYS = f'"{Action.PLAY_FILE.value}"'
"""A text in every body that plays a file. It is in hardly any other body, because JSON escapes the quotes in texts."""
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
    file_urls: Mapping[str, int] = field(default_factory=dict[str, int])
    """Of a check: the URL of every audio file to be played, with the line of the first row that plays it."""

    @property
    def is_valid(self) -> bool:
        """True if no finding is an error."""
        return not any(found.is_error for found in self.findings)

    def as_json(self) -> dict[str, object]:
        """The report as a JSON object, for scripts."""
        shown = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if each.name not in {"refused", "preview", "file_urls"}
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
    file_urls: dict[str, int] = field(default_factory=dict[str, int])

    def called_before(self, found: Iterable[CalledBefore]) -> None:
        """Count the rows that would call people again, and add errors about them. In a dry run, add warnings."""
        severity = Severity.WARNING if self.dry_run else Severity.ERROR
        for each in found:
            self.again += each.count
            self.findings.add([each.finding(file=self.file, severity=severity)])

    def listen(self, rows: Iterable[ReadRow]) -> None:
        """Note the audio files that the calls of these rows play."""
        for row in rows:
            if row.call is not None and _PLAYS in row.call.body:
                for heard in heard_in(orjson.loads(row.call.body)):
                    if heard.action is Action.PLAY_FILE:
                        self.file_urls.setdefault(heard.text, row.raw.number)

    def unreadable(self, error: CampaignFileError) -> None:
        """Report a file that cannot be read as findings."""
        # The file has a field of its own in the finding, so its name is left out of the message.
        message = str(error).removeprefix(self.file or "").lstrip(" :,")
        remedy = next(iter(error.remedies), None)
        self.findings.add(error.findings or (Finding(file=self.file, message=message, remedy=remedy),))

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
