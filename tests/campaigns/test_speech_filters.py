"""Template filters for speech."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from datetime import time
from pathlib import Path

import pytest
from babel import Locale
from babel.localedata import locale_identifiers
from hypothesis import given
from hypothesis import strategies as st

from tests.campaigns.reading import OPTIONS, calls_of, file_of, filled, read, text_of, told
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.ivr import caller
from voiceflow_worker.ivr.speech_filters import MINUS, money, time_

VOICES = ("en-US-JennyNeural", "en-IE-EmilyNeural", "de-DE-KatjaNeural", "fr-FR-DeniseNeural", "zh-CN-XiaoxiaoNeural")


def speak(text: str, value: object, voice: str | None = "en-US-JennyNeural") -> object:
    return filled(FlowTemplate.speaking(text), {"x": value, "voice_profile": voice})["callflow"][1]["params"]["text"]


def problem(text: str, value: object, voice: str | None = "en-US-JennyNeural") -> tuple[str | None, str]:
    _, (found,) = FlowTemplate.speaking(text).fill({"x": value, "voice_profile": voice})
    return found.column, found.message


def test_values_are_spoken_in_the_language_of_the_voice(tmp_path: Path) -> None:
    for voice, spoken in [
        ("en-US-JennyNeural", "January 31, 2030 at 2:05 PM, 1250.50 Singapore dollars, 3rd"),
        ("en-IE-EmilyNeural", "31 January 2030 at 14:05, 1250.50 Singapore dollars, 3rd"),
        ("de-DE-KatjaNeural", "31. Januar 2030 at 14:05, 1250,50 Singapur-Dollar, 3."),
        ("fr-FR-DeniseNeural", "31 janvier 2030 at 14:05, 1250,50 dollars de Singapour, 3e"),
        ("id-ID-GadisNeural", "31 Januari 2030 at 14.05, 1250,50 Dolar Singapura, ke-3"),
        ("zh-CN-XiaoxiaoNeural", "2030年1月31日 at 14:05, 1250.50新加坡元, 第3"),
    ]:
        say = '{{day|date}} at {{at|time}}, {{amount|money("SGD")}}, {{place|ordinal}}'
        options = replace(OPTIONS, template=FlowTemplate.speaking(say), voice_profile=None)
        row = f"+6587654321,2030-01-31,14:05,1250.5,3,{voice}"
        rows = read(file_of(tmp_path, f"destination,day,at,amount,place,voice_profile\n{row}\n"), options)
        assert told(rows) == []
        assert list(map(text_of, calls_of(rows))) == [spoken]


def test_a_filter_writes_a_value_as_it_is_spoken() -> None:
    for text, value, spoken in [
        ("{{x|digits}}", "0123", "0, 1, 2, 3"),
        ("{{x|digits}}", "+65 8765-4321", "6, 5, 8, 7, 6, 5, 4, 3, 2, 1"),
        ("{{x|digits}}", 42, "4, 2"),
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
        ("{{x|money('USD')}}", "-12.50", "minus 12.50 US dollars"),
        ("{{x|money}}", "SGD \u22125", "minus 5 Singapore dollars"),
        ("{{x|money}}", "-SGD 5", "minus 5 Singapore dollars"),
        ("{{x|money('USD')}}", "-0.00", "0 US dollars"),
        ("{{x|money('HUF')}}", "1250.50", "1250.50 Hungarian forints"),
        ("{{x|money('IDR')}}", "1250.5", "1250.50 Indonesian rupiahs"),
        ("{{x|money('VND')}}", "50000.00", "50000 Vietnamese dong"),
        ("{{x|money('IQD')}}", "1.5", "1.500 Iraqi dinars"),
        ("{{x|ordinal}}", "11", "11th"),
        ("{{x|ordinal}}", "22.0", "22nd"),
        ("{{x|upper}} {{x|spell}}", "ab", "AB A, B"),
    ]:
        assert speak(text, value) == spoken


@pytest.mark.parametrize(
    ("voice", "value", "spoken"),
    [
        ("th-TH", "นี้น้ำ", "นี้, น้ำ"),
        ("hi-IN", "हिन्दी क्षमा", "हि, न्दी, क्ष, मा"),
        ("ta-IN", "தமிழ்", "த, மி, ழ்"),
        ("tr-TR", "ıi", "ı, i"),  # noqa: RUF001
        ("de-DE", "aß", "A, ß"),
    ],
)
def test_letters_are_spelled_with_their_signs(voice: str, value: str, spoken: str) -> None:
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


@pytest.mark.parametrize(
    ("currency", "cells"),
    [
        ("EUR", ["1.250,50 €", "€ 1.250,50", "€1,250.50", "1 250,50\u202f€"]),
        ("SGD", ["$1,250.50", "S$ 1250.50"]),
        ("BRL", ["R$ 1.250,50"]),
        ("DKK", ["1.250,50 kr.", "kr 1250,50"]),
        ("PLN", ["1 250,50 zł"]),
    ],
)
def test_the_sign_of_the_currency_that_the_filter_names_may_stand_beside_an_amount(
    currency: str, cells: list[str]
) -> None:
    plain = str(speak("{{x|money}}", f"{currency} 1250.50"))
    for cell in cells:
        assert speak(f"{{{{x|money('{currency}')}}}}", cell) == plain
        assert speak(f"{{{{x|money('{currency}')}}}}", f"-{cell}") == f"minus {plain}"
    assert speak("{{x|money}}", "12 €") == "12 euros"
    for other, cell in [("USD", "12 €"), ("SGD", "US$ 12"), ("EUR", "€ 12 USD"), ("EUR", "EUR 12 USD"), ("JPY", "€12")]:
        assert "is not an amount" in problem(f"{{{{x|money('{other}')}}}}", cell)[1]
    assert "is not an amount" in problem("{{x|money}}", "$12")[1], "of many countries"


def test_the_months_of_sinhala_are_those_of_the_sun() -> None:
    for form in ("long", "full", "medium"):
        assert "අප්රේල්" in str(speak(f"{{{{x|date('{form}')}}}}", "2030-04-01", "si-LK-SameeraNeural"))


def test_a_minus_is_a_word_or_refused() -> None:
    assert speak("{{x|money('EUR')}}", "-1", "de-DE-KatjaNeural") == "minus 1 Euro"
    assert speak("{{x|money('CNY')}}", "-12.50", "zh-CN-XiaoxiaoNeural") == "负12.50人民币"
    column, message = problem("{{x|money('INR', language='gu')}}", "-1")
    assert (column, "is below 0, and what Gujarati voices say for a minus is not known" in message) == ("x", True)
    assert speak("{{x|abs|money('INR', language='gu')}}", "-1") == "1 ભારતીય રૂપિયા"


def test_the_minus_of_a_bare_number_is_a_word_where_nothing_is_before_it() -> None:
    german, gujarati = "de-DE-KatjaNeural", "gu-IN-DhwaniNeural"
    for text, value, voice, spoken in [
        ("{{x}}", "-5", german, "minus 5"),
        ("It is {{x}}.", "-5", german, "It is minus 5."),
        ("It is {{x}}.", "\u22125.25", german, "It is minus 5.25."),
        ("It is {{x}}.", -5, "fr-FR-DeniseNeural", "It is moins 5."),
        ("It is {{x}}{% if x %}!{% endif %}", "-5 °C", german, "It is minus 5 °C!"),
        ("{{x}} left", "-12%", "zh-CN-XiaoxiaoNeural", "负12% left"),
        ("{{x|money('EUR')}}, {{x}}", "-5", german, "minus 5 Euro, minus 5"),
        ("555{{x}}", "-1234", german, "555-1234"),
        ("Room A{{x}}", "-5", german, "Room A-5"),
        ("{{x}}", "-", german, "-"),
        ("{{x}}", "-5-A", german, "-5-A"),
        ("{{x}}", "- 5 chairs", german, "- 5 chairs"),
        ("{{x}}", "-5", gujarati, "-5"),
        ("{{x}}", "5-3", german, "5-3"),
    ]:
        assert speak(text, value, voice) == spoken, (text, value)
    assert caller.filled("It is {{x}}.", {"x": "-5"}, lambda: german) == "It is minus 5."
    body = {"action": "makeCall", "params": {"source": "+6531234567", "destination": "{{ phone }}"}}
    file = {"action": "playFile", "params": {"fileUrl": "https://files.example.com/{{x}}.mp3"}}
    values = {"phone": "+6587654321", "x": "-5", "voice_profile": german}
    assert "/-5.mp3" in str(filled(FlowTemplate({"callflow": [body, file]}, name="flow"), values))


@pytest.mark.slow  # a program for each text
def test_a_synthesiser_says_the_minus_the_hour_and_the_cents() -> None:
    def phonemes(text: str, voice: str) -> str:
        found = subprocess.run(["espeak-ng", "-q", "-x", "-v", voice, "--", text], check=True, capture_output=True)
        return re.sub(r"\([a-z]+\)|[^A-Za-z0-9@]", "", found.stdout.decode())

    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    listed = subprocess.run(["espeak-ng", "--voices"], check=True, capture_output=True).stdout.decode()
    voices = {each.split()[1] for each in listed.splitlines()} | {"zh", "en", "fr"}
    judged = [language for language in MINUS if language in voices]
    assert len(judged) >= 40
    for language in judged:
        voice, locale = {"zh": "cmn", "en": "en-us", "fr": "fr-fr"}.get(language, language), Locale.parse(language)
        above, below = (phonemes(money(f"{sign}1250.50", locale, "SGD"), voice) for sign in ("", "-"))
        assert above != below, language
        bare = [phonemes(str(speak("{{x}}", f"{sign}5", f"{language}-XX")), voice) for sign in ("", "-")]
        assert bare[0] != bare[1], language
        assert phonemes(MINUS[language], voice)[:-2] in below, language
        # Sounds at the ends of words change with the next word.
        hours, at = [phonemes(hour, voice)[:7] for hour in ("14", "2")], phonemes(time_("14:05", locale), voice)
        assert any(hour in at for hour in hours), language
        assert any(phonemes(cents, voice)[:4] in above for cents in ("50", "5")), language


@pytest.mark.parametrize(
    ("language", "cases"),
    [
        ("tr", ["title ALİ IŞIK=Ali Işık", "title ilker=İlker", "upper ışık iş=IŞIK İŞ"]),  # noqa: RUF001
        ("tr", ["lower IĞDIR=ığdır"]),  # noqa: RUF001
        ("az", ["title İLQAR=İlqar", "upper ilqar=İLQAR", "lower QIZ=qız", "capitalize IŞIQ İŞ=Işıq iş"]),  # noqa: RUF001
        ("nl", ["title IJSBRAND ijzer=IJsbrand IJzer", "capitalize ijs IS KOUD=IJs is koud", "title pijn=Pijn"]),
        ("en", ["title O'BRIEN o'neill=O'Brien O'Neill", "title McDonald DiCaprio=McDonald DiCaprio", "upper ab=AB"]),
        ("en", ["title mARIA smith-JONES=Maria Smith-Jones", "title J.R.R. tolkien=J.R.R. Tolkien", "title I'M=I'm"]),
        ("en", ["title İBRAHİM=Ibrahim", "title IJSBRAND=Ijsbrand", "lower TITLE=title", "capitalize ANA B=Ana b"]),
        ("fr", ["title l'oréal D’ANGELO=L'Oréal D’Angelo", "title ÉLODIE=Élodie"]),  # noqa: RUF001
        ("it", ["title DELL'ACQUA=Dell'Acqua", "title sant'elia=Sant'Elia"]),
        ("de", ["upper straße=STRASSE", "title große=Große", "lower STRAẞE=straße"]),
        ("el", ["lower ΝΙΚΟΣ=νικος", "title ΝΙΚΟΣ ΩΣ=Νικος Ως", "capitalize ΟΔΟΣ=Οδος"]),
        ("hr", ["title ǆEMAL=ǅemal"]),
        ("ka", ["title ანა=ანა"]),
        ("", ["title ANA=Ana", "upper ana=ANA", "title i=I"]),
    ],
)
def test_capitals_are_those_of_the_language(language: str, cases: list[str]) -> None:
    for case in cases:
        name, _, rest = case.partition(" ")
        value, _, meant = rest.partition("=")
        assert speak(f"{{{{x|{name}}}}}", value, f"{language}-XX-AnyNeural" if language else None) == meant
        assert speak(f"{{{{x|{name}(language='{language or 'en'}')}}}}", value, None) == meant


def test_the_halves_of_a_day_are_those_of_the_cldr() -> None:
    for language, meant in [
        ("ko-KR", "오후 2:05"),
        ("en-US", "2:05 PM"),
        ("de-DE", "14:05"),
        ("sq", "2:05 e pasdites"),
    ]:
        assert speak("{{x|time}}", "14:05", f"{language}-AnyNeural") == meant
    assert speak("{{x|time}}", "9:05", "ko-KR-AnyNeural") == "오전 9:05"


def test_a_value_that_a_filter_cannot_use_is_reported_with_column_and_filter() -> None:
    for text, value, sentence in [
        ("{{x|date}}", "31/1/2030", "'31/1/2030' is not a date; write it as 2030-01-31 (filter date)"),
        ("{{x|date}}", "2030-02-30", "'2030-02-30' is not a date"),
        (
            "{{x|date('big')}}",
            "2030-01-31",
            "'big' is not a date format; give one of full, long, medium, short (filter date)",
        ),
        ("{{x|date('full', 1)}}", "2030-01-31", "the filter does not take 'full', 1"),
        ("{{x|time}}", "25:00", "'25:00' is not a time of day; write it as 14:05 (filter time)"),
        ("{{x|time}}", "13:00 pm", "is not a time of day"),
        ("{{x|time}}", "25h", "'25:00' is not a time of day"),
        ("{{x|time}}", "14.05", "is not a time of day"),
        ("{{x|money('USD')}}", "1,250", "'1,250' is not an amount; write it as 1250.50, or as SGD 1250.50"),
        ("{{x|money}}", "12", "'12' has no currency; write SGD 12, or name the currency: money('SGD')"),
        ("{{x|money('XQQ')}}", "12", "'XQQ' is not a currency"),
        ("{{x|money('EUR')}}", "1.250", "'1.250' has 3 decimals, but EUR has 2; write the amount without a separator"),
        ("{{x|money('EUR')}}", "1.2500", "has 4 decimals, but EUR has 2"),
        ("{{x|money('SGD')}}", "EUR 1.250", "has 3 decimals, but EUR has 2"),
        (
            "{{x|money('JPY')}}",
            "1.250",
            "has 3 decimals, but JPY has 0; write the amount without a separator, such as 1250",
        ),
        ("{{x|money('JPY')}}", "12.5", "has 1 decimal, but JPY has 0"),
        ("{{x|money('KWD')}}", "1.2500", "has 4 decimals, but KWD has 3"),
        ("{{x|ordinal}}", "1.000", "'1.000' is not a whole number"),
        ("{{x|digits}}", "25.0", "'25.0' ends in .0, which a program has added; write 25 (filter digits)"),
        ("{{x|spell}}", "25.0", "'25.0' ends in .0"),
        ("{{x|ordinal}}", "third", "'third' is not a whole number of at most 9 digits, such as 3 (filter ordinal)"),
        ("{{x|digits}}", "A12", "'A12' contains more than digits; use the filter spell, which also speaks letters"),
        ("{{x|spell}}", "--", "'--' has no letters or digits"),
        ("{{x|date(language='xx')}}", "2030-01-31", "the language of 'xx' is not known"),
        ("{{x|abs}}", "a", "'a' cannot be used with this filter (filter abs)"),
    ]:
        column, message = problem(text, value)
        assert column == "x"
        assert sentence in message


def test_the_row_and_the_column_at_fault_are_named(tmp_path: Path) -> None:
    options = replace(OPTIONS, template=FlowTemplate.speaking("{{ first|date }} to {{ last|date }}, {{ name }}"))
    table = "destination,name,first,last\n+6587654321,Ana,2030-01-31,soon\n+6587654322,Ben,2030-01-31,2030-02-01\n"
    rows = read(file_of(tmp_path, table), options)
    assert told(rows) == [(2, "last", -1009, "'soon' is not a date; write it as 2030-01-31 (filter date)")]
    assert len(calls_of(rows)) == 1


def test_an_empty_cell_is_missing_also_for_a_filter(tmp_path: Path) -> None:
    options = replace(OPTIONS, template=FlowTemplate.speaking("{{ first|date }}, {{ name }}"))
    rows = read(file_of(tmp_path, "destination,name,first\n+6587654321,,\n"), options)
    assert sorted((column or "", message[:12]) for _, column, _, message in told(rows)) == [
        ("first", "is empty, bu"),
        ("name", "is empty, bu"),
    ]
    spare = FlowTemplate.speaking("{{ (first or '2030-01-31')|date }}")
    (request,) = calls_of(
        read(file_of(tmp_path, "destination,first\n+6587654321,\n"), replace(OPTIONS, template=spare))
    )
    assert text_of(request) == "31 January 2030"


def test_each_text_has_the_language_of_its_own_voice() -> None:
    template = FlowTemplate.parse(
        {
            "callflow": [
                {"action": "makeCall"},
                {"action": "say", "params": {"text": "{{x|date}}", "voiceProfile": "de-DE-KatjaNeural"}},
                {"action": "say", "params": {"text": "{{x|date}}", "voiceProfile": "{{ other }}"}},
                {"action": "say", "params": {"text": "{{x|date}}"}},
            ]
        },
        name="",
    )
    values = {"x": "2030-01-31", "other": "fr-FR-DeniseNeural", "voice_profile": "en-US-JennyNeural"}
    texts = [entry["params"]["text"] for entry in filled(template, values)["callflow"][1:]]
    assert texts == ["31. Januar 2030", "31 janvier 2030", "January 31, 2030"]


@pytest.mark.parametrize(
    ("voice", "amount", "spoken"),
    [
        ("en-US-JennyNeural", "1.00 USD", "1 US dollar"),
        ("pl-PL-ZofiaNeural", "2.00 PLN", "2 złote polskie"),
        ("pl-PL-ZofiaNeural", "5.00 PLN", "5 złotych polskich"),
        ("ru-RU-SvetlanaNeural", "1.00 RUB", "1 российский рубль"),
        ("ru-RU-SvetlanaNeural", "2.00 RUB", "2 российских рубля"),
        ("cs-CZ-VlastaNeural", "1.0 CZK", "1 česká koruna"),
    ],
)
def test_a_whole_amount_with_decimals_takes_the_word_of_the_whole_number(voice: str, amount: str, spoken: str) -> None:
    assert speak("{{x|money}}", amount, voice) == spoken


@pytest.mark.slow  # five seconds: babel reads the data of 300 languages
def test_a_whole_amount_is_spoken_alike_with_and_without_decimals_in_every_language() -> None:
    # One locale for each language and script; territories have the plurals of their language.
    names = {locale.language + (locale.script or ""): locale for locale in map(Locale.parse, locale_identifiers())}
    assert len(names) > 250
    differ = [
        (name, amount)
        for name, locale in names.items()
        for amount in ("1", "2", "5", "21")
        if len({money(f"{amount}{decimals} USD", locale) for decimals in ("", ".00")}) != 1
    ]
    assert differ == []


@given(st.times())
def test_a_time_is_spoken_so_that_it_is_understood(moment: time) -> None:
    spoken = str(speak("{{x|time}}", moment.isoformat(timespec="minutes")))
    assert speak("{{x|time(language='de')}}", spoken) == f"{moment:%H:%M}"
