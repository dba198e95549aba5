"""The choice of the menu for an event, from the place that the event names."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.flows import flow
from tests.support.plain_jobs import NOW, a_job
from voiceflow_worker import (
    CallFlow,
    Job,
    JobState,
    Menu,
)
from voiceflow_worker.ivr import END, Caller, End
from voiceflow_worker.ivr.caller import LONGEST, CallPhase, Position
from voiceflow_worker.ivr.menus import MenuReply, MenuResult, Menus
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.reports.events import ActionStatus, CallAction, Direction

pytestmark = pytest.mark.anyio

VOICE = "en-US-BenjaminRUS"


def made(name: str, **more: Any) -> Menu:
    menu = Menu(name, prompt=f"{name}?", **{"voice_profile": VOICE, "fallback": End(f"No {name}."), **more})
    menu.on("1", goto=END)
    return menu


def job(menu: Menu | None = None, *, name: str | None = None, asks: bool = True) -> Job:
    asked = menu or made("any")
    call = asked.call("+6587654321", source="+6531234567") if asks else flow()
    named = name or (menu.name if menu else None)
    return a_job(JobState.SUBMITTED, body=call.to_json().decode(), menu=named)


async def answered(menus: Menus, job: Job | None = None, *, to: str | None = None, **event: Any) -> MenuReply:
    caller = Caller(now=NOW, job=job, our_number=to)
    given = CallAction(**{"call_status": ActionStatus.ACTION_COMPLETED, "direction": Direction.OUTBOUND, **event})
    return await menus.answer(menus.decide(given, caller))


RECEIVED: dict[str, Any] = {"direction": Direction.INBOUND, "call_status": ActionStatus.CALL_RECEIVED}


def menu_asked(answer: MenuReply) -> str | None:
    position = Position.read(answer.flow.client_action_id or "")
    return None if position is None or position.phase is not CallPhase.ASKED else position.path[-1]


class TestTheFirstEventOfACall:
    async def test_its_keys_answer_the_question_that_the_call_began_with(self) -> None:
        main, other = made("main"), made("other")
        other.on("2", goto=main)
        answer = await answered(Menus(main, other), job(other), dtmf="2")
        assert (answer.result, answer.decision.menu, menu_asked(answer)) == (MenuResult.LED_ON, "other", "main")
        answer = await answered(Menus(main), job(main))
        assert (answer.result, menu_asked(answer)) == (MenuResult.ASKED_AGAIN, "main"), "silence is a try"

    async def test_a_call_that_asked_nothing_is_asked_now(self) -> None:
        main = made("main")
        answer = await answered(Menus(main), job(main, asks=False), dtmf="1")
        assert (answer.result, menu_asked(answer)) == (MenuResult.STARTED, "main")

    async def test_a_job_that_names_no_menu_is_taken_by_the_first(self) -> None:
        main, other = made("main"), made("other")
        assert menu_asked(await answered(Menus(main, other), job(), dtmf="7")) == "main"


class TestStepsThatAreNoAnswers:
    """8x8 may send an event without keys after any action of a flow (8x8 IVR guide)."""

    @staticmethod
    def made_by(flow: CallFlow, *, menu: str | None = None) -> Job:
        return replace(job(), body=flow.to_json().decode(), menu=menu)

    async def test_a_reminder_that_asks_nothing_and_hangs_up_is_not_asked_anything(self) -> None:
        reminder = CallFlow.call("+6587654321", source="+6531234567").say("Hello.", voice_profile=VOICE).hangup()
        answer = await answered(Menus(made("main")), self.made_by(reminder))
        assert (answer.result, answer.flow.actions) == (MenuResult.WENT_ON, ({"action": "hangup"},))

    async def test_a_text_before_the_question_of_a_call_is_not_a_wrong_key(self) -> None:
        main = made("main", retries=0)
        begun = CallFlow.call("+6587654321", source="+6531234567").say("Hello.", voice_profile=VOICE)
        said = self.made_by(begun.capture("main?", voice_profile=VOICE), menu="main")
        answer = await answered(Menus(main), said)
        assert (answer.result, menu_asked(answer)) == (MenuResult.WENT_ON, "main")
        assert (await answered(Menus(main), said, dtmf="1")).result is MenuResult.LED_ON, "keys are an answer"
        # The next silence is one.
        answer = await answered(Menus(main), said, client_action_id=answer.flow.client_action_id)
        assert answer.result is MenuResult.GAVE_UP

    async def test_after_a_second_party_of_the_call_itself_the_call_is_hung_up(self) -> None:
        main = made("main")
        call = CallFlow.call("+6587654321", source="+6531234567").then_call("+6587654322", source="+6531234567")
        answer = await answered(Menus(main), self.made_by(call, menu="main"), sip_code=486)
        assert answer.flow.actions == ({"action": "hangup"},)


class TestOpenings:
    async def test_an_inbound_call_may_begin_without_a_question(self) -> None:
        hours = {"open": True}

        async def door(caller: Caller) -> CallFlow | End:
            if hours["open"]:
                return CallFlow.bridge(source="+6531234567", destination="+6587654322")
            return End("We are closed.")

        menus = Menus(Menu("door", opening=door, inbound=True, voice_profile=VOICE))
        answer = await answered(menus, to="+6531234567", **RECEIVED)
        assert answer.result is MenuResult.STARTED
        assert [entry["action"] for entry in answer.flow.actions] == ["makeCall"]
        after = await answered(menus, client_action_id=answer.flow.client_action_id, direction=Direction.INBOUND)
        assert after.flow.actions == ({"action": "hangup"},)
        hours["open"] = False
        answer = await answered(menus, to="+6531234567", **RECEIVED)
        assert [entry["action"] for entry in answer.flow.actions] == ["say", "hangup"]

    async def test_an_opening_may_lead_to_a_question(self) -> None:
        main = made("main", inbound=True)
        main.opening = main.with_text("Welcome.")
        answer = await answered(Menus(main), to="+6531234567", **RECEIVED)
        assert menu_asked(answer) == "main"
        params: Any = answer.flow.actions[0]["params"]
        assert params["promptMessage"] == "Welcome. main?"


class TestCallsThatNoJobMade:
    async def test_the_menu_of_the_number_that_was_called_comes_first(self) -> None:
        menus = Menus(made("any", inbound=True), made("booking", inbound=["6531234568"]))
        assert menu_asked(await answered(menus, to="+6531234568")) == "booking"
        assert menu_asked(await answered(menus, to="+6531234567")) == "any"


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

    @pytest.mark.parametrize("token", ["ivr1_level2", "vf9.main", "x" * 10_000])
    async def test_a_foreign_or_changed_place_begins_the_menu_of_the_job_again(self, token: str) -> None:
        main, other = made("main"), made("other")
        answer = await answered(Menus(main, other), job(other), dtmf="1", client_action_id=token)
        assert (answer.result, menu_asked(answer), answer.decision.press) == (MenuResult.STARTED, "other", None)

    async def test_a_place_in_a_menu_that_is_gone_begins_at_its_first_menu(self) -> None:
        token = Position(path=("other", "gone"), tries=1, asked=3).write()
        answer = await answered(Menus(made("main"), made("other")), job(), dtmf="1", client_action_id=token)
        assert (answer.result, menu_asked(answer)) == (MenuResult.STARTED, "other")

    async def test_a_place_of_which_a_menu_on_the_way_is_gone_goes_on(self) -> None:
        token = Position(path=("main", "gone", "inner"), asked=3).write()
        main, inner = made("main"), made("inner", voice_profile=None)
        main.on("2", goto=inner)
        answer = await answered(Menus(main), dtmf="7", client_action_id=token)
        assert (answer.result, menu_asked(answer)) == (MenuResult.ASKED_AGAIN, "inner")


class TestRegistering:
    def test_all_menus_that_are_led_to_are_known(self) -> None:
        main, by_goto, by_text = made("main"), made("goto"), made("saying")
        by_code, by_list, by_fallback = made("code"), made("list"), made("fallback")
        main.on("2", goto=by_goto)
        main.on("3", goto=by_text.with_text("Hello."))
        main.on("4", leads_to=[by_code])(lambda _: by_code)

        table = {"list": by_list}
        main.on("6", leads_to=[by_list])(lambda _: table["list"])
        by_goto.fallback = by_fallback
        names = {menu.name for menu in Menus(main).all}
        assert names == {"main", "goto", "saying", "code", "list", "fallback"}


NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,31}", fullmatch=True)


@given(
    path=st.lists(NAMES, min_size=1, max_size=4),
    tries=st.integers(0, 20),
    asked=st.integers(0, 100),
    phase=st.sampled_from(CallPhase),
)
def test_a_position_comes_back_as_it_was(path: list[str], tries: int, asked: int, phase: CallPhase) -> None:
    position = Position(path=tuple(path), tries=tries, asked=asked, phase=phase)
    token = position.write()
    assert Position.read(token) == position
    assert len(token) <= LONGEST


@given(path=st.lists(NAMES, min_size=1, max_size=40, unique=True))
def test_a_long_way_keeps_its_first_and_its_last_menu(path: list[str]) -> None:
    token = Position(path=tuple(path)).write()
    read = Position.read(token)
    assert len(token) <= LONGEST
    assert read is not None
    assert (read.path[0], read.path[-1]) == (path[0], path[-1])


@given(st.text(max_size=300))
def test_a_foreign_id_is_not_a_position(text: str) -> None:
    assert Position.read(text) is None
