"""Numbering plans as one pattern for each region. A match takes 5 µs, a parse by phonenumbers 20 times as long.

The patterns are compiled from the metadata of phonenumbers. They decide about ordinary numbers without a national
prefix. Other numbers, such as premium-rate numbers, need phonenumbers itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from phonenumbers import PhoneMetadata, PhoneNumberDesc

NO_REGION = "001"
"""The region of codes that belong to no country, such as +800."""
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")


@dataclass(frozen=True, slots=True)
class PlannedNumber:
    """A number's entry in a plan: the region, such as SG, and whether the number is assigned there."""

    region: str
    is_assigned: bool


@dataclass(frozen=True, slots=True)
class _Region:
    """A region of a country code. `leading`, if given, decides which numbers the region has; otherwise `valid` does."""

    assigned: PlannedNumber
    leading: re.Pattern[str] | None
    valid: re.Pattern[str]
    ordinary: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class _Plan:
    """The plan of a country code of `width` digits.

    `dialled` matches prefixes that are dialled within the country, and `lengths` are the lengths of its numbers. A plan
    without `regions` belongs to no country.
    """

    width: int
    dialled: re.Pattern[str]
    lengths: frozenset[int]
    regions: tuple[_Region, ...]

    def region_of(self, national: str) -> _Region | None:
        """The region of a number (given without its country code), whether or not the number is valid there."""
        if len(self.regions) == 1:
            return self.regions[0]
        for region in self.regions:
            if region.leading.match(national) if region.leading is not None else region.valid.fullmatch(national):
                return region
        return None


def planned(e164: str) -> PlannedNumber | None:
    """The plan's entry for a number in E.164 form with its +; None if only phonenumbers can decide."""
    plan = _plan_of(e164[1:4]) if _E164.fullmatch(e164) else None
    if plan is None or not plan.regions:
        return None
    national = e164[1 + plan.width :]
    if national[0] == "0" or plan.dialled.match(national):
        return None
    region = plan.region_of(national)
    if region is not None and region.ordinary.fullmatch(national):
        return region.assigned
    if len(national) not in plan.lengths or (region is not None and region.valid.fullmatch(national)):
        return None
    return PlannedNumber((region or plan.regions[0]).assigned.region, is_assigned=False)


def only_region(e164: str) -> str | None:
    """The region of a number, assigned or not, if its country code alone decides it; otherwise None.

    This takes a third of the time of `planned`.
    """
    plan = _plan_of(e164[1:4]) if _E164.fullmatch(e164) else None
    if plan is None or len(plan.regions) != 1:
        return None
    national = e164[1 + plan.width :]
    return None if national[0] == "0" or plan.dialled.match(national) else plan.regions[0].assigned.region


def ordinary_within(digits: str, region: str) -> str | None:
    """The E.164 form of an ordinary national number of a region; None if only phonenumbers can decide.

    The result is also None for digits that could be a country code and a number of that country.
    """
    code, dialled = _dialling(region)
    e164 = f"+{code}{digits}"
    number = planned(e164)
    if dialled.match(digits) or number is None or not number.is_assigned:
        return None
    abroad = _plan_of(digits[:3])
    if abroad is not None:
        national = digits[abroad.width :]
        if not abroad.regions or national[:1] == "0" or abroad.dialled.match(national):
            return None
        other = abroad.region_of(national)
        if other is not None and other.valid.fullmatch(national):
            return None
    return e164


@lru_cache(maxsize=1000)
def _plan_of(first_digits: str) -> _Plan | None:
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

    for width in range(1, 4):
        names = COUNTRY_CODE_TO_REGION_CODE.get(int(first_digits[:width])) if first_digits[:width].isdecimal() else None
        if names is None:
            continue
        known = [found for name in names if (found := PhoneMetadata.metadata_for_region(name)) is not None]
        if names[0] == NO_REGION or len(known) != len(names):
            return _Plan(width, re.compile(""), frozenset(), ())
        lengths = frozenset(known[0].general_desc.possible_length if known[0].general_desc is not None else ())
        return _Plan(width, _dialled(known[0]), lengths, tuple(map(_region, known)))
    return None


@lru_cache(maxsize=300)
def _dialling(region: str) -> tuple[int, re.Pattern[str]]:
    """The country code of a region, and the prefixes that are dialled there before national or foreign numbers."""
    from phonenumbers import PhoneMetadata

    plan = PhoneMetadata.metadata_for_region(region)
    if plan is None or plan.country_code is None:
        return 0, re.compile("")
    return plan.country_code, re.compile(f"0|{_dialled(plan).pattern}|(?:{plan.international_prefix or '(?!)'})")


def _dialled(plan: PhoneMetadata) -> re.Pattern[str]:
    return re.compile(f"(?:{plan.national_prefix_for_parsing or '(?!)'})")


def _region(plan: PhoneMetadata) -> _Region:
    usual = (plan.mobile, plan.fixed_line, plan.toll_free, plan.voip, plan.personal_number, plan.uan)
    unusual = (plan.premium_rate, plan.shared_cost, plan.pager, plan.voicemail)
    general = _any((plan.general_desc,))
    return _Region(
        assigned=PlannedNumber(plan.id or "", is_assigned=True),
        leading=re.compile(plan.leading_digits) if plan.leading_digits is not None else None,
        valid=re.compile(rf"(?={general}\Z)(?:{_any((*usual, *unusual))})"),
        ordinary=re.compile(rf"(?={general}\Z)(?!{_any(unusual)}\Z)(?:{_any(usual)})"),
    )


def _any(kinds: Iterable[PhoneNumberDesc | None]) -> str:
    """A pattern for the numbers of any of these kinds."""
    return f"(?:{'|'.join(_pattern(kind) for kind in kinds if kind is not None) or '(?!)'})"


def _pattern(kind: PhoneNumberDesc) -> str:
    if not kind.national_number_pattern:
        return "(?!)"
    lengths = "|".join(rf"\d{{{length}}}" for length in kind.possible_length if length > 0)
    fits = rf"(?=(?:{lengths})\Z)" if lengths else ""
    return f"{fits}(?:{kind.national_number_pattern})"
