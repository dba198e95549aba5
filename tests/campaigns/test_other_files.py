"""Files that are not what their name says, or not for us: the refusal says what they are, and how to save them."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns.reading import NOW, OPTIONS, calls_of, file_of, read, refused, told
from tests.campaigns.workbooks import parquet, workbook
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import CampaignRows
from voiceflow_worker.campaigns.files.formats import open_source
from voiceflow_worker.campaigns.files.input_file import standard_input
from voiceflow_worker.campaigns.files.rows import ColumnRoles
from voiceflow_worker.campaigns.number_file import read_number_file
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
    "feather": (b"ARROW1\0\0...", "is a Feather or Arrow file", "to_parquet"),
    "older feather": (b"FEA1\0\0...", "is a Feather or Arrow file", "to_parquet"),
    "arrow stream": (b"\xff\xff\xff\xff\xf0\0\0\0", "is a Feather or Arrow file", "to_parquet"),
    "sav": (b"$FL2@(#) SPSS", "is a file of SPSS (.sav)", "read_spss"),
    "dta": (b"<stata_dta><header>", "is a file of Stata (.dta)", "read_stata"),
    "older dta": (b"\x72\2\1\0\2\0\1\0", "is a file of Stata (.dta)", "read_stata"),
    "sas7bdat": (bytes(12) + b"\xc2\xea\x81\x60", "is a file of SAS (.sas7bdat)", "read_sas"),
    "dbf": (b"\x03\x7e\x0b\x1c\1\0\0\0\x61\0\x21\0" + bytes(20), "is a table of dBase (.dbf)", "LibreOffice or Excel"),
    "access": (b"\0\1\0\0Standard ACE DB", "is a database of Access", "export its table"),
    "vcf": (b"BEGIN:VCARD\r\nVERSION:3.0\r\nFN:Ana\r\n", "is a file of contacts (vCard, .vcf)", "contacts as CSV"),
    "ics": (b"\xef\xbb\xbfBEGIN:VCALENDAR\r\n", "is a calendar (.ics)", "as CSV"),
    "yaml": (b'- destination: "+6587654321"\n  name: Ana\n', "is YAML", "(.jsonl)"),
    "yaml with a list": (b'# People\npeople:\n  - destination: "+6587654321"\n', "is YAML", "(.jsonl)"),
    "fods": (
        b'<?xml version="1.0"?>\n<office:document x>',
        "is a flat OpenDocument spreadsheet (.fods)",
        "LibreOffice",
    ),
    "orc": (b"ORC\n\x03", "is an ORC file", "to_parquet"),
    "avro": (b"Obj\x01\x04", "is an Avro file", "to_parquet"),
    "of macOS": (b"\0\x05\x16\x07\0\2\0\0Mac OS X", "has no rows: macOS keeps it beside", "give that file"),
    "slk": (b"ID;PCALCOOO32\r\nB;Y3;X3;D0 0 2 2\r\n", "is a spreadsheet for exchange (.slk or .dif)", "in Excel"),
    "dif": (b'TABLE\r\n0,1\r\n"EXCEL"\r\n', "is a spreadsheet for exchange (.slk or .dif)", "in Excel"),
    "sql": (
        b"-- of May\n/* a */ /* b */\nINSERT INTO p VALUES ('1');",
        "is a dump of a database (SQL)",
        "as CSV UTF-8",
    ),
    "gsheet": (b'{"url":"https://docs.google.com/open?id=1"}', "is a link to a sheet of Google", "Download"),
    "lnk": (b"L\0\0\0\x01\x14\x02\0\0", "is a shortcut to another file", "give that file"),
    "url": (b"[InternetShortcut]\r\nURL=file://x\r\n", "is a shortcut to another file", "give that file"),
    "tar": (b"people.csv" + bytes(247) + b"ustar\x0000", "is a tar archive", "unpack it"),
    "twice": (gzip.compress(gzip.compress(TABLE.encode())), "is packed with gzip", "unpack it"),
}


def test_the_refusal_says_what_a_file_is_and_how_to_save_it(tmp_path: Path) -> None:
    for name, kind in product(
        ["people.csv", "people.jsonl", "people.xlsx", "people.parquet", "people", "people.dat"], OTHERS
    ):
        content, clause, remedy = OTHERS[kind]
        said = refused(file_of(tmp_path, content, name))
        assert (said.startswith(f"{tmp_path / name} {clause}"), said.count("; ")) == (True, 1), said
        assert remedy in said


def test_a_table_that_begins_like_one_of_these_is_read(tmp_path: Path) -> None:
    for header in ("ID;Phone;name;destination", "TABLE,name,destination", "Insert into;name;destination"):
        comma = ";" if ";" in header else ","
        row = comma.join(["x"] * header.count(comma) + ["+6587654321"])
        assert len(calls_of(read(file_of(tmp_path, f"{header}\n{row}\n")))) == 1
    blanks = b"--\n" + b" " * 50_000 + b"/* */ " * 10_000
    with pytest.raises(CampaignFileError, match="has no column destination"):
        read(file_of(tmp_path, blanks))  # and in no time


def test_a_workbook_of_gnumeric_is_told_although_it_is_packed(tmp_path: Path) -> None:
    content = gzip.compress(b'<?xml version="1.0"?>\n<gnm:Workbook x>')
    assert "is a workbook of Gnumeric (.gnumeric); in Gnumeric" in refused(file_of(tmp_path, content, "p.gnumeric"))


@pytest.mark.parametrize("kind", ["protected", "ods", "pdf", "utf-16", "zip", "feather", "of macOS"])
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


def test_the_lock_of_another_file_is_told_for_what_it_is(tmp_path: Path) -> None:
    for name, of in (
        ("~$people.xlsx", "people.xlsx"), ("._people.csv", "people.csv"), (".~lock.people.csv#", "people.csv"),
        ("._people.parquet", "people.parquet"),
    ):  # fmt: skip
        path = file_of(tmp_path, b"\x02Li", name)
        assert f"keep such a file beside {of}; give {of} itself" in refused(path)
        with pytest.raises(CampaignFileError, match=f"give {of} itself"):
            read_number_file(path)


PEOPLE = [{"destination": "+6587654321", "name": "Ana"}, {"destination": "+6587654322", "name": "Ben"}]


def test_a_list_within_an_object_is_told_where_it_is(tmp_path: Path) -> None:
    def messages(given: Path | list[dict[str, Any]], options: CampaignOptions) -> list[str]:
        rows = list(CampaignRows(given, replace(options, batch_id="a"), now=NOW))
        return [message for *_, message in told(rows)]

    for path, value in (
        ("data", {"data": PEOPLE}), ("results", {"count": 2, "results": PEOPLE, "next": None}),
        ("value", {"@odata.context": "x", "value": PEOPLE}), ("d.results", {"d": {"results": PEOPLE}}),
    ):  # fmt: skip
        text = json.dumps(value)
        for options in (OPTIONS, replace(OPTIONS, template=None), replace(OPTIONS, columns={"destination": "phone"})):
            for given in (file_of(tmp_path, text, "a.json"), file_of(tmp_path, f"{text}\n", "a.jsonl"), [value]):
                (message,) = messages(given, options)
                assert f"a list of 2 objects in {path}, and is no row" in message
                assert f"jq -c '.{path}[]'" in message
        with pytest.raises(CampaignFileError, match="one on each line"):
            read_number_file(file_of(tmp_path, text, "a.json"))
    row = {"destination": "+6587654321", "name": "Ana", "orders": [{"sku": "1"}]}
    assert messages([row], OPTIONS) == []


def test_whole_lines_in_quotes_are_told(tmp_path: Path) -> None:
    for lines in ('"name,phone"\n"Ana,+6587654321"\n', '"phone;name"\n"+6587654321;""Ana"""\n'):
        path = file_of(tmp_path, lines)
        for columns in ({}, {"destination": "phone"}):
            with pytest.raises(CampaignFileError, match="line 1: the whole line stands in quotes"):
                read(path, replace(OPTIONS, columns=columns))
        with pytest.raises(CampaignFileError, match="the whole line stands in quotes"):
            read_number_file(path)
    path = file_of(tmp_path, 'destination,name\n"+6587654321,Ana"\n+6587654322,Ben\n')
    assert [(row, "the whole line stands in quotes" in said) for row, _, _, said in told(read(path))] == [(2, True)]
    (row,) = read(file_of(tmp_path, '"Phone, mobile"\n+6587654321\n'), replace(
        OPTIONS, template=FlowTemplate.speaking("Hello."), columns={"destination": "Phone, mobile"}
    ))  # fmt: skip
    assert row.number == "+6587654321"


