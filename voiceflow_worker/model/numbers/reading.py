"""Readers of telephone numbers as people write them, and of numbers to call from: what is uncertain is refused."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
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
    plan_warnings,
    spellings,
    telephone_of,
    usual_form,
    warnings_for,
)
from voiceflow_worker.model.numbers.plans import (
    Country,
    behind_any_exit,
    country_named,
    dialled_alike,
    national_part,
    numbers_abroad,
    planned,
)
from voiceflow_worker.model.text.arguments import checked
from voiceflow_worker.model.text.names_of_the_world import UnclearNameError, country_called

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


@checked
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
    home = None if country is None else _home(country)
    if text.startswith("+") and (known := planned(text)) is not None:
        return text, known.region, plan_warnings(known, text)
    written, warnings = _undamaged(text)
    if _WORD.fullmatch(written):
        return _at_its_word("+" + _digits(written), text, warnings)
    shapes = _shapes(written)
    readings = _valid(written, home, text)
    if len(readings) != 1:
        raise _refused(text, shapes, home, list(readings))
    (reading,) = readings.values()
    if reading.is_glued:
        raise PhoneNumberError(
            f"{_shown(text)} holds more than one number, or an extension: give each number a call of its own, and "
            f"leave extensions out; if {reading.e164} is right, {_WRITE}",
            code=MANY_NUMBERS,
        )
    if reading.is_split or reading.is_outside:
        why = "behind a digit for an outside line" if reading.is_outside else "with its country code in two pieces"
        raise PhoneNumberError(
            f"{_shown(text)} could only be {reading.e164} ({reading.region}), {why}; if that is right, {_WRITE}"
        )
    if not reading.is_ordinary:
        warnings += warnings_for(reading.e164)
    return reading.e164, reading.region, warnings


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
    parts = [part for part in _BETWEEN.split(written) if _digits(part)]
    found = dict.fromkeys(_valid_readings(" ".join(parts), home))
    for part in parts:
        own = _valid_readings(part, home)
        own = own or [*_valid_readings(_FIRST_DIGIT.sub("", part), home), *_possible_readings(part, home)]
        if not own and found:  # the last digits of another number: 6123 4567/8
            tail = _digits(part)
            own = [f"{number[: -len(tail)]}{tail}" for number in found if len(tail) < len(number) - 1]
        found.update(dict.fromkeys(own))
    if not found and (extension := _EXTENSION.search(written)) is not None:
        found.update(dict.fromkeys(_valid_readings(written[: extension.start()], home)))
    if not found:
        raise refusal
    numbers = ", ".join(found)
    doubt = f"is one reading of {_shown(text)}, which is not certain; on the list: {numbers}"
    return tuple(ParsedNumber(number, country_of(number), (doubt,)) for number in found)


def is_national(text: str) -> bool:
    """Whether a text has no country code in front: neither a + nor 00."""
    return not _cleaned(text).lstrip("(").startswith(("+", "00"))


def read_country(text: str) -> str:
    """The country that a text names: a code (ISO 3166), a name, or a calling code that no other country has.

    The name may be in any language that babel has: Germany, Deutschland, Allemagne.

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
        written = _country_called(written) or written
    if written.casefold() == INTERNATIONAL:
        return INTERNATIONAL
    region = written.upper()
    region = "GB" if region == "UK" else region  # ISO 3166 reserves UK for this use
    if region not in SUPPORTED_REGIONS:
        raise InvalidInputError(
            f"{text!r} is not a country: give two letters (ISO 3166) or a name, such as SG or Singapore, or "
            f"{INTERNATIONAL} for digits that begin with their country code"
        )
    return region


