"""The language of a call with a menu, in all texts and in its voice; countries and languages as people write them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from babel import Locale, localedata
from iso3166 import countries

from tests.campaigns.reading import NOW, OPTIONS, file_of, read, told
from voiceflow_worker import CallWindow, Menu
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.files.rows import ColumnRoles
from voiceflow_worker.campaigns.number_file import read_number_file
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import Remedy
from voiceflow_worker.ivr.caller import Caller, Position, Text, in_language
from voiceflow_worker.ivr.menu import End
from voiceflow_worker.ivr.menus import Menus
from voiceflow_worker.model.numbers.reading import read_country
from voiceflow_worker.model.reports.events import CallAction
from voiceflow_worker.model.text import names_of_the_world
from voiceflow_worker.model.text.names_of_the_world import country_called

VOICES = {"en": "en-GB-RyanNeural", "id": "id-ID-GadisNeural"}


def asking(
    prompt: Text | None = None, *, language: str | None = "en", voice: Text | None = None, last: Text | None = None
) -> Menu:
    menu = Menu(
        "ask",
        prompt=prompt or {"en": "Hello {{name}}, press 1.", "id": "Halo {{name}}, tekan 1."},
        voice_profile=voice or VOICES,
        language=language,
    )
    menu.on("1", goto=End(last or {"en": "Goodbye {{name}}.", "id": "Sampai jumpa {{name}}."}))
    return menu


def options(menu: Menu) -> CampaignOptions:
    return replace(OPTIONS, template=None, voice_profile=None, menu=menu)


def people(folder: Path, *languages: str, column: str = "language") -> Path:
    rows = [f"+658765432{place},Ana,{language}\n" for place, language in enumerate(languages)]
    return file_of(folder, f"destination,name,{column}\n{''.join(rows)}")


def asked(rows: Sequence[ReadRow]) -> list[tuple[str, str]]:
    params = [json.loads(row.call.body)["callflow"][1]["params"] for row in rows if row.call is not None]
    return [(each["promptMessage"], each["voiceProfile"]) for each in params]


ENGLISH, BAHASA = ("Hello Ana, press 1.", VOICES["en"]), ("Halo Ana, tekan 1.", VOICES["id"])


@pytest.mark.parametrize("column", ["language", "Language", "Sprache"])
@pytest.mark.anyio
async def test_each_row_is_spoken_to_in_its_language(tmp_path: Path, column: str) -> None:
    menu = asking()
    named = replace(options(menu), columns={"language": "sprache"} if column == "Sprache" else {})
    rows = read(people(tmp_path, "Indonesian", "", "ID", "en-GB", column=column), named)
    assert told(rows) == []
    assert asked(rows) == [BAHASA, ENGLISH, BAHASA, ENGLISH]
    menus, said = Menus(menu), [BAHASA[1], ENGLISH[1], BAHASA[1], ENGLISH[1]]
    for row, voice in zip(rows, said, strict=True):
        assert row.call is not None
        event = CallAction(dtmf="1", client_action_id=Position(path=("ask",)).write())
        answer = await menus.answer(menus.plan(event, Caller(now=NOW, data=row.call.data or {})))
        spoken = answer.flow.to_body()["callflow"][0]["params"]
        assert (spoken["voiceProfile"], "Sampai" in spoken["text"]) == (voice, voice == VOICES["id"])


def test_a_menu_in_several_languages_asks_for_their_column(tmp_path: Path) -> None:
    def warned(menu: Menu, column: str, **columns: str) -> list[bool]:
        named = replace(options(menu), columns=columns)
        opened = open_campaign(people(tmp_path, "id", column=column), named, now=NOW)
        return [Remedy.NAME_LANGUAGES in found.message for found in opened.findings]

    one_language = asking("Hello.", voice="en-GB-RyanNeural", last="Bye.")
    assert warned(asking(), "Sprache") == [True]
    assert warned(asking(), "language") == warned(asking(), "Sprache", language="Sprache") == []
    assert warned(one_language, "Sprache") == []
    wrong = read(people(tmp_path, "fr", column="Sprache"), replace(options(asking()), columns={"language": "sprache"}))
    assert [(row, column) for row, column, _, _ in told(wrong)] == [(2, "Sprache")]
    both = file_of(tmp_path, "destination,name,language,Sprache\n+6587654321,Ana,en,id\n")
    with pytest.raises(CampaignFileError, match="a column language beside 'Sprache'; rename one"):
        read(both, replace(options(asking()), columns={"language": "Sprache"}))


def test_a_text_without_questions_has_one_voice_whatever_column_is_chosen_for_the_language(tmp_path: Path) -> None:
    def warned(column: str, chosen: str | None) -> list[str | None]:
        options = replace(OPTIONS, columns={} if chosen is None else {"language": chosen})
        opened = open_campaign(people(tmp_path, "fr", column=column), options, now=NOW)
        return [found.column for found in opened.findings if "in one voice" in found.message]

    assert warned("Sprache", "sprache") == ["sprache"]
    assert warned("language", "language") == ["language"]
    assert warned("Sprache", None) == []
    assert warned("Sprache,voice_profile", "Sprache") == [], "each row has its voice"


@pytest.mark.parametrize(
    ("menu", "why"),
    [
        (asking(), "there is no text for the language 'fr', only for en, id; add it"),
        (asking({"en": "A {{name}}", "id": "B", "fr": "C"}), "no text for the language 'fr'"),
        (asking({"en": "A", "id": "B", "fr": "C"}, last="Bye."), "ask voice_profile: there is no text"),
        (asking("Hello.", voice="en-GB-RyanNeural", last="Bye."), "no text for the language 'fr', only for en"),
    ],
    ids=["prompt", "a later text", "voice", "one language"],
)
def test_a_language_that_the_menu_lacks_makes_the_row_bad(tmp_path: Path, menu: Menu, why: str) -> None:
    rows = read(people(tmp_path, "fr", "en"), options(menu))
    ((row, column, _, message),) = told(rows)
    assert (row, column, [each.call is None for each in rows]) == (2, "language", [True, False])
    assert message.startswith("cannot be the language of this call: ")
    assert why in message


@pytest.mark.parametrize("language", [5, 1.5])
def test_a_number_is_no_language_that_the_menu_has(language: float) -> None:
    row = {"destination": "+6587654321", "name": "Ana", "language": language}
    rows = open_campaign([row], replace(options(asking()), batch_id="b"), now=NOW)
    ((_, column, _, message),) = told(rows)
    assert column == "language"
    assert "there is no text for the language" in message


def test_values_are_needed_by_the_texts_of_the_row_s_language_alone(tmp_path: Path) -> None:
    menu = asking(last={"en": "Bye {{name}}.", "id": "Sampai {{hari}}."})
    rows = read(
        file_of(tmp_path, "destination,name,language,hari\n+6587654321,Ana,en,\n+6587654322,Ana,id,\n"), options(menu)
    )
    assert [(row, column) for row, column, _, _ in told(rows)] == [(3, "hari")]


def test_where_no_text_has_a_language_the_column_is_only_a_value(tmp_path: Path) -> None:
    menu = asking("Hello {{name}}, {{language}}.", voice="en-GB-RyanNeural", last="Bye.", language=None)
    assert asked(read(people(tmp_path, "Tamil"), options(menu))) == [("Hello Ana, Tamil.", "en-GB-RyanNeural")]


def test_a_call_from_python_speaks_the_language_of_its_data() -> None:
    flow = asking().call("+6587654321", source="+6531234567", data={"name": "Ana", "language": "id"})
    assert flow.to_body()["callflow"][1]["params"]["promptMessage"] == BAHASA[0]
    with pytest.raises(InvalidInputError, match="no text for the language 'fr'"):
        asking().call("+6587654321", source="+6531234567", data={"name": "Ana", "language": "fr"})


def test_a_menu_that_changes_the_language_goes_before_the_row() -> None:
    first, bahasa = asking(), Menu("bahasa", prompt={"id": "Tekan 1."}, language="id")
    first.on("2", goto=bahasa)
    bahasa.on("1", goto="Selesai.")
    menus = Menus(first)
    plan = menus.plan(
        CallAction(dtmf="1", client_action_id=Position(path=("ask", "bahasa")).write()),
        Caller(now=NOW, data={"name": "Ana", "language": "en"}),
    )
    assert plan.caller.language == "id"


# -- countries and languages under the names that people write, in every language that babel has -----------------------

OFTEN = ("de", "fr", "es", "it", "nl", "pt", "pl", "id", "zh", "zh_Hant", "ja", "th", "tr", "ru", "ar", "sv", "pt_PT")
EVERY_DAY = ("DE", "FR", "AT", "CH", "SG", "MY", "ID", "PH", "GB", "US", "JP", "BR")


@pytest.mark.parametrize("locale", OFTEN)
def test_a_country_and_a_language_are_read_by_their_names(locale: str) -> None:
    names = Locale.parse(locale)
    for code in EVERY_DAY:
        for written in (names.territories[code], names.territories[code].upper(), f" {names.territories[code]} "):
            assert read_country(written) == code
    known = {"de": "D", "en": "E", "fr": "F", "id": "I", "zh": "Z"}
    for code, text in known.items():
        assert in_language(known, names.languages[code]) == in_language(known, names.languages[code].upper()) == text


def test_accents_codes_of_three_letters_and_calling_codes_are_read() -> None:
    for written, code in (
        ("Osterreich", "AT"), ("ESPANA", "ES"), ("Cote d'Ivoire", "CI"), ("DEU", "DE"), ("usa", "US"), ("UK", "GB"),
        ("+49", "DE"), ("Hong Kong", "HK"), ("hongkong", "HK"), ("international", "international"),
    ):  # fmt: skip
        assert read_country(written) == code
    for written in ("Kongo", "Mars", "XX", "Europe", "EU", "k.A."):
        with pytest.raises(InvalidInputError, match="give two letters"):
            read_country(written)
    assert in_language({"fr": 1, "de": 2}, "Francais") == in_language({"fr": 1, "de": 2}, "fra") == 1


@pytest.mark.slow
def test_no_name_of_babel_means_two_countries_but_those_that_are_refused() -> None:
    """Every name of every locale is read as its country; the names are asked for in an order, and the first counts."""
    meant: dict[str, set[str]] = {}
    for locale in localedata.locale_identifiers():
        for name, code in names_of_the_world.names_in(locale).territories.items():
            meant.setdefault(name, set()).add(code)
    unclear = {name for name, codes in meant.items() if len(codes) > 1}
    assert unclear == names_of_the_world.UNCLEAR
    wrong = [name for name, codes in meant.items() if name not in unclear and {country_called(name)} != codes]
    assert wrong == ["nga"], "which is Nigeria as a code"


def test_a_file_of_people_who_write_german_or_french_is_read(tmp_path: Path) -> None:
    content = (
        "destination,name,Land,Sprache\n"
        "030 123456,Ana,Deutschland,Englisch\n"
        "01 42 68 53 00,Ben,Frankreich,anglais\n"
        "01 42 68 53 00,Cleo,France,Indonésien\n"
        "01 2345678,Dan,Österreich,英语\n"
        "8765 4321,Eve,Singapur,INDONESISCH\n"
    )
    named = replace(options(asking()), columns={"country": "Land", "language": "Sprache"})
    rows = read(file_of(tmp_path, content), named)
    assert told(rows) == []
    assert [row.number for row in rows] == ["+4930123456", "+33142685300", "+33142685300", "+4312345678", "+6587654321"]
    found = read_number_file(file_of(tmp_path, content), roles=ColumnRoles(country="Land"))
    assert set(found.numbers) == {row.number for row in rows}


@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize("source", ["+6531234567", "SG=+6531234567,DE=+4930123456"])
def test_a_cell_that_is_wrong_is_one_finding(tmp_path: Path, source: str, windowed: bool) -> None:
    window = CallWindow.parse("09:00-20:00") if windowed else None
    named = replace(
        OPTIONS, columns={"country": "Land", "destination": ["destination", "phone"]}, source=source, window=window
    )
    content = (
        "destination,name,Land,phone\n"
        "030 123456,Ana,Mars,\n"
        "030 123456,Ben,Mars,030 123457\n"
        ",Cleo,Mars,030 123457\n"
        "030 123456,Dan,Deutschland,\n"
    )
    rows = list(open_campaign(file_of(tmp_path, content), named, now=NOW))
    assert [(row, column) for row, column, *_ in told(rows)] == [(2, "Land"), (3, "Land"), (4, "Land")]
    assert rows[-1].number == "+4930123456"


def test_a_country_is_read_as_iso_3166_and_the_cldr_write_it() -> None:
    for country in countries:
        if country.name != "Congo":
            assert country_called(country.name) == country.alpha2
            assert country_called(f" {country.name.upper()} ") == country.alpha2
    for name, code in {
        "UAE": "AE", "U.K.": "GB", "The Netherlands": "NL", "Republic of Korea": "KR", "Deutschland": "DE",
        "Iran (Islamic Republic of)": "IR", "United States of America": "US", "Etats-Unis": "US", "Russland": "RU",
    }.items():  # fmt: skip
        assert country_called(name) == code
    assert country_called("Korea") is None
