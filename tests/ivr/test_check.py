from __future__ import annotations

from typing import Any

import pytest

from voiceflow_worker import CallFlow, Menu
from voiceflow_worker.ivr import BACK, END, Caller, End, Retry
from voiceflow_worker.ivr.check import check_menus, reachable
from voiceflow_worker.model.jobs.call_json import CallResult

OURS, DESK = "+6531234567", "+6587654322"


def menu(name: str = "main", prompt: Any = "Press 1.", **more: Any) -> Menu:
    return Menu(name, prompt=prompt, **{"voice_profile": "en-US-BenjaminRUS", "fallback": END, **more})


def ending(name: str = "main", **more: Any) -> Menu:
    made = menu(name, **{"fallback": End("Goodbye."), **more})
    made.on("1", goto=END)
    return made


def notes(*roots: Menu, **more: Any) -> list[str]:
    return [f"{found.severity.value} {found}" for found in check_menus(roots, **more)]


def test_menus_with_nothing_wrong_have_no_findings() -> None:
    main, inner = ending(), Menu("inner", prompt="Hello {{name}}.")
    main.on("2", goto=inner)
    inner.on("9", goto=BACK)
    inner.on("1", goto=CallFlow.bridge(source=OURS, destination=DESK))

    @inner.capture(min_digits=2, max_digits=4)
    def several(_: Caller) -> End | Retry:
        return END

    assert notes(main) == []


def test_two_menus_of_one_name() -> None:
    main = ending()
    main.on("2", goto=ending("main"))
    why = "callers could get the wrong one; give each a name of its own"
    assert f"error main: 2 menus have this name: {why}" in notes(main)


def test_a_key_that_is_declared_twice_and_one_that_no_phone_has() -> None:
    main = ending()
    main.on("1", goto=END)
    main.on("x", goto=END)
    assert notes(main) == [
        "error main 1: is declared 2 times: only the first declaration would be used",
        "error main x: is not a key of a phone: use 0-9, * and #",
    ]


def test_a_menu_without_keys_leads_nowhere() -> None:
    found = notes(menu(fallback=End("Bye.")))
    assert "error main: no key leads to a next step: add choices with on() or capture()" in found


def test_a_menu_has_its_own_voice_or_that_of_the_first_menu() -> None:
    silent, main, other = Menu("silent", prompt="Hm."), ending("main"), ending("other", voice_profile=None)
    silent.on("1", goto=END)
    main.on("2", goto=silent)
    assert not any("silent" in each for each in notes(main))
    other.on("2", goto=silent)
    assert [each.split(":")[0] for each in notes(other)] == ["error other prompt", "error silent prompt"]


def test_flows_and_texts_that_cannot_be_sent() -> None:
    main = ending()
    main.on("2", goto=CallFlow.bridge(source="nobody", destination=DESK))
    main.on("3", goto="x" * 3001)
    main.on("4", goto=CallFlow.call(DESK, source=OURS))
    main.on("5", goto=CallFlow.reply().hangup().say("late", voice_profile="v"))
    errors = [each for each in notes(main) if each.startswith("error")]
    assert sorted({each.split(":")[0] for each in errors}) == [f"error main {key}" for key in "2345"]


def test_prompts_that_no_voice_speaks_or_that_are_empty() -> None:
    assert any("error main prompt: is empty" in each for each in notes(ending(prompt="")))
    assert any("error main prompt" in each for each in notes(ending(prompt="x" * 3001)))


def test_a_value_that_the_data_does_not_have() -> None:
    main = ending(prompt="Hello {{name}}.")
    assert notes(main) == []
    assert any("{{name}} has no value" in each for each in notes(main, data={"day": "Monday"}))


def test_texts_by_language_where_no_language_is_set() -> None:
    assert any("or set the menu's language" in each for each in notes(ending(prompt={"en": "Hello."})))
    assert any(
        "no text for the language 'zh'" in each for each in notes(ending(prompt={"en": "Hello."}, language="zh"))
    )
    assert notes(ending(prompt={"en": "Hello."}, language="en-GB")) == []


@pytest.mark.parametrize("wrong", ["Hallo {{name", "{{name|titel}}", "x" * 3001])
@pytest.mark.parametrize("place", ["prompt", "retry_text", "1"])
def test_what_is_wrong_in_another_language_is_an_error_too(wrong: str, place: str) -> None:
    texts = {"en": "Hello.", "de": wrong}
    more: dict[str, Any] = {place: texts} if place != "1" else {}
    main = ending(language="en", **more)
    main.on("2", goto=End(texts if place == "1" else {"en": "Bye.", "de": "Ade.", "fr": "Salut."}))
    (found,) = notes(main)
    assert found.startswith(f"error main {place.replace('1', '2')}")
    assert " in de: " in found or wrong in found


def test_an_answer_with_the_name_of_a_result() -> None:
    for result in CallResult:
        for name in (result.value, result.value.upper(), result.value.replace("_", " "), result.value.title()):
            menu = ending()
            menu.on("8", result=name, goto=END)
            assert any(f"answer {name!r}: reports use this word" in each for each in notes(menu)), name
    free = ending()
    for key, name in zip("2345", ("confirmed", "yes", "called off", "call me back"), strict=True):
        free.on(key, result=name, goto=END)
    assert notes(free) == []


def test_a_menu_without_fallback() -> None:
    assert notes(ending(fallback=None)) == [
        "warning main: has no fallback: after silence, or when a handler fails, the call is hung up without a word"
    ]


def test_handlers_that_need_no_key_declare_their_menus_with_the_menu() -> None:
    def door(_: Caller) -> Menu:
        return inner

    inner = ending("inner")
    front = Menu("front", opening=door, voice_profile="v", fallback=END, leads_to=[inner])
    assert notes(front) == []
    assert [each.name for each in reachable([front])] == ["front", "inner"]
