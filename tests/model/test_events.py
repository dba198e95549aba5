"""Webhook events as the 8x8 guides print them and as they come in the wild."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceflow_worker.errors import InvalidInputError, WebhookEventError
from voiceflow_worker.model.reports.events import (
    ActionStatus,
    CallAction,
    CallQuality,
    CallStatus,
    Direction,
    Leg,
    NumberUpdate,
    RecordingReady,
    SessionSummary,
    UnknownEvent,
    parse_event,
)
from voiceflow_worker.model.reports.status import SessionStatus

Json = dict[str, Any]

SUMMARY: Json = {
    "payload": {
        "sessionId": "1f048a84-ea6d-11ee-911b-078f7290bf52",
        "subAccountId": "8x8_test",
        "sessionStatus": "COMPLETED",
        "startTime": "2024-03-25T06:01:30Z",
        "endTime": "2024-03-25T06:01:50Z",
        "lastAction": "MAKE_CALL",
        "callCount": 1,
        "clientRequestId": "default.01J.1",
        "clientBatchId": "reminders",
        "details": {
            "CallA": {
                "callId": "1f048a83-ea6d-11ee-911b-e9023a97c284",
                "callDirection": "OUTBOUND",
                "callType": "PSTN",
                "initiatedTimestamp": "2024-03-25T06:01:28Z",
                "connectedTimestamp": "2024-03-25T06:01:37Z",
                "disconnectedTimestamp": "2024-03-25T06:01:50Z",
                "source": "+12314377870",
                "destination": "6568332048",
                "sourceFormat": "MSISDN",
                "destinationFormat": "MSISDN",
                "sourceCountryCode": "US",
                "destinationCountryCode": "SG",
                "SourceRefId": "null",
                "callStatus": "COMPLETED",
                "callDuration": 13,
                "callQuality": {"mos": 4.5, "packetLossRate": 0, "jitter": 20},
            }
        },
    },
    "namespace": "VOICE",
    "eventType": "SESSION_SUMMARY",
    "description": "Summary of a completed call session",
}
ACTION: Json = {
    "namespace": "VOICE",
    "eventType": "CALL_ACTION",
    "description": "Action request of a call",
    "payload": {
        "eventId": "77e6a667-133a-11ef-9dd4-e911cc6fc82f",
        "callId": "627e25f1-133a-11ef-b08c-e33c09483244",
        "sessionId": "a4fad4b3-b388-12ee-b217-2fb8260fcf59",
        "subAccountId": "account_x",
        "callStatus": "ACTION_COMPLETED",
        "callDirection": "OUTBOUND",
        "callType": "PSTN",
        "source": "+6568888888",
        "destination": "+6598888888",
        "sourceFormat": "MSISDN",
        "destinationFormat": "MSISDN",
        "sourceCountryCode": "SG",
        "destinationCountryCode": "SG",
        "callDuration": 0,
        "eventData": {"dtmf": "1"},
        "sipCode": 200,
        "timestamp": "2024-05-16T04:12:11.217Z",
        "clientActionId": "ivr1_level1",
    },
}


def summary(**changes: object) -> SessionSummary:
    data = deepcopy(SUMMARY)
    data["payload"].update(changes)
    event = parse_event(data)
    assert isinstance(event, SessionSummary)
    return event


def action(**changes: object) -> CallAction:
    data = deepcopy(ACTION)
    data["payload"].update(changes)
    event = parse_event(data)
    assert isinstance(event, CallAction)
    return event


class TestSessionSummary:
    def test_a_summary_is_read_whole(self) -> None:
        assert summary() == SessionSummary(
            session_id="1f048a84-ea6d-11ee-911b-078f7290bf52",
            sub_account_id="8x8_test",
            status=SessionStatus.COMPLETED,
            status_text="COMPLETED",
            started_at=datetime(2024, 3, 25, 6, 1, 30, tzinfo=UTC),
            ended_at=datetime(2024, 3, 25, 6, 1, 50, tzinfo=UTC),
            last_action="MAKE_CALL",
            call_count=1,
            client_request_id="default.01J.1",
            client_batch_id="reminders",
            call_a=Leg(
                call_id="1f048a83-ea6d-11ee-911b-e9023a97c284",
                direction=Direction.OUTBOUND,
                call_type="PSTN",
                initiated_at=datetime(2024, 3, 25, 6, 1, 28, tzinfo=UTC),
                connected_at=datetime(2024, 3, 25, 6, 1, 37, tzinfo=UTC),
                disconnected_at=datetime(2024, 3, 25, 6, 1, 50, tzinfo=UTC),
                source="+12314377870",
                destination="+6568332048",
                source_format="MSISDN",
                destination_format="MSISDN",
                source_country="US",
                destination_country="SG",
                status=SessionStatus.COMPLETED,
                status_text="COMPLETED",
                duration=timedelta(seconds=13),
                quality=CallQuality(mos=4.5, packet_loss_rate=0.0, jitter=timedelta(milliseconds=20)),
            ),
            extra={},
        )

    def test_what_is_not_known_is_kept(self) -> None:
        data = deepcopy(SUMMARY)
        data["traceId"] = "t"
        data["version"] = 2
        data["payload"] |= {"price": 0.1, "errorDetails": {"errorCode": -2001, "hint": "h"}, "nothing": None}
        data["payload"]["details"] |= {"callC": {"callId": "c"}}
        data["payload"]["details"]["CallA"] |= {"codec": "PCMU"}
        event = parse_event(data)
        assert isinstance(event, SessionSummary)
        assert event.extra == {
            "traceId": "t",
            "price": 0.1,
            "errorDetails": {"hint": "h"},
            "details": {"callC": {"callId": "c"}},
        }
        assert event.legs[0].extra == {"codec": "PCMU"}

    def test_what_cannot_be_read_is_none_and_kept_as_it_was(self) -> None:
        event = summary(startTime="yesterday", callCount="many", sessionId=["a"], details="none", endTime=-5)
        assert (event.started_at, event.ended_at, event.call_count, event.session_id) == (None, None, None, None)
        assert event.legs == ()
        assert event.extra == {
            "startTime": "yesterday",
            "callCount": "many",
            "sessionId": ["a"],
            "details": "none",
            "endTime": -5,
        }


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        ("2024-03-25T06:01:30Z", datetime(2024, 3, 25, 6, 1, 30, tzinfo=UTC)),
        ("2024-03-25T06:01:30.123456789Z", datetime(2024, 3, 25, 6, 1, 30, 123456, tzinfo=UTC)),
        ("2024-03-25T14:01:30+08:00", datetime(2024, 3, 25, 6, 1, 30, tzinfo=UTC)),
        ("2024-03-25T06:01:30+0000", datetime(2024, 3, 25, 6, 1, 30, tzinfo=UTC)),
        ("2024-03-25T06:01:30", datetime(2024, 3, 25, 6, 1, 30, tzinfo=UTC)),
        ("2024-03-25 06:01:30", datetime(2024, 3, 25, 6, 1, 30, tzinfo=UTC)),
        (1711346490123, datetime(2024, 3, 25, 6, 1, 30, 123000, tzinfo=UTC)),
        ("1711346490123", datetime(2024, 3, 25, 6, 1, 30, 123000, tzinfo=UTC)),
        (1711346490, datetime(2024, 3, 25, 6, 1, 30, tzinfo=UTC)),
        ("2024-02-30T00:00:00Z", None),
        ("0001-01-01T00:00:00+14:00", None),
        (10**17, None),
        (float("nan"), None),
        (True, None),
        ("null", None),
        ("", None),
        ({}, None),
    ],
)
def test_a_time_is_read_in_every_form_that_was_seen(given: object, moment: datetime | None) -> None:
    event = summary(startTime=given)
    assert event.started_at == moment
    if moment is not None:
        assert event.started_at is not None
        assert event.started_at.tzinfo is UTC


class TestCallAction:
    def test_an_action_request_is_read_whole(self) -> None:
        assert action() == CallAction(
            event_id="77e6a667-133a-11ef-9dd4-e911cc6fc82f",
            call_id="627e25f1-133a-11ef-b08c-e33c09483244",
            session_id="a4fad4b3-b388-12ee-b217-2fb8260fcf59",
            sub_account_id="account_x",
            call_status=ActionStatus.ACTION_COMPLETED,
            status_text="ACTION_COMPLETED",
            direction=Direction.OUTBOUND,
            call_type="PSTN",
            source="+6568888888",
            destination="+6598888888",
            source_country="SG",
            destination_country="SG",
            dtmf="1",
            client_action_id="ivr1_level1",
            duration=timedelta(0),
            sip_code=200,
            timestamp=datetime(2024, 5, 16, 4, 12, 11, 217000, tzinfo=UTC),
            extra={"sourceFormat": "MSISDN", "destinationFormat": "MSISDN"},
        )

    @pytest.mark.parametrize(
        ("data", "dtmf"),
        [
            ({"dtmf": None}, None),
            ({"dtmf": "null"}, None),
            ({"dtmf": ""}, None),
            ({"dtmf": 12}, "12"),
            ({"dtmf": "12#"}, "12#"),
            ({"dtmf": "0"}, "0"),
            (None, None),
            (" ", None),
        ],
    )
    def test_keys_pressed_are_text_and_none_pressed_is_none(self, data: object, dtmf: str | None) -> None:
        assert action(eventData=data).dtmf == dtmf

    def test_keys_may_stand_beside_the_event_data(self) -> None:
        event = action(eventData=None, dtmf="3", callStatus="DTMF_RECEIVED")
        assert (event.dtmf, event.call_status) == ("3", ActionStatus.DTMF_RECEIVED)


def test_a_text_of_any_length_is_not_a_burden_and_an_identifier_is_never_cut_into_another() -> None:
    event = summary(sessionId="s" * 201, errorDetails={"errorMsg": "m" * 100_000}, lastAction="a" * 100_000)
    assert event.session_id is None
    assert event.extra == {"sessionId": "s" * 201}
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
    assert event.source_country is None
    assert event.extra["eventData"] == {"dtmf": "1"}


def test_a_recording_is_read() -> None:
    event = parse_event(
        {
            "namespace": "VOICE",
            "eventType": "CALL_RECORDING_STATUS",
            "description": "Call recording status updated",
            "payload": {
                "sessionId": "e35e3d0e-065a-11ec-b119-676cb2bc33ef",
                "recordingId": "eef54fc2-065a-11ec-bce9-ed1000154345",
                "durationSeconds": 25,
                "filePath": "recordings/2021-08-21/a.mp3",
                "status": "UPLOAD_COMPLETED",
            },
        }
    )
    assert event == RecordingReady(
        session_id="e35e3d0e-065a-11ec-b119-676cb2bc33ef",
        recording_id="eef54fc2-065a-11ec-bce9-ed1000154345",
        status="UPLOAD_COMPLETED",
        duration=timedelta(seconds=25),
        file_path="recordings/2021-08-21/a.mp3",
    )


def test_a_number_update_is_read() -> None:
    event = parse_event(
        {
            "namespace": "VOICE",
            "eventType": "VIRTUAL_NUMBER_UPDATE",
            "payload": {
                "subAccountId": "MySubAccount",
                "totalNumbers": 2,
                "updateEventType": "UPDATES",
                "virtualNumbers": [
                    {
                        "msisdn": "+65123456789",
                        "updatedTimestamp": "2023-02-17T05:10:14.760Z",
                        "countryCode": "SG",
                        "operationalStatus": "Active",
                        "referenceId": "MyVirtualNumber-1",
                        "rentalPrice": 5.0,
                        "updateStatus": "UPDATED",
                    },
                    "junk",
                ],
            },
        }
    )
    assert isinstance(event, NumberUpdate)
    assert (event.sub_account_id, event.total_numbers, event.kind) == ("MySubAccount", 2, "UPDATES")
    (number,) = event.numbers
    assert (number.msisdn, number.country, number.operational_status) == ("+65123456789", "SG", "Active")
    assert number.updated_at == datetime(2023, 2, 17, 5, 10, 14, 760000, tzinfo=UTC)
    assert number.extra == {"rentalPrice": 5.0}
    assert "virtualNumbers" in event.extra  # not every entry could be read


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


@pytest.mark.parametrize(
    "data",
    [None, [], "{}", 1, {}, {1: 2}, {"eventType": "CALL_ACTION"}, {"eventType": "SESSION_SUMMARY", "payload": []}],
)
def test_what_is_not_an_event_is_refused(data: object) -> None:
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
        "namespace": st.sampled_from(["VOICE", "SMS"]) | json_values,
        "eventType": st.sampled_from(KINDS) | json_values,
        "payload": payloads | json_values,
        "version": json_values,
    },
)


@settings(deadline=None, max_examples=400)
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
