"""Call flow templates: what is filled in, what is left out, what is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.campaigns.reading import NOW, OPTIONS, SAY, calls_of, file_of, filled, flow_of, read, text_of, told
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.campaign_rows import CampaignRows, open_campaign
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.finding import Remedy
from voiceflow_worker.ivr.caller import filled as spoken_by_menu
from voiceflow_worker.ivr.check import check_menus
from voiceflow_worker.ivr.menu import Menu


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


def refusal(folder: Path, template: object) -> CampaignFileError:
    with pytest.raises(CampaignFileError) as caught:
        FlowTemplate.load(file_of(folder, json.dumps(template), "flow.json"))
    return caught.value


def test_every_column_is_a_variable_and_its_quotes_are_only_text(tmp_path: Path) -> None:
    """A cell cannot break out of its string: the JSON is parsed before anything is filled in."""
    evil = '"}}], {{destination}} {% raw %} \\ & <b'
    cell = evil.replace('"', '""')
    path = campaign(tmp_path, body(), f'destination,name\n+6587654321,"{cell}"\n')
    request = calls_of(read(path, options(tmp_path)))[0]
    assert text_of(request) == f"Hello {evil}."
    assert len(flow_of(request).actions) == 3


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
    assert text_of(calls_of(read(path, options(tmp_path)))[0]) == said


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
    params = flow_of(calls_of(read(path, options(tmp_path)))[0]).actions[1]["params"]
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
    assert text_of(calls_of(read(path, options(tmp_path)))[0]) == said


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
    assert "en-US-JennyNeural" in str(flow_of(calls_of(read(path, options(tmp_path)))[0]).to_body())


def test_the_row_is_called_and_not_a_number_that_is_fixed_in_the_template(tmp_path: Path) -> None:
    """A template copied from the guides names a number: calling it once for each row would be the worst to do."""
    fixed = body()
    fixed["callflow"][0]["params"] = {"source": "+6531234567", "destination": "+6598765432"}  # type: ignore[index]
    path = campaign(tmp_path, fixed, "destination,name\n+6587654321,Ana\n+6587654322,Ben\n")
    opened = open_campaign(path, options(tmp_path), now=NOW)
    assert [flow_of(request).destination for request in calls_of(opened)] == ["+6587654321", "+6587654322"]
    assert [(found.path, found.is_error) for found in opened.findings] == [("$.callflow[0].params.destination", False)]
    assert "is the constant +6598765432, but each row calls its own destination" in opened.findings[0].message


def test_a_second_call_may_be_fixed(tmp_path: Path) -> None:
    agent = {"source": "+6531234567", "destination": "+6531111111"}
    flow = {"callflow": [{"action": "makeCall"}, {"action": "makeCall", "params": agent}]}
    path = campaign(tmp_path, flow, "destination,name\n+6587654321,Ana\n")
    called = flow_of(calls_of(read(path, options(tmp_path)))[0]).actions[1]["params"]
    assert called == agent


@pytest.mark.parametrize(
    "text", ["Hello {{ name", "Hello {{ first name }}", "{% if name %}Hello", "{{ name | shout }}", "Hello {name}"]
)
def test_a_template_that_cannot_be_compiled_names_the_place(tmp_path: Path, text: str) -> None:
    error = refusal(tmp_path, body(text=text))
    assert "flow.json: $.callflow[1].params.text cannot be read as a template: " in str(error)
    assert [found.path for found in error.findings] == ["$.callflow[1].params.text"]
    for word in ("token", "tag", "block", "expected", "got '", "jinja", "statement"):
        assert word not in str(error).lower()


def test_what_is_fixed_in_a_template_is_judged_once_and_all_at_once(tmp_path: Path) -> None:
    flow = body(repetition=9)
    flow["callflow"].append({"action": "shout", "params": {}})  # type: ignore[attr-defined]
    error = refusal(tmp_path, flow)
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
    text = "{% if count and count > name %}{{count}}{% endif %}{{name}}"
    path = campaign(tmp_path, body(text=text), "destination,name,count\n+6587654321,A,5\n+6587654322,B,\n")
    rows = read(path, options(tmp_path))
    why = "a text and a number are compared or mixed; write |int or |float after the column"
    assert [(row, message) for row, _, _, message in told(rows)] == [(2, f"cannot be filled in with this row: {why}")]
    assert text_of(calls_of(rows)[0]) == "B"


REFUSED = {
    "a loop": ["{% for i in a %}{% for j in a %}x{% endfor %}{% endfor %}"],
    "a calculation with ": ["{{ 'x' * 1500000000 }}", "{{ 9 ** 9 ** 9 ** 9 }}", "{{ a % b }}", "{{ a // 0 }}"],
    "a call with ( )": ["{{ lipsum(999999) }}", "{{ name.upper() }}", "{{ self.x() }}"],
    "another statement": [
        "{% set a = 'x' %}", "{% include '/etc/passwd' %}", "{% macro a() %}{% endmacro %}", "{{ name[:9] }}",
        "{% filter upper %}x{% endfilter %}", "{% block a %}{% endblock %}", "{{ name[a] }}",
    ],
    "there is no filter ": [
        "{{ 'x'|center(9999999999) }}", "{{ '%99999999999d'|format(1) }}", "{{ 5|round(-999999999) }}",
    ],
    "there is no test ": ["{% if a is divisibleby(0) %}x{% endif %}"],
    "too many names": ["{{ " + "(" * 5000, "{{ " + "not " * 200 + "a }}", "{{a}}{% if a %}b{% endif %}" * 300],
    "is not the name of a column": ["{{ " + "9" * 5000 + " }}"],
    "characters, and at most 10000": ["x{{a}}" * 2000, "{{" * 500_000, "x" * 500_000],
    "cannot have the name self": ["{{ self }}"],
}  # fmt: skip


@pytest.mark.parametrize(("what", "texts"), REFUSED.items(), ids=REFUSED.keys())
def test_what_a_text_may_cost_is_known_before_it_is_filled_in(what: str, texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(CampaignFileError) as caught:
            FlowTemplate.speaking(text)
        assert what in str(caught.value), text
        with pytest.raises(InvalidInputError) as raised:
            spoken_by_menu(text, {})
        assert what in str(raised.value), text


@pytest.mark.parametrize("text", ["{{a}}", "{{a}}{{a}}", "{{a ~ a}}", "{{a}}{{a|upper}}", "{{a|spell(language='en')}}"])
def test_a_text_that_becomes_too_long_is_refused(text: str) -> None:
    for length in (9_000, 1_000_000) if text != "{{a}}" else (10_001,):
        _, (problem,) = FlowTemplate.speaking(text).fill({"a": "x" * length})
        assert "characters, and at most 10000 are spoken; shorten" in problem.message
        with pytest.raises(InvalidInputError, match="characters, and at most 10000 are spoken; shorten"):
            spoken_by_menu(text, {"a": "x" * length})


def test_a_template_with_more_texts_than_a_call_has_is_refused() -> None:
    says = [{"action": "say", "params": {"text": "{{a}}"}} for _ in range(100_000)]
    with pytest.raises(CampaignFileError, match=r"callflow\[201\]\.params\.text is one text with names too many: "):
        FlowTemplate.parse({"callflow": [{"action": "makeCall"}, *says]}, name="flow.json")


def test_values_have_no_parts_of_python(tmp_path: Path) -> None:
    for text in ("{{ ''.__class__.__mro__ }}", "{{ name.upper }}", "{{ name['__class__'] }}"):
        path = campaign(tmp_path, body(text=text), "destination,name\n+6587654321,Ana\n")
        ((*_, message),) = told(read(path, options(tmp_path)))
        assert message.startswith("cannot be filled in with this row: a value has no part ")
    found = FlowTemplate.speaking("{{ dict }}, {{ person.items }}, {{ person['first name'] }}")
    values = {"dict": "A", "person": {"items": "B", "first name": "C"}}
    assert filled(found, values)["callflow"][1]["params"]["text"] == "A, B, C"


def test_say_makes_a_call_that_speaks_and_hangs_up() -> None:
    assert [entry["action"] for entry in filled(SAY, {"name": "Ana"})["callflow"]] == ["makeCall", "say", "hangup"]
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
    found = [flow_of(request).to_body()["callflow"] for request in calls_of(read(path, options(tmp_path)))]
    assert [flow[0]["params"]["destination"] for flow in found] == ["+6587654321", "+6587654322", "+6587654323"]
    assert [flow[0]["params"]["source"] for flow in found] == ["+6531234568", "+6531234567", "+6531234567"]
    assert [flow[1]["params"]["voiceProfile"] for flow in found] == [
        "en-GB-SoniaNeural",
        "en-IE-EmilyNeural",
        "th-TH-PremwadeeNeural",
    ]


FOREIGN = (
    "[{}]", "[[{}]]", "*|{}|*", "%{}%", "%%{}%%", "<<{}>>", "«{}»", "#{}#", "<{}>", "${}$", "|{}|", "~{}~", "__{}__",
)  # fmt: skip
ONE_WORD = ("@{}", "${}")


def heard(options: CampaignOptions, rows: list[dict[str, object]]) -> tuple[list[str], list[str]]:
    """The errors and warnings of rows that a program gives."""
    campaign = CampaignRows(rows, replace(options, batch_id="a"), now=NOW)
    found = [*campaign.findings, *(each for row in campaign for each in row.findings)]
    return [each.message for each in found if each.is_error], [each.message for each in found if not each.is_error]


def test_the_placeholder_of_another_program_is_refused_where_its_column_is(tmp_path: Path) -> None:
    for signs, name, column in [
        *((signs, name, column) for signs in FOREIGN for name, column in (
            ("First Name", "first_name"), ("FIRST_NAME", "First Name"), ("firstname", "First Name"),
        )),
        *((signs, "NAME", "name") for signs in ONE_WORD), ("[{}]", "Contact.Name", "Name"),
    ]:  # fmt: skip
        written = signs.format(name)
        variable = column.lower().replace(" ", "_")
        for text in (f"Hello {written}.", f"{{{{destination}}}}, hello {written}, see you."):
            options = replace(OPTIONS, template=FlowTemplate.speaking(text))
            wanted = f"stands in the text as {written}, which is spoken as it is written: write {{{{ {variable} }}}}"
            with pytest.raises(CampaignFileError) as raised:
                read(file_of(tmp_path, f"destination,{column}\n+6587654321,Ana\n"), options)
            assert wanted in str(raised.value)
            errors, _ = heard(options, [{"destination": "+6587654321", column: "Ana"}] * 2)
            assert [wanted in each for each in errors] == [True, True], written
            assert heard(options, [{"destination": "+6587654321"}])[0] == []


def test_the_placeholder_of_a_column_that_only_could_be_there_is_a_warning(tmp_path: Path) -> None:
    path = file_of(tmp_path, "destination\n+6587654321\n")
    for written in (
        "[First Name]",
        "*|FNAME|*",
        "%name%",
        "%%name%%",
        "<<name>>",
        "«name»",
        "#name#",
        "@name",
        "[[n]]",
    ):
        campaign = open_campaign(path, replace(OPTIONS, template=FlowTemplate.speaking(f"Hello {written}.")), now=NOW)
        (found,) = campaign.findings
        assert (found.is_error, f"in the text as {written}, " in found.message) == (False, True)
        assert told(campaign) == []


def test_other_signs_in_a_text_are_no_placeholder(tmp_path: Path) -> None:
    path = file_of(tmp_path, "destination,name,off,now,sg\n+6587654321,Ana,1,2,3\n")
    for text in (
        "Press #1 or # now, then # off.", "20 % off and 30% off, 50 %.", "Write to ana@name.sg or a.b@off.sg.",
        "@name.sg, we are @ {{name}}.", "[{{name}}]", "{{ '[name]' }}", "«Ромашка», < off", "US$name, $ off",
        "10%off 20%", "*name*",
    ):  # fmt: skip
        campaign = open_campaign(path, replace(OPTIONS, template=FlowTemplate.speaking(text)), now=NOW)
        assert told(campaign) == []
        assert not any("stands in the text" in each.message for each in campaign.findings), text


def test_a_name_in_single_brackets_is_refused_with_its_own_spelling() -> None:
    for written, inner in (("{name}", "name"), ("${name}", "name"), ("{!Contact.Name}", "Contact.Name")):
        with pytest.raises(CampaignFileError) as raised:
            FlowTemplate.speaking(f"Hello {written}.")
        assert f"{written} would be spoken as it stands; write {{{{{inner}}}}}" in str(raised.value)


def test_the_placeholders_in_later_texts_of_a_menu_are_found(tmp_path: Path) -> None:
    menu = Menu("ask", prompt="Press 1.", voice_profile="en-SG-LunaNeural")
    menu.on("1", goto="Goodbye [First Name].")
    options = CampaignOptions(menu=menu, source="+6531234567")
    with pytest.raises(CampaignFileError, match=r"in the text as \[First Name\].*write \{\{ first_name \}\}"):
        read(file_of(tmp_path, "destination,First Name\n+6587654321,Ana\n"), options)
    errors, _ = heard(options, [{"destination": "+6587654321", "first name": "Ana"}])
    assert len(errors) == 1
    assert read(file_of(tmp_path, "destination\n+6587654321\n"), options)[0].call is not None
    assert any("[First Name]" in found.message for found in check_menus([menu]))
