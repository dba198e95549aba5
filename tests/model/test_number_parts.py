"""Numbers whose calling code or area code stands in a column of its own: certain, or refused."""

from __future__ import annotations

import pytest

from voiceflow_worker.errors import PhoneNumberError
from voiceflow_worker.model.numbers.parts import CodeError, joined_number

CERTAIN = [
    ("91234-5678", "55", "11", "+5511912345678"),
    ("91234-5678", "+55", "(011)", "+5511912345678"),
    ("11 91234-5678", "55", "11", "+5511912345678"),
    ("5511912345678", "55", "11.0", "+5511912345678"),
    ("+55 11 91234-5678", "55", "11", "+5511912345678"),
    ("07911 123456", "44", "", "+447911123456"),
    ("7911 123456", "0044", "", "+447911123456"),
    ("416 555 0123", "1", "", "+14165550123"),
    ("555-0123", "1", "212", "+12125550123"),
    ("5550123", "1-876", "", "+18765550123"),
    ("8765550123", "1876", "", "+18765550123"),
    ("9123 4567", "65.0", "", "+6591234567"),
    ("123456", "49", "030", "+4930123456"),
    ("6912345", "39", "06", "+39066912345"),
    ("701 123 4567", "7", "", "+77011234567"),
    ("495 123-45-67", "7", "", "+74951234567"),
    ("1234 5678", "52", "55", "+525512345678"),
    ("412345678", "61", "", "+61412345678"),
]
REFUSED = [
    ("+6591234567", "44", "", "another number than its calling code"),
    ("+551191234567", "55", "21", "another number than"),
    ("21 91234-5678", "55", "11", "BR"),
    ("331 123456", "39", "0", "no area code"),
    ("9123 4567", "7", "", "too short"),
    ("9123 4567", "Singapore", "", "no calling code of a country"),
    ("9123 4567", "999", "", "no calling code of a country"),
    ("9123 4567", "800", "", "no calling code of a country"),
    ("91234-5678", "55", "x1", "no area code"),
    ("91234-5678", "", "11", "does not say its country"),
    ("5550123", "1-876", "212", "another area code"),
    ("nobody", "65", "", "nobody"),
]


@pytest.mark.parametrize(("text", "code", "area", "number"), CERTAIN)
def test_a_number_is_read_behind_its_codes(text: str, code: str, area: str, number: str) -> None:
    assert joined_number(text, calling_code=code, area_code=area, country=None).e164 == number
    assert joined_number(number, calling_code=code, area_code=area, country="SG").e164 == number


@pytest.mark.parametrize(("text", "code", "area", "why"), REFUSED)
def test_what_is_not_certain_is_refused(text: str, code: str, area: str, why: str) -> None:
    with pytest.raises((PhoneNumberError, CodeError)) as refused:
        joined_number(text, calling_code=code, area_code=area, country=None)
    assert why in str(refused.value)


def test_an_area_code_alone_is_one_of_the_country() -> None:
    assert joined_number("91234-5678", calling_code="", area_code="11", country="BR").e164 == "+5511912345678"
