"""Files that are not what their name says, or not for us, and what they are; and JSON from people's files."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import zipfile
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from tests.campaigns.reading import (
    NOW,
    OPTIONS,
    file_of,
    read,
    refused,
    told,
)
from tests.campaigns.workbooks import workbook
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.files.formats import kind_of, open_source
from voiceflow_worker.campaigns.files.input_file import InputFile, standard_input
from voiceflow_worker.campaigns.files.json_rows import read_json
from voiceflow_worker.campaigns.files.rows import FileKind
from voiceflow_worker.campaigns.number_file import read_number_file
from voiceflow_worker.errors import CallFlowError, CampaignFileError, InvalidInputError
from voiceflow_worker.ivr.approval import _choices  # pyright: ignore[reportPrivateUsage]
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.text.json_text import RepeatedNameError, read_strict_json

TABLE = "destination,name\n+6587654321,Ana\n"


def packed(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return content.getvalue()


OF_OFFICE = "[Content_Types].xml"
SAVE, UTF_8, UNPACK = "as .xlsx or CSV UTF-8", "save it again as CSV UTF-8", "unpack it"
HTML = "is a web page (HTML) or XML"
BINARY = "is not UTF-8 text (UTF-16, an archive, or the file of another program)"
OTHERS: dict[str, tuple[bytes, str, str]] = {
    # The beginning of a file, what it is said to be, and a part of the remedy.
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "is an old Office file (.xls)",
            "(.xlsx), without a password"),
    "xlsb": (packed(OF_OFFICE, "xl/workbook.bin"), "is a zip archive, as .ods, .xlsb", "(.xlsx), or CSV"),
    "docx": (packed(OF_OFFICE, "word/document.xml"), "is a zip archive", "(.xlsx), or CSV"),
    "zip": (packed("people.csv"), "is a zip archive", UNPACK), "empty zip": (packed(), "is a zip archive", UNPACK),
    "half a zip": (packed("xl/workbook.xml")[:60], "is a damaged or incomplete workbook or zip archive", "again"),
    "pdf": (b"%PDF-1.7\n...", "is a PDF, not a table", SAVE),
    "html": (b"\xef\xbb\xbf\n<HTML><table>", HTML, "open it in Excel"),
    "xml": (b"<?xml version='1.0'?><Workbook/>", HTML, "open it in Excel"),
    "ics": (b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\n", "is a calendar (iCalendar)", "export it as CSV"),
    "vcf": (b"begin:vcard\nVERSION:3.0\n", "is a file of contacts (vCard)", "export the contacts as CSV"),
    "ldif": (b"version: 1\r\n\r\ndn: cn=Ann Tan,dc=example\r\n", "is a file of contacts (LDIF)", "as CSV"),
    "ldif, no version": (b"dn:: Y249QW5u\ncn: Ann\n", "is a file of contacts (LDIF)", "as CSV"),
    "utf-16": (TABLE.encode("utf-16"), "is in UTF-16, not UTF-8", UTF_8),
    "utf-16, no mark": (TABLE.encode("utf-16-be"), BINARY, UNPACK),
    "utf-32": (TABLE.encode("utf-32"), "is in UTF-32, not UTF-8", UTF_8),
    "7z": (b"7z\xbc\xaf\x27\x1c", BINARY, UNPACK), "xz": (lzma.compress(TABLE.encode()), BINARY, UNPACK),
    "parquet": (b"PAR1\x15\x04", "is a Parquet file, which is not read here", "CSV UTF-8, or as .xlsx"),
    "feather": (b"ARROW1\0\0...", BINARY, "in its program"),
    "sas7bdat": (bytes(12) + b"\xc2\xea\x81\x60", BINARY, "in its program"),
    "dbf": (b"\x03\x7e\x0b\x1c\1\0\0\0\x61\0\x21\0" + bytes(20), BINARY, "in its program"),
    "png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", BINARY, "in its program"),
    "access": (b"\0\1\0\0Standard ACE DB", BINARY, "in its program"),
    "orc": (b"ORC\n\x03", BINARY, "in its program"), "avro": (b"Obj\x01\x04", BINARY, "in its program"),
    "of macOS": (b"\0\x05\x16\x07\0\2\0\0Mac OS X", BINARY, "in its program"),
    "tar": (b"people.csv" + bytes(247) + b"ustar\x0000", BINARY, UNPACK),
    "twice": (gzip.compress(gzip.compress(TABLE.encode())), "is packed with gzip", UNPACK),
}  # fmt: skip


def test_the_refusal_says_what_a_file_is_and_how_to_save_it(tmp_path: Path) -> None:
    for name, kind in product(
        ["people.csv", "people.jsonl", "people.xlsx", "people.parquet", "people", "people.dat"], OTHERS
    ):
        content, clause, remedy = OTHERS[kind]
        said = refused(file_of(tmp_path, content, name))
        assert (said.startswith(f"{tmp_path / name} {clause}"), said.count("; ")) == (True, 1), said
        assert remedy in said


@pytest.mark.parametrize("kind", ["xls", "pdf", "utf-16", "zip", "feather", "of macOS"])
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
    line = '{"destination": "+6587654321", "name": "Ana"}\n'
    for name, content, clause, remedy in (
        ("a.xlsx", TABLE, "is plain text, such as CSV", "give it the ending .csv"),
        ("a.xlsx", line, "is JSON text", "give it the ending .jsonl"),
        ("a.csv", book, "is an Excel workbook (.xlsx)", "give it the ending .xlsx"),
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


def test_whole_lines_in_quotes_are_told(tmp_path: Path) -> None:
    whole = "the whole line stands in quotes"
    for lines in ('"name,phone"\n"Ana,+6587654321"\n', '"phone;name"\n"+6587654321;""Ana"""\n'):
        path = file_of(tmp_path, lines)
        for columns in ({}, {"destination": "phone"}):
            assert f"line 1: {whole}" in refused(path, replace(OPTIONS, columns=columns))
        with pytest.raises(CampaignFileError, match=whole):
            read_number_file(path)


