"""Times in files, and how a row's schedule is put together."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.campaigns.forms import written
from tests.campaigns.reading import NOW, OPTIONS, Row, file_of, read, read_all, saying, told
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.times import DateOrder, read_since, read_time
from voiceflow_worker.model.zones import read_zone

SINGAPORE = ZoneInfo("Asia/Singapore")
NEW_YORK = ZoneInfo("America/New_York")
NINE = datetime(2030, 1, 31, 1, 0, tzinfo=UTC)


def test_a_time_with_a_zone_or_in_the_zone_of_its_row_is_read() -> None:
    for text in (
        "2030-01-31T09:00:00+08:00", "2030-01-31T01:00:00Z", "2030-01-31t01:00:00.000z", "2030-01-31 09:00+0800",
        "2030-01-31 01:00 Z", "2030-01-31 09:00", " 2030-01-31T09:00:00 ",
    ):  # fmt: skip
        assert read_time(text, zone=SINGAPORE) == NINE
    assert read_since("2030-01-31T09:00:00+08:00") == read_since("2030-01-31 01:00Z") == NINE
    assert read_since("90m") == timedelta(hours=1.5)


NO_TIME, NO_SUCH = "is not a time; write it as", "is not a time: there is no such day, time of day or offset"


def test_what_is_not_a_time_is_reported_with_the_remedy() -> None:
    for text, sentence in {
        **dict.fromkeys(["31/12/2030", "2030-01-31", "9:00", "tomorrow", "20300131T090000Z"], NO_TIME),
        **dict.fromkeys(["45321.375", "31 Jan 2030 9am", "2030-01-31 9:00 PM"], NO_TIME),
        **dict.fromkeys(["2030-02-30 09:00Z", "2030-01-31 25:00Z"], NO_SUCH),
        **dict.fromkeys(["0001-01-01 00:00+08:00", "2573-01-31 09:00Z"], "has the year"),
        "2030-01-31 09:00": "has no time zone; write it as '2030-01-31T09:00:00+08:00', or give a time_zone",
    }.items():
        with pytest.raises(ValueError, match="'") as caught:
            read_time(text, zone=None)
        assert sentence in str(caught.value), text
    for text, message in (
        ("never", "or how long ago"), ("5", "or how long ago"), ("2030-01-31 09:00", "has no time zone; write it as"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message) as caught:
            read_since(text)
        assert "time_zone" not in str(caught.value), "such a time has no other place for its zone"


def test_a_local_time_that_the_clocks_skip_or_show_twice_is_not_guessed() -> None:
    for text, why in (("2026-03-08 02:30", "does not exist in"), ("2026-11-01 01:30", "happens twice in")):
        with pytest.raises(ValueError, match=f"{why} America/New_York"):
            read_time(text, zone=NEW_YORK)
    assert read_time("2026-11-01 01:30-05:00", zone=NEW_YORK) == datetime(2026, 11, 1, 6, 30, tzinfo=UTC)
    assert read_time("2026-03-08 01:59", zone=NEW_YORK) == datetime(2026, 3, 8, 6, 59, tzinfo=UTC)
    assert read_time("2026-03-08 03:00", zone=NEW_YORK) == datetime(2026, 3, 8, 7, 0, tzinfo=UTC)


def test_what_is_not_a_zone_is_refused() -> None:
    for name in (
        "Singapur", "XYZ", "Asia", "../etc/passwd", "", "/Asia/Singapore", "Asia/Singapore (GMT+9)",
        "America/New_York or America/Chicago", "localtime", "posixrules", "posix/Asia/Singapore",
        "right/Asia/Singapore", "SGT", "EST", "EST5EDT", "CET", "Singapore", "asia/singapore", "Asia/Singapore (GMT+8)",
        "Singapore Standard Time", "Eastern Time (US & Canada)", "(UTC-05:00) Eastern Time (US & Canada)",
        "america_slash_new_york",
    ):  # fmt: skip
        with pytest.raises(ValueError, match="is not a time zone; give a name such as Asia/Singapore"):
            read_zone(name)


def one(**cells: object) -> list[Row]:
    return [{"destination": "+6587654321", "name": "Ana", **cells}]


def test_times_of_a_row_are_in_its_own_zone_or_that_of_the_options() -> None:
    options = replace(OPTIONS, time_zone="Asia/Singapore")
    for zone, at in (("Asia/Jakarta", "2030-01-31 02:00:00+00:00"), (None, "2030-01-31 01:00:00+00:00")):
        (call,) = read_all(one(time_zone=zone, not_before="2030-01-31 09:00"), options).calls
        assert (call.time_zone, str(call.not_before)) == (zone, at)


def test_a_campaign_whose_validity_has_passed_is_bad_and_a_body_of_the_guides_is_so_when_enqueuing(
    tmp_path: Path,
) -> None:
    body = {"callflow": FLOW["callflow"], "validUntil": ENDS[0]}
    body["callflow"] = [{"action": "makeCall", "params": {"source": "+6531234567", "destination": "+6587654321"}}]
    for name, text, is_body in (
        ("rows.csv", f"destination,name,valid_until\n+6587654321,Ana,{ENDS[0]}\n", False),
        ("rows.jsonl", f"{json.dumps(body)}\n", False),
        ("body.json", json.dumps(body), True),
    ):
        path = file_of(tmp_path, text, name)
        for checks in (False, True):
            (row,) = read(path, replace(OPTIONS, template=None) if "callflow" in text else OPTIONS, checks=checks)
            (found,) = [each for each in row.findings if each.code]
            is_bad = not (checks and is_body)
            assert (found.code, found.is_error, row.call is None) == (-1015, is_bad, is_bad), (name, checks)


@pytest.mark.parametrize("given", [{"valid_for": timedelta(hours=2)}, {"valid_until": NOW + timedelta(hours=2)}])
def test_an_option_gives_a_validity_and_never_makes_one_longer(given: dict[str, Any]) -> None:
    for own, hours in (("", 2), ("2026-03-02T10:00:00Z", 1), ("2026-03-02T20:00:00Z", 2)):
        (call,) = read_all(one(valid_until=own), replace(OPTIONS, **given)).calls
        assert call.valid_until == NOW + timedelta(hours=hours)


ENDS = ("2026-03-02T08:59:59.000Z", "", "2026-03-02T20:00:00.000Z", "2020-01-01T00:00:00.000Z")

FLOW = {
    "callflow": [{"action": "makeCall"}, {"action": "say", "params": {"text": "Hello."}}],
    "validUntil": "{{visit}}",
}
VALID_BY_COLUMN = FlowTemplate.parse(FLOW, name="flow.json")


@pytest.mark.parametrize("given", [{}, {"valid_for": timedelta(hours=2)}, {"valid_until": NOW + timedelta(hours=2)}])
@pytest.mark.parametrize("form", ["csv", "jsonl", "xlsx", "column", "template"])
def test_a_validity_of_a_column_that_has_passed_is_never_replaced(
    tmp_path: Path, given: dict[str, Any], form: str
) -> None:
    name = "visit" if form in {"column", "template"} else "valid_until"
    people: list[Row] = [
        {"destination": f"+658765432{place}", "name": "Ana", name: end or None} for place, end in enumerate(ENDS)
    ]
    options = replace(OPTIONS, columns={"valid_until": "visit"} if form == "column" else {}, **given)
    if form == "template":
        options = replace(options, template=VALID_BY_COLUMN)
    first, second, third, fourth = read_all(written(tmp_path, people, "csv" if name == "visit" else form), options).rows
    for row in (first, fourth):
        assert row.call is None, (form, given)
        assert [(each.code, each.is_error) for each in row.findings] == [(-1015, True)]
        assert row.findings[0].message.endswith("Correct it, or leave the row out.")
    assert third.call is not None
    assert form == "template" or second.call is not None


@pytest.mark.parametrize("checks", [False, True])
@pytest.mark.parametrize("given", [{"valid_for": timedelta(hours=2)}, {"valid_until": NOW + timedelta(hours=2)}])
def test_the_validity_of_a_body_that_has_passed_is_replaced_with_a_warning(
    tmp_path: Path, given: dict[str, Any], checks: bool
) -> None:
    flow = [{"action": "makeCall", "params": {"source": "+6531234567", "destination": "+6587654321"}}]
    bodies = [{"callflow": flow, **({"validUntil": end} if end else {})} for end in ENDS]
    path = file_of(tmp_path, "\n".join(map(json.dumps, bodies)), "bodies.jsonl")
    rows = read(path, replace(OPTIONS, template=None, **given), checks=checks)
    said = [(each.row, each.path, each.code, each.is_error) for row in rows for each in row.findings if each.code]
    assert said == [(1, "$.validUntil", -1015, False), (4, "$.validUntil", -1015, False)]
    (name,) = given
    assert f"`{name}` of the campaign replaces it: this phone may ring" in rows[0].findings[0].message
    made = [row.call for row in rows if row.call is not None]
    assert {call.valid_until for call in made} == {NOW + timedelta(hours=2)}


def test_valid_for_counts_from_when_a_row_may_first_be_called() -> None:
    later = NOW + timedelta(days=1)
    (call,) = read_all(one(), replace(OPTIONS, valid_for=timedelta(hours=2), not_before=later)).calls
    assert (call.not_before, call.valid_until) == (later, later + timedelta(hours=2))


def test_a_row_whose_validity_ends_before_it_may_be_called_is_bad() -> None:
    at = "2026-03-03T09:00:00Z"
    ((_, column, code, message),) = told(read_all(one(not_before=at, valid_until=at)).rows)
    assert (column, code) == ("valid_until", -1015)
    assert "the call may not be sent before 2026-03-03 09:00:00 UTC" in message


@pytest.mark.parametrize(
    "given",
    [
        {"country": "Singapore"}, {"source": "none"}, {"time_zone": "SGT"}, {"batch_id": "x" * 51}, {"batch_id": ""},
        {"priority": 2**63 - 1}, {"valid_for": timedelta.max}, {"valid_until": NOW},
        {"valid_for": timedelta(hours=1), "valid_until": NOW + timedelta(hours=1)},
        {"not_before": datetime(2030, 1, 1)},  # noqa: DTZ001 (without a zone, on purpose)
    ],
)  # fmt: skip
def test_an_option_that_would_spoil_every_row_is_refused_before_reading(tmp_path: Path, given: dict[str, Any]) -> None:
    path = file_of(tmp_path, "destination,name,day\n+6587654321,Ana,x\n")
    with pytest.raises(InvalidInputError):
        open_campaign(path, CampaignOptions(**given), now=NOW)


@pytest.mark.parametrize("column", ["not_before", "valid_until"])
def test_a_time_beyond_what_stores_count_is_the_rows_own_finding(column: str) -> None:
    (error,) = read_all(one(**{column: "9999-12-31T23:59:59Z"})).errors
    assert error.startswith(f"{column}: ")
    assert "9999-12-31" in error


@pytest.mark.parametrize(
    ("order", "given"),
    [
        (DateOrder.DMY, ("9/3/2026 9:30", "10.03.2026 18:00", "31/12/2026")),
        (DateOrder.MDY, ("3/9/2026, 9:30", "03-10-2026 18:00", "12/31/2026")),
        (DateOrder.YMD, ("2026/3/9 9:30", "2026-03-10 18:00", "2026.12.31")),
    ],
)
def test_dates_in_the_order_of_the_option_are_read_in_time_columns_and_texts(
    tmp_path: Path, order: DateOrder, given: tuple[str, str, str]
) -> None:
    begin, end, day = given
    rows = f'+6587654321,"{begin}",{end},{day}', "+6587654322,,,31/31/2026"
    path = file_of(tmp_path, "\n".join(["destination,not_before,valid_until,day", *rows]))
    options = saying("On {{day|date}}.", time_zone="Asia/Singapore", date_order=order)
    reading = read_all(path, options)
    (call,) = reading.calls
    assert (str(call.not_before), str(call.valid_until)) == ("2026-03-09 01:30:00+00:00", "2026-03-10 10:00:00+00:00")
    assert (reading.heard, call.data) == (["On 31 December 2026."], {"day": "2026-12-31"})
    assert [(row, column) for row, column, *_ in told(reading.rows)] == [(3, "day")]
    unordered = read_all(path, replace(options, date_order=None)).errors
    assert all("`date_order: dmy`" in each for each in unordered)


def test_an_option_may_say_today_or_tomorrow_in_its_zone() -> None:
    late = datetime(2026, 3, 2, 20, tzinfo=UTC)  # already the 3rd of March in Singapore
    assert read_time("tomorrow 09:00", zone=SINGAPORE, now=late) == datetime(2026, 3, 4, 1, tzinfo=UTC)
    assert read_time("Today 18:00", zone=SINGAPORE, now=late) == datetime(2026, 3, 3, 10, tzinfo=UTC)
    with pytest.raises(ValueError, match="has no time zone"):
        read_time("tomorrow 09:00", zone=None, now=late)
