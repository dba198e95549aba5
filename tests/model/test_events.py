"""Webhook events as the 8x8 guides print them and as they come in the wild."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.webhooks.payload_forms import Call, whole
from voiceflow_worker.errors import InvalidInputError, WebhookEventError
from voiceflow_worker.model.reports import status
from voiceflow_worker.model.reports.events import (
    ActionStatus,
    CallAction,
    CallStatus,
    SessionSummary,
    UnknownEvent,
    parse_event,
)
from voiceflow_worker.model.reports.status import (
    SESSION_STATUSES,
    SessionStatus,
    api_code,
    fold_session_status,
    session_error,
)

Json = dict[str, Any]

CALL = Call("default.01J.1", "1f048a84-ea6d-11ee-911b-078f7290bf52")
ACTION: Json = {
    "namespace": "VOICE",
    "eventType": "CALL_ACTION",
    "payload": {"sessionId": CALL.session_id, "callStatus": "ACTION_COMPLETED", "eventData": {"dtmf": "1"}},
}


def summary(**changes: object) -> SessionSummary:
    event = parse_event(whole(CALL, **changes))
    assert isinstance(event, SessionSummary)
    return event


def action(**changes: object) -> CallAction:
    data = deepcopy(ACTION)
    data["payload"].update(changes)
    event = parse_event(data)
    assert isinstance(event, CallAction)
    return event


class TestSessionSummary:
    def test_what_is_not_known_is_passed_over(self) -> None:
        data = whole(CALL)
        data["traceId"] = "t"
        data["version"] = 2
        data["payload"] |= {"price": 0.1, "errorDetails": {"errorCode": -2001, "hint": "h"}, "nothing": None}
        data["payload"]["details"] |= {"callC": {"callId": "c"}}
        data["payload"]["details"]["callA"] |= {"codec": "PCMU"}
        event = parse_event(data)
        assert event == replace(summary(), error_code=-2001, error_message=None)

    def test_what_cannot_be_read_is_none(self) -> None:
        event = summary(startTime="yesterday", callCount="many", sessionId=["a"], details="none", endTime=-5)
        assert (event.started_at, event.ended_at, event.call_count, event.session_id) == (None, None, None, None)
        assert event.legs == ()


SEEN_AT = datetime(2024, 3, 25, 6, 1, 30, tzinfo=UTC)
TIMES: list[tuple[object, datetime | None]] = [
    *((each, SEEN_AT) for each in ("2024-03-25T06:01:30Z", "2024-03-25T14:01:30+08:00", "2024-03-25T06:01:30+0000",
                                   "2024-03-25T06:01:30", "2024-03-25 06:01:30", 1711346490)),
    ("2024-03-25T06:01:30.123456789Z", SEEN_AT.replace(microsecond=123456)),
    *((each, SEEN_AT.replace(microsecond=123000)) for each in (1711346490123, "1711346490123")),
    *((each, None) for each in ("2024-02-30T00:00:00Z", "0001-01-01T00:00:00+14:00", 10**17, float("nan"), True)),
    ("null", None), ("", None), ({}, None),
]  # fmt: skip


def test_a_time_is_read_in_every_form_that_was_seen() -> None:
    for time, moment in TIMES:
        found = summary(startTime=time).started_at
        assert (found, None if found is None else found.tzinfo) == (moment, None if moment is None else UTC), time


def test_keys_pressed_are_text_and_none_pressed_is_none() -> None:
    data: Any
    for data, dtmf in [
        ({"dtmf": None}, None), ({"dtmf": "null"}, None), ({"dtmf": ""}, None), ({"dtmf": 12}, "12"),
        ({"dtmf": "12#"}, "12#"), ({"dtmf": "0"}, "0"), (None, None), (" ", None),
    ]:  # fmt: skip
        assert action(eventData=data).dtmf == dtmf
    beside = action(eventData=None, dtmf="3", callStatus="DTMF_RECEIVED")
    assert (beside.dtmf, beside.call_status) == ("3", ActionStatus.DTMF_RECEIVED)


def test_a_text_of_any_length_is_not_a_burden_and_an_identifier_is_never_cut_into_another() -> None:
    event = summary(sessionId="s" * 201, errorDetails={"errorMsg": "m" * 100_000}, lastAction="a" * 100_000)
    assert event.session_id is None
    assert event.error_message == "m" * 4000
    assert event.last_action == "a" * 4000
    assert summary(sessionId="s" * 200).session_id == "s" * 200
    assert action(clientActionId="x" * 50_000).client_action_id == "x" * 50_000, "what a menu said of itself"


def test_a_call_status_is_not_an_action_request() -> None:
    data = deepcopy(ACTION) | {"eventType": "CALL_STATUS"}
    data["payload"] |= {"callStatus": "CALL_RECEIVED", "callDuration": "10", "sourceCountryCode": "Null"}
    event = parse_event(data)
    assert isinstance(event, CallStatus)
    assert event.call_status == "CALL_RECEIVED"
    assert event.duration == timedelta(seconds=10)


@pytest.mark.parametrize(
    ("data", "event"),
    [
        ({"eventType": "TEA_TIME", "payload": {"a": None}}, UnknownEvent(event_type="TEA_TIME", payload={"a": None})),
        ({"eventType": "TEA_TIME"}, UnknownEvent(event_type="TEA_TIME", payload={"eventType": "TEA_TIME"})),
        ({"payload": {}}, UnknownEvent(payload={})),
        (
            {"namespace": "SMS", "eventType": "CALL_ACTION", "payload": {}},
            UnknownEvent(event_type="CALL_ACTION", namespace="SMS", payload={}),
        ),
    ],
)
def test_an_event_that_is_not_known_is_handed_on_as_it_came(data: Json, event: UnknownEvent) -> None:
    assert parse_event(data) == event


def test_what_is_not_an_event_is_refused() -> None:
    data: object
    for data in [
        None, [], "{}", 1, {}, {1: 2}, {"eventType": "CALL_ACTION"}, {"eventType": "SESSION_SUMMARY", "payload": []},
    ]:  # fmt: skip
        with pytest.raises(WebhookEventError) as caught:
            parse_event(data)
        assert isinstance(caught.value, InvalidInputError)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["null", "2024-03-25", "1e5"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)

KINDS = ["SESSION_SUMMARY", "CALL_ACTION", "CALL_STATUS", "CALL_RECORDING_STATUS", "VIRTUAL_NUMBER_UPDATE", "OTHER"]
NAMES = ["sessionId", "sessionStatus", "startTime", "callCount", "callDuration", "callDirection", "timestamp", "dtmf"]
LEG_NAMES = ["callId", "callDuration", "callQuality", "source", "connectedTimestamp", "callStatus"]
objects = st.dictionaries(st.sampled_from(NAMES + LEG_NAMES) | st.text(), json_values, max_size=6)
payloads = objects | st.fixed_dictionaries(
    {},
    optional={
        "details": st.fixed_dictionaries({}, optional={"callA": objects, "CallB": objects}) | json_values,
        "errorDetails": st.dictionaries(st.sampled_from(["errorCode", "errorMsg"]), json_values) | json_values,
        "eventData": st.fixed_dictionaries({}, optional={"dtmf": json_values}) | json_values,
        "virtualNumbers": st.lists(objects | json_values, max_size=3) | json_values,
        **dict.fromkeys(NAMES, json_values),
    },
)
events = json_values | st.fixed_dictionaries(
    {},
    optional={
        "namespace": st.sampled_from(["VOICE", "SMS"]) | json_values, "eventType": st.sampled_from(KINDS) | json_values,
        "payload": payloads | json_values, "version": json_values,
    },
)  # fmt: skip


@given(data=events)
def test_any_json_is_an_event_or_refused(data: object) -> None:
    before = deepcopy(data)
    try:
        event = parse_event(data)
    except WebhookEventError:
        return
    assert repr(before) == repr(data)
    if isinstance(event, SessionSummary):
        assert event.started_at is None or event.started_at.tzinfo is UTC


def test_people_who_asked_to_be_left_alone_are_not_to_be_called_again() -> None:
    assert {kind for kind in SessionStatus if "UNSUB" in kind.value} == status.OPT_OUTS
    assert all("not call this number again" in SESSION_STATUSES[kind].remedy for kind in status.OPT_OUTS)


@given(code=st.integers())
def test_any_code_can_be_looked_up(code: int) -> None:
    for lookup in (api_code, session_error):
        assert lookup(code).meaning


def test_known_spellings_are_folded_and_others_are_none() -> None:
    kind = SessionStatus
    spellings: dict[SessionStatus | None, tuple[object, ...]] = {
        kind.COMPLETED: ("COMPLETED",), kind.NO_ANSWER: ("NO_ANSWER", "NO ANSWER", "no-answer", "noAnswer"),
        kind.CANCELED: ("CANCELED", "CANCELLED"), kind.BUSY: (" Busy ",),
        kind.COMPLETED_UNSUB_ERROR: ("COMPLETED_UNSUB_ERROR",), kind.UNSUBSCRIBED_CONTACT: ("UNSUBSCRIBED CONTACT",),
        None: ("TELEPORTED", "", None, 7, ["BUSY"]),
    }  # fmt: skip
    for folded, written in spellings.items():
        assert [fold_session_status(each) for each in written] == [folded] * len(written)
