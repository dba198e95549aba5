"""No file that is accepted has fewer people than its lines, unless it says so: files with random damage."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from tests.campaigns.reading import NOW, OPTIONS
from voiceflow_worker.campaigns.campaign_rows import CampaignRows
from voiceflow_worker.campaigns.number_file import read_number_file
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding

NUMBER = re.compile(r"(?<![A-Za-z0-9])\+65\d{8}(?!\d)")
NAMED = replace(OPTIONS, batch_id="b")
NOTES = ("", "x", "said hi", "Blk 12, #03-04\nBukit Timah", "on 2030-01-31, no answer\nagain, later, x", "5; 6; 7")
SIGNS = (
    '"',
    '"',
    '""',
    "'",
    "\n",
    "\r",
    "\r\n",
    ",",
    ";",
    "\t",
    "|",
    "\x1a",
    "\0",
    "#",
    "//",
    "/*",
    "\\",
    "{",
    "}",
    ":",
    "[",
)
EVERY_DAY, ALL = 400, 100_000
PARTS = 100

Person = Mapping[str, str]


def people(chance: random.Random) -> list[Person]:
    start = chance.randrange(80_000_000, 89_000_000)
    return [
        {"destination": f"+65{start + 7 * place}", "name": f"N{place}", "note": chance.choice(NOTES)}
        for place in range(chance.randint(2, 8))
    ]


def table(chance: random.Random, rows: Sequence[Person]) -> str:
    text = io.StringIO()
    quoting: Literal[0, 1] = csv.QUOTE_ALL if chance.random() < 1 / 3 else csv.QUOTE_MINIMAL
    writer = csv.DictWriter(
        text, chance.sample(list(rows[0]), 3), delimiter=chance.choice(",;\t|"), quoting=quoting,
        lineterminator=chance.choice(["\n", "\r\n", "\r"]),
    )  # fmt: skip
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def lines(chance: random.Random, rows: Sequence[Person]) -> str:
    return "".join(f"{json.dumps(row)}{chance.choice(['', ' '])}\n" for row in rows)


def listed(_: random.Random, rows: Sequence[Person]) -> str:
    return "".join(f"{row['destination']}\n" for row in rows)


def damaged(chance: random.Random, text: str) -> str:
    """The text with one to three damages at random places, of which the ends of cells and lines are the likeliest."""
    for _ in range(chance.randint(1, 3)):
        edges = [place for place, sign in enumerate(text) if sign in ',;\t|\n\r"'] or [0]
        at = chance.choice([chance.choice(edges), chance.choice(edges) + 1, chance.randrange(len(text) + 1)])
        match chance.randrange(6):
            case 0 | 1 | 2:
                text = text[:at] + chance.choice(SIGNS) + text[at:]
            case 3:
                text = text[:at] + text[at + 1 :]
            case 4:
                text = text[:at] + text[at : at + 2][::-1] + text[at + 2 :]
            case _:
                text = text[: max(at, len(text) // 2)]
    return text


def called(given: Path | Iterable[Mapping[str, object]]) -> tuple[set[str], Sequence[Finding]] | None:
    """The numbers that are called, and the warnings; None for a file that is refused."""
    try:
        campaign = CampaignRows(given, NAMED, now=NOW)
        rows = list(campaign)
    except CampaignFileError:
        return None
    if any(row.is_bad for row in rows):
        return None
    findings = [found for row in rows for found in row.findings]
    return {row.number for row in rows if row.number}, [*campaign.findings, *findings, *campaign.closing_findings()]


def judge_campaign(text: str, given: Path | Iterable[Mapping[str, object]]) -> bool:
    """Whether the file is accepted; then nobody is missing whose number stands in it, or it is told."""
    found = called(given)
    if found is None:
        return False
    numbers, findings = found
    told = " ".join(each.message for each in findings)
    missing = [each for each in NUMBER.findall(text) if each not in numbers and each not in told]
    assert not missing or "left out" in told or "is skipped" in told or "are skipped" in told, (missing, repr(text))
    return True


def judge_list(text: str, path: Path) -> bool:
    try:
        found = read_number_file(path)
    except CampaignFileError:
        return False
    # Where bad lines are skipped, their numbers are on the list too.
    told = " ".join(each.message for each in (*found.findings, *found.warnings))
    missing = [each for each in NUMBER.findall(text) if each not in found.numbers and each not in told]
    assert not missing, (missing, repr(text))
    return not found.findings


def judged(chance: random.Random, folder: Path) -> tuple[str, bool]:
    """The kind of a random damaged file, and whether it is accepted."""
    rows = people(chance)
    kind = chance.choice(["csv", "csv", "csv", "gz", "jsonl", "rows", "list of a table", "list"])
    write: Callable[[random.Random, Sequence[Person]], str] = {"jsonl": lines, "list": listed}.get(kind, table)
    text = damaged(chance, write(chance, rows))
    content = text.encode()
    if kind == "rows":
        read = list(csv.DictReader(io.StringIO(text, newline="")))
        return kind, bool(read) and judge_campaign(text, read)  # without rows, a program calls nobody
    ending = {"gz": "csv.gz", "jsonl": "jsonl", "list": "txt"}.get(kind, "csv")
    path = folder / f"people.{ending}"
    path.write_bytes(gzip.compress(content, compresslevel=1, mtime=0) if kind == "gz" else content)
    return kind, (judge_list if kind.startswith("list") else judge_campaign)(text, path)


def judge_all(seed: int, count: int, folder: Path) -> None:
    chance = random.Random(seed)
    accepted: dict[str, int] = {}
    for _ in range(count):
        kind, is_accepted = judged(chance, folder)
        accepted[kind] = accepted.get(kind, 0) + is_accepted
    assert all(accepted.values()), "some damages do no harm"
    assert sum(accepted.values()) < count * 2 / 3, "most are told"


def test_no_damaged_file_is_accepted_with_fewer_people_than_its_lines(tmp_path: Path) -> None:
    judge_all(1, EVERY_DAY, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_no_damaged_file_of_100_000_is_accepted_with_fewer_people_than_its_lines(part: int, tmp_path: Path) -> None:
    judge_all(1000 + part, ALL // PARTS, tmp_path)
