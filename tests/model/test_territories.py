"""A territory that is dialled as in the country is no foreign country; another one of the same calling code is."""

from __future__ import annotations

from itertools import permutations

import phonenumbers
import pytest
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneNumberFormat, PhoneNumberType

from voiceflow_worker.errors import PhoneNumberError
from voiceflow_worker.model.numbers.phone import country_of
from voiceflow_worker.model.numbers.plans import dialled_alike
from voiceflow_worker.model.numbers.reading import read_number, read_sources

KINDS = (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE)
SHARED = {code: names for code, names in COUNTRY_CODE_TO_REGION_CODE.items() if len(names) > 1}
PAIRS = [pair for names in SHARED.values() for pair in permutations(names, 2)]
ALIKE = [(home, other) for home, other in PAIRS if other in dialled_alike(home)]


def examples(region: str) -> list[tuple[str, str]]:
    """Numbers of a region in E.164 form, each as it is dialled within the country."""
    found = [phonenumbers.example_number_for_type(region, kind) for kind in KINDS]
    return [
        (
            phonenumbers.format_number(number, PhoneNumberFormat.E164),
            phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL),
        )
        for number in found
        if number is not None and phonenumbers.region_code_for_number(number) == region
    ]


def test_the_lists_know_all_that_share_a_calling_code() -> None:
    assert {"GB", "IT", "FI", "NO", "AU", "US"} <= {home for home, _ in ALIKE}
    assert all(home in dialled_alike(other) for home, other in ALIKE), "both ways"
    assert all(country_of(f"+{code}") is None for code in SHARED)


def test_a_number_of_the_territory_is_read_in_the_country_as_one_reading() -> None:
    for home, other in ALIKE:
        for e164, national in examples(other):
            for written in (national, national.replace(" ", ""), e164[1:]):
                found = read_number(written, home)
                assert found == e164
                assert found.country_code in {home, other}, "some plans have the same numbers"


def test_another_country_of_the_same_code_stays_refused() -> None:
    refused = 0
    for home, other in PAIRS:
        for e164, national in examples(other):
            if other in dialled_alike(home):
                continue
            try:
                found = read_number(national, home)
            except PhoneNumberError:
                refused += 1
            else:
                assert country_of(found) in dialled_alike(home), (home, other, national)
                assert found != e164
    assert refused > 500
    for written, home in (("(876) 555-1234", "US"), ("(416) 234-5678", "US"), ("8 701 123 4567", "RU")):
        with pytest.raises(PhoneNumberError, match="is one of"):
            read_number(written, home)


def test_a_territory_is_called_from_the_number_of_its_country() -> None:
    sources = read_sources("GB=+442079460958,US=+12025550123")
    assert sources.to("+447797712345") == "+442079460958"
    with pytest.raises(PhoneNumberError, match="number of JM"):
        sources.to("+18765551234")
    assert read_sources("GB=+442079460958,JE=+441534456789").to("+447797712345") == "+441534456789"
