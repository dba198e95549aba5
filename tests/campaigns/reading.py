"""Files, written and read back, for the tests of campaigns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.errors import CampaignFileError
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


def refused(path: Path, options: CampaignOptions = OPTIONS) -> str:
    """Why the whole file is refused."""
    with pytest.raises(CampaignFileError) as raised:
        read(path, options)
    return str(raised.value)


class Case(NamedTuple):
    """A file, and what becomes of it: the texts that are heard, and (row, column, a part of the sentence) of errors.

    If the whole file is `refused`, that is a part of the sentence.
    """

    content: str | bytes
    heard: Sequence[object] = ()
    told: Sequence[tuple[int | None, str | None, str]] = ()
    refused: str = ""
    name: str = "visits.csv"
    options: CampaignOptions = OPTIONS


def judge(folder: Path, cases: Mapping[str, Case]) -> None:
    """Read the file of each case, by what it is about."""
    for what, case in cases.items():
        path = file_of(folder, case.content, case.name)
        if case.refused:
            assert case.refused in refused(path, case.options), what
            continue
        rows = read(path, case.options)
        found = told(rows)
        assert list(map(text_of, calls_of(rows))) == [*case.heard], (what, found)
        assert [each[:2] for each in found] == [each[:2] for each in case.told], (what, found)
        assert all(mine[2] in other[3] for mine, other in zip(case.told, found, strict=True)), (what, found)
