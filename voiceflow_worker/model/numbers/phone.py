"""Telephone numbers: their E.164 form, checks by numbering plans, and a reader of numbers as people write them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from voiceflow_worker.errors import InvalidInputError, PhoneNumberError
from voiceflow_worker.finding import Remedy
from voiceflow_worker.model.numbers.plans import PlannedNumber, only_region, ordinary_within, planned

if TYPE_CHECKING:
    from phonenumbers import PhoneNumber


MANY_NUMBERS = -1011
INVALID_NUMBER = -1017

# ITU-T E.164: at most 15 digits, beginning with the country code, which never begins with 0. A number with fewer than 7
# digits cannot be called from abroad.
_E164 = re.compile(r"\+?[1-9][0-9]{6,14}")
_SEVERAL = re.compile(r"\+?[0-9]{7,15}(?:\s*[,;/|&]\s*|\s+(?:and|or)\s+|\s+)\+?[0-9]{7,15}.*", re.DOTALL)
FEWEST_DIGITS, MOST_DIGITS = 7, 15
# 6.59E+09 and 6,59E+09: a spreadsheet has dropped the last digits.
_SCIENTIFIC = re.compile(r"[+-]?\d+(?:[.,]\d+)?[eE][+-]?\d+")
# 6587654321.0: a spreadsheet or a data frame took the number for a quantity, and no digit is lost.
_DECIMAL = re.compile(r"(\+?\d{7,15})[.,]0+")
# +44 (0)20 …: the 0 is dialled within the country only, and never together with the country code.
_TRUNK_ZERO = re.compile(r"\(\s*0\s*\)")
# A character that is neither a digit nor a usual mark, a + that is not in front, or a mark at the beginning.
_STRANGE = re.compile(r"[^\d\s+\-./()]|(?<=[\d)])\s*\+|^[-./)]")
_BETWEEN_NUMBERS = re.compile(r"[,;|&/\n]|\b(?:and|or)\b")
_SHORTEST_LOCAL = 6
_DIRT = re.compile(r"[\s\-./()]")
_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d"), "-")


def normalise(text: str) -> str:
    """The number in E.164 form with a leading +. The text must have 7 to 15 digits, and may begin with a +.

    Only the form is checked: `warnings_for` checks the numbering plan, and `parse_number` reads numbers as people write
    them. Raises PhoneNumberError with the reason.
    """
    if not is_e164(text):
        code, reason = form_problem(text)
        raise PhoneNumberError(f"{text[:40]!r} is not a phone number in E.164 form: {reason}", code=code)
    return text if text.startswith("+") else "+" + text


def is_e164(text: str) -> bool:
    """Whether `normalise` would accept the text."""
    return _E164.fullmatch(text) is not None


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
        return _plan_warnings(known)
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


def _plan_warnings(known: PlannedNumber) -> tuple[str, ...]:
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


@dataclass(frozen=True, slots=True)
class ParsedNumber:
    """A telephone number in E.164 form with its +, its ISO 3166 region (None if there is none), and warnings."""

    e164: str
    country_code: str | None
    warnings: tuple[str, ...] = ()

    @property
    def messages(self) -> list[str]:
        """The warnings as sentences, each of which begins with the number."""
        return [f"{self.e164} {warning}" for warning in self.warnings]


INTERNATIONAL = "international"
"""The `country` of digits that begin with their country code, without a +."""


def parse_number(text: str, *, country: str | None = None, guesses: bool = True) -> ParsedNumber:
    """Read one telephone number as people write it.

    The number may have spaces, dashes, dots and brackets, and + or 00 before its country code. With `country` (ISO
    3166, such as SG), it may be a national number of that country; with the country `international`, it begins with a
    country code. Without a country, digits without + or 00 begin with a country code too, or are refused if `guesses`
    is False. A number that no numbering plan knows gets a warning. Raises PhoneNumberError, with the reason and the
    code of 8x8, for a text that is not one number; and InvalidInputError for a country that does not exist.
    """
    is_international = country is not None and country.strip().casefold() == INTERNATIONAL
    region = None if country is None or is_international else _region_of(country)
    is_known = guesses or country is not None
    if (is_known or text.startswith("+")) and _E164.fullmatch(text):
        e164 = text if text.startswith("+") else "+" + text
        if region is not None and text is not e164:
            e164 = ordinary_within(text, region) or ""
        if (known := planned(e164)) is not None:
            return ParsedNumber(e164, known.region, _plan_warnings(known))
    written = _cleaned(text)
    problem = _damage(written)
    if problem is not None:
        code, reason = problem
        raise PhoneNumberError(f"{text.strip()[:40]!r} {reason}", code=code)
    warnings: list[str] = []
    if decimal := _DECIMAL.fullmatch(written):
        written = decimal[1]
        warnings.append("was written as a decimal number; format the column as text")
    digits = _DIRT.sub("", _TRUNK_ZERO.sub("", written) if written.lstrip("( ").startswith(("+", "00")) else written)
    # 00 first: in a country with another prefix for calls abroad, 0065… would be read as a national number.
    if digits.startswith("00"):
        digits = "+" + digits[2:]
    if digits.startswith("+"):
        e164 = digits
    elif region is not None:
        e164, doubt = _from_within(digits, region)
        warnings += doubt
    elif not is_known:
        raise PhoneNumberError(f"{text.strip()[:40]!r} does not say its country: {Remedy.NAME_COUNTRY}").remedied(
            Remedy.NAME_COUNTRY
        )
    elif digits.startswith("0"):
        raise PhoneNumberError(
            f"{text.strip()[:40]!r} begins with 0, as in the national form: name its country, or write it with its "
            "country code, such as +6587654321"
        )
    else:
        e164 = "+" + digits
    if not is_e164(e164):
        code, reason = form_problem(e164)
        raise PhoneNumberError(f"{text.strip()[:40]!r} is not a phone number: {reason}", code=code)
    e164 = usual_form(e164)
    return ParsedNumber(e164, country_of(e164), (*warnings, *warnings_for(e164)))


def _cleaned(text: str) -> str:
    """The text without invisible characters, and with all digits and dashes in ASCII."""
    visible = "".join(
        character for character in unicodedata.normalize("NFKC", text) if unicodedata.category(character) != "Cf"
    )
    ascii_digits = "".join(
        str(unicodedata.decimal(character)) if character.isdecimal() else character for character in visible
    )
    # In a spreadsheet, a leading apostrophe marks a cell as text; some exports keep it.
    return ascii_digits.translate(_DASHES).strip().removeprefix("'").strip()


def _damage(written: str) -> tuple[int, str] | None:
    """The reason why a text cannot be read as one number: an 8x8 code and the rest of a sentence; None if it can."""
    if not written:
        return INVALID_NUMBER, "is empty; give a phone number, such as +6587654321"
    if _SCIENTIFIC.fullmatch(written):
        return INVALID_NUMBER, (
            "was damaged by a spreadsheet, which wrote it in scientific notation and dropped digits; format the column "
            "as text, and enter the number again"
        )
    if _holds_several(written):
        return MANY_NUMBERS, "holds several numbers; give each a row of its own"
    if letter := next((character for character in written if character.isalpha()), None):
        return INVALID_NUMBER, f"has letters ({letter!r}); give digits only, without names or extensions"
    if not any(map(str.isdigit, written)):
        return INVALID_NUMBER, "has no digits; give a phone number, such as +6587654321"
    if strange := _STRANGE.search(written):
        return INVALID_NUMBER, f"has {strange[0].strip()!r} in a place where phone numbers have none; remove it"
    return None


def _holds_several(written: str) -> bool:
    parts = _BETWEEN_NUMBERS.split(written)
    long_parts = [part for part in parts if sum(map(str.isdigit, part)) >= _SHORTEST_LOCAL]
    return len(long_parts) > 1 or holds_several(written) or written.count("+") > 1


def _from_within(digits: str, region: str) -> tuple[str, tuple[str, ...]]:
    """The E.164 form of digits that were written without a +, and a warning if they have two readings.

    The digits may be a national number of `region`, or begin with a country code. If numbering plans know only one of
    the two readings, it is returned; if they know both, the national one. If they know neither, the digits are read as
    a number of `region` if their length is possible there. Otherwise raises PhoneNumberError.
    """
    import phonenumbers

    national, abroad = _parsed(digits, region), _parsed("+" + digits, None)
    if national is not None and phonenumbers.is_valid_number(national):
        if abroad is None or abroad == national or not phonenumbers.is_valid_number(abroad):
            return _e164(national), ()
        doubt = f"was read as {_e164(national)}, and could also be {_e164(abroad)}; write the + and the country code"
        return _e164(national), (doubt,)
    if abroad is not None and phonenumbers.is_valid_number(abroad):
        return _e164(abroad), ()
    own_code = str(phonenumbers.country_code_for_region(region))
    if abroad is not None and digits.startswith(own_code) and phonenumbers.is_possible_number(abroad):
        return _e164(abroad), ()
    if national is not None and phonenumbers.is_possible_number(national):
        return _e164(national), ()
    raise PhoneNumberError(
        f"{digits[:40]!r} is not a phone number of {region}: it has the wrong length and begins with no country code; "
        "check it, or write it with a + and its country code"
    )


def _parsed(text: str, region: str | None) -> PhoneNumber | None:
    import phonenumbers

    try:
        return phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None


def _e164(number: PhoneNumber) -> str:
    import phonenumbers

    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


@lru_cache(maxsize=256)
def _region_of(country: str) -> str:
    from phonenumbers import SUPPORTED_REGIONS

    region = country.strip().upper()
    region = "GB" if region == "UK" else region  # ISO 3166 reserves UK for this use
    if region not in SUPPORTED_REGIONS:
        raise InvalidInputError(
            f"{country!r} is not the code of a country: give two letters (ISO 3166), such as SG, ID, PH, GB or US, or "
            f"{INTERNATIONAL} for digits that begin with their country code"
        )
    return region


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
        return tuple(usual_form(normalise(str(part).strip())) for part in parts if str(part).strip())
    except PhoneNumberError as error:
        raise ValueError(f"{error}; {_REMEDY}") from None
    except TypeError:  # neither a text nor a list
        raise ValueError(_REMEDY) from None
