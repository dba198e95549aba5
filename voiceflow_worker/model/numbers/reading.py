"""Readers of telephone numbers as people write them, and of numbers to call from: what is uncertain is refused."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple, Self, TypeVar, cast

from voiceflow_worker.errors import InvalidInputError, PhoneNumberError
from voiceflow_worker.finding import Remedy, message_of, tell
from voiceflow_worker.model.numbers.phone import (
    INVALID_NUMBER,
    MANY_NUMBERS,
    code_twice,
    country_of,
    form_problem,
    holds_several,
    is_e164,
    spellings,
    telephone_of,
    usual_form,
    warnings_for,
)
from voiceflow_worker.model.numbers.plans import (
    Plan,
    behind_exit,
    country_named,
    dialled_alike,
    is_valid,
    plan_abroad,
    planned,
)
from voiceflow_worker.model.text.names_of_the_world import country_called

INTERNATIONAL: Final = "international"
"""The `country` of digits that begin with their country code, without a +."""


class ParsedNumber(str):
    """A telephone number in E.164 form with its +, its ISO 3166 region (None if there is none), and warnings."""

    __slots__ = ("country_code", "warnings")

    country_code: str | None
    warnings: tuple[str, ...]

    def __new__(cls, e164: str, country_code: str | None, warnings: tuple[str, ...] = ()) -> Self:
        """A number that was read."""
        number = super().__new__(cls, e164)
        number.country_code = country_code
        number.warnings = warnings
        return number

    @property
    def e164(self) -> str:
        """The number as a plain text."""
        return str(self)

    @property
    def messages(self) -> list[str]:
        """The warnings as sentences, each of which begins with the number."""
        return [f"{self} {warning}" for warning in self.warnings]


def read_number(text: str, country: str | None = None) -> ParsedNumber:
    """Read one telephone number as people write it. It is certain, or refused.

    A + and digits, with spaces, dashes and dots, are taken at their word; a number that no numbering plan knows gets a
    warning. All else is interpreted: national digits, a code for calls abroad, brackets, a slash. It must have exactly
    one reading that is valid in a numbering plan.

    With `country` (ISO 3166, such as SG, or a name), digits without a + are a number of that country alone, with or
    without its country code, unless they begin with 00 or another of the country's own codes for calls abroad. A
    territory that is dialled as in the country, such as Jersey in GB, belongs to it. With the country `international`
    they begin with a country code. Without a country, they must begin with + or 00.

    Raises PhoneNumberError with the reason, the readings, and the code of 8x8; and InvalidInputError for a country that
    does not exist.
    """
    return ParsedNumber(*number_in(text, country))


def number_in(text: str, country: str | None) -> tuple[str, str | None, tuple[str, ...]]:
    """What a `ParsedNumber` has, without a check of the arguments: files have millions of numbers."""
    home = _home(country)
    if text.startswith("+") and is_e164(text):
        return _at_its_word(text, text, ())
    written, warnings = _undamaged(text)
    if _WORD.fullmatch(written):
        return _at_its_word("+" + _digits(written), text, warnings)
    readings = _valid(written, home)
    if len(readings) != 1:
        raise _refused(text, written, home, [*readings])
    ((e164, doubt),) = readings.items()
    if doubt:
        raise PhoneNumberError(
            f"{_shown(text)} could only be {e164} ({country_of(e164)}), {doubt}; if that is right, {_WRITE}",
            code=MANY_NUMBERS if doubt == _GLUED else INVALID_NUMBER,
        )
    return e164, country_of(e164), (*warnings, *warnings_for(e164))


def every_reading(text: str, country: str | None = None) -> tuple[ParsedNumber, ...]:
    """Every number that a text could mean, for a list of numbers that must not be called.

    A text that `read_number` reads has one. Of another, these are all its valid readings, those of each of its parts,
    and if none is valid, those whose length is possible. Each has a warning. Raises the errors of `read_number` for a
    text in which there is no number.
    """
    try:
        number = read_number(text, country)
        inner = code_twice(number.e164)
        return (number,) if inner is None else (number, ParsedNumber(inner, country_of(inner)))
    except PhoneNumberError as error:
        home, refusal = _home(country), error
    written = _cleaned(text)
    if any(damaged.fullmatch(written) for damaged in (*_SPOILT, _CUT)):
        raise refusal
    parts = [bare for part in _BETWEEN.split(written) if _digits(bare := part.strip(" -./"))]
    found = dict.fromkeys(_valid(" ".join(parts), home))
    for part in parts:
        own = [*_valid(part, home)]
        own = own or [*_valid(_FIRST_DIGIT.sub("", part), home), *_possible_readings(part, home)]
        if not own and found:  # the last digits of another number: 6123 4567/8
            tail = _digits(part)
            own = [f"{number[: -len(tail)]}{tail}" for number in found if len(tail) < len(number) - 1]
        found.update(dict.fromkeys(own))
    if not found and (extension := _EXTENSION.search(written)) is not None:
        found.update(dict.fromkeys(_valid(written[: extension.start()], home)))
    if not found:
        raise refusal
    numbers = ", ".join(found)
    doubt = f"is one reading of {_shown(text)}, which is not certain; on the list: {numbers}"
    return tuple(ParsedNumber(number, country_of(number), (doubt,)) for number in found)


def read_country(text: str) -> str:
    """The country that a text names: a code (ISO 3166), an English name, or a calling code of one country alone.

    Returns the ISO 3166 code, or INTERNATIONAL. Raises InvalidInputError.
    """
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, SUPPORTED_REGIONS

    written = text.strip()
    if (code := written.removeprefix("+")).isdecimal():
        regions = COUNTRY_CODE_TO_REGION_CODE.get(int(code), ())
        if len(regions) > 1:
            several = f"{', '.join(regions[:_MOST_NAMED])} and others"
            raise InvalidInputError(f"{text!r} is the calling code of {several}: give two letters, or a name")
        written = next(iter(regions), written)
    if not (len(written) == 2 and written.isascii()) and written.casefold() != INTERNATIONAL:
        written = country_called(written) or written
    if written.casefold() == INTERNATIONAL:
        return INTERNATIONAL
    region = written.upper()
    region = "GB" if region == "UK" else region  # ISO 3166 reserves UK for this use
    if region not in SUPPORTED_REGIONS:
        raise InvalidInputError(
            f"{text!r} is not a country: give two letters (ISO 3166) or an English name, such as SG or Singapore, or "
            f"{INTERNATIONAL} for digits that begin with their country code"
        )
    return region


def read_numbers(value: object) -> tuple[str, ...]:
    """The numbers in E.164 form from a list, or from a text such as `+6531234567, +6587654321`. Raises ValueError."""
    parts = value.split(",") if isinstance(value, str) else cast("Sequence[object]", value)
    try:
        return tuple(read_number(str(part)).e164 for part in parts if str(part).strip())
    except PhoneNumberError as error:
        raise ValueError(f"{error}; {_LIST}") from None
    except TypeError:  # neither a text nor a list
        raise ValueError(_LIST) from None


# --- The text -----------------------------------------------------------------------------------------------------

_LIST = "give numbers separated by commas, such as +6531234567, +6587654321"
_WRITE = "write it with + and digits alone"
# 6.59E+09 and 6,59E+09: a spreadsheet has dropped the last digits.
_SCIENTIFIC = re.compile(r"[+-]?\d+(?:[.,]\d+)?[eE][+-]?\d+")
# -81234502: a spreadsheet has computed +65-81234567.
_COMPUTED = re.compile(r"-[\d.,]*\d")
# 6587654321.0: a spreadsheet or a data frame took the number for a quantity, and no digit is lost.
_DECIMAL = re.compile(r"(\+?\d{7,15})[.,]0+")
# 6587654321.5: a quantity; its decimals would be taken for digits of a number.
_QUANTITY = re.compile(r"\+?\d{7,15}[.,](?!0+$)\d{1,2}")
# 201XXXXXXX, +1201%: all numbers that begin so.
_PATTERN = re.compile(r"\+?\(?\d[\d\s().\-]*(?:[xX#]{2}|[*%?_])[xX#*%?_\s().\-]*")
_SPOILT = {
    _SCIENTIFIC: (
        "was damaged by a spreadsheet, which wrote it in scientific notation and dropped digits; format the column as "
        "text, and enter the number again"
    ),
    _COMPUTED: (
        "begins with '-': a spreadsheet took the number for a sum, and has put the result in its place (-81234502 for "
        "+65-81234567); format the column as text, and write the number again from where it came"
    ),
    _QUANTITY: "has decimals, as an amount has; write it with + and digits alone",
    _PATTERN: "stands for many numbers; give each number that is meant, in full",
}
"""Texts in which there is no number any more, and why."""
# 030 123…456, +4930123...: digits were left out, or cut off.
_CUT = re.compile(r"[(\s]*\+?(?:[\d\s\-/()]|\.(?!\.))*\.\.[\d\s\-./()]*")
# A date whose digits may be a number too, in any calendar: 31.12.2030 in a list of SG, 2030-02-01 in one of DE.
_DAY, _MONTH, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])", r"(?:1[3-9]\d\d|2\d\d\d|9999)"
_DATE = re.compile("|".join(
    f"{first}{sign}{second}{sign}{third}"
    for sign in ("-", "/", r"\.")
    for first, second, third in ((_YEAR, _MONTH, _DAY), (_DAY, _MONTH, _YEAR), (_MONTH, _DAY, _YEAR))
))  # fmt: skip
# +44 (0)20 …: in most countries this 0 is dialled within the country only, and never together with the country code.
_ZERO = re.compile(r"\(\s*0\s*\)")
# A character that is neither a digit nor a usual mark, a + that is not in front, or a mark at the beginning.
_STRANGE = re.compile(r"[^\d\s+\-./()]|(?<=[\d)])\s*\+|^[-./)]")
_GROUP = re.compile(r"\([^()]*\d[^()]*\)")
_LINES = re.compile(r"[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]")
_BETWEEN_NUMBERS = re.compile(r"[,;|&/\n]|\b(?:and|or)\b")
_BETWEEN = re.compile(
    r"[^\d\s+\-.()]+|[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+|(?<=\d)\s*(?=\+)|\s+(?=\(\s*\d+\s*\)\s*$)"
)
_EXTENSION = re.compile(r"[\s.\-]+\d{1,5}$")
_SHORTEST_LOCAL = 6
_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d"), "-")
_WORD = re.compile(r"\+\d[\d\s.\-]*")
# 9 (030) 123456: a digit that the telephones of an office dial first stands apart, before a number in full.
_LONE_DIGIT = re.compile(r"\d(?:[\s.\-/]+|(?=\())")
_FIRST_DIGIT = re.compile(r"^\(?\d\)?[ \-./]*")
_NO_DIGIT = re.compile(r"\D+")
_WAIT_FOR_TONE = re.compile(r"^8\s*~\s*(?=10)")
# A slash or a closing bracket stands behind an area code: at most 5 digits before it, and at least 3 behind it.
_LONGEST_AREA, _SHORTEST_REST = 5, 3


def _digits(text: str) -> str:
    return _NO_DIGIT.sub("", text)


def _shown(text: str) -> str:
    return repr(text.strip()[:40])


def _undamaged(text: str) -> tuple[str, tuple[str, ...]]:
    """The cleaned text, and warnings. Raises PhoneNumberError for a text that cannot be one number."""
    if text.isascii() and text.isdigit():
        return text, ()
    written = _cleaned(text)
    for found, reason in _damages(written):
        if found:
            code = MANY_NUMBERS if reason == _SEVERAL else INVALID_NUMBER
            raise PhoneNumberError(tell("number_damaged", number=_shown(text), reason=reason), code=code)
    if decimal := _DECIMAL.fullmatch(written):
        return decimal[1], ("was written as a decimal number; format the column as text",)
    return written, ()


def _cleaned(text: str) -> str:
    """The text without invisible characters, and with all digits and dashes in ASCII.

    What only looks like a digit stays as it is: a ² may be the mark of a footnote.
    """
    usual = "".join(
        each if each.isnumeric() and not each.isdecimal() else unicodedata.normalize("NFKC", each) for each in text
    )
    visible = (each for each in usual if unicodedata.category(each) != "Cf")
    ascii_digits = "".join(str(unicodedata.decimal(each)) if each.isdecimal() else each for each in visible)
    # In a spreadsheet, a leading apostrophe marks a cell as text; some exports keep it.
    plain = ascii_digits.translate(_DASHES).strip().removeprefix("'").strip()
    return _WAIT_FOR_TONE.sub("8", plain)


_SEVERAL = f"holds several numbers, or two lines; give each number a call of its own, or, if it is one, {_WRITE}"


def _damages(written: str) -> Iterator[tuple[object, str]]:
    """What may keep a text from being read as one number: whether it does, and the rest of a sentence."""
    letter = next(filter(str.isalpha, written), "")
    strange = _STRANGE.search(written)
    yield not written, "is empty; give a phone number, such as +6587654321"
    for spoilt, reason in _SPOILT.items():
        yield spoilt.fullmatch(written), reason
    yield _DATE.fullmatch(written), f"looks like a date; if it is a number, {_WRITE}"
    yield _holds_several(written) or _LINES.search(written), _SEVERAL
    yield letter, f"has letters ({letter!r}); give digits only, without names or extensions"
    yield not _digits(written), "has no digits; give a phone number, such as +6587654321"
    yield _CUT.fullmatch(written), "has dots where digits may have been left out; give the number in full, without them"
    odd = strange and strange[0].strip()
    yield strange, f"has {odd!r} in a place where phone numbers have none; write the number in full, in digits"
    yield re.search(r"[()]", _GROUP.sub("", written)), f"has a bracket without its other half; {_WRITE}"


def _holds_several(written: str) -> bool:
    parts = _BETWEEN_NUMBERS.split(written)
    return sum(map(_is_long, parts)) > 1 or holds_several(written) or written.count("+") > 1


def _is_long(part: str) -> bool:
    """Whether a part of a text may be a number by itself: +49(0)151 before a slash is a code and an area code."""
    plain = _ZERO.sub("", part).lstrip(" (")
    abroad = 3 if plain.startswith("+") else 5 if plain.startswith("00") else 0
    return sum(map(str.isdigit, plain)) >= _SHORTEST_LOCAL + abroad


# --- Its readings -------------------------------------------------------------------------------------------------


def _at_its_word(e164: str, text: str, warnings: tuple[str, ...]) -> tuple[str, str | None, tuple[str, ...]]:
    if not is_e164(e164):
        code, reason = form_problem(e164)
        raise PhoneNumberError(tell("no_phone_number", number=_shown(text), reason=reason), code=code)
    e164 = usual_form(e164)
    return e164, planned(e164).region, (*warnings, *warnings_for(e164))


_GLUED = "with a second number or an extension in it: give each number a call of its own, and leave extensions out"
_SPLIT = "with its country code, or the 00 before it, in two pieces"
_OUTSIDE = "behind a digit for an outside line"
_Home = Plan | str | None
_Readings = dict[str, str]
"""The valid numbers that a text could mean, each with the reason why it is not certain; empty if it is."""


class _Way(NamedTuple):
    """A way to take digits: as dialled in the country of the file, or abroad, behind a calling code that is there.

    `likely` is the number that is most probably meant, whether or not it exists.
    """

    plan: Plan
    dialled: str
    likely: str
    exit_code: str = ""
    is_home: bool = False


def _ways(text: str, home: _Home) -> list[_Way]:
    digits, is_national = _digits(text), isinstance(home, Plan) and not _has_plus(text)
    rests = [digits] if _has_plus(text) else behind_exit(digits, home)
    abroad = list[_Way]()
    for rest in rests or ([] if is_national else [digits]):
        if (plan := plan_abroad(rest[:3])).code or rest == digits:
            abroad.append(_Way(plan, rest[len(plan.code) :], f"+{rest}", digits[: -len(rest)]))
    if not isinstance(home, Plan) or not is_national:
        return abroad
    own = [_Way(home, digits, home.meanings(digits)[-1], is_home=True)]
    if digits.startswith(home.code):
        own.insert(0, _Way(home, digits[len(home.code) :], f"+{digits}", is_home=True))
    abroad = [way._replace(plan=home, is_home=True) if way.plan.code == home.code else way for way in abroad]
    return [*own, *abroad]


def _has_plus(text: str) -> bool:
    return text.lstrip("( ").startswith("+")


def _behind(text: str, signs: str = r"\D") -> Iterator[int]:
    """How many digits stand behind each of these signs."""
    return (len(_digits(text[sign.end() :])) for sign in re.finditer(signs, text))


def _spelt(written: str) -> list[str]:
    """A text with a 0 in brackets, and without it."""
    if (whole := _GROUP.fullmatch(written)) is not None:
        written = whole[0][1:-1].strip()
    return [*dict.fromkeys((written, _ZERO.sub(" ", written)))]


def _says_country(written: str, home: _Home) -> bool:
    digits = _digits(written)
    if isinstance(home, Plan) or _has_plus(written) or not behind_exit(digits, home):
        return home is not None or _has_plus(written)
    return _is_together(written)


def _is_together(written: str) -> bool:
    """Whether no sign stands behind the first digit. 0 0151 …: the first 0 may be for an outside line."""
    return len(_digits(written)) - 1 not in _behind(written)


def _valid(written: str, home: _Home) -> _Readings:
    """The valid numbers that a text could mean, also by what it meant before a plan was changed."""
    texts, digits, found = _spelt(written), _digits(written), _Readings()
    if not _says_country(written, home):
        return found
    for text in texts:
        found |= _readings(text, home)
    if not found or digits.startswith("00"):
        for text in texts:
            found |= _of_old(text, home, found)
    if isinstance(home, Plan) and (first := _LONE_DIGIT.match(written)) is not None:
        known, rest = set(map(telephone_of, found)), written[first.end() :]
        if rest.startswith("(") or _digits(rest).startswith(home.trunk):
            outside = (each for text in _spelt(rest) for each in _readings(text, home).items())
            found |= {each: doubt or _OUTSIDE for each, doubt in outside if telephone_of(each) not in known}
    return found


def _of_old(text: str, home: _Home, today: _Readings) -> _Readings:
    """The numbers that a text meant before their plan was changed, as they are now, but for those of `today`.

    In a country, those of others only compete with numbers of today.
    """
    found = _Readings()
    for way in _ways(text, home):
        if way.likely not in today and (today or not way.exit_code or not isinstance(home, Plan)):
            new = {each: _doubt(text, each, way) for each in filter(is_valid, spellings(way.likely)[1:])}
            found |= {each: doubt for each, doubt in new.items() if doubt != _SPLIT}
    return found


_ALSO_DIALLED = {"FR": ("GP", "GF", "MQ", "RE")}
"""Regions with a calling code of their own that people of a country dial as numbers of the country: 0596 … in France
rings in Martinique, though the plan has such a number of France itself."""
_LOST_ZERO = {"39": re.compile(r"[13]\d{8}|89\d{4,8}")}
"""By calling code, numbers that are numbers too with the 0 that a spreadsheet drops, where 0 belongs to the number.

