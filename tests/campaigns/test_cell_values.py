"""What the value of a cell means, and what is told about it: the same in every format and interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.campaigns.forms import (
    READERS,
    TYPED,
    Reader,
    from_json,
    from_mappings,
    from_parquet,
    in_forms,
    saying,
    spoken,
)
from tests.campaigns.reading import NOW, OPTIONS, file_of, read, told
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import CampaignRows
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.finding import Remedy
from voiceflow_worker.ivr.caller import filled
from voiceflow_worker.ivr.menu import Menu
from voiceflow_worker.model.times import DateOrder, doubtful_date

ANA = "+6587654321"


def test_a_number_is_spoken_as_from_a_workbook(tmp_path: Path) -> None:
    values = [
        *((25.0, "25"), (0.1 + 0.2, "0.3"), (-0.0, "0"), (1e3, "1000"), (1e-7, "0.0000001"), (1.5, "1.5")),
        *((999999999999999.0, "999999999999999"), (12345, "12345"), (True, "true"), (False, "false")),
    ]
    for reader, (value, text) in in_forms(values, TYPED):
        row = {"destination": ANA, "room": value}
        assert spoken(reader(tmp_path, row, saying("{{room}}"))) == [text]
        assert spoken(reader(tmp_path, row, saying("Room {{room}}!"))) == [f"Room {text}!"]
        if text.isdigit():
            assert spoken(reader(tmp_path, row, saying("{{room|digits}}"))) == [", ".join(text)]


def test_a_decimal_has_no_zeros_at_its_end(tmp_path: Path) -> None:
    for value, reader in product([Decimal("25.00"), Decimal(25), Decimal("2.5E+1")], [from_parquet, from_mappings]):
        row = {"destination": ANA, "room": value}
        assert spoken(reader(tmp_path, row, saying("{{room}}, {{room|digits}}"))) == ["25, 2, 5"]
    for reader in (from_parquet, from_mappings):
        for value, text in ((Decimal("1250.5000"), "1250.50"), (Decimal("12.3450"), "12.345")):
            assert spoken(reader(tmp_path, {"destination": ANA, "paid": value}, saying("{{paid}}"))) == [text]


def test_a_number_that_is_not_exact_makes_the_row_bad(tmp_path: Path) -> None:
    for reader, value, text in product(
        [from_json, from_parquet, from_mappings],
        [1e15, -1e15, 1e21, 1.2345678901234568e22, float("inf"), float("-inf")],
        ["{{room}}", "Hello {{name}}."],
    ):
        row = {"destination": ANA, "name": "Ana", "room": value}
        (found,) = told(reader(tmp_path, row, saying(text)))
        assert found[1] == "room"
        assert "number" in found[3]


def test_a_whole_number_beyond_64_bits_in_json_is_refused(tmp_path: Path) -> None:
    line = f'{{"destination": "{ANA}", "room": 12345678901234567890123}}\n'
    (found,) = told(read(file_of(tmp_path, line, "v.jsonl"), saying("{{room}}")))
    assert (found[1], found[3][:42]) == ("room", "holds a number of more than 15 digits (123")


def test_arrays_and_objects_are_not_spoken(tmp_path: Path) -> None:
    for reader, value in product([from_json, from_parquet, from_mappings], [{"first": "Ana"}, ["Ana", "Ben"]]):
        row = {"destination": ANA, "person": value}
        (found,) = told(reader(tmp_path, row, saying("Hello {{person}}.")))
        assert (found[1], "cannot be spoken" in found[3]) == ("person", True)
        assert spoken(reader(tmp_path, row, saying("Hello."))) == ["Hello."]
        menu = Menu("ask", prompt="Press 1.", voice_profile="v")
        menu.on("1", goto="Hello {{person}}.")
        (found,) = told(reader(tmp_path, row, replace(OPTIONS, template=None, menu=menu, batch_id="b")))
        assert (found[1], "cannot be spoken" in found[3]) == ("person", True)


@pytest.mark.parametrize("reader", [from_json, from_mappings])
def test_the_parts_of_an_object_are_spoken(tmp_path: Path, reader: Reader) -> None:
    row = {"destination": ANA, "person": {"first": "Ana", "room": 25.0, "last": None}}
    assert spoken(reader(tmp_path, row, saying("{{person.first}}, {{person.room|digits}}."))) == ["Ana, 2, 5."]
    for text in ("{{person.last}}", "{{person.first ~ ' ' ~ person.last}}", "{{person.last|upper}}"):
        (found,) = told(reader(tmp_path, row, saying(text)))
        assert found[1] == "person"


MISSING = ("None", "nan", "NaN", "-nan", "NaT", "<NA>", "null", "NULL", "(null)", "<nil>", "undefined", r"\N")


def test_a_word_that_programs_write_for_a_missing_value_counts_as_empty(tmp_path: Path) -> None:
    for reader, word in in_forms(MISSING):
        row = {"destination": ANA, "name": word}
        for text in ("Hello {{name}}.", "{{name}}", "{{name|upper}}"):
            ((_, column, code, message),) = told(reader(tmp_path, row, saying(text)))
            assert (column, code, message[:12]) == ("name", -1009, "is empty, bu")
        assert spoken(reader(tmp_path, row, saying("Hello {{name or 'customer'}}."))) == ["Hello customer."]
        menu = Menu("ask", prompt="Press 1.", voice_profile="v")
        menu.on("1", goto="Hello {{name}}.")
        (found,) = told(reader(tmp_path, row, replace(OPTIONS, template=None, menu=menu, batch_id="b")))
        assert (found[1], found[3][:9]) == ("name", "is empty,")
        assert filled("Hello {{name}}.", {"name": word}) == "Hello ."
        assert filled("{% if name %}Dear{% else %}Hello{% endif %} {{name}}.", {"name": word}) == "Hello ."
        with pytest.raises(InvalidInputError, match=r"\{\{name\}\} has no value"):
            filled("Hello {{name|upper}}.", {"name": word})


def test_a_name_that_only_looks_like_such_a_word_is_spoken(tmp_path: Path) -> None:
    for reader, name in product(READERS, ["Nan", "Null", "Nanette", "NA", "none"]):
        assert spoken(reader(tmp_path, {"destination": ANA, "name": name}, saying("Hello {{name}}."))) == [
            f"Hello {name}."
        ]


NOTHING = (
    "N/A", "n/a", "NA", "-", "--", "\N{EN DASH}", "?", "...", "(blank)", "none", "Null", "k. A.", "k.A.",
    "Keine Angabe", "leer", "n. v.", "(leer)", "Unknown", "tidak ada", "н/д", "なし",
)  # fmt: skip
OR = (
    "{{name or 'customer'}}",
    "{{name|default('customer', true)}}",
    "{% if name %}{{name}}{% else %}customer{% endif %}",
)


def warnings_of(given: Sequence[Mapping[str, object]], text: str) -> list[tuple[str | None, str]]:
    campaign = CampaignRows(given, replace(saying(text), batch_id="b"), now=NOW)
    assert told(campaign) == []
    return [(found.column, found.message) for found in campaign.closing_findings()]


def test_a_word_for_nothing_is_told_and_another_is_spoken_in_its_place(tmp_path: Path) -> None:
    for reader, word in in_forms(NOTHING):
        row = {"destination": ANA, "name": word}
        assert spoken(reader(tmp_path, row, saying("Hello {{name}}."))) == [f"Hello {word}."]
        assert spoken(reader(tmp_path, row, saying("{{name}}"))) == [word]
        for text in OR:
            assert spoken(reader(tmp_path, row, saying(f"Hello {text}."))) == ["Hello customer."], word
            assert filled(f"Hello {text}.", {"name": word}) == "Hello customer."
    rows: list[dict[str, object]] = [
        {"destination": f"+658765432{n}", "name": word} for n, word in enumerate(NOTHING[:9])
    ]
    menu = Menu("ask", prompt="Press 1.", voice_profile="v")
    menu.on("1", goto="Hello {{name}}.")
    ((column, message),) = warnings_of([*rows, {"destination": "+6587654330", "name": "Ana"}], "Hello {{name}}.")
    assert (column, message.split(":")[0]) == (
        "name", "holds a word for nothing in 9 rows, such as 'N/A', and {{ name }} speaks it as it stands",
    )  # fmt: skip
    for harmless in ("Hello.", "{% if name %}Hello{% else %}Hi{% endif %}."):
        assert warnings_of(rows, harmless) == []
    campaign = CampaignRows(rows, replace(OPTIONS, template=None, menu=menu, batch_id="b"), now=NOW)
    assert ([row.call is not None for row in campaign], len(campaign.closing_findings())) == ([True] * 9, 1)


def test_a_false_among_texts_is_a_word_for_nothing_and_one_among_yes_and_no_is_not(tmp_path: Path) -> None:
    for false in ("False", "FALSE", False):
        rows = [{"destination": f"+658765432{n}", "name": name} for n, name in enumerate(("Ana", false, "Ben", false))]
        answers = [{"destination": f"+658765432{n}", "name": name} for n, name in enumerate(("yes", false, True))]
        ((_, message),) = warnings_of(rows, "Hello {{name}}.")
        assert message.startswith("holds a False among texts in 2 rows, such as ")
        assert warnings_of(answers, "{{name}}.") == []
        for text in OR:
            assert warnings_of(rows, f"Hello {text}.") != []
            assert [spoken(reader(tmp_path, rows[1], saying(f"Hello {text}."))) for reader in READERS] == [
                ["Hello customer."]
            ] * len(READERS)


def test_a_condition_takes_a_word_for_nothing_for_an_empty_cell() -> None:
    for word in ("N/A", "-", ""):
        for text in (
            "{% if name %}1{% endif %}",
            "{% if name == true %}1{% endif %}",
        ):
            assert filled(text, {"name": word}) == ""
    assert filled("{% if name == 'n/a' %}1{% endif %}", {"name": "N/A"}) == "1"


class NAType:
    """A stand-in for the missing value of pandas, which cannot be compared."""

    def __ne__(self, other: object) -> object:  # type: ignore[override]
        return self

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = object.__hash__


@pytest.mark.parametrize("value", [None, float("nan"), Decimal("NaN"), Decimal("sNaN"), NAType()])
def test_a_typed_missing_value_of_a_program_counts_as_empty(tmp_path: Path, value: object) -> None:
    row = {"destination": ANA, "name": value, "not_before": value, "priority": value}
    (found,) = told(from_mappings(tmp_path, row, saying("Hello {{name}}.")))
    assert (found[1], found[3][:9]) == ("name", "is empty,")
    assert spoken(from_mappings(tmp_path, row, saying("Hello."))) == ["Hello."]


def test_nan_in_json_counts_as_empty(tmp_path: Path) -> None:
    line = f'{{"destination": "{ANA}", "name": NaN, "priority": NaN}}\n'
    (found,) = told(read(file_of(tmp_path, line, "v.jsonl"), saying("Hello {{name}}.")))
    assert (found[1], found[3][:9]) == ("name", "is empty,")


def test_such_a_word_in_a_reserved_column_makes_the_row_bad_once(tmp_path: Path) -> None:
    reserved = "source unique_key batch_id voice_profile time_zone not_before valid_until priority"
    for reader, column in in_forms(reserved.split()):
        (found,) = told(reader(tmp_path, {"destination": ANA, column: "nan"}, saying("Hello.")))
        assert (found[1], found[3]) == (
            column,
            "holds 'nan', which programs write for a missing value; leave it empty, or write the value",
        )


def test_the_data_of_a_single_call_is_spoken_alike() -> None:
    assert filled("Room {{room}}, {{room|digits(language='en')}}.", {"room": 25.0}) == "Room 25, 2, 5."
    assert filled("{% if vip %}{{vip}}{% endif %}", {"vip": True}) == "true"
    with pytest.raises(InvalidInputError, match="more than 15 digits"):
        filled("Room {{room}}.", {"room": 1e15})


YES: tuple[object, ...] = (True, "TRUE", "yes", "Ja", " oui ", "Sí", "1", 1, "1.0", "да", "Evet", "はい", "x")
NO: tuple[object, ...] = (False, "FALSE", "No", "nein", "NON", "não", "0", 0, "0.0", "нет", "HAYIR", "いいえ", "", None)
PAID = (
    "{% if paid %}Thanks.{% else %}Please pay.{% endif %}",
    "{{ 'Please pay.' if not paid else 'Thanks.' }}",
    "{% if name == 'Ben' %}{% elif paid and name %}Thanks.{% else %}Please pay.{% endif %}{{ name if 0 }}",
    "{{ paid and 'Thanks.' or 'Please pay.' }}",
    "{{ 'Please pay.' if (not paid) == true else 'Thanks.' }}",
    "{% if (paid if name is defined else name) %}Thanks.{% else %}Please pay.{% endif %}",
    "{{ 'Thanks.' if paid is true else 'Please pay.' }}",
    "{{ 'Please pay.' if paid is not true else 'Thanks.' }}",
)


def test_a_cell_in_a_condition_is_a_yes_or_a_no_in_every_format(tmp_path: Path) -> None:
    for heard, values in (("Thanks.", YES), ("Please pay.", NO)):
        for reader, value in in_forms(values):
            rows = reader(tmp_path, {"destination": ANA, "name": "Ana", "paid": value}, saying(PAID[0]))
            assert spoken(rows) == [heard], value


BY_SPREADSHEETS = """
pl PRAWDA FAŁSZ, cs PRAVDA NEPRAVDA, fi TOSI EPÄTOSI, da SAND FALSK, sv SANT FALSKT, nb SANN USANN, hu IGAZ HAMIS,
ru ИСТИНА ЛОЖЬ, uk ІСТИНА ХИБНІСТЬ, uk ІСТИНА БРЕХНЯ, el ΑΛΗΘΗΣ ΨΕΥΔΗΣ, el ΣΩΣΤΌ ΛΆΘΟΣ, ro ADEVĂRAT FALS, zh 真 假,
th จริง เท็จ, ko 참 거짓, tr DOĞRU YANLIŞ, nl WAAR ONWAAR, hr TOČNO NETOČNO, et TÕENE VÄÄR, lv PATIESS APLAMS,
lt TEISINGAI NETEISINGAI, bg ВЯРНО НЕВЯРНО, sr ТАЧНО НЕТАЧНО, de WAHR FALSCH, fr VRAI FAUX, es VERDADERO FALSO,
pt VERDADEIRO FALSO, ca VERITAT FALS, is RÉTT RANGT, ar صح خطأ, hi सही गलत, id BENAR SALAH, vi ĐÚNG SAI, af WAAR VALS
"""
"""Yes and no as Excel and LibreOffice write them in their languages."""


def test_a_yes_and_a_no_are_known_as_spreadsheets_write_them() -> None:
    for _, yes, no in map(str.split, BY_SPREADSHEETS.split(",")):
        assert (filled(PAID[0], {"paid": yes}), filled(PAID[0], {"paid": no})) == ("Thanks.", "Please pay."), yes


@pytest.mark.parametrize("text", PAID)
def test_a_condition_reads_a_cell_wherever_it_stands_in_it(text: str) -> None:
    for heard, values in (("Thanks.", YES), ("Please pay.", NO)):
        assert {filled(text, {"name": "Ana", "paid": value}) for value in values} == {heard}


@pytest.mark.parametrize("reader", READERS)
def test_a_cell_that_is_neither_yes_nor_no_is_refused_unless_the_text_speaks_it(tmp_path: Path, reader: Reader) -> None:
    for value in ("perhaps", "tak", "2030-01-31", "2", "9", "-1", "2.5"):
        row = {"destination": ANA, "name": "Ana", "paid": value}
        ((_, column, _, message),) = told(reader(tmp_path, row, saying(PAID[0])))
        assert column == "paid"
        assert message.startswith(f"{value!r} is neither yes nor no, which a condition asks for: write one of them, or")
        there = saying("Come{% if paid %} on {{paid}}{% endif %}.")
        assert spoken(reader(tmp_path, row, there)) == [f"Come on {value}.".replace("-1.", "minus 1.")]
        assert spoken(reader(tmp_path, {**row, "paid": "no"}, there)) == ["Come."]


@pytest.mark.parametrize("reader", READERS)
def test_a_comparison_compares_what_both_sides_mean(tmp_path: Path, reader: Reader) -> None:
    text = "{{n}} visit{{ '' if n == 1 else 's' }}{{ ', one' if n == '1' }}{{ ', other' if 1 != n }}"
    for n, heard in ((1, "1 visit, one"), ("1", "1 visit, one"), (2, "2 visits, other"), ("2", "2 visits, other")):
        assert spoken(reader(tmp_path, {"destination": ANA, "n": n}, saying(text))) == [heard]
    for paid, said in (("TRUE", "1"), (True, "1"), ("nein", "0"), (False, "0")):
        row = {"destination": ANA, "paid": paid}
        assert spoken(reader(tmp_path, row, saying("{{ 1 if paid == true else 0 }}"))) == [said]
    for size in ("s", "S", " S "):
        row = {"destination": ANA, "size": size}
        assert spoken(reader(tmp_path, row, saying("{{ 1 if size == 'S' else 0 }}{{ 1 if size in ['s', 'M'] }}"))) == [
            "11"
        ]
    for n in (2, "2", "2.0"):
        assert spoken(reader(tmp_path, {"destination": ANA, "n": n}, saying("{{ 1 if n in [1, 2] else 0 }}"))) == ["1"]


@pytest.mark.parametrize(
    "text", ["{{ 1 if n == 0 }}", "{{ 1 if 0 != n }}", "{{ 1 if n in (0, 1) }}", "{{n|int}}", "{{n|float}}"]
)
def test_what_is_no_certain_number_is_refused_where_one_is_meant(tmp_path: Path, text: str) -> None:
    for reader, n in in_forms(["€ 0", "1.234.50", "0 %", "zero", "-"]):
        ((_, column, _, message),) = told(reader(tmp_path, {"destination": ANA, "n": n}, saying(text)))
        assert column == "n"
        assert message.startswith(repr(n))
    with pytest.raises(InvalidInputError, match="'0,00'"):
        filled(text, {"n": "0,00"})
    assert filled("{{ 'none' if n|int(0) == 0 }}", {"n": "-"}) == "none"


@pytest.mark.parametrize("reader", READERS)
def test_all_wrong_cells_of_a_row_are_reported(tmp_path: Path, reader: Reader) -> None:
    say = saying("{{name}}, {{day|date}} at {{at|time}}, {{paid|money('EUR')}}, {{place|ordinal}}.")
    row: dict[str, object] = {
        "destination": "12", "name": "nan", "day": "soon", "at": "25:61", "paid": "1.250", "place": "third",
        "time_zone": "SGT", "not_before": "later", "valid_until": "never", "priority": "high", "source": "none",
        "unique_key": "k" * 201,
    }  # fmt: skip
    found = told(reader(tmp_path, row, say))
    assert sorted(str(column) for _, column, _, _ in found) == sorted(row)


@pytest.mark.parametrize("reader", [from_json, from_parquet, from_mappings])
def test_a_cell_that_cannot_be_read_hides_no_other(tmp_path: Path, reader: Reader) -> None:
    row: dict[str, object] = {"destination": 8765432.1, "room": 1e15, "at": "25:61", "priority": "high"}
    found = told(reader(tmp_path, row, saying("{{room}} {{at|time}}")))
    assert sorted(str(column) for _, column, _, _ in found) == sorted(row)


def test_a_date_of_which_nobody_knows_the_day_is_told_where_it_is_spoken_raw(tmp_path: Path) -> None:
    for reader, day in product(READERS, ["12/01/2027 11:30", "1.2.2027", "01-02-27", "on 12/01/2027"]):
        row = {"destination": ANA, "day": day}
        (read_row,) = reader(tmp_path, row, saying("Come {{day}}."))
        (found,) = read_row.findings
        assert (found.column, found.is_error, Remedy.NAME_DATE_ORDER in found.message) == ("day", False, True)
        assert "the voice may read another day; speak dates with |date" in found.message
        (unspoken,) = reader(tmp_path, row, saying("Come.{% if day %} Now.{% endif %}"))
        assert [each for each in unspoken.findings if "voice" in each.message] == []
        menu = Menu("ask", prompt="Press 1.", voice_profile="v")
        menu.on("1", goto="Come {{day}}.")
        (later,) = reader(tmp_path, row, replace(OPTIONS, template=None, menu=menu, batch_id="b"))
        assert [each.column for each in later.findings] == ["day"]


def test_a_spoken_date_is_told_once_for_a_column_and_not_where_its_order_is_given(tmp_path: Path) -> None:
    table = f"destination,day\n{ANA},12/01/2027\n+6587654322,11/01/2027\n"
    rows = read(file_of(tmp_path, table), saying("Come {{day}}."))
    assert [[found.row for found in row.findings] for row in rows] == [[2], []]
    rows = read(file_of(tmp_path, table), saying("Come {{day}}.", date_order=DateOrder.DMY))
    assert [row.findings for row in rows] == [(), ()]


def test_a_date_in_a_body_or_in_a_template_is_told_too(tmp_path: Path) -> None:
    flow = FlowTemplate.speaking("Come on 12/01/2027.")
    assert ["'12/01/2027' is spoken" in found.message for found in flow.findings] == [True]
    say = {"action": "say", "params": {"text": "Come on 12/01/2027.", "voiceProfile": "v"}}
    body = {"source": "+6531234567", "destination": ANA, "callflow": [{"action": "makeCall"}, say]}
    (row,) = from_json(tmp_path, body, replace(OPTIONS, template=None, batch_id="b"))
    assert [(found.is_error, "'12/01/2027' is spoken" in found.message) for found in row.findings] == [(False, True)]


@given(day=st.integers(1, 31), month=st.integers(1, 12), year=st.integers(2000, 2099), mark=st.sampled_from("/.-"))
def test_only_days_that_may_be_months_are_doubtful(day: int, month: int, year: int, mark: str) -> None:
    text = f"Come {day:02}{mark}{month}{mark}{year}, at 9."
    assert (doubtful_date(text) is not None) == (day <= 12 and day != month)
    assert doubtful_date(f"{year}-{month:02}-{day:02} 09:00") is None


def test_a_script_that_the_voice_does_not_read_is_told_once(tmp_path: Path) -> None:
    def notes(voice: str, *names: str) -> list[str]:
        lines = "".join(f"+658765{place:04},{name}\n" for place, name in enumerate(names))
        options = replace(saying("Hello {{name}}."), voice_profile=voice)
        campaign = CampaignRows(file_of(tmp_path, f"destination,name\n{lines}"), options, now=NOW)
        list(campaign)
        return [found.message for found in campaign.closing_findings()]

    (told_once,) = notes("en-US-JennyNeural", "Ana", "王伟", "李", "José")
    assert told_once == (
        "has Chinese letters in 2 rows, such as '王伟', which the voice en-US-JennyNeural does not read: write them in "
        "letters of its language, or give these rows another voice in a column voice_profile"
    )
    assert len(notes("de-DE-KatjaNeural", "Анна", "Ana", "محمد")) == 2
    for voice, name in [
        ("zh-CN-XiaoxiaoNeural", "王伟"), ("ja-JP-NanamiNeural", "たなか 太郎"), ("ko-KR-SunHiNeural", "김철수"),
        ("ru-RU-SvetlanaNeural", "Анна"), ("hi-IN-SwaraNeural", "आना"), ("ar-EG-SalmaNeural", "محمد"),
        ("en-US-JennyNeural", "Zoë Šimková 5 µm"), ("en-US-JennyMultilingualNeural", "王伟"),
        ("wuu-CN-YunzheNeural", "王伟"),
    ]:  # fmt: skip
        assert notes(voice, name) == [], voice
