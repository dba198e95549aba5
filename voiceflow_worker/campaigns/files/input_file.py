"""The bytes and the numbered lines of a campaign file, on disk or from standard input, plain or packed with gzip."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import zipfile
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from voiceflow_worker.campaigns.files.damage import WINDOWS, windows_words
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.model.text.wording import file_remedy

_AS_WORKBOOK = "choose Save As and the type Excel Workbook (.xlsx)"
_AS_TEXT = "save it again as CSV UTF-8 (Excel: Save As, CSV UTF-8), or as plain text in UTF-8"
_IN_ITS_PROGRAM = f"unpack it, or open it in its program, and {_AS_WORKBOOK}, or CSV UTF-8"

# What a file is, and how to save it for us, to stand after its name.
WORKBOOK = (
    "is an Excel workbook (.xlsx); give it the ending .xlsx (and no other format), or save the sheet as CSV UTF-8"
)
_ARCHIVE = f"is a zip archive, as .ods, .xlsb, .numbers and .docx are, and no Excel workbook (.xlsx); {_IN_ITS_PROGRAM}"
_SIGNATURES: Sequence[tuple[bytes, str]] = (
    (b"\xff\xfe\0\0", f"is in UTF-32, not UTF-8; {_AS_TEXT}"),
    (b"\0\0\xfe\xff", f"is in UTF-32, not UTF-8; {_AS_TEXT}"),
    (b"\xff\xfe", f"is in UTF-16, not UTF-8; {_AS_TEXT}"),
    (b"\xfe\xff", f"is in UTF-16, not UTF-8; {_AS_TEXT}"),
    (b"PAR1", "is a Parquet file, which is not read here; save its table as CSV UTF-8, or as .xlsx"),
    (
        b"\xd0\xcf\x11\xe0",
        f"is an old Office file (.xls), or one with a password; in Excel, {_AS_WORKBOOK}, without a password",
    ),
    (b"%PDF", "is a PDF, not a table; export the table from the program that made it, as .xlsx or CSV UTF-8"),
    (b"\x1f\x8b", "is packed with gzip twice, or packed although its format cannot be; unpack it"),
)
_CONTROLS = bytes(each for each in range(32) if each not in b"\t\n\v\f\r")
_PAGE = f"is a web page (HTML) or XML, whatever its ending says; open it in Excel, and {_AS_WORKBOOK}, or CSV UTF-8"
_CONTACTS = "is a file of contacts ({}); export the contacts as CSV from the program that made it"
_TEXTS: Sequence[tuple[tuple[bytes, ...], str]] = (
    ((b"<!doctype", b"<html", b"<table", b"<?xml", b"<head", b"<meta", b"<style"), _PAGE),
    ((b"begin:vcalendar",), "is a calendar (iCalendar); export it as CSV from the program that made it"),
    ((b"begin:vcard",), _CONTACTS.format("vCard")),
    ((b"dn: ", b"dn:: ", b"version: 1\n", b"version: 1\r\n"), _CONTACTS.format("LDIF")),
)
"""What a text is that begins so, in any case of its letters, and is no table."""


def content_of(beginning: bytes, whole: IO[bytes] | None) -> str | None:
    """What a file is, by its first bytes; None for what may be text in UTF-8, and for an empty file.

    `whole` is the file itself. Of archives, it is read to tell workbooks; None if it cannot be read at any place, such
    as a packed file.
    """
    for signature, content in _SIGNATURES:
        if beginning.startswith(signature):
            return content
    if beginning.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _archived(whole)
    text = beginning.removeprefix(b"\xef\xbb\xbf").lstrip()[:20].lower()
    for beginnings, content in _TEXTS:
        if text.startswith(beginnings):
            return content
    is_other = _is_binary(beginning[:200])
    return (
        f"is not UTF-8 text (UTF-16, an archive, or the file of another program); {_IN_ITS_PROGRAM}"
        if is_other
        else None
    )


def _is_binary(beginning: bytes) -> bool:
    """Whether these are no bytes of a text: a tenth of them controls something, or one does in what is no UTF-8."""
    controls = len(beginning) - len(beginning.translate(None, _CONTROLS))
    try:
        beginning.decode()
    except UnicodeDecodeError as error:
        return controls > 0 and error.end < len(beginning)
    return 10 * controls > len(beginning)


def text_named(beginning: bytes) -> str:
    """What a file is that `content_of` takes for text, or for empty."""
    if not beginning.strip():
        return "is empty; save it again, with its rows"
    if beginning.lstrip()[:1] in {b"{", b"["}:
        return "is JSON text; give it the ending .jsonl, or .json for one request body"
    return "is plain text, such as CSV; give it the ending .csv, or open it in Excel and save it as .xlsx"


def _archived(whole: IO[bytes] | None) -> str:
    if whole is None:
        return _ARCHIVE
    try:
        with zipfile.ZipFile(whole) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError):
        remedy = "copy or download it again, or open it in Excel and save it"
        return f"is a damaged or incomplete workbook or zip archive; {remedy}"
    is_workbook = any(name.startswith("xl/") for name in names) and "xl/workbook.bin" not in names
    return WORKBOOK if is_workbook else _ARCHIVE


_GZIP = b"\x1f\x8b"
_ENDING = ".gz"


def unreadable(file: object, error: OSError) -> CampaignFileError:
    """The error for a file that cannot be read, with its remedy."""
    return CampaignFileError(f"{file} cannot be read: {error.strerror or error}{file_remedy(error)}")


class InputFile:
    """A file to read. `str()` returns its name for messages: its path, or how it is `shown` to whoever uploaded it.

    `held` is a file with the bytes of standard input.
    """

    def __init__(self, path: Path, *, held: IO[bytes] | None = None, shown: str | None = None) -> None:
        self.path: Path | None = None if held is not None else path
        self._held = held
        self._opened: int | None = None
        """The number of the file that was opened last, while it is open."""
        self._place = shown or (str(path) if held is None else "standard input")
        self.name: str = path.name if held is None else self._place
        plain = path.with_suffix("") if path.suffix.lower() == _ENDING else path
        self.stem: str | None = None if held is not None else plain.stem.strip()
        """The file's name without extensions: `people` for `people.csv.gz`; None for standard input."""
        self.suffix: str = "" if held is not None else plain.suffix.lower()
        """The extension that shows the format, such as `.csv`, in lower case."""
        self.words: Sequence[str] = ()
        """Words to look at of a table that is no UTF-8, and was read as Windows-1252."""

    def __str__(self) -> str:
        return self._place

    @property
    def size(self) -> int:
        """The size of the file on disk, in bytes; 0 for a file that does not exist."""
        if self._held is not None:
            return os.fstat(self._held.fileno()).st_size
        return self.path.stat().st_size if self.path is not None and self.path.is_file() else 0

    @property
    def position(self) -> int:
        """How many of these bytes were read since it was opened; all, if it is not open."""
        return self.size if self._opened is None else os.lseek(self._opened, 0, os.SEEK_CUR)

    @contextmanager
    def opened(self) -> Generator[io.BufferedReader]:
        """Open the file. Yields a reader of its bytes; a gzip file is unpacked while it is read.

        Raises CampaignFileError if the file cannot be opened, and for an OSError or damaged gzip data during the block.
        """
        try:
            with self.opened_raw() as raw:
                if raw.peek(2)[:2] != _GZIP:
                    yield raw
                    return
                with gzip.GzipFile(fileobj=raw, mode="rb") as unpacked:
                    yield io.BufferedReader(unpacked)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise CampaignFileError(f"{self} is a damaged gzip file: {error}; copy or pack it again") from error
        except OSError as error:
            raise unreadable(self, error) from error

    @contextmanager
    def opened_raw(self) -> Generator[io.BufferedReader]:
        """Open the file without unpacking it. Raises OSError."""
        place = os.dup(self._held.fileno()) if self._held is not None else self.path or ""
        at = 0 if self._held is None else os.lseek(self._held.fileno(), 0, os.SEEK_CUR)  # it may be read already
        with open(place, "rb") as file:  # noqa: PTH123 (or the number of an open file)
            if self._held is not None:
                file.seek(0)
            self._opened = file.fileno()
            try:
                yield file
            finally:
                self._opened = None
                if self._held is not None:
                    os.lseek(self._held.fileno(), at, os.SEEK_SET)


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


