"""Numbers whose calling code or area code stands in a column of its own."""

from __future__ import annotations

import re

from voiceflow_worker.errors import InvalidInputError, PhoneNumberError
from voiceflow_worker.model.numbers.plans import planned
from voiceflow_worker.model.numbers.reading import ParsedNumber, read_country, read_number

_CALLING_CODE = re.compile(r"\(?(?:\+|00)?([1-9]\d{0,2})(?:[ -]?(\d{3,4}))?\)?(?:\.0+)?", re.ASCII)
_AREA_CODE = re.compile(r"\(?(0{0,2}[1-9]\d{0,5})\)?(?:\.0+)?", re.ASCII)
_ARGENTINA = "54"


class CodeError(ValueError):
    """Raised for a cell that is no calling code or area code. `is_area` says which; the message is a clause."""

    def __init__(self, message: str, *, is_area: bool) -> None:
        super().__init__(message)
        self.is_area = is_area


def joined_number(text: str, *, calling_code: str, area_code: str, country: str | None) -> ParsedNumber:
    """The number of a text behind a calling code and an area code, one of which may be empty: certain, or refused.

    The text may have the codes too; one that begins with + is taken at its word, if it agrees with them. Without a
    calling code, the number is one of the `country`. Raises CodeError for a code that is none, and PhoneNumberError.
    """
    code, area, homes = _read_codes(calling_code, area_code, country)
    begins = f"+{code}" if code else "+"
    if text.startswith(("+", "00")):
        number = read_number(text, homes[0])
        if not number.e164.startswith(begins) or (area and not _has_area(number, area)):
            raise PhoneNumberError(
                f"{text[:40]!r} is another number than its calling code {calling_code!r} and area code {area_code!r} "
                "say: correct one of them, or empty the codes"
            )
        return number
    found: dict[str, ParsedNumber] = {}
    refused: PhoneNumberError | None = None
    texts = dict.fromkeys((f"{area} {text}", f"{area.lstrip('0')} {text}", text)) if area else [text]
    for home in homes:
        for written in texts:
            try:
                number = read_number(written, home)
            except PhoneNumberError as error:
                refused = refused or error
                continue
            if number.e164.startswith(begins) and (not area or _has_area(number, area)):
                found[number.e164] = number
        if found:
            break
    if len(found) > 1:
        raise PhoneNumberError(
            f"{text[:40]!r} behind the area code {area!r} may be {' or '.join(found)}: write it with + and digits alone"
        )
    if not found:
        codes = " ".join(filter(None, (calling_code, area_code)))
        raise refused or PhoneNumberError(f"{text[:40]!r} is no number behind {codes}: correct one of them")
    return next(iter(found.values()))


def calling_code_of(text: str) -> str | None:
    """The digits of the calling code that a text is, or of the country that it names; None for any other text."""
    from phonenumbers import country_code_for_region

    if (match := _CALLING_CODE.fullmatch(text.strip())) is not None:
        return match[1]
    try:
        return str(country_code_for_region(read_country(text)) or "") or None
    except InvalidInputError:
        return None


def _read_codes(calling_code: str, area_code: str, country: str | None) -> tuple[str, str, list[str | None]]:
    """The digits of both codes, and the countries that the number may be of, the likeliest first."""
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

    area = _AREA_CODE.fullmatch(area_code.strip())
    if area_code.strip() and area is None:
        raise CodeError(f"{area_code[:40]!r} is no area code: write its digits, such as 11", is_area=True)
    digits = area[1] if area is not None else ""
    if not calling_code.strip():
        return "", digits, [country]
    match = _CALLING_CODE.fullmatch(calling_code.strip())
    regions = () if match is None else COUNTRY_CODE_TO_REGION_CODE.get(int(match[1]), ())
    if match is None or not regions or regions == ("001",):
        raise CodeError(f"{calling_code[:40]!r} is no calling code of a country: write it as +55", is_area=False)
    if match[2] is not None and digits and digits != match[2]:  # as of the islands: 1-876
        raise CodeError(f"{calling_code[:40]!r} has another area code than {area_code!r}: correct one", is_area=False)
    homes = sorted(regions, key=lambda each: each != country)
    return match[1], match[2] or digits, [*homes]


def _has_area(number: ParsedNumber, area: str) -> bool:
    """Whether a number has the area code behind its calling code; the 0 of a trunk prefix does not count."""
    known = planned(number.e164)
    bare = area.lstrip("0")
    mobile = f"9{bare}" if known.code == _ARGENTINA else bare  # +54 9 11
    return known.national.startswith((area, bare, mobile))
