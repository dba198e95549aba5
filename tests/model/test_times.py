"""Times in files, and how a row's schedule is put together."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from babel.core import get_global

from tests.campaigns.reading import NOW, OPTIONS, calls_of, file_of, read, text_of, told
from tests.campaigns.workbooks import parquet, workbook
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Remedy
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.times import _RAILS, DateOrder, read_since, read_time, read_zone, zone_named

SINGAPORE = ZoneInfo("Asia/Singapore")
NEW_YORK = ZoneInfo("America/New_York")
NINE = datetime(2030, 1, 31, 1, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2030-01-31T09:00:00+08:00",
        "2030-01-31T01:00:00Z",
        "2030-01-31t01:00:00.000z",
        "2030-01-31 09:00+0800",
        "2030-01-31 01:00 Z",
        "2030-01-31 09:00",
        " 2030-01-31T09:00:00 ",
    ],
)
def test_a_time_with_a_zone_or_in_the_zone_of_its_row_is_read(text: str) -> None:
    assert read_time(text, zone=SINGAPORE) == NINE


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("31/12/2030", "is not a time; write it as"),
        ("2030-01-31", "is not a time; write it as"),
        ("9:00", "is not a time; write it as"),
        ("45321.375", "it counts days, as spreadsheets store dates: write 2024-01-30 09:00"),
        ("tomorrow", "is not a time; write it as"),
        ("20300131T090000Z", "is not a time; write it as"),
        ("2030-02-30 09:00Z", "is not a time: there is no such day, time of day or offset"),
        ("2030-01-31 25:00Z", "is not a time: there is no such day, time of day or offset"),
        ("0001-01-01 00:00+08:00", "is not between the years 1 and 9999 in UTC; correct the year"),
        ("2030-01-31 09:00", "has no time zone; write it as '2030-01-31T09:00:00+08:00', or give a time_zone"),
    ],
)
def test_what_is_not_a_time_is_reported_with_the_remedy(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match="'") as caught:
        read_time(text, zone=None)
    assert sentence in str(caught.value)


def test_a_local_time_that_the_clocks_skip_or_show_twice_is_not_guessed() -> None:
    for text, why in (("2026-03-08 02:30", "does not exist in"), ("2026-11-01 01:30", "happens twice in")):
        with pytest.raises(ValueError, match=f"{why} America/New_York"):
            read_time(text, zone=NEW_YORK)
    assert read_time("2026-11-01 01:30-05:00", zone=NEW_YORK) == datetime(2026, 11, 1, 6, 30, tzinfo=UTC)
    assert read_time("2026-03-08 01:59", zone=NEW_YORK) == datetime(2026, 3, 8, 6, 59, tzinfo=UTC)
    assert read_time("2026-03-08 03:00", zone=NEW_YORK) == datetime(2026, 3, 8, 7, 0, tzinfo=UTC)


BESIDE_ZONES = ("localtime", "posixrules", "posix/Asia/Singapore", "right/Asia/Singapore")


@pytest.mark.parametrize(
    "name", ["Singapur", "XYZ", "UTC+8", "Asia", "../etc/passwd", "", "/Asia/Singapore", *BESIDE_ZONES]
)
def test_what_is_not_a_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a time zone; give a name such as Asia/Singapore"):
        read_zone(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SGT", "Asia/Singapore"),
        ("hkt", "Asia/Hong_Kong"),
        ("EST", "America/New_York or America/Panama"),
        ("EDT", "America/New_York"),
        ("EST5EDT", "America/New_York or America/Panama"),
        ("MST", "America/Denver or America/Phoenix"),
        ("AEDT", "Australia/Sydney"),
        ("CET", "Europe/Berlin or Europe/Paris"),
        ("CEST", "Europe/Berlin or Europe/Paris"),
        ("IST", "Asia/Kolkata or Europe/Dublin or Asia/Jerusalem"),
    ],
)
def test_an_abbreviation_is_refused_with_the_zones_that_people_mean(name: str, meant: str) -> None:
    with pytest.raises(ValueError, match="is an abbreviation, not a time zone") as caught:
        read_zone(name)
    assert str(caught.value).endswith(f"write {meant}")
    for zone in meant.split(" or "):
        assert read_zone(zone).key == zone


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        *(("Manila", "Asia/Manila"), ("kuala lumpor", "Asia/Kuala_Lumpur"), ("Asia/Singapor", "Asia/Singapore")),
        *(
            (each, None)
            for each in ("Japan", "China", "Malaysia", "East", "West", "ACT", "ROK", "Pacific", "ART", "Mars")
        ),
    ],
)
def test_only_a_city_that_is_named_or_nearly_named_is_guessed(name: str, guess: str | None) -> None:
    with pytest.raises(ValueError, match="is not a time zone") as caught:
        read_zone(name)
    assert str(caught.value).partition("did you mean ")[2] == (f"{guess}?" if guess else "")


def test_the_zones_of_windows_and_rails_are_read_by_their_names() -> None:
    for name, zone in get_global("windows_zone_mapping").items():
        if "/" in zone and " Time" in name:
            assert read_zone(name).key == zone
    for name, zone in {
        "Eastern Time (US & Canada)": "America/New_York", "Singapore": "Asia/Singapore", "Hawaii": "Pacific/Honolulu",
        "Kuala Lumpur": "Asia/Kuala_Lumpur", "singapore standard time": "Asia/Singapore", "Mumbai": "Asia/Kolkata",
    }.items():  # fmt: skip
        assert read_zone(f" {name} ").key == zone
    assert all(zone_named(zone) is not None for zone in _RAILS.values())


def rows(folder: Path, columns: str, cells: str) -> Path:
    return file_of(folder, f"destination,name,{columns}\n+6587654321,Ana,{cells}\n")


def test_times_of_a_row_are_in_its_own_zone_or_that_of_the_options(tmp_path: Path) -> None:
    path = file_of(
        tmp_path,
        "destination,name,time_zone,not_before\n"
        "+6587654321,Ana,Asia/Jakarta,2030-01-31 09:00\n"
        "+6587654322,Ben,,2030-01-31 09:00\n",
    )
    options = CampaignOptions(
        template=OPTIONS.template, source="+6531234567", voice_profile="v", time_zone="Asia/Singapore"
    )
    first, second = calls_of(read(path, options))
    assert (first.time_zone, str(first.not_before)) == ("Asia/Jakarta", "2030-01-31 02:00:00+00:00")
    assert (second.time_zone, str(second.not_before)) == (None, "2030-01-31 01:00:00+00:00")


def test_a_validity_that_has_passed_is_an_error_when_enqueuing_and_a_warning_when_checking(tmp_path: Path) -> None:
    path = rows(tmp_path, "valid_until", "2026-03-02T09:00:00Z")
    bad = read(path)[0]
    assert [(found.column, found.code, found.is_error) for found in bad.findings] == [("valid_until", -1015, True)]
    assert bad.call is None
    looked_at = read(path, checks=True)[0]
    assert [(found.column, found.code, found.is_error) for found in looked_at.findings] == [
        ("valid_until", -1015, False)
    ]


@pytest.mark.parametrize("given", [{"valid_for": timedelta(hours=2)}, {"valid_until": NOW + timedelta(hours=2)}])
@pytest.mark.parametrize(
    ("own", "hours"),
    [("", 2), ("2026-03-02T10:00:00Z", 1), ("2026-03-02T20:00:00Z", 2)],
)
def test_an_option_gives_a_validity_and_never_makes_one_longer(
    tmp_path: Path, given: dict[str, Any], own: str, hours: int
) -> None:
    (request,) = calls_of(read(rows(tmp_path, "valid_until", own), replace(OPTIONS, **given)))
    assert request.valid_until == NOW + timedelta(hours=hours)


ENDS = ("2026-03-02T08:59:59.000Z", "", "2026-03-02T20:00:00.000Z", "2020-01-01T00:00:00.000Z")
VALID_BY_COLUMN = FlowTemplate.parse(
    {
        "callflow": [{"action": "makeCall"}, {"action": "say", "params": {"text": "Hello."}}],
        "validUntil": "{{visit}}",
    },
    name="flow.json",
)


@pytest.mark.parametrize("given", [{}, {"valid_for": timedelta(hours=2)}, {"valid_until": NOW + timedelta(hours=2)}])
@pytest.mark.parametrize("form", ["csv", "jsonl", "xlsx", "parquet", "column", "template"])
def test_a_validity_of_a_column_that_has_passed_is_never_replaced(
    tmp_path: Path, given: dict[str, Any], form: str
) -> None:
    name = "visit" if form in {"column", "template"} else "valid_until"
    people = [{"destination": f"+658765432{index}", "name": "Ana", name: end or None} for index, end in enumerate(ENDS)]
    table: list[list[str | None]] = [list(people[0]), *(list(each.values()) for each in people)]
    if form == "xlsx":
        path = workbook(tmp_path, table)
    elif form == "parquet":
        path = parquet(tmp_path, {key: [each[key] for each in people] for key in people[0]})
    elif form == "jsonl":
        path = file_of(tmp_path, "\n".join(map(json.dumps, people)), "visits.jsonl")
    else:
        path = file_of(tmp_path, "".join(",".join(str(cell or "") for cell in row) + "\n" for row in table))
    options = replace(OPTIONS, **given)
    if form == "column":
        options = replace(options, columns={"valid_until": "visit"})
    if form == "template":
        options = replace(options, template=VALID_BY_COLUMN)
    first, second, third, fourth = read(path, options)
    for row in (first, fourth):
        assert row.call is None, (form, given)
        assert [(each.code, each.is_error) for each in row.findings] == [(-1015, True)]
        assert row.findings[0].message.endswith("correct it, or leave the row out")
    assert third.call is not None
    if form != "template":
        assert second.call is not None


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
    assert f"the campaign's {name} replaces it: this phone may ring" in rows[0].findings[0].message
    made = [row.call for row in rows if row.call is not None]
    assert {call.valid_until for call in made} == {NOW + timedelta(hours=2)}


def test_valid_for_counts_from_when_a_row_may_first_be_called(tmp_path: Path) -> None:
    later = NOW + timedelta(days=1)
    options = CampaignOptions(
        template=OPTIONS.template,
        source="+6531234567",
        voice_profile="v",
        valid_for=timedelta(hours=2),
        not_before=later,
    )
    request = calls_of(read(rows(tmp_path, "day", "x"), options))[0]
    assert (request.not_before, request.valid_until) == (later, later + timedelta(hours=2))


def test_a_row_whose_validity_ends_before_it_may_be_called_is_bad(tmp_path: Path) -> None:
    path = rows(tmp_path, "not_before,valid_until", "2026-03-03T09:00:00Z,2026-03-03T09:00:00Z")
    found = told(read(path))
    assert [(column, code) for _, column, code, _ in found] == [("valid_until", -1015)]
    assert "the call may not be sent before 2026-03-03 09:00:00 UTC" in found[0][3]


@pytest.mark.parametrize(
    "options",
    [
        partial(CampaignOptions, country="Singapore"),
        partial(CampaignOptions, source="none"),
        partial(CampaignOptions, time_zone="SGT"),
        partial(CampaignOptions, batch_id="x" * 51),
        partial(CampaignOptions, batch_id=""),
        partial(CampaignOptions, priority=2**63 - 1),
        partial(CampaignOptions, valid_for=timedelta.max),
        partial(CampaignOptions, valid_for=timedelta(hours=1), valid_until=NOW + timedelta(hours=1)),
        partial(CampaignOptions, valid_until=NOW),
        partial(CampaignOptions, not_before=datetime(2030, 1, 1)),  # noqa: DTZ001 (without a zone, on purpose)
    ],
)
def test_an_option_that_would_spoil_every_row_is_refused_before_reading(
    tmp_path: Path, options: Callable[[], CampaignOptions]
) -> None:
    with pytest.raises(InvalidInputError):
        open_campaign(rows(tmp_path, "day", "x"), options(), now=NOW)


@pytest.mark.parametrize("column", ["not_before", "valid_until"])
def test_a_time_beyond_what_stores_count_is_the_rows_own_finding(tmp_path: Path, column: str) -> None:
    path = file_of(tmp_path, f"destination,name,{column}\n+6587654321,Ana,9999-12-31T23:59:59Z\n")
    ((row, found, _, message),) = told(read(path))
    assert (row, found) == (2, column)
    assert "9999-12-31" in message


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
    path = file_of(
        tmp_path,
        f'destination,not_before,valid_until,day\n+6587654321,"{begin}",{end},{day}\n+6587654322,,,31/31/2026\n',
    )
    options = replace(
        OPTIONS, template=FlowTemplate.speaking("On {{day|date}}."), time_zone="Asia/Singapore", date_order=order
    )
    rows = read(path, options)
    (request,) = calls_of(rows)
    assert (request.not_before, request.valid_until) == (
        datetime(2026, 3, 9, 1, 30, tzinfo=UTC),
        datetime(2026, 3, 10, 10, tzinfo=UTC),
    )
    assert (text_of(request), request.data) == ("On 31 December 2026.", {"day": "2026-12-31"})
    assert [(row, column) for row, column, _, _ in told(rows)] == [(3, "day")]
    unordered = [found for row in read(path, replace(options, date_order=None)) for found in row.findings]
    assert all(Remedy.NAME_DATE_ORDER in found.message for found in unordered if found.is_error)


def test_an_option_may_say_today_or_tomorrow_in_its_zone() -> None:
    late = datetime(2026, 3, 2, 20, tzinfo=UTC)  # already the 3rd of March in Singapore
    assert read_time("tomorrow 09:00", zone=SINGAPORE, now=late) == datetime(2026, 3, 4, 1, tzinfo=UTC)
    assert read_time("Today 18:00", zone=SINGAPORE, now=late) == datetime(2026, 3, 3, 10, tzinfo=UTC)
    with pytest.raises(ValueError, match="has no time zone"):
        read_time("tomorrow 09:00", zone=None, now=late)


@pytest.mark.parametrize("text", ["2030-01-31T09:00:00+08:00", "2030-01-31 01:00Z"])
def test_a_time_or_a_duration_says_since_when(text: str) -> None:
    assert read_since(text) == NINE
    assert read_since("90m") == timedelta(hours=1.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [("never", "say how long ago"), ("5", "say how long ago"), ("2030-01-31 09:00", "has no time zone; write it as")],
)
def test_what_is_neither_a_time_nor_a_duration_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_since(text)
    assert "time_zone" not in str(caught.value), "such a time has no other place for its zone"
