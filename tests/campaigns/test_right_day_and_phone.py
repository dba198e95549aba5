"""The right day, hour and phone: midnights in UTC, what is over or moves, the labels of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.campaigns.reading import NOW, OPTIONS, Row, file_of, saying, text_of
from voiceflow_worker import Campaign
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import CampaignRows
from voiceflow_worker.campaigns.enqueue import enqueue_rows
from voiceflow_worker.campaigns.enqueue_report import EnqueueReport
from voiceflow_worker.campaigns.preview import PreviewOptions
from voiceflow_worker.errors import CallFlowError
from voiceflow_worker.model.window import CallWindow
from voiceflow_worker.service.named_call import read_call

NEW_YORK, SINGAPORE = "+1212555012", "+658123450"
Z = "T00:00:00.000Z"


def people(values: Sequence[object], number: str = NEW_YORK, column: str = "day") -> list[Row]:
    return [{"destination": f"{number}{place}", column: value} for place, value in enumerate(values)]


DAY = "{{day|date('full')}}"
WEDNESDAY = "Wednesday, April 3, 2030"


def us(say: str, **more: Any) -> Any:
    return saying(say, voice_profile="en-US-JennyNeural", **more)


AT = "2030-04-03T16:00:00Z"


@pytest.mark.parametrize(
    ("say", "number", "heard"),
    [
        (DAY, NEW_YORK, None), (DAY, SINGAPORE, WEDNESDAY),
        ("{{at|date}}", NEW_YORK, "April 3, 2030"), ("Hello.", NEW_YORK, "Hello."),
    ],
)  # fmt: skip
def test_the_data_of_a_single_call_says_so_too(say: str, number: str, heard: str | None) -> None:
    given = {"to": f"{number}0", "say": say, "data": {"day": f"2030-04-03{Z}", "at": AT}, "source": "+6531234567"}
    fields = {**given, "voice_profile": "en-US-JennyNeural"}
    if heard is None:
        with pytest.raises(CallFlowError, match="which may be the day 2030-04-03, or 2030-04-02 20:00") as raised:
            read_call(fields, key="k", now=NOW)
        assert [each.column for each in raised.value.findings] == ["day"]
    else:
        assert text_of(read_call(fields, key="k", now=NOW)) == heard


pytestmark = pytest.mark.anyio


async def preview(rows: Sequence[Row], *, now: datetime = NOW, **fields: Any) -> EnqueueReport:
    given = {"rows": rows, "say": "Hello.", "batch": "b", "source": "+6531234567", "voice_profile": "en-IE-EmilyNeural"}
    campaign = Campaign.of({**given, **fields}, now=now)
    how: Any = {"dry_run": True, "now": now, "assumptions": PreviewOptions()}
    return await enqueue_rows(None, rows, campaign.options, **how)


async def test_the_preview_counts_what_a_window_moves_to_another_day() -> None:
    visits = ["2026-03-16 09:30", "2026-03-16 15:00", "2026-03-17 10:00"]
    found = await preview(
        people(visits, SINGAPORE, "visit"), not_before="visit - 1d", time_zone="Asia/Singapore", window="09:00-18:00",
        days="mon-fri",
    )  # fmt: skip
    assert found.preview is not None
    assert dict(found.preview.in_words())["moved"] == (
        "2 calls moved to another day by a window, such as row 1: Sun 15 Mar 2026 09:30 becomes Mon 16 Mar 2026 09:00"
    )
    assert found.preview.as_json()["moved_by_window"] == 2


def test_the_holidays_of_parts_are_none_of_a_whole_country() -> None:
    monday, zone = datetime(2027, 3, 29, 9, tzinfo=timezone(timedelta())), ZoneInfo("Europe/London")
    for calendar, is_open in (("GB", True), ("GB-ENG", False), ("GB-SCT", True)):
        window = CallWindow.parse("09:00-20:00", holidays=calendar)
        assert window.is_open(monday, zone) is is_open


async def test_a_list_without_rows_calls_nobody_and_ends_no_batch(tmp_path: Path) -> None:
    template = FlowTemplate.speaking("Hello.")
    lists: list[Path | list[Row]] = [[], file_of(tmp_path, "destination,name\n"), file_of(tmp_path, "", "none.jsonl")]
    for given in lists:
        options = replace(OPTIONS, template=template, batch_id="b")
        campaign = CampaignRows(given, options, now=NOW)
        assert list(campaign) == []
        assert [str(each.message) for each in campaign.closing_findings()] == ["the list has no rows: nobody is called"]
