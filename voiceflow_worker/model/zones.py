"""The numbers whose time zone is not what `phonenumbers` says: the table zones.tsv, which names its sources."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any
from zoneinfo import ZoneInfo

EXAMPLE = "'2030-01-31T09:00:00+08:00'"
"""A time with an offset. In quotes, because a page shows other times in its own zone, and not as they are read."""
_NO_ZONE = "{!r} is not a time zone; give a name such as Asia/Singapore"
_OFFSET = re.compile(r"(UTC|GMT)? ?[+-] ?\d{1,2}(:?\d{2})?", re.IGNORECASE)


def zone_file(*names: str) -> Traversable:
    """Return a file of the time zone database, such as zone.tab."""
    return resources.files("tzdata").joinpath("zoneinfo", *names)


class _PackageZone(ZoneInfo):
    """A time zone of the package. Zones that were read from a file cannot be copied otherwise."""

    def __reduce__(self) -> tuple[Any, ...]:
        return zone_named, (self.key,)


@lru_cache(maxsize=1024)
def zone_named(name: str) -> ZoneInfo | None:
    """Return the zone of this name, or None if there is none. Never raises."""
    if not {"", ".", ".."}.isdisjoint(parts := name.split("/")):
        return None
    try:
        with zone_file(*parts).open("rb") as file:
            return _PackageZone.from_file(file, key=name)
    except (OSError, ValueError):  # a folder, or a file that is no zone
        return None


def require_zone(name: str) -> ZoneInfo:
    """Return the zone of this name. Raise ValueError if there is none."""
    if (zone := zone_named(name)) is None:
        raise ValueError(_NO_ZONE.format(name[:40]))
    return zone


def read_zone(name: str) -> ZoneInfo:
    """Return the time zone of this name, such as Asia/Singapore; or UTC, GMT.

    Names without a slash, such as EST, are refused: people mean others by them than the database. Raises ValueError.
    """
    text = name.strip()
    if _OFFSET.fullmatch(text):
        raise ValueError(f"{name[:40]!r} is not a time zone; write the offset in the time: {EXAMPLE}")
    if "/" not in text and text not in {"UTC", "GMT"}:
        raise ValueError(_NO_ZONE.format(text[:40]))
    return require_zone(text)
