"""Telephone numbers: their E.164 form, checks by numbering plans, and the spellings of one telephone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from voiceflow_worker.errors import PhoneNumberError
from voiceflow_worker.model.numbers.plans import PlannedNumber, only_region, planned

if TYPE_CHECKING:
    from phonenumbers import PhoneNumber


MANY_NUMBERS = -1011
INVALID_NUMBER = -1017

# ITU-T E.164: at most 15 digits, beginning with the country code, which never begins with 0. A number with fewer than 7
# digits cannot be called from abroad.
_E164 = re.compile(r"\+?[1-9][0-9]{6,14}")
_SEVERAL = re.compile(r"\+?[0-9]{7,15}(?:\s*[,;/|&]\s*|\s+(?:and|or)\s+|\s+)\+?[0-9]{7,15}.*", re.DOTALL)
FEWEST_DIGITS, MOST_DIGITS = 7, 15


def normalise(text: str) -> str:
    """The number in E.164 form with a leading +. The text must have 7 to 15 digits, and may begin with a +.

    Only the form is checked: `warnings_for` checks the numbering plan, and `read_number` reads numbers as people write
    them. Raises PhoneNumberError with the reason.
    """
    if not is_e164(text):
        code, reason = form_problem(text)
        raise PhoneNumberError(f"{text[:40]!r} is not a phone number in E.164 form: {reason}", code=code)
    return text if text.startswith("+") else "+" + text


def is_e164(text: str) -> bool:
    """Whether `normalise` would accept the text."""
    return _E164.fullmatch(text) is not None


def with_plus(text: str) -> str:
    """A number as 8x8 writes it, which may lack its +, with its +; any other text as it is."""
    return f"+{text}" if is_e164(text) and not text.startswith("+") else text


def form_problem(text: str) -> tuple[int, str]:
    """The reason why a text is not in E.164 form: the code of 8x8, and a clause.

    The code is -1011 for several numbers, otherwise -1017. Use this only for a text that `is_e164` refuses.
    """
    if holds_several(text):
        return MANY_NUMBERS, "it holds several numbers; give one number for each call"
    digits = sum(character.isdigit() for character in text)
    if any(character.isalpha() for character in text):
        reason = "it has letters"
    elif not digits:
        reason = "it has no digits"
    elif re.fullmatch(r"\+?[0-9]+", text) is None:
        reason = "only digits and a leading + are accepted, no spaces, dashes, dots or brackets"
    elif text.lstrip("+").startswith("0"):
        reason = "it begins with 0, and no country code begins with 0"
    else:
        reason = _length_reason(digits)
    return INVALID_NUMBER, f"{reason}; write the country code and the number, such as +6587654321"


def holds_several(text: str) -> bool:
    """Whether a text holds more than one phone number: two long runs of digits with something between them."""
    return _SEVERAL.fullmatch(text.strip()) is not None


def _length_reason(digits: int) -> str:
    if digits < FEWEST_DIGITS:
        return f"{digits} {'digit is' if digits == 1 else 'digits are'} too few (at least {FEWEST_DIGITS})"
    return f"{digits} digits are too many (at most {MOST_DIGITS})"


# A campaign has one source and as many destinations as rows: the source stays in the cache.
@lru_cache(maxsize=1024)
def warnings_for(e164: str) -> tuple[str, ...]:
    """Warnings about a number in E.164 form, by the numbering plans of the world.

    They are not errors: plans change, and the numbers in the 8x8 guides are not assigned. Each warning is the rest of a
    sentence that begins with the number. Never raises; a text that is not in E.164 form has no warnings.
    """
    if (known := planned(e164)) is not None:
        return plan_warnings(known)
    import phonenumbers

    number = _plan_number(e164)
    if number is None:
        return ("does not begin with a country code in use; check the first digits",) if is_e164(e164) else ()
    region = _region(number)
    if not phonenumbers.is_valid_number(number):
        plan = region or "its country code"
        return (f"{_invalid_reason(number)} the numbering plan of {plan}; check the number and its country code",)
    written = usual_form(e164)
    if written != normalise(e164):
        return (f"is written {written} in E.164 form; leave out the 0 that is dialled within {region}",)
    kinds = phonenumbers.PhoneNumberType
    kind = {
        kinds.PREMIUM_RATE: "a premium-rate",
        kinds.SHARED_COST: "a shared-cost",
        kinds.PAGER: "a pager",
        kinds.VOICEMAIL: "a voicemail",
    }.get(phonenumbers.number_type(number))
    return (f"is {kind} number in {region or 'its country'}; check that it is meant to be called",) if kind else ()


# The checks of a new call ask several times for the usual form of its number (20 µs each without a cache).
@lru_cache(maxsize=1024)
def usual_form(e164: str) -> str:
    """A number in E.164 form as its numbering plan writes it: without a 0 that is dialled only within the country.

    A number that no plan knows is returned unchanged. Never raises.
    """
    if planned(e164) is not None:
        return e164
    import phonenumbers

    number = _plan_number(e164)
    if number is None or not phonenumbers.is_valid_number(number):
        return e164
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def country_of(e164: str) -> str | None:
    """The ISO 3166 region of a number in E.164 form, such as SG; None if there is none. Never raises."""
    if (region := only_region(e164)) is not None:
        return region
    if (known := planned(e164)) is not None:
        return known.region
    number = _plan_number(e164)
    return None if number is None else _region(number)


_KINDS = {
    0: "fixed line", 1: "mobile", 2: "mobile or fixed line", 3: "toll-free", 4: "premium-rate", 5: "shared-cost",
    6: "VoIP", 7: "personal", 8: "pager", 9: "company", 10: "voicemail",
}  # fmt: skip
"""The kinds of numbers, by their values in phonenumbers."""


def kind_of(e164: str) -> str:
    """The kind of a number in E.164 form by its numbering plan, such as mobile; `unknown` if no plan has it."""
    import phonenumbers

    number = _plan_number(e164)
    return "unknown" if number is None else _KINDS.get(phonenumbers.number_type(number), "unknown")


@lru_cache(maxsize=1024)
def _plan_number(e164: str) -> PhoneNumber | None:
    # The import takes 30 ms, so it is done when the first number is read.
    import phonenumbers

    if not is_e164(e164):
        return None
    try:
        return phonenumbers.parse(normalise(e164))
    except phonenumbers.NumberParseException:
        return None


def _region(number: PhoneNumber) -> str | None:
    import phonenumbers

    code = number.country_code
    if code is None:
        return None
    region = phonenumbers.region_code_for_number(number) or phonenumbers.region_code_for_country_code(code)
    # "001" stands for codes that belong to no country (+800, +870), and "ZZ" for unknown regions.
    return region if region.isalpha() and region != "ZZ" else None


def plan_warnings(known: PlannedNumber) -> tuple[str, ...]:
    """The warnings about a number of this entry of a plan."""
    if known.is_assigned:
        return ()
    return (f"is not assigned in the numbering plan of {known.region}; check the number and its country code",)


def _invalid_reason(number: PhoneNumber) -> str:
    import phonenumbers

    match phonenumbers.is_possible_number_with_reason(number):
        case phonenumbers.ValidationResult.TOO_SHORT:
            return "is too short for"
        case phonenumbers.ValidationResult.TOO_LONG:
            return "is too long for"
        case _:
            return "is not assigned in"


# A digit between the country code and the number marks a mobile phone for callers from abroad. It is not a part of the
# number: 9 in Argentina (ENACOM numbering plan), and 1 in Mexico until 2019 (IFT). Old Mexican address books still have
# it, and networks accept both forms. Numbers of both plans have 10 digits, and do not begin with that digit.
_MOBILE_DIGITS = {"+52": "1", "+54": "9"}
_NATIONAL_DIGITS = 10


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
