"""Readers of telephone numbers, and of numbers to call from: E.164, or national in a given country, else refused."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Final, TypeVar, cast

from voiceflow_worker.errors import InvalidInputError, PhoneNumberError
from voiceflow_worker.model.numbers.phone import (
    FEWEST_DIGITS,
    INVALID_NUMBER,
    MANY_NUMBERS,
    MOST_DIGITS,
    canonical_number,
    country_of,
    dialled_alike,
    holds_several,
    is_valid,
    library,
    planned,
)

INTERNATIONAL: Final = "international"
"""The `country` of digits that begin with their country code, without a +."""

_NO_COUNTRY = "Set `country` (such as SG), or write it as +6587654321."
_NUMBER = re.compile(r"\(?\+?[0-9(][0-9 ().\-/]*")
_NO_NUMBER = re.compile(
    r"\d{4}([-/.])\d\d?\1\d\d?|\d\d?([-/.])\d\d?\2\d{4}"  # a date: 31.12.2030
    r"|\+?\d{7,}\.\d{1,2}"  # a decimal: 6587654321.0
    r"|.*\.\..*"  # digits that were left out: 030 123...456
    r"|(?:\D*\d){7,}\D*/.*|.*/(?:\D*\d){0,2}\D*|.*\)"  # a second number or an extension: 030 123456/78, 030 123456 (7)
)
_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d"), "-")
_NO_DIGIT = re.compile(r"\D+")
_NO_BRACKETS = {ord("("): None, ord(")"): None}
_SHORT_NAMES = {
    "UK": "GB", "UNITED KINGDOM": "GB", "GREAT BRITAIN": "GB", "UNITED STATES": "US", "UAE": "AE", "BRUNEI": "BN",
    "BOLIVIA": "BO", "CZECH REPUBLIC": "CZ", "IRAN": "IR", "LAOS": "LA", "MACAU": "MO", "MOLDOVA": "MD", "RUSSIA": "RU",
    "SOUTH KOREA": "KR", "SYRIA": "SY", "TANZANIA": "TZ", "TURKEY": "TR", "VENEZUELA": "VE", "VIETNAM": "VN",
}  # fmt: skip
"""Usual names of countries whose ISO 3166 name is longer or another."""
_LONGEST_RUN = MOST_DIGITS + 3
"""The most characters of a + or 00, and a number."""


def read_number(text: str, country: str | None = None) -> str:
    """Read one telephone number; return its E.164 form, with its +.

    Digits behind a + are taken at their word if their country has numbers of this length. All other digits are a number
    of the `country` (ISO 3166, such as SG, or a name), or behind 00 a number abroad; it must be valid in a numbering
    plan, and have one reading alone. With the country `international`, digits begin with a country code.

    Raises PhoneNumberError with the reason and the code of 8x8, and InvalidInputError for an unknown country.
    """
    home = None if country is None else _home(country)
    written = _plain(text)
    shown = repr(text.strip()[:40])
    if not _NUMBER.fullmatch(written) or _NO_NUMBER.fullmatch(written):
        code = MANY_NUMBERS if holds_several(written) else INVALID_NUMBER
        raise PhoneNumberError(f"{shown} is not one phone number. Write it as +6587654321.", code=code)
    digits = _NO_DIGIT.sub("", written)
    is_whole = written.startswith(("+", "(+"))
    if is_whole:
        # A 0 in brackets is dialled within most countries only, and within some it belongs to the number.
        found = _valid(digits) if "(0)" in written.replace(" ", "") else _possible(digits)
    elif home is None:
        raise PhoneNumberError(f"{shown} has no country code. {_NO_COUNTRY}", kind="no_country")
    elif home == INTERNATIONAL:
        found = _valid(digits)
    elif digits.startswith("00"):
        is_abroad = written.startswith("00") and _is_left_by_00(home) and not _national(digits[1:], home)
        found = _valid(digits[2:]) if is_abroad else set[str]()
    else:
        found = _national(digits, home)
    if not found:
        where = "any numbering plan" if home is None or home == INTERNATIONAL or is_whole else home
        raise PhoneNumberError(f"{shown} is no number of {where}. Correct it, or write it as +6587654321.")
    if len(found) > 1:
        readings = " or ".join(sorted(found))
        raise PhoneNumberError(f"{shown} could be {readings}. Write the one that is meant.")
    return found.pop()


def possible_numbers(text: str, country: str | None = None) -> Sequence[str]:
    """Return every number that a text may hold, for a list of numbers not to call.

    If `read_number` refuses the text, these are the numbers that any neighbouring groups of digits are: those that a
    plan has, or if there are none, those of a possible length. Raises InvalidInputError for an unknown country.
    """
    with suppress(PhoneNumberError):
        return [read_number(text, country)]
    found = dict[str, None]()
    home = None if country is None else _home(country)
    groups = re.findall(r"\+?\d+", _plain(text).translate(_NO_BRACKETS))
    runs = [run for first in range(len(groups)) for run in accumulate(groups[first : first + MOST_DIGITS])]
    runs = [run for run in runs if FEWEST_DIGITS <= len(run) <= _LONGEST_RUN and "+" not in run[1:]]
    for is_good in (_valid, _possible):
        for run in runs if not found or is_good is _valid else ():
            found |= dict.fromkeys(number for each in _digits_meant(run, home) for number in is_good(each))
    return [*found]


def _digits_meant(run: str, home: str | None) -> Sequence[str]:
    """Return the digits of all numbers that a run may be, each with its country code: +49…, 0049…, 0151…, 9 0151…."""
    digits = run.removeprefix("+")
    if run != digits:
        return [digits]
    abroad = [digits[2:]] if digits.startswith("00") else []
    if home is None:
        return abroad
    if home == INTERNATIONAL:
        return [*abroad, digits, digits[1:]]
    code = str(library().country_code_for_region(home))
    return [*abroad, digits, f"{code}{digits}", f"{code}{digits[1:]}"]


def _plain(text: str) -> str:
    """Return the text with digits, dashes and spaces in ASCII, and without invisible characters."""
    if text.isascii():
        return text.strip().removeprefix("'").strip()
    usual = "".join(
        each if each.isnumeric() and not each.isdecimal() else unicodedata.normalize("NFKC", each) for each in text
    )
    visible = (each for each in usual if unicodedata.category(each) != "Cf")
    ascii_digits = "".join(str(unicodedata.decimal(each)) if each.isdecimal() else each for each in visible)
    # In a spreadsheet, a leading apostrophe marks a cell as text; some exports keep it.
    return ascii_digits.translate(_DASHES).strip().removeprefix("'").strip()


def _valid(digits: str) -> set[str]:
    """Return the number that these digits are behind a +, if a numbering plan has it."""
    number = canonical_number(f"+{digits}")
    return {number} if is_valid(number) else set[str]()


def _possible(digits: str) -> set[str]:
    """Return the number that these digits are behind a +, if its country has numbers of this length."""
    number = canonical_number(f"+{digits}")
    plans, parsed = library(), planned(number).parsed
    is_long = (
        parsed.country_code is not None
        and plans.is_possible_number_with_reason(parsed) == plans.ValidationResult.IS_POSSIBLE
    )
    return {number} if is_valid(number) or is_long else set[str]()


def _national(digits: str, home: str) -> set[str]:
    """Return the numbers of a country that these digits are, as they are dialled there or behind its country code."""
    plans = library()
    code = str(plans.country_code_for_region(home))
    found = _valid(f"{code}{digits}") | (_valid(digits) if digits.startswith(code) else set[str]())
    names = dialled_alike(home)
    return {
        each
        for each in found
        if country_of(each) in names
        or any(plans.is_valid_number_for_region(planned(each).parsed, name) for name in names)
    }


@lru_cache(maxsize=256)
def _is_left_by_00(home: str) -> bool:
    """Return whether 00 is a code for calls abroad in a country."""
    from phonenumbers import PhoneMetadata

    plan = PhoneMetadata.metadata_for_region(home)
    return plan is not None and re.fullmatch(plan.international_prefix or "", "00") is not None


@lru_cache(maxsize=256)
def _home(country: str) -> str:
    return read_country(country)


def read_country(text: str) -> str:
    """Return the ISO 3166 code of the country that a text names by two or three letters or in English.

    Returns INTERNATIONAL for that word. Raises InvalidInputError.
    """
    from iso3166 import countries

    written = " ".join(text.split()).upper()
    if written == INTERNATIONAL.upper():
        return INTERNATIONAL
    region = _SHORT_NAMES.get(written, written)
    if len(region) != 2 and not region.isdecimal() and (found := countries.get(region, None)) is not None:
        region = found.alpha2
    if region not in library().SUPPORTED_REGIONS:
        raise InvalidInputError(
            f"{text!r} is not a country: give two letters (ISO 3166) or an English name, such as SG or Singapore, or "
            f"{INTERNATIONAL} for digits that begin with their country code"
        )
    return region


_LIST = "give numbers separated by commas, such as +6531234567, +6587654321"


def read_numbers(value: object) -> tuple[str, ...]:
    """Return the E.164 forms of the numbers in a list, or in a text with commas. Raises ValueError."""
    parts = value.split(",") if isinstance(value, str) else cast("Sequence[object]", value)
    try:
        return tuple(read_number(str(part)) for part in parts if str(part).strip())
    except PhoneNumberError as error:
        raise ValueError(f"{error}; {_LIST}") from None
    except TypeError:  # neither a text nor a list
        raise ValueError(_LIST) from None


ALL = "*"
"""Means every country that is not named."""


T = TypeVar("T")


def in_table(table: Mapping[str, T], country: str | None) -> T | None:
    """Return the entry of a table by country for a number of this country; None if it has nothing for it.

    A territory that is dialled as in its country (Jersey, the Vatican) is a part of it, unless it is named itself.
    """
    names = () if country is None else (country, dialled_alike(country)[0])
    return next((found for name in (*names, ALL) if (found := table.get(name)) is not None), None)


@dataclass(frozen=True, slots=True)
class Sources:
    """The numbers to call from, by the country (ISO 3166) of the person who is called; `*` is for all others."""

    by_country: Mapping[str, str]

    @property
    def numbers(self) -> tuple[str, ...]:
        """All numbers, each once."""
        return tuple(dict.fromkeys(self.by_country.values()))

    @property
    def only(self) -> str | None:
        """Number for everybody; None if the number depends on the country."""
        return self.by_country[ALL] if len(self.by_country) == 1 and ALL in self.by_country else None

    def to(self, person: str) -> str:
        """Return the number to call this person from. Raises PhoneNumberError if there is none."""
        country = country_of(person)
        found = in_table(self.by_country, country)
        if found is None:
            given, own = ", ".join(self.by_country), f"{country}=… or " if country else ""
            raise PhoneNumberError(
                f"there is no number to call {person} from, which is a number of {country or 'no country'}: there are "
                f"numbers for {given}; add {own}{ALL}=…"
            )
        return found


@lru_cache(maxsize=256)
def read_whole_number(text: str) -> str:
    """Return the E.164 form of a number that has its country code. Raises PhoneNumberError."""
    try:
        return read_number(text)
    except PhoneNumberError as error:
        raise PhoneNumberError(str(error).replace(_NO_COUNTRY, "Write it as +6587654321."), code=error.code) from None


def read_sources(text: str, country: str | None = None) -> Sources:
    """Return the numbers to call from: `+6531234567` for everybody, or `SG=+6531234567,*=+12025550123`.

    Raises PhoneNumberError for a number that is not certain, and InvalidInputError for a country.
    """
    if "=" not in text:
        return Sources({ALL: read_number(text, country)})
    found: dict[str, str] = {}
    for part in text.split(","):
        name, sign, number = (each.strip() for each in part.partition("="))
        if not (sign and name and number):
            raise PhoneNumberError(f"{part.strip()[:40]!r} is no country with its number; write it as SG=+6531234567")
        code = ALL if name == ALL else read_country(name)
        if code in found:
            raise InvalidInputError(f"{code} has two numbers to call from; keep one of them")
        if code == INTERNATIONAL:
            raise InvalidInputError(f"{name} is no country; write {ALL} for all countries that are not named")
        found[code] = read_number(number, country)
    return Sources(found)
