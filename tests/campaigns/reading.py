"""Files, written and read back, for the tests of campaigns."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.row_reader import ReadRow
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import CampaignRows, open_campaign
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows.callflow import CallFlow

Row = Mapping[str, object]
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
SAY = FlowTemplate.speaking("Hello {{name}}.")
OPTIONS = CampaignOptions(template=SAY, source="+6531234567", voice_profile="en-IE-EmilyNeural", window="any")
WITH_CODES = replace(OPTIONS, country="international")
"""The options for files whose programs drop the + of a number."""


def saying(text: str, **more: Any) -> CampaignOptions:
    """The options with this text, for a list that has no name to be its batch."""
    return replace(OPTIONS, template=FlowTemplate.speaking(text), **{"batch_id": "b", **more})


def file_of(folder: Path, content: str | bytes, name: str = "visits.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, options: CampaignOptions = OPTIONS, *, checks: bool = False) -> list[ReadRow]:
    return list(open_campaign(path, options, now=NOW, checks=checks))


def read_codes(path: Path, options: CampaignOptions = WITH_CODES) -> list[ReadRow]:
    return read(path, options)


class Reading(NamedTuple):
    """A list that was read to its end: its rows, and all that is told of it."""

    rows: Sequence[ReadRow]
    opening: Sequence[Finding]
    """Of the header and the options."""
    closing: Sequence[Finding]
    """Of all rows together."""

    @property
    def findings(self) -> list[Finding]:
        return [*self.opening, *(found for row in self.rows for found in row.findings), *self.closing]

    @property
    def errors(self) -> list[str]:
        return [f"{each.column}: {each.message}" for each in self.findings if each.is_error]

    @property
    def warnings(self) -> list[str]:
        return [f"{each.column}: {each.message}" for each in self.findings if not each.is_error]

    @property
    def calls(self) -> list[CheckedCall]:
        return calls_of(self.rows)

    @property
    def heard(self) -> list[object]:
        """The texts that are spoken."""
        return list(map(text_of, self.calls))


def read_all(given: Path | Iterable[Row], options: CampaignOptions = OPTIONS) -> Reading:
    """Read a file, or the rows of a program."""
    if not isinstance(given, Path) and options.batch_id is None:
        options = replace(options, batch_id="b")
    campaign = CampaignRows(given, options, now=NOW)
    opening, rows = list(campaign.findings), list(campaign)
    return Reading(rows, opening, campaign.closing_findings())


def calls_of(rows: Iterable[ReadRow]) -> list[CheckedCall]:
    return [row.call for row in rows if row.call is not None]


def flow_of(call: CheckedCall) -> CallFlow:
    return CallFlow.parse(json.loads(call.body))


def told(rows: Iterable[ReadRow]) -> list[tuple[int | None, str | None, int | None, str]]:
    """(line, column, code, sentence) of every error."""
    return [
        (found.row, found.column, found.code, found.message) for row in rows for found in row.findings if found.is_error
    ]


def filled(template: FlowTemplate, values: Mapping[str, object]) -> Any:
    """The call flow of a template with these values."""
    return template.body_of(template.fill(values)[0])


def text_of(call: CheckedCall) -> object:
    params: Any = flow_of(call).actions[1]["params"]
    return params["text"]


def refused(given: Path | Iterable[Row], options: CampaignOptions = OPTIONS) -> str:
    """Why the whole file is refused."""
    with pytest.raises(CampaignFileError) as raised:
        read_all(given, options)
    return str(raised.value)


def peak(work: Callable[[], object]) -> int:
    """The most memory that is in use meanwhile, in bytes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