@lru_cache(maxsize=1000)
def _country_called(name: str) -> str | None:
    try:
        return country_called(name)
    except UnclearNameError:
        raise InvalidInputError(f"{name!r} is the name of several countries: give two letters (ISO 3166)") from None


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
    _PATTERN: "stands for many numbers; give each number that is meant, in full",
}
"""Texts in which there is no number any more, and why."""
# 030 123…456, +4930123...: digits were left out, or cut off.
_CUT = re.compile(r"[(\s]*\+?(?:[\d\s\-/()]|\.(?!\.))*\.\.[\d\s\-./()]*")
# A date whose digits may be a number too: 31.12.2030 in a list of SG, 2030-02-01 in one of DE.
_DAY, _MONTH, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])", r"(?:19|20)\d\d"
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
_FIRST_DIGIT = re.compile(r"^\(?\d\)?")
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
    problem = _damage(written)
    if problem is not None:
        code, reason = problem
        raise PhoneNumberError(tell("number_damaged", number=_shown(text), reason=reason), code=code)
    if decimal := _DECIMAL.fullmatch(written):
        return decimal[1], ("was written as a decimal number; format the column as text",)
    return written, ()


def _cleaned(text: str) -> str:
    """The text without invisible characters, and with all digits and dashes in ASCII.

    What only looks like a digit stays as it is: a ² may be the mark of a footnote.
    """
    usual = "".join(
        character if character.isnumeric() and not character.isdecimal() else unicodedata.normalize("NFKC", character)
        for character in text
    )
    visible = "".join(character for character in usual if unicodedata.category(character) != "Cf")
    ascii_digits = "".join(
        str(unicodedata.decimal(character)) if character.isdecimal() else character for character in visible
    )
    # In a spreadsheet, a leading apostrophe marks a cell as text; some exports keep it.
    plain = ascii_digits.translate(_DASHES).strip().removeprefix("'").strip()
    return _WAIT_FOR_TONE.sub("8", plain)


def _damage(written: str) -> tuple[int, str] | None:
    """The reason why a text cannot be read as one number: an 8x8 code and the rest of a sentence; None if it can."""
    if not written:
        return INVALID_NUMBER, "is empty; give a phone number, such as +6587654321"
    for spoilt, reason in _SPOILT.items():
        if spoilt.fullmatch(written):
            return INVALID_NUMBER, reason
    if _DATE.fullmatch(written):
        return INVALID_NUMBER, f"looks like a date; if it is a number, {_WRITE}"
    if _holds_several(written):
        return MANY_NUMBERS, "holds several numbers; give each a call of its own"
    if letter := next((character for character in written if character.isalpha()), None):
        return INVALID_NUMBER, f"has letters ({letter!r}); give digits only, without names or extensions"
    if not any(map(str.isdigit, written)):
        return INVALID_NUMBER, "has no digits; give a phone number, such as +6587654321"
    if _CUT.fullmatch(written):
        return INVALID_NUMBER, "has dots where digits may have been left out; give the number in full, without them"
    if _LINES.search(written):
        return MANY_NUMBERS, (
            f"has two lines: two numbers, or an extension; give each a call of its own, or, if it is one, {_WRITE}"
        )
    if strange := _STRANGE.search(written):
        return INVALID_NUMBER, f"has {strange[0].strip()!r} in a place where phone numbers have none; remove it"
    if re.search(r"[()]", _GROUP.sub("", written)):
        return INVALID_NUMBER, f"has a bracket without its other half; {_WRITE}"
    return None


def _holds_several(written: str) -> bool:
    parts = _BETWEEN_NUMBERS.split(written)
    return sum(map(_is_long, parts)) > 1 or holds_several(written) or written.count("+") > 1


def _is_long(part: str) -> bool:
    """Whether a part of a text may be a number by itself: +49(0)151 before a slash is a code and an area code."""
    plain = _ZERO.sub("", part).lstrip(" (")
    abroad = 3 if plain.startswith("+") else 5 if plain.startswith("00") else 0
    return sum(map(str.isdigit, plain)) >= _SHORTEST_LOCAL + abroad


# --- Its readings -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Shape:
    """A text as digits. `gaps` are the places among them where a sign stands, `areas` those behind an area code."""

    digits: str
    has_plus: bool
    gaps: frozenset[int] = frozenset()
    areas: tuple[int, ...] = ()
    slashes: tuple[int, ...] = ()


