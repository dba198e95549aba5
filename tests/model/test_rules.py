"""Every rule of the contract that can be found before sending: its path, its code, its weight."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow_worker.errors import CallFlowError
from voiceflow_worker.model.flows.actions import PARAMS, ParamKind
from voiceflow_worker.model.flows.callflow import CallFlow, find_problems

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
        "destinations are in one text",
        request(call(destination="+6587654321,+6587654322")),
        TO,
        -1011,
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
        "digitTimeout is the longer one",
        request(call(), menu(digitTimeout=10001, overallTimeout=10000)),
        f"{SECOND}.overallTimeout",
        -1006,
    ),
    ("# ends nothing, nor does a count", request(call(), menu(completeOnHash=False)), f"{SECOND}.maxDigits", -1008),
    (
        "26 digits are asked for",
        request(call(), menu(completeOnHash=False, maxDigits=26)),
        f"{SECOND}.maxDigits",
        -1008,
    ),
    ("a scenario is beside other actions", request(call(), SCENARIO), f"{FLOW}[1].action", -1018),
    ("a scenario is alone", request(SCENARIO), f"{FLOW}[0].params.scenarioName", -1020),
    ("validUntil is no day", request(call(), validUntil="2026-02-30T00:00:00.000Z"), "$.validUntil", -1009),
    ("validUntil has an offset", request(call(), validUntil="2026-12-31T08:00:00.000+08:00"), "$.validUntil", -1009),
    ("clientRequestId is long", request(call(), clientRequestId="a" * 51), "$.clientRequestId", -1009),
    ("clientRequestId has a NUL", request(call(), clientRequestId="a\x00"), "$.clientRequestId", -1016),
    ("clientBatchId is long", request(call(), clientBatchId="a" * 51), "$.clientBatchId", -1009),
]


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
    ("a number is dear", request(call(destination="+19002345678")), TO, None),
    (
        "a file is no audio",
        request(call(), play(fileUrl="https://example.com/a.ogg?x=.mp3")),
        f"{SECOND}.fileUrl",
        None,
    ),
    ("a template is not filled in", request(call(), say(text="Hello {{name}}")), f"{SECOND}.text", None),
    (
        "the timeouts are equal",
        request(call(), menu(digitTimeout=9, overallTimeout=9)),
        f"{SECOND}.overallTimeout",
        -1006,
    ),
    ("maxDigits is over 25", request(call(), menu(maxDigits=26)), f"{SECOND}.maxDigits", None),
    ("clientRequestId is empty", request(call(), clientRequestId=""), "$.clientRequestId", None),
]


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


def test_a_value_has_at_most_a_hundred_levels() -> None:
    value: list[object] = []
    for _ in range(99):
        value = [value]
    assert not any(found.is_error for found in find_problems(request(call(), extra=value)))
    (problem,) = [found for found in find_problems(request(call(), extra=[value])) if found.is_error]
    assert "more than 100 levels" in problem.message


def test_all_findings_come_at_once_in_the_order_of_the_body() -> None:
    body = request(say(text=""), {"action": "hangup"}, call(destination=1, source="x"), priority=1, clientBatchId=5)
    assert [(found.path, found.code, found.is_error) for found in find_problems(body)] == [
        ("$.callflow[0].action", -1013, True),
        ("$.callflow[0].params.text", -1009, True),
        ("$.callflow[1]", -1012, True),
        ("$.callflow[2].params.source", -1009, True),
        ("$.callflow[2].params.destination", -1009, True),
        ("$.clientBatchId", -1009, True),
        ("$.priority", None, False),
    ]


def test_an_action_in_another_case_is_looked_at_all_the_same() -> None:
    assert errors(
        request({"action": "MakeCall", "params": {"source": "+6531234567"}}, {"action": "HANGUP"}, say())
    ) == [
        ("$.callflow[0].action", -1007),
        ("$.callflow[0].params.destination", -1009),
        ("$.callflow[1].action", -1007),
        ("$.callflow[1]", -1012),
    ]


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
            "$.clientRequestId",
            "$.clientBatchId",
            "$.validUntil",
        ]

    def test_their_actions_obey_the_same_rules(self) -> None:
        body = request({"action": "hangup"}, say(text=""), menu(minDigits=1), clientActionId=1)
        assert errors(body, reply=True) == [
            ("$.callflow[0]", -1012),
            ("$.callflow[1].params.text", -1009),
            ("$.callflow[2].params.maxDigits", -1003),
            ("$.clientActionId", -1009),
        ]

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
