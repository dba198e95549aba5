"""Template filters for speech, and the clocks by which times are spoken, in every format and interface."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from babel import Locale
from babel.localedata import locale_identifiers
from babel.numbers import get_currency_name
from hypothesis import given
from hypothesis import strategies as st

from tests.campaigns.forms import READERS, TYPED, Reader, from_csv, from_json, from_mappings
from tests.campaigns.forms import spoken as spoken_texts
from tests.campaigns.reading import NOW, Row, filled, read_all, saying, told
from tests.campaigns.workbooks import changed, workbook
from voiceflow_worker import CallQueue, Menu, load_settings
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.errors import CallFlowError, InvalidInputError
from voiceflow_worker.finding import Remedy
from voiceflow_worker.ivr.caller import Caller
from voiceflow_worker.ivr.caller import spoken as spoken_by
from voiceflow_worker.ivr.speech_filters import ZONE, money
from voiceflow_worker.model.times import PersonZone
from voiceflow_worker.service.named_call import NamedCall


def speak(text: str, value: object, voice: str | None = "en-US-JennyNeural") -> object:
    return filled(FlowTemplate.speaking(text), {"x": value, "voice_profile": voice})["callflow"][1]["params"]["text"]


def problem(text: str, value: object, voice: str | None = "en-US-JennyNeural") -> tuple[str | None, str]:
    _, (found,) = FlowTemplate.speaking(text).fill({"x": value, "voice_profile": voice})
    return found.column, found.message


def test_values_are_spoken_in_the_language_of_the_voice() -> None:
    say = '{{day|date}} at {{at|time}}, {{amount|money("SGD")}}, {{place|ordinal}}'
    row = {"destination": "+6587654321", "day": "2030-01-31", "at": "14:05", "amount": "1250.5", "place": "3"}
    for voice, spoken in {
        "en-US-JennyNeural": "January 31, 2030 at 2:05 PM, 1250.50 Singapore dollars, 3rd",
        "en-IE-EmilyNeural": "31 January 2030 at 14:05, 1250.50 Singapore dollars, 3rd",
        "de-DE-KatjaNeural": "31. Januar 2030 at 14:05, 1250,50 Singapur-Dollar, 3.",
        "fr-FR-DeniseNeural": "31 janvier 2030 at 14:05, 1250,50 dollars de Singapour, 3e",
        "id-ID-GadisNeural": "31 Januari 2030 at 14.05, 1250,50 Dolar Singapura, ke-3",
        "zh-CN-XiaoxiaoNeural": "2030年1月31日 at 14:05, 1250.50新加坡元, 第3",
    }.items():
        assert read_all([{**row, "voice_profile": voice}], saying(say, voice_profile=None)).heard == [spoken]


def test_a_filter_writes_a_value_as_it_is_spoken() -> None:
    for text, value, spoken in [
        ("{{x|digits}}", "0123", "0, 1, 2, 3"),
        ("{{x|digits}}", "+65 8765-4321", "6, 5, 8, 7, 6, 5, 4, 3, 2, 1"),
        ("{{x|digits}}", 42, "4, 2"),
        ("{{x|ordinal}}", "11", "11th"),
        ("{{x|ordinal}}", "22.0", "22nd"),
        ("{{x|spell}}", "ab-12", "A, B, 1, 2"),
        ("{{x|spell}}", "e\u0301a", "É, A"),
        ("{{x|date('full')}}", "2030-01-31", "Thursday, January 31, 2030"),
        ("{{x|date('medium', language='de')}}", "2030-01-31 09:30", "31.01.2030"),
        ("{{x|date}}", "2030-01-31 9:05", "January 31, 2030"),
        ("{{x|time}}", "2030-01-31 09:30", "9:30 AM"),
        ("{{x|time}}", "12:05 am", "12:05 AM"),
        ("{{x|time}}", "9:30:10", "9:30 AM"),
        ("{{x|time}}", "9h", "9:00 AM"),
        ("{{x|time}}", "14 h 05", "2:05 PM"),
        ("{{x|time}}", "2030-01-31 14.05 Uhr", "2:05 PM"),
        ("{{x|date}}", "2030-01-31 14h05", "January 31, 2030"),
        ("{{x|money('USD')}}", "1", "1 US dollar"),
        ("{{x|money('USD')}}", "12.50", "12.50 US dollars"),
        ("{{x|money('USD')}}", "EUR 12", "12 euros"),
        ("{{x|money}}", "0.5 gbp", "0.50 British pounds"),
        ("{{x|money('JPY')}}", "1000000", "1000000 Japanese yen"),
        ("{{x|money('JPY')}}", "1250.0", "1250 Japanese yen"),
        ("{{x|money('KWD')}}", "1.250", "1.250 Kuwaiti dinars"),
        ("{{x|money('USD')}}", "-0.00", "0 US dollars"),
        ("{{x|money('HUF')}}", "1250.50", "1250.50 Hungarian forints"),
        ("{{x|money('IDR')}}", "1250.5", "1250.50 Indonesian rupiahs"),
        ("{{x|money('VND')}}", "50000.00", "50000 Vietnamese dong"),
        ("{{x|money('IQD')}}", "1.5", "1.500 Iraqi dinars"),
    ]:
        assert speak(text, value) == spoken


def test_letters_are_spelled_with_their_signs() -> None:
    for voice, value, spoken in (
        ("th-TH", "นี้น้ำ", "นี้, น้ำ"), ("hi-IN", "हिन्दी क्षमा", "हि, न्दी, क्ष, मा"), ("ta-IN", "தமிழ்", "த, மி, ழ்"),
        ("tr-TR", "ıi", "ı, i"), ("de-DE", "aß", "A, ß"),  # noqa: RUF001
    ):  # fmt: skip
        assert speak("{{x|spell}}", value, f"{voice}-AnyNeural") == spoken


@pytest.mark.parametrize(
    "written", ["1250,50", "1250,5", "1.250,50", "1,250.50", "1 250,50", "1\u202f250,50", "1'250.50", "1\u2019250,50"]
)
def test_an_amount_is_read_as_its_country_writes_it_if_that_has_one_meaning(written: str) -> None:
    for text, value in [("{{x|money('BRL')}}", written), ("{{x|money}}", f"{written} BRL")]:
        assert speak(text, value, "pt-BR-FranciscaNeural") == "1250,50 Reais brasileiros"
    for value, digits in [("1,25,000", "125000"), ("1.250.000", "1250000"), ("1'250", "1250")]:
        assert speak("{{x|money('INR')}}", value) == f"{digits} Indian rupees"
    for unclear in ["1,250", "-1,250", "1,2,3", "1,250,50", "1.250.50", "1'25", "01,250", "12 50", "1,25,50"]:
        assert "is not an amount" in problem("{{x|money('INR')}}", unclear)[1]
    assert speak("{{x|money('KWD')}}", "1250,500") == "1250.500 Kuwaiti dinars"
    assert "has 3 decimals" in problem("{{x|money('INR')}}", "1.250,500")[1]


SIGNS = {
    "EUR": ["1.250,50 €", "€ 1.250,50", "€1,250.50", "1 250,50\u202f€"], "SGD": ["$1,250.50", "S$ 1250.50"],
    "BRL": ["R$ 1.250,50"], "DKK": ["1.250,50 kr.", "kr 1250,50"], "PLN": ["1 250,50 zł"],
}  # fmt: skip


@pytest.mark.parametrize("currency", SIGNS)
def test_the_sign_of_the_currency_that_the_filter_names_may_stand_beside_an_amount(currency: str) -> None:
    plain = str(speak("{{x|money}}", f"{currency} 1250.50"))
    for cell in SIGNS[currency]:
        assert speak(f"{{{{x|money('{currency}')}}}}", cell) == plain
    assert speak("{{x|money}}", "12 €") == "12 euros"
    for other, cell in [("USD", "12 €"), ("SGD", "US$ 12"), ("EUR", "€ 12 USD"), ("EUR", "EUR 12 USD"), ("JPY", "€12")]:
        assert "is not an amount" in problem(f"{{{{x|money('{other}')}}}}", cell)[1]
    assert "is not an amount" in problem("{{x|money}}", "$12")[1], "of many countries"


def test_what_a_voice_has_no_name_for_is_refused() -> None:
    for text, value, voice, said in [
        ("{{x|date}}", "2027-12-31", "si-LK-SameeraNeural", "the names of months are not known in Sinhala"),
        ("{{x|date}}", "2027-12-31", "iu-Latn-CA-SiqiniqNeural", "the names of months are not known in Inuktitut"),
        ("{{x|money('USD')}}", "12.50", "iu-Latn-CA-SiqiniqNeural", "the name of USD is not known in Inuktitut"),
        ("{{x|money('USD')}}", "12.50", "mt-MT-GraceNeural", "the name of USD is not known in Maltese"),
        ("{{x|money('SGD')}}", "12.50", "su-ID-TutiNeural", "the name of SGD is not known in Sundanese"),
        ("{{x|time}}", "00:30", "am-ET-AmehaNeural", "Amharic (Ethiopia) counts hours from six o'clock"),
    ]:
        assert said in problem(text, value, voice)[1]


def test_an_amount_below_0_is_refused_and_another_number_spoken_as_it_stands() -> None:
    for value in ("-12.50", "SGD \u22125", "-SGD 5", "-1 EUR"):
        column, message = problem("{{x|money('USD')}}", value)
        assert (column, "is below 0, and half of the voices leave a minus out" in message) == ("x", True)
    say = "{% if x < 0 %}minus {% endif %}{{x|abs|money('EUR')}}"
    assert [speak(say, each) for each in ("-12.50", "12.50")] == ["minus 12.50 euros", "12.50 euros"]
    rows = [{"destination": f"+658765432{n}", "x": each} for n, each in enumerate(("-5 °C", "\u22125.25", "5", "5-3"))]
    reading = read_all(rows, saying("It is {{x}}."))
    assert reading.heard == ["It is -5 °C.", "It is \u22125.25.", "It is 5.", "It is 5-3."]
    (found,) = reading.closing
    assert (found.column, "'-5 °C' in 2 rows, below 0, and half of the voices" in found.message) == ("x", True)


def test_a_typed_number_is_spoken_with_the_decimal_sign_of_the_voice(tmp_path: Path) -> None:
    for voice, text, said in (
        ("de-DE-KatjaNeural", "{{x}} Liter", "1,25 Liter"), ("en-ZA-LeahNeural", "{{x}} litres", "1.25 litres"),
        ("fr", "{{x}}", "1,25"), ("es-MX-DaliaNeural", "{{ x|trim }}", "1.25"),
        ("id-ID-GadisNeural", "{{ y or x }}", "1,25"),
        ("pt-BR-FranciscaNeural", "{% if x == 1.25 %}{{ x|number }}{% endif %}", "1,25"),
    ):  # fmt: skip
        for reader, value in product(TYPED, (1.25, Decimal("1.25"))):
            if reader is not from_json or isinstance(value, float):
                row: Row = {"destination": "+6587654321", "x": value, "y": None}
                assert spoken_texts(reader(tmp_path, row, saying(text, voice_profile=voice))) == [said]
    path = workbook(tmp_path, [["destination", "x"], ["+6587654321", 1.25], ["+6587654322", 12.5]])

    def in_thousandths(sheet: Any) -> None:
        for row in (2, 3):
            sheet.cell(row, 2).number_format = "0.000"

    changed(path, in_thousandths)
    german = saying("{{x}} Liter", voice_profile="de-DE-KatjaNeural")
    assert (read_all(path, german).heard, read_all(path, german).closing) == (["1,250 Liter", "12,500 Liter"], ())
    menu = Menu("litres", prompt="{{x}} Liter?", voice_profile="de-DE-KatjaNeural")
    body = menu.call("+6587654321", source="+6531234567", data={"x": 1.25}).to_body()
    assert body["callflow"][1]["params"]["promptMessage"] == "1,25 Liter?"
    menu.on("1", goto="{{x}} Liter")
    (first, _) = open_campaign(path, CampaignOptions(menu=menu, source="+6531234567", batch_id="b"), now=NOW)
    assert first.call is not None
    caller = Caller(number="+6587654321", data=first.call.data or {}, now=NOW)
    assert spoken_by("{{x}} Liter", caller, lambda _: "de-DE-KatjaNeural") == "1,25 Liter"


def test_a_text_with_three_digits_behind_its_sign_has_two_readings_until_number_decides() -> None:
    german = "de-DE-KatjaNeural"
    rows = [{"destination": f"+658765432{n}", "x": x} for n, x in enumerate(("1.250", "12,500", "0.125", "1.25", "7"))]
    (found,) = read_all(rows, saying("{{x}} Liter", voice_profile=german)).closing
    assert "'1.250' in 2 rows, which is 1250, or 1 and 250 thousandths" in found.message
    assert "{{ x|number('.') }} or {{ x|number(',') }}" in found.message
    for text in ("{{ x|number(',') }}", "{{ x|digits }}", "Hello."):
        assert read_all(rows[:1], saying(text, voice_profile=german)).closing == ()
    for value, given_, meant in (
        ("1.250", "'.'", "1,250"), ("1.250", "','", "1250"), ("1,250", "','", "1,250"), ("1.250,5", "", "1250,5"),
        ("1,25,000.5", "'.'", "125000,5"), ("0.125", "", "0,125"), ("12", "", "12"), ("1,5", "", "1,5"),
        (1.25, "','", "1,25"), ("3.14159", "", "3,14159"),
    ):  # fmt: skip
        assert speak(f"{{{{x|number({given_})}}}}", value, german) == meant
    for value, given_, said in (
        ("1.250", "", "'1.250' is 1250, or 1 and 250 thousandths: write number('.') or number(',')"),
        ("1.2.3", "'.'", "is not a number"), ("x", "", "is not a number"), ("-1,5", "", "is below 0"),
        ("1", "';'", "';' is not a decimal sign"), ("1,5,", "','", "is not a number"),
    ):  # fmt: skip
        assert said in problem(f"{{{{x|number({given_})}}}}", value, german)[1]


@pytest.mark.parametrize(
    ("language", "cases"),
    [
        ("tr", ["ALİ IŞIK=Ali Işık", "ilker=İlker"]), ("az", ["İLQAR=İlqar"]),  # noqa: RUF001
        ("fr", ["l'oréal D’ANGELO=L'Oréal D’Angelo", "ÉLODIE=Élodie"]), ("nl", ["IJSBRAND=Ijsbrand"]),  # noqa: RUF001
        ("en", ["O'BRIEN o'neill=O'Brien O'Neill", "McDonald=McDonald", "J.R.R. tolkien=J.R.R. Tolkien"]),
        ("en", ["mARIA smith-JONES=Maria Smith-Jones", "I'M ANA'S=I'm Ana's", "İBRAHİM=Ibrahim"]),
        ("it", ["DELL'ACQUA=Dell'Acqua", "sant'elia=Sant'Elia"]), ("de", ["große=Große"]), ("ka", ["ანა=ანა"]),
        ("el", ["ΝΙΚΟΣ ΩΣ=Νικος Ως"]), ("hr", ["ǆEMAL=ǅemal"]), ("", ["ANA=Ana", "i=I"]),
    ],
)  # fmt: skip
def test_capitals_are_those_of_the_language(language: str, cases: list[str]) -> None:
    for case in cases:
        value, _, meant = case.partition("=")
        assert speak("{{x|title}}", value, f"{language}-XX-AnyNeural" if language else None) == meant
        assert speak(f"{{{{x|title(language='{language or 'en'}')}}}}", value, None) == meant


def test_the_halves_of_a_day_are_those_of_the_cldr() -> None:
    for language, at, meant in (
        ("ko-KR", "14:05", "오후 2:05"), ("ko-KR", "9:05", "오전 9:05"), ("en-US", "14:05", "2:05 PM"),
        ("de-DE", "14:05", "14:05"), ("sq", "14:05", "2:05 e pasdites"),
    ):  # fmt: skip
        assert speak("{{x|time}}", at, f"{language}-AnyNeural") == meant


NO_TIME = "is not a time of day"
UNFIT = [
    ("date", "1/2/2030", "'1/2/2030' is not a date; write it as 2030-01-31 (filter date)"),
    ("date", "2030-02-30", "'2030-02-30' is not a date"),
    ("date('big')", "2030-01-31", "'big' is not a date format; give one of full, long, medium, short (filter date)"),
    ("date('full', 1)", "2030-01-31", "the filter does not take 'full', 1"),
    ("time", "25:00", "'25:00' is not a time of day; write it as 14:05 (filter time)"),
    ("time", "13:00 pm", NO_TIME), ("time", "25h", "'25h' is not a time of day"), ("time", "14.05", NO_TIME),
    ("money('USD')", "1,250", "'1,250' is not an amount; write it as 1250.50, or as SGD 1250.50"),
    ("money", "12", "'12' has no currency; write SGD 12, or name the currency: money('SGD')"),
    ("money('XQQ')", "12", "'XQQ' is not a currency"),
    ("money('EUR')", "1.250", "'1.250' has 3 decimals, but EUR has 2; write the amount without a separator"),
    ("money('EUR')", "1.2500", "has 4 decimals, but EUR has 2"),
    ("money('SGD')", "EUR 1.250", "has 3 decimals, but EUR has 2"),
    ("money('JPY')", "1.250", "has 3 decimals, but JPY has 0; write the amount without a separator, such as 1250"),
    ("money('JPY')", "12.5", "has 1 decimal, but JPY has 0"),
    ("money('KWD')", "1.2500", "has 4 decimals, but KWD has 3"),
    ("spell", "25.0", "'25.0' ends in .0"),
    ("ordinal", "third", "'third' is not a whole number of at most 9 digits, such as 3 (filter ordinal)"),
    ("digits", "25.0", "'25.0' ends in .0, which a program has added; write 25 (filter digits)"),
    ("digits", "A12", "'A12' contains more than digits; use the filter spell, which also speaks letters"),
    ("spell", "--", "'--' has no letters or digits"),
    ("date(language='xx')", "2030-01-31", "the language of 'xx' is not known"),
    ("abs", "a", "'a' cannot be used with this filter (filter abs)"),
]  # fmt: skip


def test_a_value_that_a_filter_cannot_use_is_reported_with_column_and_filter() -> None:
    for written, value, sentence in UNFIT:
        column, message = problem(f"{{{{x|{written}}}}}", value)
        assert (column, sentence in message) == ("x", True), message


def test_the_row_and_the_column_at_fault_are_named() -> None:
    days = [("2030-01-31", "soon"), ("2030-01-31", "2030-02-01")]
    rows = [{"destination": f"+658765432{n}", "first": first, "last": last} for n, (first, last) in enumerate(days)]
    reading = read_all(rows, saying("{{ first|date }} to {{ last|date }}"))
    assert told(reading.rows) == [(1, "last", -1009, "'soon' is not a date; write it as 2030-01-31 (filter date)")]
    assert len(reading.calls) == 1


def test_an_empty_cell_is_missing_also_for_a_filter() -> None:
    row = {"destination": "+6587654321", "name": "", "first": ""}
    errors = read_all([row], saying("{{ first|date }}, {{ name }}")).errors
    assert sorted(each[:16] for each in errors) == ["first: is empty,", "name: is empty, "]
    assert read_all([row], saying("{{ (first or '2030-01-31')|date }}")).heard == ["31 January 2030"]


def test_each_text_has_the_language_of_its_own_voice() -> None:
    voices: list[dict[str, str]] = [{"voiceProfile": "de-DE-KatjaNeural"}, {"voiceProfile": "{{ other }}"}, {}]
    says = [{"action": "say", "params": {"text": "{{x|date}}", **each}} for each in voices]
    template = FlowTemplate.parse({"callflow": [{"action": "makeCall"}, *says]}, name="")
    values = {"x": "2030-01-31", "other": "fr-FR-DeniseNeural", "voice_profile": "en-US-JennyNeural"}
    texts = [entry["params"]["text"] for entry in filled(template, values)["callflow"][1:]]
    assert texts == ["31. Januar 2030", "31 janvier 2030", "January 31, 2030"]


def test_a_whole_amount_with_decimals_takes_the_word_of_the_whole_number() -> None:
    for voice, amount, spoken in (
        ("en-US", "1.00 USD", "1 US dollar"), ("pl-PL", "2.00 PLN", "2 złote polskie"),
        ("pl-PL", "5.00 PLN", "5 złotych polskich"), ("ru-RU", "1.00 RUB", "1 российский рубль"),
        ("ru-RU", "2.00 RUB", "2 российских рубля"), ("cs-CZ", "1.0 CZK", "1 česká koruna"),
    ):  # fmt: skip
        assert speak("{{x|money}}", amount, f"{voice}-AnyNeural") == spoken


@pytest.mark.slow  # five seconds: babel reads the data of 300 languages
def test_a_whole_amount_is_spoken_alike_with_and_without_decimals_in_every_language() -> None:
    # One locale for each language and script; territories have the plurals of their language.
    names = {locale.language + (locale.script or ""): locale for locale in map(Locale.parse, locale_identifiers())}
    assert len(names) > 250
    named = {name: locale for name, locale in names.items() if get_currency_name("USD", locale=locale) != "USD"}
    assert len(named) > 200
    differ = [
        (name, amount)
        for name, locale in named.items()
        for amount in ("1", "2", "5", "21")
        if len({money(f"{amount}{decimals} USD", locale) for decimals in ("", ".00")}) != 1
    ]
    assert differ == []


@given(st.times())
def test_a_time_is_spoken_so_that_it_is_understood(moment: time) -> None:
    spoken = str(speak("{{x|time}}", moment.isoformat(timespec="minutes")))
    assert speak("{{x|time(language='de')}}", spoken) == f"{moment:%H:%M}"


# -- a time with a zone of its own is spoken as the clocks of the person show it ---------------------------------------

ANA = "+6587654321"
VISIT = "{{visit|date}} at {{visit|time}}"
INSTANT = "2030-01-30T23:00:00Z"
SINGAPORE = "January 31, 2030 at 7:00 AM"
MOBILE = "+61412345678"
"""An Australian mobile, which may be in several time zones."""
ENGLISH = "en-US-JennyNeural"
SAID = {"say": VISIT, "source": "+6531234567", "voice_profile": ENGLISH, "batch": "b"}


def english(say: str = VISIT, *, time_zone: str | None = None) -> CampaignOptions:
    return replace(saying(say), voice_profile=ENGLISH, time_zone=time_zone)


def heard(reader: Reader, folder: Path, row: Row, *, time_zone: str | None = None) -> object:
    (text,) = spoken_texts(reader(folder, row, english(time_zone=time_zone)))
    return text


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
        "2030-01-31 07:00 GMT+8", "2030-01-30t23:00:00z",
    ],
)  # fmt: skip
def test_the_same_instant_is_spoken_alike_however_it_is_written(tmp_path: Path, written: str) -> None:
    for reader in (from_csv, from_json):
        assert heard(reader, tmp_path, {"destination": ANA, "visit": written}) == SINGAPORE


JAKARTA = {"destination": "+622112345678", "name": "Ana"}


def test_a_time_on_another_clock_than_that_of_the_person_is_refused(tmp_path: Path) -> None:
    for reader in READERS:
        for written in ("2030-01-31T09:00:00+08:00", "2030-01-30T20:00:00-05:00"):
            ((_, column, _, message), *_) = told(reader(tmp_path, {**JAKARTA, "visit": written}, english()))
            assert column == "visit"
            assert "by its own clock, and 08:00 in Asia/Jakarta, where the person is: write the local time" in message
        for written in ("2030-01-31T08:00:00+07:00", "2030-01-31T01:00:00Z", "2030-01-31T01:00:00+00:00"):
            assert heard(reader, tmp_path, {**JAKARTA, "visit": written}) == "January 31, 2030 at 8:00 AM"


def test_a_time_without_a_zone_is_local(tmp_path: Path) -> None:
    for written in ("2030-01-31 07:00", "2030-01-31T07:00:00", "2030-01-31 7:00", "2030-01-31 7:00 am"):
        for number in (ANA, MOBILE):
            assert heard(from_csv, tmp_path, {"destination": number, "visit": written}) == SINGAPORE


UNCERTAIN = {
    "ends in 'CET'; write its zone as an offset": ("2030-01-31T07:00:00 CET",),
    "ends in '[Europe/Berlin]'; write its zone as an offset": ("2030-01-31T07:00[Europe/Berlin]",),
    "write its zone as an offset": ("2030-01-31 07:00 Europe/Berlin", "2030-01-31T07:00\u221208:00"),
    "has a time zone and no day": ("23:00Z", "23:00+00:00"),
    "no such day, time or offset": ("2030-02-30T07:00Z", "2030-01-31T25:00Z", "2030-01-31T07:00+99:00"),
    "not between the years 1 and 9999": ("9999-12-31T23:00-12:00",),
}


def test_a_time_of_no_certain_zone_makes_the_row_bad(tmp_path: Path) -> None:
    for why, written in UNCERTAIN.items():
        for reader, each in product((from_csv, from_json), written):
            ((_, column, _, message), *_) = told(reader(tmp_path, {"destination": ANA, "visit": each}, english()))
            assert (column, why in message) == ("visit", True), message


def test_a_bad_number_or_zone_is_told_once(tmp_path: Path) -> None:
    for row in ({"destination": "12"}, {"destination": MOBILE, "time_zone": "SGT"}):
        found = told(from_csv(tmp_path, {**row, "visit": INSTANT}, english()))
        assert [name for _, name, _, _ in found] == list(row)[-1:]


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=8))])
def test_typed_times_have_their_zone(tmp_path: Path, zone: Any) -> None:
    row = {"destination": ANA, "visit": datetime(2030, 1, 30, 23, tzinfo=UTC).astimezone(zone)}
    assert heard(from_mappings, tmp_path, row) == SINGAPORE


@given(
    since_1970=st.integers(31 * 366 * 24 * 60, 120 * 365 * 24 * 60),  # from 2001 on: no day of an epoch
    person=st.sampled_from(["Asia/Singapore", "America/New_York", "Europe/London", "Asia/Kathmandu", "Pacific/Apia"]),
)
def test_what_is_spoken_is_what_the_clocks_of_the_person_show(since_1970: int, person: str) -> None:
    aware = datetime.fromtimestamp(60 * since_1970, UTC)
    local = aware.astimezone(ZoneInfo(person))
    values = {"x": aware.isoformat(), ZONE: PersonZone(person, ())}
    said = filled(FlowTemplate.speaking("{{x|date('short', language='de')}} {{x|time(language='de')}}"), values)
    assert said["callflow"][1]["params"]["text"] == f"{local:%d.%m.%y %H:%M}"


# -- menus, whose later texts are spoken when a key was pressed --------------------------------------------------------


def visit_menu() -> Menu:
    menu = Menu("visit", prompt=f"Hello. {VISIT}. Press 1.", voice_profile=ENGLISH)
    menu.on("1", goto=f"Again: {VISIT}.")
    return menu


@pytest.mark.anyio
async def test_later_texts_of_a_menu_are_spoken_in_the_zone_of_the_first(queue: CallQueue) -> None:
    options = CampaignOptions(menu=visit_menu(), source="+6531234567", batch_id="b")
    for number, zone, first in [(ANA, None, SINGAPORE), (MOBILE, "Europe/Berlin", "January 31, 2030 at 12:00 AM")]:
        rows = [{"destination": number, "visit": INSTANT}]
        campaign = open_campaign(rows, replace(options, time_zone=zone), now=NOW)
        (row,) = campaign
        assert row.call is not None
        assert first in row.call.body
        assert [text for _, text in campaign.later_texts(row)] == [f"Again: {first}."]
        await queue.admitter.admit_all([row.call])
        (job,) = await queue.find(destination=number)
        caller = Caller(now=NOW, number=number, job=job, data=job.data or {})
        assert spoken_by(f"Again: {VISIT}.", caller, lambda _: ENGLISH) == f"Again: {first}."
    found = read_all([{"destination": MOBILE, "visit": INSTANT}], options).findings
    assert {each.column for each in found if each.is_error} == {"visit"}


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
    with pytest.raises(CallFlowError, match="by its own clock, and 07:00 in Asia/Singapore"):
        asked(**clinic)
    with pytest.raises(CallFlowError, match="that of the person is not known"):
        asked(to=MOBILE)


def test_times_are_spoken_as_a_list_writes_them() -> None:
    for cells, said in {
        "1/15/2030,8:00a": "15 January 2030 08:00", "1/15/2030,1:30p": "15 January 2030 13:30",
        "15 Jan 2030,0830": "15 January 2030 08:30", "2030-01-15,1330": "15 January 2030 13:30",
        "15 January 2030,830A": "15 January 2030 08:30", "Jan 15 2030,12:15p": "15 January 2030 12:15",
    }.items():  # fmt: skip
        day, at = cells.split(",")
        (text,) = read_all([{"destination": ANA, "day": day, "at": at}], saying("{{day|date}} {{at|time}}")).heard
        assert str(text).replace("\u202f", " ") == said
