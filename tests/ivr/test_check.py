from __future__ import annotations

from typing import Any

import pytest

from tests.support.plain_jobs import NOW, a_job
from voiceflow_worker import (
    CallFlow,
    InvalidInputError,
    Job,
    JobState,
    Menu,
)
from voiceflow_worker.ivr import BACK, END, Again, Caller, End, approval_call, approval_data, choice_of
from voiceflow_worker.ivr.approval import approval
from voiceflow_worker.ivr.check import check_menus, reachable
from voiceflow_worker.ivr.menus import MenuAnswer, Menus
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.call_json import CallResult
from voiceflow_worker.model.reports.events import ActionStatus, CallAction, Direction
from voiceflow_worker.model.text.names_of_the_world import at_odds

pytestmark = pytest.mark.anyio

OURS, DESK = "+6531234567", "+6587654322"


def menu(name: str = "main", prompt: Any = "Press 1.", **more: Any) -> Menu:
    return Menu(name, prompt=prompt, **{"voice_profile": "en-US-BenjaminRUS", "fallback": END, **more})


def ending(name: str = "main", **more: Any) -> Menu:
    made = menu(name, **{"fallback": End("Goodbye."), **more})
    made.on("1", goto=END)
    return made


def told(*roots: Menu, **more: Any) -> list[str]:
    return [f"{found.severity.value} {found}" for found in check_menus(roots, **more)]


def test_menus_with_nothing_wrong_have_no_findings() -> None:
    main, inner = ending(), Menu("inner", prompt="Hello {{name}}.")
    main.on("2", goto=inner)
    inner.on("9", goto=BACK)
    inner.on("1", goto=CallFlow.bridge(source=OURS, destination=DESK))

    @inner.capture(min_digits=2, max_digits=4)
    def several(_: Caller) -> End | Again:
        return END

    assert told(main) == []
    assert told(approval, data={"question": "Deploy?", "voice_profile": "en"}) == []


def test_two_menus_of_one_name() -> None:
    main = ending()
    main.on("2", goto=ending("main"))
    why = "callers could get the wrong one; give each a name of its own"
    assert f"error main: 2 menus have this name: {why}" in told(main)


def test_a_key_that_is_declared_twice_and_one_that_no_phone_has() -> None:
    main = ending()
    main.on("1", goto=END)
    main.on("x", goto=END)
    assert told(main) == [
        "error main 1: is declared 2 times: only the first declaration would be used",
        "error main x: is not a key of a phone: use 0-9, * and #",
    ]


def test_captures_that_take_the_same_digits() -> None:
    main = ending()
    main.capture(max_digits=4)(lambda _: END)
    main.capture(min_digits=4, max_digits=6)(lambda _: END)
    assert any("two captures take the same number of digits" in each for each in told(main))


def test_a_menu_without_keys_leads_nowhere() -> None:
    found = told(menu(fallback=End("Bye.")))
    assert "error main: no key leads to a next step: add choices with on() or capture()" in found


def test_no_voice_on_some_way_to_a_menu() -> None:
    silent, main, other = Menu("silent", prompt="Hm."), ending("main"), ending("other", voice_profile=None)
    silent.on("1", goto=END)
    main.on("2", goto=silent)
    assert not any("silent" in each for each in told(main))
    other.on("2", goto=silent)
    assert [each.split(":")[0] for each in told(other)] == ["error other prompt", "error silent prompt"]


def test_flows_and_texts_that_cannot_be_sent() -> None:
    main = ending()
    main.on("2", goto=CallFlow.bridge(source="nobody", destination=DESK))
    main.on("3", goto="x" * 3001)
    main.on("4", goto=CallFlow.call(DESK, source=OURS))
    main.on("5", goto=CallFlow.reply().hangup().say("late", voice_profile="v"))
    errors = [each for each in told(main) if each.startswith("error")]
    assert [each.split(":")[0].split(" $")[0] for each in errors] == [f"error main {key}" for key in "2345"]


def test_prompts_that_no_voice_speaks_or_that_are_empty() -> None:
    assert any("error main prompt: is empty" in each for each in told(ending(prompt="")))
    assert any("error main prompt" in each for each in told(ending(prompt="x" * 3001)))


def test_a_value_that_the_data_does_not_have() -> None:
    main = ending(prompt="Hello {{name}}.")
    assert told(main) == []
    assert any("{{name}} has no value" in each for each in told(main, data={"day": "Monday"}))


def test_texts_by_language_where_no_language_is_set() -> None:
    assert any("or set the menu's language" in each for each in told(ending(prompt={"en": "Hello."})))
    assert any("no text for the language 'zh'" in each for each in told(ending(prompt={"en": "Hello."}, language="zh")))
    assert told(ending(prompt={"en": "Hello."}, language="en-GB")) == []