# -- JSON: bodies as the guides print them, rows on lines, comments, names that stand twice ----------------------------

NONE = CampaignOptions()
BODY: dict[str, object] = {
    "callflow": [
        {"action": "makeCall", "params": {"source": "6531234567", "destination": "+6587654321"}},
        {"action": "say", "params": {"text": "Hello.", "voiceProfile": "en-IE-EmilyNeural"}},
        {"action": "hangup"},
    ]
}


def lines(*values: object) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def test_a_body_that_breaks_rules_has_every_finding_with_its_path(tmp_path: Path) -> None:
    bad = {"callflow": [{"action": "makeCall", "params": {"source": "6531234567"}}, {"action": "say", "params": {}}]}
    (row,) = read(file_of(tmp_path, lines(bad), "calls.jsonl"), NONE)
    assert [(found.row, found.column, found.path, found.code) for found in row.findings if found.is_error] == [
        (1, None, f"$.callflow{place}", -1009)
        for place in ("[0].params.destination", "[1].params.text", "[1].params.voiceProfile")
    ]
    (row,) = read(file_of(tmp_path, '{"destination": "+6587654321", "name": "Ana"}\n', "calls.jsonl"), NONE)
    assert any(found.code == -1013 for found in row.findings), "a row where a body belongs"


def test_the_kind_of_a_file_is_seen_by_its_name_or_its_beginning(tmp_path: Path) -> None:
    for kind, files in {
        FileKind.CSV: [("a.CSV", "{"), ("a.tsv", "{"), ("a.txt", "destination,name\n")],
        FileKind.JSON_LINES: [("a.ndjson", "destination"), ("a", lines(BODY, BODY))],
        FileKind.JSON: [("a.json", "destination"), ("a", lines(BODY)), ("a", json.dumps(BODY, indent=2)),
                        ("a", "// a comment\n{}")],
    }.items():  # fmt: skip
        assert [kind_of(InputFile(file_of(tmp_path, text, name))) for name, text in files] == [kind] * len(files)
    assert open_campaign(file_of(tmp_path, "{}", "c.json"), OPTIONS, now=NOW).batch_id == "c"


