"""The bytes of a campaign file, on disk or from standard input, plain or compressed with gzip."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.model.text.file_remedy import file_remedy

_GZIP = b"\x1f\x8b"
_ENDING = ".gz"


def unreadable(file: object, error: OSError) -> CampaignFileError:
    """The error for a file that cannot be read, with its remedy."""
    return CampaignFileError(f"{file} cannot be read: {error.strerror or error}{file_remedy(error)}")


class InputFile:
    """A file to read. `str()` returns its name for messages. `held` is a file with the bytes of standard input."""

    def __init__(self, path: Path, *, held: IO[bytes] | None = None) -> None:
        self.path = None if held is not None else path
        self._held = held
        self._place = str(path) if held is None else "standard input"
        self.name = path.name if held is None else self._place
        plain = path.with_suffix("") if path.suffix.lower() == _ENDING else path
        self.stem = None if held is not None else plain.stem.strip()
        """The file's name without extensions: `people` for `people.csv.gz`; None for standard input."""
        self.suffix = "" if held is not None else plain.suffix.lower()
        """The extension that shows the format, such as `.csv`, in lower case."""

    def __str__(self) -> str:
        return self._place

    @property
    def size(self) -> int:
        """The size of the file on disk, in bytes; 0 for a file that does not exist."""
        if self._held is not None:
            return os.fstat(self._held.fileno()).st_size
        return self.path.stat().st_size if self.path is not None and self.path.is_file() else 0

    @contextmanager
    def opened(self) -> Generator[tuple[io.BufferedReader, Callable[[], int]]]:
        """Open the file. Yields a reader of its bytes, and a function that returns how many were read from the disk.

        A gzip file is unpacked while it is read, and the function then counts packed bytes. Raises CampaignFileError
        if the file cannot be opened, and for an OSError or damaged gzip data during the block.
        """
        try:
            with self.opened_raw() as raw:
                if raw.peek(2)[:2] != _GZIP:
                    yield raw, raw.tell
                    return
                with gzip.GzipFile(fileobj=raw, mode="rb") as unpacked:
                    yield io.BufferedReader(unpacked), raw.tell
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise CampaignFileError(f"{self} is a damaged gzip file: {error}; copy or pack it again") from error
        except OSError as error:
            raise unreadable(self, error) from error

    @contextmanager
    def opened_raw(self) -> Generator[io.BufferedReader]:
        """Open the file without unpacking it. Raises OSError."""
        if self.path is not None:
            with self.path.open("rb") as file:
                yield file
        elif self._held is not None:
            with os.fdopen(os.dup(self._held.fileno()), "rb") as file:
                file.seek(0)
                yield file


@contextmanager
def standard_input(stream: IO[bytes]) -> Generator[InputFile]:
    """Copy a stream to an unnamed temporary file, which is deleted at the end of the block.

    Raises CampaignFileError if that file cannot be written.
    """
    with TemporaryFile() as held:
        try:
            shutil.copyfileobj(stream, held)
            held.flush()
        except OSError as error:
            raise CampaignFileError(
                f"standard input cannot be stored in a temporary file: {error.strerror or error}"
            ) from error
        yield InputFile(Path("-"), held=held)
