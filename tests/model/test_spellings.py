"""Spellings of one telephone number."""

from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow_worker import telephone_of
from voiceflow_worker.model.numbers.phone import is_e164, spellings, warnings_for
from voiceflow_worker.model.numbers.reading import every_reading, read_number

PAIRS = [
    ("+525512345678", "+5215512345678"),
    ("+541123456789", "+5491123456789"),
    ("+553187654321", "+5531987654321"),  # Brazil before 2016, and since
    ("+841212345678", "+84792345678"),  # Vietnam, 2018
    ("+22507123456", "+2250707123456"),  # Côte d'Ivoire, 2021
    ("+22544123456", "+2250544123456"),
    ("+22541123456", "+2250141123456"),
    ("+22997123456", "+2290197123456"),  # Benin, 2024
]


@pytest.mark.parametrize("pair", PAIRS)
def test_every_spelling_of_a_number_identifies_the_same_telephone(pair: tuple[str, str]) -> None:
    for number in pair:
        assert spellings(number) == (number, next(each for each in pair if each != number))
        assert {telephone_of(each) for each in spellings(number)} == {telephone_of(number)}


@given(st.sampled_from(["+52", "+54", "+55", "+84", "+225", "+229"]), st.from_regex(r"[0-9]{7,11}", fullmatch=True))
def test_spellings_are_the_same_from_whichever_one_begins(code: str, digits: str) -> None:
    number = f"{code}{digits}"
    assert all(set(spellings(each)) == set(spellings(number)) for each in spellings(number))


def test_the_new_numbers_are_those_of_todays_plans_and_the_old_ones_name_them() -> None:
    for old, new in PAIRS[2:]:
        assert phonenumbers.is_valid_number(phonenumbers.parse(new)), new
        assert new in "".join(warnings_for(old)), old


def test_a_number_with_its_country_code_twice_is_told_and_a_list_has_both() -> None:
    for number, inner in {"+494915123456789": "+4915123456789", "+6262812345678": "+62812345678"}.items():
        assert inner in "".join(read_number(number).messages)
        assert [each.e164 for each in every_reading(number)] == [number, inner]
    for region in phonenumbers.SUPPORTED_REGIONS:
        mobile = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
        if mobile is not None:
            e164 = phonenumbers.format_number(mobile, phonenumbers.PhoneNumberFormat.E164)
            assert not any("twice" in each for each in read_number(e164).messages), e164
            doubled = f"+{mobile.country_code}{e164[1:]}"
            if is_e164(doubled):
                found = read_number(doubled)
                assert found.messages or found.e164 == e164, doubled


def test_other_numbers_are_other_telephones() -> None:
    numbers = ["+525512345678", "+525512345679", "+5491123456789", "+6587654321", "+65187654321"]
    assert len({telephone_of(each) for each in numbers}) == len(numbers)


def test_a_number_of_another_plan_has_one_spelling() -> None:
    for number in ["+6587654321", "+52551234567", "+54114321123", "+551132654321", "+22520123456", "+1", ""]:
        assert spellings(number) == (number,)
