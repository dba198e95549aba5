"""A quote opened by mistake, and random damage: rows that lie within a cell are told, and no list loses them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from tests.campaigns.reading import NOW, OPTIONS, file_of, read, read_all, told
from tests.campaigns.workbooks import workbook
from tests.support.started import enqueue_file, enqueue_rows
from voiceflow_worker.campaigns.calls.options import BadRowLimit
from voiceflow_worker.campaigns.campaign_rows import CampaignRows, open_campaign
from voiceflow_worker.campaigns.enqueue import check_file
from voiceflow_worker.campaigns.files.input_file import standard_input
from voiceflow_worker.campaigns.files.rows import ColumnRoles
from voiceflow_worker.campaigns.number_file import read_number_file
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding

pytestmark = pytest.mark.anyio

COLUMNS = ("destination", "name", "note")


def number(place: int) -> str:
    return f"+65{87654300 + place}"


def swallowing(
    order: tuple[str, ...], *, column: str, rows: int, delimiter: str = ",", end: str = "\n", closes: str | None = None
) -> str:
    """A table whose row 0 opens a quote in `column` that is closed `rows` rows later, in `closes` (else its end)."""
    lines = [delimiter.join(order)]
    for place in range(rows + 3):
        cells = {"destination": number(place), "name": f"N{place}", "note": f"n{place}"}
        if place == 0:
            cells[column] = f'"{cells[column]}'
        if place == rows:
            cells[closes or order[-1]] += '"'
        lines.append(delimiter.join(cells[name] for name in order))
    return end.join([*lines, ""])


def files() -> Iterator[tuple[str, str, str]]:
    orders = (COLUMNS, ("name", "note", "destination"), ("note", "destination", "name"))
    for order, many in zip(orders, (499, 500, 700), strict=True):
        for column in ("name", "note"):
            for rows in (3, many):
                for delimiter in (",", ";", "\t", "|")[: 4 if rows == 3 else 1]:
                    made = swallowing(order, column=column, rows=rows, delimiter=delimiter)
                    yield f"{'-'.join(order)}, from {column}, {rows} rows, {delimiter!r}", made, delimiter


def test_no_row_vanishes_within_a_quoted_cell_whatever_the_columns_delimiters_and_lines(tmp_path: Path) -> None:
    for name, content, delimiter in files():
        path = file_of(tmp_path, content, "people.tsv" if delimiter == "\t" else "people.csv")
        rows = read(path)
        bad = [row.raw.number for row in rows if row.is_bad]
        assert bad[0] == 2, name
        last = content.splitlines()[-1].split(delimiter)[content.splitlines()[0].split(delimiter).index("destination")]
        assert rows[-1].number == last, name
        listed = content.replace("destination", "phone")
        found = read_number_file(file_of(tmp_path, listed, path.name))
        missing = {each for each in map(number, range(content.count("+65"))) if each not in found.numbers}
        assert not missing, name
        assert found.warnings or found.findings, name


@pytest.mark.parametrize("closes", ["destination", "name", "note"])
@pytest.mark.parametrize("order", [COLUMNS, ("name", "destination", "note"), ("name", "note", "destination")])
def test_one_row_that_was_taken_in_is_enough(tmp_path: Path, order: tuple[str, ...], closes: str) -> None:
    for column in ("name", "note"):
        content = swallowing(order, column=column, rows=1, closes=closes)
        assert any(row.is_bad and row.raw.number == 2 for row in read(file_of(tmp_path, content))), (column, content)
        found = read_number_file(file_of(tmp_path, content))
        assert {number(0), number(1), number(2), number(3)} <= found.numbers.keys()
        assert found.warnings or found.findings


def test_the_message_names_the_row_the_column_what_was_found_and_what_to_do(tmp_path: Path) -> None:
    ((row, column, _, message),) = told(read(file_of(tmp_path, swallowing(COLUMNS, column="note", rows=3))))
    assert (row, column) == (2, None)
    said = "the cell of note takes in lines that look like rows"
    assert message.startswith(f"{said}: line 3, '{number(1)},N1,n1', and 2 more")
    assert "remove it, close it in its own line" in message


NOTES = [
    "first line\nsecond line",
    "Blk 12, #03-04\nBukit Timah, Singapore 588176",
    "called on\n2030-01-31, no answer, 09:30\n31.1.2030, again, 10:00",
    "pays 12000, 13000, 14000\nand more, and more",
    "to do:\n\n- call, ask, note\n- 5, 6, 7\n",
    "her daughter:\n+65 8123 4567",
    'says "hi, there, you"\nand "bye"',
]


@pytest.mark.parametrize("order", [COLUMNS, ("name", "note", "destination"), ("note", "name", "destination")])
def test_a_note_of_several_lines_without_such_lines_is_read(tmp_path: Path, order: tuple[str, ...]) -> None:
    for delimiter in ",;\t":
        text = io.StringIO()
        rows = [{"destination": number(place), "name": "Ana", "note": note} for place, note in enumerate(NOTES)]
        writer = csv.DictWriter(text, order, delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
        reading = read_all(file_of(tmp_path, text.getvalue()))
        assert [row.number for row in reading.rows] == [row["destination"] for row in rows], delimiter
        assert reading.errors == []


async def test_every_way_in_refuses_such_a_row(tmp_path: Path) -> None:
    content = swallowing(COLUMNS, column="note", rows=3)
    within = "n0\n" + "\n".join(f"{number(place)},N{place},n{place}" for place in (1, 2, 3))
    cells = [(number(0), "N0", within), (number(4), "N4", "n4")]
    objects: list[Mapping[str, object]] = [dict(zip(COLUMNS, row, strict=True)) for row in cells]
    files: dict[str, str | bytes] = {
        "a.csv": content, "b.csv.gz": gzip.compress(content.encode()), "c.csv": content.replace("\n", "\r"),
        "d.csv": content.replace("\n", "\r\n"), "e.tsv": content.replace(",", "\t"),
        "f.csv": "sep=;\n" + content.replace(",", ";"), "g.jsonl": "\n".join(map(json.dumps, objects)),
    }  # fmt: skip
    paths = [file_of(tmp_path, each, name) for name, each in files.items()]
    for path in (*paths, workbook(tmp_path, [COLUMNS, *cells])):
        rows = read(path)
        ((*_, message),) = told(rows)  # one finding
        assert (rows[0].is_bad, "look like rows" in message) == (True, True), path
        assert (await check_file(path, OPTIONS, now=NOW)).rejected == 4, path
    with standard_input(io.BytesIO(content.encode())) as held:
        rows = list(open_campaign(held, replace(OPTIONS, batch_id="b"), now=NOW))
        assert told(rows)[0][:2] == (2, None)
    for each in (objects, csv.DictReader(io.StringIO(content))):
        report = await enqueue_rows(None, each, replace(OPTIONS, batch_id="b"), now=NOW, dry_run=True)
        assert (report.rejected, report.findings[-1].column) == (4, None)


def test_a_header_that_took_in_a_row_is_refused(tmp_path: Path) -> None:
    for header in (
        f'destination,name,"note\n{number(0)},Ana,x"',
        f'destination,"name\n{number(0)},Ana",note',
        f"destination,name,note{number(0)},Ana,x",
        "destination,name,note87654321,Ana,x",
    ):
        path = file_of(tmp_path, f"{header}\n{number(1)},Ben,y\n")
        for reader in (read, read_number_file):
            with pytest.raises(CampaignFileError, match=r"the header holds '.?[0-9]+', a telephone number"):
                reader(path)
    for name in ("2030-01-31", "visit 20300131", "Q1 2030", "1. Visit", "24/12/2030"):
        assert told(read(file_of(tmp_path, f"destination,name,{name}\n{number(1)},Ben,y\n"))) == []


def test_a_skipped_line_of_a_list_still_gives_its_numbers(tmp_path: Path) -> None:
    content = f'phone,name\n{number(0)},"Ana\n{number(1)},Ben\n{number(2)},Cleo,more\n{number(3)},Dan\n'
    found = read_number_file(file_of(tmp_path, content))
    assert [each.row for each in found.findings] == [2, 4]
    assert sorted(found.numbers) == [number(place) for place in range(4)]


def test_a_list_with_lines_that_were_taken_in_is_refused(tmp_path: Path) -> None:
    content = 'phone,land,note\n8765 4321,SG,"x\n012-345 6789,Malaysia,y\n8765 4322,SG,z"\n8765 4323,SG,\n'
    found = read_number_file(file_of(tmp_path, content), roles=ColumnRoles(country="land"))
    assert [(each.row, "takes in lines that look like rows" in each.message) for each in found.findings] == [(2, True)]
    assert [*found.numbers] == ["+6587654323"]


def test_a_line_that_is_cut_within_a_row_of_a_program_is_told_and_a_cell_of_numbers_is_always_read(
    tmp_path: Path,
) -> None:
    given = [{"destination": number(0), "note": "", "name": f"N0\n{number(1)},said h"}]
    assert [row.is_bad for row in read_all(given).rows] == [True]
    listed = file_of(tmp_path, f'phone|name\n"|on 2030-01-31\nagain, x""{number(1)}"|"N1"\n')
    assert number(1) in read_number_file(listed).numbers


@pytest.mark.parametrize("order", [COLUMNS, ("note", "destination", "name")])
async def test_a_limit_of_bad_rows_counts_those_that_a_quote_took_in(tmp_path: Path, order: tuple[str, ...]) -> None:
    lines = [",".join(number(place) if name == "destination" else "x" for name in order) for place in range(100, 140)]
    path = file_of(tmp_path, swallowing(order, column="note", rows=60) + "\n".join(lines) + "\n")
    for limit, is_refused in ((BadRowLimit.read("5 %"), True), (BadRowLimit.read("60"), True), (True, False)):
        options = replace(OPTIONS, batch_id="b")
        report = await enqueue_file(None, path, options, now=NOW, dry_run=True, skip_bad=limit)
        assert (report.rows, report.rejected, report.refused) == (103, 61, is_refused)


# -- random damage: no file that is accepted has fewer people than its lines, unless it says so ------------------------

NUMBER = re.compile(r"(?<![A-Za-z0-9])\+65\d{8}(?!\d)")
NAMED = replace(OPTIONS, batch_id="b")
MORE_NOTES = (
    "",
    "x",
    "said hi",
    "Blk 12, #03-04\nBukit Timah",
    "on 2030-01-31, no answer\nagain, later, x",
    "5; 6; 7",
)

SIGNS = ('"', '"', '""', "'", "\n", "\r", "\r\n", *",;\t|\x1a\0#", "//", "/*", *"\\{}:[")

EVERY_DAY, ALL = 400, 100_000
PARTS = 100

Person = Mapping[str, str]


def people(chance: random.Random) -> list[Person]:
    start = chance.randrange(80_000_000, 89_000_000)
    return [
        {"destination": f"+65{start + 7 * place}", "name": f"N{place}", "note": chance.choice(MORE_NOTES)}
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
