"""A name that stands twice in one JSON object: nobody can say which value was meant, so it is refused everywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.campaigns.reading import OPTIONS, file_of, read, told
from voiceflow_worker import CallFlow
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.files.json_rows import read_json
from voiceflow_worker.errors import CallFlowError, CampaignFileError, InvalidInputError
from voiceflow_worker.ivr.approval import _choices  # pyright: ignore[reportPrivateUsage]
from voiceflow_worker.model.text.json_text import RepeatedNameError, read_strict_json

BODY = {
    "callflow": [
        {"action": "makeCall", "params": {"source": "+6531234567", "destination": "+6587654321"}},
        {"action": "say", "params": {"text": "Hello.", "voiceProfile": "en-US-JennyNeural"}},
    ],
}

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


@pytest.mark.parametrize("text", TWICE)
def test_a_line_a_row_and_a_document_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="twice in one object; keep one of them"):
        read_json(text)
    good = '{"destination": "+6587654323", "name": "Cleo"}'
    rows = read(file_of(tmp_path, f"{good}\n{text}\n", "people.jsonl"))
    ((row, column, code, message),) = told(rows)
    assert (row, column, code) == (2, None, -1001)
    assert message.startswith("the line has the name ")
    with pytest.raises(CampaignFileError, match="twice in one object"):
        read(file_of(tmp_path, text, "body.json"))


@pytest.mark.parametrize("text", ONCE)
def test_a_name_may_stand_in_several_objects(text: str) -> None:
    read_json(text)


@pytest.mark.parametrize(("columns", "key"), [({}, "name"), ({"who": "Name"}, "who"), ({"name": "Nom"}, "name")])
def test_two_names_for_one_column_are_refused(tmp_path: Path, columns: Mapping[str, str], key: str) -> None:
    path = file_of(
        tmp_path, '{"destination": "+6587654321", "name": "Ana", "Name": "Ben", "Nom": "Cy"}', "people.jsonl"
    )
    rows = told(read(path, replace(OPTIONS, template=FlowTemplate.speaking(f"{{{{{key}}}}}"), columns=columns)))
    assert f"is twice in the row, as {key}; rename or remove one" in [message for *_, message in rows]


def test_a_request_body_and_its_parts_are_refused(tmp_path: Path) -> None:
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
    assert CallFlow.parse(whole).to_body() == BODY
    assert read(file_of(tmp_path, whole, "bodies.jsonl"), OPTIONS)


def test_the_choices_of_a_menu_are_refused() -> None:
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
