from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.support.plain_jobs import NOW, a_job
from voiceflow_worker import Caller, CallFlow, CallPolicy, InvalidInputError, Job, JobState
from voiceflow_worker.ivr import approval_call, approval_data, choice_of
from voiceflow_worker.ivr.approval import approval
from voiceflow_worker.ivr.menus import MenuAnswer, Menus
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.lifecycle import erased
from voiceflow_worker.model.reports.events import ActionStatus, CallAction, Direction

pytestmark = pytest.mark.anyio

OURS, THEIRS, VOICE = "+6531234567", "+6587654321", "en-US-BenjaminRUS"


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


def test_a_first_event_that_comes_again_after_the_data_of_its_call_were_erased_is_understood() -> None:
    late = erased(job(CALL), policy=CallPolicy(data_retention=timedelta()))
    event = CallAction(dtmf="1", call_status=ActionStatus.ACTION_COMPLETED, direction=Direction.OUTBOUND)
    press = Menus(beside=[approval]).plan(event, Caller(now=NOW, job=late, data={})).press
    assert press is not None
    assert (press.menu, press.digits) == ("approval", "1")


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
