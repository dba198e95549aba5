"""Menus against the sandbox: it runs flows, presses keys, asks what to do next, and does what it is told."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import anyio
import pytest

from tests.sandbox.calling import ANA, BEN, SOURCE, calling, settled
from tests.sandbox.menus import HANGUP, Json, Receiver, answered, ask, asking, in_turn, receiving, say
from voiceflow_worker.model.reports.events import ActionStatus, CallAction, Direction, SessionSummary, parse_event
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.orders import Keys, Script

pytestmark = pytest.mark.anyio

QUICK = 2000.0
GOODBYE = answered(say("Goodbye."), HANGUP)


async def played(receiver: Receiver, request: Json, keys: Keys | None = (), **more: Any) -> Json:
    """Play one call to its end; gives its entry in the ledger."""
    sandbox = Sandbox(webhook=receiver.url, speed=QUICK, **more)
    sandbox.scripts.add(Script(outcome=SessionStatus.COMPLETED, keys=keys))
    async with calling(sandbox) as caller:
        assert (await caller.post(request)).status_code == 200
        await settled(sandbox)
        (entry,) = await caller.ledger()
    return entry


async def test_the_keys_that_were_pressed_are_asked_about_as_the_service_words_it() -> None:
    async with receiving(GOODBYE) as receiver:
        request = asking(say("Hello."), ask("Press 1."), clientRequestId="default.01J.1")
        entry = await played(receiver, request, ["1"])
    (event,) = [event for event in receiver.events if event["eventType"] == "CALL_ACTION"]
    question = parse_event(event)
    assert isinstance(question, CallAction)
    assert (question.session_id, event["payload"]["subAccountId"]) == (entry["session_id"], "acme")
    assert (question.source, question.destination, question.dtmf) == (SOURCE, ANA, "1")
    assert (question.call_status, question.direction) == (ActionStatus.ACTION_COMPLETED, Direction.OUTBOUND)
    assert (event["payload"]["callType"], question.sip_code, question.client_action_id) == ("PSTN", 200, None)
    assert question.event_id
    assert question.timestamp is not None
    assert "clientRequestId" not in event["payload"]
    assert event["payload"]["eventData"] == {"dtmf": "1"}
    summary = parse_event(receiver.events[-1])
    assert isinstance(summary, SessionSummary)
    assert summary.status is SessionStatus.COMPLETED
    assert (summary.last_action, summary.call_count, summary.client_request_id) == ("HANGUP", 1, "default.01J.1")
    assert summary.call_a is not None
    assert (summary.call_a.call_id, summary.call_a.status) == (question.call_id, "COMPLETED")
    assert summary.call_a.connected_at is not None
    assert summary.started_at is not None
    assert summary.started_at < summary.call_a.connected_at < question.timestamp
    assert summary.ended_at is not None
    assert summary.ended_at > question.timestamp
    assert entry["outcome"] == "COMPLETED"
    assert (entry["heard"], entry["pressed"]) == (["Hello.", "Press 1.", "Goodbye."], ["1"])


async def test_the_last_client_action_id_comes_back() -> None:
    replies = in_turn(
        answered(ask("Level 2?"), place="level 2"),
        answered(ask("Level 3?"), place="level 3"),
        answered(ask("Still level 3?")),
        GOODBYE,
    )
    async with receiving(replies) as receiver:
        entry = await played(receiver, asking(destination=ANA.removeprefix("+")), ["1", "2", None, "4"])
    assert [(event.get("clientActionId"), event["eventData"]["dtmf"]) for event in receiver.questions] == [
        (None, "1"),
        ("level 2", "2"),
        ("level 3", None),
        ("level 3", "4"),
    ]
    assert receiver.questions[0]["destination"] == ANA
    assert len({event["eventId"] for event in receiver.questions}) == 4
    assert entry["pressed"] == ["1", "2", None, "4"]
    assert entry["heard"] == ["Press a key.", "Level 2?", "Level 3?", "Still level 3?", "Goodbye."]


async def test_a_question_is_repeated_until_it_has_enough_digits_or_its_tries_are_over_or_the_person_hangs_up() -> None:
    said = ["Your code?", "Too short."]
    tries: list[tuple[int, Any, list[str], str | None]] = [
        (3, [("1", None, "1234")], [*said * 2, "Your code?", "Thank you.", "Goodbye."], "1234"),
        (2, ["123"], [*said * 2, "Goodbye."], None),
        (1, ["hangup"], ["Your code?"], None),
    ]
    for most, keys, heard, dtmf in tries:
        async with receiving(GOODBYE) as receiver:
            messages = {"failureMessage": "Too short.", "successMessage": "Thank you."}
            question = ask("Your code?", minDigits=4, maxDigits=4, noOfTries=most, **messages)
            entry = await played(receiver, asking(question), keys)
        hung_up = keys == ["hangup"]
        assert [event["eventData"] for event in receiver.questions] == ([] if hung_up else [{"dtmf": dtmf}])
        assert (entry["heard"], entry["pressed"]) == (heard, [] if hung_up else [dtmf])
        assert receiver.summary["lastAction"] == ("SAY_AND_CAPTURE" if hung_up else "HANGUP")


async def test_an_answer_that_cannot_be_run_ends_the_session() -> None:
    replies: list[tuple[Any, int, str]] = [
        (503, -2003, "HTTP status 503"),
        (b"<html>", -2003, "not JSON"),
        (answered(), -2003, "no actions"),
        (answered({"action": "dance"}), -2003, "$.callflow[0].action"),
        (answered({"action": "makeCall", "params": {"source": BEN, "destination": ANA}}), -2008, ""),
    ]
    for reply, code, told in replies:
        async with receiving(lambda _, reply=reply: reply) as receiver:  # type: ignore[misc]
            entry = await played(receiver, asking(), ["1"], numbers=[SOURCE])
        summary = receiver.summary
        assert summary["sessionStatus"] == entry["outcome"] == "ERROR"
        assert (summary["errorDetails"]["errorCode"], told in summary["errorDetails"]["errorMsg"]) == (code, True)
        assert (summary["details"]["callA"]["callStatus"], entry["heard"]) == ("COMPLETED", ["Press a key."])


async def test_no_answer_within_the_limit_ends_the_session() -> None:
    async with receiving(GOODBYE) as receiver:
        receiver.holds = asyncio.Event()
        await played(receiver, asking(), ["1"], answer_within=timedelta(seconds=0.2))
        receiver.holds.set()
    assert receiver.summary["errorDetails"]["errorCode"] == -2003
    assert "got no answer" in receiver.summary["errorDetails"]["errorMsg"]


async def pressed_by(seed: int, calls: int, receiver: Receiver) -> list[Any]:
    sandbox = Sandbox(webhook=receiver.url, speed=QUICK, seed=seed)
    async with calling(sandbox) as caller:
        async with anyio.create_task_group() as tasks:
            for place in range(calls):
                tasks.start_soon(caller.post, asking(destination=f"+6587{place:06d}"))
        await settled(sandbox)
        entries = await caller.ledger()
    return sorted((entry["destination"], entry["outcome"], entry["pressed"], entry["heard"]) for entry in entries)


def winding(payload: Json) -> Json:
    """Asks again until a 1 is pressed."""
    return GOODBYE if payload["eventData"]["dtmf"] == "1" else answered(ask("Again?"), place="again")


async def test_the_same_seed_presses_the_same_keys() -> None:
    async with receiving(winding) as receiver:
        first = await pressed_by(5, 20, receiver)
        again = await pressed_by(5, 20, receiver)
        other = await pressed_by(6, 20, receiver)
    assert first == again
    assert first != other
    assert any(len(pressed) > 2 for _, _, pressed, _ in first)


async def test_a_reset_ends_menus_without_a_word() -> None:
    async with receiving(GOODBYE) as receiver:
        receiver.holds = asyncio.Event()
        sandbox = Sandbox(webhook=receiver.url, speed=QUICK)
        sandbox.scripts.add(Script(outcome=SessionStatus.COMPLETED, keys=["1"]))
        async with calling(sandbox) as caller:
            await caller.post(asking())
            await receiver.reached(1)
            await caller.order("reset", {})
            await settled(sandbox)
            assert await caller.ledger() == []
        receiver.holds.set()
    assert receiver.order == ["CALL_ACTION"]
