from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from voiceflow_worker import CallFlow, InvalidInputError, Menu
from voiceflow_worker.ivr import BACK, END, Caller, End, Retry, SimulatedCall, do_not_call_again
from voiceflow_worker.ivr.menus import MenuResult
from voiceflow_worker.ivr.simulated_call import Prompt

pytestmark = pytest.mark.anyio

VOICE = "en-US-BenjaminRUS"
OURS, DESK = "+6531234567", "+6587654322"


def menu(name: str = "main", prompt: str = "Press 1 or 2.", **more: Any) -> Menu:
    return Menu(name, prompt=prompt, **{"voice_profile": VOICE, **more})


def question(call: CallFlow) -> dict[str, Any]:
    (entry,) = [entry for entry in call.to_body()["callflow"] if entry["action"] == "sayAndCapture"]
    params: dict[str, Any] = entry["params"]
    return params


async def heard_after(first: Menu, *keys: str, **more: Any) -> Prompt:
    """What the caller hears after these keys."""
    call = SimulatedCall(first, **more)
    heard = await call.begin()
    for each in keys:
        heard = await call.press(each)
    return heard


class TestKeys:
    async def test_a_key_leads_to_what_was_declared_for_it(self) -> None:
        main, hours = menu(), Menu("hours", prompt="We open at nine. For the main menu press 9.")
        main.on("1", goto=hours)
        main.on("2", goto=CallFlow.bridge(source=OURS, destination=DESK))
        main.on("3", goto="We are in Main Street.")
        main.on("4", goto=End("Goodbye."))
        hours.on("9", goto=main)

        call = SimulatedCall(main)
        assert (await call.begin()).text == "Press 1 or 2."
        assert (await call.press("1")).menu == "hours"
        assert (await call.press("9")).menu == "main"
        said = await call.press("3")
        assert (said.text, said.menu) == ("We are in Main Street. Press 1 or 2.", "main")
        assert (await call.press("2")).connected_to == DESK
        await call.begin()
        ended = await call.press("4")
        assert (ended.text, ended.has_ended) == ("Goodbye.", True)
        assert ended.reply.flow.actions[-1] == {"action": "hangup"}

    async def test_a_handler_gets_the_caller_and_says_what_follows(self) -> None:
        main, said = menu(), list[Caller]()

        @main.on("1", "2")
        async def either(caller: Caller) -> End:
            said.append(caller)
            return End(f"Bye, {caller.data['name']}.")

        call = SimulatedCall(main, data={"name": "Ana"}, at=datetime(2026, 7, 1, 4, tzinfo=UTC))
        await call.begin()
        assert (await call.press("2")).text == "Bye, Ana."
        (caller,) = said
        assert (caller.digits, caller.menu, caller.number, caller.our_number) == ("2", "main", "+6587654321", OURS)

    @pytest.mark.parametrize("step", [END, "Hello.", BACK, Retry("No."), menu("other")], ids=repr)
    async def test_a_handler_may_be_sync_async_or_a_lambda(self, step: Any) -> None:
        async def later(_: Caller) -> Any:
            return step

        class Handler:
            async def __call__(self, _: Caller) -> Any:
                return step

        def with_more(_caller: Caller, *, more: int) -> Any:
            return step if more else None

        bodies = []
        for handler in (lambda _: step, later, Handler(), partial(with_more, more=1)):
            main = menu()
            main.on("1", leads_to=[step])(handler)
            call = SimulatedCall(main)
            await call.begin()
            heard = await call.press("1")
            assert heard.trouble is None
            bodies.append(heard.reply.body)
        assert len(set(bodies)) == 1

    @pytest.mark.parametrize(("key", "digits", "on_hash"), [("42", 2, True), ("*", 1, False), ("#", 1, False)])
    async def test_keys_of_several_digits_the_star_and_the_hash_are_keys_where_declared(
        self, key: str, digits: int, on_hash: bool
    ) -> None:
        main = menu()
        main.on(key, goto=End("Yes."))
        asked = question((await heard_after(main)).reply.flow)
        assert (asked["maxDigits"], asked["completeOnHash"]) == (digits, on_hash)
        assert (await heard_after(main, key)).text == "Yes."

    async def test_back_leads_to_where_the_caller_came_from(self) -> None:
        one, two, three = menu("one"), menu("two"), menu("three")
        one.on("1", goto=two)
        two.on("1", goto=three)
        for each in (one, two, three):
            each.on("9", goto=BACK)
        assert (await heard_after(one, "1", "1")).menu == "three"
        assert (await heard_after(one, "1", "1", "9")).menu == "two"
        assert (await heard_after(one, "1", "1", "9", "9", "9")).menu == "one"

    async def test_a_text_and_a_question_that_are_too_long_together_are_both_heard(self) -> None:
        main = menu(prompt="Press 1. " * 300)
        main.on("1", goto=main.with_text("This is new. " * 60))
        call = SimulatedCall(main)
        await call.begin()
        heard = await call.press("1")
        assert (heard.menu, heard.trouble) == ("main", None)
        assert (heard.texts[0], heard.texts[-1]) == (("This is new. " * 60).strip(), ("Press 1. " * 300).strip())
        assert (await call.press("1")).menu == "main"


