"""Telephone numbers: their strict form, their plans, spellings of one telephone, and numbers to call from."""

from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow_worker import CallFlow
from voiceflow_worker.errors import InvalidInputError, PhoneNumberError
from voiceflow_worker.model.numbers.phone import (
    aliases,
    canonical_number,
    country_of,
    is_valid,
    normalise,
    phone_identity,
)
from voiceflow_worker.model.numbers.reading import possible_numbers, read_number, read_sources

PAIRS = [
    ("+525512345678", "+5215512345678"),
    ("+541123456789", "+5491123456789"),
    ("+553187654321", "+5531987654321"),  # Brazil before 2016, and since
    ("+841212345678", "+84792345678"),  # Vietnam, 2018
    ("+22507123456", "+2250707123456"),  # Côte d'Ivoire, 2021
    ("+22540123456", "+2250140123456"),
    ("+22544123456", "+2250544123456"),
    ("+22541123456", "+2250141123456"),
    ("+22997123456", "+2290197123456"),  # Benin, 2024
    ("+5712281260", "+576012281260"),  # Colombia, 2021
    ("+2307234567", "+23057234567"),  # Mauritius, 2013
    ("+23414630643", "+2342014630643"),  # Nigeria, 2024
    ("+23771234567", "+237671234567"),  # Cameroon, 2014
    ("+82112001234", "+821052001234"),  # Korea, until 2021
    ("+821190001234", "+821090001234"),
    ("+82195001234", "+821055001234"),
]
TWO_CODES = [
    ("+3534890212345", "+442890212345"),  # Northern Ireland, from Ireland
    ("+390549886377", "+3780549886377"),  # San Marino, from Italy
    ("+972591234567", "+970591234567"),  # Palestine, from Israel
    ("+97222412345", "+97022412345"),
    ("+37744123456", "+38344123456"),  # Kosovo until 2019
    ("+38649123456", "+38349123456"),
    ("+38138123456", "+38338123456"),
    ("+5995421234", "+17215421234"),  # Sint Maarten until 2012
]
GABON = ("+24107123456", "+2417123456", "+24177123456")


@pytest.mark.parametrize("pair", PAIRS + TWO_CODES)
def test_every_spelling_of_a_number_identifies_the_same_telephone(pair: tuple[str, str]) -> None:
    for number in pair:
        assert aliases(number) == (number, next(each for each in pair if each != number))
        assert {phone_identity(each) for each in aliases(number)} == {phone_identity(number)}


def test_a_telephone_of_gabon_has_the_numbers_of_three_plans() -> None:
    for number in GABON:
        assert set(aliases(number)) == set(GABON)
        assert phone_identity(number) == phone_identity(GABON[-1])
    for old, new in {"+24101731234": "+24111731234", "+24105123456": "+24165123456"}.items():
        assert new in aliases(old)


CODES = "52 54 55 57 82 84 225 229 230 234 237 241 353 44 39 378 972 970 381 383 377 386 599 1"


@given(st.sampled_from(CODES.split()), st.from_regex(r"[0-9]{7,11}", fullmatch=True))
def test_spellings_are_the_same_from_whichever_one_begins(code: str, digits: str) -> None:
    number = f"+{code}{digits}"
    assert all(set(aliases(each)) == set(aliases(number)) for each in aliases(number))


def test_the_new_numbers_are_those_of_todays_plans_and_the_old_ones_reach_the_same_telephone() -> None:
    for old, new in PAIRS[2:]:
        assert phonenumbers.is_valid_number(phonenumbers.parse(new)), new
        assert read_number(new) == new
        for number in (read_number(old), *possible_numbers(old)):
            assert number in {old, new}


def test_other_numbers_are_other_telephones() -> None:
    numbers = ["+525512345678", "+525512345679", "+5491123456789", "+6587654321", "+65187654321"]
    assert len({phone_identity(each) for each in numbers}) == len(numbers)
    for number in ["+6587654321", "+52551234567", "+54114321123", "+551132654321", "+22520123456", "+1", ""]:
        assert aliases(number) == (number,)


FULL_WIDTH = "".join(chr(ord(character) + 0xFEE0) for character in "+6587654321")
SEVERAL = ("+6587654321,+6587654322", "6587654321 6587654322", "6587654321 or 6587654322")


def test_any_other_form_is_refused_with_the_reason() -> None:
    texts = ("", "123456", "0123456789", "+65 8765 4321", "6587654321\n", "tel:+6587654321", FULL_WIDTH)
    for text, reason in [
        *((text, "no country code and number of 7 to 15 digits") for text in texts),
        *((text, "several numbers") for text in SEVERAL),
    ]:
        with pytest.raises(PhoneNumberError, match=reason) as caught:
            normalise(text)
        assert caught.value.code == (-1011 if text in SEVERAL else -1017)


def test_a_number_is_known_to_its_plan_in_its_usual_form() -> None:
    for number in ("+6587654321", "6587654321", "+12025550143", "+39061234567", "+870773111632", "+18002345678"):
        assert is_valid(number), number
    for number in ("+6512345678", "+658765432", "+1202555014399", "+9991234567", "+4402079460958", "junk", "", "+"):
        assert not is_valid(number), number
    assert canonical_number("+4402079460958") == "+442079460958"
    for number in ("+6512345678", "+9991234567", "junk"):
        assert canonical_number(number) == number


def test_the_country_is_known_by_the_number() -> None:
    numbers = ["+6587654321", "6512345678", "+442079460958", "+12025550143", "+80012345678", "+9991234567", "junk"]
    assert [*map(country_of, numbers)] == ["SG", "SG", "GB", "US", None, None, None]


TABLE = " sg = 6531234567 , MY=+60 3-2123 4567,uk=+44 20 7183 8750,*=+1 202 555 0123"


@pytest.mark.parametrize(
    ("person", "source"),
    [
        ("+6587654321", "+6531234567"),
        ("+60123456789", "+60321234567"),
        ("+447400123456", "+442071838750"),
        ("+441534880000", "+442071838750"),  # Jersey, which is dialled as in the country
        ("+12125550123", "+12025550123"),
        ("+870773111632", "+12025550123"),  # a ship
    ],
)
def test_a_person_is_called_from_the_number_of_their_country(person: str, source: str) -> None:
    sources = read_sources(TABLE, "international")
    assert sources.to(person) == source
    assert CallFlow.call(person, source=TABLE, country="international").source == source
    assert len(sources.numbers) == 4


def test_a_country_without_a_number_is_told_with_the_remedy() -> None:
    with pytest.raises(InvalidInputError, match=r"\+60123456789.*a number of MY.*numbers for SG, ID; add MY=… or \*=…"):
        read_sources("SG=+6531234567,ID=+622112345678").to("+60123456789")
    flow = CallFlow.call("+60123456789", source="SG=+6531234567").hangup()
    assert "there are numbers for SG" in str(flow.problems()[0])
    assert read_sources("*=+6531234567").only == read_sources("+65 3123 4567").only == "+6531234567"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("SG=", "'SG=' is no country with its number"), ("=+6531234567", "is no country with its number"),
        ("SG=+6531234567,+12025550123", "'[+]12025550123' is no country with its number"),
        ("SG=+6531234567,", "'' is no country with its number"),
        ("SG=+6531234567,sg=+6531234568", "SG has two numbers"),
        ("GB=+442071838750,UK=+442071838751", "GB has two numbers"), ("XX=+6531234567", "'XX' is not a country"),
        ("international=+6531234567", r"international is no country; write \*"),
        ("SG=31234567", "has no country code"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        read_sources(text)