class _Reading(NamedTuple):
    """A valid number that a text could mean.

    `is_glued` is True if it takes two numbers, or a number and an extension, for one. `is_split` is True if it is a
    number of another country, and a sign stands within its country code; `is_outside` if a digit before it is for an
    outside line. A number that `is_ordinary` has no warnings.
    """

    e164: str
    region: str | None
    is_glued: bool = False
    is_split: bool = False
    is_ordinary: bool = False
    is_outside: bool = False


def _at_its_word(e164: str, text: str, warnings: tuple[str, ...]) -> tuple[str, str | None, tuple[str, ...]]:
    if not is_e164(e164):
        code, reason = form_problem(e164)
        raise PhoneNumberError(tell("no_phone_number", number=_shown(text), reason=reason), code=code)
    e164 = usual_form(e164)
    return e164, country_of(e164), (*warnings, *warnings_for(e164))


def _shapes(written: str) -> list[_Shape]:
    """What the digits of a text are: with a 0 in brackets, and without it."""
    if written.isdigit():
        return [_Shape(written, has_plus=False)]
    if (whole := _GROUP.fullmatch(written)) is not None:
        written = whole[0][1:-1].strip()
    shapes = [_shape(written)]
    if _ZERO.search(written):
        shapes.append(_shape(_ZERO.sub(" ", written)))
    return shapes


def _shape(written: str) -> _Shape:
    digits: list[str] = []
    gaps: set[int] = set()
    areas: list[int] = []
    slashes: list[int] = []
    for sign in written:
        if sign.isdigit():
            digits.append(sign)
            continue
        gaps.add(len(digits))
        if sign in "/)":
            areas.append(len(digits))
        if sign == "/":
            slashes.append(len(digits))
    has_plus = written.lstrip("( ").startswith("+")
    return _Shape("".join(digits), has_plus, frozenset(gaps), tuple(areas), tuple(slashes))


def _valid(written: str, home: Country | str | None, text: str) -> dict[str, _Reading]:
    """The valid numbers that a text could mean, also by what it meant before a plan was changed."""
    shapes = _shapes(written)
    found = {reading.e164: reading for shape in shapes for reading in _readings(shape, home, text)}
    if not found or shapes[0].digits.startswith("00"):
        found |= {reading.e164: reading for shape in shapes for reading in _of_old(shape, home, found)}
    if isinstance(home, Country) and (first := _LONE_DIGIT.match(written)) is not None:
        known, rest = set(map(telephone_of, found)), written[first.end() :]
        if rest.startswith("(") or _digits(rest).startswith(home.trunk):
            outside = (each for shape in _shapes(rest) for each in _national(shape, home))
            more = (each for each in outside if telephone_of(each.e164) not in known)
            found |= {each.e164: each._replace(is_outside=True) for each in more}
    return found


def _of_old(shape: _Shape, home: Country | str | None, today: Collection[str]) -> Iterator[_Reading]:
    """The numbers that a text meant before their plan was changed, as they are now, but for those of `today`.

    In a country, those of others only compete with numbers of today.
    """
    for old, exit_code in _probable([shape], home).items():
        if exit_code and isinstance(home, Country) and not today:
            continue
        for number in () if old in today else spellings(old)[1:]:
            if (found := numbers_abroad(number[1:])) is None:
                continue
            behind = len(exit_code) + len(found.code)
            is_split = bool(exit_code) and any(len(exit_code) < gap < behind for gap in shape.gaps)
            for national, region in () if is_split else found.plain:
                yield _Reading(number, region, _is_glued(shape, found.code, national))


def _readings(shape: _Shape, home: Country | str | None, text: str) -> Iterator[_Reading]:
    """The valid numbers that a text could mean. Raises PhoneNumberError for a text that does not say its country."""
    if shape.has_plus:
        yield from _foreign(shape, 0, dialled=True)
        return
    if isinstance(home, Country):
        yield from _national(shape, home)
        return
    digits = shape.digits
    rests = behind_any_exit(digits)
    if (rests and 1 in shape.gaps) or not (rests or home):  # 0 0151 …: the first 0 may be for an outside line
        raise PhoneNumberError(tell("no_country", number=_shown(text), remedy=Remedy.NAME_COUNTRY))
    for start in [len(digits) - len(rest) for rest in rests] or [0]:
        yield from _foreign(shape, start, dialled=None)