class TestTries:
    async def test_a_wrong_key_and_silence_are_asked_again_until_the_fallback(self) -> None:
        main = menu(retry_text="Sorry.", retries=2, fallback=End("Goodbye."))
        main.on("1", goto=END)
        call = SimulatedCall(main)
        await call.begin()
        assert (await call.press("7")).text == "Sorry. Press 1 or 2."
        assert (await call.press("")).text == "Sorry. Press 1 or 2."
        last = await call.press("8")
        assert (last.text, last.reply.result) == ("Goodbye.", MenuResult.GAVE_UP)

    async def test_a_fallback_may_be_a_menu_a_flow_or_a_handler(self) -> None:
        last = Menu("last", prompt="To speak to us press 1.", fallback=END)
        last.on("1", goto=END)
        to_desk = CallFlow.bridge(source=OURS, destination=DESK)
        for fallback, menu_name, number in (
            ("Goodbye.", None, None),
            (last, "last", None),
            (to_desk, None, DESK),
            (lambda _: to_desk, None, DESK),
        ):
            main = menu(retries=0, fallback=fallback)
            main.on("1", goto=END)
            heard = await heard_after(main, "")
            assert (heard.menu, heard.connected_to) == (menu_name, number)

    async def test_a_call_that_asks_without_end_is_ended(self) -> None:
        main = menu()
        main.on("1", goto=main)
        call = SimulatedCall(main)
        await call.begin()
        questions = 1
        while not (await call.press("1")).has_ended:
            questions += 1
        assert questions == 100


class TestCaptures:
    async def test_what_is_typed_reaches_the_handler_without_its_hash(self) -> None:
        main, typed = menu("people", "How many?"), list[str]()

        @main.capture(max_digits=2)
        async def people(caller: Caller) -> End | Retry:
            typed.append(caller.digits)
            return End("Booked.") if 1 <= int(caller.digits) <= 12 else Retry("One to twelve.")

        call = SimulatedCall(main)
        asked = question((await call.begin()).reply.flow)
        assert (asked["minDigits"], asked["maxDigits"], asked["completeOnHash"]) == (1, 2, True)
        again = await call.press("44#")
        assert (again.text, again.menu) == ("One to twelve. How many?", "people")
        assert (await call.press("4#")).text == "Booked."
        assert typed == ["44", "4"]

    async def test_what_will_not_do_counts_as_a_try(self) -> None:
        main = menu("people", "How many?", retries=1, fallback=End("Goodbye."))
        main.capture(max_digits=2)(lambda _: Retry("No."))
        assert (await heard_after(main, "5")).text == "No. How many?"
        assert (await heard_after(main, "5", "5")).text == "Goodbye."

    @pytest.mark.parametrize("keys", ["*", "1*", "#", "1#2", "\u0661\u0661", "1"])
    async def test_a_handler_gets_nothing_but_digits_and_enough_of_them(self, keys: str) -> None:
        main = menu("people", "How many?")
        main.capture(min_digits=2, max_digits=4)(lambda caller: End(str(int(caller.digits))))
        assert (await heard_after(main, keys)).reply.result is MenuResult.ASKED_AGAIN

    async def test_keys_come_before_a_capture(self) -> None:
        main = menu()
        main.capture(max_digits=3)(lambda caller: End(f"Typed {caller.digits}."))
        main.on("0", goto=End("The desk."))
        assert (await heard_after(main, "0")).text == "The desk."
        assert (await heard_after(main, "00")).text == "Typed 00."

    async def test_what_is_typed_at_a_secret_menu_is_stored_as_stars(self) -> None:
        pin, seen = menu("pin", "Your PIN.", secret=True), list[str]()
        after = Menu("after", prompt="After.")
        after.on("1", goto=END)

        @pin.capture(min_digits=4, max_digits=4)
        def check(caller: Caller) -> Menu:
            seen.append(caller.digits)
            return after

        call = SimulatedCall(pin)
        await call.begin()
        await call.press("1234")
        assert seen == ["1234"]
        assert [(press.menu, press.digits) for press in call.presses] == [("pin", "***")]

    async def test_handlers_know_what_was_pressed_before(self) -> None:
        day, people = menu("day", "Which day?"), Menu("people", prompt="How many?")
        day.on("1", "2", goto=people)
        people.capture(max_digits=1)(
            lambda caller: End(f"{caller.pressed('day')} {caller.digits} {caller.pressed('x')}")
        )
        assert (await heard_after(day, "2", "7")).text == "2 7 None"


