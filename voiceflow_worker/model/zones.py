"""Time zones by the names that people and programs have for them, from the newest time zone database."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import cache, lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import TZPATH, ZoneInfo, available_timezones

from voiceflow_worker.model.tables import rows_of

EXAMPLE = "'2030-01-31T09:00:00+08:00'"
"""A time with an offset. In quotes, because a page shows other times in its own zone, and not as they are read."""
_OFFSET = re.compile(r"(UTC|GMT)? ?[+-] ?\d{1,2}(:?\d{2})?", re.IGNORECASE)
_SHOWN_OFFSET = re.compile(r"\s*\((?:UTC|GMT)\s*(?:([+-])\s*(\d{1,2})(?::?(\d{2}))?)?\)\s*", re.IGNORECASE)
"""The offset that programs show beside the name of a zone."""
_IN_DATABASE = re.compile(r"(?<![\w/.])[A-Za-z_]+(?:/[\w+-]+)+", re.ASCII)
_MIDSUMMERS = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC))
_BOTH = re.compile(r"([A-Z]{3,4})\d[A-Z]{3,4}", re.ASCII)
_LEGACY = ("Brazil/", "Canada/", "Chile/", "Etc/", "Mexico/", "US/")
_NO_ZONES = frozenset({"localtime", "posix", "posixrules", "right"})
"""What lies beside the zones of many systems: the zone of the machine, and copies, of which one counts leap seconds."""
_DIRECTIONS = frozenset({"act", "east", "lhi", "north", "nsw", "south", "west"})
"""Parts of the names of old zones that are no cities, such as Australia/West."""
_SHORTEST_GUESS, _LIKENESS = 5, 0.85


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
    """The time zone of this name: in the time zone database, such as Asia/Singapore, in Windows or in Rails.

    A text that names one zone of the database, such as `Eastern Time (America/New_York)`, is that zone, if the offset
    that it may show is one of its own. Raises ValueError.
    """
    text = name.strip()
    if (known_as := _known_as(text)) is not None and (zone := zone_named(known_as)) is not None:
        return zone
    known = _database()
    if not known:
        raise ValueError("cannot be looked up: this machine has no time zone database; install the tzdata package")
    if _OFFSET.fullmatch(text):
        raise ValueError(
            f"{name[:40]!r} is not a time zone; give a name such as Asia/Singapore, or write the offset in the time: "
            f"{EXAMPLE}"
        )
    if meant := _abbreviated(text.upper()):
        raise ValueError(f"{name[:40]!r} is an abbreviation, not a time zone; write {' or '.join(meant)}")
    hint = f"; did you mean {close}?" if (close := _near_zone(text, known)) else ""
    raise ValueError(f"{name[:40]!r} is not a time zone; give a name such as Asia/Singapore{hint}")


def _known_as(text: str) -> str | None:
    """The zone of the database that a text names, or that Windows or Rails call so; None for any other text."""
    offset = _SHOWN_OFFSET.search(text)
    bare = text if offset is None else _SHOWN_OFFSET.sub(" ", text).strip()
    written = bare.replace("_slash_", "/")  # as HubSpot stores them
    if "/" in written:
        named = {each.casefold() for each in _IN_DATABASE.findall(written)}
        found = {each for each in _database() if each.casefold() in named} if named else set[str]()
        name = next(iter(found)) if len(found) == len(named) == 1 else None
    else:
        name = bare if bare in {"UTC", "GMT"} else _names().get(bare.casefold()) or _of_windows(bare)
    if name is None or offset is None or offset[1] is None:
        return name
    ahead = timedelta(hours=int(offset[2]), minutes=int(offset[3] or 0)) * (-1 if offset[1] == "-" else 1)
    zone = zone_named(name)
    return name if any(at.astimezone(zone).utcoffset() == ahead for at in _MIDSUMMERS) else None


@cache
def _database() -> frozenset[str]:
    """The names of all zones of the database: to list them, each of its folders is read."""
    return frozenset(available_timezones())


@cache
def _names() -> Mapping[str, str]:
    """The zones by the names of Rails, and of Windows where babel does not have them."""
    of_rails = {name.casefold(): zone for name, zone, source in rows_of("zone_names.tsv") if source != "abbreviation"}
    return of_rails | {name.casefold(): zone for name, zone, _, _ in rows_of("windows_zones.tsv")}


@cache
def _abbreviations() -> Mapping[str, tuple[str, ...]]:
    rows = rows_of("zone_names.tsv")
    return {name: tuple(zones.split()) for name, zones, source in rows if source == "abbreviation"}


def _of_windows(text: str) -> str | None:
    """The zone that Windows calls so, such as Singapore Standard Time, by the CLDR; None for any other text."""
    if "time" not in text.casefold():
        return None
    from babel.core import get_global

    names: Mapping[str, str] = {each.casefold(): zone for each, zone in get_global("windows_zone_mapping").items()}
    return names.get(text.casefold())


def clocks_in_canada(name: str) -> tuple[str, str] | None:
    """The zone of Canada and that of the United States of which a name such as Mountain Standard Time may mean either.

    None for other names, and for those of the time zone database.
    """
    if "/" in name.replace("_slash_", "/"):
        return None
    found = _known_as(name.strip())
    zones = ((here, there) for _, here, there, _ in rows_of("windows_zones.tsv") if there == found)
    return next(((here, there) for here, there in zones if not _same_clock(here, there)), None)


def _same_clock(one: str, other: str) -> bool:
    moments = (datetime(2027, month, 1, tzinfo=UTC) for month in (1, 7))
    return all(
        at.astimezone(zone_named(one)).utcoffset() == at.astimezone(zone_named(other)).utcoffset() for at in moments
    )


def _abbreviated(text: str) -> tuple[str, ...]:
    """The zones that an abbreviation such as SGT, CEST or EST5EDT may mean; empty for any other text."""
    both = _BOTH.fullmatch(text)
    short = both[1] if both else text
    if short in _abbreviations():
        return _abbreviations()[short]
    # Summer time: EDT belongs to EST, and CEST to CET.
    usual = f"{short[:-2]}ST" if short.endswith("DT") else f"{short[:-3]}ET" if short.endswith("EST") else ""
    zones = ((zone, zone_named(zone)) for zone in _abbreviations().get(usual, ()))
    return tuple(name for name, zone in zones if any(at.astimezone(zone).dst() for at in _MIDSUMMERS))


def _near_zone(text: str, known: Collection[str]) -> str | None:
    """The zone of the city that a text names, or nearly names; None for a text that may be something else."""
    place = text.rpartition("/")[2].replace(" ", "_").casefold()
    by_city = {
        city: zone
        for zone in sorted(known)
        if "/" in zone
        and not zone.startswith(_LEGACY)
        and (city := zone.rpartition("/")[2].casefold()) not in _DIRECTIONS
    }
    if place in by_city:
        return by_city[place]
    close = get_close_matches(place, by_city, n=1, cutoff=_LIKENESS) if len(place) >= _SHORTEST_GUESS else ()
    return by_city[close[0]] if close else None
