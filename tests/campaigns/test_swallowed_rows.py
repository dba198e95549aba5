"""A quote opened by mistake: rows that lie within a cell are told, and no list of numbers loses them."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.campaigns.reading import NOW, OPTIONS, file_of, read, told
from tests.campaigns.workbooks import workbook
from voiceflow_worker.campaigns.calls.options import BadRowLimit
from voiceflow_worker.campaigns.campaign_rows import CampaignRows, open_campaign
from voiceflow_worker.campaigns.enqueue import check_file, enqueue_file, enqueue_rows
from voiceflow_worker.campaigns.files.input_file import standard_input
from voiceflow_worker.campaigns.files.rows import ColumnRoles
from voiceflow_worker.campaigns.number_file import read_number_file
from voiceflow_worker.errors import CampaignFileError

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
    assert (row, column) == (2, "note")
    assert message.startswith(f"takes in lines that look like rows: line 3, '{number(1)},N1,n1', and 2 more")
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
        read_rows = read(file_of(tmp_path, text.getvalue()))
        assert [row.number for row in read_rows] == [row["destination"] for row in rows], delimiter
        assert told(read_rows) == []


async def test_every_way_in_refuses_such_a_row(tmp_path: Path) -> None:
    content = swallowing(COLUMNS, column="note", rows=3)
    within = "n0\n" + "\n".join(f"{number(place)},N{place},n{place}" for place in (1, 2, 3))
    cells = [(number(0), "N0", within), (number(4), "N4", "n4")]
    objects: list[Mapping[str, object]] = [dict(zip(COLUMNS, row, strict=True)) for row in cells]
    lines = "\n".join(map(repr, objects)).replace("'", '"')
    sources: list[Path] = [
        file_of(tmp_path, content, "a.csv"),
        file_of(tmp_path, gzip.compress(content.encode()), "b.csv.gz"),
        file_of(tmp_path, content.replace("\n", "\r"), "c.csv"),
        file_of(tmp_path, content.replace("\n", "\r\n"), "d.csv"),
        file_of(tmp_path, content.replace(",", "\t"), "e.tsv"),
        file_of(tmp_path, "sep=;\n" + content.replace(",", ";"), "f.csv"),
        file_of(tmp_path, lines, "g.jsonl"),
        workbook(tmp_path, [COLUMNS, *cells]),
    ]
    for path in sources:
        rows = read(path)
        assert rows[0].is_bad, path
        assert "look like rows" in told(rows)[0][3], path
        assert len(told(rows)) == 1, "one finding"
        report = await check_file(path, OPTIONS, now=NOW)
        assert report.rejected == 4, path
    with standard_input(io.BytesIO(content.encode())) as held:
        rows = list(open_campaign(held, replace(OPTIONS, batch_id="b"), now=NOW))
        assert told(rows)[0][:2] == (2, "note")
    given: Callable[[], Iterator[Mapping[str, object]]] = lambda: csv.DictReader(io.StringIO(content))  # noqa: E731
    for each in (objects, given()):
        report = await enqueue_rows(None, each, replace(OPTIONS, batch_id="b"), now=NOW, dry_run=True)
        assert (report.rejected, report.findings[-1].column) == (4, "note")


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


def test_the_country_of_a_line_that_was_taken_in_is_its_own(tmp_path: Path) -> None:
    content = 'phone,land,note\n8765 4321,SG,"x\n012-345 6789,Malaysia,y\n8765 4322,SG,z"\n8765 4323,SG,\n'
    found = read_number_file(file_of(tmp_path, content), roles=ColumnRoles(country="land"))
    assert sorted(found.numbers) == ["+60123456789", "+6587654321", "+6587654322", "+6587654323"]
    assert found.findings == []


def test_a_number_that_lost_its_line_break_is_told(tmp_path: Path) -> None:
    lines = [f'"{number(place)}","N{place}","x"' for place in range(2)]
    path = file_of(tmp_path, '"destination","name","note"\n' + lines[0] + f'\n{lines[1][:-1]}""{number(2)}"')
    campaign = open_campaign(path, OPTIONS, now=NOW)
    assert [row.number for row in campaign] == [number(0), number(1)]
    (found,) = campaign.closing_findings()
    assert (found.row, found.column, f"holds {number(2)} right behind a quote" in found.message) == (3, "note", True)


def test_a_line_that_is_cut_within_a_row_of_a_program_is_told_and_a_cell_of_numbers_is_always_read(
    tmp_path: Path,
) -> None:
    given = [{"destination": number(0), "note": "", "name": f"N0\n{number(1)},said h"}]
    (row,) = CampaignRows(given, replace(OPTIONS, batch_id="b"), now=NOW)
    assert row.is_bad
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
