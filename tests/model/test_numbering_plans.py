"""The patterns of numbering plans say what phonenumbers says, or leave the number to it."""

from __future__ import annotations

import re
from functools import cache

import phonenumbers
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceflow_worker.model.numbers.phone import country_of, is_e164
from voiceflow_worker.model.numbers.plans import country_named, dialled_alike, numbers_abroad, planned

REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)
KINDS = range(11)
UNUSUAL = {
    phonenumbers.PhoneNumberType.PREMIUM_RATE,
    phonenumbers.PhoneNumberType.SHARED_COST,
    phonenumbers.PhoneNumberType.PAGER,
    phonenumbers.PhoneNumberType.VOICEMAIL,
    phonenumbers.PhoneNumberType.TOLL_FREE,
    phonenumbers.PhoneNumberType.PERSONAL_NUMBER,
    phonenumbers.PhoneNumberType.UAN,
}
ENDED = re.compile(r"\+(?:82(?=1[16-9]\d{7,8}$)|241(?=0|[2-7]\d{6}$))")
"""Numbers that ended in Korea in 2021 and in Gabon in 2024, and that phonenumbers still has."""


@cache
def examples() -> list[tuple[str, str]]:
    """Regions with the numbers that phonenumbers has as examples of them."""
    return [
        (region, phonenumbers.national_significant_number(example))
        for region in REGIONS
        for kind in KINDS
        if (example := phonenumbers.example_number_for_type(region, kind)) is not None
    ]


@st.composite
def national_numbers(draw: st.DrawFn) -> tuple[str, str]:
    """A region, and an example of its numbers with some digits changed, one more, or one fewer."""
    region, digits = draw(st.sampled_from(examples()))
    changed = list(digits)
    for place in draw(st.lists(st.integers(0, len(digits) - 1), max_size=3)):
        changed[place] = draw(st.sampled_from("0123456789"))
    changed = changed[: len(changed) - draw(st.sampled_from([0, 0, 0, 1]))]
    return region, "".join(changed) + draw(st.sampled_from(["", "", "", "7"]))


@given(national_numbers())
@settings(max_examples=2 * settings().max_examples)
def test_a_plan_says_of_a_number_what_phonenumbers_says(written: tuple[str, str]) -> None:
    region, national = written
    e164 = f"+{phonenumbers.country_code_for_region(region)}{national}"
    if (known := planned(e164)) is None:
        return
    if ENDED.match(e164):
        assert not known.is_assigned
        return
    number = phonenumbers.parse(e164)
    assert phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164) == e164
    assert known.is_assigned == phonenumbers.is_valid_number(number)
    if known.is_assigned:
        assert known.region == phonenumbers.region_code_for_number(number)
        assert phonenumbers.number_type(number) not in UNUSUAL
    else:
        possible = phonenumbers.is_possible_number_with_reason(number)
        assert possible is phonenumbers.ValidationResult.IS_POSSIBLE


@given(national_numbers())
@settings(max_examples=2 * settings().max_examples)
def test_the_country_of_any_number_is_the_one_of_phonenumbers(written: tuple[str, str]) -> None:
    region, national = written
    code = phonenumbers.country_code_for_region(region)
    e164 = f"+{code}{national}"
    own = phonenumbers.region_code_for_number(phonenumbers.parse(e164)) if is_e164(e164) else None
    known = own or (phonenumbers.region_code_for_country_code(code) if is_e164(e164) else None)
    assert country_of(e164) == known


@given(national_numbers(), st.booleans())
@settings(max_examples=2 * settings().max_examples)
def test_a_country_has_the_numbers_that_phonenumbers_finds(written: tuple[str, str], with_prefix: bool) -> None:
    region, national = written
    country = country_named(region)
    prefix = phonenumbers.ndd_prefix_for_region(region, strip_non_digits=True) if with_prefix else None
    found = country.numbers((prefix or "") + national)
    for digits in found:
        number = phonenumbers.parse(f"+{country.code}{digits}")
        assert any(phonenumbers.is_valid_number_for_region(number, each) for each in dialled_alike(region))
        assert phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164) == f"+{country.code}{digits}"
        assert country.is_ordinary(digits) == (phonenumbers.number_type(number) not in UNUSUAL)
    own = phonenumbers.PhoneNumber(country_code=int(country.code), national_number=int(national))
    own.italian_leading_zero = national.startswith("0")
    own.number_of_leading_zeros = len(national) - len(national.lstrip("0"))
    if phonenumbers.is_valid_number_for_region(own, region):
        assert (national in found) != bool(ENDED.match(f"+{country.code}{national}"))


@given(national_numbers())
@settings(max_examples=2 * settings().max_examples)
def test_a_number_abroad_is_valid_as_phonenumbers_says(written: tuple[str, str]) -> None:
    region, national = written
    digits = f"{phonenumbers.country_code_for_region(region)}{national}"
    found = numbers_abroad(digits)
    assert found is not None
    number = phonenumbers.parse("+" + digits)
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    read = {f"+{found.code}{each}": region for each, region in (*found.plain, *found.dialled)}
    assert (e164 in read) == (phonenumbers.is_valid_number(number) and not ENDED.match(e164))
    for each, itself in read.items():
        assert itself == phonenumbers.region_code_for_number(phonenumbers.parse(each))
