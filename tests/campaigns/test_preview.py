"""The preview of a campaign: counts, texts and times."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.campaigns.reading import NOW, OPTIONS, Row, file_of
from voiceflow_worker import CallQueue
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.enqueue import check_file, enqueue_file, enqueue_rows
from voiceflow_worker.campaigns.preview import Preview, PreviewOptions, speech_of
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.flows.actions import speech_seconds
from voiceflow_worker.model.window import CallWindow

TABLE = """destination,name
+6587654321,Ana
+6587654321,Ana
+6281234567890,Budi
none,Ben
+6587654322,a man with a long name
+6587654323,Cleo
"""


def previewed(given: Path | Sequence[Row], options: PreviewOptions | None = None, **more: object) -> Preview:
    chosen, assumed = replace(OPTIONS, batch_id="b", **more), options or PreviewOptions()  # type: ignore[arg-type]
    if isinstance(given, Path):
        report = asyncio.run(check_file(given, chosen, now=NOW, assumptions=assumed))
    else:
        report = asyncio.run(enqueue_rows(None, given, chosen, now=NOW, dry_run=True, assumptions=assumed))
    assert report.preview is not None
    return report.preview


def people(*numbers: str, **more: object) -> list[Row]:
    return [{"destination": number, "name": f"N{place}", **more} for place, number in enumerate(numbers)]


HUNDRED = people(*(f"+65{87650000 + 3 * n}" for n in range(100)))


def test_calls_are_counted_and_the_first_texts_and_the_longest_are_as_they_will_be_spoken(tmp_path: Path) -> None:
    path = file_of(tmp_path, TABLE)
    found = previewed(path)
    assert (found.calls, dict(found.countries)) == (4, {"SG": 3, "ID": 1})
    assert dict(found.sources) == {"+6531234567": 4}
    by_country = previewed(path, source="SG=+6531234567,*=+12025550123")
    assert ("called from", "4: +6531234567 3, +12025550123 1") in by_country.in_words()
    assert [(each.row, each.speech.text) for each in found.texts] == [
        (2, "Hello Ana."), (4, "Hello Budi."), (6, "Hello a man with a long name."),
    ]  # fmt: skip
    assert found.longest == found.texts[2]
    assert found.texts[0].speech.voice_profile == "en-IE-EmilyNeural"


@pytest.mark.anyio
async def test_a_dry_run_leaves_out_suppressed_numbers_and_earlier_calls(tmp_path: Path, queue: CallQueue) -> None:
    await SuppressionList(queue.store).add("+6587654323", reason="asked for it")
    path = file_of(tmp_path, TABLE)
    await enqueue_file(queue, path, OPTIONS, now=NOW, skip_bad=True)
    more = file_of(tmp_path, TABLE + "+6587654329,Dee\n", "more.csv")
    options = replace(OPTIONS, batch_id="visits")
    report = await enqueue_file(queue, more, options, now=NOW, dry_run=True, assumptions=PreviewOptions())
    assert report.preview is not None
    assert report.preview.calls == 1
    assert (report.duplicates, report.suppressed, report.rejected) == (4, 1, 1)
    assert (await enqueue_file(queue, path, OPTIONS, now=NOW, dry_run=True)).preview is None, "it was not asked for"


def test_without_a_window_calls_leave_at_the_rate() -> None:
    twenty = FlowTemplate.speaking("a " * 150)
    found = previewed(HUNDRED, PreviewOptions(rate=10), template=twenty)
    assert (found.starts_at, found.later) == (NOW, 0)
    assert found.ends_at == NOW + timedelta(seconds=9.9 + 15 + 20)
    slow = previewed(HUNDRED, PreviewOptions(rate=10, max_active=7), template=twenty)
    assert slow.rate == pytest.approx(7 / 35), "seven calls of 35 seconds at a time"
    assert previewed(HUNDRED, PreviewOptions(rate=None), template=twenty).ends_at == NOW + timedelta(seconds=15 + 20)


def test_calls_outside_their_window_are_counted(tmp_path: Path) -> None:
    window = CallWindow.parse("18:00-20:00")
    found = previewed(file_of(tmp_path, TABLE), window=window)
    opens = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
    assert (found.later, found.later_opens_at, found.starts_at, found.last_opens_at) == (3, opens, opens, opens)


def test_the_length_of_a_call_is_that_of_its_texts() -> None:
    makes = {"action": "makeCall", "params": {"source": "+6531234567", "destination": "+6587654321"}}
    long = {"action": "say", "params": {"text": "x" * 30, "voiceProfile": "en", "repetition": 2}}
    short = {"action": "say", "params": {"text": "你好", "voiceProfile": "zh"}}
    speech = speech_of(json.dumps({"callflow": [makes, long, short]}))
    assert speech.seconds == pytest.approx(4 + 2 / 4.5)
    assert speech.text == f"{'x' * 30} 你好"
    assert speech_seconds("") == 0


pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("readable", [1, 99, 100, 101, 250])
async def test_the_rows_before_one_that_ends_the_reading_are_reported(readable: int, tmp_path: Path) -> None:
    path = tmp_path / "campaign.csv"
    rows = [f"none,Customer {row}" for row in range(readable)]
    path.write_bytes("\n".join(["destination,name", *rows, ""]).encode() + b'+6587654321,"Ana\n')
    report = await check_file(path, OPTIONS, now=NOW)
    assert (report.rows, report.rejected) == (readable, readable)
    assert "is opened and not closed" in report.findings[-1].message


async def test_a_file_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    path = file_of(tmp_path, "phone,name\n+6587654321,Ana\n")
    report = await check_file(path, OPTIONS, now=NOW)
    assert (report.is_valid, report.rows) == (False, 0)
    (found,) = report.findings
    assert (found.file, found.row, found.is_error) == (str(path), None, True)
    assert found.message.startswith("has no column destination. Name the column of the numbers")
    assert found.fields == ("columns", "header_row")


async def test_a_column_that_is_missing_is_told_beside_the_columns_as_the_file_has_them(tmp_path: Path) -> None:
    path = file_of(tmp_path, "Mobile,First Name\n+6587654321,Ana\n")
    options = replace(OPTIONS, template=FlowTemplate.speaking("Hello {{nmae}}."), columns={"destination": "mobile"})
    (found,) = (await check_file(path, options, now=NOW)).findings
    assert (found.column, "Columns found: Mobile, First Name" in found.message) == ("nmae", True)


async def test_a_call_flow_template_is_judged_by_what_is_fixed_in_it(tmp_path: Path) -> None:
    call = {"action": "makeCall", "params": {"source": "{{source}}", "destination": "{{destination}}"}}
    for repetition, wrong in ((2, []), (5, [("$.callflow[1].params.repetition", -1009)])):
        say = {"action": "say", "params": {"text": "Hello {{name}}.", "repetition": repetition}}
        path = file_of(tmp_path, json.dumps({"callflow": [call, say]}), "flow.json")
        report = await check_file(path, now=NOW)
        assert [(found.path, found.code) for found in report.findings] == wrong
        assert {found.file for found in report.findings} <= {str(path)}
        assert report.is_valid is not bool(wrong)


async def test_a_wrong_option_is_not_a_finding_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="'Mars' is not a country"):
        await check_file(file_of(tmp_path, "destination\n1\n"), CampaignOptions(country="Mars"), now=NOW)
