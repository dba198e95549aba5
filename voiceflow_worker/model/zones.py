"""Time zones by their names in the newest time zone database."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cache, lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import TZPATH, ZoneInfo, available_timezones

EXAMPLE = "'2030-01-31T09:00:00+08:00'"
"""A time with an offset. In quotes, because a page shows other times in its own zone, and not as they are read."""
_OFFSET = re.compile(r"(UTC|GMT)? ?[+-] ?\d{1,2}(:?\d{2})?", re.IGNORECASE)
_NO_ZONES = frozenset({"localtime", "posix", "posixrules", "right"})
"""What lies beside the zones of many systems: the zone of the machine, and copies, of which one counts leap seconds."""


class ZoneData(NamedTuple):
    """The versions of the time zone database, such as 2026f: that of this system, and that of the package tzdata.

    A system without a database, or whose database does not tell its version, has none.
    """

    system: str | None
    package: str

    @property
    def is_of_package(self) -> bool:
        """Whether time zones are read from the package: unless the system is known to have newer ones."""
        return self.system is None or self.system < self.package


@cache
def zone_data() -> ZoneData:
    """The versions of the time zone databases here. Countries change their clocks at short notice: the newer counts."""
    return ZoneData(next(filter(None, map(_version_in, map(Path, TZPATH))), None), _version_in(zone_file()) or "")


def _version_in(folder: Traversable | Path) -> str | None:
    """The version of the time zone database in a folder; None if it does not say."""
    for name, mark in (("+VERSION", ""), ("tzdata.zi", "# version ")):
        try:
            with (folder / name).open(encoding="utf-8") as file:
                text = file.readline().strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text.startswith(mark):
            return text.removeprefix(mark)
    return None


def zone_file(*names: str) -> Traversable:
    """A file of the time zone database in the package tzdata, such as zone.tab."""
    return resources.files("tzdata").joinpath("zoneinfo", *names)


class _PackageZone(ZoneInfo):
    """A time zone of the package. Zones that were read from a file cannot be sent to another process otherwise."""

    def __reduce__(self) -> tuple[Any, ...]:
        return zone_named, (self.key,)


@lru_cache(maxsize=1024)
def zone_named(name: str) -> ZoneInfo | None:
    """The zone of this name in the newest time zone database; None when there is none. Never raises."""
    if name.partition("/")[0] in _NO_ZONES:
        return None
    try:
        if zone_data().is_of_package and {"", ".", ".."}.isdisjoint(name.split("/")):
            with suppress(FileNotFoundError), zone_file(*name.split("/")).open("rb") as file:
                return _PackageZone.from_file(file, key=name)
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        # ZoneInfoNotFoundError is a KeyError; names with .. are ValueErrors, folders are OSErrors.
        return None


def require_zone(name: str) -> ZoneInfo:
    """The zone of this name. Raises ZoneInfoNotFoundError or ValueError."""
    return zone_named(name) or ZoneInfo(name)


def read_zone(name: str) -> ZoneInfo:
    """Return the time zone of this name in the time zone database, such as Asia/Singapore; or UTC, GMT.

    Names without a slash, such as EST, are refused: people mean others by them than the database. Raises ValueError.
    """
    text = name.strip()
    if ("/" in text or text in {"UTC", "GMT"}) and (zone := zone_named(text)) is not None:
        return zone
    if not available_timezones():
        raise ValueError("cannot be looked up: this machine has no time zone database; install the tzdata package")
    if _OFFSET.fullmatch(text):
        raise ValueError(f"{name[:40]!r} is not a time zone; write the offset in the time: {EXAMPLE}")
    raise ValueError(f"{name[:40]!r} is not a time zone; give a name such as Asia/Singapore")