331123456 is an old mobile phone of Italy, and 0331123456 is in Busto Arsizio. New mobile phones have ten digits."""


def _readings(text: str, home: _Home) -> _Readings:
    """The valid numbers of today that a text could mean.

    A number abroad competes with a national number that somebody wrote behind a code for calls abroad, or with a 0 too
    many.
    """
    digits, found, ways = _digits(text), _Readings(), _ways(text, home)
    # Behind another of the codes for calls abroad stands this country's own: 001 66 … in Thailand is no +1 66….
    if any(way.is_home and way.exit_code for way in ways):
        ways = [way for way in ways if way.is_home]
    for way in ways:
        numbers = _numbers(text, way)
        found |= {each: _doubt(text, each, way) for each in numbers}
        if way.is_home or not isinstance(home, Plan):
            continue
        slips = [*behind_exit(digits, home), *([digits[1:]] if digits.startswith("00") else ())]
        own = [number for slip in slips for number in home.numbers(slip)]
        for each in numbers:
            is_clear = _is_in_groups(text, each) or len(way.dialled) in _behind(text)
            found |= {slip: _doubt(text, slip, way) for slip in own if not is_clear or _is_in_groups(text, slip)}
    return found


def _numbers(text: str, way: _Way) -> list[str]:
    """The valid numbers that digits could mean in one way.

    A prefix that is dialled within the country may follow the calling code of another behind a +, or a sign.
    """
    plan, dialled = way.plan, way.dialled
    found = plan.numbers(dialled, anywhere=not way.is_home)
    if not way.is_home:
        may_be_dialled = _has_plus(text) or len(dialled) in _behind(text)
        return found if may_be_dialled else [each for each in found if each == way.likely]
    if way.exit_code:  # 00 7 800 … in Kazakhstan is a number of Russia, of which it shares the code
        return [each for each in found if country_of(each) in dialled_alike(plan.region)]
    if found and dialled == _digits(text):
        if (lost := _LOST_ZERO.get(plan.code)) is not None and lost.fullmatch(dialled):
            found += plan.numbers(f"0{dialled}")
        for region in _ALSO_DIALLED.get(plan.region, ()):
            found += country_named(region).numbers(dialled)
    return found


def _is_in_groups(text: str, e164: str) -> bool:
    """Whether no sign stands within the area code: `0043 1 2345678` is no number of Kiel (0431) with a 0 too many."""
    from phonenumbers import length_of_national_destination_code

    known = planned(e164)
    length, area = len(known.national), length_of_national_destination_code(known.parsed)
    return not any(length - area < behind < length for behind in _behind(text))


def _doubt(text: str, e164: str, way: _Way) -> str:
    """Why a reading is not certain.

    A slash or a bracket stands where only a second number or an extension begins, or a sign within the calling code of
    another country, or behind the first digit of the code for calls abroad.
    """
    length = len(planned(e164).national)
    if any(behind < _SHORTEST_REST or length - behind > _LONGEST_AREA for behind in _behind(text, "[/)]")):
        return _GLUED
    if any(is_valid(e164[:-behind]) for behind in _behind(text, "/")):
        return _GLUED
    length = len(way.dialled)
    is_split = any(length < behind < length + len(way.plan.code) for behind in _behind(text))
    is_split = is_split or (bool(way.exit_code) and not _is_together(text))
    return _SPLIT if is_split and not way.is_home else ""


def _possible_readings(part: str, home: _Home) -> list[str]:
    """The numbers that a part of a text could mean, if their length is possible in their plan."""
    likely = _likely(part, home) if home is not None or _has_plus(part) else ()
    return [number for number in likely if _has_right_length(number)]


def _has_right_length(number: str) -> bool:
    return is_e164(number) and not any(each.startswith(("is too", "does not begin")) for each in warnings_for(number))


def _likely(written: str, home: _Home) -> dict[str, str]:
    """What a text most probably means, whether or not it exists, each with the code for calls abroad before it."""
    ways = [way for text in _spelt(written) for way in _ways(text, home)]
    is_abroad = _digits(written).startswith("00") and any(way.exit_code for way in ways)
    return {way.likely: way.exit_code for way in ways if way.exit_code or not is_abroad}


# --- Refusals -----------------------------------------------------------------------------------------------------

_MOST_NAMED = 3


def _refused(text: str, written: str, home: _Home, valid: Sequence[str]) -> PhoneNumberError:
    """The error for a text that has no valid reading, or several."""
    if valid:
        named = " or ".join(f"{number} ({country_of(number) or 'no country'})" for number in valid[:_MOST_NAMED])
        return PhoneNumberError(tell("several_readings", number=_shown(text), readings=named))
    if not _says_country(written, home):
        return PhoneNumberError(tell("no_country", number=_shown(text), remedy=Remedy.NAME_COUNTRY))
    where = home.region if isinstance(home, Plan) else "any numbering plan"
    probable = [
        # 012 345 6789 begins with a code for calls abroad by chance, unless what follows could be a number.
        (number, code)
        for number, code in _likely(written, home).items()
        if not code or code.startswith("00") or _has_right_length(number)
    ]
    reasons = ", and ".join(_why_not(number, code, home) for number, code in probable[:_MOST_NAMED])
    return PhoneNumberError(tell("no_number_of_country", number=_shown(text), country=where, reasons=reasons))


def _why_not(number: str, exit_code: str, home: _Home) -> str:
    """Why this is no number; after the code for calls abroad that somebody may have dialled."""
    shown = f"behind {exit_code}, a code for calls abroad, {number}" if exit_code else number
    if not is_e164(number):
        return f"{shown}: {form_problem(number)[1].partition(';')[0]}"
    if not (warnings := warnings_for(number)):
        return f"{shown} is one of {country_of(number)}"
    why = warnings[0].partition(";")[0]
    if isinstance(home, Plan) and not exit_code:  # several countries may share a plan, and nobody spoke of another
        plan, of, _ = why.rpartition(" numbering plan of ")
        why = f"{plan}{of}{home.region}" if of else why
    return f"{shown} {why}"


@lru_cache(maxsize=256)
def _home(country: str | None) -> _Home:
    """The country that a user names; INTERNATIONAL and None are returned as they are."""
    code = None if country is None else read_country(country)
    return code if code is None or code == INTERNATIONAL else country_named(code)


ALL = "*"
"""Stands for every country that is not named."""


T = TypeVar("T")


def in_table(table: Mapping[str, T], country: str | None) -> T | None:
    """What a table by country has for a number of this country; None if it has nothing for it.

    A territory that is dialled as in its country (Jersey, the Vatican) is a part of it, unless it is named itself.
    """
    names = () if country is None else (country, dialled_alike(country)[0])
    return next((found for name in (*names, ALL) if (found := table.get(name)) is not None), None)


@dataclass(frozen=True, slots=True)
class Sources:
    """The numbers to call from, by the country (ISO 3166) of the person who is called; `*` is for all others."""

    by_country: Mapping[str, str]

    @property
    def numbers(self) -> tuple[str, ...]:
        """All numbers, each once."""
        return tuple(dict.fromkeys(self.by_country.values()))

    @property
    def only(self) -> str | None:
        """The number for everybody; None if the number depends on the country."""
        return self.by_country[ALL] if len(self.by_country) == 1 and ALL in self.by_country else None

    def to(self, person: str) -> str:
        """The number to call this person from. It is always the same. Raises PhoneNumberError if there is none."""
        country = country_of(person)
        found = in_table(self.by_country, country)
        if found is None:
            given, own = ", ".join(self.by_country), f"{country}=… or " if country else ""
            raise PhoneNumberError(
                f"there is no number to call {person} from, which is a number of {country or 'no country'}: there are "
                f"numbers for {given}; add {own}{ALL}=…"
            )
        return found


@lru_cache(maxsize=256)
def read_whole_number(text: str) -> str:
    """The E.164 form of a number, where nothing can say its country but the number itself. Raises PhoneNumberError."""
    try:
        return read_number(text).e164
    except PhoneNumberError as error:
        message = message_of(error)
        if message.kind == "no_country":
            message = tell("no_country_alone", **message.values)
        raise PhoneNumberError(message, code=error.code) from None


def read_sources(text: str, country: str | None = None) -> Sources:
    """The numbers to call from in a text: `+6531234567` for everybody, or `SG=+6531234567,MY=+60312345678,*=+1…`.

    Numbers are read as by `read_number`. Raises PhoneNumberError for one that is not certain, and InvalidInputError for
    a country that does not exist or stands twice.
    """
    if "=" not in text:
        return Sources({ALL: read_number(text, country).e164})
    found: dict[str, str] = {}
    for part in text.split(","):
        name, sign, number = (each.strip() for each in part.partition("="))
        if not (sign and name and number):
            raise PhoneNumberError(f"{part.strip()[:40]!r} is no country with its number; write it as SG=+6531234567")
        code = ALL if name == ALL else read_country(name)
        if code in found:
            raise InvalidInputError(f"{code} has two numbers to call from; keep one of them")
        if code == INTERNATIONAL:
            raise InvalidInputError(f"{name} is no country; write {ALL} for all countries that are not named")
        found[code] = read_number(number, country).e164
    return Sources(found)
