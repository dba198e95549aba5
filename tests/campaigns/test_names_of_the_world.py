"""Countries and languages under the names that people write, in every language that babel has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from babel import Locale, localedata
from iso3166 import countries

from tests.campaigns.reading import NOW, OPTIONS, file_of, read, told
from tests.campaigns.test_languages import asking, options
from voiceflow_worker import CallWindow
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.files.rows import ColumnRoles
from voiceflow_worker.campaigns.number_file import read_number_file
from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.ivr.caller import in_language
from voiceflow_worker.model.numbers.reading import read_country
from voiceflow_worker.model.text import names_of_the_world
from voiceflow_worker.model.text.names_of_the_world import country_called

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
