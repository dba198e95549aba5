"""What a file really is, whatever its name says, and how to save it as a file that can be read."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from typing import IO, NamedTuple

_AS_WORKBOOK = "choose Save As and the type Excel Workbook (.xlsx)"
_AS_TEXT = "save it again as CSV UTF-8 (Excel: Save As, CSV UTF-8), or as plain text in UTF-8"
_UNPACK = "unpack it, and give the file in it"


class Content(NamedTuple):
    """The kind of a file, as a clause that begins with `is`, and how to save it for us."""

    clause: str
    remedy: str

    def __str__(self) -> str:
        """Both, to stand after the name of the file."""
        return f"{self.clause}; {self.remedy}"


WORKBOOK = Content(
    "is an Excel workbook (.xlsx)", "give it the ending .xlsx (and no other format), or save the sheet as CSV UTF-8"
)
PARQUET = Content("is a Parquet file", "give it the ending .parquet (and no other format)")
_PROTECTED = Content(
    "is an Office file with a password, which cannot be read",
    "open it in Excel, remove the password (File, Info, Protect Workbook, Encrypt with Password: leave it empty), and "
    "save it",
)
_OLD_WORKBOOK = Content("is an old Excel workbook (.xls)", f"in Excel, {_AS_WORKBOOK}")
_OLD_OFFICE = Content("is an old Office file, such as .doc or .msg, and no table", f"in Excel, {_AS_WORKBOOK}")
_BINARY_WORKBOOK = Content("is a binary Excel workbook (.xlsb)", f"in Excel, {_AS_WORKBOOK}")
_OPEN_DOCUMENT = Content(
    "is an OpenDocument spreadsheet (.ods)", f"in LibreOffice or Excel, {_AS_WORKBOOK}, or the type CSV in UTF-8"
)
_NUMBERS = Content(
    "is a document of Apple Numbers (.numbers)", "in Numbers, choose File, Export To, Excel (.xlsx) or CSV in UTF-8"
)
_DOCUMENT = Content(
    "is a text document, not a table", f"copy its table into a sheet of Excel, and {_AS_WORKBOOK}, or CSV UTF-8"
)
_SLIDES = Content(
    "is a presentation, not a table", f"copy its table into a sheet of Excel, and {_AS_WORKBOOK}, or CSV UTF-8"
)
_ARCHIVE = Content("is a zip archive", _UNPACK)
_LOCKED_ARCHIVE = Content("is a zip archive with a password", _UNPACK)
_HALF_ARCHIVE = Content(
    "is a damaged or incomplete workbook or zip archive", "copy or download it again, or open it in Excel and save it"
)
_UTF_16 = Content("is in UTF-16, not UTF-8", _AS_TEXT)
_UTF_32 = Content("is in UTF-32, not UTF-8", _AS_TEXT)
_BINARY = Content("is not UTF-8 text (UTF-16, or binary data)", _AS_TEXT)
_PDF = Content("is a PDF, not a table", "export the table from the program that made it, as .xlsx or CSV UTF-8")
_PICTURE = Content("is a picture, not a table", "export the table from the program that made it, as .xlsx or CSV UTF-8")
_WEB_PAGE = Content(
    "is a web page (HTML) or XML, whatever its ending says", f"open it in Excel, and {_AS_WORKBOOK}, or CSV UTF-8"
)

_SIGNATURES: Sequence[tuple[bytes, Content]] = (
    (b"\xff\xfe\0\0", _UTF_32),
    (b"\0\0\xfe\xff", _UTF_32),
    (b"\xff\xfe", _UTF_16),
    (b"\xfe\xff", _UTF_16),
    (b"PAR1", PARQUET),
    (b"%PDF", _PDF),
    (b"\x89PNG", _PICTURE),
    (b"\xff\xd8\xff", _PICTURE),
    (b"GIF8", _PICTURE),
    (b"{\\rtf", _DOCUMENT),
    (b"\x1f\x8b", Content("is packed with gzip twice, or packed although its format cannot be", "unpack it")),
    (b"7z\xbc\xaf\x27\x1c", Content("is a 7z archive", _UNPACK)),
    (b"Rar!", Content("is a RAR archive", _UNPACK)),
    (b"\xfd7zXZ", Content("is packed with xz", _UNPACK)),
    (b"BZh", Content("is packed with bzip2", _UNPACK)),
    (b"\x28\xb5\x2f\xfd", Content("is packed with zstd", _UNPACK)),
    (b"SQLite format 3", Content("is an SQLite database", "export its table as CSV UTF-8")),
)
_MARKUP = (b"<!doctype", b"<html", b"<table", b"<?xml", b"<head", b"<meta", b"<style")


def content_of(beginning: bytes, whole: IO[bytes] | None) -> Content | None:
    """What a file is, by its first bytes; None for what may be text in UTF-8, and for an empty file.

    `whole` is the file itself. Of archives and old Office files, it is read to tell what they are; None if it cannot be
    read at any place, such as a packed file.
    """
    for signature, content in _SIGNATURES:
        if beginning.startswith(signature):
            return content
    if beginning.startswith(b"\xd0\xcf\x11\xe0"):
        return _old_office(whole)
    if beginning.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _archived(whole)
    if beginning.removeprefix(b"\xef\xbb\xbf").lstrip()[:9].lower().startswith(_MARKUP):
        return _WEB_PAGE
    # UTF-16 without a byte order mark: every other byte of plain English is a NUL.
    if beginning[:200].count(0) > len(beginning[:200]) // 4:
        return _BINARY
    return None


def text_named(beginning: bytes) -> Content:
    """What a file is that `content_of` takes for text, or for empty."""
    if not beginning.strip():
        return Content("is empty", "save it again, with its rows")
    if beginning.lstrip()[:1] in {b"{", b"["}:
        return Content("is JSON text", "give it the ending .jsonl, or .json for one request body")
    return Content("is plain text, such as CSV", "give it the ending .csv, or open it in Excel and save it as .xlsx")


def _archived(whole: IO[bytes] | None) -> Content:
    if whole is None:
        return _ARCHIVE
    try:
        with zipfile.ZipFile(whole) as archive:
            names = set(archive.namelist())
            locked = any(each.flag_bits & 1 for each in archive.infolist())
            kind = b"" if locked or "mimetype" not in names else archive.open("mimetype").read(100)
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError):
        return _HALF_ARCHIVE
    if b"opendocument.spreadsheet" in kind:
        return _OPEN_DOCUMENT
    if b"opendocument.presentation" in kind or any(name.startswith("ppt/") for name in names):
        return _SLIDES
    if b"opendocument" in kind or any(name.startswith("word/") for name in names):
        return _DOCUMENT
    if any(name.endswith(".iwa") or name.rpartition("/")[2] == "Index.zip" for name in names):
        return _NUMBERS
    if "xl/workbook.bin" in names:
        return _BINARY_WORKBOOK
    if locked:
        return _LOCKED_ARCHIVE
    return WORKBOOK if any(name.startswith("xl/") for name in names) else _ARCHIVE


def _old_office(whole: IO[bytes] | None) -> Content:
    """What a file of the old Office is. The names of its streams are in its directory, in UTF-16."""
    if whole is None:
        return _OLD_OFFICE
    found, before = _OLD_OFFICE, b""
    whole.seek(0)
    while chunk := whole.read(1_000_000):
        text = before + chunk
        if "EncryptedPackage".encode("utf-16-le") in text:
            return _PROTECTED
        if any(name.encode("utf-16-le") in text for name in ("Workbook\0", "Book\0")):
            found = _OLD_WORKBOOK
        before = text[-64:]
    return found
