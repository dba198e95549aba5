"""Open the files of a campaign: lists, templates and files of options, on disk or from standard input."""

from __future__ import annotations

import codecs
import io
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.model.text.wording import file_remedy

LARGEST_FILE = 20_000_000
"""The largest list, in bytes."""
LARGEST_DOCUMENT = 10_000_000
"""The largest JSON document, in bytes."""
LONGEST_ROW = 1_000_000
"""The longest row of a list, in bytes or characters."""
_NUL = "holds a NUL character, so it is no text. Save the file as CSV UTF-8, or as a workbook (.xlsx)."
_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class InputFile:
    """A file to read. `str()` returns its name for messages: its path, or the name of the upload (`shown`).

    `held` is a file with the bytes of standard input.
    """

    def __init__(self, path: Path, *, held: IO[bytes] | None = None, shown: str | None = None) -> None:
        self.path: Path | None = None if held is not None else path
        self._held = held
        self._place = shown or (str(path) if held is None else "standard input")
        self.name: str = path.name if held is None else self._place
        self.stem: str | None = None if held is not None else path.stem.strip()
        """The name of the file without its extension; None for standard input."""
        self.suffix: str = "" if held is not None else path.suffix.lower()
        """The extension, such as `.csv`, in lower case."""

    def __str__(self) -> str:
        return self._place

    @property
    def size(self) -> int:
        """Size of the file in bytes; 0 for a file that does not exist."""
        if self._held is not None:
            return os.fstat(self._held.fileno()).st_size
        return self.path.stat().st_size if self.path is not None and self.path.is_file() else 0

    @contextmanager
    def opened(self) -> Generator[io.BufferedReader]:
        """Yield a reader of the bytes of the file. Raises CampaignFileError, also for an OSError during the block."""
        place = os.dup(self._held.fileno()) if self._held is not None else self.path or ""
        try:
            at = 0 if self._held is None else os.lseek(self._held.fileno(), 0, os.SEEK_CUR)  # it may be read already
            with open(place, "rb") as file:  # noqa: PTH123 (or the number of an open file)
                if self._held is not None:
                    file.seek(0)
                try:
                    yield file
                finally:
                    if self._held is not None:
                        os.lseek(self._held.fileno(), at, os.SEEK_SET)
        except OSError as error:
            message = f"{self} cannot be read: {error.strerror or error}{file_remedy(error)}"
            raise CampaignFileError(message) from error


@contextmanager
def standard_input(stream: IO[bytes]) -> Generator[InputFile]:
    """Copy a stream to a temporary file, which is deleted at the end of the block.

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


def encoding_of(file: InputFile, given: str | None = None) -> str:
    """Return the encoding of a text: that of its byte order mark, else the one that is `given`, else UTF-8.

    Raises CampaignFileError for a text that has another encoding, with the first line that cannot be read.
    """
    try:
        io.TextIOWrapper(io.BytesIO(), encoding=given or "utf-8")
    except (LookupError, ValueError):
        raise CampaignFileError(f"{given!r} is no encoding. Write its name, such as cp1252 or shift_jis.") from None
    with file.opened() as reader:
        beginning = reader.peek(4)[:4]
        encoding = next((name for bom, name in _BOMS.items() if beginning.startswith(bom)), given or "utf-8")
        name = codecs.lookup(encoding).name
        if name.startswith("utf-8"):
            if (wrong := _first_not_utf_8(reader)) is not None:
                raise CampaignFileError(f"{file}, line {wrong[0]}: {wrong[1]}")
            return encoding
        text = io.TextIOWrapper(reader, encoding=encoding)
        try:
            is_ascii = _is_ascii(text, file)
        except UnicodeError:
            raise CampaignFileError(
                f"{file} is not {encoding}. Give the encoding of the file: --encoding NAME."
            ) from None
    if encoding == given and not is_ascii:
        with file.opened() as reader:
            if _first_not_utf_8(reader) is None:
                raise CampaignFileError(f"{file} is UTF-8, and not {given}. Leave out the encoding.")
    return encoding


def _first_not_utf_8(reader: io.BufferedReader) -> tuple[int, str] | None:
    """Return the number of the first line that is no text in UTF-8, and why; None if there is none."""
    number = 0
    while line := reader.readline(LARGEST_FILE):
        number += 1
        if b"\0" in line:
            return number, _NUL
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            byte = f"the byte 0x{line[error.start]:02X} is not UTF-8"
            return number, f"{byte}. Save the file as CSV UTF-8, or give its encoding, such as --encoding cp1252."
    return None


def _is_ascii(text: io.TextIOWrapper, file: InputFile) -> bool:
    """Return whether a text has only signs of ASCII. Raises CampaignFileError for a NUL character."""
    is_ascii = True
    for number, line in enumerate(text, 1):
        is_ascii = is_ascii and line.isascii()
        if "\0" in line:
            raise CampaignFileError(f"{file}, line {number}: {_NUL}")
    return is_ascii


def read_text(file: InputFile, *, most_bytes: int, what: str, remedy: str) -> str:
    """Read a small text in UTF-8. Raises CampaignFileError for another encoding, and for more than `most_bytes`.

    The message for a file that is too large says `what` it should be, such as "a template", and the `remedy`.
    """
    with file.opened() as reader:
        content = reader.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise CampaignFileError(f"{file} is too large: {what} may have at most {most_bytes} bytes; {remedy}")
    encoding = encoding_of(file)
    return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
