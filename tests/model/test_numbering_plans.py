"""The patterns of numbering plans say what phonenumbers says, or leave the number to it."""

from __future__ import annotations

import phonenumbers
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceflow_worker.model.numbers.phone import country_of, is_e164
from voiceflow_worker.model.numbers.plans import ordinary_within, planned

REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)
KINDS = range(11)
UNUSUAL = {
    phonenumbers.PhoneNumberType.PREMIUM_RATE,
    phonenumbers.PhoneNumberType.SHARED_COST,
    phonenumbers.PhoneNumberType.PAGER,
    phonenumbers.PhoneNumberType.VOICEMAIL,
}
EXAMPLES = [
    (region, phonenumbers.national_significant_number(example))
    for region in REGIONS
    for kind in KINDS
    if (example := phonenumbers.example_number_for_type(region, kind)) is not None
]


@st.composite
def national_numbers(draw: st.DrawFn) -> tuple[str, str]:
    """A region, and an example of its numbers with some digits changed, one more, or one fewer."""
    region, digits = draw(st.sampled_from(EXAMPLES))
    changed = list(digits)
    for place in draw(st.lists(st.integers(0, len(digits) - 1), max_size=3)):
        changed[place] = draw(st.sampled_from("0123456789"))
    changed = changed[: len(changed) - draw(st.sampled_from([0, 0, 0, 1]))]
    return region, "".join(changed) + draw(st.sampled_from(["", "", "", "7"]))


@given(national_numbers())
@settings(max_examples=400)
def test_a_plan_says_of_a_number_what_phonenumbers_says(written: tuple[str, str]) -> None:
    region, national = written
    e164 = f"+{phonenumbers.country_code_for_region(region)}{national}"
    if (known := planned(e164)) is None:
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
@settings(max_examples=400)
def test_the_country_of_any_number_is_the_one_of_phonenumbers(written: tuple[str, str]) -> None:
    region, national = written
    code = phonenumbers.country_code_for_region(region)
    e164 = f"+{code}{national}"
    own = phonenumbers.region_code_for_number(phonenumbers.parse(e164)) if is_e164(e164) else None
    known = own or (phonenumbers.region_code_for_country_code(code) if is_e164(e164) else None)
    assert country_of(e164) == known


@given(national_numbers())
@settings(max_examples=400)
def test_a_national_number_is_read_as_phonenumbers_reads_it(written: tuple[str, str]) -> None:
    region, national = written
    if (e164 := ordinary_within(national, region)) is None:
        return
    number = phonenumbers.parse(national, region)
    assert phonenumbers.is_valid_number(number)
    assert phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164) == e164
