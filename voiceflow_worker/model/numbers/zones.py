"""The numbers whose time zone is not what `phonenumbers` says: the table zones.tsv, which names its sources."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache

from voiceflow_worker.model.tables import rows_of


def listed_zones(digits: str) -> tuple[str, ...]:
    """Return the zones that the table has for the longest beginning of a number.

    Several zones are a question: the digits do not show in which of them the phone is.
    """
    table = _table()
    return next((table[digits[:size]] for size in range(len(digits), 1, -1) if digits[:size] in table), ())


def listed_prefixes() -> Collection[str]:
    """Return the beginnings of numbers that the table has."""
    return _table().keys()


@cache
def _table() -> Mapping[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for prefixes, endings, zones, _source in rows_of("numbers/zones.tsv"):
        for prefix in prefixes.split():
            found |= {prefix + ending: tuple(zones.split()) for ending in endings.split() or ("",)}
    return found
