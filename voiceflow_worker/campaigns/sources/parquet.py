"""The reader of Parquet files."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from voiceflow_worker.campaigns.files.input_file import InputFile, unreadable
from voiceflow_worker.campaigns.files.rows import FileKind, RawRow, RowSource, read_columns
from voiceflow_worker.campaigns.sources.cells import message_line, missing_library, table_row
from voiceflow_worker.errors import CampaignFileError

_AT_ONCE = 1000
"""The number of rows that are read at once."""

_MOST_BYTES = 100_000_000
"""The largest size of the rows that are read at once, in bytes."""

_MOST_VALUES = 1000
"""The largest number of values in a cell that is a list, on average."""

_SUSPICIOUS_BYTES, _SUSPICIOUS_RATIO = 100_000_000, 200
"""The largest unpacked size of a column in a part of the file, and the largest ratio to its packed size.

A column above both limits is refused: it may be a bomb."""


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
            for batch in table.iter_batches(batch_size=_AT_ONCE, use_threads=False):
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
