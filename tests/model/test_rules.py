"""Call flows, and every rule of the contract that can be found before sending: its path, code and weight."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow_worker.errors import CallFlowError
from voiceflow_worker.model.flows.actions import ParamKind
from voiceflow_worker.model.flows.callflow import CallFlow, find_problems
from voiceflow_worker.model.flows.models import PARAMS

Body = dict[str, Any]
NOW = datetime(2026, 9, 20, 12, tzinfo=UTC)


def call(**params: object) -> Body:
    return {"action": "makeCall", "params": {"source": "+6531234567", "destination": "+6587654321", **params}}


def say(**params: object) -> Body:
    return {"action": "say", "params": {"text": "Hello.", "voiceProfile": "en-IE-EmilyNeural", **params}}


def play(**params: object) -> Body:
    return {"action": "playFile", "params": {"fileUrl": "https://example.com/a.mp3", **params}}


def menu(**params: object) -> Body:
    return {"action": "sayAndCapture", "params": {"promptMessage": "Press 1.", "voiceProfile": "en-US-Ana", **params}}


def request(*actions: object, **keys: object) -> Body:
    return {"callflow": list(actions), **keys}


def without(action: Body, *names: str) -> Body:
    return {"action": action["action"], "params": {k: v for k, v in action["params"].items() if k not in names}}


def errors(body: object, *, reply: bool = False) -> list[tuple[str | None, int | None]]:
    return [(found.path, found.code) for found in find_problems(body, reply=reply) if found.is_error]


def warnings(body: object, *, reply: bool = False) -> list[tuple[str | None, int | None]]:
    return [(found.path, found.code) for found in find_problems(body, reply=reply) if not found.is_error]


SCENARIO: Body = {"action": "executeScenario", "params": {"scenarioName": "welcome"}}
FLOW = "$.callflow"
TO = "$.callflow[0].params.destination"
SECOND = "$.callflow[1].params"

ERRORS: list[tuple[str, object, str, int]] = [
    ("the body is an array", [], "$", -1001),
    ("a key is no string", {1: 2}, "$", -1001),
    ("an unknown key holds what is not JSON", request(call(), then=NOW), "$.then", -1001),
    ("an unknown param holds NaN", request(call(weight=float("nan"))), f"{FLOW}[0].params.weight", -1001),
    ("an unknown param holds 65 bits", request(call(weight=2**64)), f"{FLOW}[0].params.weight", -1001),
    ("there is no callflow", {}, FLOW, -1013),
    ("the callflow is empty", {"callflow": []}, FLOW, -1013),
    ("the callflow is an object", {"callflow": {}}, FLOW, -1009),
    ("the first action speaks", request(say()), f"{FLOW}[0].action", -1013),
    ("an action is text", request(call(), "hangup"), f"{FLOW}[1]", -1009),
    ("an action has no name", request(call(), {"params": {}}), f"{FLOW}[1].action", -1009),
    ("an action is unknown", request(call(), {"action": "dance"}), f"{FLOW}[1].action", -1007),
    ("an action has another case", request(call(), {**say(), "action": "Say"}), f"{FLOW}[1].action", -1007),
    ("the first action has another case", request({**call(), "action": "makecall"}), f"{FLOW}[0].action", -1007),
    ("a third call is made", request(call(), call(), call()), f"{FLOW}[2].action", -1010),
    ("hangup has params", request(call(), {"action": "hangup", "params": {"now": True}}), SECOND, -1012),
    ("hangup is not last", request(call(), {"action": "hangup"}, say()), f"{FLOW}[1]", -1012),
    ("there is no destination", request(without(call(), "destination")), TO, -1009),
    ("the destination is empty", request(call(destination=" ")), TO, -1009),
    ("the source is malformed", request(call(source="Shop")), f"{FLOW}[0].params.source", -1009),
    ("destinations are a list", request(call(destination=["+6587654321"])), TO, -1011),
    (
        "destinations are in one text", request(call(destination="+6587654321,+6587654322")), TO, -1011,
    ),
    ("the destination has spaces", request(call(destination="+65 8765 4321")), TO, -1017),
    ("the destination begins with 0", request(call(destination="087654321")), TO, -1017),
    ("there is no text", request(call(), without(say(), "text")), f"{SECOND}.text", -1009),
    ("the text is blank", request(call(), say(text="  ")), f"{SECOND}.text", -1009),
    ("the text is long", request(call(), say(text="a" * 3001)), f"{SECOND}.text", -1009),
    ("the text has a control character", request(call(), say(text="a\x00b")), f"{SECOND}.text", -1016),
    ("the text has half an emoji", request(call(), say(text="a\ud83d")), f"{SECOND}.text", -1016),
    ("there is no voiceProfile", request(call(), without(say(), "voiceProfile")), f"{SECOND}.voiceProfile", -1009),
    ("repetition is 4", request(call(), say(repetition=4)), f"{SECOND}.repetition", -1009),
    ("repetition is true", request(call(), say(repetition=True)), f"{SECOND}.repetition", -1009),
    ("speed is 2.1", request(call(), say(speed=2.1)), f"{SECOND}.speed", -1009),
    ("speed is NaN", request(call(), say(speed=float("nan"))), f"{SECOND}.speed", -1009),
    ("there is no fileUrl", request(call(), without(play(), "fileUrl")), f"{SECOND}.fileUrl", -1009),
    ("the fileUrl is ftp", request(call(), play(fileUrl="ftp://example.com/a.mp3")), f"{SECOND}.fileUrl", -1009),
    ("the fileUrl is broken", request(call(), play(fileUrl="http://[::1")), f"{SECOND}.fileUrl", -1009),
    ("failureMessage rings a bell", request(call(), menu(failureMessage="\a")), f"{SECOND}.failureMessage", -1016),
    ("noOfTries is 0", request(call(), menu(noOfTries=0)), f"{SECOND}.noOfTries", -1009),
    ("minDigits is negative", request(call(), menu(minDigits=-1, maxDigits=1)), f"{SECOND}.minDigits", -1009),
    ("minDigits stands alone", request(call(), menu(minDigits=1)), f"{SECOND}.maxDigits", -1003),
    ("maxDigits is less", request(call(), menu(minDigits=4, maxDigits=3)), f"{SECOND}.maxDigits", -1003),
    ("maxDigits is text", request(call(), menu(minDigits=4, maxDigits="4")), f"{SECOND}.maxDigits", -1009),
    ("digitTimeout stands alone", request(call(), menu(digitTimeout=1)), f"{SECOND}.overallTimeout", -1005),
    (
        "digitTimeout is the longer one", request(call(), menu(digitTimeout=10001, overallTimeout=10000)),
        f"{SECOND}.overallTimeout", -1006,
    ),
    ("# ends nothing, nor does a count", request(call(), menu(completeOnHash=False)), f"{SECOND}.maxDigits", -1008),
    (
        "26 digits are asked for", request(call(), menu(completeOnHash=False, maxDigits=26)), f"{SECOND}.maxDigits",
        -1008,
    ),
    ("a scenario is beside other actions", request(call(), SCENARIO), f"{FLOW}[1].action", -1018),
    ("a scenario is alone", request(SCENARIO), f"{FLOW}[0].params.scenarioName", -1020),
    ("validUntil is no day", request(call(), validUntil="2026-02-30T00:00:00.000Z"), "$.validUntil", -1009),
    ("validUntil has an offset", request(call(), validUntil="2026-12-31T08:00:00.000+08:00"), "$.validUntil", -1009),
    ("clientRequestId is long", request(call(), clientRequestId="a" * 51), "$.clientRequestId", -1009),
    ("clientRequestId has a NUL", request(call(), clientRequestId="a\x00"), "$.clientRequestId", -1016),
    ("clientBatchId is long", request(call(), clientBatchId="a" * 51), "$.clientBatchId", -1009),
]  # fmt: skip


def test_a_broken_rule_is_one_error_with_its_path_and_code() -> None:
    for body, path, code in [row[1:] for row in ERRORS]:
        assert errors(body) == [(path, code)]
        if isinstance(body, dict):
            with pytest.raises(CallFlowError) as caught:
                CallFlow.parse(body)
            assert [found.code for found in caught.value.findings if found.is_error] == [code]


WARNINGS: list[tuple[str, object, str, int | None]] = [
    ("the body has an unknown key", request(call(), priority=1), "$.priority", None),
    ("the body has the key of answers", request(call(), clientActionId="a"), "$.clientActionId", None),
    ("a key has another case", request(call(), validuntil="2026"), "$.validuntil", None),
    ("a key is no name", request(call(), **{"a b": 1}), "$['a b']", None),
    ("an action has an unknown key", request({**call(), "id": 1}), f"{FLOW}[0].id", None),
    ("a param is unknown", request(call(), say(language="en")), f"{SECOND}.language", None),
    ("a recording is asked for", request(call(callRecording=True)), f"{FLOW}[0].params.callRecording", None),
    ("a number is not assigned", request(call(destination="6512345678")), TO, None),
    ("a template is not filled in", request(call(), say(text="Hello {{name}}")), f"{SECOND}.text", None),
    (
        "the timeouts are equal", request(call(), menu(digitTimeout=9, overallTimeout=9)), f"{SECOND}.overallTimeout",
        -1006,
    ),
    ("maxDigits is over 25", request(call(), menu(maxDigits=26)), f"{SECOND}.maxDigits", None),
    ("clientRequestId is empty", request(call(), clientRequestId=""), "$.clientRequestId", None),
]  # fmt: skip


def test_what_is_only_odd_is_a_warning() -> None:
    for body, path, code in [row[1:] for row in WARNINGS]:
        assert errors(body) == []
        assert warnings(body) == [(path, code)]


FINE: list[tuple[str, Body]] = [
    ("hangup has empty params", request(call(), {"action": "hangup", "params": {}})),
    ("speed is a float", request(call(), say(speed=0.5))),
    ("repetition is 3.0", request(call(), say(repetition=3.0))),
    ("optional params are null", request(call(), menu(successMessage=None, minDigits=None, digitTimeout=None))),
    ("the text has 3000 characters", request(call(), say(text="a" * 3000))),
    ("the text has lines and an emoji", request(call(), say(text="Hello.\r\n\tBye \U0001f44b"))),
    ("# may end a long input", request(call(), menu(completeOnHash=True))),
    ("two calls are bridged", request(call(), say(), call())),
    ("numbers have no +", request(call(source="6531234567", destination="6587654321"))),
    ("a file is wav", request(call(), play(fileUrl="HTTP://example.com/A.WAV"))),
    ("a file has no extension", request(call(), play(fileUrl="https://example.com/v1.2/audio"))),
    ("the top keys are null", request(call(), validUntil=None, clientRequestId=None, clientBatchId=None)),
    ("ids have 50 characters", request(call(), clientRequestId="a" * 50, clientBatchId="b" * 50)),
]


def test_what_the_contract_allows_has_no_findings() -> None:
    for body in [row[1] for row in FINE]:
        assert find_problems(body) == ()


def test_a_value_that_is_nested_too_deeply_is_an_error() -> None:
    value: list[object] = []
    for _ in range(2000):
        value = [value]
    (problem,) = [found for found in find_problems(request(call(), extra=value)) if found.is_error]
    assert (problem.path, problem.code) == ("$.extra", -1001)


def test_all_findings_come_at_once_in_the_order_of_the_body() -> None:
    body = request(say(text=""), {"action": "hangup"}, call(destination=1, source="x"), priority=1, clientBatchId=5)
    assert [(found.path, found.code, found.is_error) for found in find_problems(body)] == [
        ("$.callflow[0].action", -1013, True), ("$.callflow[0].params.text", -1009, True),
        ("$.callflow[1]", -1012, True), ("$.callflow[2].params.source", -1009, True),
        ("$.callflow[2].params.destination", -1009, True), ("$.clientBatchId", -1009, True),
        ("$.priority", None, False),
    ]  # fmt: skip


def test_an_action_in_another_case_is_looked_at_all_the_same() -> None:
    assert errors(
        request({"action": "MakeCall", "params": {"source": "+6531234567"}}, {"action": "HANGUP"}, say())
    ) == [
        ("$.callflow[0].action", -1007), ("$.callflow[0].params.destination", -1009), ("$.callflow[1].action", -1007),
        ("$.callflow[1]", -1012),
    ]  # fmt: skip


def test_control_characters_are_refused_but_for_white_space() -> None:
    for character in [*map(chr, range(32)), *map(chr, range(0x7F, 0xA0)), "\udc00"]:
        expected = [] if character in "\t\n\r" else [(f"{SECOND}.text", -1016)]
        assert errors(request(call(), say(text=f"Hello{character}there"))) == expected


def test_a_validity_that_has_passed_is_a_warning_once_now_is_given() -> None:
    body = request(call(), validUntil="2026-09-20T12:00:00.000Z")
    assert find_problems(body) == ()
    (found,) = find_problems(body, now=NOW)
    assert (found.path, found.code, found.is_error) == ("$.validUntil", -1015, False)
    assert find_problems(body, now=NOW - timedelta(milliseconds=1)) == ()


class TestAnswers:
    def test_they_may_begin_with_any_action_and_record(self) -> None:
        assert find_problems(request(say(), call(callRecording=True), clientActionId="menu"), reply=True) == ()
        assert find_problems(request({"action": "hangup"}), reply=True) == ()

    def test_they_know_no_keys_of_requests(self) -> None:
        body = request(say(), clientRequestId="a", clientBatchId="b", validUntil="2026-12-31T09:00:00.000Z")
        assert errors(body, reply=True) == []
        assert [path for path, _ in warnings(body, reply=True)] == [
            "$.clientRequestId", "$.clientBatchId", "$.validUntil",
        ]  # fmt: skip

    def test_their_actions_obey_the_same_rules(self) -> None:
        body = request({"action": "hangup"}, say(text=""), menu(minDigits=1), clientActionId=1)
        assert errors(body, reply=True) == [
            ("$.callflow[0]", -1012), ("$.callflow[1].params.text", -1009), ("$.callflow[2].params.maxDigits", -1003),
            ("$.clientActionId", -1009),
        ]  # fmt: skip

    def test_one_without_a_callflow_is_refused_and_an_empty_one_warned_of(self) -> None:
        assert errors({}, reply=True) == [("$.callflow", -1009)]
        assert errors({"callflow": []}, reply=True) == []
        assert warnings({"callflow": []}, reply=True) == [("$.callflow", None)]

    def test_two_calls_in_one_are_warned_of_and_three_refused(self) -> None:
        assert errors(request(call(), call()), reply=True) == []
        assert warnings(request(call(), call()), reply=True) == [("$.callflow[1].action", -1010)]
        assert errors(request(call(), call(), call()), reply=True) == [("$.callflow[2].action", -1010)]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(sorted({"action", "params", *(name for params in PARAMS.values() for name in params)}))
likely = st.sampled_from(["makeCall", "say", "hangup", "executeScenario", "+6587654321", 1, 10000, False, None, "a"])
actions = st.fixed_dictionaries(
    {},
    optional={
        "action": likely | json_values,
        "params": st.dictionaries(names | st.text(), likely | json_values, max_size=6) | json_values,
        "other": json_values,
    },
)
bodies = json_values | st.fixed_dictionaries(
    {},
    optional={
        "callflow": st.lists(
            st.sampled_from([call(), say(), play(), menu(), {"action": "hangup"}]) | actions | json_values, max_size=5
        ),
        "validUntil": json_values,
        "clientRequestId": json_values,
        "clientActionId": json_values,
        "other": json_values,
    },
)


@given(body=bodies, reply=st.booleans())
def test_any_json_is_judged_without_an_exception_and_what_passes_can_be_sent(body: object, reply: bool) -> None:
    findings = find_problems(body, now=NOW, reply=reply)
    assert all(found.path is not None and found.path.startswith("$") and found.message for found in findings)
    if any(found.is_error for found in findings):
        with pytest.raises(CallFlowError):
            CallFlow.parse(body if isinstance(body, dict) else b"[]", reply=reply)
    else:
        assert isinstance(body, dict)
        flow = CallFlow.parse(body, reply=reply)
        assert flow.to_body() == body
        assert CallFlow.parse(flow.to_json(), reply=reply) == flow
        assert hash(CallFlow.parse(flow.to_json(), reply=reply)) == hash(flow)


@pytest.mark.parametrize(
    "value",
    [10**400, -(10**5000), 1e308, float("inf"), float("nan")],
    ids=["large", "very-large", "float", "infinite", "nan"],
)
def test_a_number_that_is_too_large_for_a_parameter_is_a_finding(value: float) -> None:
    for action, params in PARAMS.items():
        for name in (name for name, param in params.items() if param.kind in {ParamKind.INTEGER, ParamKind.NUMBER}):
            entry = {"action": action.value, "params": {name: value}}
            assert f"$.callflow[0].params.{name}" in {found.path for found in find_problems({"callflow": [entry]})}


# -- call flows: built, read, compared ---------------------------------------------------------------------------------

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
                "Press 1.", voice_profile="b", success_message="Thanks.", failure_message="Sorry.", speed=0.5,
                complete_on_hash=False, min_digits=1, max_digits=2, digit_timeout=timedelta(seconds=5),
                overall_timeout=timedelta(milliseconds=20500), tries=3,
            )
            .then_call("+6587654322", source=SOURCE)
        )  # fmt: skip
        assert flow.problems() == ()
        assert [entry["params"] for entry in flow.to_body()["callflow"]][1:] == [
            {"text": "Hello.", "voiceProfile": "a", "repetition": 2, "speed": 1.5},
            {"fileUrl": "https://example.com/a.mp3", "repetition": 3},
            {
                "promptMessage": "Press 1.", "voiceProfile": "b", "successMessage": "Thanks.",
                "failureMessage": "Sorry.", "speed": 0.5, "completeOnHash": False, "minDigits": 1, "maxDigits": 2,
                "digitTimeout": 5000, "overallTimeout": 20500, "noOfTries": 3,
            },
            {"source": SOURCE, "destination": "+6587654322"},
        ]  # fmt: skip

    def test_times_and_ids_are_set_by_replace(self) -> None:
        until = datetime(2026, 9, 20, 20, 0, 0, 123_999, tzinfo=timezone(timedelta(hours=8)))
        flow = simple().replace(valid_until=until, client_request_id="order-42", client_batch_id="september")
        body = flow.to_body()
        assert body["validUntil"] == "2026-09-20T12:00:00.123Z"
        assert (body["clientRequestId"], body["clientBatchId"]) == ("order-42", "september")
        assert flow.valid_until == NOW + timedelta(milliseconds=123)
        assert flow.replace(client_batch_id="october").client_request_id == "order-42"
        with pytest.raises(ValueError, match="needs a time zone"):
            simple().replace(valid_until=datetime(2026, 9, 20))  # noqa: DTZ001


class TestNumbersAndBridges:
    def test_numbers_are_read_as_in_files(self) -> None:
        flow = CallFlow.call("9123 4567", country="SG", source="(65) 3123 4567")
        assert (flow.destination, flow.source) == ("+6591234567", "+6531234567")
        bridge = CallFlow.bridge(source="+65 3123 4567", destination="8765 4321", country="SG")
        assert bridge.destinations == ("+6587654321",)

    @pytest.mark.parametrize(
        ("destination", "source", "country", "code", "name"),
        [
            ("81234567", "+6531234567", None, -1017, "destination"),
            ("6587654321", "+6531234567", None, -1017, "destination"),
            ("+6587654321", "6531234567", None, -1009, "source"),
            ("001 60 4 262 1234", "+6531234567", "SG", -1017, "destination"),
            ("6123 4567/8", "+6531234567", "SG", -1017, "destination"),
            ("+49 30 123456/78", "+6531234567", None, -1017, "destination"),
        ],
    )
    def test_a_number_that_is_not_certain_is_refused(
        self, destination: str, source: str, country: str | None, code: int, name: str
    ) -> None:
        called = CallFlow.call(destination, source=source, country=country).say("Hello.", voice_profile="v")
        bridged = CallFlow.bridge(destination=destination, source=source, country=country).hangup()
        for flow in (called.replace(client_batch_id="march"), bridged):
            (found,) = [each for each in flow.problems() if each.is_error]
            assert (found.code, found.path) == (code, f"$.callflow[0].params.{name}")
            assert "rite it as +" in found.message
            assert getattr(flow, name) is None
            for use in (flow.validated, flow.to_body, flow.to_json):
                with pytest.raises(CallFlowError, match=r"rite it as \+"):
                    use()

    def test_bodies_stay_as_the_guides_print_them(self) -> None:
        body = CallFlow.call("+6512345678", source="+6587654321").hangup().to_body()
        body["callflow"][0]["params"]["destination"] = "6512345678"
        assert CallFlow.parse(body).destination == "+6512345678"

    def test_an_answer_can_begin_with_a_bridge(self) -> None:
        flow = CallFlow.bridge(source=SOURCE, destination=DESTINATION, recording=True, client_action_id="agent")
        assert flow.problems() == ()
        params = {"source": SOURCE, "destination": DESTINATION, "callRecording": True}
        assert flow.to_body() == {"clientActionId": "agent", "callflow": [{"action": "makeCall", "params": params}]}

    def test_a_bridge_after_other_actions_keeps_them(self) -> None:
        flow = CallFlow.reply("a").say("One moment.", voice_profile="b").bridge(source=SOURCE, destination=DESTINATION)
        assert [entry["action"] for entry in flow.actions] == ["say", "makeCall"]
        assert (flow.client_action_id, flow.is_reply) == ("a", True)

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
