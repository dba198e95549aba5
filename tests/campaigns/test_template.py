"""Call flow templates and the languages of menus: what is filled in, what is left out, what is told."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns.reading import (
    NOW,
    OPTIONS,
    SAY,
    file_of,
    filled,
    flow_of,
    read,
    read_all,
    refused,
    told,
)
from voiceflow_worker import Menu
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.row_reader import ReadRow
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.errors import CampaignFileError, InvalidInputError
from voiceflow_worker.ivr.caller import Caller, Position, Text
from voiceflow_worker.ivr.caller import render_template as spoken_by_menu
from voiceflow_worker.ivr.menu import End
from voiceflow_worker.ivr.menus import Menus
from voiceflow_worker.model.numbers.reading import read_country
from voiceflow_worker.model.reports.events import CallAction

PERSON = "destination,name\n+6587654321,Ana\n"
CALL = {"action": "makeCall", "params": {"source": "{{source}}", "destination": "{{destination}}"}}


def body(*actions: object, text: str = "Hello {{name}}.", **say: object) -> dict[str, Any]:
    """A call flow that says a text, and does what follows."""
    return {"callflow": [CALL, {"action": "say", "params": {"text": text, **say}}, *actions, {"action": "hangup"}]}


def flow(*actions: object, text: str = "Hello {{name}}.", **say: object) -> FlowTemplate:
    return FlowTemplate.parse(body(*actions, text=text, **say), name="flow.json")


def refusal(template: object) -> CampaignFileError:
    with pytest.raises(CampaignFileError) as caught:
        FlowTemplate.parse(template, name="flow.json")
    return caught.value


def test_values_have_the_parts_of_objects() -> None:
    found = FlowTemplate.speaking("{{ dict }}, {{ person.items }}, {{ person['first name'] }}")
    values = {"dict": "A", "person": {"items": "B", "first name": "C"}}
    assert filled(found, values)["callflow"][1]["params"]["text"] == "A, B, C"


def actions(template: FlowTemplate, content: str) -> list[list[Any]]:
    """The actions of each call."""
    reading = read_all([*csv.DictReader(content.splitlines())], replace(OPTIONS, template=template))
    return [flow_of(call).to_body()["callflow"] for call in reading.calls]


def test_values_become_what_the_parameter_is_and_an_empty_one_is_left_out() -> None:
    fixed = {"promptMessage": "Press a key.", "voiceProfile": "en-IE-EmilyNeural"}
    open_ones = {
        "maxDigits": "{{digits}}", "speed": "{{speed}}", "completeOnHash": "{{hash}}", "noOfTries": "{{ tries }}",
    }  # fmt: skip
    capture = {"action": "sayAndCapture", "params": {**fixed, **open_ones}}
    ((_, found),) = actions(
        FlowTemplate.parse({"callflow": [{"action": "makeCall"}, capture]}, name="flow.json"),
        "destination,digits,speed,hash,tries\n+6587654321,4,1.5,False,\n",
    )
    assert found["params"] == {**fixed, "maxDigits": 4, "speed": 1.5, "completeOnHash": False}


def test_a_value_becomes_one_part_of_the_path_of_a_recording() -> None:
    plays = {"action": "playFile", "params": {"fileUrl": "https://files.example.com/{{name|path_part}}.wav"}}
    found = actions(
        FlowTemplate.parse({"callflow": [{"action": "makeCall"}, plays]}, name="flow.json"),
        "destination,name\n+6587654321,Ana\n+6587654322,O'Brien / José\n",
    )
    paths = [each[1]["params"]["fileUrl"].removeprefix("https://files.example.com") for each in found]
    assert paths == ["/Ana.wav", "/O%27Brien%20%2F%20Jos%C3%A9.wav"]


def test_what_is_not_a_number_is_reported_with_its_place(tmp_path: Path) -> None:
    path = file_of(tmp_path, "destination,name,times\n+6587654321,Ana,twice\n")
    ((found,),) = [row.findings for row in read(path, replace(OPTIONS, template=flow(repetition="{{times}}")))]
    assert (found.code, found.path) == (-1009, "$.callflow[1].params.repetition")


@pytest.mark.parametrize(
    ("text", "given", "columns", "sentence"),
    [
        ("{{name}} {{day}} {{hour}}", OPTIONS, {"day": -1009, "hour": -1009},
         "day is needed by the call, but there is no such column. Add it, or name"),
        ("Hello {{name}}.", CampaignOptions(), {"source": None, "voice_profile": None},
         "Give it for all rows .`source`., or add a column"),
    ],
)  # fmt: skip
def test_what_every_row_lacks_is_reported_once_for_the_file(
    tmp_path: Path, text: str, given: CampaignOptions, columns: Mapping[str, int | None], sentence: str
) -> None:
    with pytest.raises(CampaignFileError, match=sentence) as caught:
        read(file_of(tmp_path, PERSON), replace(given, template=flow(text=text)))
    assert {found.column: found.code for found in caught.value.findings if columns[str(found.column)]} == {
        name: code for name, code in columns.items() if code
    }
    assert [found.column for found in caught.value.findings] == [*columns]


def test_a_voice_and_a_second_number_that_are_fixed_in_the_template_stay() -> None:
    agent = {"action": "makeCall", "params": {"source": "+6531234567", "destination": "+6531111111"}}
    ((_, say, second, _),) = actions(flow(agent, voiceProfile="en-US-JennyNeural"), PERSON)
    assert (say["params"]["voiceProfile"], second) == ("en-US-JennyNeural", agent)


@pytest.mark.parametrize(
    "text", ["Hello {{ name", "Hello {{ first name }}", "{% if name %}Hello", "{{ name | shout }}", "Hello {name}"]
)
def test_a_template_that_cannot_be_compiled_names_the_place(text: str) -> None:
    error = refusal(body(text=text))
    assert "flow.json: $.callflow[1].params.text cannot be read as a template: " in str(error)
    assert [found.path for found in error.findings] == ["$.callflow[1].params.text"]
    for word in ("token", "tag", "block", "expected", "got '", "jinja", "statement"):
        assert word not in str(error).lower()


def test_what_is_fixed_in_a_template_is_judged_once_and_all_at_once() -> None:
    template = body(repetition=9)
    template["callflow"].append({"action": "shout", "params": {}})
    error = refusal(template)
    assert [(found.path, found.code) for found in error.findings] == [
        ("$.callflow[1].params.repetition", -1009), ("$.callflow[2]", -1012), ("$.callflow[3].action", -1007),
    ]  # fmt: skip
    assert "is not a call flow that 8x8 accepts: " in str(error)


def test_what_is_not_a_call_flow_is_not_a_template(tmp_path: Path) -> None:
    for content in ["[]", '"text"', "{", "", '{"callflow": []}', '{"flow": []}']:
        with pytest.raises(CampaignFileError, match=r"flow\.json"):
            FlowTemplate.load(file_of(tmp_path, content, "flow.json"))


REFUSED = {
    "no loops, calls or calculations": [
        "{% for i in a %}{% for j in a %}x{% endfor %}{% endfor %}",
        "{{ 'x' * 1500000000 }}", "{{ 9 ** 9 ** 9 ** 9 }}", "{{ a % b }}", "{{ a // 0 }}",
        "{{ lipsum(999999) }}", "{{ name.upper() }}", "{{ self.x() }}", "{{ self }}",
        "{% set a = 'x' %}", "{% include '/etc/passwd' %}", "{% macro a() %}{% endmacro %}", "{{ name[:9] }}",
        "{% filter upper %}x{% endfilter %}", "{% block a %}{% endblock %}", "{{ name[a] }}",
    ],
    "there is no filter ": [
        "{{ 'x'|center(9999999999) }}", "{{ '%99999999999d'|format(1) }}", "{{ 5|round(-999999999) }}",
    ],
    "there is no test ": ["{% if a is divisibleby(0) %}x{% endif %}"],
    "too many names": ["{{ " + "(" * 5000, "{{ " + "not " * 200 + "a }}", "{{a}}{% if a %}b{% endif %}" * 300],
    "not the name of a column": ["{{ " + "9" * 5000 + " }}"],
    "characters, and at most 10000": ["x{{a}}" * 2000, "{{" * 500_000, "x" * 500_000],
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


def test_say_makes_a_call_that_speaks_and_hangs_up() -> None:
    assert [entry["action"] for entry in filled(SAY, {"name": "Ana"})["callflow"]] == ["makeCall", "say", "hangup"]
    assert SAY.variables == {"name"}
    with pytest.raises(CampaignFileError, match=r"^the text to say: "):
        FlowTemplate.speaking("Hello {{ name")


def test_source_and_voice_of_a_row_win_and_are_not_shared_with_other_rows() -> None:
    """What is fixed in the template is shared by all rows, and must not be written to."""
    template = {"callflow": [{"action": "makeCall"}, {"action": "say", "params": {"text": "Hello."}}]}
    found = actions(
        FlowTemplate.parse(template, name="flow.json"),
        "destination,voice_profile,source\n+6587654321,en-GB-SoniaNeural,+65 3123 4568\n+6587654322,,\n"
        "+6587654323,th-TH-PremwadeeNeural,\n",
    )
    assert [(each[0]["params"]["source"], each[1]["params"]["voiceProfile"]) for each in found] == [
        ("+6531234568", "en-GB-SoniaNeural"), ("+6531234567", "en-IE-EmilyNeural"),
        ("+6531234567", "th-TH-PremwadeeNeural"),
    ]  # fmt: skip


# -- the language of a call with a menu; countries and languages as people write them ----------------------------------

VOICES = {"en": "en-GB-RyanNeural", "id": "id-ID-GadisNeural"}


def asking(
    prompt: Text | None = None, *, language: str | None = "en", voice: Text | None = None, last: Text | None = None
) -> Menu:
    menu = Menu(
        "ask",
        prompt=prompt or {"en": "Hello {{name}}, press 1.", "id": "Halo {{name}}, tekan 1."},
        voice_profile=voice or VOICES,
        language=language,
    )
    menu.on("1", goto=End(last or {"en": "Goodbye {{name}}.", "id": "Sampai jumpa {{name}}."}))
    return menu


def options(menu: Menu) -> CampaignOptions:
    return replace(OPTIONS, template=None, voice_profile=None, menu=menu)


def people(folder: Path, *languages: str, column: str = "language") -> Path:
    rows = [f"+658765432{place},Ana,{language}\n" for place, language in enumerate(languages)]
    return file_of(folder, f"destination,name,{column}\n{''.join(rows)}")


ONE_LANGUAGE = asking("Hello.", voice="en-GB-RyanNeural", last="Bye.")


def asked(rows: Sequence[ReadRow]) -> list[tuple[str, str]]:
    params = [json.loads(row.call.body)["callflow"][1]["params"] for row in rows if row.call is not None]
    return [(each["promptMessage"], each["voiceProfile"]) for each in params]


ENGLISH, BAHASA = ("Hello Ana, press 1.", VOICES["en"]), ("Halo Ana, tekan 1.", VOICES["id"])


@pytest.mark.parametrize("column", ["language", "Language", "Sprache"])
@pytest.mark.anyio
async def test_each_row_is_spoken_to_in_its_language(tmp_path: Path, column: str) -> None:
    menu = asking()
    named = replace(options(menu), columns={"language": "sprache"} if column == "Sprache" else {})
    rows = read(people(tmp_path, "id", "", "ID", "en-GB", column=column), named)
    assert told(rows) == []
    assert asked(rows) == [BAHASA, ENGLISH, BAHASA, ENGLISH]
    menus, said = Menus(menu), [BAHASA[1], ENGLISH[1], BAHASA[1], ENGLISH[1]]
    for row, voice in zip(rows, said, strict=True):
        assert row.call is not None
        event = CallAction(dtmf="1", client_action_id=Position(path=("ask",)).write())
        answer = await menus.answer(menus.decide(event, Caller(now=NOW, data=row.call.data or {})))
        spoken = answer.flow.to_body()["callflow"][0]["params"]
        assert (spoken["voiceProfile"], "Sampai" in spoken["text"]) == (voice, voice == VOICES["id"])


def test_a_menu_in_several_languages_asks_for_their_column(tmp_path: Path) -> None:
    def warned(menu: Menu, column: str, **columns: str) -> list[bool]:
        found = read_all(people(tmp_path, "id", column=column), replace(options(menu), columns=columns)).opening
        return ["columns" in each.fields for each in found]

    named = replace(options(asking()), columns={"language": "Sprache"})
    assert warned(asking(), "Sprache") == [True]
    assert warned(asking(), "language") == warned(asking(), "Sprache", language="Sprache") == []
    assert warned(ONE_LANGUAGE, "Sprache") == []
    wrong = read(people(tmp_path, "fr", column="Sprache"), replace(named, columns={"language": "sprache"}))
    assert [(row, column) for row, column, _, _ in told(wrong)] == [(2, "Sprache")]
    both = file_of(tmp_path, "destination,name,language,Sprache\n+6587654321,Ana,en,id\n")
    assert "the column 'Sprache' is one name with the column 'language'" in refused(both, named)


@pytest.mark.parametrize(
    ("menu", "why"),
    [
        (asking(), "there is no text for the language 'fr', only for en, id; add it"),
        (asking({"en": "A {{name}}", "id": "B", "fr": "C"}), "no text for the language 'fr'"),
        (asking({"en": "A", "id": "B", "fr": "C"}, last="Bye."), "ask voice_profile: there is no text"),
        (ONE_LANGUAGE, "no text for the language 'fr', only for en"),
    ],
    ids=["prompt", "a later text", "voice", "one language"],
)
def test_a_language_that_the_menu_lacks_makes_the_row_bad(tmp_path: Path, menu: Menu, why: str) -> None:
    rows = read(people(tmp_path, "fr", "en"), options(menu))
    ((row, column, _, message),) = told(rows)
    assert (row, column, [each.call is None for each in rows]) == (2, "language", [True, False])
    assert message.startswith("cannot be the language of this call: ")
    assert why in message
    for number in (5, 1.5):
        (error,) = read_all([{"destination": "+6587654321", "name": "Ana", "language": number}], options(menu)).errors
        assert error.startswith("language: ")
        assert "there is no text" in error


def test_values_are_needed_by_the_texts_of_the_row_s_language_alone(tmp_path: Path) -> None:
    menu = asking(last={"en": "Bye {{name}}.", "id": "Sampai {{hari}}."})
    path = file_of(tmp_path, "destination,name,language,hari\n+6587654321,Ana,en,\n+6587654322,Ana,id,\n")
    assert [(row, column) for row, column, _, _ in told(read(path, options(menu)))] == [(3, "hari")]


def test_where_no_text_has_a_language_the_column_is_only_a_value(tmp_path: Path) -> None:
    menu = asking("Hello {{name}}, {{language}}.", voice="en-GB-RyanNeural", last="Bye.", language=None)
    assert asked(read(people(tmp_path, "Tamil"), options(menu))) == [("Hello Ana, Tamil.", "en-GB-RyanNeural")]


def test_a_call_from_python_speaks_the_language_of_its_data() -> None:
    flow = asking().call("+6587654321", source="+6531234567", data={"name": "Ana", "language": "id"})
    assert flow.to_body()["callflow"][1]["params"]["promptMessage"] == BAHASA[0]
    with pytest.raises(InvalidInputError, match="no text for the language 'fr'"):
        asking().call("+6587654321", source="+6531234567", data={"name": "Ana", "language": "fr"})


def test_a_menu_that_changes_the_language_goes_before_the_row() -> None:
    first, bahasa = asking(), Menu("bahasa", prompt={"id": "Tekan 1."}, language="id")
    first.on("2", goto=bahasa)
    bahasa.on("1", goto="Selesai.")
    menus = Menus(first)
    plan = menus.decide(
        CallAction(dtmf="1", client_action_id=Position(path=("ask", "bahasa")).write()),
        Caller(now=NOW, data={"name": "Ana", "language": "en"}),
    )
    assert plan.caller.language == "id"


# -- countries and languages by their English names --------------------------------------------------------------------


def test_a_country_is_read_by_its_code_by_three_letters_or_by_its_english_name() -> None:
    for written, code in (
        ("Türkiye", "TR"), (" austria ", "AT"), ("DEU", "DE"), ("usa", "US"), ("UK", "GB"), ("United  States", "US"),
        ("Hong Kong", "HK"), ("Viet Nam", "VN"), ("international", "international"),
    ):  # fmt: skip
        assert read_country(written) == code
    for written in ("Kongo", "Deutschland", "Korea", "+49", "276", "Mars", "XX", "Europe", "EU", "k.A."):
        with pytest.raises(InvalidInputError, match="give two letters"):
            read_country(written)