_ALSO_DIALLED = {"FR": ("GP", "GF", "MQ", "RE")}
"""Regions with a calling code of their own that people of a country dial as numbers of the country: 0596 … in France
rings in Martinique, though the plan has such a number of France itself."""


_LOST_ZERO = {"39": re.compile(r"[13]\d{8}|89\d{4,8}")}
"""By calling code, numbers that are numbers too with the 0 that a spreadsheet drops, where 0 belongs to the number.

331123456 is an old mobile phone of Italy, and 0331123456 is in Busto Arsizio. New mobile phones have ten digits."""


def _national(shape: _Shape, home: Country) -> Iterator[_Reading]:
    """The numbers that digits without a + could mean in a country: its own, and those behind a code for calls abroad.

    A number abroad competes with a national number that somebody wrote behind such a code, or with a 0 too many.
    """
    digits = shape.digits
    yield from _dialled_at_home(shape, home)
    if digits.startswith(home.code):
        for national in home.numbers(digits[len(home.code) :]):
            yield _own(shape, home, national)
    rests = home.behind_exit(digits)
    starts = [len(digits) - len(rest) for rest in rests]
    slips = [1, *starts] if digits.startswith("00") else starts
    for start in starts:
        for reading in _foreign(shape, start, dialled=None, own=home.code):
            if home.has(reading.region):
                yield reading
                continue
            # Behind another of the codes for calls abroad stands this country's own: 001 66 … in Thailand is no +1 66….
            if any(rest.startswith(home.code) for rest in rests):
                continue
            yield reading
            behind = len(digits) - len(national_part(reading.e164)[0])
            is_clear = behind in shape.gaps or _is_in_groups(shape, reading.e164)
            for slip in slips:
                for national in home.numbers(digits[slip:]):
                    own = _own(shape, home, national)
                    if not is_clear or _is_in_groups(shape, own.e164):
                        yield own


def _dialled_at_home(shape: _Shape, home: Country) -> Iterator[_Reading]:
    """The numbers of a country that these digits could mean, and what else may ring where they are dialled there."""
    own = home.numbers(shape.digits)
    for national in own:
        yield _own(shape, home, national)
        if (lost := _LOST_ZERO.get(home.code)) is not None and lost.fullmatch(national):
            yield from (_own(shape, home, each) for each in home.numbers(f"0{national}"))
    for each in map(country_named, _ALSO_DIALLED.get(home.region, ()) if own else ()):
        for national in each.numbers(shape.digits):
            yield _own(shape, each, national)


def _is_in_groups(shape: _Shape, e164: str) -> bool:
    """Whether no sign stands within the area code: `0043 1 2345678` is no number of Kiel (0431) with a 0 too many."""
    national, area = national_part(e164)
    start = len(shape.digits) - len(national)
    return shape.gaps.isdisjoint(range(start + 1, start + area))


def _own(shape: _Shape, home: Country, national: str) -> _Reading:
    glued = _is_glued(shape, home.code, national)
    region = home.region_of(national)
    return _Reading(f"+{home.code}{national}", region, is_glued=glued, is_ordinary=home.is_ordinary(national))


def _foreign(shape: _Shape, start: int, *, dialled: bool | None, own: str = "") -> Iterator[_Reading]:
    """The numbers that the digits from a place on could mean, which begin with a country code.

    With `dialled`, a prefix that is dialled within the country may follow the code. With None it may if a sign stands
    between the two, or the code is one's `own`.
    """
    found = numbers_abroad(shape.digits[start:])
    if found is None:
        return
    behind = start + len(found.code)
    if dialled is None:
        dialled = behind in shape.gaps or found.code == own
    split = found.code != own and any(start < gap < behind for gap in shape.gaps)
    for national, region in (*found.plain, *(found.dialled if dialled else ())):
        glued = _is_glued(shape, found.code, national)
        place = region if region.isalpha() else None
        yield _Reading(f"+{found.code}{national}", place, glued, split)


