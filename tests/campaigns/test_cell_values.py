"""What the value of a cell means, and what is told about it, and numbers and keys: the same in every form."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from openpyxl.cell.rich_text import CellRichText, TextBlock
from openpyxl.cell.text import InlineFont
from openpyxl.styles import Font

from tests.campaigns.forms import (
    ANA,
    READERS,
    TYPED,
    Reader,
    errors_of,
    from_json,
    from_mappings,
    in_forms,
    spoken,
)
from tests.campaigns.reading import NOW, OPTIONS, Row, calls_of, file_of, read_all, saying, told
from tests.campaigns.workbooks import changed, workbook
from voiceflow_worker import CallQueue
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.enqueue import enqueue_file, enqueue_rows
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.ivr.caller import filled
from voiceflow_worker.ivr.menu import Menu
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.numbers.reading import ParsedNumber, read_number

LATER = Menu("ask", prompt="Press 1.", voice_profile="v")
LATER.on("1", goto="Hello {{name}}.")
IN_MENU = replace(OPTIONS, template=None, menu=LATER, batch_id="b")
"""The options for a text that is spoken later."""


def heard(reader: Reader, folder: Path, say: str, **cells: object) -> object:
    """What the person of a row with these cells hears."""
    (text,) = spoken(reader(folder, {"destination": ANA, **cells}, saying(say)))
    return text


def test_a_number_is_spoken_as_from_a_workbook(tmp_path: Path) -> None:
    values = [
        *((25.0, "25"), (0.1 + 0.2, "0.3"), (-0.0, "0"), (1e3, "1000"), (1e-7, "0.0000001"), (1.5, "1.5")),
        *((999999999999999.0, "999999999999999"), (12345, "12345"), (True, "true"), (False, "false")),
    ]
    for reader, (value, text) in in_forms(values, TYPED):
        assert heard(reader, tmp_path, "{{room}}", room=value) == text
        assert heard(reader, tmp_path, "Room {{room}}!", room=value) == f"Room {text}!"
        if text.isdigit():
            assert heard(reader, tmp_path, "{{room|digits}}", room=value) == ", ".join(text)


def test_a_decimal_has_no_zeros_at_its_end(tmp_path: Path) -> None:
    for value in (Decimal("25.00"), Decimal(25), Decimal("2.5E+1")):
        assert heard(from_mappings, tmp_path, "{{room}}, {{room|digits}}", room=value) == "25, 2, 5"
    for value, text in ((Decimal("1250.5000"), "1250.50"), (Decimal("12.3450"), "12.345")):
        assert heard(from_mappings, tmp_path, "{{paid}}", paid=value) == text


def test_a_number_that_is_not_exact_makes_the_row_bad(tmp_path: Path) -> None:
    for reader, value, text in product(
        [from_json, from_mappings],
        [1e15, -1e15, 1e21, 1.2345678901234568e22, float("inf"), float("-inf")],
        ["{{room}}", "Hello {{name}}."],
    ):
        (error,) = errors_of(reader, tmp_path, saying(text), name="Ana", room=value)
        assert error.startswith("room: ")
        assert "number" in error
    line = file_of(tmp_path, f'{{"destination": "{ANA}", "room": 12345678901234567890123}}\n', "v.jsonl")
    (error,) = read_all(line, saying("{{room}}")).errors
    assert error.startswith("room: holds a number of more than 15 digits (123")


def test_arrays_and_objects_are_not_spoken(tmp_path: Path) -> None:
    for reader, value in product([from_json, from_mappings], [{"first": "Ana"}, ["Ana", "Ben"]]):
        for options in (saying("Hello {{name}}."), IN_MENU):
            (error,) = errors_of(reader, tmp_path, options, name=value)
            assert (error[:6], "cannot be spoken" in error) == ("name: ", True)
        assert heard(reader, tmp_path, "Hello.", name=value) == "Hello."


@pytest.mark.parametrize("reader", [from_json, from_mappings])
def test_the_parts_of_an_object_are_spoken(tmp_path: Path, reader: Reader) -> None:
    person = {"first": "Ana", "room": 25.0, "last": None}
    assert heard(reader, tmp_path, "{{person.first}}, {{person.room|digits}}.", person=person) == "Ana, 2, 5."
    for text in ("{{person.last}}", "{{person.first ~ ' ' ~ person.last}}", "{{person.last|upper}}"):
        (error,) = errors_of(reader, tmp_path, saying(text), person=person)
        assert error.startswith("person: ")


MISSING = ("None", "nan", "NaN", "-nan", "NaT", "<NA>", "null", "NULL", "(null)", "<nil>", "undefined", r"\N")


def test_a_word_that_programs_write_for_a_missing_value_counts_as_empty(tmp_path: Path) -> None:
    for reader, word in in_forms(MISSING):
        for options in (*map(saying, ("Hello {{name}}.", "{{name}}", "{{name|upper}}")), IN_MENU):
            ((_, column, code, message),) = told(reader(tmp_path, {"destination": ANA, "name": word}, options))
            assert (column, message[:9]) == ("name", "is empty,")
            assert code == -1009 or options is IN_MENU
        assert heard(reader, tmp_path, "Hello {{name or 'customer'}}.", name=word) == "Hello customer."
        assert filled("Hello {{name}}.", {"name": word}) == "Hello ."
        assert filled("{% if name %}Dear{% else %}Hello{% endif %} {{name}}.", {"name": word}) == "Hello ."
        with pytest.raises(InvalidInputError, match=r"\{\{name\}\} has no value"):
            filled("Hello {{name|upper}}.", {"name": word})


def test_a_name_that_only_looks_like_such_a_word_is_spoken(tmp_path: Path) -> None:
    for reader, name in product(READERS, ["Nan", "Null", "Nanette", "NA", "none"]):
        assert heard(reader, tmp_path, "Hello {{name}}.", name=name) == f"Hello {name}."


NOTHING = (
    "N/A", "n/a", "NA", "-", "--", "\N{EN DASH}", "?", "...", "(blank)", "none", "Null", "k. A.", "k.A.",
    "Keine Angabe", "leer", "n. v.", "(leer)", "Unknown", "tidak ada", "н/д", "なし",
)  # fmt: skip

OR = (
    "{{name or 'customer'}}", "{{name|default('customer', true)}}",
    "{% if name %}{{name}}{% else %}customer{% endif %}", "{{name if name else 'customer'}}",
)  # fmt: skip


def warnings_of(names: Sequence[object], text: str) -> list[str]:
    """What is told of a list of people with these names."""
    rows = [{"destination": f"+65{87654321 + 7 * place}", "name": name} for place, name in enumerate(names)]
    reading = read_all(rows, saying(text))
    assert reading.errors == []
    return [f"{each.column}: {each.message}" for each in reading.closing]


def test_a_word_for_nothing_is_told_and_another_is_spoken_in_its_place(tmp_path: Path) -> None:
    for reader, word in in_forms(NOTHING):
        assert heard(reader, tmp_path, "Hello {{name}}.", name=word) == f"Hello {word}."
        assert heard(reader, tmp_path, "{{name}}", name=word) == word
        for text in OR:
            assert heard(reader, tmp_path, f"Hello {text}.", name=word) == "Hello customer.", word
            assert filled(f"Hello {text}.", {"name": word}) == "Hello customer."
    (message,) = warnings_of([*NOTHING[:9], "Ana"], "Hello {{name}}.")
    said = "name: holds a word for nothing in 9 rows, such as 'N/A', and {{ name }} speaks it as it stands: "
    assert message.startswith(said)
    for harmless in ("Hello.", "{% if name %}Hello{% else %}Hi{% endif %}.", *(f"Hello {text}." for text in OR)):
        assert warnings_of(NOTHING[:9], harmless) == []
    later = read_all([{"destination": f"+658765432{n}", "name": word} for n, word in enumerate(NOTHING[:9])], IN_MENU)
    assert (len(later.calls), len(later.closing)) == (9, 1)


def test_a_false_among_texts_is_a_word_for_nothing_and_one_among_yes_and_no_is_not(tmp_path: Path) -> None:
    for false in ("False", "FALSE", False):
        names = ("Ana", false, "Ben", false)
        (message,) = warnings_of(names, "Hello {{name}}.")
        assert message.startswith("name: holds a False among texts in 2 rows, such as ")
        assert warnings_of(("yes", false, True), "{{name}}.") == []
        for text in OR:
            assert warnings_of(names, f"Hello {text}.") == []
            for reader in READERS:
                assert heard(reader, tmp_path, f"Hello {text}.", name=false) == "Hello customer."


def test_a_condition_takes_a_word_for_nothing_for_an_empty_cell() -> None:
    for word in ("N/A", "-", ""):
        for text in ("{% if name %}1{% endif %}", "{% if name == true %}1{% endif %}"):
            assert filled(text, {"name": word}) == ""
    assert filled("{% if name == 'n/a' %}1{% endif %}", {"name": "N/A"}) == "1"


class NAType:
    """A stand-in for the missing value of pandas, which cannot be compared."""

    def __ne__(self, other: object) -> object:  # type: ignore[override]
        return self

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = object.__hash__


def test_a_typed_missing_value_of_a_program_counts_as_empty(tmp_path: Path) -> None:
    for value in (None, float("nan"), Decimal("NaN"), Decimal("sNaN"), NAType()):
        cells = {"name": value, "not_before": value, "priority": value}
        (error,) = errors_of(from_mappings, tmp_path, saying("Hello {{name}}."), **cells)
        assert error.startswith("name: is empty,")
        assert heard(from_mappings, tmp_path, "Hello.", **cells) == "Hello."
    (error,) = errors_of(from_json, tmp_path, saying("Hello {{name}}."), name=float("nan"), priority=float("nan"))
    assert error.startswith("name: is empty,"), "as json.dumps writes it"


def test_such_a_word_in_a_reserved_column_makes_the_row_bad_once(tmp_path: Path) -> None:
    reserved = "source unique_key batch_id voice_profile time_zone not_before valid_until priority"
    said = "holds 'nan', which programs write for a missing value; leave it empty, or write the value"
    for reader, column in in_forms(reserved.split()):
        assert errors_of(reader, tmp_path, saying("Hello."), **{column: "nan"}) == [f"{column}: {said}"]


def test_the_data_of_a_single_call_is_spoken_alike() -> None:
    assert filled("Room {{room}}, {{room|digits(language='en')}}.", {"room": 25.0}) == "Room 25, 2, 5."
    assert filled("{% if vip %}{{vip}}{% endif %}", {"vip": True}) == "true"
    with pytest.raises(InvalidInputError, match="more than 15 digits"):
        filled("Room {{room}}.", {"room": 1e15})


YES: tuple[object, ...] = (True, "TRUE", "yes", "Ja", " oui ", "Sí", "1", 1, "1.0", "да", "Evet", "はい", "x")
NO: tuple[object, ...] = (False, "FALSE", "No", "nein", "NON", "não", "0", 0, "0.0", "нет", "HAYIR", "いいえ", "", None)
PAID = (
    "{% if paid %}Thanks.{% else %}Please pay.{% endif %}", "{{ 'Please pay.' if not paid else 'Thanks.' }}",
    "{% if name == 'Ben' %}{% elif paid and name %}Thanks.{% else %}Please pay.{% endif %}{{ name if 0 }}",
    "{{ paid and 'Thanks.' or 'Please pay.' }}", "{{ 'Please pay.' if (not paid) == true else 'Thanks.' }}",
    "{% if (paid if name is defined else name) %}Thanks.{% else %}Please pay.{% endif %}",
)  # fmt: skip


def test_a_cell_in_a_condition_is_a_yes_or_a_no_in_every_format(tmp_path: Path) -> None:
    for said, values in (("Thanks.", YES), ("Please pay.", NO)):
        for reader, value in in_forms(values):
            assert heard(reader, tmp_path, PAID[0], name="Ana", paid=value) == said, value


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
    there = "Come{% if paid %} on {{paid}}{% endif %}."
    assert heard(reader, tmp_path, there, paid="no") == "Come."
    for value in ("perhaps", "tak", "2030-01-31", "2", "9", "-1", "2.5"):
        (error,) = errors_of(reader, tmp_path, saying(PAID[0]), name="Ana", paid=value)
        assert error.startswith(f"paid: {value!r} is neither yes nor no, which a condition asks for: write one of them")
        assert heard(reader, tmp_path, there, paid=value) == f"Come on {value}."


@pytest.mark.parametrize("reader", READERS)
def test_a_comparison_compares_what_both_sides_mean(tmp_path: Path, reader: Reader) -> None:
    count = "{{x}} visit{{ '' if x == 1 else 's' }}{{ ', one' if x == '1' }}{{ ', other' if 1 != x }}"
    size = "{{ 1 if x == 'S' else 0 }}{{ 1 if x in ['s', 'M'] }}"
    for text, said, values in (
        (count, "1 visit, one", (1, "1")), (count, "2 visits, other", (2, "2")),
        ("{{ 1 if x == true else 0 }}", "1", ("TRUE", True)), ("{{ 1 if x == true else 0 }}", "0", ("nein", False)),
        (size, "11", ("s", "S", " S ")), ("{{ 1 if x in [1, 2] else 0 }}", "1", (2, "2", "2.0")),
    ):  # fmt: skip
        assert [heard(reader, tmp_path, text, x=each) for each in values] == [said] * len(values)


@pytest.mark.parametrize(
    "text", ["{{ 1 if n == 0 }}", "{{ 1 if 0 != n }}", "{{ 1 if n in (0, 1) }}", "{{n|int}}", "{{n|float}}"]
)
def test_what_is_no_certain_number_is_refused_where_one_is_meant(tmp_path: Path, text: str) -> None:
    for reader, n in in_forms(["€ 0", "1.234.50", "0 %", "zero", "-"]):
        (error,) = errors_of(reader, tmp_path, saying(text), n=n)
        assert error.startswith(f"n: {n!r}")
    with pytest.raises(InvalidInputError, match="'0,00'"):
        filled(text, {"n": "0,00"})
    assert filled("{{ 'none' if n|int(0) == 0 }}", {"n": "-"}) == "none"


@pytest.mark.parametrize("reader", READERS)
def test_all_wrong_cells_of_a_row_are_reported(tmp_path: Path, reader: Reader) -> None:
    say = saying("{{name}}, {{day|date}} at {{at|time}}, {{paid|money('EUR')}}.")
    row: dict[str, object] = {
        "destination": "12", "name": "nan", "day": "soon", "at": "25:61", "paid": "1.250",
        "time_zone": "SGT", "not_before": "later", "valid_until": "never", "priority": "high", "source": "none",
        "unique_key": "k" * 201,
    }  # fmt: skip
    found = told(reader(tmp_path, row, say))
    assert sorted(str(column) for _, column, _, _ in found) == sorted(row)


def test_a_script_that_the_voice_does_not_read_is_told_once() -> None:
    def notes(voice: str, *names: str) -> list[str]:
        rows = [{"destination": f"+658765{place:04}", "name": name} for place, name in enumerate(names)]
        return [found.message for found in read_all(rows, saying("Hello {{name}}.", voice_profile=voice)).closing]

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

    for english, count in (("Hello.", 0), ("Hello {{name}}.", 1)):  # each text is asked for its own voice
        texts = ((english, "en-US-JennyNeural"), ("{{name}}.", "zh-CN-XiaoxiaoNeural"))
        spoken = [{"action": "say", "params": {"text": text, "voiceProfile": voice}} for text, voice in texts]
        template = FlowTemplate.parse({"callflow": [{"action": "makeCall"}, *spoken, {"action": "hangup"}]}, name="x")
        rows = [{"destination": "+6587654321", "name": "王伟"}]
        assert len(read_all(rows, replace(OPTIONS, batch_id="b", template=template)).closing) == count


# -- cells of numbers and keys: as the sheet shows them, and doubted where nobody means them ---------------------------

BEN = "+6587654322"
HELLO = saying("Hello.")


def sheet(folder: Path, rows: Sequence[Sequence[object]], shown: Mapping[str, str]) -> Path:
    """A workbook whose cells have these formats."""

    def formatted(page: Any) -> None:
        for place, code in shown.items():
            page[place].number_format = code

    return changed(workbook(folder, rows), formatted)


SHOWN = [
    # What the cell stores, its format, the country, and the number that the cell shows.
    (331123456, "0000 000000", "IT", "+390331123456"),
    (331123456, '"0"#########', "IT", "+390331123456"),
    (3.31e8, "0000000000", "IT", "+390331000000"),
    (331123456, "[Blue]0000\\ 000000", "IT", "+390331123456"),
    (6581234567, "+0", None, "+6581234567"),
    (6581234567, '"+"##\\ ####\\ ####', None, "+6581234567"),
    (81234567, '"+65 "0000-0000', None, "+6581234567"),
    ("81234567", '"+65 "@', None, "+6581234567"),
    (2025550143, "[<=9999999]###\\-####;\\(###\\)\\ ###\\-####", "US", "+12025550143"),
    (3012345678, "(0000) 0000000", "DE", "+493012345678"),
    (87654321, "0", "SG", ANA),
    (87654321, "#,##0", "SG", ANA),
]  # fmt: skip


def test_a_number_is_what_its_cell_shows(tmp_path: Path) -> None:
    for stored, code, country, number in SHOWN:
        reading = read_all(sheet(tmp_path, [["destination"], [stored]], {"A2": code}), replace(HELLO, country=country))
        assert ([call.destination for call in reading.calls], reading.errors) == ([number], []), (stored, code)
    (error,) = read_all(sheet(tmp_path, [["destination"], [6.58765e9]], {"A2": "+0"}), HELLO).errors
    assert error.startswith("destination: ")
    assert "may have lost digits" in error


def test_a_code_is_spoken_as_its_cell_shows_it_and_a_quantity_as_a_number(tmp_path: Path) -> None:
    for code, shown in {
        '"K-"0000': "K-0042", "00\\-00": "00-42", "0000": "0042", '0" min"': "42", '0 "€"': "42", "[$€-407]00": "42",
        "0": "42",
    }.items():  # fmt: skip
        path = sheet(tmp_path, [["destination", "n"], [ANA, 42]], {"B2": code})
        assert read_all(path, saying("{{n}}")).heard == [shown]


KEY = uuid.UUID("550e8400-e29b-41d4-a716-446655440000")


def key_of(given: Path | Sequence[Row]) -> str | None:
    (call,) = read_all(given, HELLO).calls
    return call.unique_key


def keyed(folder: Path, key: str) -> Path:
    return file_of(folder, f"destination,unique_key\n{ANA},{key}\n", f"{len(key)}.csv")


def test_one_key_is_one_key_whichever_program_wrote_it(tmp_path: Path) -> None:
    def row(key: object) -> list[Row]:
        return [{"destination": ANA, "unique_key": key}]

    table: list[list[object]] = [["destination", "unique_key"], [ANA, 42]]
    texts = (str(KEY), str(KEY).upper(), f"{{{str(KEY).upper()}}}")
    forms: list[Path | Sequence[Row]] = [
        *map(row, (*texts, KEY)), file_of(tmp_path, json.dumps(row(texts[1])[0]), "people.jsonl"),
    ]  # fmt: skip
    assert {*map(key_of, forms), *(key_of(keyed(tmp_path, each)) for each in texts)} == {str(KEY)}
    whole: list[Path | Sequence[Row]] = [
        sheet(tmp_path, table, {"B2": "0"}), *map(row, (42, 42.0, Decimal("42.00"), "42", "42.0")),
        *(keyed(tmp_path, each) for each in ("42", "42.0")),
    ]  # fmt: skip
    assert {key_of(each) for each in whole} == {"42"}
    for code, shown in (('"K-"0000', "K-0042"), ('"K-"0', "K-42"), ("0000", "0042")):
        assert key_of(sheet(tmp_path, table, {"B2": code})) == key_of(keyed(tmp_path, shown)) == shown


@pytest.mark.anyio
async def test_a_person_with_one_key_in_two_spellings_is_called_once(tmp_path: Path, queue: CallQueue) -> None:
    csv = file_of(tmp_path, f"destination,name,unique_key\n{ANA},Ana,{str(KEY).upper()}\n")
    options = replace(OPTIONS, batch_id="b")
    assert (await enqueue_file(queue, csv, options, now=NOW)).enqueued == 1
    again = await enqueue_rows(queue, [{"destination": ANA, "name": "Ana", "unique_key": KEY}], options, now=NOW)
    assert (again.enqueued, again.duplicates) == (0, 1)
    flow = CallFlow.call(BEN, source="+6531234567").say("Hello.", voice_profile="en-US-JennyNeural")
    first, second = [
        await queue.enqueue(flow, unique_key=key) for key in (f"{{{uuid.UUID(int=7)}}}", str(uuid.UUID(int=7)))
    ]
    assert first.id == second.id
    assert [job.id for job in await queue.find(unique_key=str(uuid.UUID(int=7)).upper())] == [first.id]


PARTLY = CellRichText(TextBlock(InlineFont(strike=True), ANA), f" {BEN}")


def struck(folder: Path, *cells: object, lines: str = "") -> list[str]:
    """What is told of a row with these cells, of which those in the columns `lines` are struck through."""

    def strike(page: Any) -> None:
        for column in lines:
            page[f"{column}2"].font = Font(strike=True)

    path = changed(workbook(folder, [["destination", "name", "remark", "source"], cells]), strike)
    return [each for each in read_all(path).errors if "is struck through in the sheet" in each]


def test_a_row_whose_person_is_struck_out_is_not_called_whatever_stands_beside(tmp_path: Path) -> None:
    half = CellRichText("Ana ", TextBlock(InlineFont(strike=True), "Tan"))
    plain = CellRichText("Ana ", TextBlock(InlineFont(strike=False, b=True), "Tan"))
    for cells, lines, found in (
        ((ANA, "Ana", "moved away"), "AB", 1), ((ANA, "Ana", "moved away"), "ABC", 1), ((ANA, "Ana", "gone"), "C", 0),
        ((ANA, "Ana", "moved away"), "", 0), ((ANA, half, "x"), "", 1), ((ANA, plain, "x"), "", 0),
        ((PARTLY, "Ana", "x"), "", 1), ((ANA,), "A", 1),
    ):  # fmt: skip
        assert len(struck(tmp_path, *cells, lines=lines)) == found, (cells, lines)
    assert struck(tmp_path, ANA, "Ana", lines="AB")
    for ticked, left_out, called in ((2, 3, True), (3, 2, False), (2, 2, False)):
        options = replace(OPTIONS, call_struck_rows=((ticked, ticked),), leave_out_rows=((left_out, left_out),))
        (row,) = read_all(tmp_path / "visits.xlsx", options).rows
        assert (row.call is not None, row.is_left_out) == (called, not called)


def closing(rows: Sequence[Row]) -> list[tuple[int | None, str]]:
    return [(found.row, found.message) for found in read_all(rows).closing]


def test_the_own_number_in_a_list_is_told() -> None:
    people = [{"destination": number, "name": "Ana"} for number in (ANA, "+65 3123 4567", BEN)]
    assert [(row, "2 rows" in told, "that the calls come from" in told) for row, told in closing(people)] == [
        (2, False, True)
    ]
    mexico = [{"destination": "+5215512345678", "name": "Ana", "source": "+525512345678"}]
    assert "that the calls come from" in closing(mexico)[0][1]
    assert closing(people[:1]) == []


def test_ten_numbers_that_count_up_by_one_are_told_once() -> None:
    def people(steps: Sequence[int]) -> list[Mapping[str, object]]:
        return [{"destination": f"+{6581230000 + step}", "name": "Ana"} for step in steps]

    ((row, message),) = closing(people([700, *range(14), 900, *range(300, 312)]))
    assert (row, message.startswith("10 rows in a row have numbers that count up by one, from row 2 on")) == (11, True)
    for steps in (range(9), range(0, 40, 2), range(20, 0, -1), [*range(6), 99, *range(6, 12)]):
        assert closing(people(list(steps))) == []


def test_the_kind_of_a_number_is_told_for_the_person_and_not_for_the_source() -> None:
    free: ParsedNumber = read_number("+18002345678")
    assert "is a toll-free number in US" in free.messages[0]
    assert read_all([{"destination": ANA, "name": "Ana", "source": free}]).findings == []
    found = read_all([{"destination": free, "name": "Ana"}]).findings
    assert [(each.column, each.is_error) for each in found] == [("destination", False)]
    calls = [{"action": "makeCall", "params": {"source": free, "destination": number}} for number in (ANA, free)]
    assert CallFlow.parse({"callflow": calls}).problems() == ()


def test_the_codes_of_a_number_may_stand_in_columns_of_their_own(tmp_path: Path) -> None:
    columns = {"destination": "Phone", "calling_code": "Code", "area_code": "DDD"}
    options = replace(OPTIONS, batch_id="b", columns=columns, country="BR")
    for reader, code in product(READERS, ["55", "", "+55"]):
        cells = {"Phone": "91234-5678", "Code": code, "DDD": "11", "name": "Ana"}
        assert [call.destination for call in calls_of(reader(tmp_path, cells, options))] == ["+5511912345678"]
    for row, column in (({"Code": "Brasil", "DDD": 11}, "Code"), ({"Code": 55, "DDD": "SP"}, "DDD")):
        given: dict[str, object] = {"Phone": "91234-5678", "name": "Ana", **row}
        assert [each[1] for each in told(READERS[-1](tmp_path, given, options))] == [column]
    with pytest.raises(InvalidInputError, match="one area code"):
        replace(options, columns={**columns, "destination": ["Phone", "Home"]})
