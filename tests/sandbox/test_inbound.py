"""Somebody calls one of the account's numbers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.calling import ANA, BEN, SOURCE, Caller, calling, settled
from tests.sandbox.menus import HANGUP, answered, ask, in_turn, receiving, say
from voiceflow_worker.model.reports.events import ActionStatus, CallAction, Direction, SessionSummary, parse_event
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox import Sandbox

pytestmark = pytest.mark.anyio

QUICK = 2000.0
GOODBYE = answered(say("Goodbye."), HANGUP)


async def came_in(caller: Caller) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await caller.client.get(f"{caller.url}/_sandbox/inbound")).json()
    return found


async def test_a_call_that_comes_in_is_asked_about_before_anything_is_said() -> None:
    replies = in_turn(answered(ask("Press 1."), place="main"), GOODBYE)
    async with receiving(replies) as receiver:
        sandbox = Sandbox(webhook=receiver.url, speed=QUICK)
        async with calling(sandbox) as caller:
            ordered = await caller.order("inbound", {"source": ANA, "destination": SOURCE, "keys": ["1"]})
            await settled(sandbox)
            (entry,) = await came_in(caller)
            ledger = await caller.ledger()
            await caller.order("reset", {})
            assert await came_in(caller) == []
    first, second = [parse_event(event) for event in receiver.events if event["eventType"] == "CALL_ACTION"]
    assert isinstance(first, CallAction)
    assert (first.call_status, first.direction) == (ActionStatus.CALL_RECEIVED, Direction.INBOUND)
    assert (first.source, first.destination, first.dtmf, first.client_action_id) == (ANA, SOURCE, None, None)
    assert isinstance(second, CallAction)
    assert (second.call_status, second.direction) == (ActionStatus.ACTION_COMPLETED, Direction.INBOUND)
    assert (second.dtmf, second.client_action_id, second.call_id) == ("1", "main", first.call_id)
    assert ordered.json() == {"taken": 1, "session_ids": [first.session_id]}
    summary = parse_event(receiver.events[-1])
    assert isinstance(summary, SessionSummary)
    assert (summary.session_id, summary.status) == (first.session_id, SessionStatus.COMPLETED)
    assert summary.client_request_id is None
    assert summary.call_a is not None
    assert summary.call_a.source == ANA
    assert {name: entry[name] for name in ("source", "destination", "session_id", "outcome", "heard", "pressed")} == {
        "source": ANA,
        "destination": SOURCE,
        "session_id": first.session_id,
        "outcome": "COMPLETED",
        "heard": ["Press 1.", "Goodbye."],
        "pressed": ["1"],
    }
    assert ledger == []


async def test_a_call_to_nobody_is_refused_and_none_of_the_order_is_taken() -> None:
    async with receiving(GOODBYE) as receiver:
        sandbox = Sandbox(webhook=receiver.url, numbers=[SOURCE], speed=QUICK)
        async with calling(sandbox) as caller:
            orders = [{"source": ANA, "destination": SOURCE}, {"source": ANA, "destination": BEN}]
            refused = await caller.client.post(f"{caller.url}/_sandbox/inbound", json=orders)
            assert (refused.status_code, refused.json()) == (
                422,
                {"error": f"{BEN} is not one of the account's numbers"},
            )
            assert await came_in(caller) == []
            wrong = await caller.client.post(
                f"{caller.url}/_sandbox/inbound", json={"source": "12", "destination": ANA}
            )
            assert wrong.status_code == 422
    assert receiver.events == []