@pytest.mark.parametrize("wrong", ["Hallo {{name", "{{name|titel}}", "x" * 3001])
@pytest.mark.parametrize("place", ["prompt", "retry_text", "1"])
def test_what_is_wrong_in_another_language_is_an_error_too(wrong: str, place: str) -> None:
    texts = {"en": "Hello.", "de": wrong}
    more: dict[str, Any] = {place: texts} if place != "1" else {}
    main = ending(language="en", **more)
    main.on("2", goto=End(texts if place == "1" else {"en": "Bye.", "de": "Ade.", "fr": "Salut."}))
    (found,) = told(main)
    assert found.startswith(f"error main {place.replace('1', '2')}")
    assert " in de: " in found or wrong in found


def test_an_answer_with_the_name_of_a_result() -> None:
    for result in CallResult:
        for name in (result.value, result.value.upper(), result.value.replace("_", " "), result.value.title()):
            menu = ending()
            menu.on("8", result=name, goto=END)
            assert any(f"answer {name!r}: reports use this word" in each for each in told(menu)), name
    free = ending()
    for key, name in zip("2345", ("confirmed", "yes", "called off", "call me back"), strict=True):
        free.on(key, result=name, goto=END)
    assert told(free) == []


def test_a_voice_of_another_language() -> None:
    cases: dict[str, list[str | None]] = {
        "en-US-JennyNeural": ["en", "en-GB", "English", None], "fil-PH-BlessicaNeural": ["tl", "fil"],
        "zh-HK-HiuMaanNeural": ["yue", "zh-Hant", "Cantonese"], "nb-NO-PernilleNeural": ["no", "nb"],
        "en-US-JennyMultilingualNeural": ["ta"], "Joanna": ["ta"],
    }  # fmt: skip
    for voice, languages in cases.items():
        assert [each for each in languages if at_odds(voice, each)] == [], voice
    for voice, language in (("en-US-JennyNeural", "ta"), ("de-DE-KatjaNeural", "Polish"), ("ms-MY-YasminNeural", "id")):
        assert f"the voice {voice} speaks" in str(at_odds(voice, language))


def test_a_menu_without_fallback() -> None:
    assert told(ending(fallback=None)) == [
        "warning main: has no fallback: after silence, or when a handler fails, the call is hung up without a word"
    ]


def test_a_handler_that_does_not_declare_its_steps() -> None:
    main, other = ending(), ending("other")
    main.on("2")(lambda _: END)
    main.on("4", leads_to=[END])(lambda _: END)

    @main.on("3")
    def somewhere(_: Caller):  # type: ignore[no-untyped-def] # noqa: ANN202 - what is tested
        return None

    @main.on("5")
    def elsewhere(_: Caller) -> Menu | End:
        return other

    @main.on("6", leads_to=[other])
    def there(_: Caller) -> Menu:
        return other

    first, second, third = told(main)
    assert first.startswith("warning main 2: the handler does not say which menus it leads to")
    assert second.startswith("warning main 3: the handler somewhere does not say")
    assert third.startswith("warning main 5: the handler elsewhere does not say")


def test_handlers_that_need_no_key_declare_their_menus_with_the_menu() -> None:
    def door(_: Caller) -> Menu:
        return inner

    inner = ending("inner")
    assert "warning front at first: the handler door does not say" in told(menu("front", opening=door))[1]
    front = Menu("front", opening=door, voice_profile="v", fallback=END, leads_to=[inner])
    assert told(front) == []
    assert [each.name for each in reachable([front])] == ["front", "inner"]


def test_menus_of_the_module_that_nothing_leads_to() -> None:
    main, lost = ending(), ending("lost")
    assert told(main, beside={"main": main, "lost_menu": lost}) == [
        "warning lost_menu: this menu cannot be reached from main"
    ]


def test_a_prompt_that_is_a_function_and_fails_is_reported_as_a_warning() -> None:
    assert any(
        each.startswith("warning main prompt: could not be tried: KeyError") and "give sample data" in each
        for each in told(ending(prompt=lambda caller: str(caller.data["name"])))
    )
    assert told(ending(prompt=lambda caller: str(caller.data["name"])), data={"name": "Ana"}) == []


@pytest.mark.parametrize("count", [10])
def test_many_menus_that_all_lead_to_all_are_walked_quickly(count: int) -> None:
    menus = [ending(f"m{place}") for place in range(count)]
    for one in menus:
        for place, other in enumerate(menus):
            one.on(f"2{place}", goto=other)
    assert told(menus[0]) == []


# -- approvals ---------------------------------------------------------------------------------------------------------

THEIRS, VOICE = "+6587654321", "en-US-BenjaminRUS"


def job(flow: CallFlow, data: dict[str, object] | None = None) -> Job:
    return a_job(JobState.SUBMITTED, body=flow.to_json().decode(), menu="approval", data=data)


async def pressed(job: Job, *keys: str) -> MenuAnswer:
    menus, token, answer = Menus(beside=[approval]), None, None
    for key in keys:
        event = CallAction(
            dtmf=key or None,
            client_action_id=token,
            call_status=ActionStatus.ACTION_COMPLETED,
            direction=Direction.OUTBOUND,
        )
        answer = await menus.answer(menus.plan(event, Caller(now=NOW, job=job, data=job.data or {})))
        token = answer.flow.client_action_id
    assert answer is not None
    assert answer.trouble is None
    return answer


