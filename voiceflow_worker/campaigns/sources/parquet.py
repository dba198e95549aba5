"""The reader of Parquet files."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from voiceflow_worker.campaigns.files.columns import canonical_name, header_problem
from voiceflow_worker.campaigns.files.input_file import InputFile, unreadable
from voiceflow_worker.campaigns.files.rows import FileKind, RawRow, RowSource
from voiceflow_worker.campaigns.sources.cells import message_line, missing_library, table_row
from voiceflow_worker.errors import CampaignFileError

_AT_ONCE = 1000
"""The number of rows that are read at once."""


class ParquetRows(RowSource):
    """The rows of a Parquet file, numbered from 1. The constructor reads the schema. Raises CampaignFileError."""

    kind = FileKind.PARQUET
    header_row = None

    def __init__(self, file: InputFile, *, on_bytes: Callable[[int], None] | None = None) -> None:
        self._file = file
        self._on_bytes = on_bytes
        with self._table() as table:
            self.header = tuple(map(str, table.schema_arrow.names))
        self.columns = tuple(map(canonical_name, self.header))
        if problem := header_problem(self.columns):
            raise CampaignFileError(f"{file} {problem}")

    def __iter__(self) -> Iterator[RawRow]:
        number = 0
        with self._table() as table:
            for batch in table.iter_batches(batch_size=_AT_ONCE, use_threads=False):
                for values in zip(*map(_values, batch.columns), strict=True):
                    number += 1
                    row = table_row(number, values, self.columns)
                    if any(cell.strip() for cell in row.cells):
                        yield row
                if self._on_bytes is not None:
                    self._on_bytes(self._file.size * number // max(table.metadata.num_rows, 1))

    @contextmanager
    def _table(self) -> Generator[Any]:
        try:
            from pyarrow.parquet import ParquetFile
        except ImportError:
            raise missing_library(f"{self._file} is a Parquet file, which") from None
        with ExitStack() as stack:
            try:
                reader = stack.enter_context(self._file.opened_raw())
                yield stack.enter_context(ParquetFile(reader))
            except (CampaignFileError, MemoryError):
                raise
            except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
                raise unreadable(self._file, error) from error
            # For a damaged file, any part of the library may raise any error.
            except Exception as error:
                raise CampaignFileError(
                    f"{self._file} is not a Parquet file, or it is damaged: {message_line(error)}; export it again"
                ) from error


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
