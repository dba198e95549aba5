"""The number that a person sees who is called: one for everybody, or one for each country."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from voiceflow_worker.errors import InvalidInputError, PhoneNumberError
from voiceflow_worker.model.numbers.phone import country_of
from voiceflow_worker.model.numbers.plans import dialled_alike
from voiceflow_worker.model.numbers.reading import INTERNATIONAL, country_code, read_number

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
        code = ALL if name == ALL else country_code(name)
        if code in found:
            raise InvalidInputError(f"{code} has two numbers to call from; keep one of them")
        if code == INTERNATIONAL:
            raise InvalidInputError(f"{name} is no country; write {ALL} for all countries that are not named")
        found[code] = read_number(number, country).e164
    return Sources(found)
