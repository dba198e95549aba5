"""Which menu takes an event, and what it makes of the place that the event names."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.flows import flow
from voiceflow_worker import END, Caller, End, InvalidInputError, Job, JobState, Menu
from voiceflow_worker.ivr.answer import Answer, Result
from voiceflow_worker.ivr.menus import Menus
from voiceflow_worker.ivr.position import Position, Standing
from voiceflow_worker.model.events import ActionStatus, CallAction, Direction

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 7, 1, 4, tzinfo=UTC)
VOICE = "en-US-BenjaminRUS"


def made(name: str, **more: Any) -> Menu:
    menu = Menu(name, prompt=f"{name}?", **{"voice_profile": VOICE, "fallback": End(f"No {name}."), **more})
    menu.on("1", goto=END)
    return menu


def job(menu: Menu | None = None, *, name: str | None = None, asks: bool = True) -> Job:
    asked = menu or made("any")
    call = asked.call("+6587654321", source="+6531234567") if asks else flow()
    return Job(
        id="default.01J", queue="default", state=JobState.SUBMITTED, due_at=NOW, destination="+6587654321",
        body=call.to_json().decode(), body_digest="", source="+6531234567", created_at=NOW,
        menu=name or (menu.name if menu else None),
    )  # fmt: skip


async def answered(menus: Menus, job: Job | None = None, *, to: str | None = None, **event: Any) -> Answer:
    caller = Caller(now=NOW, job=job, our_number=to)
    given = CallAction(**{"call_status": ActionStatus.ACTION_COMPLETED, "direction": Direction.OUTBOUND, **event})
    return await menus.answer(menus.plan(given, caller))


def menu_asked(answer: Answer) -> str | None:
    position = Position.read(answer.flow.client_action_id or "")
    return None if position is None or position.standing is not Standing.ASKED else position.path[-1]


class TestTheFirstEventOfACall:
    async def test_its_keys_answer_the_question_that_the_call_began_with(self) -> None:
        main, other = made("main"), made("other")
        other.on("2", goto=main)
        answer = await answered(Menus(main, other), job(other), dtmf="2")
        assert (answer.result, answer.menu, menu_asked(answer)) == (Result.LED_ON, "other", "main")

    async def test_silence_after_that_question_is_a_try(self) -> None:
        main = made("main")
        answer = await answered(Menus(main), job(main))
        assert (answer.result, menu_asked(answer)) == (Result.ASKED_AGAIN, "main")

    async def test_a_call_that_asked_nothing_is_asked_now(self) -> None:
        main = made("main")
        answer = await answered(Menus(main), job(main, asks=False), dtmf="1")
        assert (answer.result, menu_asked(answer)) == (Result.STARTED, "main")

    async def test_a_job_that_names_no_menu_is_taken_by_the_first(self) -> None:
        main, other = made("main"), made("other")
        assert menu_asked(await answered(Menus(main, other), job(), dtmf="7")) == "main"

    async def test_a_job_of_a_menu_that_is_not_served_is_given_the_fallback(self) -> None:
        answer = await answered(Menus(made("main")), job(name="gone"), dtmf="1")
        assert (answer.result, menu_asked(answer)) == (Result.NO_MENU, None)
        assert answer.flow.actions[0]["params"] == {"text": "No main.", "voiceProfile": VOICE}
        assert "gone" in (answer.trouble or "")

    async def test_an_inner_menu_may_be_the_first_of_a_call(self) -> None:
        main, inner = made("main"), made("inner")
        main.on("2", goto=inner)
        assert menu_asked(await answered(Menus(main), job(inner), dtmf="7")) == "inner"


class TestCallsThatNoJobMade:
    async def test_a_menu_that_takes_inbound_calls_asks(self) -> None:
        main = made("main", inbound=True)
        received: dict[str, Any] = {"call_status": ActionStatus.CALL_RECEIVED, "direction": Direction.INBOUND}
        answer = await answered(Menus(made("other"), main), to="+6531234567", **received)
        assert (answer.result, menu_asked(answer)) == (Result.STARTED, "main")

    async def test_the_menu_of_the_number_that_was_called_comes_first(self) -> None:
        menus = Menus(made("any", inbound=True), made("booking", inbound=["6531234568"]))
        assert menu_asked(await answered(menus, to="+6531234568")) == "booking"
        assert menu_asked(await answered(menus, to="+6531234567")) == "any"

    async def test_without_such_a_menu_the_call_ends_politely(self) -> None:
        answer = await answered(Menus(made("main")), to="+6531234567", dtmf="1")
        assert (answer.result, answer.press, menu_asked(answer)) == (Result.NO_MENU, None, None)
        assert answer.flow.actions[0]["params"] == {"text": "No main.", "voiceProfile": VOICE}

    async def test_without_any_menu_it_is_hung_up(self) -> None:
        assert (await answered(Menus())).flow.actions == ({"action": "hangup"},)


class TestWhereTheCallerIs:
    async def test_any_replica_goes_on_from_the_place_in_the_event(self) -> None:
        def menus() -> Menus:
            main, inner = made("main"), made("inner")
            main.on("2", goto=inner)
            inner.on("2", goto=End("Done."))
            return Menus(main)

        first = await answered(menus(), job(made("main")), dtmf="2")
        second = await answered(menus(), dtmf="2", client_action_id=first.flow.client_action_id)
        assert second.flow.actions[0]["params"] == {"text": "Done.", "voiceProfile": VOICE}

    @pytest.mark.parametrize("token", ["ivr1_level2", "vf1.main.0.1.q.00000000", "vf9.main", "x" * 10_000])
    async def test_a_foreign_or_changed_place_begins_the_menu_of_the_job_anew(self, token: str) -> None:
        main, other = made("main"), made("other")
        answer = await answered(Menus(main, other), job(other), dtmf="1", client_action_id=token)
        assert (answer.result, menu_asked(answer), answer.press) == (Result.STARTED, "other", None)

    async def test_a_place_in_a_menu_that_is_gone_begins_at_its_first_menu(self) -> None:
        token = Position(path=("other", "gone"), tries=1, asked=3).write()
        answer = await answered(Menus(made("main"), made("other")), job(), dtmf="1", client_action_id=token)
        assert (answer.result, menu_asked(answer)) == (Result.STARTED, "other")

    async def test_a_place_of_which_a_menu_on_the_way_is_gone_goes_on(self) -> None:
        token = Position(path=("main", "gone", "inner"), asked=3).write()
        main, inner = made("main"), made("inner", voice_profile=None)
        main.on("2", goto=inner)
        answer = await answered(Menus(main), dtmf="7", client_action_id=token)
        assert (answer.result, menu_asked(answer)) == (Result.ASKED_AGAIN, "inner")


class TestRegistering:
    def test_all_menus_that_are_led_to_are_known(self) -> None:
        main, by_goto, by_text = made("main"), made("goto"), made("saying")
        by_code, by_closure, by_list, by_fallback = made("code"), made("closure"), made("list"), made("fallback")
        main.on("2", goto=by_goto)
        main.on("3", goto=by_text.saying("Hello."))
        main.on("4")(lambda _: by_code)

        @main.on("5")
        async def nested(_: Caller) -> Menu:
            return by_closure

        table = {"list": by_list}
        main.on("6", leads_to=[by_list])(lambda _: table["list"])
        by_goto.own = replace(by_goto.own, fallback=by_fallback)
        names = {menu.name for menu in Menus(main).all}
        assert names == {"main", "goto", "saying", "code", "closure", "list", "fallback"}

    def test_two_menus_of_one_name_are_refused(self) -> None:
        with pytest.raises(InvalidInputError, match="two menus have the name main"):
            Menus(made("main"), made("main"))
