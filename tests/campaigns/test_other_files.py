"""Files that are not what their name says, or not for us: the refusal says what they are, and how to save them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from itertools import product
from pathlib import Path

import pytest

from tests.campaigns.reading import OPTIONS, file_of, read
from tests.campaigns.workbooks import parquet, workbook
from voiceflow_worker.campaigns.files.formats import open_source
from voiceflow_worker.campaigns.files.input_file import standard_input
from voiceflow_worker.campaigns.files.number_file import read_number_file
from voiceflow_worker.errors import CampaignFileError

TABLE = "destination,name\n+6587654321,Ana\n"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
SHEET = "application/vnd.oasis.opendocument.spreadsheet"


def packed(*names: str, mimetype: str = "") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        if mimetype:
            archive.writestr("mimetype", mimetype)
        for name in names:
            archive.writestr(name, "x")
    return content.getvalue()


def locked() -> bytes:
    """A zip archive whose only file is marked as encrypted."""
    content = bytearray(packed("people.csv"))
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + at] |= 1
    return bytes(content)


def old_office(stream: str) -> bytes:
    return OLE + bytes(1_500_000) + stream.encode("utf-16-le") + bytes(500)


OTHERS: dict[str, tuple[bytes, str, str]] = {
    "protected": (old_office("EncryptedPackage"), "is an Office file with a password", "remove the password"),
    "xls": (old_office("Workbook\0"), "is an old Excel workbook (.xls)", "Save As and the type Excel Workbook (.xlsx)"),
    "older xls": (old_office("Book\0"), "is an old Excel workbook (.xls)", "Excel Workbook (.xlsx)"),
    "doc": (old_office("WordDocument\0"), "is an old Office file", "Excel Workbook (.xlsx)"),
    "xlsb": (packed("[Content_Types].xml", "xl/workbook.bin"), "is a binary Excel workbook (.xlsb)", "(.xlsx)"),
    "ods": (packed("content.xml", mimetype=SHEET), "is an OpenDocument spreadsheet (.ods)", "or the type CSV in UTF-8"),
    "odt": (packed("content.xml", mimetype="application/vnd.oasis.opendocument.text"), "is a text document", "(.xlsx)"),
    "docx": (packed("[Content_Types].xml", "word/document.xml"), "is a text document, not a table", "(.xlsx)"),
    "pptx": (packed("[Content_Types].xml", "ppt/presentation.xml"), "is a presentation", "(.xlsx)"),
    "numbers": (packed("Index/Document.iwa"), "is a document of Apple Numbers (.numbers)", "File, Export To, Excel"),
    "zip": (packed("people.csv"), "is a zip archive", "unpack it"),
    "empty zip": (packed(), "is a zip archive", "unpack it"),
    "locked zip": (locked(), "is a zip archive with a password", "unpack it"),
    "half a zip": (packed("xl/workbook.xml")[:60], "is a damaged or incomplete workbook or zip archive", "again"),
    "pdf": (b"%PDF-1.7\n...", "is a PDF, not a table", "as .xlsx or CSV UTF-8"),
    "png": (b"\x89PNG\r\n\x1a\n", "is a picture, not a table", "as .xlsx or CSV UTF-8"),
    "html": (b"\xef\xbb\xbf\n<HTML><table>", "is a web page (HTML) or XML", "open it in Excel"),
    "xml": (b"<?xml version='1.0'?><Workbook/>", "is a web page (HTML) or XML", "open it in Excel"),
    "rtf": (b"{\\rtf1", "is a text document", "copy its table"),
    "utf-16": (TABLE.encode("utf-16"), "is in UTF-16, not UTF-8", "save it again as CSV UTF-8"),
    "utf-16, no mark": (TABLE.encode("utf-16-be"), "is not UTF-8 text", "save it again as CSV UTF-8"),
    "utf-32": (TABLE.encode("utf-32"), "is in UTF-32, not UTF-8", "save it again as CSV UTF-8"),
    "7z": (b"7z\xbc\xaf\x27\x1c", "is a 7z archive", "unpack it"),
    "xz": (lzma.compress(TABLE.encode()), "is packed with xz", "unpack it"),
    "bz2": (bz2.compress(TABLE.encode()), "is packed with bzip2", "unpack it"),
    "twice": (gzip.compress(gzip.compress(TABLE.encode())), "is packed with gzip", "unpack it"),
}


def refused(path: Path) -> str:
    with pytest.raises(CampaignFileError) as raised:
        read(path)
    assert str(raised.value).count("; ") == 1
    return str(raised.value)


def test_the_refusal_says_what_a_file_is_and_how_to_save_it(tmp_path: Path) -> None:
    for name, kind in product(
        ["people.csv", "people.jsonl", "people.xlsx", "people.parquet", "people", "people.dat"], OTHERS
    ):
        content, clause, remedy = OTHERS[kind]
        said = refused(file_of(tmp_path, content, name))
        assert said.startswith(f"{tmp_path / name} {clause}")
        assert remedy in said


@pytest.mark.parametrize("kind", ["protected", "ods", "pdf", "utf-16", "zip"])
def test_standard_input_and_lists_of_numbers_tell_the_same(tmp_path: Path, kind: str) -> None:
    content, clause, remedy = OTHERS[kind]
    with standard_input(io.BytesIO(content)) as given, pytest.raises(CampaignFileError) as raised:
        list(open_source(given))
    assert (clause in str(raised.value), remedy in str(raised.value)) == (True, True)
    with pytest.raises(CampaignFileError) as raised:
        read_number_file(file_of(tmp_path, content, "numbers.csv"))
    assert (clause in str(raised.value), remedy in str(raised.value)) == (True, True)


def test_one_of_our_formats_under_the_name_of_another_is_told(tmp_path: Path) -> None:
    book = workbook(tmp_path, [("destination", "name"), ("+6587654321", "Ana")], "good.xlsx").read_bytes()
    table = parquet(tmp_path, {"destination": ["+6587654321"], "name": ["Ana"]}, "good.parquet").read_bytes()
    line = '{"destination": "+6587654321", "name": "Ana"}\n'
    for name, content, clause, remedy in (
        ("a.xlsx", TABLE, "is plain text, such as CSV", "give it the ending .csv"),
        ("a.xlsx", line, "is JSON text", "give it the ending .jsonl"),
        ("a.parquet", TABLE, "is plain text, such as CSV", "give it the ending .csv"),
        ("a.csv", book, "is an Excel workbook (.xlsx)", "give it the ending .xlsx"),
        ("a.parquet", book, "is an Excel workbook (.xlsx)", "give it the ending .xlsx"),
        ("a.jsonl", table, "is a Parquet file", "give it the ending .parquet"),
        ("a.xlsx", table, "is a Parquet file", "give it the ending .parquet"),
        ("a.xlsx", gzip.compress(book), "is packed with gzip", "unpack it"),
        ("a.xlsx", b"", "is empty", "save it again"),
    ):
        said = refused(file_of(tmp_path, content, name))
        assert (clause in said, remedy in said) == (True, True), said


def test_a_workbook_and_a_table_without_an_ending_are_read(tmp_path: Path) -> None:
    book = workbook(tmp_path, [("destination", "name"), ("+6587654321", "Ana")], "good.xlsx").read_bytes()
    for content in (book, TABLE):
        (row,) = read(file_of(tmp_path, content, "people"), OPTIONS)
        assert row.number == "+6587654321"
