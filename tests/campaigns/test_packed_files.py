"""Campaign files from Parquet, gzip and standard input."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.campaigns.reading import NOW, calls_of, file_of, refused, text_of, told
from tests.campaigns.reading import WITH_CODES as OPTIONS
from tests.campaigns.reading import read_codes as read
from tests.campaigns.test_number_cells import KEY
from tests.campaigns.workbooks import parquet, workbook
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.files import formats, input_file
from voiceflow_worker.campaigns.files.formats import kind_of
from voiceflow_worker.campaigns.files.input_file import standard_input
from voiceflow_worker.campaigns.files.rows import FileKind
from voiceflow_worker.errors import CampaignFileError

TABLE = "destination,name\n+6587654321,Ana\nnone,Ben\n"
LINES = '{"destination": "+6587654321", "name": "Ana"}\n{"destination": "none", "name": "Ben"}\n'


def test_a_typed_column_is_the_text_that_people_would_have_typed(tmp_path: Path) -> None:
    for values, text in [
        (pa.array([12], pa.int64()), "12"),
        (pa.array([1234567890123456789], pa.int64()), "1234567890123456789"),
        (pa.array([12.0]), "12"),
        (pa.array([Decimal("12.50")]), "12.50"),
        (pa.array([True]), "true"),
        (pa.array([date(2030, 1, 31)]), "2030-01-31"),
        (pa.array([datetime.fromisoformat("2030-01-31 09:30")], pa.timestamp("ns")), "2030-01-31 09:30"),
        (pa.array([datetime(2030, 1, 31, 9, 30, tzinfo=UTC)], pa.timestamp("us", "UTC")), "2030-01-31 09:30+00:00"),
        (pa.array([time(9, 30)]), "09:30"),
        (pa.array(["Ana"]).dictionary_encode(), "Ana"),
        (pa.array([b"Ana"]), "Ana"),
    ]:
        rows = read(parquet(tmp_path, {"destination": ["+6587654321"], "name": values}))
        assert list(map(text_of, calls_of(rows))) == [f"Hello {text}."]


def test_numbers_that_a_data_frame_made_floats_are_read(tmp_path: Path) -> None:
    rows = read(parquet(tmp_path, {"destination": [6587654321.0, float("nan"), None], "name": ["Ana", "Ben", None]}))
    assert [row.number for row in rows] == ["+6587654321", None]
    assert [(row, column) for row, column, *_ in told(rows)] == [(2, "destination")]
    values = [Decimal("6587654321.00"), Decimal("8765432.10"), Decimal("6587650000.00")]
    rows = read(parquet(tmp_path, {"destination": values, "name": ["Ana", "Ben", "Cy"]}))
    assert len(calls_of(rows)) == 1
    assert [(row, column) for row, column, *_ in told(rows)] == [(2, "destination"), (3, "destination")]


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    whole = parquet(tmp_path, {"destination": ["+6587654321"] * 1000, "name": ["Ana"] * 1000}).read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:10] + bytes(30) + whole[40:]):
        assert "is not a Parquet file, or it is damaged" in refused(file_of(tmp_path, damaged, "half.parquet"))
    assert "cannot be read: No such file or directory; check its name and its folder" in refused(
        tmp_path / "none.parquet"
    )
    (tmp_path / "folder.parquet").mkdir()
    assert "cannot be read: Is a directory; name a file in it" in refused(tmp_path / "folder.parquet")


def test_a_table_that_is_a_folder_is_refused_by_name(tmp_path: Path) -> None:
    for name, log in (("delta", "_delta_log/0.json"), ("ice", "metadata/v1.metadata.json"), ("hudi", ".hoodie/x")):
        (tmp_path / name / log).parent.mkdir(parents=True)
        (tmp_path / name / log).touch()
        part = tmp_path / name / "day=1"
        part.mkdir()
        table = parquet(part, {"destination": ["+6587654321"], "name": ["Ana"]})
        assert "is a" in refused(tmp_path / name)
        assert "also have people who were deleted from it" in refused(tmp_path / name)
        assert "also have people who were deleted from it" in refused(table)
        assert "also have people who were deleted from it" in refused(parquet(tmp_path / name, {"destination": [1]}))
        beside = file_of(tmp_path / name, TABLE)
        assert len(read(beside)) == 2, "a list of another kind is beside it"
    (tmp_path / "parts" / "country=SG").mkdir(parents=True)
    assert "is a folder with the parts of one table" in refused(tmp_path / "parts")


def test_the_types_of_parquet_are_those_that_its_schema_has(tmp_path: Path) -> None:
    """What other writers than Arrow say in the schema of Parquet, and Arrow does not read."""
    arrow: Any = pa
    columns = {
        "destination": ["+6587654321"], "name": ["Ana"], "price": arrow.array([1250.55], arrow.float32()),
        "half": arrow.array([1.1], arrow.float16()), "key": arrow.array([KEY.bytes], arrow.uuid()),
        "blob": arrow.array([b"\xff\0"]), "left": arrow.array([b"\0" * 12], arrow.binary(12)),
    }  # fmt: skip
    path = parquet(tmp_path, columns)
    assert list(map(text_of, calls_of(read(path, OPTIONS)))) == ["Hello Ana."]
    said = replace(OPTIONS, template=FlowTemplate.speaking("{{price}} {{half}} {{key}}"))
    assert list(map(text_of, calls_of(read(path, said)))) == [f"1250.55 1.1 {KEY}"]
    for name in ("blob", "left"):
        found = told(read(path, replace(OPTIONS, template=FlowTemplate.speaking(f"{{{{{name}}}}}"))))
        assert [(column, message) for _, column, _, message in found] == [(name, "holds binary data; write it as text")]


@pytest.mark.slow
def test_what_duckdb_and_polars_write_is_spoken_as_they_show_it(tmp_path: Path) -> None:
    duckdb, polars = (pytest.importorskip(name, reason=f"{name} is not installed") for name in ("duckdb", "polars"))
    select = (
        "select '+6587654321' as destination, 'Ana' as name, timetz '10:30:00+08' as tz, time '10:30' as t, "
        "1250.55::float as price, uuid '550e8400-e29b-41d4-a716-446655440000' as u, interval 3 days as iv, "
        "'\"Ana\"'::json as j, 'ab'::blob as b, 5::hugeint as h"
    )
    duckdb.sql(f"copy ({select}) to '{tmp_path / 'duck.parquet'}' (format parquet)")
    for say, heard in [("Hello {{name}}.", "Hello Ana."), ("{{t|time}} {{price}} {{u}} {{j}} {{h}}", None)]:
        rows = read(tmp_path / "duck.parquet", replace(OPTIONS, template=FlowTemplate.speaking(say)))
        assert list(map(text_of, calls_of(rows))) == [heard or f"10:30 1250.55 {KEY} Ana 5"]
    ((_, column, _, message),) = told(
        read(tmp_path / "duck.parquet", replace(OPTIONS, template=FlowTemplate.speaking("{{tz}}")))
    )
    assert (column, message[:28]) == ("tz", "is 02:30:00 in UTC without a")
    frame = polars.DataFrame({"destination": ["+6587654321"], "n": polars.Series([1250.55], dtype=polars.Float32)})
    frame.write_parquet(tmp_path / "polars.parquet")
    rows = read(tmp_path / "polars.parquet", replace(OPTIONS, template=FlowTemplate.speaking("{{n}}")))
    assert list(map(text_of, calls_of(rows))) == ["1250.55"]
    frame.with_columns(polars.Series("n", [5], dtype=polars.Int128)).write_parquet(tmp_path / "wide.parquet")
    assert "has a column of a type that is not read here" in refused(tmp_path / "wide.parquet")


@pytest.mark.parametrize(("name", "content"), [("visits.csv.gz", TABLE), ("visits.jsonl.gz", LINES)])
def test_a_packed_file_is_read_with_its_rows_and_its_batch(tmp_path: Path, name: str, content: str) -> None:
    campaign = open_campaign(file_of(tmp_path, gzip.compress(content.encode()), name), OPTIONS, now=NOW)
    rows = list(campaign)
    assert campaign.batch_id == "visits"
    assert list(map(text_of, calls_of(rows))) == ["Hello Ana."]
    assert [(row, column) for row, column, *_ in told(rows)] == [(rows[1].raw.number, "destination")]


@pytest.mark.slow
def test_a_packed_file_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_file, "_SUSPICIOUS_BYTES", 1_000_000)
    bomb = gzip.compress(b"destination,name\n" + b"\n" * 3_000_000)
    assert "unpacks to more than 200 times its size" in refused(file_of(tmp_path, bomb, "bomb.csv.gz"))


def contents(folder: Path) -> dict[FileKind, bytes]:
    header, row = ("destination", "name"), ("+6587654321", "Ana")
    return {
        FileKind.CSV: TABLE.encode(),
        FileKind.JSON_LINES: LINES.encode(),
        FileKind.EXCEL: workbook(folder, [header, row]).read_bytes(),
        FileKind.PARQUET: parquet(folder, {"destination": row[:1], "name": row[1:]}).read_bytes(),
    }


@pytest.mark.parametrize("kind", [FileKind.CSV, FileKind.JSON_LINES, FileKind.EXCEL, FileKind.PARQUET])
def test_standard_input_is_read_in_any_format(tmp_path: Path, kind: FileKind) -> None:
    with standard_input(io.BytesIO(contents(tmp_path)[kind])) as file:
        assert kind_of(file) is kind
        rows = list(open_campaign(file, replace(OPTIONS, batch_id="b"), now=NOW))
    assert text_of(calls_of(rows)[0]) == "Hello Ana."


def test_standard_input_needs_a_batch(tmp_path: Path) -> None:
    with (
        standard_input(io.BytesIO(TABLE.encode())) as file,
        pytest.raises(CampaignFileError, match="standard input has no name to use as a batch id; name the batch"),
    ):
        open_campaign(file, OPTIONS, now=NOW)


def _one_long_text(folder: Path) -> Path:
    texts: Any = pa.DictionaryArray.from_arrays(pa.array([0] * 2000), pa.array(["Ana" * 1_000_000]))
    return parquet(folder, {"destination": ["+6587654321"] * 2000, "name": texts})


def _long_lists(folder: Path) -> Path:
    empty: Any = pa.ListArray.from_arrays([0, 50_000_000], pa.nulls(50_000_000, pa.int8()))
    return parquet(folder, {"destination": ["+6587654321"], "name": empty})


def _one_long_row(folder: Path) -> Path:
    path = workbook(folder, [("destination", "name"), ("+6587654321", "Ana")])
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    row = b'<row r="3">' + b"<c><v>1</v></c>" * 4_000_000 + b"</row></sheetData>"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        for name, part in parts.items():
            book.writestr(name, part.replace(b"</sheetData>", row) if "worksheets/" in name else part)
    return path


def test_more_rows_of_parquet_than_the_size_of_the_file_lets_expect_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "_LEAST_ROWS", 1000)
    path = parquet(tmp_path, {"destination": ["+6587654321"] * 200_000, "name": ["Ana"] * 200_000})
    size = path.stat().st_size
    said = refused(path)
    assert f"has 200000 rows, and a list of calls in a file of {size} bytes has at most {1000 + 10 * size}" in said


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
@pytest.mark.parametrize(
    "bomb", [_one_long_text, *(pytest.param(each, marks=pytest.mark.slow) for each in (_long_lists, _one_long_row))]
)
def test_a_small_file_that_would_fill_the_memory_is_refused(tmp_path: Path, bomb: Callable[[Path], Path]) -> None:
    path = bomb(tmp_path)
    command = f"""
from pathlib import Path
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.campaigns.files.formats import open_source
from voiceflow_worker.errors import CampaignFileError
try:
    list(open_source(InputFile(Path({str(path)!r}))))
except CampaignFileError as error:
    used = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(int(used.split()[1]) // 1000, error)
"""
    ended = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=100, check=True)
    megabytes, _, said = ended.stdout.partition(" ")
    assert "drop" in said or "delete the columns" in said
    assert int(megabytes) < 700
