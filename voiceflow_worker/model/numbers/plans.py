"""Numbering plans: what phonenumbers knows of a number, what it does not know, and what dialled digits could mean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from types import ModuleType

    from phonenumbers import PhoneMetadata, PhoneNumber

_DIALLED_ALIKE = (
    "GB GG IM JE", "IT VA", "FI AX", "NO SJ", "AU CC CX", "US AS GU MP PR VI", "MA EH", "GP BL MF", "RE YT", "SH TA",
)  # fmt: skip
"""Countries, each with its territories that are dialled as in the country: one calling code and one way to dial."""

E164 = re.compile(r"\+?[1-9][0-9]{6,14}")
"""ITU-T E.164: at most 15 digits, beginning with the country code, which never begins with 0. A number with fewer than
7 digits cannot be called from abroad."""
_ENDED = re.compile(r"\+?(?:82(?=1[16-9]\d{7,8}\Z)|241(?=0|[2-7]\d{6}\Z))")
"""How numbers begin that ended, not in the metadata: Korea's 011 to 019 in 2021, Gabon's old ones in 2024."""
_KINDS = {
    0: "fixed line", 1: "mobile", 2: "mobile or fixed line", 3: "toll-free", 4: "premium-rate", 5: "shared-cost",
    6: "VoIP", 7: "personal", 8: "pager", 9: "company", 10: "voicemail",
}  # fmt: skip
"""The kinds of numbers, by their values in phonenumbers."""


class PlannedNumber(NamedTuple):
    """A number's entry in the plan of its calling code: its ISO 3166 region, None if there is none, and its kind.

    The kind of a number that is not assigned is empty, and so is a calling code that is not in use.
    """

    code: str
    national: str
    region: str | None
    kind: str
    parsed: PhoneNumber


@cache
def _library() -> ModuleType:
    # The import takes 30 ms, so it is done when the first number is read.
    import phonenumbers

    # Since 9.0.43: else Python keeps 512 patterns, and those of a file with numbers of 60 countries are compiled anew.
    getattr(phonenumbers, "enable_pattern_cache", bool)()
    return phonenumbers


@lru_cache(maxsize=128)  # several checks of a call ask for its number
def planned(e164: str) -> PlannedNumber:
    """The entry of a number in E.164 form, as it is written."""
    phonenumbers = _library()
    digits = e164.removeprefix("+")
    if not E164.fullmatch(e164) or not (code := _code_of(digits[:3])):
        return PlannedNumber("", "", None, "", phonenumbers.PhoneNumber())
    national = digits[len(code) :]
    zeros = len(national) - len(national.lstrip("0"))
    number = phonenumbers.PhoneNumber(
        int(code), int(national), italian_leading_zero=zeros > 0, number_of_leading_zeros=zeros
    )
    found = phonenumbers.region_code_for_number(number)
    kind = "" if found is None or _ENDED.match(e164) else _KINDS.get(phonenumbers.number_type(number), "")
    region = found or phonenumbers.region_code_for_country_code(int(code))
    return PlannedNumber(code, digits[len(code) :], region if region.isalpha() else None, kind, number)


def is_valid(e164: str) -> bool:
    """Whether a plan has a number in E.164 form, as it is written."""
    return planned(e164).kind != ""


@dataclass(frozen=True, slots=True)
class Plan:
    """How numbers of a calling code are dialled in a country, and out of it; its territories belong to it."""

    code: str
    region: str
    trunk: str
    """What is dialled before numbers within the country; empty where nothing is."""
    _dialled: re.Pattern[str]
    _rule: str | None
    exits: re.Pattern[str]

    def meanings(self, digits: str) -> list[str]:
        """What these digits, as they are dialled within the country, could mean, whether or not it is a number."""
        found = [digits]
        if (match := self._dialled.match(digits)) is not None and match[0]:
            behind, last = digits[match.end() :], match.re.groups
            changed = self._rule is not None and last and match[last] is not None
            found.append(match.expand(self._rule or "") + behind if changed else behind)
        if self.trunk and digits.startswith(self.trunk):
            found.append(digits[len(self.trunk) :])
        return [f"+{self.code}{national}" for national in dict.fromkeys(found)]

    def numbers(self, digits: str, *, anywhere: bool = False) -> list[str]:
        """The valid numbers of this country that digits, as they are dialled there, could mean.

        With `anywhere`, those of all countries with its calling code.
        """
        if anywhere:
            return [] if _ENDED.match(f"+{self.code}{digits}") else [*filter(is_valid, self.meanings(digits))]
        return [*filter(self._has, self.meanings(digits))]

    def _has(self, e164: str) -> bool:
        from phonenumbers import is_valid_number_for_region

        known, names = planned(e164), dialled_alike(self.region)
        own = known.region in names or any(is_valid_number_for_region(known.parsed, name) for name in names)
        return known.kind != "" and own


def behind_exit(digits: str, country: Plan | str | None) -> list[str]:
    """What follows a code for calls abroad: one text for each that these digits begin with.

    The codes are those of a country; without one, those of all countries that begin with 00. They have 2 to 6 digits.
    """
    exits = country.exits if isinstance(country, Plan) else _exits_of_the_world()
    if exits.match(digits) is None:
        return []
    return [digits[end:] for end in range(2, min(7, len(digits))) if exits.fullmatch(digits, 0, end)]


@lru_cache(maxsize=1000)
def plan_abroad(first_digits: str) -> Plan:
    """The plan of the calling code that these digits begin with, three at most; its code is empty if none is in use."""
    import phonenumbers

    code = _code_of(first_digits)
    region = phonenumbers.region_code_for_country_code(int(code or 0))
    never = re.compile("(?!)")
    return country_named(region) if region.isalpha() and code else Plan(code, region, "", never, None, never)


@lru_cache(maxsize=1000)
def _code_of(first_digits: str) -> str:
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

    codes = (first_digits[:width] for width in (1, 2, 3) if first_digits[:1] not in {"", "0"})
    return next((code for code in codes if int(code) in COUNTRY_CODE_TO_REGION_CODE), "")


# Prefixes that were dialled before a plan was changed, and that nothing else in it begins with: Mexico's until 2019.
_FORMER_TRUNKS = {"MX": "01|04[45]|1"}


@lru_cache(maxsize=300)
def country_named(region: str) -> Plan:
    """The plan of a region that phonenumbers supports."""
    from phonenumbers import PhoneMetadata

    plan = PhoneMetadata.metadata_for_region(region)
    if plan is None:  # pragma: no cover - every supported region has a plan
        raise ValueError(region)
    dialled = plan.national_prefix_for_parsing or _FORMER_TRUNKS.get(region, "(?!)")
    return Plan(
        str(plan.country_code),
        region,
        plan.national_prefix or "",
        re.compile(f"(?:{dialled})"),
        plan.national_prefix_transform_rule,
        re.compile(_exits(plan)),
    )


@cache
def dialled_alike(region: str) -> tuple[str, ...]:
    """The regions that are dialled as this one, and itself. The first is the country, the others its territories."""
    return next((names for names in map(tuple, map(str.split, _DIALLED_ALIKE)) if region in names), (region,))


# Codes that callers use beside those of the metadata.
_MORE_EXITS = {"ID": "|00[17]|01017"}


def _exits(plan: PhoneMetadata) -> str:
    return f"00|(?:{plan.international_prefix or '00'}){_MORE_EXITS.get(plan.id or '', '')}"


@cache
def _exits_of_the_world() -> re.Pattern[str]:
    from phonenumbers import SUPPORTED_REGIONS, PhoneMetadata

    plans = map(PhoneMetadata.metadata_for_region, sorted(SUPPORTED_REGIONS))
    codes = "|".join(sorted({_exits(plan) for plan in plans if plan is not None}))
    return re.compile(f"(?=00)(?:{codes})")
