"""The values of columns that nothing reads, keys and markup in texts, and ordinary lists, of which nothing is told."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import time, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import phonenumbers
import pytest

from tests.campaigns.forms import FORMS, written
from tests.campaigns.reading import NOW, Reading, Row, file_of, read_all, saying
from voiceflow_worker.campaigns.campaign_rows import CampaignRows
from voiceflow_worker.model.text.wording import folded
from voiceflow_worker.model.times import DateOrder

ANA, BEN, CY = (f"+658765432{place}" for place in range(1, 4))
OPTIONS = replace(saying("Hello."), voice_profile="en-US-JennyNeural", time_zone="Asia/Singapore")


def warnings_of(reading: Reading) -> list[str]:
    """All that is told of a list without errors."""
    assert reading.errors == []
    return [each.message for each in reading.findings]


def test_what_a_list_says_beside_its_numbers_is_shown_with_counts(tmp_path: Path) -> None:
    def unread(*lines: str, **more: Any) -> list[str]:
        path = file_of(tmp_path, "\n".join(lines) + "\n")
        campaign = CampaignRows(path, saying("Hello {{name}}.", **more), now=NOW)
        list(campaign)
        return [f"{each.column}: {each.in_words()}" for each in campaign.values.unread()]

    rows = [f"+65876{place:05},N{place},{'Yes' if place % 20 else 'No'},{place % 9},SG,{place}" for place in range(400)]
    header = "destination,name,Call?,Team,Land,Id"
    assert unread(header, *rows) == ["Call?: Yes 380, No 20"]
    assert unread(header, *rows, leave_out="Call?=No", columns={"ignore": "Team"}) == [], "decided, or not read"
    for column, cells, shown in (
        ("Note", ("x", "y", "z"), []), ("Flag", ("TRUE", "TRUE"), []),
    ):  # fmt: skip
        people = (f"{number},A,{cell}" for number, cell in zip((ANA, BEN, CY), cells, strict=False))
        assert unread(f"destination,name,{column}", *people) == shown, (
            "not if nearly each has its own, or all are alike"
        )


class Speakers(NamedTuple):
    """Who speaks a language: where, a voice, names, the words for the columns of a list, and the order of dates."""

    country: str
    zone: str
    voice: str
    names: str
    columns: str
    order: DateOrder = DateOrder.DMY


WORLD = [
    Speakers("GB", "Europe/London", "en-GB-SoniaNeural", "Olivia Amélie Zoe", "Name Visit Time Amount Room"),
    Speakers("DE", "Europe/Berlin", "de-DE-KatjaNeural", "Jürgen Anna Groß", "Name Termin Uhrzeit Betrag Raum"),
    Speakers("FR", "Europe/Paris", "fr-FR-DeniseNeural", "Zoé François Anne", "Nom RDV Heure Montant Salle"),
    Speakers("ES", "Europe/Madrid", "es-ES-ElviraNeural", "José Íñigo Ana", "Nombre Cita Hora Importe Sala"),
    Speakers("PL", "Europe/Warsaw", "pl-PL-ZofiaNeural", "Łukasz Żaneta Ewa", "Imię Wizyta Godzina Kwota Sala"),
    Speakers("TR", "Europe/Istanbul", "tr-TR-EmelNeural", "Işık İpek Çağla", "Ad Randevu Saat Tutar Oda"),  # noqa: RUF001
    Speakers("ID", "Asia/Jakarta", "id-ID-GadisNeural", "Budi Siti Ayu", "Nama Kunjungan Jam Jumlah Ruang"),
    Speakers("TH", "Asia/Bangkok", "th-TH-PremwadeeNeural", "สมชาย มาลี นภา", "ชื่อ วันนัด เวลา จำนวน ห้อง"),
    Speakers("JP", "Asia/Tokyo", "ja-JP-NanamiNeural", "田中 さくら ケン", "氏名 予約 時刻 金額 部屋", DateOrder.YMD),
    Speakers("US", "America/New_York", "en-US-JennyNeural", "Emma Noah Ava", "Name Visit Time Due Room", DateOrder.MDY),
    Speakers("GR", "Europe/Athens", "el-GR-AthinaNeural", "Νίκος Ελένη Άννα", "Όνομα Ραντεβού Ώρα Ποσό Αίθουσα"),
]


LISTS: Mapping[str, str] = {
    # The text of each kind of list; columns are name, visit, at, amount and room, in the words of the country.
    "clinic": "{{%name}}, {{%visit|date}}, {{%at|time}}, {{%amount|money('EUR')}}, {{%room}}.",
    "school": "{{%name or 'A child'}}, {{%room}}: {{%visit|date('full')}}.{% if note %} {{note}}{% endif %}",
    "hotel": "{{%name}}, {{%visit|date}}, {{nights}}, {{%amount|number}}.",
    "courier": "{{code|spell}}: {{%visit}}, {{slot}}, {{%amount|money('EUR')}}.",
}


def ordinary(drawn: random.Random, kind: str, speakers: Speakers) -> list[Row]:
    """A list of this kind, as programs in this country write it."""
    example = phonenumbers.example_number_for_type(speakers.country, phonenumbers.PhoneNumberType.MOBILE)
    assert example is not None
    form = drawn.choice([phonenumbers.PhoneNumberFormat.E164, phonenumbers.PhoneNumberFormat.NATIONAL])
    number = str(phonenumbers.format_number(example, form))
    called, visit, at, amount, room = speakers.columns.split()
    days, written_day = drawn.sample(range(1, 60), 12), drawn.choice(["%Y-%m-%d", speakers.order.name])
    if written_day == speakers.order.name:
        written_day = {"DMY": "%d/%m/%Y", "MDY": "%m/%d/%Y", "YMD": "%Y/%m/%d"}[written_day]
    rows: list[Row] = []
    for tail in drawn.sample(range(10, 100), 12):
        day = (NOW + timedelta(days=days[len(rows)])).date()
        clock = time(drawn.randrange(8, 18), drawn.choice([0, 15, 30, 45])) if rows else time(14, 30)
        row: dict[str, object] = {"destination": number[:-2] + str(tail), called: drawn.choice(speakers.names.split())}
        paid, place = round(drawn.uniform(1, 90_000), 2), drawn.choice([12, "A3", "7b", 101])
        match kind:
            case "clinic":
                row |= {visit: day, at: clock, amount: paid, room: place}
            case "school":
                row |= {room: place, visit: f"{day}T12:00:00.000Z", "note": drawn.choice(["", "Please call back."])}
            case "hotel":
                row |= {visit: day.strftime(written_day), "nights": drawn.randrange(1, 9), amount: f"{paid:.2f}"}
            case _:
                row |= {"code": f"JD{drawn.randrange(10**8):08}", visit: f"{day:%d %B}", amount: paid}
                row["slot"] = f"{clock.hour}:00 - {clock.hour + 2}:00"
        rows.append(row)
    return rows


@pytest.mark.parametrize("lists", [4, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("speakers", WORLD, ids=[each.country for each in WORLD])
def test_of_ordinary_lists_nothing_is_told(tmp_path: Path, speakers: Speakers, lists: int) -> None:
    drawn, names = random.Random(f"{speakers.country} {lists}"), ("name", "visit", "at", "amount", "room")
    columns = dict(zip(names, map(folded, speakers.columns.split()), strict=True))
    for place, kind in zip(range(lists), cycle(LISTS), strict=False):
        say, form = LISTS[kind], FORMS[place * 7 // 5 % len(FORMS)]
        for name, column in columns.items():
            say = say.replace(f"%{name}", column)
        rows, options = ordinary(drawn, kind, speakers), replace(
            saying(say), voice_profile=speakers.voice, time_zone=speakers.zone, country=speakers.country,
            date_order=speakers.order,
        )  # fmt: skip
        assert warnings_of(read_all(written(tmp_path, rows, form), options)) == [], (form, rows[:2])
