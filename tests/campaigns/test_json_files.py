"""JSON from people's files: bodies as the guides print them, rows on lines, comments, names that stand twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.campaigns.reading import NOW, OPTIONS, Case, calls_of, file_of, flow_of, judge, read, refused, told
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.campaigns.files.formats import kind_of
from voiceflow_worker.campaigns.files.input_file import InputFile
from voiceflow_worker.campaigns.files.json_rows import read_json
from voiceflow_worker.campaigns.files.rows import FileKind
from voiceflow_worker.errors import CallFlowError, CampaignFileError, InvalidInputError
from voiceflow_worker.ivr.approval import _choices  # pyright: ignore[reportPrivateUsage]
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.text.json_text import RepeatedNameError, read_strict_json

NONE = CampaignOptions()
BODY: dict[str, object] = {
    "callflow": [
        {"action": "makeCall", "params": {"source": "6531234567", "destination": "+6587654321"}},
        {"action": "say", "params": {"text": "Hello.", "voiceProfile": "en-IE-EmilyNeural"}},
        {"action": "hangup"},
    ]
}
NO_BODIES: Mapping[str | bytes, str] = {
    "": "is empty; write a request body with a callflow in it",
    "[]": "holds an array of 0 values, but a JSON file holds one body, for one call",
    json.dumps([BODY, BODY]): "holds an array of 2 values, but a JSON file holds one body, for one call",
    "17": "holds a number, not a request body",
    ("x" * 900_000 + "\n") * 12: "a JSON document may have at most 10000000 bytes; write one object",
    '{\n  "callflow": [}\n': "is not JSON: ",
    '{"callflow": [1, 2': "is not JSON: unclosed array (character 14)",
    "Destination;Name": "is not JSON: expected a value, found 'D' (character 1)",
    '{\n"callflow" [1]}': "is not JSON: expected colon, found '[' (line 2, character 12)",
    f"{json.dumps(BODY)}\n{json.dumps(BODY)}\n": "is not JSON: extra data '{' (line 2, character 1)",
    b'{"a": "\xff"}': "is not UTF-8: line 1 has the byte 0xFF at character 8",
}
CASES = {
    **{
        f"a document that is no single body: {content[:20]!r}": Case(content, refused=said, name="a.json", options=NONE)
        for content, said in NO_BODIES.items()
    },
    **{
        f"a line that is {line}": Case(
            f'{line}\n{{"destination": "+6587654322", "name": "Ben"}}\n', ["Hello Ben."], [(1, column, said)],
            name="a.jsonl",
        )
        for line, column, said in [
            ('{"destination": "+6587654321"', None, "the line is not JSON: "),
            ("[1, 2]", None, "the line holds an array, not an object"),
            ('{"name": "Ana"}', "destination", "is missing but it is required"),
            ('{"destination": null, "name": "Ana"}', "destination", "is missing but it is required"),
            ('{"destination": ["+6587654321"], "name": "Ana"}', "destination", "holds several numbers"),
            ('{"destination": {}, "name": "Ana"}', "destination", "should be a text, not an object"),
            ('{"destination": true, "name": "Ana"}', "destination", "should be a text, not a boolean"),
            ('{"destination": 8765432.1, "name": "Ana"}', "destination", "which is not a phone number"),
            ('{"destination": "+6587654321"}', "name", "has no value, but the text needs it"),
            ('{"destination": "+6587654321", "name": null}', "name", "is empty, but the template needs it"),
        ]
    },
    "a number as a name": Case('{"destination": "+6587654321", "name": 17}', ["Hello 17."], name="a.jsonl"),
}  # fmt: skip


def lines(*values: object) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def test_a_line_or_a_document_is_read_or_is_told(tmp_path: Path) -> None:
    judge(tmp_path, CASES)


def test_a_file_with_one_body_is_one_call_with_comments_and_trailing_commas_too(tmp_path: Path) -> None:
    text = json.dumps(BODY, indent=1).replace('"hangup"\n  }', '"hangup", // the end\n  },')
    assert "// the end" in text
    rows = read(file_of(tmp_path, text, "call.json"), NONE)
    assert [(row.raw.number, row.is_bad) for row in rows] == [(1, False)]
    request = calls_of(rows)[0]
    assert flow_of(request) == CallFlow.parse(BODY)
    assert (request.batch_id, request.valid_until, request.not_before) == ("call", None, None)


def test_each_json_line_is_a_call(tmp_path: Path) -> None:
    second = json.loads(json.dumps(BODY).replace("87654321", "87654322"))
    path = file_of(tmp_path, "// two calls\n" + lines(BODY) + "\n# and\n" + lines(second), "calls.jsonl")
    rows = read(path, NONE)
    assert [(row.raw.number, row.number) for row in rows] == [(2, "+6587654321"), (5, "+6587654322")]


def test_the_reserved_columns_are_further_keys_of_a_body(tmp_path: Path) -> None:
    more: dict[str, object] = {
        "unique_key": "order-42", "batch_id": "orders", "priority": 7, "time_zone": "Asia/Singapore",
        "not_before": "2026-03-02 18:00", "valid_until": "2026-03-02T20:00:00+08:00", "source": "+6531234568",
        "reason": "left over from a rejects file",
    }  # fmt: skip
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
    assert (first.unique_key, first.batch_id) == ("own-key", "own-batch")
    assert str(first.valid_until) == "2026-03-02 12:00:00+00:00"
    assert (second.unique_key, second.batch_id) == ("k", "b")
    assert [call.batch_id for call in calls_of(read(path, CampaignOptions(batch_id="given")))] == ["given", "given"]


def test_a_key_that_nothing_uses_is_told_in_its_row(tmp_path: Path) -> None:
    people = [{"destination": f"+658765432{n}", "name": "Ana", **({"hue": "red"} if n == 2 else {})} for n in (1, 2)]
    rows = read(file_of(tmp_path, lines(*people), "calls.jsonl"))
    assert [(found.row, found.column, found.is_error) for row in rows for found in row.findings] == [(2, "hue", False)]


def test_a_body_that_breaks_rules_has_every_finding_with_its_path(tmp_path: Path) -> None:
    bad = {"callflow": [{"action": "makeCall", "params": {"source": "6531234567"}}, {"action": "say", "params": {}}]}
    rows = read(file_of(tmp_path, lines(bad), "calls.jsonl"), NONE)
    assert [(found.path, found.code) for found in rows[0].findings if found.is_error] == [
        ("$.callflow[0].params.destination", -1009),
        ("$.callflow[1].params.text", -1009),
        ("$.callflow[1].params.voiceProfile", -1009),
    ]
    assert all(found.column is None and found.row == 1 for found in rows[0].findings)
    rows = read(file_of(tmp_path, '{"destination": "+6587654321", "name": "Ana"}\n', "calls.jsonl"), NONE)
    assert any(found.code == -1013 for found in rows[0].findings), "a row where a body belongs"


def test_options_fill_in_what_a_body_leaves_out(tmp_path: Path) -> None:
    call = {"action": "makeCall", "params": {"destination": "0812 0000 0001"}}
    body = {"callflow": [call, {"action": "say", "params": {"text": "Hello."}}]}
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


@pytest.mark.parametrize(("columns", "key"), [({}, "name"), ({"who": "Name"}, "who"), ({"name": "Nom"}, "name")])
def test_two_names_for_one_column_are_refused(tmp_path: Path, columns: Mapping[str, str], key: str) -> None:
    line = '{"destination": "+6587654321", "name": "Ana", "Name": "Ben", "Nom": "Cy"}'
    options = replace(OPTIONS, template=FlowTemplate.speaking(f"{{{{{key}}}}}"), columns=columns)
    rows = told(read(file_of(tmp_path, line, "people.jsonl"), options))
    assert f"is twice in the row, as {key}; rename or remove one" in [message for *_, message in rows]


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