def _is_glued(shape: _Shape, code: str, national: str) -> bool:
    """Whether a slash or a bracket stands where only a second number or an extension begins."""
    for place in shape.areas:
        behind = len(shape.digits) - place
        if behind < _SHORTEST_REST or len(national) - behind > _LONGEST_AREA:
            return True
    for place in shape.slashes:
        before = national[: place - len(shape.digits)]
        alone = numbers_abroad(code + before)
        if alone is not None and alone.plain:
            return True
    return False


def _valid_readings(part: str, home: Country | str | None) -> list[str]:
    """The valid numbers that a part of a text could mean."""
    try:
        return list(_valid(part.strip(" -./"), home, part))
    except PhoneNumberError:
        return []


def _possible_readings(part: str, home: Country | str | None) -> list[str]:
    """The numbers that a part of a text could mean, if their length is possible in their plan."""
    shapes = _shapes(part.strip(" -./"))
    if home is None and not any(shape.has_plus for shape in shapes):
        return []
    return [number for number in _probable(shapes, home) if is_e164(number) and _has_right_length(number)]


def _has_right_length(e164: str) -> bool:
    return not any(warning.startswith(("is too", "does not begin")) for warning in warnings_for(e164))


def _probable(shapes: Sequence[_Shape], home: Country | str | None) -> dict[str, str]:
    """What a text could mean, whether or not such a number exists, each with the code for calls abroad before it."""
    found: dict[str, str] = {}
    for shape in shapes:
        digits = shape.digits
        if shape.has_plus:
            found[f"+{digits}"] = ""
            continue
        rests = home.behind_exit(digits) if isinstance(home, Country) else behind_any_exit(digits)
        abroad = {f"+{rest}": digits[: -len(rest)] for rest in rests if numbers_abroad(rest) is not None}
        if isinstance(home, Country) and not (abroad and digits.startswith("00")):
            if digits.startswith(home.code):
                found[f"+{digits}"] = ""
            found[f"+{home.code}{home.probable(digits)}"] = ""
        elif not abroad:
            found[f"+{digits}"] = ""
        found |= abroad
    return found


# --- Refusals -----------------------------------------------------------------------------------------------------

_MOST_NAMED = 3


def _refused(text: str, shapes: Sequence[_Shape], home: Country | str | None, valid: Sequence[str]) -> PhoneNumberError:
    """The error for a text that has no valid reading, or several."""
    if valid:
        named = " or ".join(f"{number} ({country_of(number) or 'no country'})" for number in valid[:_MOST_NAMED])
        return PhoneNumberError(tell("several_readings", number=_shown(text), readings=named))
    where = home.region if isinstance(home, Country) else "any numbering plan"
    probable = [
        # 012 345 6789 begins with a code for calls abroad by chance, unless what follows could be a number.
        (number, code)
        for number, code in _probable(shapes, home).items()
        if not code or code.startswith("00") or _has_right_length(number)
    ]
    reasons = ", and ".join(_why_not(number, code, home) for number, code in probable[:_MOST_NAMED])
    return PhoneNumberError(tell("no_number_of_country", number=_shown(text), country=where, reasons=reasons))


def _why_not(number: str, exit_code: str, home: Country | str | None) -> str:
    """Why this is no number; after the code for calls abroad that somebody may have dialled."""
    shown = f"behind {exit_code}, a code for calls abroad, {number}" if exit_code else number
    if not is_e164(number):
        return f"{shown}: {form_problem(number)[1].partition(';')[0]}"
    if not (warnings := warnings_for(number)):
        return f"{shown} is one of {country_of(number)}"
    why = warnings[0].partition(";")[0]
    if isinstance(home, Country) and not exit_code:  # several countries may share a plan, and nobody spoke of another
        plan, of, _ = why.rpartition(" numbering plan of ")
        why = f"{plan}{of}{home.region}" if of else why
    return f"{shown} {why}"


@lru_cache(maxsize=256)
def _home(country: str | None) -> Country | str | None:
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
