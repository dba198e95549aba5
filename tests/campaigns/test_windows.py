"""Calling windows and redial policies of a file's rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.campaigns.conftest import StillClock
from tests.campaigns.reading import NOW, OPTIONS, calls_of, file_of, read, told
from voiceflow_worker import CallQueue
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.campaign import read_edit
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.enqueue import Phase, enqueue_file
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.country_windows import CountryWindows
from voiceflow_worker.model.window import CallWindow

DAYTIME = replace(OPTIONS, window=CallWindow.parse("09:00-20:00"))
# It is 2026-03-02 09:00 UTC, a Monday: 17:00 in Singapore, 04:00 in New York.
HEADER = "destination,name,time_zone,not_before,valid_until\n"


def test_a_row_has_the_zone_of_its_column_else_of_its_number_whatever_times_are_read_in(tmp_path: Path) -> None:
    path = file_of(tmp_path, HEADER + "+6587654321,Ana,Europe/Berlin,,\n+6587654322,Ben,,,\n+12025550123,Cleo,,,\n")
    assert [each.time_zone for each in calls_of(read(path, DAYTIME))] == [
        "Europe/Berlin", "Asia/Singapore", "America/New_York",
    ]  # fmt: skip
    london = replace(DAYTIME, time_zone="Europe/London")
    assert [each.time_zone for each in calls_of(read(path, london))] == [
        "Europe/Berlin", "Asia/Singapore", "America/New_York",
    ]  # fmt: skip


def test_a_number_that_may_be_anywhere_is_a_bad_row(tmp_path: Path) -> None:
    rows = read(file_of(tmp_path, HEADER + "+18005551234,Ana,,,\n+18005551234,Ben,America/Chicago,,\n"), DAYTIME)
    ((row, column, code, message),) = told(rows)
    assert (row, column, code) == (2, "time_zone", None)
    assert message.startswith("+18005551234 may be in several time zones (America/Adak, ")
    assert "give the person a time zone, or the window one" in message
    assert [each.time_zone for each in calls_of(rows)] == ["America/Chicago"]


@pytest.mark.parametrize("checks", [False, True])
def test_a_window_that_does_not_open_while_the_row_is_valid_is_a_bad_row(tmp_path: Path, checks: bool) -> None:
    content = "+12025550123,Ana,,,2026-03-02T14:00:00Z\n+12025550123,Ben,,,2026-03-02T14:00:01Z\n"
    rows = read(file_of(tmp_path, HEADER + content), DAYTIME, checks=checks)
    ((row, _, code, message),) = told(rows)
    assert (row, code) == (2, -1015)
    assert message == (
        "its calling window (09:00-20:00 mon-sun) opens in America/New_York at 2026-03-02 14:00:00 UTC, but its "
        "validity ends at 2026-03-02 14:00:00 UTC; give a later end of validity, or a wider window"
    )
    assert len(calls_of(rows)) == 1


@pytest.mark.anyio
async def test_calls_are_due_when_their_windows_open(queue: CallQueue, tmp_path: Path) -> None:
    path = file_of(tmp_path, "destination,name\n+6587654321,Ana\n+12025550123,Ben\n")
    report = await enqueue_file(queue, path, DAYTIME, now=NOW)
    assert report.enqueued == 2
    due = {job.destination: (job.due_at, job.window) for job in await queue.find(limit=None)}
    assert due == {
        "+6587654321": (NOW, DAYTIME.window),
        "+12025550123": (datetime(2026, 3, 2, 14, tzinfo=UTC), DAYTIME.window),
    }


@pytest.mark.anyio
async def test_a_window_that_closes_while_the_file_is_read_makes_a_bad_row(
    queue: CallQueue, tmp_path: Path, clock: StillClock
) -> None:
    content = HEADER + "+6587654321,Ana,,,2026-03-02T23:00:00Z\n+12025550123,Ben,,,2026-03-02T23:00:00Z\n"

    def slow(phase: Phase, *, done: int, total: int, rows: int) -> None:
        if phase is Phase.READING:
            clock.advance(timedelta(hours=3))

    report = await enqueue_file(queue, file_of(tmp_path, content), DAYTIME, now=NOW, progress=slow)
    assert (report.enqueued, report.rejected) == (1, 1)
    assert [(found.row, found.code) for found in report.findings] == [(2, -1015)]


def test_a_row_with_a_window_and_a_body_that_breaks_a_rule_is_a_bad_row(tmp_path: Path) -> None:
    body = {"callflow": [{"action": "makeCall", "params": {"source": "x", "destination": "+6587654321"}}]}
    path = file_of(tmp_path, json.dumps(body) + "\n", "bodies.jsonl")
    (row,) = read(path, replace(DAYTIME, template=None, source=None, voice_profile=None))
    assert [found.path for found in row.findings] == ["$.callflow[0].params.source"]


@pytest.mark.parametrize(
    ("holidays", "number", "parts"),
    [
        ("GB", "+442071234567", "2026-04-06 in ENG, NIR, WLS"),
        ("number", "+442071234567", "2026-04-06 in ENG, NIR, WLS"),
        ("AU", "+61212345678", "2026-04-04 in ACT"),
        ("GB=GB-ENG", "+442071234567", None),
        ("SG", "+6587654321", None),
    ],
)
def test_holidays_of_parts_of_a_country_alone_are_told_before_the_start(
    tmp_path: Path, holidays: str, number: str, parts: str | None
) -> None:
    windows = CountryWindows.parse("09:00-20:00", holidays=holidays)
    path = file_of(tmp_path, f"destination,name,not_before\n{number},Ana,2026-04-04T01:00:00Z\n")
    rows = open_campaign(path, replace(OPTIONS, window=windows), now=NOW)
    assert [row.call is not None for row in rows] == [True]
    found = [each.message for each in rows.closing_findings() if "holidays of parts" in each.message]
    assert len(found) == (parts is not None)
    assert parts is None or parts in found[0]


@pytest.mark.parametrize(
    ("holidays", "number", "begins", "message"),
    [
        ("UA", "+380441234567", "2027-02-01", "no holidays known for UA in 2027, so no day is left out: install"),
        ("number", "+94112345678", "2026-12-29", "no holidays known for LK in 2027, so nobody rings in that year"),
        ("SG", "+6587654321", "2028-02-24", "holidays of SG on 2028-02-27, 2028-02-28 are estimated, and may be a day"),
        ("SG", "+6587654321", "2026-08-05", None),
    ],
)
def test_holidays_that_are_not_known_or_a_guess_are_told_before_the_start(
    tmp_path: Path, holidays: str, number: str, begins: str, message: str | None
) -> None:
    windows = CountryWindows.parse("09:00-20:00", holidays=holidays)
    path = file_of(tmp_path, f"destination,name,not_before\n{number},Ana,{begins}T04:00:00Z\n")
    rows = open_campaign(path, replace(OPTIONS, window=windows), now=NOW)
    assert [row.call is not None for row in rows] == [True]
    found = [each.message for each in rows.closing_findings() if "known" in each.message or "estim" in each.message]
    assert len(found) == (message is not None)
    assert message is None or message in found[0]


def test_a_year_whose_holidays_nobody_knows_is_the_reason_of_a_bad_row(tmp_path: Path) -> None:
    windows = CountryWindows.parse("09:00-20:00", holidays="LK")
    path = file_of(tmp_path, HEADER + "+94112345678,Ana,,2028-03-01T04:00:00Z,\n")
    ((row, _, _, message),) = told(read(path, replace(OPTIONS, window=windows)))
    assert row == 2
    assert "No holidays known for LK in 2028, so nobody rings in that year" in message


STATES = replace(OPTIONS, batch_id="b", columns={"region": "State"})
AMERICAN = {"name": "Ana", "destination": "+12125550123"}  # of New York, by its digits


def rows_of(options: CampaignOptions, *rows: Mapping[str, object]) -> list[ReadRow]:
    return list(
        open_campaign(
            [{**AMERICAN, **row, "unique_key": f"{place}"} for place, row in enumerate(rows)], options, now=NOW
        )
    )


def test_the_state_says_by_which_clock_a_window_counts() -> None:
    options = replace(STATES, window=CountryWindows.parse("09:00-20:00"))
    cases = {
        "CA": "America/Los_Angeles",
        "": "America/New_York",
        "Manitoba": "America/Winnipeg",
        None: "America/New_York",
    }
    for state, zone in cases.items():
        (row,) = rows_of(options, {"State": state})
        assert row.call is not None, row.findings
        assert row.call.time_zone == zone
    for state in ("FL", "TN", "Texas", "IN", "SD", "CA-BC"):
        ((_, column, _, message),) = told(rows_of(options, {"State": state}))
        assert column == "time_zone"
        assert "has several clocks" in message
        (row,) = rows_of(options, {"State": state, "time_zone": "America/Chicago"})
        assert row.call is not None
        assert row.call.time_zone == "America/Chicago"
        (row,) = rows_of(
            replace(options, window=CountryWindows.parse("09:00-20:00", time_zone="UTC")), {"State": state}
        )
        assert row.call is not None
    ((_, column, _, message),) = told(rows_of(options, {"State": "Flrida"}))
    assert (column, message[:26]) == ("State", "'Flrida' is no state of US")
    (row,) = rows_of(STATES, {"State": "Flrida"})  # nothing asks for it
    assert row.call is not None


def test_hours_may_differ_by_state() -> None:
    text = "US-FL=08:00-20:00,US-CA=10:00-12:00,US=09:00-21:00,*=11:00-12:00"
    windows = CountryWindows.parse(text, days="us-ca=mon,*=mon-fri", holidays="US-CA=none,*=number")
    options = replace(STATES, window=windows)
    assert CountryWindows.of_fields(windows.fields()) == windows
    rows = rows_of(
        options,
        {"State": "California"},
        {"State": "NY"},
        {"State": "US-FL", "time_zone": "America/New_York"},
        {"State": "FL", "time_zone": "America/New_York", "destination": "+14165550123"},
        {"State": "Selangor", "destination": "+60123456789"},
    )
    assert [str(row.call.window) if row.call is not None else row.findings for row in rows] == [
        "10:00-12:00 mon", "09:00-21:00 mon-fri US", "08:00-20:00 mon-fri US", "08:00-20:00 mon-fri US",
        "11:00-12:00 mon-fri MY",
    ]  # fmt: skip
    for row in ({"State": ""}, {"State": None}):
        ((_, _, _, message),) = told(rows_of(options, row))
        assert "depends on the state (US-FL, US-CA), and that of +12125550123 is not known: write it" in message
    ((_, _, _, message),) = told(rows_of(replace(options, columns={}), {"State": "NY"}))
    assert "write it in a column, and name that" in message
    with pytest.raises(InvalidInputError, match="'US-ZZ' is no state"):
        CountryWindows.parse("US-ZZ=08:00-20:00")
    with pytest.raises(InvalidInputError, match="does not know the states"):
        read_edit({"window": text}, now=NOW)
