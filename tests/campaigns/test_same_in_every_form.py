"""One list in every form: each person hears the same words, or the same finding stands."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from openpyxl import Workbook

from tests.campaigns.reading import NOW, OPTIONS, file_of, text_of
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import CampaignRows, open_campaign
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.times import DateOrder

Row = Mapping[str, object]
List = Sequence[Row]

TEXTS = (
    "Ana", "ben o'BRIEN", "McDonald", "ALİ IŞIK", "Zoe\u0308", "山田 太郎", "مریم", "😀 Jo", "NIKOΣ", "a, b; c\td",
    'say "hi"', " padded ", "two\nlines", "three\r\nlines", "Null", "N/A", "-", "none", "yes", "no", "Nein", "ja",
    "x", "perhaps", "TRUE",
    "False", "1", "0", "0042", "-3", "+5", "1.250", "1,5", "12.50", "1e5", "25.0", "EUR 12.50", "3rd", "½", "٣",
    '="0042"', '="=1+1"', "'-3.00", "'@Ben", "'0042", "'t Hooft", "=1+1", "@x", "O&#039;Brien", "Tom &amp;amp; Ben",
    "<p>Bring it<br>now</p>", "a < b", "I <3 you", "<x@y.example>", "AT&T", "Ana\u00a0Maria", "\u200eAna\u200f",
    "\ufeffAna", "2:30\u202fPM", "\u200f14:30", "9:05", "25:61", "31/01/2030", "03/04/2030", "1.2.2030 9:00",
    "2030-02-30", "2030-01-31", "2030-04-03", "\u200e2030-01-31", "31/01/2573", "1900-01-01", "1970-01-01",
    "2030-01-31T09:00:00Z", "None", "nan", "NULL", "<NA>", "(null)", "#N/A", "#REF!", "Ã¼ber", "long " * 50,
    "x" * 4000, "y" * 10_001, "{{x}}", "{% if %}", "{name}", "[Name]",
)  # fmt: skip
COLUMNS = ("name", "day", "at", "paid", "n", "Amount Due", "pre\u0301nom", "note")
PARTS = (
    "{{%s}}", "Hello {{%s}}.", "{{%s or 'you'}}", "{% if %s %}{{%s}}{% else %}B{% endif %}",
    "{{ 'A' if not %s else %s }}",
    "{% if %s == 1 %}A{% else %}B{% endif %}", "{% if %s == 'ja' %}A{% else %}B{% endif %}",
    "{% if %s == 'true' %}A{% else %}B{% endif %}", "{% if %s in [1, 2] %}A{% else %}B{% endif %}",
    "{% if %s %}on {{%s}}{% endif %}", "{{ 'A' if %s is defined else 'B' }}", "{{ 'A' if %s > 2 else 'B' }}",
    "{{ 'A' if 2 >= %s else 'B' }}", "{{%s|default('x', true)}}", "{{%s|upper}}", "{{%s|lower}}",
    "{{%s|capitalize}}", "{{%s|date}}", "{{%s|time}}", "{{%s|money('EUR')}}", "{{%s|digits}}", "{{%s|spell}}",
    "{{%s|trim}}", "{{%s|length}}", "{{%s|first}}", "{{%s|last}}",
    "{{%s|abs}}", "{{%s ~ '!'}}", "{{ %s ~ %t }}", "{{ 'A' if %s == %t else 'B' }}", "{{ 'A' if %s < %t else 'B' }}",
    "{% if %s == 'yes' and not %t == 'no' %}A{% endif %}",
    "{{ %s or %t or 'x' }}", "{{%s|default(%t)}}", "{{%s|date('full', language='de')}}", "{{%s|upper|lower}}",
    "{{ 'A' if 0 < %s <= 9 else 'B' }}", "{{ 'A' if %s in ['ja', 'x'] else 'B' }}", "{{ 'A' if %s != 'Ana' else 'B' }}",
    "{{ %s if %s else 'nobody' }}", "{{ %s ~ 'A' or 'B' }}",
)  # fmt: skip
_OF_NAMES = re.compile("only stored with|sets the order")
"""Findings about the name of a column: those of a table are in its header, those of an object in its row."""
MARKS = ("", "", "", "'", "\u200e", "\u00a0")


def typed(random: Random) -> object:
    match random.randrange(12):
        case 9 | 10:
            return math.nan
        case 11:
            return datetime(
                2030, 3, 4, random.randint(0, 23), 15, tzinfo=timezone(timedelta(hours=random.randint(-5, 9)))
            )
        case 0:
            return random.randint(-50, 50)
        case 1:
            return random.choice([6, 25.0, 12.5, -0.5, 1e-7, 123456.75, 0.0, 999999999999999])
        case 2:
            return random.random() < 0.5
        case 3:
            return date(2030, random.randint(1, 12), random.randint(1, 28))
        case 4:
            return datetime.fromisoformat(f"2030-{random.randint(1, 12):02}-03 {random.randint(1, 23):02}:30")
        case 5:
            return time(random.randint(0, 23), random.randint(0, 59))
        case 6:
            return random.choice([date(2573, 1, 31), date(1970, 1, 1), date(9999, 12, 31), date(1900, 3, 1)])
        case _:
            return None


def made(random: Random) -> tuple[List, str]:
    """A list with cells of all kinds, and a text that says them."""
    columns = random.sample(COLUMNS, random.randint(1, 4))
    texts: dict[str, list[object]] = {column: random.choice([random.sample(TEXTS, 6), []]) for column in columns}
    has_types = {column: not texts[column] or random.random() < 0.5 for column in columns}
    times: list[object] = [
        None, "2030-01-31 09:00", "\u200e2030-01-31 09:00+08:00", "soon", datetime.fromisoformat("2030-01-31 09:00"),
    ]  # fmt: skip
    reserved: dict[str, list[object]] = {"not_before": times, "priority": [None, 3, "3", 7.0, "high"]}
    present = [column for column in reserved if random.random() < 0.2]
    rows: list[Row] = []
    size = random.randint(1, 5)
    while len(rows) < size:
        number = len(rows)
        destination = f"{random.choice(MARKS)}+65876543{number:02}"
        row: dict[str, object] = {"destination": random.choice([*[destination] * 5, "12", None, 6587654300 + number])}
        for column in columns:
            row[column] = random.choice([*texts[column], *([typed(random)] * 3 if has_types[column] else [])])
        row |= {column: random.choice(reserved[column]) for column in present}
        rows += [row] if any(map(written, row.values())) else []  # a table has no empty rows
    names = [unicodedata.normalize("NFC", column.replace(" ", "_").lower()) for column in columns]
    parts = [random.choice(PARTS) for _ in range(random.randint(1, 3))]
    text = " ".join(part.replace("%s", random.choice(names)).replace("%t", random.choice(names)) for part in parts)
    return rows, text


def written(value: object) -> str:
    """A value as spreadsheets write it into a CSV."""
    match value:
        case None:
            return ""
        case bool():
            return "TRUE" if value else "FALSE"
        case float():
            return "" if math.isnan(value) else f"{Decimal(repr(value)):f}".removesuffix(".0")
        case datetime() | time():
            return value.isoformat(" ", "minutes") if isinstance(value, datetime) else value.isoformat("minutes")
        case _:
            return str(value)


def as_json(value: object) -> object:
    if isinstance(value, float) and math.isnan(value):
        return None
    return written(value) if isinstance(value, date | time) else value


def as_csv(folder: Path, rows: List, delimiter: str = ",") -> Path:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows([written(value) for value in row.values()] for row in rows)
    return file_of(folder, file.getvalue(), "visits.csv" if delimiter == "," else "visits.tsv")


def as_workbook(folder: Path, rows: List) -> Path:
    book = Workbook()
    sheet: Any = book.active
    sheet.append(list(rows[0]))
    for number, row in enumerate(rows, 2):
        for place, value in enumerate(row.values(), 1):
            has_zone = isinstance(value, datetime) and value.tzinfo is not None  # which no cell has
            cell = sheet.cell(number, place, as_json(value) if has_zone or value != value else value)  # noqa: PLR0124
            if isinstance(value, str) and value.startswith("="):
                cell.data_type = "s"  # a text, and no formula
    book.save(folder / "visits.xlsx")
    return folder / "visits.xlsx"


def as_lines(folder: Path, rows: List) -> Path:
    lines = (json.dumps({name: as_json(value) for name, value in row.items()}) for row in rows)
    return file_of(folder, "\n".join(lines), "visits.jsonl")


FORMS: Mapping[str, Callable[[Path, List], Path | List]] = {
    "csv": as_csv, "tsv": lambda folder, rows: as_csv(folder, rows, "\t"), "xlsx": as_workbook, "jsonl": as_lines,
    "/v1": lambda _, rows: json.loads(json.dumps([{n: as_json(v) for n, v in row.items()} for row in rows])),
    "python": lambda _, rows: rows,
}  # fmt: skip


def result(given: Path | List, options: CampaignOptions) -> list[object]:
    """What each person hears, and when, or what is found; places in a file are left out."""

    def found(column: str | None, message: str) -> tuple[str | None, str]:
        return column, re.sub(r"\b(row|line) \d+|has \d+ bytes", r"\1 N", message).casefold()

    def of_all(findings: Iterable[Finding]) -> list[tuple[str | None, str]]:
        return sorted((found(each.column, each.message) for each in findings), key=repr)

    try:
        campaign: CampaignRows = open_campaign(given, options, now=NOW)
        read = [
            (
                None if row.call is None else (row.call.destination, str(text_of(row.call)).casefold()),
                None if row.call is None else (row.call.not_before, row.call.priority),
                of_all(each for each in row.findings if not _OF_NAMES.search(each.message)),
            )
            for row in campaign
        ]
        return [*read, of_all(campaign.closing_findings())]
    except CampaignFileError as error:
        return [found(each.column, each.message) for each in error.findings]


def judge(folder: Path, seed: int) -> Iterator[str]:
    """The differences between the forms of a list."""
    random = Random(seed)
    rows, text = made(random)
    order = random.choice([None, *DateOrder])
    options = replace(
        OPTIONS, template=FlowTemplate.speaking(text), batch_id="b", date_order=order, country="international",
        time_zone="Asia/Singapore", voice_profile=random.choice(["en-US-JennyNeural", "tr-TR-EmelNeural", "ko-KR-X"]),
    )  # fmt: skip
    results = {form: result(write(folder, rows), options) for form, write in FORMS.items()}
    for form, each in results.items():
        if each != results["csv"]:
            for mine, other in zip(each, results["csv"], strict=False):
                if mine != other:
                    yield f"seed {seed}: {text} with {order}: {form} has\n  {mine}, and CSV\n  {other}"
                    break
            else:
                yield f"seed {seed}: {text}: {form} {len(each)} {len(results['csv'])} {rows}"


@pytest.mark.parametrize(
    "seeds", [range(20), *(pytest.param(range(n, n + 100), marks=pytest.mark.slow) for n in range(1000, 11000, 100))]
)
def test_lists_are_heard_alike_in_every_form(tmp_path: Path, seeds: range) -> None:
    assert [found for seed in seeds for found in judge(tmp_path, seed)] == []
