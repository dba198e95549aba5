"""One row, or one list, in every form that is read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.campaigns.reading import NOW, Row, calls_of, file_of, read, text_of, told
from tests.campaigns.workbooks import workbook
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.row_reader import ReadRow
from voiceflow_worker.campaigns.campaign_rows import open_campaign

FORMS = ("csv", "xlsx", "jsonl", "rows")


def written(folder: Path, rows: Sequence[Row], form: str) -> Path | Sequence[Row]:
    """These rows as a file of a form, or as a program gives them. In a table, what a row lacks is an empty cell."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[row.get(name) for name in names] for row in rows]
    match form:
        case "csv":
            table = io.StringIO()
            csv.writer(table).writerows([names, *cells])
            return file_of(folder, table.getvalue())
        case "xlsx":
            return workbook(folder, [names, *cells])
        case "jsonl":
            return file_of(folder, "".join(json.dumps(row, default=str) + "\n" for row in rows), "visits.jsonl")
        case _:
            return rows


Reader = Callable[[Path, Row, CampaignOptions], list[ReadRow]]


def from_json(folder: Path, row: Row, options: CampaignOptions) -> list[ReadRow]:
    return read(file_of(folder, json.dumps(row) + "\n", "visits.jsonl"), options)


def from_csv(folder: Path, row: Row, options: CampaignOptions) -> list[ReadRow]:
    lines = [",".join(row), ",".join(map(str, row.values()))]
    return read(file_of(folder, "\n".join(lines)), options)


def from_workbook(folder: Path, row: Row, options: CampaignOptions) -> list[ReadRow]:
    return read(workbook(folder, [list(row), list(row.values())]), options)


def from_mappings(_folder: Path, row: Row, options: CampaignOptions) -> list[ReadRow]:
    return list(open_campaign([row], options, now=NOW))


READERS: tuple[Reader, ...] = (from_csv, from_json, from_workbook, from_mappings)


def spoken(rows: list[ReadRow]) -> list[object]:
    assert told(rows) == []
    return list(map(text_of, calls_of(rows)))


ANA = "+6587654321"


def errors_of(reader: Reader, folder: Path, options: CampaignOptions, **cells: object) -> list[str]:
    """What is wrong with the row of Ana that has these cells."""
    return [
        f"{column}: {message}" for _, column, _, message in told(reader(folder, {"destination": ANA, **cells}, options))
    ]
