"""What goes wrong with a list on its way, planted in an ordinary one of 300 people: a check shows each of it."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest

from tests.campaigns.reading import NOW, file_of, saying
from voiceflow_worker.campaigns.enqueue import check_file
from voiceflow_worker.campaigns.preview import PreviewOptions

Row = list[str]
Table = list[Row]
NAMES = ("Ana Lim", "Ben Tan", "Çağla Öz", "Dee Wong", "Zoë O'Neil", "Li Na", "Jürgen Groß")
OPTIONS = replace(
    saying("Hello {{name}}: {{visit|date}} at {{time|time}}, {{amount|money('SGD')}}."), country="SG", batch_id=None
)
HEADER = ["Name", "destination", "Visit", "Time", "Amount", "Team", "Status"]
NAME, NUMBER, VISIT, TIME, AMOUNT, TEAM, STATUS = range(7)
FIRST, LAST = 1, 300


def clean() -> Table:
    """300 people with all that a text speaks, in the order of their visits."""

    def person(place: int) -> list[str]:
        day = (NOW + timedelta(days=2 + place % 40)).date()
        number = f"{8 + place % 2}{place % 7 + 1}{place * 7919 % 900_000 + 100_000}"
        return [
            NAMES[place % len(NAMES)], number, str(day), f"{8 + place % 9:02}:{place % 4 * 15:02}",
            f"{place * 1.37 + 10:.2f}", "ABC"[place % 3], "Booked",
        ]  # fmt: skip

    return [HEADER, *(person(place) for place in range(LAST))]


def shown(folder: Path, content: str) -> list[str]:
    """All that a check shows of a list: findings, values of columns that nobody reads, days and times, the preview."""
    report = asyncio.run(check_file(file_of(folder, content), OPTIONS, now=NOW, assumptions=PreviewOptions()))
    told = [f"{each.column}: {each.message}" for each in report.findings]
    told += [f"{each.column}: {each.in_words()}" for each in report.unread]
    told += [f"{each.column}: {each.in_words(NOW)}" for each in report.moments]
    return [*told, *(": ".join(each) for each in (report.preview.in_words() if report.preview else ()))]


def text_of(table: Table) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(table)
    return file.getvalue()


Damage = Callable[[Table], Table | str]


def cells(place: int, change: str | Callable[[str], str], rows: slice = slice(150, 151)) -> Damage:
    """Other texts in the cells of a column, in these rows."""
    return lambda table: [
        *table[: rows.start],
        *(
            [*row[:place], change if isinstance(change, str) else change(row[place]), *row[place + 1 :]]
            for row in table[rows]
        ),
        *table[rows.stop or LAST + 1 :],
    ]


def row(change: Callable[[Row], Row]) -> Damage:
    """Another row in place of one."""
    return lambda table: [*table[:150], change(table[150]), *table[151:]]


def text(change: Callable[[str], str]) -> Damage:
    """Another text of the whole file."""
    return lambda table: change(text_of(table))


def filled_down(table: Table) -> Table:
    return [
        *table[:100],
        *([r[NAME], str(91230000 + n), *r[VISIT:]] for n, r in enumerate(table[100:130])),
        *table[130:],
    ]


def one_too_low(table: Table) -> Table:
    numbers = ["", *(each[NUMBER] for each in table[1:])]
    return [HEADER, *([each[NAME], number, *each[VISIT:]] for each, number in zip(table[1:], numbers, strict=False))]


EVERY, TEN = slice(FIRST, None), slice(100, 110)


DAMAGES: dict[str, tuple[Damage, str]] = {
    # -- the table
    "cells that are one column to the right": (row(lambda r: ["", *r[:-1]]), "'Çağla Öz' has letters ('Ç')"),
    "cells that are one column to the left": (row(lambda r: [*r[1:], ""]), "looks like a date"),
    "numbers that are one row too low": (one_too_low, "destination: is missing but it is required"),
    "a row that is cut": (row(lambda r: r[:3]), "the row has 3 cells, but the header has 7"),
    "a cell too many": (row(lambda r: [*r[:1], "x", *r[1:]]), "the row has 8 cells, but the header has 7"),
    "a file that is cut": (text(lambda t: t[:-11]), "Status: Booked 299, empty 1"),
    "a comma without quotes": (
        text(lambda t: t.replace("Dee Wong", "Wong, Dee", 1)), "has 8 cells, but the header has 7",
    ),
    "a quote that is not closed": (text(lambda t: t.replace("Dee", '"Dee', 1)), "is opened and not closed"),
    "a quote that is closed much later": (
        text(lambda t: 'Li Na"'.join(t.replace("Dee", '"Dee', 1).rsplit("Li Na", 1))),
        "takes in lines that look like rows",
    ),
    "the header once more": (lambda t: [*t[:150], HEADER, *t[150:]], "'destination' has letters"),
    "a title above the header": (lambda t: [["Patients of May"], *t], "line 2 looks like the header"),
    "a total below the list": (lambda t: [*t, ["Total", "300"]], "looks like the footer of the program"),
    "no header": (lambda t: t[1:], "begins with a line that looks like data"),
    "another delimiter in a row": (row(lambda r: [";".join(r)]), "the row has 1 cell, but the header has 7"),
    "a row that is there twice": (lambda t: [*t, t[150]], "requests the same call as row 151"),
    "a column in place of another": (
        lambda t: [HEADER, *([*r[:TEAM], r[STATUS], r[TEAM]] for r in t[1:])], "Status: A 100, B 100, C 100",
    ),
    # -- numbers
    "two numbers in a cell": (cells(NUMBER, "81234567 / 91234567"), "holds several numbers, or two lines"),
    "numbers that are glued together": (cells(NUMBER, "8123456791234567"), "18 digits are too many"),
    "a number without its last digits": (cells(NUMBER, "8123456"), "is too short for the numbering plan of SG"),
    "scientific notation": (cells(NUMBER, lambda n: f"{float(n):.2E}"), "which wrote it in scientific notation"),
    "a letter for a digit": (cells(NUMBER, "8I234567"), "has letters ('I')"),
    "a number of another country": (cells(NUMBER, "60123456789"), "is no number of SG"),
    "one with its country": (cells(NUMBER, "+60123456789"), "calls: 300: SG 299, MY 1"),
    "a date for a number": (cells(NUMBER, "31/01/2573"), "looks like a date"),
    "a number for a name": (cells(NAME, "81234567"), "a number or a code among words"),
    "no number": (cells(NUMBER, ""), "destination: is missing but it is required"),
    "one number for many people": (cells(NUMBER, "91234567", TEN), "10 rows call +6591234567"),
    "numbers that were filled down": (filled_down, "have numbers that count up by one"),
    "the own number": (cells(NUMBER, "+6531234567"), "the number that the calls come from"),
    # -- dates, times and amounts
    "days for months, where that can be": (
        cells(VISIT, lambda d: f"{d[:5]}{d[8:]}-{d[5:7]}" if int(d[8:]) < 13 else d, EVERY),
        "Visit: is over before the call can ring",
    ),
    "another order of dates": (
        cells(VISIT, lambda d: f"{d[8:]}/{d[5:7]}/{d[:4]}", TEN), "give the order of day, month and year",
    ),
    "a date of the year before": (cells(VISIT, "2025-03-20"), "Visit: is over before the call can ring in 1 row"),
    "a date that does not exist": (cells(VISIT, "2026-02-30"), "'2026-02-30' is not a date"),
    "a date that counts days": (cells(VISIT, "46100"), "it counts days, as spreadsheets store dates"),
    "a time at night": (cells(TIME, "02:30"), "Time: 02:30 to 16:45"),
    "times without am and pm": (
        cells(TIME, lambda t: f"{(int(t[:2]) - 1) % 12 + 1}:{t[3:]}", EVERY), "Time: 01:00 to 12:45",
    ),
    "a comma for a point": (cells(AMOUNT, "1,234"), "'1,234' is not an amount"),
    "an error of a formula": (cells(AMOUNT, "#REF!"), "holds the error #REF! of a formula"),
    # -- words
    "letters in another encoding": (
        text(lambda t: t.encode().decode("cp1252", "replace")), "UTF-8 that was read as Windows-1252",
    ),
    "letters that are lost": (cells(NAME, "J\ufffdrgen"), "a character that a program could not read"),
    "a name that says not to call": (cells(NAME, "Ana Lim (do not call)"), "says in 1 row not to call somebody"),
    "people who cancelled": (cells(STATUS, "Cancelled", TEN), "Status: Booked 290, Cancelled 10"),
}  # fmt: skip
UNSEEN: dict[str, Damage] = {
    # Nothing in the list says which number is right, or whose it is: a call to the wrong one rings.
    "a number that has become another one": cells(NUMBER, lambda n: f"{n[0]}{n[2]}{n[1]}{n[3:]}"),
    "names that were sorted without their rows": lambda t: [
        HEADER, *([name, *each[1:]] for name, each in zip(sorted(r[NAME] for r in t[1:]), t[1:], strict=True)),
    ],
}  # fmt: skip


@cache
def before(folder: Path) -> frozenset[str]:
    return frozenset(shown(folder, text_of(clean())))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lists")


@pytest.mark.parametrize("damage", [*DAMAGES, *UNSEEN])
def test_a_planted_damage_is_shown(folder: Path, damage: str) -> None:
    assert "calls: 300: SG 300" in before(folder)
    plant, sentence = DAMAGES.get(damage) or (UNSEEN[damage], "")
    made = plant(clean())
    new = {*shown(folder, made if isinstance(made, str) else text_of(made))} - before(folder)
    found = [each for each in new if sentence in each and not each.startswith(("row ", "longest text", "talk time"))]
    assert bool(found) is (damage in DAMAGES), (damage, new)
