"""The language of a call with a menu: that of its row, in all texts of the menu, and in its voice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.campaigns.reading import NOW, OPTIONS, file_of, read, told
from voiceflow_worker import InvalidInputError, Menu
from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.campaigns.campaign_rows import open_campaign
from voiceflow_worker.errors import CampaignFileError
from voiceflow_worker.finding import Remedy
from voiceflow_worker.ivr.caller import Caller, Position, Text
from voiceflow_worker.ivr.menu import End
from voiceflow_worker.ivr.menus import Menus
from voiceflow_worker.model.reports.events import CallAction

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


def asked(rows: Sequence[ReadRow]) -> list[tuple[str, str]]:
    params = [json.loads(row.call.body)["callflow"][1]["params"] for row in rows if row.call is not None]
    return [(each["promptMessage"], each["voiceProfile"]) for each in params]


ENGLISH, BAHASA = ("Hello Ana, press 1.", VOICES["en"]), ("Halo Ana, tekan 1.", VOICES["id"])


@pytest.mark.parametrize("column", ["language", "Language", "Sprache"])
@pytest.mark.anyio
async def test_each_row_is_spoken_to_in_its_language(tmp_path: Path, column: str) -> None:
    menu = asking()
    named = replace(options(menu), columns={"language": "sprache"} if column == "Sprache" else {})
    rows = read(people(tmp_path, "Indonesian", "", "ID", "en-GB", column=column), named)
    assert told(rows) == []
    assert asked(rows) == [BAHASA, ENGLISH, BAHASA, ENGLISH]
    menus, said = Menus(menu), [BAHASA[1], ENGLISH[1], BAHASA[1], ENGLISH[1]]
    for row, voice in zip(rows, said, strict=True):
        assert row.call is not None
        event = CallAction(dtmf="1", client_action_id=Position(path=("ask",)).write())
        answer = await menus.answer(menus.plan(event, Caller(now=NOW, data=row.call.data or {})))
        spoken = answer.flow.to_body()["callflow"][0]["params"]
        assert (spoken["voiceProfile"], "Sampai" in spoken["text"]) == (voice, voice == VOICES["id"])


def test_a_menu_in_several_languages_asks_for_their_column(tmp_path: Path) -> None:
    def warned(menu: Menu, column: str, **columns: str) -> list[bool]:
        named = replace(options(menu), columns=columns)
        opened = open_campaign(people(tmp_path, "id", column=column), named, now=NOW)
        return [Remedy.NAME_LANGUAGES in found.message for found in opened.findings]

    one_language = asking("Hello.", voice="en-GB-RyanNeural", last="Bye.")
    assert warned(asking(), "Sprache") == [True]
    assert warned(asking(), "language") == warned(asking(), "Sprache", language="Sprache") == []
    assert warned(one_language, "Sprache") == []
    wrong = read(people(tmp_path, "fr", column="Sprache"), replace(options(asking()), columns={"language": "sprache"}))
    assert [(row, column) for row, column, _, _ in told(wrong)] == [(2, "Sprache")]
    both = file_of(tmp_path, "destination,name,language,Sprache\n+6587654321,Ana,en,id\n")
    with pytest.raises(CampaignFileError, match="a column language beside 'Sprache'; rename one"):
        read(both, replace(options(asking()), columns={"language": "Sprache"}))


def test_a_text_without_questions_has_one_voice_whatever_column_is_chosen_for_the_language(tmp_path: Path) -> None:
    def warned(column: str, chosen: str | None) -> list[str | None]:
        options = replace(OPTIONS, columns={} if chosen is None else {"language": chosen})
        opened = open_campaign(people(tmp_path, "fr", column=column), options, now=NOW)
        return [found.column for found in opened.findings if "in one voice" in found.message]

    assert warned("Sprache", "sprache") == ["sprache"]
    assert warned("language", "language") == ["language"]
    assert warned("Sprache", None) == []
    assert warned("Sprache,voice_profile", "Sprache") == [], "each row has its voice"


@pytest.mark.parametrize(
    ("menu", "why"),
    [
        (asking(), "there is no text for the language 'fr', only for en, id; add it"),
        (asking({"en": "A {{name}}", "id": "B", "fr": "C"}), "no text for the language 'fr'"),
        (asking({"en": "A", "id": "B", "fr": "C"}, last="Bye."), "ask voice_profile: there is no text"),
        (asking("Hello.", voice="en-GB-RyanNeural", last="Bye."), "no text for the language 'fr', only for en"),
    ],
    ids=["prompt", "a later text", "voice", "one language"],
)
def test_a_language_that_the_menu_lacks_makes_the_row_bad(tmp_path: Path, menu: Menu, why: str) -> None:
    rows = read(people(tmp_path, "fr", "en"), options(menu))
    ((row, column, _, message),) = told(rows)
    assert (row, column, [each.call is None for each in rows]) == (2, "language", [True, False])
    assert message.startswith("cannot be the language of this call: ")
    assert why in message


@pytest.mark.parametrize("language", [5, 1.5])
def test_a_number_is_no_language_that_the_menu_has(language: float) -> None:
    row = {"destination": "+6587654321", "name": "Ana", "language": language}
    rows = open_campaign([row], replace(options(asking()), batch_id="b"), now=NOW)
    ((_, column, _, message),) = told(rows)
    assert column == "language"
    assert "there is no text for the language" in message


def test_values_are_needed_by_the_texts_of_the_row_s_language_alone(tmp_path: Path) -> None:
    menu = asking(last={"en": "Bye {{name}}.", "id": "Sampai {{hari}}."})
    rows = read(
        file_of(tmp_path, "destination,name,language,hari\n+6587654321,Ana,en,\n+6587654322,Ana,id,\n"), options(menu)
    )
    assert [(row, column) for row, column, _, _ in told(rows)] == [(3, "hari")]


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
    plan = menus.plan(
        CallAction(dtmf="1", client_action_id=Position(path=("ask", "bahasa")).write()),
        Caller(now=NOW, data={"name": "Ana", "language": "en"}),
    )
    assert plan.caller.language == "id"