class TestSettings:
    async def test_a_menu_has_its_own_settings_or_those_of_the_first_menu(self) -> None:
        main = Menu(
            "main", prompt={"en": "English or 1 for Chinese.", "zh": "…"}, voice_profile=VOICE, language="en",
            overall_timeout=timedelta(seconds=7),
        )  # fmt: skip
        chinese = Menu(
            "zh", prompt={"en": "Hours: 1.", "zh": "营业时间请按1。"}, voice_profile="zh-CN-X", language="zh-CN"
        )
        hours = Menu("hours", prompt={"en": "At nine.", "zh": "九点。"})
        main.on("1", goto=chinese)
        chinese.on("1", goto=hours)
        hours.on("9", goto=BACK)
        call = SimulatedCall(main)
        await call.begin()
        asked = question((await call.press("1")).reply.flow)
        assert (asked["promptMessage"], asked["voiceProfile"], asked["overallTimeout"]) == (
            "营业时间请按1。", "zh-CN-X", 7000,
        )  # fmt: skip
        asked = question((await call.press("1")).reply.flow)
        assert (asked["promptMessage"], asked["voiceProfile"]) == ("At nine.", VOICE)
        assert question((await call.press("9")).reply.flow)["voiceProfile"] == "zh-CN-X"


class TestTexts:
    async def test_declared_texts_are_templates_of_the_data(self) -> None:
        main = menu(prompt="Hello {{name}}.", retry_text="Dear {{name}}.", fallback="Bye {{name}}.", retries=1)
        main.on("1", goto="It is {{day}}.")
        call = SimulatedCall(main, data={"name": "Ana", "day": 3, "note": None})
        assert (await call.begin()).text == "Hello Ana."
        assert (await call.press("1")).text == "It is 3. Hello Ana."
        assert (await call.press("")).text == "Dear Ana. Hello Ana."
        assert (await call.press("")).text == "Bye Ana."

    async def test_texts_that_a_handler_makes_are_spoken_as_they_are(self) -> None:
        main = menu()
        main.on("1")(lambda caller: str(caller.data["note"]))
        note = "see {{secret}} and {0.__class__}"
        assert (await heard_after(main, "1", data={"note": note})).text == f"{note}. Press 1 or 2."

    async def test_a_last_text_of_nothing_ends_the_call_and_is_no_failure(self) -> None:
        main = menu(fallback="Goodbye.")
        main.on("1", goto=End("{{note or ''}}"))
        heard = await heard_after(main, "1", data={"note": ""})
        assert (heard.texts, heard.trouble, heard.reply.result) == ((), None, MenuResult.LED_ON)

    @pytest.mark.parametrize("prompt", ["{{unknown}}", "{{name.__class__}}", "{{name", "{name}"])
    async def test_a_text_that_cannot_be_filled_in_is_not_spoken(self, prompt: str) -> None:
        main = menu(prompt=prompt)
        main.on("1", goto=END)
        heard = await SimulatedCall(main, data={"name": "Ana"}).begin()
        assert heard.reply.result is MenuResult.FAILED
        assert heard.has_ended


