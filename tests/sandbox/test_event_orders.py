"""Events that come twice, late, in another order, or not at all."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.sandbox.calling import calling, settled
from tests.sandbox.menus import HANGUP, Json, Receiver, answered, ask, asking, in_turn, receiving, say
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.orders import Script

pytestmark = pytest.mark.anyio

QUICK = 2000.0
GOODBYE = answered(say("Goodbye."), HANGUP)


def menus(receiver: Receiver, **more: Any) -> Sandbox:
    sandbox = Sandbox(webhook=receiver.url, speed=QUICK, **more)
    sandbox.scripts.add(Script(outcome=SessionStatus.COMPLETED, keys=["1", "2"]))
    return sandbox


async def played(receiver: Receiver, *orders: Json, **more: Any) -> list[Json]:
    """Play a call, with these orders for its events; gives what was delivered."""
    sandbox = menus(receiver, **more)
    async with calling(sandbox) as caller:
        await caller.order("events", list(orders))
        await caller.post(asking())
        await settled(sandbox)
        delivered: list[Json] = (await caller.client.get(f"{caller.url}/_sandbox/deliveries")).json()
    return delivered


async def test_a_question_may_come_several_times_and_is_answered_once() -> None:
    async with receiving(GOODBYE) as receiver:
        delivered = await played(receiver, {"event": "VCA", "duplicates": 3})
    assert len(receiver.questions) == 4
    assert all(question == receiver.questions[0] for question in receiver.questions)
    assert receiver.summary["sessionStatus"] == "COMPLETED"
    answers = [entry["answer"] for entry in delivered if entry["event_type"] == "CALL_ACTION"]
    assert len(answers) == 4
    assert len(set(answers)) == 1
    assert {entry["event_id"] for entry in delivered if entry["event_type"] == "CALL_ACTION"} == {
        receiver.questions[0]["eventId"]
    }
    assert all(entry["seconds"] > 0 for entry in delivered)


async def test_the_summary_may_come_before_the_last_questions_duplicate() -> None:
    async with receiving(in_turn(answered(ask(), place="here"), GOODBYE, GOODBYE)) as receiver:
        orders = [
            {"event": "VCA", "times": 1},
            {"event": "VCA", "duplicates": 1, "duplicate_after": "VSS"},
        ]
        await played(receiver, *orders)
    assert receiver.order == ["CALL_ACTION", "CALL_ACTION", "SESSION_SUMMARY", "CALL_ACTION"]
    first, second, late = receiver.questions
    assert late == second != first


async def test_a_lost_question_ends_the_session() -> None:
    async with receiving(GOODBYE) as receiver:
        await played(receiver, {"event": "VCA", "drop": True}, answer_within=timedelta(seconds=30))
    assert receiver.questions == []
    assert receiver.summary["sessionStatus"] == "ERROR"
    assert receiver.summary["errorDetails"]["errorCode"] == -2003


async def test_a_question_that_failed_is_asked_again_only_if_that_is_ordered() -> None:
    async with receiving(in_turn(503, 503, GOODBYE)) as receiver:
        await played(receiver, {"event": "VCA", "retries": 2})
    assert len(receiver.questions) == 3
    assert receiver.questions[2] == receiver.questions[0]
    assert receiver.summary["sessionStatus"] == "COMPLETED"
    async with receiving(in_turn(503, GOODBYE)) as receiver:
        await played(receiver, webhook_retries=3)
    assert len(receiver.questions) == 1
    assert receiver.summary["sessionStatus"] == "ERROR"


async def test_summaries_and_states_take_orders_too() -> None:
    async with receiving(GOODBYE) as receiver:
        orders = [
            {"event": "VSS", "duplicates": 2},
            {"event": "VCS", "duplicates": 1, "times": 1},
            {"event": "VCS", "drop": True, "times": 1},
            {"event": "VCS", "delay_seconds": 4000},
        ]
        await played(receiver, *orders, call_statuses=True)
    assert len(receiver.of("SESSION_SUMMARY")) == 3
    assert [payload["callStatus"] for payload in receiver.of("CALL_STATUS")] == [
        "CALL_INITIATED",
        "CALL_INITIATED",
        "CALL_DISCONNECTED",
    ]
    assert receiver.order[-1] == "CALL_STATUS"
