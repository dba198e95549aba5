"""The call flow as a value: built, parsed, looked at, compared."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from voiceflow_worker.errors import CallFlowError
from voiceflow_worker.model.flows.callflow import CallFlow

NOW = datetime(2026, 9, 20, 12, tzinfo=UTC)
SOURCE, DESTINATION = "+6531234567", "+6587654321"


def simple() -> CallFlow:
    return CallFlow.call(DESTINATION, source=SOURCE).say("Hello.", voice_profile="en-IE-EmilyNeural")


class TestBuilding:
    def test_only_what_was_set_is_sent(self) -> None:
        assert simple().hangup().to_body() == {
            "callflow": [
                {"action": "makeCall", "params": {"source": SOURCE, "destination": DESTINATION}},
                {"action": "say", "params": {"text": "Hello.", "voiceProfile": "en-IE-EmilyNeural"}},
                {"action": "hangup"},
            ]
        }

    def test_every_option_has_its_place(self) -> None:
        flow = (
            CallFlow.call(DESTINATION, source=SOURCE)
            .say("Hello.", voice_profile="a", repetition=2, speed=1.5)
            .play("https://example.com/a.mp3", repetition=3)
            .capture(
                "Press 1.",
                voice_profile="b",
                success_message="Thanks.",
                failure_message="Sorry.",
                speed=0.5,
                complete_on_hash=False,
                min_digits=1,
                max_digits=2,
                digit_timeout=timedelta(seconds=5),
                overall_timeout=timedelta(milliseconds=20500),
                tries=3,
            )
            .then_call("+6587654322", source=SOURCE)
        )
        assert flow.problems() == ()
        assert [entry["params"] for entry in flow.to_body()["callflow"]][1:] == [
            {"text": "Hello.", "voiceProfile": "a", "repetition": 2, "speed": 1.5},
            {"fileUrl": "https://example.com/a.mp3", "repetition": 3},
            {
                "promptMessage": "Press 1.",
                "voiceProfile": "b",
                "successMessage": "Thanks.",
                "failureMessage": "Sorry.",
                "speed": 0.5,
                "completeOnHash": False,
                "minDigits": 1,
                "maxDigits": 2,
                "digitTimeout": 5000,
                "overallTimeout": 20500,
                "noOfTries": 3,
            },
            {"source": SOURCE, "destination": "+6587654322"},
        ]

    def test_times_and_ids_are_set_by_replace(self) -> None:
        singapore = timezone(timedelta(hours=8))
        flow = simple().replace(
            valid_until=datetime(2026, 9, 20, 20, 0, 0, 123_999, tzinfo=singapore),
            client_request_id="order-42",
            client_batch_id="september",
        )
        body = flow.to_body()
        assert body["validUntil"] == "2026-09-20T12:00:00.123Z"
        assert (body["clientRequestId"], body["clientBatchId"]) == ("order-42", "september")
        assert flow.valid_until == NOW + timedelta(milliseconds=123)
        assert flow.replace(client_batch_id="october").client_request_id == "order-42"

    def test_a_time_without_a_zone_is_refused(self) -> None:
        with pytest.raises(ValueError, match="needs a time zone"):
            simple().replace(valid_until=datetime(2026, 9, 20))  # noqa: DTZ001


class TestAnswers:
    def test_numbers_are_read_as_in_files(self) -> None:
        flow = CallFlow.call("9123 4567", country="SG", source="(65) 3123 4567")
        assert (flow.destination, flow.source) == ("+6591234567", "+6531234567")
        bridge = CallFlow.bridge(source="+65 3123 4567", destination="8765 4321", country="SG")
        assert bridge.destinations == ("+6587654321",)

    def test_a_number_that_is_not_certain_is_refused(self) -> None:
        for destination, source, country, code, name in [
            ("81234567", "+6531234567", None, -1017, "destination"),
            ("6587654321", "+6531234567", None, -1017, "destination"),
            ("+6587654321", "6531234567", None, -1009, "source"),
            ("001 60 4 262 1234", "+6531234567", "SG", -1017, "destination"),
            ("6123 4567/8", "+6531234567", "SG", -1017, "destination"),
            ("+49 30 123456/78", "+6531234567", None, -1011, "destination"),
        ]:
            flows = (
                CallFlow.call(destination, source=source, country=country).say(
                    "Hello.", voice_profile="en-IE-EmilyNeural"
                ),
                CallFlow.bridge(destination=destination, source=source, country=country).hangup(),
            )
            for flow in flows:
                kept = flow.replace(client_batch_id="march") if not flow.is_reply else flow
                (found,) = [each for each in kept.problems() if each.is_error]
                assert (found.code, found.path) == (code, f"$.callflow[0].params.{name}")
                assert "write it with +" in found.message
                assert getattr(kept, name) is None
                for use in (kept.validated, kept.to_body, kept.to_json):
                    with pytest.raises(CallFlowError, match=r"write it with \+"):
                        use()

    def test_bodies_stay_as_the_guides_print_them(self) -> None:
        body = CallFlow.call("+6512345678", source="+6587654321").hangup().to_body()
        body["callflow"][0]["params"]["destination"] = "6512345678"
        assert CallFlow.parse(body).destination == "+6512345678"

    def test_an_answer_can_begin_with_a_bridge(self) -> None:
        flow = CallFlow.bridge(source=SOURCE, destination=DESTINATION, recording=True, client_action_id="agent")
        assert flow.problems() == ()
        assert flow.to_body() == {
            "clientActionId": "agent",
            "callflow": [
                {
                    "action": "makeCall",
                    "params": {"source": SOURCE, "destination": DESTINATION, "callRecording": True},
                }
            ],
        }

    def test_a_bridge_after_other_actions_keeps_them(self) -> None:
        flow = CallFlow.reply("a").say("One moment.", voice_profile="b").bridge(source=SOURCE, destination=DESTINATION)
        assert [entry["action"] for entry in flow.actions] == ["say", "makeCall"]
        assert flow.client_action_id == "a"
        assert flow.is_reply

    def test_an_answer_is_not_equal_to_a_request(self) -> None:
        body = simple().to_body()
        assert CallFlow.parse(body, reply=True) != CallFlow.parse(body)


class TestParsing:
    def test_text_and_bytes_are_strict_json(self) -> None:
        flow = simple()
        assert CallFlow.parse(flow.to_json()) == flow
        assert CallFlow.parse(flow.to_json().decode()) == flow

    def test_broken_json_is_one_finding_with_its_place(self) -> None:
        text: Any
        for text in ["", "{", '{"callflow": [],}', "// hi\n{}", "NaN", b"\xff{}", "\ud800"]:
            with pytest.raises(CallFlowError) as caught:
                CallFlow.parse(text)
            (found,) = caught.value.findings
            assert (found.code, found.path) == (-1001, "$")
            assert "line" in found.message

    def test_what_was_handed_in_stays_its_owners(self) -> None:
        body = simple().to_body()
        flow = CallFlow.parse(body)
        body["callflow"].clear()
        flow.to_body()["callflow"].clear()
        assert len(flow.actions) == 2

    def test_a_past_validity_is_not_an_error_unless_now_is_given(self) -> None:
        flow = CallFlow.parse(simple().replace(valid_until=NOW).to_body())
        assert flow.validated() is flow
        assert [found.code for found in flow.problems(now=NOW)] == [-1015]
        with pytest.raises(CallFlowError, match="has expired"):
            flow.validated(now=NOW)
        assert flow.validated(now=NOW - timedelta(seconds=1)) is flow

    def test_what_is_not_json_cannot_be_printed(self) -> None:
        with pytest.raises(CallFlowError, match="-1017"):
            CallFlow.call("\ud800", source=SOURCE).to_json()
        with pytest.raises(CallFlowError, match="invalid JSON"):
            CallFlow({"callflow": [simple().actions[0]], "x": object()}).to_json()


class TestMeaning:
    def test_flows_that_mean_the_same_are_equal(self) -> None:
        one = CallFlow.parse(
            {
                "validUntil": "2026-09-20T12:00:00.000Z",
                "callflow": [
                    {"action": "makeCall", "params": {"source": "6531234567", "destination": "6587654321"}},
                    {"action": "say", "params": {"text": "Hello.", "voiceProfile": "a", "speed": 1}},
                    {"action": "hangup", "params": {}},
                ],
            }
        )
        other = CallFlow.parse(
            {
                "clientRequestId": None,
                "callflow": (
                    {"params": {"destination": DESTINATION, "source": SOURCE}, "action": "makeCall"},
                    {
                        "action": "say",
                        "params": {"voiceProfile": "a", "text": "Hello.", "speed": 1.0, "repetition": None},
                    },
                    {"action": "hangup"},
                ),
                "validUntil": "2026-09-20T12:00:00Z",
            }
        )
        assert one == other
        assert hash(one) == hash(other)
        assert {one, other} == {one}
