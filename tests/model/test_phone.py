"""Telephone numbers: the strict form, the numbering plans' doubts, and what people write."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceflow_worker.errors import InvalidInputError, PhoneNumberError
from voiceflow_worker.model.numbers.phone import (
    ParsedNumber,
    country_of,
    normalise,
    parse_number,
    warnings_for,
)

FULL_WIDTH = "".join(chr(ord(character) + 0xFEE0) for character in "+6587654321")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no digits"),
        ("123456", "too few"),
        ("0123456789", "begins with 0"),
        ("+65 8765 4321", "no spaces"),
        ("+65-8765-4321", "no spaces, dashes"),
        ("6587654321\n", "only digits"),
        ("tel:+6587654321", "letters"),
        (FULL_WIDTH, "only digits"),
    ],
)
def test_any_other_form_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(PhoneNumberError, match=reason) as caught:
        normalise(text)
    assert caught.value.code == -1017


@pytest.mark.parametrize("text", ["+6587654321,+6587654322", "6587654321 6587654322", "6587654321 or 6587654322"])
def test_several_numbers_have_their_own_code(text: str) -> None:
    with pytest.raises(PhoneNumberError, match="several numbers") as caught:
        normalise(text)
    assert caught.value.code == -1011


@pytest.mark.parametrize(
    ("number", "doubt"),
    [
        ("6512345678", "not assigned in the numbering plan of SG"),
        ("+658765432", "too short for the numbering plan of SG"),
        ("+1202555014399", "too long for the numbering plan of US"),
        ("+9991234567", "does not begin with a country code in use"),
        ("+19002345678", "premium-rate number in US"),
        ("+4402079460958", "+442079460958 in E.164 form"),
    ],
)
def test_the_numbering_plans_have_their_doubts(number: str, doubt: str) -> None:
    (warning,) = warnings_for(number)
    assert doubt in warning


@pytest.mark.parametrize(
    "number", ["+6587654321", "6587654321", "+442079460958", "+12025550143", "+39061234567", "junk"]
)
def test_a_number_that_the_plans_know_has_no_warnings_nor_has_what_is_not_a_number(number: str) -> None:
    assert warnings_for(number) == ()


@pytest.mark.parametrize(
    ("number", "country"),
    [
        ("+6587654321", "SG"),
        ("6512345678", "SG"),
        ("+442079460958", "GB"),
        ("+12025550143", "US"),
        ("+80012345678", None),
        ("+9991234567", None),
        ("junk", None),
    ],
)
def test_the_country_is_known_by_the_number(number: str, country: str | None) -> None:
    assert country_of(number) == country


@pytest.mark.parametrize(
    ("text", "country", "e164"),
    [
        ("+6587654321", None, "+6587654321"),
        ("+65-8765-4321", "PH", "+6587654321"),
        ("  (65) 8765 4321 ", None, "+6587654321"),
        ("0065 8765 4321", "SG", "+6587654321"),
        ("011 65 8765 4321", "US", "+6587654321"),
        ("8765 4321", "SG", "+6587654321"),
        ("6587654321", "SG", "+6587654321"),
        ("020 7946 0958", "GB", "+442079460958"),
        ("+44 (0)20 7946 0958", None, "+442079460958"),
        ("030/1234567", "DE", "+49301234567"),
        ("06 1234567", "IT", "+39061234567"),
        ("'+6587654321", None, "+6587654321"),
        ("\u202a+65\u00a08765\u20114321\u202c", None, "+6587654321"),
        (FULL_WIDTH, None, "+6587654321"),
        ("٦٥٨٧٦٥٤٣٢١", None, "+6587654321"),
    ],
)
def test_what_people_write_is_read(text: str, country: str | None, e164: str) -> None:
    assert parse_number(text, country=country).e164 == e164


@pytest.mark.parametrize(
    ("text", "country", "code", "reason"),
    [
        ("", None, -1017, "is empty"),
        ("n/a", None, -1017, "letters"),
        ("6.59E+09", None, -1017, "damaged by a spreadsheet"),
        ("-6587654321", None, -1017, "'-'"),
        ("+6587654321, +6587654322", None, -1011, "several numbers"),
        ("87654321 / 87654322", "SG", -1011, "several numbers"),
        ("087654321", None, -1017, "name its country"),
        ("12345", None, -1017, "too few"),
        ("+65 1234 5678 9012 3456", None, -1017, "too many"),
        ("123", "SG", -1017, "it has the wrong length"),
    ],
)
def test_what_is_not_one_number_is_refused_with_the_reason(
    text: str, country: str | None, code: int, reason: str
) -> None:
    with pytest.raises(PhoneNumberError, match=reason) as caught:
        parse_number(text, country=country)
    assert caught.value.code == code


def test_a_decimal_is_read_and_doubted() -> None:
    number = parse_number("6587654321.0")
    assert number.e164 == "+6587654321"
    assert "decimal" in number.warnings[0]


def test_a_number_that_could_belong_to_two_countries_is_read_as_national_and_doubted() -> None:
    number = parse_number("6587654321", country="US")
    assert number.e164 == "+16587654321"
    assert any("+6587654321" in warning for warning in number.warnings)


@pytest.mark.parametrize("country", ["", "XX", "65", "Singapore"])
def test_a_country_that_does_not_exist_is_refused(country: str) -> None:
    with pytest.raises(InvalidInputError, match="two letters"):
        parse_number("+6587654321", country=country)


@settings(deadline=None)
@given(
    text=st.text() | st.from_regex(r"[+0-9 ().\-/e,]{0,25}", fullmatch=True),
    country=st.sampled_from([None, "SG", "US"]),
)
def test_any_text_is_one_number_or_refused(text: str, country: str | None) -> None:
    code = None
    try:
        number: ParsedNumber | None = parse_number(text, country=country)
    except PhoneNumberError as error:
        number = None
        code = error.code
    if number is None:
        assert code in {-1011, -1017}
    else:
        assert normalise(number.e164) == number.e164
