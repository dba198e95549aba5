"""The people of the campaign: a workbook with rows in six zones, some of them wrong on purpose."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from itertools import chain
from pathlib import Path
from zoneinfo import ZoneInfo

import xlsxwriter


@dataclass(frozen=True, slots=True)
class Zone:
    """Where some of the people are: the beginning of their numbers, and how many digits follow."""

    name: str
    prefix: str
    digits: int
    is_named: bool = False
    """Whether the rows name the zone: the numbers do not show it."""

    def number(self, place: int) -> str:
        """The number of the person at this place."""
        return f"{self.prefix}{place:0{self.digits}}"


OPENS = Zone("Europe/London", "+447400", 6)
CLOSES = Zone("Asia/Singapore", "+6581", 6)
CLOSED = Zone("America/New_York", "+12122", 6, is_named=True)
ZONES = (
    OPENS,
    Zone("Africa/Johannesburg", "+2782", 7),
    Zone("Asia/Dubai", "+97150", 7),
    Zone("Asia/Jakarta", "+62812", 8, is_named=True),
    CLOSES,
    CLOSED,
)
"""At every hour and in every season the window below opens in the first, is open in the next three, closes in the
fifth, and is closed in the last."""

Row = tuple[str | int | None, ...]
COLUMNS = ("destination", "name", "parcel", "time_zone", "not_before")
BAD = (
    "call the reception",
    "6.58765E+09",
    "+65 8123",
    "+6581234567 / +6581234568",
    None,
    "no zone",
    "no time",
    "no name",
)
"""What is wrong with a bad row: what stands in the column of the number, or what is wrong beside it."""


@dataclass(frozen=True, slots=True)
class Hours:
    """The window of the campaign: it opens in one zone at the moment at which it closes in another."""

    moment: datetime
    opening: time
    closing: time

    @classmethod
    def around(cls, now: datetime, *, ahead: timedelta) -> Hours:
        """The window whose moment is the first whole minute at least so far ahead."""
        moment = (now + ahead).replace(second=0, microsecond=0) + timedelta(minutes=1)
        opening, closing = (moment.astimezone(ZoneInfo(zone.name)).time() for zone in (OPENS, CLOSES))
        return cls(moment, opening, closing)

    def __str__(self) -> str:
        return f"{self.opening:%H:%M}-{self.closing:%H:%M}"

    def are_open(self, at: datetime, zone: Zone) -> bool:
        """Whether a phone in this zone may ring."""
        local = at.astimezone(ZoneInfo(zone.name)).time()
        if self.opening < self.closing:
            return self.opening <= local < self.closing
        return local >= self.opening or local < self.closing


@dataclass(slots=True)
class People:
    """What is in the workbook, and in the list of numbers that must not be called."""

    book: Path
    listed: Path
    rows: int = 0
    bad: Counter[str] = field(default_factory=Counter[str])
    zones: dict[str, Zone] = field(default_factory=dict[str, Zone])
    """The zone of each number that may be called."""
    calls: Counter[str] = field(default_factory=Counter[str])
    """How many calls each number is to get."""
    duplicates: int = 0
    suppressed: set[str] = field(default_factory=set[str])
    suppressed_rows: int = 0

    def of(self, zone: Zone) -> list[str]:
        """The numbers in a zone that have one call, in the order of the workbook."""
        return [number for number, calls in self.calls.items() if self.zones[number] is zone and calls == 1]


def write_people(folder: Path, *, rows: int, seed: int = 2026) -> People:
    """Write `people.xlsx` with so many rows below its header, and `do-not-call.csv`."""
    people = People(folder / "people.xlsx", folder / "do-not-call.csv")
    dice = random.Random(seed)
    with closing(xlsxwriter.Workbook(str(people.book), {"constant_memory": True})) as book:
        sheet = book.add_worksheet("People")
        header: Iterator[Row] = iter([COLUMNS])
        for place, row in zip(range(rows + 1), chain(header, _rows(people, dice)), strict=False):
            people.rows = place
            for column, cell in enumerate(row):
                if isinstance(cell, str):
                    sheet.write_string(place, column, cell)
                elif cell is not None:
                    sheet.write_number(place, column, cell)
    lines = "".join(f"{number}\n" for number in sorted(people.suppressed))
    people.listed.write_text(f"phone\n{lines}", encoding="utf-8")
    return people


def _rows(people: People, dice: random.Random) -> Iterator[Row]:
    """Rows without end: of a hundred, 5 are wrong, 2 are there twice, 2 are a person's second parcel, and one is of
    somebody who must not be called."""
    kinds = ["bad"] * 5 + ["twice"] * 2 + ["second"] * 2 + ["suppressed"] + ["good"] * 90
    before: list[Row] = []
    place = 0
    while True:
        dice.shuffle(kinds)
        for kind in kinds:
            place += 1
            zone = ZONES[place % len(ZONES)]
            number = zone.number(place)
            # Excel keeps most numbers as numbers; those with a plus are texts.
            cell = number if place % 3 else int(number.removeprefix("+"))
            row = (cell, f"Customer {place}", f"P{place:06}", zone.name if zone.is_named else None, None)
            if kind == "bad":
                yield _bad(people, row, BAD[place % len(BAD)])
                continue
            if kind == "twice" and before:
                people.duplicates += 1
                yield before[-1]
                continue
            if kind == "second" and before:
                first = before.pop(0)
                people.calls[_number_in(first)] += 1
                yield (*first[:2], f"P{place:06}", *first[3:])
                continue
            if kind == "suppressed":
                people.suppressed.add(number)
                people.suppressed_rows += 1
                yield row
                continue
            people.zones[number] = zone
            people.calls[number] += 1
            before = [*before[-50:], row]
            yield row


def _number_in(row: Row) -> str:
    return f"+{str(row[0]).removeprefix('+')}"


def _bad(people: People, row: Row, kind: str | None) -> Row:
    people.bad[kind or "empty"] += 1
    match kind:
        case "no zone":
            return (*row[:3], "Asia/Singapor", None)
        case "no time":
            return (*row[:4], "next Tuesday")
        case "no name":
            return (row[0], None, *row[2:])
        case _:
            return (kind, *row[1:])
