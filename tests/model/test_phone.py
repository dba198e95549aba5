"""Telephone numbers: the strict form, and the numbering plans' doubts."""

from __future__ import annotations

import pytest

from voiceflow_worker.errors import PhoneNumberError
from voiceflow_worker.model.numbers.phone import country_of, normalise, warnings_for

FULL_WIDTH = "".join(chr(ord(character) + 0xFEE0) for character in "+6587654321")


def test_any_other_form_is_refused_with_the_reason() -> None:
    for text, reason in [
        ("", "no digits"),
        ("123456", "too few"),
        ("0123456789", "begins with 0"),
        ("+65 8765 4321", "no spaces"),
        ("+65-8765-4321", "no spaces, dashes"),
        ("6587654321\n", "only digits"),
        ("tel:+6587654321", "letters"),
        (FULL_WIDTH, "only digits"),
    ]:
        with pytest.raises(PhoneNumberError, match=reason) as caught:
            normalise(text)
        assert caught.value.code == -1017


@pytest.mark.parametrize("text", ["+6587654321,+6587654322", "6587654321 6587654322", "6587654321 or 6587654322"])
def test_several_numbers_have_their_own_code(text: str) -> None:
    with pytest.raises(PhoneNumberError, match="several numbers") as caught:
        normalise(text)
    assert caught.value.code == -1011


def test_the_numbering_plans_have_their_doubts() -> None:
    for number, doubt in [
        ("6512345678", "not assigned in the numbering plan of SG"),
        ("+658765432", "too short for the numbering plan of SG"),
        ("+1202555014399", "too long for the numbering plan of US"),
        ("+9991234567", "does not begin with a country code in use"),
        ("+19002345678", "premium-rate number in US"),
        ("+4402079460958", "+442079460958 in E.164 form"),
    ]:
        (warning,) = warnings_for(number)
        assert doubt in warning


def test_a_number_that_the_plans_know_has_no_warnings_nor_has_what_is_not_a_number() -> None:
    for number in ["+6587654321", "6587654321", "+442079460958", "+12025550143", "+39061234567", "junk"]:
        assert warnings_for(number) == ()


def test_the_country_is_known_by_the_number() -> None:
    for number, country in [
        ("+6587654321", "SG"),
        ("6512345678", "SG"),
        ("+442079460958", "GB"),
        ("+12025550143", "US"),
        ("+80012345678", None),
        ("+9991234567", None),
        ("junk", None),
    ]:
        assert country_of(number) == country
