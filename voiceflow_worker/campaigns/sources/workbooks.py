"""Workbooks (.xlsx) and Parquet files as sources of rows."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, time, timedelta
from io import BufferedReader
from itertools import islice
from typing import Any
from warnings import catch_warnings, simplefilter

from voiceflow_worker.campaigns.files.input_file import InputFile, unreadable
from voiceflow_worker.campaigns.files.rows import FileKind, RawRow, RowSource, read_columns
from voiceflow_worker.campaigns.sources.cells import EXACT, cell_text, message_line, missing_library, table_row
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Remedy

_MOST_TEXTS = 500_000_000
"""The largest size of the table of texts, in bytes. It is the only part of a workbook that has to be in memory."""

_SUSPICIOUS_BYTES, _SUSPICIOUS_RATIO = 100_000_000, 200
"""The largest unpacked size of a part of a workbook or of Parquet, in bytes, and the largest ratio to its packed size.

What is above both limits is refused: it may be a bomb. Ordinary sheets unpack to 5 to 30 times their size."""

_MOST_ROWS = 1_048_576
"""The largest number of rows in a sheet of Excel. It is checked: a damaged file may have larger row numbers."""

_LONGEST_ROW = 2_000_000
"""The largest size of a row in bytes of XML. A row of 16,384 cells, the most that Excel allows, has about a million."""

_ROW_OR_END = re.compile(rb"<(?:\w+:)?row[\s/>]|</(?:\w+:)?sheetData>")

_AT_ONCE = 500
"""The number of rows that are read at a time."""

_ERRORS = frozenset({"#DIV/0!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!", "#SPILL!", "#CALC!"})


class ExcelRows(RowSource):
    """The rows of a sheet. The constructor reads the header: the first row that is not empty.

    If no `sheet` is named, exactly one visible sheet must have rows. Raises CampaignFileError.
    """

    kind = FileKind.EXCEL

    def __init__(
        self,
        file: InputFile,
        *,
        sheet: str | None = None,
        number_column: str | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        self._file = file
        self._on_bytes = on_bytes
        with self._workbook() as (_, book):
            self.sheet: str = self._chosen(book, sheet)
            row, header = next(_filled_rows(book[self.sheet]), (1, ()))
            self._place = f"{file}, sheet {self.sheet}"
            if not header:
                raise CampaignFileError(
                    f"{self._place} is empty; it needs a header row with a column named destination"
                )
            self.header: tuple[str, ...] = tuple(map(self._name, header))
        self.header_row: int | None = row
        title = "" if len(header) > 1 else f"; row {row} has only one cell: remove titles above the header"
        self.columns: tuple[str, ...] = read_columns(self.header, number_column, place=self._place, hint=title)

    def __iter__(self) -> Iterator[RawRow]:
        width = len(self.columns)
        with self._workbook() as (reader, book):
            for number, values in _filled_rows(book[self.sheet]):
                if number == self.header_row:
                    continue
                self._refuse_nameless(number, values)
                yield table_row(number, [*values[:width], *[None] * (width - len(values))], self.columns, _text)
                if self._on_bytes is not None and number % 1000 == 0:
                    self._on_bytes(reader.tell())

    @contextmanager
    def _workbook(self) -> Generator[tuple[BufferedReader, Any]]:
        try:
            from openpyxl import load_workbook
        except ImportError:
            raise missing_library(f"{self._file} is an Excel workbook, which") from None
        with ExitStack() as stack:
            try:
                reader = stack.enter_context(self._file.opened_raw())
                archive = zipfile.ZipFile(reader)
                self._refuse_bomb(archive.infolist())
                self._refuse_endless_rows(archive)
                with catch_warnings():
                    simplefilter("ignore")
                    book = load_workbook(reader, read_only=True, data_only=True, keep_links=False)
                stack.callback(book.close)
                yield reader, book
            except (CampaignFileError, MemoryError):
                raise
            except OSError as error:
                raise unreadable(self._file, error) from error
            # For a damaged workbook, any part of the library may raise any error.
            except Exception as error:
                raise CampaignFileError(
                    f"{self._file} is not an Excel workbook (.xlsx), or it is damaged: {message_line(error)}; open it "
                    "in Excel and save it again"
                ) from error

    def _refuse_bomb(self, parts: Sequence[zipfile.ZipInfo]) -> None:
        for part in parts:
            too_dense = part.file_size > _SUSPICIOUS_RATIO * max(part.compress_size, 1)
            if too_dense and part.file_size > _SUSPICIOUS_BYTES:
                raise CampaignFileError(
                    f"{part.filename} in {self._file} unpacks to more than {_SUSPICIOUS_RATIO} times its packed size, "
                    "too much for a list of calls; save the sheet as CSV"
                )
            if part.filename.endswith("sharedStrings.xml") and part.file_size > _MOST_TEXTS:
                raise CampaignFileError(f"{self._file} has more texts than fit in memory; save the sheet as CSV")

    def _refuse_endless_rows(self, archive: zipfile.ZipFile) -> None:
        """Raise CampaignFileError for a row that is too long: the library reads each row as a whole into memory."""
        for name in archive.namelist():
            if not name.startswith("xl/worksheets/") or not name.endswith(".xml"):
                continue
            with archive.open(name) as part:
                row = b""
                while chunk := part.read(1_000_000):
                    row += chunk
                    *_, last = [None, *_ROW_OR_END.finditer(row)]
                    if last is not None:
                        if last[0].startswith(b"</"):
                            break
                        row = row[last.start() :]
                    if len(row) > _LONGEST_ROW:
                        raise CampaignFileError(
                            f"{name} in {self._file} has a row of more than {_LONGEST_ROW} bytes, too much for a call; "
                            "delete the columns that no call needs"
                        )

    def _chosen(self, book: Any, wanted: str | None) -> str:
        names: list[str] = [sheet.title for sheet in book.worksheets]
        if wanted is not None:
            found = [name for name in names if name.casefold() == wanted.strip().casefold()]
            if not found:
                raise CampaignFileError(f"{self._file} has no sheet {wanted!r}; its sheets: {', '.join(names)}")
            return found[0]
        visible = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
        filled = [sheet.title for sheet in visible if next(_filled_rows(sheet), None) is not None]
        if len(filled) > 1:
            raise CampaignFileError(
                f"{self._file} has several sheets with rows: {', '.join(filled)}; {Remedy.NAME_SHEET}"
            ).remedied(Remedy.NAME_SHEET)
        if not filled:
            raise CampaignFileError(f"{self._file} is empty: its visible sheets have no rows")
        return str(filled[0])

    def _name(self, value: object) -> str:
        try:
            return _text(value)
        except ValueError as error:
            raise CampaignFileError(f"{self._place}: the header {error}") from None

    def _refuse_nameless(self, number: int, values: Sequence[object]) -> None:
        """Raise CampaignFileError for a value that would be lost, because its column has no name."""
        for place, value in enumerate(values):
            if _is_filled(value) and (place >= len(self.columns) or not self.columns[place]):
                from openpyxl.utils import get_column_letter

                letter = get_column_letter(place + 1)
                raise CampaignFileError(
                    f"{self._place}: cell {letter}{number} has a value, but its column has no name: name the column in "
                    f"row {self.header_row} (split merged cells there), or clear the column"
                )


def _filled_rows(sheet: Any) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """The rows of a sheet that are not empty. Each has its number, and no empty cells at its end."""
    # The stated size of a sheet may be wrong, or the largest possible size.
    sheet.reset_dimensions()
    rows = enumerate(sheet.iter_rows(values_only=True), 1)
    while True:
        # The library warns about parts that it leaves out, such as lists of allowed values.
        with catch_warnings():
            simplefilter("ignore")
            chunk = list(islice(rows, _AT_ONCE))
        if not chunk:
            return
        if chunk[-1][0] > _MOST_ROWS:
            raise CampaignFileError(
                f"sheet {sheet.title} has a row number above {_MOST_ROWS}, the last row that Excel allows: the file is "
                "probably damaged; save it again in Excel, or save the sheet as CSV"
            )
        for number, values in chunk:
            width = next((width for width in range(len(values), 0, -1) if _is_filled(values[width - 1])), 0)
            if width:
                yield number, values[:width]


def _is_filled(value: object) -> bool:
    return value is not None and (not isinstance(value, str) or bool(value.strip()))


def _text(value: object) -> str:
    match value:
        case str() if value in _ERRORS:
            raise ValueError(f"holds the error {value} of a formula; correct it in the workbook")
        case bool():
            return cell_text(value)
        case int() if abs(value) >= EXACT:
            raise ValueError(
                f"holds a number of more than 15 digits ({value}), but Excel keeps only 15; write it as text"
            )
        case datetime():
            # Excel stores times as fractions of days, so their seconds have a rounding error.
            rounded = value + timedelta(milliseconds=500)
            return cell_text(rounded.replace(microsecond=0))
        case time():
            return cell_text(value.replace(microsecond=0))
        case _:
            return cell_text(value)


_BATCH = 1000
"""The number of rows that are read at once."""

_MOST_BYTES = 100_000_000
"""The largest size of the rows that are read at once, in bytes."""

_MOST_VALUES = 1000
"""The largest number of values in a cell that is a list, on average."""


class ParquetRows(RowSource):
    """The rows of a Parquet file, numbered from 1. The constructor reads the schema. Raises CampaignFileError."""

    kind = FileKind.PARQUET
    header_row: int | None = None

    def __init__(
        self, file: InputFile, *, number_column: str | None = None, on_bytes: Callable[[int], None] | None = None
    ) -> None:
        self._file = file
        self._on_bytes = on_bytes
        with self._table() as table:
            self.header: tuple[str, ...] = tuple(map(str, table.schema_arrow.names))
        self.columns: tuple[str, ...] = read_columns(self.header, number_column, place=file)

    def __iter__(self) -> Iterator[RawRow]:
        number = 0
        with self._table() as table:
            self._refuse_bomb(table.metadata)
            for batch in table.iter_batches(batch_size=_BATCH, use_threads=False):
                if sum(map(_size, batch.columns)) > _MOST_BYTES:
                    raise CampaignFileError(
                        f"{self._file}: rows {number + 1} to {number + batch.num_rows} have more than {_MOST_BYTES} "
                        "bytes, too much for a list of calls; drop the columns that no call needs"
                    )
                for values in zip(*map(_values, batch.columns), strict=True):
                    number += 1
                    row = table_row(number, values, self.columns)
                    if any(cell.strip() for cell in row.cells):
                        yield row
                if self._on_bytes is not None:
                    self._on_bytes(self._file.size * number // max(table.metadata.num_rows, 1))

    def _refuse_bomb(self, metadata: Any) -> None:
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            for column in map(group.column, range(group.num_columns)):
                too_dense = column.total_uncompressed_size > _SUSPICIOUS_RATIO * max(column.total_compressed_size, 1)
                if (too_dense and column.total_uncompressed_size > _SUSPICIOUS_BYTES) or (
                    column.num_values > _MOST_VALUES * group.num_rows
                ):
                    raise CampaignFileError(
                        f"the column {column.path_in_schema} of {self._file} is too large for a list of calls; drop it"
                    )

    @contextmanager
    def _table(self) -> Generator[Any]:
        try:
            from pyarrow.parquet import ParquetFile
        except ImportError:
            raise missing_library(f"{self._file} is a Parquet file, which") from None
        with ExitStack() as stack:
            try:
                reader = stack.enter_context(self._file.opened_raw())
                with ParquetFile(reader) as table:
                    columns = [table.schema.column(place) for place in range(len(table.schema))]
                texts = [each.path for each in columns if each.physical_type == "BYTE_ARRAY"]
                reader.seek(0)
                # A text that is in the file once stays once in memory, however many rows have it.
                yield stack.enter_context(ParquetFile(reader, read_dictionary=texts))
            except (CampaignFileError, MemoryError):
                raise
            except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
                raise unreadable(self._file, error) from error
            # For a damaged file, any part of the library may raise any error.
            except Exception as error:
                raise CampaignFileError(
                    f"{self._file} is not a Parquet file, or it is damaged: {message_line(error)}; export it again"
                ) from error


def _size(column: Any) -> int:
    """The size of a column as values of Python, in bytes: each text counts as often as it stands in a row."""
    import pyarrow as pa
    import pyarrow.compute

    compute: Any = pyarrow.compute

    if pa.types.is_dictionary(column.type):
        lengths = compute.take(compute.binary_length(column.dictionary), column.indices)
        return int(compute.sum(lengths).as_py() or 0)
    if pa.types.is_struct(column.type):
        return sum(map(_size, column.flatten()))
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return _size(column.flatten())
    return int(column.nbytes)


def _values(column: Any) -> list[Any]:
    """The values of a column as Python objects. Nanoseconds are dropped, because Python has none."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    elif pa.types.is_time64(column.type):
        column = column.cast(pa.time64("us"), safe=False)
    elif pa.types.is_duration(column.type):
        column = column.cast(pa.duration("us"), safe=False)
    values: list[Any] = column.to_pylist()
    return values
