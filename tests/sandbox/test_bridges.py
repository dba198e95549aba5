"""A second party, connected or not; and what is told of each leg: its states, its recording."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from tests.sandbox.calling import ANA, BEN, SOURCE, calling
from tests.sandbox.menus import HANGUP, Json, Receiver, answered, asking, call, receiving, say
from voiceflow_worker.model.reports.events import CallStatus, RecordingReady, SessionSummary, parse_event
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.orders import Script

pytestmark = pytest.mark.anyio

QUICK = 2000.0
CONNECTED = answered(say("One moment."), call(BEN, callRecording=True))


async def played(receiver: Receiver, request: Json, *, call_statuses: bool = False, **script: Any) -> Json:
    sandbox = Sandbox(webhook=receiver.url, speed=QUICK, call_statuses=call_statuses)
    sandbox.scripts.add(Script.model_validate({"outcome": "COMPLETED", "keys": ["2"], **script}))
    async with calling(sandbox) as caller:
        assert (await caller.post(request)).status_code == 200
        with anyio.fail_after(30):
            await sandbox.idle()
        (entry,) = await caller.ledger()
        headers = {"Authorization": "Bearer k"}
        url = f"{caller.url}/api/v1/subaccounts/acme/recordings/{entry['session_id']}"
        entry["recordings"] = (await caller.client.get(url, headers=headers)).json()["recordings"]
    return entry


def summary_of(receiver: Receiver) -> SessionSummary:
    (event,) = [event for event in receiver.events if event["eventType"] == "SESSION_SUMMARY"]
    found = parse_event(event)
    assert isinstance(found, SessionSummary)
    return found


async def test_an_answer_connects_a_second_party() -> None:
    async with receiving(CONNECTED) as receiver:
        entry = await played(receiver, asking(), bridge_seconds=42)
    summary = summary_of(receiver)
    assert (summary.status, summary.last_action, summary.call_count) == (SessionStatus.COMPLETED, "MAKE_CALL", 2)
    first, second = summary.legs
    assert (first.destination, second.source, second.destination) == (ANA, SOURCE, BEN)
    assert first.call_id != second.call_id
    assert second.seconds == 42
    assert first.connected_at is not None
    assert second.initiated_at is not None
    assert second.connected_at is not None
    assert first.connected_at < second.initiated_at < second.connected_at
    assert first.disconnected_at == second.disconnected_at == summary.ended_at
    assert entry["bridged_to"] == BEN
    assert entry["heard"] == ["Press a key.", "One moment."]


async def test_a_second_party_that_is_not_reached_leaves_the_caller_with_the_rest_of_the_flow() -> None:
    reply = answered(call(BEN), say("Nobody is here. Goodbye."), HANGUP)
    async with receiving(reply) as receiver:
        entry = await played(receiver, asking(), bridge_outcome="NO_ANSWER")
    summary = summary_of(receiver)
    assert (summary.status, summary.call_count) == (SessionStatus.NO_ANSWER, 2)
    assert summary.call_a is not None
    assert summary.call_a.status == "COMPLETED"
    assert summary.call_b is not None
    assert (summary.call_b.status, summary.call_b.connected_at) == ("NO_ANSWER", None)
    assert summary.call_b.mos is None
    assert entry["bridged_to"] is None
    assert entry["heard"] == ["Press a key.", "Nobody is here. Goodbye."]


async def test_a_request_may_call_two_parties() -> None:
    async with receiving(answered(HANGUP)) as receiver:
        entry = await played(receiver, asking(call(BEN), say("You are connected.")), talk_seconds=25)
    assert receiver.questions == []
    first, second = summary_of(receiver).legs
    assert second.seconds is not None
    assert second.seconds > 25
    assert entry["bridged_to"] == BEN
    assert entry["heard"] == ["You are connected."]
    rings = entry["rings"]
    assert [ring["destination"] for ring in rings] == [ANA, BEN]
    assert rings[0]["rang_at"] < rings[1]["rang_at"] < rings[1]["ended_at"] <= rings[0]["ended_at"]
    assert first.seconds is not None
    assert first.seconds > second.seconds


async def test_each_leg_tells_its_states_to_who_wants_to_know() -> None:
    async with receiving(CONNECTED) as receiver:
        await played(receiver, asking(), call_statuses=True)
    events = [parse_event(event) for event in receiver.events if event["eventType"] == "CALL_STATUS"]
    told = sorted((event for event in events if isinstance(event, CallStatus)), key=lambda event: str(event.timestamp))
    assert [(event.destination, event.call_status) for event in told if event.destination == ANA] == [
        (ANA, "CALL_INITIATED"),
        (ANA, "CALL_CONNECTED"),
        (ANA, "CALL_DISCONNECTED"),
    ]
    assert [event.call_status for event in told if event.destination == BEN] == [
        "CALL_INITIATED",
        "CALL_CONNECTED",
        "CALL_DISCONNECTED",
    ]
    first, second = summary_of(receiver).legs
    assert {(event.destination, event.call_id) for event in told} == {(ANA, first.call_id), (BEN, second.call_id)}
    assert len({event.event_id for event in told}) == 6


async def test_a_recorded_call_has_its_recording_told() -> None:
    async with receiving(CONNECTED) as receiver:
        entry = await played(receiver, asking(), bridge_seconds=33)
    (event,) = [event for event in receiver.events if event["eventType"] == "CALL_RECORDING_STATUS"]
    ready = parse_event(event)
    assert isinstance(ready, RecordingReady)
    assert (ready.session_id, ready.status) == (entry["session_id"], "UPLOAD_COMPLETED")
    assert ready.duration is not None
    assert ready.duration.total_seconds() == 33
    (recording,) = entry["recordings"]
    assert (recording["recordingId"], recording["externalFileUrl"]) == (ready.recording_id, ready.file_path)
    assert recording["duration"] == 33