def said(answer: MenuAnswer) -> str:
    params: Any = answer.flow.actions[0].get("params") or {}
    return str(params.get("text", params.get("promptMessage", "")))


CALL = approval_call(THEIRS, source=OURS, question="Deploy version 2?", voice_profile=VOICE)


def test_the_call_asks_the_question_and_tells_the_keys() -> None:
    assert CALL.validated().actions[1]["params"] == {
        "promptMessage": "Deploy version 2? Press 1 to approve, 2 to reject.", "voiceProfile": VOICE,
        "minDigits": 1, "maxDigits": 1, "completeOnHash": False, "overallTimeout": 10000, "noOfTries": 1,
    }  # fmt: skip


@pytest.mark.parametrize(("key", "choice"), [("1", "approved"), ("2", "rejected")])
@pytest.mark.parametrize("data", [None, approval_data("Deploy version 2?", voice_profile=VOICE)], ids=["bare", "data"])
async def test_a_key_is_confirmed_and_the_call_ends(key: str, choice: str, data: dict[str, object] | None) -> None:
    answer = await pressed(job(CALL, data), key)
    assert said(answer) == f"Thank you. Your answer: {choice}."
    assert answer.flow.actions[-1] == {"action": "hangup"}
    assert answer.press is not None
    assert choice_of(answer.press.digits, data) == choice


async def answer_to(key: str, **choices: Any) -> str | None:
    press = (await pressed(job(CALL, approval_data("Go?", voice_profile=VOICE, **choices)), key)).press
    return None if press is None else press.answer


async def test_an_answer_is_yes_or_no_whatever_the_choices_are_called() -> None:
    assert [await answer_to(key) for key in "123"] == ["yes", "no", None]
    mine = {"choices": {"5": "ja", "6": "nein", "7": "später"}}
    assert [await answer_to(key, **mine) for key in "5671"] == ["yes", "no", "no", None]
    assert [await answer_to(key, **mine, approve=["6", "7"]) for key in "567"] == ["no", "yes", "yes"]
    with pytest.raises(InvalidInputError, match="approve has"):
        approval_data("Go?", voice_profile=VOICE, approve=["9"])


@pytest.mark.parametrize("data", [None, approval_data("Deploy version 2?", voice_profile=VOICE)], ids=["bare", "data"])
async def test_a_wrong_key_is_asked_again_in_the_same_words(data: dict[str, object] | None) -> None:
    assert said(await pressed(job(CALL, data), "5")) == "Deploy version 2? Press 1 to approve, 2 to reject."
    assert said(await pressed(job(CALL, data), "5", "", "1")) == "Thank you. Your answer: approved."


async def test_choices_and_texts_may_be_ones_own() -> None:
    texts: dict[str, Any] = {
        "question": "¿Comer?", "voice_profile": "es-ES-X", "choices": {"1": "sí", "3": "no"}, "how": "Heartbeat 1 o 3.",
        "confirmation": "Gracias: {choice}.", "goodbye": "Adiós.",
    }  # fmt: skip
    call, data = approval_call(THEIRS, source=OURS, **texts), approval_data(**texts)
    mine = job(call, data)
    assert said(await pressed(mine, "2")) == "¿Comer? Heartbeat 1 o 3."
    assert said(await pressed(mine, "3")) == "Gracias: no."
    assert said(await pressed(mine, "", "", "")) == "Adiós."
    assert choice_of("2,3", data) == "no"
    assert choice_of("2", data) is None
    assert choice_of(None) is None


async def test_a_call_that_only_said_something_is_asked() -> None:
    flow = CallFlow.call(THEIRS, source=OURS).say("There is a question for you.", voice_profile=VOICE)
    mine = job(flow, approval_data("Deploy?", voice_profile=VOICE, choices={"1": "yes", "2": "no"}))
    assert said(await pressed(mine, "")) == "Deploy? Press 1 for yes, 2 for no."


async def test_a_job_with_nothing_to_ask_is_hung_up_with_a_reason() -> None:
    mine = replace(
        job(CALL),
        body='{"callflow":[{"action":"makeCall","params":{"source":"+6531234567","destination":"+6587654321"}}]}',
    )
    menus = Menus(beside=[approval])
    answer = await menus.answer(menus.plan(CallAction(direction=Direction.OUTBOUND), Caller(now=NOW, job=mine)))
    assert "'voice_profile'" in (answer.trouble or "")
    assert answer.flow.actions == ({"action": "hangup"},)


@pytest.mark.parametrize("choices", [{}, {"12": "x"}, {"#": "x"}, {"*": "x"}, {"1": " "}])
def test_choices_that_no_phone_can_make_are_refused(choices: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError, match="choice"):
        approval_data("Deploy?", voice_profile=VOICE, choices=choices)


@pytest.mark.parametrize("choices", ["no json", "[]", "{}", '"x"'])
def test_choices_in_data_that_cannot_be_read_are_reported(choices: str) -> None:
    with pytest.raises(InvalidInputError, match="choices of an approval"):
        choice_of("1", {"choices": choices})