LONGEST_LINE = 1_000_000
"""The largest number of characters in a line. A longer line cannot be a row: a spoken text has at most 3000."""

_SUSPICIOUS_BYTES, _SUSPICIOUS_RATIO = 20_000_000, 200


def refuse_other_content(file: InputFile, reader: io.BufferedReader, wanted: str) -> None:
    """Raise CampaignFileError, which says what the file is, if it is not of the `wanted` binary format."""
    beginning = reader.peek(4096)
    content = content_of(beginning, reader)
    if content != wanted:
        raise CampaignFileError(f"{file} {content or text_named(beginning)}")
    reader.seek(0)


Line = tuple[int, str, str | None]
"""The number of a line, from 1, its text with the line feed, and the reason why it cannot be used, if there is one."""


def read_lines(file: InputFile, *, is_table: bool = False) -> Iterator[Line]:
    """The lines of a file of any size, one by one. A byte order mark is dropped; CR LF and CR also end lines.

    What is no UTF-8 is read as Windows-1252, if it is a table and its letters are certain: the file has `words` then.
    Raises CampaignFileError if the file cannot be opened, has another type or encoding, or has a line that is too long.
    """
    is_windows = False
    with file.opened() as reader:
        _refuse_other_kinds(file, reader)
        text = io.TextIOWrapper(reader, encoding="utf-8-sig", errors="surrogateescape", newline=None)
        number = 0
        while line := text.readline(LONGEST_LINE):
            number += 1
            if len(line) >= LONGEST_LINE:
                raise CampaignFileError(
                    f"line {number} of {file} is longer than {LONGEST_LINE} characters; correct or remove that line"
                )
            if not line.isascii():
                is_windows = is_windows or not _is_utf_8(file, number, line, is_table=is_table)
                if is_windows:
                    line = line.encode("utf-8", "surrogateescape").decode(WINDOWS, "replace")
            if "\0" in line:
                remedy = "remove it, or save the file again as CSV UTF-8"
                yield number, line.replace("\0", ""), f"has a NUL character; {remedy}"
            else:
                yield number, line, None
            if number % 1000 == 0:
                _refuse_bomb(file, unpacked=reader.tell(), packed=file.position)