FOOTERS = (
    ("Generated By: Li Wei 1/2/2026",), ("Copyright (c) 2000-2026 salesforce.com",), ("Total: 53",), ("53 rows",),
    ("Confidential Information - Do Not Distribute",), ("(53 rows affected)",), ("Summe", "53"), ("Page 1 of 2",),
    ("Report run on 1.2.",), ("Grand Total", "53"), ("Erstellt am 1.2.2026",), ("© Acme",), ("End of report",),
    ("Total records: 1,234",), ("合计",), ("Row count: 7",),
)  # fmt: skip


def test_the_footer_of_an_export_is_told_for_what_it_is(tmp_path: Path) -> None:
    for footer in FOOTERS:
        line = ",".join(f'"{cell}"' for cell in footer)
        table = [("destination", "name", "day"), ("+6587654321", "Ana", "x"), (*footer, *[""] * (3 - len(footer)))]
        names = ("destination", "name", "day")
        files = (
            file_of(tmp_path, f"destination,name,day\n+6587654321,Ana,x\n{line}\n", "a.csv"),
            file_of(tmp_path, f"destination,name,day\n+6587654321,Ana,x\n,{line}\n", "b.csv"),
            workbook(tmp_path, table, "a.xlsx"),
            parquet(tmp_path, dict(zip(names, map(list, zip(*table[1:], strict=True)), strict=True))),
        )
        for path in files:
            ((_, column, _, message),) = told(read(path))
            assert (column, "looks like the footer" in message) == (None, True), (path, footer, message)
        listed = read_number_file(files[0], roles=ColumnRoles(numbers=("destination",)))
        assert (dict(listed.numbers), ["footer" in each.message for each in listed.findings]) == (
            {"+6587654321": 2}, [True],
        )  # fmt: skip
    people = "".join(f"+658765432{n},{name},x\n" for n, name in enumerate(("Total Ltd", "Copyright Co", "53 rows")))
    assert told(read(file_of(tmp_path, f"destination,name,day\n{people}"))) == []
