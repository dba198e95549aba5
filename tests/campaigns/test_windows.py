"""The hours in which a row's phone rings: windows, holidays, and times that are counted from a column of the row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns.conftest import StillClock
from tests.campaigns.forms import from_mappings, from_workbook
from tests.campaigns.reading import NOW, OPTIONS, Row, calls_of, file_of, read, read_all, refused, told
from tests.support.started import enqueue_file, report_of
from voiceflow_worker import CallQueue, open_store
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.campaigns.enqueue import Phase
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.column_time import ColumnTime
from voiceflow_worker.model.country_windows import CountryWindows
from voiceflow_worker.model.times import DateOrder
from voiceflow_worker.model.window import CallWindow

DAYTIME = replace(OPTIONS, window=CallWindow.parse("09:00-20:00"))
# It is 2026-03-02 09:00 UTC, a Monday: 17:00 in Singapore, 04:00 in New York.
HEADER = "destination,name,time_zone,not_before,valid_until\n"


def lines(*rows: str) -> str:
    return HEADER + "".join(f"{row}\n" for row in rows)


def test_a_row_has_the_zone_of_its_column_else_of_its_number_whatever_times_are_read_in(tmp_path: Path) -> None:
    path = file_of(tmp_path, lines("+6587654321,Ana,Europe/Berlin,,", "+6587654322,Ben,,,", "+12025550123,Cleo,,,"))
    for options in (DAYTIME, replace(DAYTIME, time_zone="Europe/London")):
        assert [each.time_zone for each in calls_of(read(path, options))] == [
            "Europe/Berlin", "Asia/Singapore", "America/New_York",
        ]  # fmt: skip


def test_a_number_that_may_be_anywhere_is_a_bad_row(tmp_path: Path) -> None:
    rows = read(file_of(tmp_path, lines("+18005551234,Ana,,,", "+18005551234,Ben,America/Chicago,,")), DAYTIME)
    ((row, column, code, message),) = told(rows)
    assert (row, column, code) == (2, "time_zone", None)
    assert message.startswith("+18005551234 may be in several time zones (America/Adak, ")
    assert "give the person a time zone, or the window one" in message
    assert [each.time_zone for each in calls_of(rows)] == ["America/Chicago"]


@pytest.mark.parametrize("checks", [False, True])
def test_a_window_that_does_not_open_while_the_row_is_valid_is_a_bad_row(tmp_path: Path, checks: bool) -> None:
    ends = ("+12025550123,Ana,,,2026-03-02T14:00:00Z", "+12025550123,Ben,,,2026-03-02T14:00:01Z")
    rows = read(file_of(tmp_path, lines(*ends)), DAYTIME, checks=checks)
    message = (
        "its calling window (09:00-20:00 mon-sun) opens in America/New_York at 2026-03-02 14:00:00 UTC, but its "
        "validity ends at 2026-03-02 14:00:00 UTC; give a later end of validity, or a wider window"
    )
    assert told(rows) == [(2, None, -1015, message)]
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
    def slow(phase: Phase, *, done: int, total: int, rows: int) -> None:
        if phase is Phase.READING:
            clock.advance(timedelta(hours=3))

    path = file_of(tmp_path, lines(*(f"{each},Ana,,,2026-03-02T23:00:00Z" for each in ("+6587654321", "+12025550123"))))
    report = await enqueue_file(queue, path, DAYTIME, now=NOW, progress=slow)
    assert (report.enqueued, report.rejected) == (1, 1)
    assert [(found.row, found.code) for found in report.findings] == [(2, -1015)]


def test_a_row_with_a_window_and_a_body_that_breaks_a_rule_is_a_bad_row(tmp_path: Path) -> None:
    body = {"callflow": [{"action": "makeCall", "params": {"source": "x", "destination": "+6587654321"}}]}
    path = file_of(tmp_path, json.dumps(body) + "\n", "bodies.jsonl")
    (row,) = read(path, replace(DAYTIME, template=None, source=None, voice_profile=None))
    assert [found.path for found in row.findings] == ["$.callflow[0].params.source"]


@pytest.mark.parametrize(
    ("holidays", "number", "begins", "message"),
    [
        ("UA", "+380441234567", "2027-02-01T04", "no holidays known for UA in 2027, so no day is left out: install"),
        ("number", "+94112345678", "2026-12-29T04", "no holidays known for LK in 2027, so nobody rings in that year"),
    ],
)
def test_holidays_that_are_not_known_are_told_before_the_start(
    holidays: str, number: str, begins: str, message: str | None
) -> None:
    windows = CountryWindows.parse("09:00-20:00", holidays=holidays)
    row = {"destination": number, "name": "Ana", "not_before": f"{begins}:00:00Z"}
    reading = read_all([row], replace(OPTIONS, window=windows))
    assert len(reading.calls) == 1
    said = [each.message for each in reading.closing if "known" in each.message]
    assert len(said) == (message is not None)
    assert message is None or message in said[0]


def test_a_year_whose_holidays_nobody_knows_is_the_reason_of_a_bad_row(tmp_path: Path) -> None:
    windows = CountryWindows.parse("09:00-20:00", holidays="LK")
    path = file_of(tmp_path, lines("+94112345678,Ana,,2028-03-01T04:00:00Z,"))
    ((row, _, _, message),) = told(read(path, replace(OPTIONS, window=windows)))
    assert row == 2
    assert "No holidays known for LK in 2028, so nobody rings in that year" in message


STATES = replace(OPTIONS, batch_id="b", columns={"region": "State"})
AMERICAN = {"name": "Ana", "destination": "+12125550123"}  # of New York, by its digits


def rows_of(options: CampaignOptions, *rows: Row) -> Sequence[ReadRow]:
    return read_all([{**AMERICAN, **row, "unique_key": f"{n}"} for n, row in enumerate(rows)], options).rows


def zone_of(options: CampaignOptions, **cells: object) -> str | None:
    """The zone by which a call of a row is timed."""
    (row,) = rows_of(options, cells)
    assert row.call is not None, row.findings
    return row.call.time_zone


def error_of(options: CampaignOptions, **cells: object) -> str:
    ((_, column, _, message),) = told(rows_of(options, cells))
    return f"{column}: {message}"


def test_the_state_says_by_which_clock_a_window_counts() -> None:
    options = replace(STATES, window=CountryWindows.parse("09:00-20:00"))
    los_angeles, new_york = "America/Los_Angeles", "America/New_York"
    for state, zone in {"CA": los_angeles, "": new_york, "CA-MB": "America/Winnipeg", None: new_york}.items():
        assert zone_of(options, State=state) == zone
    for state in ("FL", "TN", "Texas", "IN", "SD", "CA-BC"):
        error = error_of(options, State=state)
        assert error.startswith("time_zone: ")
        assert "has several clocks" in error
        assert zone_of(options, State=state, time_zone="America/Chicago") == "America/Chicago"
        zone_of(replace(options, window=CountryWindows.parse("09:00-20:00", time_zone="UTC")), State=state)
    assert error_of(options, State="Flrida").startswith("State: 'Flrida' is no state of US")
    assert error_of(options, State="Manitoba").startswith("State: 'Manitoba' is a state of CA, ")
    zone_of(STATES, State="Flrida")  # nothing asks for it


def test_a_name_that_was_one_clock_for_two_countries_is_not_certain_in_canada() -> None:
    options = replace(STATES, window=CountryWindows.parse("09:00-20:45"))
    cases = {
        ("+14032345678", "Mountain Standard Time", ""): "America/Edmonton or America/Denver",
        ("+14032345679", "(UTC-07:00) Mountain Time (US & Canada)", ""): "America/Edmonton or America/Denver",
        ("+16042345678", "Pacific Time (US & Canada)", ""): "America/Vancouver or America/Los_Angeles",
        ("+12042345678", "Central Standard Time", ""): "America/Winnipeg or America/Chicago",
        ("+12125550123", "Mountain Standard Time", "CA-AB"): "America/Edmonton or America/Denver",
        ("+12125550123", "Mountain Standard Time", ""): None, ("+14032345678", "America/Denver", ""): None,
        ("+14162345678", "Eastern Standard Time", ""): None, ("+14032345678", "Alberta Standard Time", ""): None,
    }  # fmt: skip
    for (number, name, state), zones in cases.items():
        found = told(rows_of(options, {"destination": number, "time_zone": name, "State": state}))
        assert len(found) == (zones is not None), (number, name)
        assert all(column == "time_zone" and message.endswith(f"write {zones}") for _, column, _, message in found)


def test_hours_may_differ_by_state() -> None:
    text = "US-FL=08:00-20:00,US-CA=10:00-12:00,US=09:00-21:00,*=11:00-12:00"
    windows = CountryWindows.parse(text, days="us-ca=mon,*=mon-fri", holidays="US-CA=none,*=number")
    options, florida = replace(STATES, window=windows), {"State": "US-FL", "time_zone": "America/New_York"}
    rows = rows_of(
        options, {"State": "California"}, {"State": "NY"}, florida, {**florida, "destination": "+14165550123"},
        {"State": "Selangor", "destination": "+60123456789"},
    )  # fmt: skip
    assert [str(row.call.window) if row.call is not None else row.findings for row in rows] == [
        "10:00-12:00 mon", "09:00-21:00 mon-fri US", "08:00-20:00 mon-fri US", "08:00-20:00 mon-fri US",
        "11:00-12:00 mon-fri MY",
    ]  # fmt: skip
    for state in ("", None):
        said = "depends on the state (US-FL, US-CA), and that of +12125550123 is not known: write it"
        assert said in error_of(options, State=state)
    assert "write it in a column, and name that" in error_of(replace(options, columns={}), State="NY")
    with pytest.raises(InvalidInputError, match="'US-ZZ' is no state"):
        CountryWindows.parse("US-ZZ=08:00-20:00")


# -- times that are counted from a column: the day before a visit, at the hour of the visit ----------------------------

ANA = "+6587654321"
BERLIN = replace(OPTIONS, batch_id="b", time_zone="Europe/Berlin")


def counted(not_before: str | None = None, valid_until: str | None = None, **more: Any) -> CampaignOptions:
    given = {"not_before": not_before, "valid_until": valid_until}
    times: dict[str, Any] = {name: ColumnTime.read(text) for name, text in given.items() if text is not None}
    return replace(BERLIN, **times, **more)


def rings(given: object, options: CampaignOptions, **more: object) -> list[tuple[str | None, str | None]]:
    """The times between which the calls of rows with this visit may ring, in UTC."""
    reading = read_all([{"destination": ANA, "name": "Ana", "visit": given, **more}], options)
    assert reading.errors == []
    return [(shown(call.not_before), shown(call.valid_until)) for call in reading.calls]


def shown(at: datetime | None) -> str | None:
    return None if at is None else f"{at:%m-%d %H:%M}"


def wrong(given: object, options: CampaignOptions) -> str:
    (error,) = read_all([{"destination": ANA, "name": "Ana", "visit": given}], options).errors
    assert error.startswith("visit: ")
    return error


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
    for reader, visit in product((from_mappings, from_workbook), visits):
        (row,) = reader(tmp_path, {"destination": ANA, "name": "Ana", "visit": visit}, counted("visit - 24h"))
        assert row.call is not None, row.findings
        assert row.call.not_before is not None
        assert row.call.not_before.replace(tzinfo=None) == visit - timedelta(hours=25)
    for reader in (from_mappings, from_workbook):
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
        "2026-03-10 13:30 PM": "is not a time",
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
    for visit, options, why in [
        ("2026-02-10 09:00", counted("visit - 24h"), "is over"),
        ("2026-03-02 10:00", counted("visit - 24h"), "is over"),
        ("2026-03-02 10:20", counted(None, "visit - 30m"), "is over"),
        ("2026-03-10 09:00", counted("visit - 1h", "visit - 2h"), "leaves no time for the call"),
        ("2026-03-10 09:00", counted("visit - 1h", "visit - 1h"), "leaves no time for the call"),
        ("2026-02-10 09:00", counted("visit - 24h", valid_for=timedelta(hours=3)), "is over"),
    ]:
        rows = [{"destination": each, "name": "Ana", "visit": visit} for each in ("nobody", ANA)]
        for row in read_all(rows, options).rows:
            ((severity, message),) = [(found.severity, found.message) for found in row.findings]
            assert (row.is_left_out, severity) == (True, "warning"), visit
            assert why in message
            assert "nobody is called for it" in message


def test_a_call_rings_within_its_window_or_is_refused() -> None:
    window = CountryWindows.parse("09:00-20:00", days="mon-sat")
    options = counted("visit - 1d", window=window, source="+4930123456")
    row = {"destination": "+4930123457", "name": "Ana"}
    assert len(read_all([{**row, "visit": "2026-03-10 11:00"}], options).calls) == 1
    (error,) = read_all([{**row, "visit": "2026-03-09 09:00"}], options).errors  # the day before is a Sunday
    assert "opens in Europe/Berlin at 2026-03-09 08:00:00 UTC, but its validity ends at 2026-03-09 08:00:00" in error


def test_the_column_is_known_by_either_name_and_must_be_there(tmp_path: Path) -> None:
    path = file_of(tmp_path, "destination,name,Visit Time\n+6587654321,Ana,2026-03-10 09:00\n")
    for name in ("visit_time", "Visit Time", "termin"):
        assert len(read_all(path, counted(f"{name} - 24h", columns={"termin": "Visit Time"})).calls) == 1
    assert "no column 'vist'" in refused(path, counted("vist - 24h"))
    assert "cannot be ignored" in refused(path, counted("visit_time - 24h", columns={"ignore": "Visit Time"}))
    lines = file_of(tmp_path, '{"destination": "+6587654321", "name": "Ana"}\n', "people.jsonl")
    assert read_all(lines, counted("visit - 24h")).errors == ["visit: is not in this row: give it, or null"]
    bodies = file_of(tmp_path, '{"clientRequestId": "a"}\n', "bodies.jsonl")
    said = refused(bodies, replace(counted("visit - 24h"), template=None))
    assert "request bodies have no column 'visit'; give each its own" in said


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


@pytest.mark.anyio
async def test_the_same_file_again_adds_nothing_when_a_visit_is_over(tmp_path: Path) -> None:
    given: dict[str, object] = {
        "file": file_of(tmp_path, "destination,name,visit\n+6587654321,Ana,2030-03-10 09:00\n"),
        "say": "See you on {{visit|date}}.", "source": "+6531234567", "voice_profile": "en-US-Jenny",
        "time_zone": "Europe/Berlin", "not_before": "visit - 24h",
    }  # fmt: skip
    async with open_store("memory://") as store:
        times = [NOW.replace(year=2030, day=day) for day in (2, 2, 11)]
        found = [await report_of(Campaign.of(given, now=at).start(CallQueue(store), now=at)) for at in times]
        assert [(each.enqueued, each.duplicates, each.left_out) for each in found] == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
