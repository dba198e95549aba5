"""Spellings of one telephone number: the numbers in E.164 form that reach the same telephone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from voiceflow_worker.errors import PhoneNumberError
from voiceflow_worker.model.numbers import phone

# A digit between the country code and the number marks a mobile phone for callers from abroad. It is not a part of the
# number: 9 in Argentina (ENACOM numbering plan), and 1 in Mexico until 2019 (IFT). Old Mexican address books still have
# it, and networks accept both forms. Numbers of both plans have 10 digits, and do not begin with that digit.
_MOBILE_DIGITS = {"+52": "1", "+54": "9"}
_NATIONAL_DIGITS = 10
_REMEDY = "give numbers separated by commas, such as +6531234567, +6587654321"


def spellings(e164: str) -> tuple[str, ...]:
    """Every number in E.164 form that reaches the same telephone, the given number first.

    Nearly every number has one spelling. Requests, listings and unique keys keep the spelling that was given. The
    suppression list and the locks on numbers hold for every spelling.
    """
    digit = _MOBILE_DIGITS.get(e164[:3])
    if digit is None:
        return (e164,)
    country, number = e164[:3], e164[3:]
    if len(number) == _NATIONAL_DIGITS:
        return e164, f"{country}{digit}{number}"
    if len(number) == _NATIONAL_DIGITS + 1 and number.startswith(digit):
        return e164, f"{country}{number[1:]}"
    return (e164,)


def all_spellings(numbers: Iterable[str]) -> dict[str, None]:
    """Every spelling of these numbers, each once and in order."""
    return {spelling: None for number in numbers for spelling in spellings(number)}


def telephone_of(e164: str) -> str:
    """The text that identifies the telephone of a number in E.164 form: the same for every spelling of the number."""
    return max(spellings(e164))  # +52 without a 1, and +549: the spellings that both countries use


def read_numbers(value: object) -> tuple[str, ...]:
    """The numbers in E.164 form from a list, or from a text such as `+6531234567, +6587654321`. Raises ValueError."""
    parts = value.split(",") if isinstance(value, str) else cast("Sequence[object]", value)
    try:
        return tuple(phone.usual_form(phone.normalise(str(part).strip())) for part in parts if str(part).strip())
    except PhoneNumberError as error:
        raise ValueError(f"{error}; {_REMEDY}") from None
    except TypeError:  # neither a text nor a list
        raise ValueError(_REMEDY) from None
