"""JSON from the files of people, and how the kind of a file is seen."""

from __future__ import annotations

import json
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
from voiceflow_worker.campaigns.lists.input_file import InputFile
from voiceflow_worker.campaigns.lists.rows import FileKind
from voiceflow_worker.campaigns.lists.source import kind_of
from voiceflow_worker.errors import CallFlowError, CampaignFileError
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.text.json_text import RepeatedNameError, read_json, read_strict_json

TABLE = "destination,name\n+6587654321,Ana\n"


def test_a_workbook_and_a_table_without_an_ending_are_read(tmp_path: Path) -> None:
    book = workbook(tmp_path, [("destination", "name"), ("+6587654321", "Ana")], "good.xlsx").read_bytes()
    for content in (book, TABLE):
        (row,) = read(file_of(tmp_path, content, "people"), OPTIONS)
        assert row.call is not None
        assert row.call.destination == "+6587654321"


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
    '{"destination": "+6587654321", /* "x": 1, */ "name": "}{,:", "n\\u0061me": "// Ben",}',
]
ONCE = [
    '{"destination": "+6587654321", "name": "Ana", "a": {"name": 1}, "b": [{"name": 1}, {"name": 2}]}',
    '{"destination": "+6587654321", /* "name": 1 */ "b": ["a // b", ",]", {"name": 2,}, ],} // "b": 1',
    '{"destination": "+6587654321", "name": "Ana", "Name ": "is another"}',
]


def test_a_name_twice_in_a_line_a_row_or_a_document_is_refused(tmp_path: Path) -> None:
    for text in TWICE:
        with pytest.raises(ValueError, match="twice in one object; keep one of them"):
            read_json(text)
        rows = read(file_of(tmp_path, f'{{"destination": "+6587654323", "name": "Cy"}}\n{text}\n', "people.jsonl"))
        ((row, column, code, message),) = told(rows)
        assert (row, column, code) == (2, None, -1001)
        assert message.startswith("the line ")
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


def test_deep_nesting_is_an_error_and_no_crash() -> None:
    for text in ("[" * 5000 + "]" * 5000, '{"a":' * 900 + "1" + "}" * 900):
        try:
            read_strict_json(text)
        except RepeatedNameError:
            raise AssertionError("no name stands twice") from None
        except ValueError:
            pass
