"""The formats of files: which one a file has, and the reader of its rows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from voiceflow_worker.campaigns.files.csv_rows import CsvRows
from voiceflow_worker.campaigns.files.input_file import InputFile, read_lines
from voiceflow_worker.campaigns.files.json_rows import JsonDocument, JsonLines, read_json
from voiceflow_worker.campaigns.files.rows import FileKind, RowSource
from voiceflow_worker.campaigns.sources.workbooks import ExcelRows, ParquetRows
from voiceflow_worker.errors import CampaignFileError

_BY_SUFFIX = {
    ".csv": FileKind.CSV,
    ".tsv": FileKind.CSV,
    ".jsonl": FileKind.JSON_LINES,
    ".ndjson": FileKind.JSON_LINES,
    ".json": FileKind.JSON,
    ".json5": FileKind.JSON,
    ".jsonc": FileKind.JSON,
    ".xlsx": FileKind.EXCEL,
    ".xlsm": FileKind.EXCEL,
    ".parquet": FileKind.PARQUET,
}
_BY_BEGINNING = {b"PK\x03\x04": FileKind.EXCEL, b"PAR1": FileKind.PARQUET}


def open_source(
    file: InputFile,
    *,
    kind: FileKind | None = None,
    sheet: str | None = None,
    number_column: str | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> RowSource:
    """The rows of a file. `kind` is the format, detected by default, and `sheet` is the sheet of a workbook.

    `number_column` is the name of the column of the numbers to call in a table, if it is not `destination`. Raises
    CampaignFileError if the file cannot be read.
    """
    kind = kind or kind_of(file)
    if sheet is not None and kind is not FileKind.EXCEL:
        raise CampaignFileError(f"{file} has no sheet {sheet!r}: only workbooks have sheets")
    match kind:
        case FileKind.CSV:
            return CsvRows(file, number_column=number_column, on_bytes=on_bytes)
        case FileKind.JSON_LINES:
            return JsonLines(file, on_bytes=on_bytes)
        case FileKind.JSON:
            return JsonDocument(file, on_bytes=on_bytes)
        case FileKind.EXCEL:
            return ExcelRows(file, sheet=sheet, number_column=number_column, on_bytes=on_bytes)
        case FileKind.PARQUET:
            return ParquetRows(file, number_column=number_column, on_bytes=on_bytes)


def kind_of(file: InputFile) -> FileKind:
    """The format of a file, by its name, or else by its content. Raises CampaignFileError if it cannot be read."""
    known = _BY_SUFFIX.get(file.suffix)
    if known is not None:
        return known
    with file.opened() as (reader, _):
        binary = _BY_BEGINNING.get(reader.peek(4)[:4])
    if binary is not None:
        return binary
    first = [line.text for line in islice(read_lines(file), 50) if line.text.strip()]
    if not first or not first[0].lstrip().startswith(("{", "[", "//", "/*")):
        return FileKind.CSV
    try:
        read_json(first[0])
    except ValueError:
        return FileKind.JSON
    return FileKind.JSON_LINES if len(first) > 1 else FileKind.JSON
