"""A look at a file before anything is sent."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.campaigns.reading import NOW, OPTIONS, file_of
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.enqueue import check_file
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Remedy

CALL = {"action": "makeCall", "params": {"source": "6531234567", "destination": "+6587654321"}}
pytestmark = pytest.mark.anyio

PLAY = {"action": "playFile", "params": {"fileUrl": "https://example.com/a.mp3"}}


@pytest.mark.parametrize("readable", [1, 99, 100, 101, 250])
async def test_the_rows_before_one_that_ends_the_reading_are_reported(readable: int, tmp_path: Path) -> None:
    path = tmp_path / "campaign.csv"
    rows = [f"none,Customer {row}" for row in range(readable)]
    path.write_bytes("\n".join(["destination,name", *rows, ""]).encode() + b"+6587654321,\xff\n")
    report = await check_file(path, OPTIONS, now=NOW)
    assert (report.rows, report.rejected) == (readable, readable)
    assert "is not UTF-8" in report.findings[-1].message


async def test_without_a_template_the_numbers_and_reserved_columns_of_a_csv_are_judged(tmp_path: Path) -> None:
    path = file_of(tmp_path, "destination,name,priority\nnone,Ana,\n+6587654321,Ben,high\n+6587654321,Cleo,\n")
    report = await check_file(path, now=NOW)
    assert [(found.row, found.column, found.is_error) for found in report.findings] == [
        (1, None, False),
        (2, "destination", True),
        (3, "priority", True),
    ]
    assert report.findings[0].message.startswith("only numbers and reserved columns are checked")


async def test_a_file_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    path = file_of(tmp_path, "phone,name\n+6587654321,Ana\n")
    report = await check_file(path, OPTIONS, now=NOW)
    assert (report.is_valid, report.rows) == (False, 0)
    (found,) = report.findings
    assert (found.file, found.row, found.is_error) == (str(path), None, True)
    assert found.message.startswith("has no column destination; rename 'phone' to destination")
    assert found.remedy is Remedy.NAME_COLUMN


async def test_a_column_that_is_missing_is_told_beside_the_columns_as_the_file_has_them(tmp_path: Path) -> None:
    path = file_of(tmp_path, "Mobile,First Name\n+6587654321,Ana\n")
    options = replace(OPTIONS, template=FlowTemplate.speaking("Hello {{nmae}}."), number_column="mobile")
    (found,) = (await check_file(path, options, now=NOW)).findings
    assert (found.column, "columns found: Mobile, First Name" in found.message) == ("nmae", True)


async def test_a_call_flow_template_is_judged_by_what_is_fixed_in_it(tmp_path: Path) -> None:
    say = {"action": "say", "params": {"text": "Hello {{name}}.", "repetition": 2}}
    call = {"action": "makeCall", "params": {"source": "{{source}}", "destination": "{{destination}}"}}
    path = file_of(tmp_path, json.dumps({"callflow": [call, say]}), "flow.json")
    report = await check_file(path, now=NOW)
    assert (report.is_valid, report.findings) == (True, ())
    say["params"] = {"text": "Hello {{name}}.", "repetition": 5}
    path = file_of(tmp_path, json.dumps({"callflow": [call, say]}), "flow.json")
    report = await check_file(path, now=NOW)
    assert [(found.file, found.path, found.code) for found in report.findings] == [
        (str(path), "$.callflow[1].params.repetition", -1009)
    ]


async def test_a_wrong_option_is_not_a_finding_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="'Mars' is not the code of a country"):
        await check_file(file_of(tmp_path, "destination\n1\n"), CampaignOptions(country="Mars"), now=NOW)
