"""Files, written and read back, for the tests of campaigns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.model.flows.callflow import CallFlow

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
SAY = FlowTemplate.speaking("Hello {{name}}.")
OPTIONS = CampaignOptions(template=SAY, source="+6531234567", voice_profile="en-IE-EmilyNeural")
WITH_CODES = replace(OPTIONS, country="international")
"""The options for files whose programs drop the + of a number."""


def file_of(folder: Path, content: str | bytes, name: str = "visits.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, options: CampaignOptions = OPTIONS, *, checks: bool = False) -> list[ReadRow]:
    return list(open_campaign(path, options, now=NOW, checks=checks))


def read_codes(path: Path, options: CampaignOptions = WITH_CODES) -> list[ReadRow]:
    return read(path, options)


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