class TestFlows:
    @pytest.mark.parametrize(
        ("flow", "said"),
        [
            (CallFlow.reply().play("https://example.com/a.mp3"), ("https://example.com/a.mp3", "Press 1 or 2.")),
            (CallFlow.reply().capture("One or two?", voice_profile=VOICE), ("One or two?",)),
        ],
        ids=["speaks", "asks"],
    )
    async def test_a_flow_comes_back_to_the_menu_and_may_ask_itself(self, flow: CallFlow, said: tuple[str]) -> None:
        main = menu()
        main.on("1", goto=flow)
        heard = await heard_after(main, "1")
        assert (heard.texts, heard.menu) == (said, "main")


class TestFailures:
    @pytest.mark.parametrize(
        ("made", "said"),
        [
            (None, "NoneType"), (42, "int"), (CallFlow.call(DESK, source=OURS), "CallFlow.bridge"),
            (CallFlow.reply().say("x" * 3001, voice_profile=VOICE), "3000"),
            (CallFlow.bridge(source="nobody", destination=DESK), "E.164"), (menu("stranger"), "leads_to"),
        ],
        ids=["nothing", "a number", "a call", "a text too long", "a bad number", "a menu nobody named"],
    )  # fmt: skip
    async def test_what_cannot_be_sent_is_answered_with_the_fallback(self, made: Any, said: str) -> None:
        main = menu(fallback=End("Goodbye."))
        main.on("1", leads_to=[])(lambda _: made)
        heard = await heard_after(main, "1")
        assert (heard.text, heard.reply.result) == ("Goodbye.", MenuResult.FAILED)
        assert said in (heard.trouble or "")

    async def test_when_the_fallback_fails_too_the_call_is_hung_up(self) -> None:
        main = menu(fallback="Goodbye {{nobody}}.")
        main.on("1")(lambda _: 1 / 0)  # type: ignore[type-var]
        heard = await heard_after(main, "1")
        assert (heard.texts, heard.has_ended) == ((), True)
        assert heard.reply.flow.actions == ({"action": "hangup"},)

    async def test_a_menu_without_any_voice_hangs_up_and_says_why(self) -> None:
        main = Menu("main", prompt="Press 1.")
        main.on("1", goto=END)
        heard = await SimulatedCall(main).begin()
        assert "voice_profile" in (heard.trouble or "")
        with pytest.raises(InvalidInputError, match="voice_profile"):
            main.call(DESK, source=OURS)

    async def test_what_was_typed_at_a_secret_menu_is_not_in_the_words_of_a_failure(self) -> None:
        main = menu("pin", "Your PIN.", secret=True)

        @main.capture(min_digits=4, max_digits=4)
        def check(caller: Caller) -> End:
            raise ValueError(f"no such PIN: {caller.digits}")

        assert (await heard_after(main, "1234")).trouble == "ValueError"


class TestDeclaring:
    def test_a_name_that_cannot_travel_is_refused(self) -> None:
        for name in ["", "Main", "a b", "-a", "a" * 33, "a/b", "a.b"]:
            with pytest.raises(InvalidInputError, match="cannot be the name of a menu"):
                menu(name)

    def test_what_makes_no_sense_is_refused(self) -> None:
        on: Any = menu().on
        wrong: list[tuple[Callable[[], object], str]] = [
            (lambda: menu(retries=21), "retries"),
            (lambda: menu(inbound="desk"), "desk"),
            (lambda: on(goto=END), "key"),
            (lambda: on("9", do=do_not_call_again), "do= needs goto=, the step that follows"),
        ]
        for make, said in wrong:
            with pytest.raises(InvalidInputError, match=said):
                make()

    def test_a_call_begins_with_the_question(self) -> None:
        main = menu(prompt="Hello {{name}}. Press 1.")
        main.on("1", goto=END)
        call = main.call("+6587654321", source=OURS, data={"name": "Ana"})
        assert call.validated().destination == "+6587654321"
        assert question(call)["promptMessage"] == "Hello Ana. Press 1."
        with pytest.raises(InvalidInputError, match="name"):
            main.call("+6587654321", source=OURS)
