"""Numbering plans as one pattern for each region. A match takes 5 µs, a parse by phonenumbers 20 times as long.

The patterns are compiled from the metadata of phonenumbers. `planned` decides about ordinary numbers; others, such as
premium-rate numbers, need phonenumbers itself. `Country` and `numbers_abroad` know what dialled digits could mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from phonenumbers import PhoneMetadata, PhoneNumberDesc

_DIALLED_ALIKE = (
    "GB GG IM JE", "IT VA", "FI AX", "NO SJ", "AU CC CX", "US AS GU MP PR VI", "MA EH", "GP BL MF", "RE YT", "SH TA",
)  # fmt: skip
"""Countries, each with its territories that are dialled as in the country: one calling code and one way to dial."""

NO_REGION = "001"
"""The region of codes that belong to no country, such as +800."""
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_ENDED = {"82": re.compile(r"1[16-9]\d{7,8}\Z"), "241": re.compile(r"0|[2-7]\d{6}\Z")}
"""By calling code, numbers that ended, not in the metadata: Korea's 011 to 019 in 2021, Gabon's old ones in 2024."""


@dataclass(frozen=True, slots=True)
class PlannedNumber:
    """A number's entry in a plan: the region, such as SG, and whether the number is assigned there."""

    region: str
    is_assigned: bool


@dataclass(frozen=True, slots=True)
class _Trunk:
    """What is dialled before numbers within a country: what `dialled` matches, which `rule` replaces, or `usual`."""

    dialled: re.Pattern[str]
    rule: str | None
    usual: str

    def nationals(self, digits: str) -> tuple[str, ...]:
        """What these digits, as they are dialled within the country, could mean, whether or not it is a number."""
        found: tuple[str, ...] = (digits,)
        if (match := self.dialled.match(digits)) is not None and match[0]:
            behind, last = digits[match.end() :], match.re.groups
            changed = self.rule is not None and last and match[last] is not None
            found += (match.expand(self.rule or "") + behind if changed else behind,)
        if self.usual and digits.startswith(self.usual):
            found += (digits[len(self.usual) :],)
        return found


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

    `lengths` are the lengths of its numbers. A plan without `regions` belongs to no country; `worldwide` has its
    numbers.
    """

    width: int
    trunk: _Trunk
    lengths: frozenset[int]
    regions: tuple[_Region, ...]
    worldwide: _Region | None = None

    def valid(self, nationals: Iterable[str]) -> list[tuple[str, str]]:
        """Those of these national numbers that are valid, each with its region."""
        found: list[tuple[str, str]] = []
        for national in nationals:
            region = self.region_of(national) or self.worldwide
            if region is not None and region.valid.fullmatch(national):
                found.append((national, region.assigned.region))
        return found

    def region_of(self, national: str) -> _Region | None:
        """The region of a number (given without its country code), whether or not the number is valid there."""
        if len(self.regions) == 1:
            return self.regions[0]
        for region in self.regions:
            if region.leading.match(national) if region.leading is not None else region.valid.fullmatch(national):
                return region
        return None


@lru_cache(maxsize=1024)  # several checks of a call ask for its number
def planned(e164: str) -> PlannedNumber | None:
    """The plan's entry for a number in E.164 form with its +; None if only phonenumbers can decide."""
    plan = _plan_of(e164[1:4]) if _E164.fullmatch(e164) else None
    if plan is None or not plan.regions:
        return None
    national = e164[1 + plan.width :]
    if (ended := _ENDED.get(e164[1 : 1 + plan.width])) is not None and ended.match(national):
        return PlannedNumber(plan.regions[0].assigned.region, is_assigned=False)
    if national[0] == "0" or plan.trunk.dialled.match(national):
        return None
    region = plan.region_of(national)
    if region is not None and region.ordinary.fullmatch(national):
        return region.assigned
    if len(national) not in plan.lengths or (region is not None and region.valid.fullmatch(national)):
        return None
    return PlannedNumber((region or plan.regions[0]).assigned.region, is_assigned=False)


@dataclass(frozen=True, slots=True)
class Country:
    """How people of a region dial, within their country and out of it. `code` is the country code.

    Its territories that are dialled alike belong to it, and so does the country of a territory.
    """

    region: str
    code: str
    _trunk: _Trunk
    _plans: tuple[_Region, ...]
    _exits: re.Pattern[str]

    def numbers(self, digits: str) -> list[str]:
        """The valid national numbers of this region that these digits, as they are dialled there, could mean."""
        return _distinct(each for each in self._trunk.nationals(digits) if self._plan_of(each) is not None)

    def region_of(self, national: str) -> str:
        """The region of a valid national number: this one, or one that is dialled alike."""
        plan = self._plan_of(national)
        return self.region if plan is None else plan.assigned.region

    def has(self, region: str | None) -> bool:
        """Whether a region is this one, or one that is dialled alike."""
        return any(plan.assigned.region == region for plan in self._plans)

    def is_ordinary(self, national: str) -> bool:
        """Whether a number of this region is of a usual kind, with nothing to warn of."""
        plan = self._plan_of(national)
        return plan is not None and plan.ordinary.fullmatch(national) is not None

    def _plan_of(self, national: str) -> _Region | None:
        return next((plan for plan in self._plans if plan.valid.fullmatch(national)), None)

    def probable(self, digits: str) -> str:
        """The national number that these digits most probably mean, whether or not it is valid."""
        return self._trunk.nationals(digits)[-1]

    @property
    def trunk(self) -> str:
        """What is dialled before numbers within the country; empty where nothing is."""
        return self._trunk.usual

    def behind_exit(self, digits: str) -> list[str]:
        """What follows the code for calls abroad: one text for each such code that these digits begin with."""
        return _behind(self._exits, digits)


