"""JSON from people's files: bodies as the guides print them, rows on lines, comments and trailing commas."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns.reading import NOW, OPTIONS, calls_of, file_of, flow_of, read, text_of, told
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.files.formats import kind_of
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.campaigns.files.rows import FileKind
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.model.flows.callflow import CallFlow

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


def refused(path: Path, options: CampaignOptions = NONE) -> str:
    with pytest.raises(CampaignFileError) as caught:
        read(path, options)
    return str(caught.value)


def test_a_file_with_one_body_is_one_call_with_comments_and_trailing_commas_too(tmp_path: Path) -> None:
    text = json.dumps(BODY, indent=1).replace('"hangup"\n  }', '"hangup", // the end\n  },')
    assert "// the end" in text
    rows = read(file_of(tmp_path, text, "call.json"), NONE)
    assert [(row.raw.number, row.is_bad) for row in rows] == [(1, False)]
    request = calls_of(rows)[0]
    assert flow_of(request) == CallFlow.parse(BODY)
    assert (request.batch_id, request.valid_until, request.not_before) == ("call", None, None)


def test_a_json_file_that_holds_no_single_body_is_refused(tmp_path: Path) -> None:
    content: Any
    for content, sentence in [
        ("", "is empty; write a request body with a callflow in it"),
        ("[]", "holds an array of 0 values, but a JSON file holds one body, for one call"),
        (json.dumps([BODY, BODY]), "holds an array of 2 values, but a JSON file holds one body, for one call"),
        ("17", "holds a number, not a request body"),
        (
            ("x" * 900_000 + "\n") * 12,
            "is too large: a JSON document may have at most 10000000 bytes; write one object on each line",
        ),
        ('{\n  "callflow": [}\n', "is not JSON: "),
        ('{"callflow": [1, 2', "is not JSON: unclosed array (character 14)"),
        ("Destination;Name", "is not JSON: expected a value, found 'D' (character 1)"),
        ('{\n"callflow" [1]}', "is not JSON: expected colon, found '[' (line 2, character 12)"),
        (lines(BODY, BODY), "is not JSON: extra data '{' (line 2, character 1)"),
        ('{"a": "\udcff"}'.encode("utf-8", "surrogateescape"), "is not UTF-8: line 1 has the byte 0xFF at character 8"),
    ]:
        assert sentence in refused(file_of(tmp_path, content, "call.json"))


def test_each_json_line_is_a_call(tmp_path: Path) -> None:
    second = json.loads(json.dumps(BODY).replace("87654321", "87654322"))
    path = file_of(tmp_path, "// two calls\n" + lines(BODY) + "\n" + lines(second), "calls.jsonl")
    rows = read(path, NONE)
    assert [
        (row.raw.number, flow_of(request).destination) for row, request in zip(rows, calls_of(rows), strict=True)
    ] == [
        (2, "+6587654321"),
        (4, "+6587654322"),
    ]


def test_the_reserved_columns_are_further_keys_of_a_body(tmp_path: Path) -> None:
    more: dict[str, object] = {
        "unique_key": "order-42",
        "batch_id": "orders",
        "priority": 7,
        "time_zone": "Asia/Singapore",
        "not_before": "2026-03-02 18:00",
        "valid_until": "2026-03-02T20:00:00+08:00",
        "source": "+6531234568",
        "reason": "left over from a rejects file",
    }
    rows = read(file_of(tmp_path, lines({**BODY, **more}), "calls.jsonl"), NONE)
    assert rows[0].findings == ()
    request = calls_of(rows)[0]
    assert (request.unique_key, request.batch_id, request.priority) == ("order-42", "orders", 7)
    assert str(request.not_before) == "2026-03-02 10:00:00+00:00"
    assert str(request.valid_until) == "2026-03-02 12:00:00+00:00"
    assert request.time_zone == "Asia/Singapore"
    assert flow_of(request).source == "+6531234568"
    assert set(flow_of(request).to_body()) == {"callflow"}


def test_what_the_body_itself_says_is_used_and_columns_win(tmp_path: Path) -> None:
    own = {**BODY, "clientRequestId": "own-key", "clientBatchId": "own-batch", "validUntil": "2026-03-02T12:00:00.000Z"}
    path = file_of(tmp_path, lines(own, {**own, "unique_key": "k", "batch_id": "b"}), "calls.jsonl")
    first, second = calls_of(read(path, NONE))
    assert (first.unique_key, first.batch_id, str(first.valid_until)) == (
        "own-key",
        "own-batch",
        "2026-03-02 12:00:00+00:00",
    )
    assert (second.unique_key, second.batch_id) == ("k", "b")
    assert [call.batch_id for call in calls_of(read(path, CampaignOptions(batch_id="given")))] == ["given", "given"]


def test_a_number_with_a_fraction_calls_nobody_by_its_digits(tmp_path: Path) -> None:
    path = file_of(tmp_path, '{"destination": 8765432.1, "name": "Ana"}\n', "rows.jsonl")
    rows = read(path, replace(OPTIONS, country="SG"))
    assert [(row, column) for row, column, *_ in told(rows)] == [(1, "destination")]


def test_with_a_template_each_json_line_is_a_row(tmp_path: Path) -> None:
    path = file_of(
        tmp_path,
        lines({"destination": "+6587654321", "name": "Ana"}, {"destination": "+6587654322", "name": 17, "hue": "red"}),
        "calls.jsonl",
    )
    rows = read(path)
    assert list(map(text_of, calls_of(rows))) == ["Hello Ana.", "Hello 17."]
    assert [(found.row, found.column, found.is_error) for row in rows for found in row.findings] == [(2, "hue", False)]


def test_a_bad_line_is_reported_and_the_others_are_read(tmp_path: Path) -> None:
    for line, column, code, sentence in [
        ('{"destination": "+6587654321"', None, -1001, "the line is not JSON: "),
        ("[1, 2]", None, -1013, "the line holds an array, not an object"),
        ('{"name": "Ana"}', "destination", -1009, "is missing but it is required"),
        ('{"destination": null, "name": "Ana"}', "destination", -1009, "is missing but it is required"),
        ('{"destination": ["+6587654321"], "name": "Ana"}', "destination", -1011, "holds several numbers"),
        ('{"destination": {}, "name": "Ana"}', "destination", -1009, "should be a text, not an object"),
        ('{"destination": true, "name": "Ana"}', "destination", -1009, "should be a text, not a boolean"),
        ('{"destination": "+6587654321"}', "name", -1009, "has no value, but the text needs it"),
        ('{"destination": "+6587654321", "name": null}', "name", -1009, "is empty, but the template needs it"),
    ]:
        good = '{"destination": "+6587654322", "name": "Ben"}'
        rows = read(file_of(tmp_path, f"{line}\n{good}\n", "calls.jsonl"))
        assert [(row, where, told_code) for row, where, told_code, _ in told(rows)] == [(1, column, code)]
        assert told(rows)[0][3].startswith(sentence)
        assert len(calls_of(rows)) == 1


def test_a_body_that_breaks_rules_has_every_finding_with_its_path(tmp_path: Path) -> None:
    bad = {"callflow": [{"action": "makeCall", "params": {"source": "6531234567"}}, {"action": "say", "params": {}}]}
    rows = read(file_of(tmp_path, lines(bad), "calls.jsonl"), NONE)
    assert [(found.path, found.code) for found in rows[0].findings if found.is_error] == [
        ("$.callflow[0].params.destination", -1009),
        ("$.callflow[1].params.text", -1009),
        ("$.callflow[1].params.voiceProfile", -1009),
    ]
    assert all(found.column is None and found.row == 1 for found in rows[0].findings)


def test_options_fill_in_what_a_body_leaves_out(tmp_path: Path) -> None:
    body = {
        "callflow": [
            {"action": "makeCall", "params": {"destination": "0812 0000 0001"}},
            {"action": "say", "params": {"text": "Hello."}},
        ]
    }
    options = CampaignOptions(source="+6531234567", voice_profile="en-IE-EmilyNeural", country="ID")
    flow = flow_of(calls_of(read(file_of(tmp_path, lines(body), "calls.jsonl"), options))[0])
    assert (flow.source, flow.destination) == ("+6531234567", "+6281200000001")
    assert flow.actions[1]["params"] == {"text": "Hello.", "voiceProfile": "en-IE-EmilyNeural"}


def test_what_a_numbering_plan_thinks_of_the_source_is_reported_once(tmp_path: Path) -> None:
    def body(n: int) -> object:
        return json.loads(json.dumps(BODY).replace("6531234567", "6512345678").replace("87654321", f"8765432{n}"))

    rows = read(file_of(tmp_path, lines(body(1), body(2), body(3)), "calls.jsonl"), NONE)
    assert [[found.path for found in row.findings] for row in rows] == [["$.callflow[0].params.source"], [], []]


def test_the_kind_of_a_file_is_seen_by_its_name_or_its_beginning(tmp_path: Path) -> None:
    for name, content, kind in [
        ("a.CSV", "{", FileKind.CSV),
        ("a.tsv", "{", FileKind.CSV),
        ("a.ndjson", "destination", FileKind.JSON_LINES),
        ("a.json", "destination", FileKind.JSON),
        ("a.txt", "destination,name\n", FileKind.CSV),
        ("a", lines(BODY), FileKind.JSON),
        ("a", lines(BODY, BODY), FileKind.JSON_LINES),
        ("a", json.dumps(BODY, indent=2), FileKind.JSON),
        ("a", "// a comment\n{}", FileKind.JSON),
    ]:
        assert kind_of(InputFile(file_of(tmp_path, content, name))) is kind


def test_a_row_where_a_body_belongs_says_what_is_missing(tmp_path: Path) -> None:
    rows = read(file_of(tmp_path, '{"destination": "+6587654321", "name": "Ana"}\n', "calls.jsonl"), NONE)
    assert any(found.code == -1013 for found in rows[0].findings)
    assert open_campaign(file_of(tmp_path, "{}", "c.json"), OPTIONS, now=NOW).batch_id == "c"