# -- a name that stands twice in one object: nobody can say which value was meant --------------------------------------

TWICE = [
    '{"destination": "+6587654321", "name": "Ana", "destination": "+6587654322"}',
    '{"destination": "+6587654321", "name": {"first": "Ana", "first": "Ben"}}',
    '{"destination": "+6587654321", "name": [1, {"a": 1, "b": {"c": 2}, "\\u0061": 3}]}',
    "{destination: '+6587654321', name: 'Ana', \"destination\": '+6587654322'}",
    "{destination: '+6587654321', 'destination': '+6587654321'}",
    '{"destination": "+6587654321", /* "x": 1, */ name: "}{,:", n\\u0061me: "Ben",}',
    '{"destination": "+6587654321", \'it\\\'s\': 1, "it\'s": 2,}',
]
ONCE = [
    '{"destination": "+6587654321", "name": "Ana", "a": {"name": 1}, "b": [{"name": 1}, {"name": 2}]}',
    "{destination: '+6587654321', name: 'name, \"name\": {name: 1}', /* name: 1 */ b: {name: [1, 'name', {name: 2}]},}",
    '{"destination": "+6587654321", "name": "Ana", "Name ": "is another"}',
    '{"destination": "+6587654321", "name": "Ana", "it": [1, .5, +7, -Infinity, 0xff]} // name: 1',
]


def test_a_name_twice_in_a_line_a_row_or_a_document_is_refused(tmp_path: Path) -> None:
    for text in TWICE:
        with pytest.raises(ValueError, match="twice in one object; keep one of them"):
            read_json(text)
        rows = read(file_of(tmp_path, f'{{"destination": "+6587654323", "name": "Cy"}}\n{text}\n', "people.jsonl"))
        ((row, column, code, message),) = told(rows)
        assert (row, column, code) == (2, None, -1001)
        assert message.startswith("the line has the name ")
        assert "twice in one object" in refused(file_of(tmp_path, text, "body.json"))
    for text in ONCE:
        read_json(text)


def test_a_name_twice_in_a_request_body_or_its_parts_is_refused(tmp_path: Path) -> None:
    whole = json.dumps(BODY)
    for text in (
        whole.replace('"source"', '"destination": "+6587654329", "source"'),
        whole.replace('"text"', '"text": "Goodbye.", "text"'),
        whole.replace('"text"', '"text" : "Goodbye.", "text"'),
        whole.replace('"action": "makeCall"', '"action": "hangup", "action": "makeCall"'),
    ):
        for given in (text, text.encode()):
            with pytest.raises(CallFlowError, match="twice in one object") as raised:
                CallFlow.parse(given)
            assert [(found.path, found.code) for found in raised.value.findings] == [("$", -1001)]
        rows = read(file_of(tmp_path, text, "bodies.jsonl"))
        assert [(found[0], found[2]) for found in told(rows)] == [(1, -1001)]
        for template in (text, f"// a comment\n{text}"):
            with pytest.raises(CampaignFileError, match="twice in one object"):
                FlowTemplate.load(file_of(tmp_path, template, "template.json"))
    with pytest.raises(InvalidInputError, match="has the name '1' twice"):
        _choices({"choices": '{"1": "approved", "2": "rejected", "1": "later"}'})


def test_deep_nesting_is_an_error_and_no_crash() -> None:
    for text in ("[" * 5000 + "]" * 5000, '{"a":' * 900 + "1" + "}" * 900):
        try:
            read_strict_json(text)
        except RepeatedNameError:
            raise AssertionError("no name stands twice") from None
        except ValueError:
            pass