def national_part(e164: str) -> tuple[str, int]:
    """A valid number without its country code, and the count of digits of its area code, or first group; 0 for none."""
    import phonenumbers

    number = phonenumbers.parse(e164)
    area = phonenumbers.length_of_national_destination_code(number)
    return e164.removeprefix(f"+{number.country_code}"), area


def behind_any_exit(digits: str) -> list[str]:
    """The same for the codes of all countries, of digits that begin with 00."""
    return _behind(_exits_of_the_world(), digits) if digits.startswith("00") else []


@dataclass(frozen=True, slots=True)
class ForeignNumbers:
    """What digits that begin with a country code could mean: valid national numbers of that code, with their regions.

    `dialled` are those of which a prefix has been left out that is dialled within the country only.
    """

    code: str
    plain: list[tuple[str, str]]
    dialled: list[tuple[str, str]]


def numbers_abroad(digits: str) -> ForeignNumbers | None:
    """The numbers that these digits could mean with a country code in front; None if none is in use."""
    plan = _plan_of(digits[:3]) if digits[:1] != "0" else None
    if plan is None:
        return None
    whole, *shorter = _distinct(plan.trunk.nationals(digits[plan.width :]))
    return ForeignNumbers(digits[: plan.width], plan.valid([whole]), plan.valid(shorter))


@lru_cache(maxsize=300)
def country_named(region: str) -> Country:
    """The country of a region that phonenumbers supports."""
    from phonenumbers import PhoneMetadata

    plan = PhoneMetadata.metadata_for_region(region)
    if plan is None:  # pragma: no cover - every supported region has a plan
        raise ValueError(region)
    others = [PhoneMetadata.metadata_for_region(name) for name in dialled_alike(region) if name != region]
    plans = tuple(_region(each) for each in (plan, *others) if each is not None)
    return Country(region, str(plan.country_code), _trunk(plan), plans, re.compile(_exits(plan)))


def dialled_alike(region: str) -> tuple[str, ...]:
    """The regions that are dialled as this one, and itself. The first is the country, the others its territories."""
    return next((names for names in map(tuple, map(str.split, _DIALLED_ALIKE)) if region in names), (region,))


# Codes that callers use beside those of the metadata.
_MORE_EXITS = {"ID": "|00[17]|01017"}


def _exits(plan: PhoneMetadata) -> str:
    return f"00|(?:{plan.international_prefix or '00'}){_MORE_EXITS.get(plan.id or '', '')}"


@lru_cache(maxsize=1)
def _exits_of_the_world() -> re.Pattern[str]:
    from phonenumbers import SUPPORTED_REGIONS, PhoneMetadata

    plans = map(PhoneMetadata.metadata_for_region, sorted(SUPPORTED_REGIONS))
    return re.compile("|".join(sorted({_exits(plan) for plan in plans if plan is not None})))


def _behind(exits: re.Pattern[str], digits: str) -> list[str]:
    """The rest of the digits behind each code: codes have 2 to 6 digits."""
    if exits.match(digits) is None:
        return []
    ends = (end for end in range(2, min(7, len(digits))) if exits.fullmatch(digits, 0, end))
    return [digits[end:] for end in ends]


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


@lru_cache(maxsize=1000)
def _plan_of(first_digits: str) -> _Plan | None:
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

    for width in range(1, 4):
        names = COUNTRY_CODE_TO_REGION_CODE.get(int(first_digits[:width])) if first_digits[:width].isdecimal() else None
        if names is None:
            continue
        known = [found for name in names if (found := PhoneMetadata.metadata_for_region(name)) is not None]
        if names[0] == NO_REGION or len(known) != len(names):
            known = [plan for plan in (PhoneMetadata.metadata_for_nongeo_region(int(first_digits[:width])),) if plan]
            return _Plan(width, _trunk(None), frozenset(), (), _region(known[0]) if known else None)
        lengths = frozenset(known[0].general_desc.possible_length if known[0].general_desc is not None else ())
        return _Plan(width, _trunk(known[0]), lengths, tuple(map(_region, known)))
    return None


# Prefixes that were dialled before a plan was changed, and that nothing else in it begins with: Mexico's until 2019.
_FORMER_TRUNKS = {"MX": "01|04[45]|1"}


def _trunk(plan: PhoneMetadata | None) -> _Trunk:
    if plan is None:
        return _Trunk(re.compile("(?!)"), None, "")
    dialled = re.compile(f"(?:{plan.national_prefix_for_parsing or _FORMER_TRUNKS.get(plan.id or '', '(?!)')})")
    return _Trunk(dialled, plan.national_prefix_transform_rule, plan.national_prefix or "")


def _region(plan: PhoneMetadata) -> _Region:
    usual = (plan.mobile, plan.fixed_line, plan.voip)
    unusual = (
        plan.premium_rate, plan.shared_cost, plan.pager, plan.voicemail, plan.toll_free, plan.personal_number, plan.uan,
    )  # fmt: skip
    ended = _ENDED.get(str(plan.country_code))
    general = f"{'' if ended is None else f'(?!{ended.pattern})'}{_any((plan.general_desc,))}"
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