def _bytes_of(file: InputFile) -> Iterator[bytes]:
    """The lines of a file as they are, or parts of them if they are long."""
    with file.opened() as reader:
        while line := reader.readline(LONGEST_LINE):
            yield line
            _refuse_bomb(file, unpacked=reader.tell(), packed=file.position)


def read_text(file: InputFile, *, most_bytes: int, what: str, remedy: str) -> str:
    """The text of a small file. Raises CampaignFileError as `read_lines` does, and for a file above `most_bytes`.

    The message for a file that is too large says what it should be (`what`, such as "a template"), and the `remedy`.
    """
    texts: list[str] = []
    left = most_bytes
    for number, line, problem in read_lines(file):
        if problem is not None:
            raise CampaignFileError(f"{file}, line {number}: {problem}")
        left -= len(line.encode())
        if left < 0:
            raise CampaignFileError(f"{file} is too large: {what} may have at most {most_bytes} bytes; {remedy}")
        texts.append(line)
    return "".join(texts)


def _refuse_bomb(file: InputFile, *, unpacked: int, packed: int) -> None:
    if unpacked > _SUSPICIOUS_BYTES and unpacked > _SUSPICIOUS_RATIO * packed:
        raise CampaignFileError(
            f"{file} unpacks to more than {_SUSPICIOUS_RATIO} times its size, to {unpacked} bytes so far, too much for "
            "a list of calls; unpack it, and check its content"
        )


def _refuse_other_kinds(file: InputFile, reader: io.BufferedReader) -> None:
    is_packed = isinstance(reader.raw, gzip.GzipFile)
    if content := content_of(reader.peek(4096), None if is_packed else reader):
        raise CampaignFileError(f"{file} {content}")


def _is_utf_8(file: InputFile, number: int, line: str, *, is_table: bool) -> bool:
    """Whether a line is UTF-8, else whether the file is read as Windows-1252; if it is neither, CampaignFileError."""
    try:
        line.encode("utf-8")
    except UnicodeEncodeError as error:
        doubt = ""
        if is_table:
            file.words, doubt = windows_words(_bytes_of(file))
            if file.words:
                return False
            doubt = doubt and f"{doubt}; "
        raw = line.encode("utf-8", "surrogateescape")
        byte = raw[len(line[: error.start].encode("utf-8", "surrogateescape"))]
        # A single line is hardly ever in another encoding: the whole file is, and saving it again corrects all lines.
        place = f"line {number} has the byte 0x{byte:02X} at character {error.start + 1}"
        raise CampaignFileError(f"{file} is not UTF-8: {place}; {doubt}{_AS_TEXT}") from None
    return True
