"""A look at a file before anything is sent: every row is read as `enqueue` would read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from voiceflow_worker.campaigns.calls.options import CampaignOptions, Purpose
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.calls.template_text import is_template
from voiceflow_worker.campaigns.campaign import open_campaign
from voiceflow_worker.campaigns.files.collected import Findings
from voiceflow_worker.campaigns.files.rows import FileKind
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.values import is_list, is_object


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What was found in one file. `rows` counts all, `bad` those that would not be called, `duplicates` equal ones."""

    file: str
    rows: int
    bad: int
    duplicates: int
    findings: tuple[Finding, ...]
    file_urls: Mapping[str, int]
    """The address of every audio file that would be played, with the line of the first row that plays it."""

    @property
    def is_valid(self) -> bool:
        """Whether nothing speaks against enqueuing the file."""
        return not any(found.is_error for found in self.findings)


def check_file(
    path: Path,
    options: CampaignOptions | None = None,
    *,
    now: datetime,
    on_bytes: Callable[[int], None] | None = None,
) -> CheckReport:
    """Read a campaign, a request body or a call flow template, and tell everything that is wrong with it.

    Sends and stores nothing. A validity that has passed is a warning; of a CSV without a template only the numbers and
    reserved columns are judged, of a template what is fixed in it. A file that cannot be read is a finding too. Raises
    InvalidInputError for an option that is wrong.
    """
    findings = Findings()
    rows = bad = duplicates = 0
    file_urls: dict[str, int] = {}
    chosen = options or CampaignOptions()
    try:
        campaign = open_campaign(path, chosen, now=now, purpose=Purpose.CHECK, on_bytes=on_bytes)
        findings.add(campaign.findings)
        for read in campaign:
            if chosen.template is None and campaign.source.kind is FileKind.JSON and _is_template(read.raw.data):
                template = FlowTemplate.parse(read.raw.data, name=str(path))
                rows += 1
                findings.add(template.findings)
                continue
            rows += 1
            bad += read.is_bad
            duplicates += read.duplicate_of is not None
            findings.add(read.findings)
            if read.request is not None:
                for entry in read.request.flow.actions:
                    params = entry.get("params")
                    url = params.get("fileUrl") if is_object(params) else None
                    if isinstance(url, str):
                        file_urls.setdefault(url, read.raw.number)
    except CampaignFileError as error:
        findings.add(error.findings or (Finding(file=str(path), message=_without_name(str(error), path)),))
    return CheckReport(
        file=str(path),
        rows=rows,
        bad=bad,
        duplicates=duplicates,
        findings=findings.all(file=str(path)),
        file_urls=file_urls,
    )


def _is_template(value: object) -> bool:
    if isinstance(value, str):
        return is_template(value)
    if is_object(value):
        return any(_is_template(item) for item in value.values())
    return is_list(value) and any(_is_template(item) for item in value)


def _without_name(message: str, path: Path) -> str:
    """The message without the file's name in front, which its finding has in a field of its own."""
    return message.removeprefix(str(path)).lstrip(" :,")
