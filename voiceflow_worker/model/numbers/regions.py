"""The states of countries with several clocks: the table regions.tsv, which tells its source."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.numbers.phone import country_of
from voiceflow_worker.model.tables import rows_of
from voiceflow_worker.model.text.wording import did_you_mean, searched

_CODE = re.compile(r"([A-Z]{2})-([A-Z]{2,3})")
_NORTH_AMERICA = ("US", "CA")
"""The countries whose numbers begin alike."""


class Region(NamedTuple):
    """A state: its `code` (ISO 3166-2), such as US-FL, and the zones of all its clocks."""

    code: str
    zones: tuple[str, ...]

    @property
    def country(self) -> str:
        """The country of the state."""
        return self.code[:2]


def read_region(code: str) -> str:
    """The code of the state that a text such as `us-fl` names. Raises InvalidInputError."""
    written = code.strip().upper()
    if written not in _table()[0]:
        countries = ", ".join(dict.fromkeys(each[:2] for each in _table()[0]))
        raise InvalidInputError(
            f"{code.strip()[:40]!r} is no state of {countries}{did_you_mean(written, _table()[0])}: write it as US-FL"
        )
    return written


def region_in(text: str, number: str | None) -> Region | None:
    """The state that a text, such as FL, Florida or US-FL, names for a person with this number.

    None for a number of another country, unless the text names the country of the state. Raises InvalidInputError.
    """
    by_code, by_name = _table()
    written = text.strip()
    if _CODE.fullmatch(written.upper()):
        return by_code[read_region(written)]
    country = None if number is None else country_of(number)
    key = _key(written)
    if (found := by_name.get((country or "", key))) is not None:
        return found
    other = next(
        (by_name[name, key] for name in _NORTH_AMERICA if country in _NORTH_AMERICA and (name, key) in by_name), None
    )
    if other is not None:
        raise InvalidInputError(
            f"{written[:40]!r} is a state of {other.country}, and {number} is a number of {country}: correct one, or "
            f"write {other.code} if the person is there"
        )
    known = [each for place, each in by_name if place == country]
    if not known:
        return None
    meant = did_you_mean(key, known)
    raise InvalidInputError(f"{written[:40]!r} is no state of {country}{meant}: write its code or its name")


def _key(name: str) -> str:
    """A name as it is compared: without case, accents, spaces and the signs of abbreviations."""
    return re.sub(r"[\s.,'\u2019()/_-]", "", searched(name))


@cache
def _table() -> tuple[Mapping[str, Region], Mapping[tuple[str, str], Region]]:
    """The states by their codes, and by their countries and names."""
    by_code: dict[str, Region] = {}
    by_name: dict[tuple[str, str], Region] = {}
    for code, names, zones in rows_of("numbers/regions.tsv"):
        region = by_code[code] = Region(code, tuple(zones.split()))
        by_name |= {(code[:2], _key(each)): region for each in (code[3:], *names.split("|"))}
    return by_code, by_name
