"""The check of a file without a store. Rows are read as `enqueue` reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import orjson

from voiceflow_worker.campaigns.calls.options import CampaignOptions, Purpose
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.files.findings import Findings
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.campaigns.files.rows import FileKind
from voiceflow_worker.campaigns.preview.preview import Preview, PreviewMaker, PreviewOptions
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.actions import Action, heard_in
from voiceflow_worker.model.flows.template_text import is_template
from voiceflow_worker.model.flows.values import is_list, is_object

_PLAYS = f'"{Action.PLAY_FILE.value}"'
"""A text in every body that plays a file. It is in hardly any other body, because JSON escapes the quotes in texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """The result of checking one file. It counts all `rows`, `bad` rows (which cannot be called) and `duplicates`."""

    file: str
    rows: int
    bad: int
    duplicates: int
    findings: tuple[Finding, ...]
    preview: Preview | None
    """The preview of the calls, if it was asked for and the file has calls."""
    file_urls: Mapping[str, int]
    """The URL of every audio file to be played, with the line of the first row that plays it."""

    @property
    def is_valid(self) -> bool:
        """True if the file has no errors, and can be enqueued."""
        return not any(found.is_error for found in self.findings)


def check_file(
    path: Path | InputFile,
    options: CampaignOptions | None = None,
    *,
    now: datetime,
    assumptions: PreviewOptions | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> CheckReport:
    """Read a campaign, a request body or a call flow template, and report every problem in it.

    Nothing is sent or stored. A validity that has passed is a warning. Without a template in the options, only the
    numbers and reserved columns of a table are checked. If the file itself is a template, only its constant parts are
    checked. A file that cannot be read is reported as a finding. With `assumptions`, a file of rows gets a preview.
    Raises InvalidInputError for a wrong option.
    """
    findings = Findings()
    maker = None if assumptions is None else PreviewMaker(assumptions)
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
            if maker is not None and not campaign.is_bare and campaign.source.kind is not FileKind.JSON:
                maker.add([read])
            if read.call is not None and _PLAYS in read.call.body:
                for heard in heard_in(orjson.loads(read.call.body)):
                    if heard.action is Action.PLAY_FILE:
                        file_urls.setdefault(heard.text, read.raw.number)
        findings.add(campaign.repeats())
    except CampaignFileError as error:
        # The file has a field of its own in the finding, so its name is left out of the message.
        message = str(error).removeprefix(str(path)).lstrip(" :,")
        remedy = next(iter(error.remedies), None)
        findings.add(error.findings or (Finding(file=str(path), message=message, remedy=remedy),))
    preview = None
    if maker is not None and maker.calls:
        preview = maker.preview(start=now, duplicates=duplicates, suppressed=0, bad=bad)
    return CheckReport(
        file=str(path),
        rows=rows,
        bad=bad,
        duplicates=duplicates,
        findings=findings.all(file=str(path)),
        preview=preview,
        file_urls=file_urls,
    )


def _is_template(value: object) -> bool:
    if isinstance(value, str):
        return is_template(value)
    if is_object(value):
        return any(_is_template(item) for item in value.values())
    return is_list(value) and any(_is_template(item) for item in value)
