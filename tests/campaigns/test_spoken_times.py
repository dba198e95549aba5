"""A time with a zone of its own is spoken as the clocks of the person show it, in every format and interface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.campaigns.forms import READERS, Reader, from_csv, from_json, saying
from tests.campaigns.reading import NOW, calls_of, filled, read, text_of, told
from tests.campaigns.workbooks import parquet
from voiceflow_worker import CallQueue, Menu, load_settings
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.errors import CallFlowError, InvalidInputError
from voiceflow_worker.finding import Remedy
from voiceflow_worker.ivr.caller import Caller, spoken
from voiceflow_worker.ivr.speech_filters import ZONE
from voiceflow_worker.model.times import PersonZone
from voiceflow_worker.service.named_call import NamedCall

ANA = "+6587654321"
VISIT = "{{visit|date}} at {{visit|time}}"
INSTANT = "2030-01-30T23:00:00Z"
SINGAPORE = "January 31, 2030 at 7:00 AM"
MOBILE = "+61412345678"
"""An Australian mobile, which may be in several time zones."""
ENGLISH = "en-US-JennyNeural"
SAID = {"say": VISIT, "source": "+6531234567", "voice_profile": ENGLISH, "batch": "b"}


def english(say: str = VISIT, *, time_zone: str | None = None, visit: str | None = None) -> CampaignOptions:
    return replace(saying(say), voice_profile=ENGLISH, time_zone=time_zone, visit_time_zone=visit)


def heard(
    reader: Reader, folder: Path, row: Mapping[str, object], *, time_zone: str | None = None, visit: str | None = None
) -> object:
    (read_row,) = reader(folder, row, english(time_zone=time_zone, visit=visit))
    assert told([read_row]) == []
    (request,) = calls_of([read_row])
    return text_of(request)


@pytest.mark.parametrize("reader", READERS)
def test_a_time_is_spoken_in_the_zone_of_the_column_else_of_the_number_else_of_the_option(
    tmp_path: Path, reader: Reader
) -> None:
    number, berlin = {"destination": ANA, "visit": INSTANT}, "Europe/Berlin"
    assert heard(reader, tmp_path, {**number, "time_zone": "America/New_York"}) == "January 30, 2030 at 6:00 PM"
    assert heard(reader, tmp_path, number) == SINGAPORE
    assert heard(reader, tmp_path, number, time_zone="Asia/Singapore") == SINGAPORE
    assert heard(reader, tmp_path, number, time_zone=berlin) == SINGAPORE, "the number is certain"
    mobile = {"destination": MOBILE, "visit": INSTANT}
    assert heard(reader, tmp_path, mobile, time_zone=berlin) == "January 31, 2030 at 12:00 AM"
    (found,) = reader(tmp_path, mobile, english())[0].findings[:1]
    assert (found.column, found.is_error, Remedy.NAME_TIME_ZONE in found.message) == ("visit", True, True)
    assert found.message.startswith(
        f"'{INSTANT}' has a time zone of its own, and that of the person is not known: {MOBILE} may be in several time "
        "zones (Australia/Adelaide, "
    )


@pytest.mark.parametrize(
    "written",
    [
        "2030-01-30T23:00:00Z", "2030-01-30T23:00Z", "2030-01-30 23:00:00+00", "2030-01-30 23:00:00.123456+00:00",
        "2030-01-31T07:00:00+08:00", "2030-01-31 07:00 +0800", "2030-01-30T23:00:00 UTC", "2030-01-30 23:00 GMT",
        "2030-01-31 07:00 GMT+8", "2030-01-31T04:30:00+05:30[Asia/Kolkata]", "2030-01-30T18:00:00-05:00",
        "2030-01-30t23:00:00z",
    ],
)  # fmt: skip
def test_the_same_instant_is_spoken_alike_however_it_is_written(tmp_path: Path, written: str) -> None:
    for reader in (from_csv, from_json):
        assert heard(reader, tmp_path, {"destination": ANA, "visit": written}, visit="number") == SINGAPORE


VISITS = [
    ("2030-01-31T09:00:00+08:00", "own", "9:00 AM"), ("2030-01-31T09:00:00+08:00", "number", "8:00 AM"),
    ("2030-01-31T09:00:00+08:00", "Asia/Singapore", "9:00 AM"), ("2030-01-31T01:00:00Z", "Asia/Singapore", "9:00 AM"),
    ("2030-01-31T01:00:00+00:00", "own", "1:00 AM"), ("2030-01-31T08:00:00+07:00", None, "8:00 AM"),
    ("2030-01-31T01:00:00Z", None, "8:00 AM"), ("2030-01-31T02:00:00+01:00", " NUMBER ", "8:00 AM"),
]  # fmt: skip
"""A person in Jakarta: a cell, whose clock it is on, and what is heard."""
JAKARTA = {"destination": "+622112345678", "name": "Ana"}


@pytest.mark.parametrize(("written", "visit", "time"), VISITS)
def test_a_visit_has_the_clock_that_is_named_in_every_format_and_in_menus(
    tmp_path: Path, written: str, visit: str | None, time: str
) -> None:
    fields: dict[str, object] = {**SAID, "rows": [], "visit_time_zone": visit}
    named = Campaign.of(fields).options.visit_time_zone
    for reader in READERS:
        said = heard(reader, tmp_path, {**JAKARTA, "visit": written}, visit=named)
        assert said == f"January 31, 2030 at {time}"
    options = CampaignOptions(menu=visit_menu(), source="+6531234567", batch_id="b", visit_time_zone=named)
    campaign = open_campaign([{**JAKARTA, "visit": written}], options, now=NOW)
    (row,) = campaign
    assert row.call is not None
    assert [text for _, text in campaign.later_texts(row)] == [f"Again: January 31, 2030 at {time}."]
    caller = Caller(now=NOW, number=row.call.destination, data=row.call.data or {})
    assert spoken("{{visit|time}}", caller, lambda _: ENGLISH) == time, "when the key is pressed, without the options"


def test_a_visit_on_another_clock_than_that_of_the_person_is_refused_until_it_is_said_which(tmp_path: Path) -> None:
    for reader in READERS:
        for written in ("2030-01-31T09:00:00+08:00", "2030-01-30T20:00:00-05:00"):
            ((_, column, _, message), *_) = told(reader(tmp_path, {**JAKARTA, "visit": written}, english()))
            assert column == "visit"
            assert "by its own clock, and 08:00 in Asia/Jakarta, where the person is: " in message
            assert Remedy.NAME_VISIT_ZONE in message
        (row,) = reader(tmp_path, {**JAKARTA, "visit": "2030-01-31T01:00:00+00:00"}, english())
        (warning,) = (found for found in row.findings if found.column == "visit")
        assert (warning.column, warning.is_error, row.call is not None) == ("visit", False, True)
        assert "is 01:00 by its own clock, and 08:00 in Asia/Jakarta, where the person is, which is" in warning.message
    with pytest.raises(InvalidInputError, match="visit_time_zone"):
        Campaign.of({**SAID, "rows": [], "visit_time_zone": "the clinic"})
    with pytest.raises(InvalidInputError, match="time zone 'the clinic'"):
        open_campaign([], replace(english(visit="the clinic"), batch_id="b"), now=NOW)


LOCAL = ["2030-01-31 07:00", "2030-01-31T07:00:00", "2030-01-31 7:00", "2030-01-31 7:00 am"]


@pytest.mark.parametrize("written", LOCAL)
def test_a_time_without_a_zone_is_local(tmp_path: Path, written: str) -> None:
    for number in (ANA, MOBILE):
        assert heard(from_csv, tmp_path, {"destination": number, "visit": written}) == SINGAPORE


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("2030-01-31T07:00:00 CET", "ends in 'CET'; write its zone as an offset"),
        ("2030-01-31T07:00[Europe/Berlin]", "ends in '[Europe/Berlin]'; write its zone as an offset"),
        ("2030-01-31 07:00 Europe/Berlin", "write its zone as an offset"),
        ("2030-01-31T07:00\u221208:00", "write its zone as an offset"),
        ("23:00Z", "has a time zone and no day"),
        ("23:00+00:00", "has a time zone and no day"),
        ("2030-02-30T07:00Z", "no such day, time or offset"),
        ("2030-01-31T25:00Z", "no such day, time or offset"),
        ("2030-01-31T07:00+99:00", "no such day, time or offset"),
        ("9999-12-31T23:00-12:00", "not between the years 1 and 9999"),
    ],
)
def test_a_time_of_no_certain_zone_makes_the_row_bad(tmp_path: Path, written: str, why: str) -> None:
    for reader in (from_csv, from_json):
        ((_, column, _, message), *_) = told(reader(tmp_path, {"destination": ANA, "visit": written}, english()))
        assert column == "visit"
        assert why in message


def test_a_bad_number_or_zone_is_told_once(tmp_path: Path) -> None:
    for row in ({"destination": "12"}, {"destination": MOBILE, "time_zone": "SGT"}):
        found = told(from_csv(tmp_path, {**row, "visit": INSTANT}, english()))
        assert [name for _, name, _, _ in found] == list(row)[-1:]


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=8)), ZoneInfo("America/New_York")])
def test_typed_times_have_their_zone(tmp_path: Path, zone: Any) -> None:
    moment = datetime(2030, 1, 30, 23, tzinfo=UTC).astimezone(zone)
    path = parquet(tmp_path, {"destination": [ANA], "visit": [moment]})
    options = english(visit="number")
    rows = [*read(path, options), *open_campaign([{"destination": ANA, "visit": moment}], options, now=NOW)]
    assert list(map(text_of, calls_of(rows))) == [SINGAPORE] * 2


@given(
    since_1970=st.integers(0, 120 * 365 * 24 * 60),
    minutes=st.integers(-14 * 60, 14 * 60),
    person=st.sampled_from(["Asia/Singapore", "America/New_York", "Europe/London", "Asia/Kathmandu", "Pacific/Apia"]),
)
def test_what_is_spoken_is_what_the_clocks_of_the_person_show(since_1970: int, minutes: int, person: str) -> None:
    aware = datetime.fromtimestamp(60 * since_1970, timezone(timedelta(minutes=minutes)))
    local = aware.astimezone(ZoneInfo(person))
    values = {"x": aware.isoformat(), ZONE: PersonZone(person, (), visit="number")}
    said = filled(FlowTemplate.speaking("{{x|date('short', language='de')}} {{x|time(language='de')}}"), values)
    assert said["callflow"][1]["params"]["text"] == f"{local:%d.%m.%y %H:%M}"


# -- menus, whose later texts are spoken when a key was pressed --------------------------------------------------------


def visit_menu() -> Menu:
    menu = Menu("visit", prompt=f"Hello. {VISIT}. Press 1.", voice_profile=ENGLISH)
    menu.on("1", goto=f"Again: {VISIT}.")
    return menu


@pytest.mark.anyio
async def test_later_texts_of_a_menu_are_spoken_in_the_zone_of_the_first(queue: CallQueue) -> None:
    for number, zone, first in [(ANA, None, SINGAPORE), (MOBILE, "Europe/Berlin", "January 31, 2030 at 12:00 AM")]:
        options = CampaignOptions(menu=visit_menu(), source="+6531234567", batch_id="b", time_zone=zone)
        campaign = open_campaign([{"destination": number, "visit": INSTANT}], options, now=NOW)
        (row,) = campaign
        assert row.call is not None
        assert first in row.call.body
        assert [text for _, text in campaign.later_texts(row)] == [f"Again: {first}."]
        await queue.admitter.admit_all([row.call])
        (job,) = await queue.find(destination=number)
        caller = Caller(now=NOW, number=number, job=job, data=job.data or {})
        assert spoken(f"Again: {VISIT}.", caller, lambda _: ENGLISH) == f"Again: {first}."
    bad = CampaignOptions(menu=visit_menu(), source="+6531234567", batch_id="b")
    (row,) = open_campaign([{"destination": MOBILE, "visit": INSTANT}], bad, now=NOW)
    assert {found.column for found in row.findings if found.is_error} == {"visit"}


def test_a_menu_speaks_in_the_zone_of_the_number_that_it_calls() -> None:
    flow = visit_menu().call(ANA, source="+6531234567", data={"visit": INSTANT})
    assert SINGAPORE in str(flow.to_body())
    with pytest.raises(InvalidInputError, match="that of the person is not known"):
        visit_menu().call(MOBILE, source="+6531234567", data={"visit": INSTANT})


# -- one call, as programs ask for it ----------------------------------------------------------------------------------


def test_the_data_of_one_call_is_spoken_alike() -> None:
    def asked(**fields: object) -> str:
        given = {"to": ANA, "say": VISIT, "data": {"visit": INSTANT}, **fields}
        return NamedCall(given, key="1").checked(settings=settings, now=NOW).body

    settings = load_settings(source="+6531234567", voice_profile=ENGLISH)
    assert SINGAPORE in asked()
    assert SINGAPORE in asked(time_zone="Europe/Berlin")
    assert "January 31, 2030 at 12:00 AM" in asked(to=MOBILE, time_zone="Europe/Berlin")
    clinic: dict[str, object] = {"data": {"visit": "2030-01-31T08:00:00+09:00"}}
    assert "at 8:00 AM" in asked(**clinic, visit_time_zone="Asia/Tokyo")
    with pytest.raises(CallFlowError, match="by its own clock, and 07:00 in Asia/Singapore"):
        asked(**clinic)
    with pytest.raises(CallFlowError, match="that of the person is not known"):
        asked(to=MOBILE)


# -- times that are spoken raw -----------------------------------------------------------------------------------------


def test_a_time_that_is_spoken_with_its_own_zone_is_told_once_for_a_column(tmp_path: Path) -> None:
    rows = [{"destination": f"+658765432{place}", "visit": INSTANT} for place in range(2)]
    read_rows = list(open_campaign(rows, english("Come {{visit}}."), now=NOW))
    assert [[(found.column, found.is_error) for found in row.findings] for row in read_rows] == [
        [("visit", False)], [],
    ]  # fmt: skip
    assert read_rows[0].findings[0].message == (
        f"'{INSTANT}' is spoken in this row as it stands, and such times in later ones, in its own time zone and not "
        "that of the person; speak times with |date and |time"
    )
    for text in ("2030-01-30 23:00", "2030-01-30", "23:00"):
        (row,) = open_campaign([{**rows[0], "visit": text}], english("Come {{visit}}."), now=NOW)
        assert row.findings == ()
