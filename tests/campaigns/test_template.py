"""Call flow templates: what is filled in, what is left out, what is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.campaigns.reading import NOW, OPTIONS, SAY, file_of, read, requests, text_of, told
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Remedy


def body(**say: object) -> dict[str, object]:
    return {
        "callflow": [
            {"action": "makeCall", "params": {"source": "{{source}}", "destination": "{{destination}}"}},
            {"action": "say", "params": {"text": "Hello {{name}}.", **say}},
            {"action": "hangup"},
        ]
    }


def campaign(folder: Path, template: object, content: str) -> Path:
    (folder / "flow.json").write_text(json.dumps(template))
    return file_of(folder, content)


def options(folder: Path, **more: object) -> CampaignOptions:
    given: dict[str, object] = {"source": "+6531234567", "voice_profile": "en-IE-EmilyNeural", **more}
    return CampaignOptions(template=FlowTemplate.load(folder / "flow.json"), **given)  # type: ignore[arg-type]


def refused(folder: Path, template: object) -> CampaignFileError:
    (folder / "flow.json").write_text(json.dumps(template))
    with pytest.raises(CampaignFileError) as caught:
        FlowTemplate.load(folder / "flow.json")
    return caught.value


def test_every_column_is_a_variable_and_its_quotes_are_only_text(tmp_path: Path) -> None:
    """A cell cannot break out of its string: the JSON is parsed before anything is filled in."""
    evil = '"}}], {{destination}} {% raw %} \\ &amp; <b>'
    cell = evil.replace('"', '""')
    path = campaign(tmp_path, body(), f'destination,name\n+6587654321,"{cell}"\n')
    request = requests(read(path, options(tmp_path)))[0]
    assert text_of(request) == f"Hello {evil}."
    assert len(request.flow.actions) == 3


@pytest.mark.parametrize(
    ("text", "content", "said"),
    [
        ("{{first_name}} {{Name}} {{name}}", "Destination,First Name,Name\n+6587654321,A,B\n", "A B B"),
        ("{{destination}} {{source}}", "destination\n(+65) 8765-4321\n", "+6587654321 +6531234567"),
    ],
    ids=["spaces and capitals", "numbers as they are called"],
)
def test_columns_are_variables_however_they_are_written(tmp_path: Path, text: str, content: str, said: str) -> None:
    path = campaign(tmp_path, body(text=text), content)
    assert text_of(requests(read(path, options(tmp_path)))[0]) == said


def test_values_become_what_the_parameter_is_and_an_empty_one_is_left_out(tmp_path: Path) -> None:
    capture = {
        "action": "sayAndCapture",
        "params": {
            "promptMessage": "Press a key.",
            "voiceProfile": "en-IE-EmilyNeural",
            "maxDigits": "{{digits}}",
            "speed": "{{speed}}",
            "completeOnHash": "{{hash}}",
            "noOfTries": "{{ tries }}",
        },
    }
    flow = {"callflow": [{"action": "makeCall"}, capture]}
    path = campaign(tmp_path, flow, "destination,digits,speed,hash,tries\n+6587654321,4,1.5,False,\n")
    params = requests(read(path, options(tmp_path)))[0].flow.actions[1]["params"]
    assert isinstance(params, dict)
    assert (params["maxDigits"], params["speed"], params["completeOnHash"]) == (4, 1.5, False)
    assert "noOfTries" not in params


def test_what_is_not_a_number_is_reported_by_its_column(tmp_path: Path) -> None:
    path = campaign(
        tmp_path, body(repetition="{{times}}"), "destination,name,times\n+6587654321,Ana,twice\n+6587654321,Ana,9\n"
    )
    rows = read(path, options(tmp_path))
    assert [(row, column, code) for row, column, code, _ in told(rows)] == [(2, "times", -1009), (3, "times", -1009)]
    assert all(row.findings[0].path == "$.callflow[1].params.repetition" for row in rows)


def test_every_empty_variable_of_a_row_is_reported_at_once(tmp_path: Path) -> None:
    path = campaign(tmp_path, body(text="{{a}} {{b}} {{c}}"), "destination,a,b,c\n+6587654321,,x,\n")
    found = told(read(path, options(tmp_path)))
    assert sorted(str(column) for _, column, _, _ in found) == ["a", "c"]
    assert {message for *_, message in found} == {
        "is empty, but the template needs it; fill it in, or write {{ a or 'something' }}",
        "is empty, but the template needs it; fill it in, or write {{ c or 'something' }}",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Hello {{ name or 'customer' }}.", "Hello customer."),
        ("Hello {{ name|default('customer') }}.", "Hello customer."),
        ("Hello{% if name %} {{ name }}{% endif %}.", "Hello."),
        ("Hello{% if name is defined %} {{ name }}{% endif %}.", "Hello."),
        ("Hello {{ missing|default('you') }}.", "Hello you."),
    ],
)
def test_an_empty_cell_may_have_a_substitute(tmp_path: Path, text: str, said: str) -> None:
    path = campaign(tmp_path, body(text=text), "destination,name\n+6587654321,\n")
    assert text_of(requests(read(path, options(tmp_path)))[0]) == said


def test_a_variable_without_a_column_is_reported_once_for_the_file(tmp_path: Path) -> None:
    path = campaign(tmp_path, body(text="{{name}} {{day}} {{hour}}"), "destination,name\n+6587654321,Ana\n" * 1)
    with pytest.raises(CampaignFileError) as caught:
        open_campaign(path, options(tmp_path), now=NOW)
    assert [(found.row, found.column, found.code) for found in caught.value.findings] == [
        (1, "day", -1009),
        (1, "hour", -1009),
    ]
    assert "day is needed by the call flow, but there is no such column; add a column day" in str(caught.value)


def test_a_missing_source_and_voice_are_reported_once_for_the_file(tmp_path: Path) -> None:
    path = campaign(tmp_path, body(), "destination,name\n+6587654321,Ana\n")
    with pytest.raises(CampaignFileError) as caught:
        open_campaign(path, options(tmp_path, source=None, voice_profile=None), now=NOW)
    assert [found.column for found in caught.value.findings] == ["source", "voice_profile"]
    assert "give a source for all rows, or add a column source" in str(caught.value)


def test_a_voice_that_is_fixed_in_the_template_stays(tmp_path: Path) -> None:
    path = campaign(tmp_path, body(voiceProfile="en-US-JennyNeural"), "destination,name\n+6587654321,Ana\n")
    assert "en-US-JennyNeural" in str(requests(read(path, options(tmp_path)))[0].flow.to_body())


def test_the_row_is_called_and_not_a_number_that_is_fixed_in_the_template(tmp_path: Path) -> None:
    """A template copied from the guides names a number: calling it once for each row would be the worst to do."""
    fixed = body()
    fixed["callflow"][0]["params"] = {"source": "+6531234567", "destination": "+6598765432"}  # type: ignore[index]
    path = campaign(tmp_path, fixed, "destination,name\n+6587654321,Ana\n+6587654322,Ben\n")
    opened = open_campaign(path, options(tmp_path), now=NOW)
    assert [request.flow.destination for request in requests(opened)] == ["+6587654321", "+6587654322"]
    assert [(found.path, found.is_error) for found in opened.findings] == [("$.callflow[0].params.destination", False)]
    assert "is the constant +6598765432, but each row calls its own destination" in opened.findings[0].message


def test_a_second_call_may_be_fixed(tmp_path: Path) -> None:
    agent = {"source": "+6531234567", "destination": "+6531111111"}
    flow = {"callflow": [{"action": "makeCall"}, {"action": "makeCall", "params": agent}]}
    path = campaign(tmp_path, flow, "destination,name\n+6587654321,Ana\n")
    called = requests(read(path, options(tmp_path)))[0].flow.actions[1]["params"]
    assert called == agent


@pytest.mark.parametrize(
    "text", ["Hello {{ name", "Hello {{ first name }}", "{% if name %}Hello", "{{ name | shout }}", "Hello {name}"]
)
def test_a_template_that_cannot_be_compiled_names_the_place(tmp_path: Path, text: str) -> None:
    error = refused(tmp_path, body(text=text))
    assert "flow.json: $.callflow[1].params.text cannot be read as a template: " in str(error)
    assert [found.path for found in error.findings] == ["$.callflow[1].params.text"]
    for word in ("token", "tag", "block", "expected", "got '", "jinja", "statement"):
        assert word not in str(error).lower()


def test_what_is_fixed_in_a_template_is_judged_once_and_all_at_once(tmp_path: Path) -> None:
    flow = body(repetition=9)
    flow["callflow"].append({"action": "shout", "params": {}})  # type: ignore[attr-defined]
    error = refused(tmp_path, flow)
    assert [(found.path, found.code) for found in error.findings] == [
        ("$.callflow[1].params.repetition", -1009),
        ("$.callflow[2]", -1012),
        ("$.callflow[3].action", -1007),
    ]
    assert "is not a call flow that 8x8 accepts: " in str(error)


def test_what_is_not_a_call_flow_is_not_a_template(tmp_path: Path) -> None:
    for content in ["[]", '"text"', "{", "", '{"callflow": []}', '{"flow": []}']:
        (tmp_path / "flow.json").write_text(content)
        with pytest.raises(CampaignFileError, match=r"flow\.json"):
            FlowTemplate.load(tmp_path / "flow.json")


def test_a_template_that_fails_for_a_row_tells_the_row(tmp_path: Path) -> None:
    path = campaign(
        tmp_path,
        body(text="{{ 10 // (count|int) }} {{name}}"),
        "destination,name,count\n+6587654321,A,0\n+6587654322,B,5\n",
    )
    rows = read(path, options(tmp_path))
    assert [(row, message) for row, _, _, message in told(rows)] == [
        (2, "cannot be filled in with this row: the template divides by zero; correct the value or the template")
    ]
    assert text_of(requests(rows)[0]) == "2 B"


@pytest.mark.parametrize(
    "text", ["{{ ''.__class__.__mro__ }}", "{{ self.__init__.__globals__ }}", "{{ cycler.__init__.__globals__ }}"]
)
def test_a_template_cannot_reach_out_of_its_sandbox(tmp_path: Path, text: str) -> None:
    path = campaign(tmp_path, body(text=text), "destination\n+6587654321\n")
    assert [
        message.startswith("cannot be filled in with this row: ") for *_, message in told(read(path, options(tmp_path)))
    ] == [True]


def test_say_makes_a_call_that_speaks_and_hangs_up() -> None:
    filled = SAY.fill({"name": "Ana"})
    assert [entry["action"] for entry in filled.body["callflow"]] == ["makeCall", "say", "hangup"]
    assert SAY.variables == {"name"}
    with pytest.raises(CampaignFileError, match=r"^the text to say: "):
        FlowTemplate.speaking("Hello {{ name")


def test_a_csv_without_anything_to_say_is_refused(tmp_path: Path) -> None:
    path = file_of(tmp_path, "destination,name\n+6587654321,Ana\n")
    with pytest.raises(CampaignFileError, match=f"need a text to speak: {Remedy.GIVE_TEXT}"):
        open_campaign(path, CampaignOptions(source=OPTIONS.source), now=NOW)


def test_source_and_voice_of_a_row_win_and_are_not_shared_with_other_rows(tmp_path: Path) -> None:
    """What is fixed in the template is shared by all rows, and must not be written to."""
    flow = {"callflow": [{"action": "makeCall"}, {"action": "say", "params": {"text": "Hello."}}]}
    path = campaign(
        tmp_path,
        flow,
        "destination,voice_profile,source\n+6587654321,en-GB-SoniaNeural,+65 3123 4568\n+6587654322,,\n"
        "+6587654323,th-TH-PremwadeeNeural,\n",
    )
    found = [request.flow.to_body()["callflow"] for request in requests(read(path, options(tmp_path)))]
    assert [flow[0]["params"]["destination"] for flow in found] == ["+6587654321", "+6587654322", "+6587654323"]
    assert [flow[0]["params"]["source"] for flow in found] == ["+6531234568", "+6531234567", "+6531234567"]
    assert [flow[1]["params"]["voiceProfile"] for flow in found] == [
        "en-GB-SoniaNeural",
        "en-IE-EmilyNeural",
        "th-TH-PremwadeeNeural",
    ]
