"""Telephone numbers: their E.164 form, their numbering plans, and the aliases of one telephone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

from voiceflow_worker.errors import PhoneNumberError
from voiceflow_worker.model.text.printable import checked_text

if TYPE_CHECKING:
    from types import ModuleType

    from phonenumbers import PhoneNumber

MANY_NUMBERS = -1011
INVALID_NUMBER = -1017

_SEVERAL = re.compile(r"\+?[0-9]{7,15}(?:\s*[,;/|&]\s*|\s+(?:and|or)\s+|\s+)\+?[0-9]{7,15}.*", re.DOTALL)
FEWEST_DIGITS, MOST_DIGITS = 7, 15
_E164 = re.compile(r"\+?[1-9][0-9]{6,14}")
"""ITU-T E.164: at most 15 digits that begin with a country code. Fewer than 7 digits cannot be called from abroad."""


def normalise(text: str) -> str:
    """Return the number in E.164 form with a leading +. Raises PhoneNumberError with the reason.

    Only the form is checked: `is_valid` looks into the numbering plan, and `read_number` reads other spellings.
    """
    if not is_e164(text):
        code, reason = form_problem(text)
        raise PhoneNumberError(f"{text[:40]!r} is not a phone number in E.164 form: {reason}", code=code)
    return text if text.startswith("+") else "+" + text


def is_e164(text: str) -> bool:
    """Return whether `normalise` would accept the text."""
    return _E164.fullmatch(text) is not None


def with_plus(text: str) -> str:
    """Return a number with its +, which 8x8 may leave out; any other text as it is."""
    return f"+{text}" if is_e164(text) and not text.startswith("+") else text


def form_problem(text: str) -> tuple[int, str]:
    """Return why a text is not in E.164 form: the code of 8x8 (-1011 for several numbers, else -1017), and a clause."""
    if holds_several(text):
        return MANY_NUMBERS, "it holds several numbers; give one number for each call"
    return INVALID_NUMBER, (
        f"it is no country code and number of {FEWEST_DIGITS} to {MOST_DIGITS} digits, without spaces and signs; write "
        "it as +6587654321"
    )


def holds_several(text: str) -> bool:
    """Return whether a text holds two long runs of digits with something between them."""
    return _SEVERAL.fullmatch(text.strip()) is not None


_DIALLED_ALIKE = (
    "GB GG IM JE", "IT VA", "FI AX", "NO SJ", "AU CC CX", "US AS GU MP PR VI", "MA EH", "GP BL MF", "RE YT", "SH TA",
)  # fmt: skip
"""Countries, each with its territories that are dialled as in the country: one calling code and one way to dial."""


class PlannedNumber(NamedTuple):
    """The ISO 3166 region of a number by the numbering plans, None if there is none, and whether they have it."""

    region: str | None
    is_valid: bool
    parsed: PhoneNumber


@cache
def library() -> ModuleType:
    """Return the module phonenumbers. Its import takes 30 ms, so it is done when the first number is read."""
    import phonenumbers

    # Since 9.0.43: else Python keeps 512 patterns, and those of a file with numbers of 60 countries are compiled again.
    getattr(phonenumbers, "enable_pattern_cache", bool)()
    return phonenumbers


@lru_cache(maxsize=128)  # several checks of a call ask for its number
def planned(e164: str) -> PlannedNumber:
    """Look up a number in E.164 form, as it is written. Never raises."""
    plans = library()
    digits = e164.removeprefix("+")
    known: Mapping[int, Sequence[str]] = plans.COUNTRY_CODE_TO_REGION_CODE
    codes = (digits[:width] for width in (1, 2, 3) if is_e164(e164) and int(digits[:width]) in known)
    if not (code := next(codes, "")):
        return PlannedNumber(None, is_valid=False, parsed=plans.PhoneNumber())
    national = digits[len(code) :]
    zeros = len(national) - len(national.lstrip("0"))
    number = plans.PhoneNumber(int(code), int(national), italian_leading_zero=zeros > 0, number_of_leading_zeros=zeros)
    found = plans.region_code_for_number(number)
    is_valid = found is not None and plans.number_type(number) != plans.PhoneNumberType.UNKNOWN
    region = found or plans.region_code_for_country_code(int(code))
    return PlannedNumber(region if region.isalpha() else None, is_valid, number)


def is_valid(e164: str) -> bool:
    """Return whether a numbering plan has a number in E.164 form, as it is written."""
    return planned(e164).is_valid


def country_of(e164: str) -> str | None:
    """Return the ISO 3166 region of a number in E.164 form, such as SG; None if there is none. Never raises."""
    return planned(e164).region


@cache
def dialled_alike(region: str) -> tuple[str, ...]:
    """Return the regions that are dialled as this one: the country first, then its territories."""
    return next((names for names in map(tuple, map(str.split, _DIALLED_ALIKE)) if region in names), (region,))


def canonical_number(e164: str) -> str:
    """Return a number in E.164 form as its numbering plan writes it now; unchanged if no plan knows it."""
    return _canonical_number(e164 if type(e164) is str else checked_text("e164", e164))


# The checks of a new call ask several times for the usual form of its number (20 µs each without a cache).
@lru_cache(maxsize=1024)
def _canonical_number(e164: str) -> str:
    if not is_e164(e164):
        return e164
    if is_valid(e164):
        return normalise(e164)
    code = planned(e164).parsed.country_code
    for other in aliases(normalise(e164)):
        if is_valid(other) and planned(other).parsed.country_code == code:
            return other
    plans = library()
    try:
        number = plans.parse(normalise(e164))
    except plans.NumberParseException:
        return e164
    is_known = plans.is_valid_number(number)
    return str(plans.format_number(number, plans.PhoneNumberFormat.E164)) if is_known else e164


# A digit between the country code and the number marks a mobile phone for callers from abroad. It is not a part of the
# number: 9 in Argentina (ENACOM numbering plan), and 1 in Mexico until 2019 (IFT). Old Mexican address books still have
# it, and networks accept both forms. Numbers of both plans have 10 digits, and do not begin with that digit.
# Other plans have given their numbers more digits, or others, by rules that leave no doubt: Brazil's mobile phones in
# 2016 (Anatel), those of Côte d'Ivoire in 2021 (ARTCI), which got the prefix of their operator, all numbers of Benin in
# 2024 (ARCEP), the mobile phones of Vietnam that had eleven digits in 2018 (MIC), of Korea that did not begin with 010
# (KCC, 2003 to 2021), of Mauritius in 2013 (ICTA) and Cameroon in 2014 (ART), the fixed lines of Colombia in 2021 (CRC)
# and Nigeria in 2024 (NCC), and all numbers of Gabon, whose old ones ended in 2024 (ARCEP).
_VIETNAM = (
    "120:70 121:79 122:77 123:83 124:84 125:85 126:76 127:81 128:78 129:82 162:32 163:33 164:34 165:35 166:36 167:37 "
    "168:38 169:39 186:56 188:58 199:59"
)
_KOREA = (
    "11:2-4:105 11:5-8:103 119:5-9:108 16:2-4:103 16:5-8:102 169:0-4:107 17:2-4:106 17:5-8:104 18:2-4:104 18:5-8:106 "
    "19:2-4:102 19:5-8:105 199:0-4:108 199:5-9:107"
)
_RESPELT: Mapping[str, tuple[tuple[str, str], ...]] = {
    "+52": ((r"(\d{10})", "1{}"),),
    "+54": ((r"(\d{10})", "9{}"),),
    "+55": ((r"([1-9]{2})([6-9]\d{7})", "{}9{}"),),
    "+57": ((r"([1-8]\d{7})", "60{}"),),
    "+82": (
        *((rf"{old}([{firsts}]\d{{6}})", f"{new}{{}}") for old, firsts, new in (e.split(":") for e in _KOREA.split())),
        *((rf"{old}(9[{seconds}]\d{{6}})", "10{}") for old, seconds in (("11", "0-4"), ("16", "5-9"))),
    ),
    "+84": tuple((rf"{old}(\d{{7}})", f"{new}{{}}") for old, new in (pair.split(":") for pair in _VIETNAM.split())),
    "+225": tuple(
        (rf"({firsts}\d{{6}})", f"0{operator}{{}}")
        for operator, firsts in ((1, "[04-9][123]"), (1, "[457]0"), (5, "[04-9][456]"), (7, "[04-9][789]"))
    ),
    "+229": ((r"(\d{8})", "01{}"),),
    "+230": ((r"([79]\d{6})", "5{}"),),
    "+234": ((r"([1-9]\d{7})", "20{}"),),
    "+237": ((r"([5-79]\d{7})", "6{}"),),
    "+241": tuple(
        (rf"{zero}([{old}]\d{{6}})", f"{new}{{}}")
        for zero, old, new in (e.split(":") for e in ["0:1:1", "0:256:6", "0:47:7", ":1:1", ":256:6", ":47:7"])
    ),
    # Some telephones are dialled under two country codes: those of Northern Ireland as 048 in Ireland (ComReg), of San
    # Marino as 0549 in Italy (AGCOM), and of Palestine also by the code of Israel. Kosovo had codes of Serbia, Monaco
    # and Slovenia until 2019 (ARKEP), Sint Maarten that of the Netherlands Antilles until 2012 (NANPA).
    "+353": ((r"48(\d{8})", "+44 28{}"),),
    "+39": ((r"(0549\d{6})", "+378 {}"),),
    "+972": tuple(
        (rf"({digits})", "+970 {}")
        for digits in (r"5[69]\d{7}", r"22[2-47-9]\d{5}", r"42[45]\d{5}", r"82[014-68]\d{5}", r"92[3569]\d{5}")
    ),
    "+381": ((r"([23][89]\d{6})", "+383 {}"),),
    "+377": ((r"(4[45]\d{6})", "+383 {}"),),
    "+386": ((r"(4[39]\d{6})", "+383 {}"),),
    "+599": ((r"5(\d{6})", "+1 7215{}"),),
}
"""By country code, what the digits behind it were, and what they are now, or are also; read in both directions."""


@cache
def _respelt() -> Mapping[str, Sequence[tuple[re.Pattern[str], str]]]:
    """Return the rules by country code: what the digits behind it match, and the other number that they stand for."""
    rules: dict[str, list[tuple[re.Pattern[str], str]]] = {}
    for code, pairs in _RESPELT.items():
        for old, new in pairs:
            there, _, digits = new.rpartition(" ")
            groups = re.findall(r"\([^()]*\)", old)
            backwards = re.sub(r"\([^()]*\)", "{}", old)
            rules.setdefault(code, []).append((re.compile(old), f"{there or code}{digits}"))
            rules.setdefault(there or code, []).append((re.compile(digits.format(*groups)), f"{code}{backwards}"))
    return rules


@lru_cache(maxsize=1024)  # several checks of a call ask for its number
def aliases(e164: str) -> tuple[str, ...]:
    """Return every number in E.164 form that reaches the same telephone, the given number first.

    Nearly every number has one spelling. Requests, listings and unique keys keep the given one; the suppression list
    and the locks on numbers hold for every spelling.
    """
    found, rules = [e164], _respelt()
    for each in found:
        for width in (2, 3, 4):
            for pattern, other in rules.get(each[:width], ()):
                match = pattern.fullmatch(each, width)
                if match is not None and (new := other.format(*match.groups())) not in found:
                    found.append(new)
    return tuple(found)


def all_aliases(numbers: Iterable[str]) -> dict[str, None]:
    """Return every spelling of these numbers, each once and in order."""
    return {spelling: None for number in numbers for spelling in aliases(number)}


def phone_identity(e164: str) -> str:
    """Return the text that identifies the telephone of a number, the same for every spelling."""
    return max(aliases(e164 if type(e164) is str else checked_text("e164", e164)))


class Likeness(IntEnum):
    """The degree to which a log or an event shows the number of a call."""

    OTHER = 0
    MAYBE = 1
    SAME = 2


_MARKS = re.compile(r"[\s\-()./]")
_MASK = "*xX#\u2022?"
_MASKED = re.compile(rf"\+?(\d*)[{_MASK}](?:[\d{_MASK}]*[{_MASK}])?(\d*)", re.ASCII)
_LONGEST_COUNTRY_CODE = 3


def likeness(written: str | None, number: str) -> Likeness:
    """Return the degree to which a number in a log matches `number`, which is in E.164 form.

    A number with other digits is OTHER. One that shows only some digits, because it is masked, shortened or without its
    country code, is MAYBE if these fit. So is a missing or unreadable number.
    """
    digits = number.removeprefix("+")
    plain = "" if written is None else _MARKS.sub("", written)
    if re.fullmatch(r"\+?\d+", plain, re.ASCII):
        shown = plain.removeprefix("+")
        # The last digits are compared first: reading numbering plans takes 20 µs, and a log has many rows.
        if shown == digits or (shown[-6:] == digits[-6:] and _is_same(f"+{shown}", number)):
            return Likeness.SAME
        bare = shown.lstrip("0")  # a trunk or an international prefix
        return Likeness.MAYBE if digits.endswith(bare) or bare.endswith(digits) else Likeness.OTHER
    masked = _MASKED.fullmatch(plain)
    if masked is None:
        return Likeness.MAYBE
    head, tail = masked.groups()
    begins = any(digits.startswith(head, place) for place in range(_LONGEST_COUNTRY_CODE + 1))
    return Likeness.MAYBE if begins and digits.endswith(tail) else Likeness.OTHER


def _is_same(shown: str, number: str) -> bool:
    written = canonical_number(shown)
    return any(written == canonical_number(each) for each in aliases(number))
