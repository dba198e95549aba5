"""The hours in which a row's phone rings: windows, holidays, and times that are counted from a column of the row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns.conftest import StillClock
from tests.campaigns.forms import from_mappings, from_parquet, from_workbook
from tests.campaigns.reading import NOW, OPTIONS, calls_of, file_of, read, told
from voiceflow_worker import CallQueue, open_store
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.campaign import Campaign, read_edit
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.enqueue import Phase, enqueue_file
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.model.column_time import ColumnTime
from voiceflow_worker.model.country_windows import CountryWindows
from voiceflow_worker.model.times import DateOrder
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


# -- times that are counted from a column: the day before a visit, at the hour of the visit ----------------------------

ANA = "+6587654321"
BERLIN = replace(OPTIONS, batch_id="b", time_zone="Europe/Berlin")


def counted(not_before: str | None = None, valid_until: str | None = None, **more: Any) -> CampaignOptions:
    given = {"not_before": not_before, "valid_until": valid_until}
    times: dict[str, Any] = {name: ColumnTime.read(text) for name, text in given.items() if text is not None}
    return replace(BERLIN, **times, **more)


def rings(given: object, options: CampaignOptions, **more: object) -> list[tuple[str | None, str | None]]:
    """The times between which the calls of rows with this visit may ring, in UTC."""
    row: dict[str, object] = {"destination": ANA, "name": "Ana", "visit": given, **more}
    rows = list(open_campaign([row], options, now=NOW))
    assert told(rows) == []
    return [(shown(call.not_before), shown(call.valid_until)) for call in calls_of(rows)]


def shown(at: datetime | None) -> str | None:
    return None if at is None else f"{at:%m-%d %H:%M}"


def wrong(given: object, options: CampaignOptions, **more: object) -> str:
    row: dict[str, object] = {"destination": ANA, "name": "Ana", "visit": given, **more}
    ((_, column, _, message),) = told(open_campaign([row], options, now=NOW))
    assert column == "visit"
    return message


# Clocks go forward in Berlin on 29 March 2026, and back on 25 October.
DISTANCES = [
    ("2026-03-10 09:00", "visit - 24h", "visit - 30m", ("03-09 08:00", "03-10 07:30")),
    ("2026-03-29 09:00", "visit - 24h", None, ("03-28 07:00", "03-29 07:00")),
    ("2026-03-29 09:00", "visit - 1d", None, ("03-28 08:00", "03-29 07:00")),
    ("2026-10-25 09:00", "visit-1d", "visit - 90 m", ("10-24 07:00", "10-25 06:30")),
    ("2026-10-25 09:00", "visit - 1d 2h", None, ("10-24 05:00", "10-25 08:00")),
    ("2026-03-10T09:00:00+08:00", "Visit \u2212 2h", None, ("03-09 23:00", "03-10 01:00")),
    ("2026-03-10 2:30 PM", '"visit" - 1h', None, ("03-10 12:30", "03-10 13:30")),
    ("2026-03-10 12:05 a.m.", "visit - 1h", None, ("03-09 22:05", "03-09 23:05")),
    ("2026-02-10 09:00", "visit + 2h", None, ("02-10 10:00", None)),
    ("2026-03-10 09:00", None, "visit", (None, "03-10 08:00")),
]  # fmt: skip


@pytest.mark.parametrize(("visit", "not_before", "valid_until", "rung"), DISTANCES)
def test_hours_are_elapsed_and_days_keep_the_hour(
    visit: str, not_before: str | None, valid_until: str | None, rung: tuple[str | None, str | None]
) -> None:
    options = counted(not_before, f"{valid_until} - 0m" if valid_until == "visit" else valid_until)
    assert rings(visit, options) == [rung]


def test_a_time_is_read_alike_in_every_format(tmp_path: Path) -> None:
    visits = list(map(datetime.fromisoformat, ("2026-03-10 09:00", "2026-03-10 00:00", "2026-03-10 14:30")))
    for reader, visit in product((from_mappings, from_workbook, from_parquet), visits):
        (row,) = reader(tmp_path, {"destination": ANA, "name": "Ana", "visit": visit}, counted("visit - 24h"))
        assert row.call is not None, row.findings
        assert row.call.not_before is not None
        assert row.call.not_before.replace(tzinfo=None) == visit - timedelta(hours=25)
    for reader in (from_mappings, from_workbook, from_parquet):
        day = {"destination": ANA, "name": "Ana", "visit": date(2026, 3, 10)}
        (row,) = reader(tmp_path, day, counted("visit - 24h"))
        assert "has no time of day" in row.findings[0].message


def test_what_is_not_certain_is_refused() -> None:
    cases: Mapping[object, str] = {
        "2026-03-10": "'2026-03-10' has no time of day, from which visit - 1d could be counted: write 2026-03-10 09:00",
        "": "is empty, and not_before (visit - 1d) counts from it",
        None: "is empty",
        "N/A": "is not a time",
        "09:00": "is not a time",
        "tomorrow": "is not a time",
        "2026-03-10 25:00": "there is no such day",
        "2026-03-10 13:30 PM": "there is no such day",
        "10.03.2026 09:00": "give the order of day, month and year",
        "2026-03-29 02:30": "does not exist in Europe/Berlin",
        "2026-10-25 02:30": "happens twice in Europe/Berlin",
        "2026-03-30 02:30": "visit - 1d cannot be told: '2026-03-29 02:30:00' does not exist in Europe/Berlin: the "
        "clocks skip it; count in hours",
        "9999-12-31 09:00": "which programs write where there is no date",
        47514.4375: "write 2030-01-31 10:30",
    }
    for visit, why in cases.items():
        assert why in wrong(visit, counted("visit - 1d")), visit
    without = replace(counted("visit - 1d"), time_zone=None)
    assert "give a time_zone" in wrong("2026-03-10T09:00:00+01:00", without)
    assert "has no time zone" in wrong("2026-03-10 09:00", without)
    assert rings("2026-03-10T09:00:00+01:00", replace(without, not_before=ColumnTime.read("visit - 24h")))
    assert rings("2026-03-10 09:00", without, time_zone="Asia/Singapore") == [("03-09 01:00", "03-10 01:00")]
    assert rings("10/3/2026 09:00", counted("visit - 24h", date_order=DateOrder.DMY)) == [
        ("03-09 08:00", "03-10 08:00")
    ]


def test_who_has_no_time_left_is_told_and_not_called() -> None:
    """The clock is 2 March 2026, 9:00 UTC."""
    cases = [
        ("2026-02-10 09:00", counted("visit - 24h"), "is over"),
        ("2026-03-02 10:00", counted("visit - 24h"), "is over"),
        ("2026-03-02 10:20", counted(None, "visit - 30m"), "is over"),
        ("2026-03-10 09:00", counted("visit - 1h", "visit - 2h"), "leaves no time for the call"),
        ("2026-03-10 09:00", counted("visit - 1h", "visit - 1h"), "leaves no time for the call"),
        ("2026-02-10 09:00", counted("visit - 24h", valid_for=timedelta(hours=3)), "is over"),
    ]
    for visit, options, why in cases:
        rows = [{"destination": each, "name": "Ana", "visit": visit} for each in ("nobody", ANA)]
        for row in open_campaign(rows, options, now=NOW):
            ((severity, message),) = [(found.severity, found.message) for found in row.findings]
            assert (row.is_left_out, severity) == (True, "warning"), visit
            assert why in message
            assert "nobody is called for it" in message


def test_what_lies_behind_is_called_at_once_and_told() -> None:
    rows = [{"destination": f"+658765432{n}", "name": "A", "visit": f"2026-03-0{n} 09:00"} for n in (3, 3, 5)]
    campaign = open_campaign([{**row, "name": f"{n}"} for n, row in enumerate(rows)], counted("visit - 48h"), now=NOW)
    assert len(calls_of(campaign)) == 3
    said = [(found.row, found.column, found.message) for found in campaign.closing_findings()]
    assert (
        1,
        "visit",
        "visit - 48h is past in 2 rows, such as row 1: whoever was not called yet is called now",
    ) in said


def test_a_call_rings_within_its_window_or_is_refused() -> None:
    window = CountryWindows.parse("09:00-20:00", days="mon-sat")
    options = counted("visit - 1d", window=window, source="+4930123456")
    row = {"destination": "+4930123457", "name": "Ana", "visit": "2026-03-10 11:00"}
    assert len(calls_of(open_campaign([row], options, now=NOW))) == 1
    monday = {**row, "visit": "2026-03-09 09:00"}  # the day before is a Sunday
    ((_, _, _, message),) = told(open_campaign([monday], options, now=NOW))
    assert "opens in Europe/Berlin at 2026-03-09 08:00:00 UTC, but its validity ends at 2026-03-09 08:00:00" in message


def test_the_column_is_known_by_either_name_and_must_be_there(tmp_path: Path) -> None:
    table = "destination,name,Visit Time\n+6587654321,Ana,2026-03-10 09:00\n"
    path = file_of(tmp_path, table)
    for name in ("visit_time", "Visit Time", "termin"):
        (row,) = read(path, counted(f"{name} - 24h", columns={"termin": "Visit Time"}))
        assert row.call is not None
    for wanted, why in (("vist", "no column 'vist'"), ("visit_time", "cannot be ignored")):
        with pytest.raises(CampaignFileError, match=why):
            read(path, counted(f"{wanted} - 24h", columns={"ignore": "Visit Time"} if "ign" in why else {}))
    lines = file_of(tmp_path, '{"destination": "+6587654321", "name": "Ana"}\n', "people.jsonl")
    assert [(column, message) for _, column, _, message in told(read(lines, counted("visit - 24h")))] == [
        ("visit", "is not in this row: give it, or null")
    ]
    bodies = file_of(tmp_path, '{"clientRequestId": "a"}\n', "bodies.jsonl")
    with pytest.raises(CampaignFileError, match="request bodies have no column 'visit'; give each its own"):
        read(bodies, replace(counted("visit - 24h"), template=None))


def test_a_distance_is_one_or_is_refused() -> None:
    given: dict[str, object] = {"say": "Hello.", "rows": list[object](), "batch": "b", "time_zone": "Europe/Berlin"}
    for text, why in {
        "visit": "or as visit - 24h, counted from a column",
        "visit - 24": "is not a time",
        "- 24h": "is not a time",
        "visit - 2w": "'2w' is no distance from the time in 'visit'",
        "visit - 24 hours": "is no distance",
        "visit - 1.5d": "whole days",
        "visit - 99999d": "is no distance",
        "visit - 1d 2x": "is no distance",
    }.items():
        with pytest.raises(InvalidInputError, match="not_before") as refused:
            Campaign.of({**given, "not_before": text})
        assert why in str(refused.value), text
    for text in ("2030-01-31T09:00:00-08:00", "2030-01-31 09:00", "tomorrow 09:00"):
        assert isinstance(Campaign.of({**given, "not_before": text}, now=NOW).options.not_before, datetime)
    with pytest.raises(InvalidInputError, match="valid_until: an edit gives one time to all"):
        read_edit({"valid_until": "visit - 30m"}, now=NOW)


@pytest.mark.anyio
async def test_the_same_file_again_adds_nothing_when_a_visit_is_over(tmp_path: Path) -> None:
    path = file_of(tmp_path, "destination,name,visit\n+6587654321,Ana,2030-03-10 09:00\n")
    given: dict[str, object] = {
        "file": path,
        "say": "See you on {{visit|date}}.",
        "source": "+6531234567",
        "voice_profile": "en-US-Jenny",
    }
    given |= {"time_zone": "Europe/Berlin", "not_before": "visit - 24h"}
    async with open_store("memory://") as store:
        times = [NOW.replace(year=2030, day=day) for day in (2, 2, 11)]
        found = [await Campaign.of(given, now=at).start(CallQueue(store), now=at) for at in times]
        assert [(each.enqueued, each.duplicates, each.left_out) for each in found] == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
