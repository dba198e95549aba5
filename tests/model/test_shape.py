"""A flow of a known shape is checked and encoded as one that is looked at as a whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceflow_worker.errors import CallFlowError, InvalidInputError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.flows import shape
from voiceflow_worker.model.flows.callflow import CallFlow
from voiceflow_worker.model.flows.canonical import canonical_body, stored_body
from voiceflow_worker.model.flows.shape import EncodedBody, FlowEncoder
from voiceflow_worker.model.numbers.phone import usual_form

TEXTS = st.sampled_from(
    [
        "Ana",
        "",
        " ",
        'é "q" \\ </s> %s %d %%',
        "{{name}}",
        "a\x07b",
        "\ud800",
        "\u2028",
        "x" * 3000,
        "x" * 3001,
        None,
        5,
    ]
)
NUMBERS = st.sampled_from(
    ["+6587654321", "6587654321", "+6580000005", "6581234567", "+4402079460000", "+390612345678", "x", "", None, 65]
)
ODD = st.sampled_from([0, 1, 1.0, True, False, 2, 2.0, -0.0, 0.0, 1e16, 10**16, None, "1", [1], {"a": 1}, {1: 2}])
SAY = st.fixed_dictionaries(
    {"text": TEXTS, "voiceProfile": st.sampled_from(["en-IE-EmilyNeural", "x", ""])},
    optional={"repetition": ODD, "speed": ODD, "unknown": ODD, "destination": NUMBERS},
)
CAPTURE = st.fixed_dictionaries(
    {"promptMessage": TEXTS, "voiceProfile": st.just("x")},
    optional={"successMessage": TEXTS, "maxDigits": ODD, "minDigits": ODD},
)
CALL = st.fixed_dictionaries({"source": st.sampled_from(["+6531234567", "6531234567"]), "destination": NUMBERS})
ACTIONS = st.one_of(
    st.builds(lambda params: {"action": "say", "params": params}, SAY),
    st.builds(lambda params: {"action": "sayAndCapture", "params": params}, CAPTURE),
    st.builds(lambda params: {"params": params, "action": "makeCall"}, CALL),
    st.sampled_from(
        [
            {"action": "hangup"},
            {"action": "hangup", "params": {}},
            {"action": "hangup", "params": None},
            {"action": "playFile", "params": {"fileUrl": "https://example.com/a.wav"}},
            {"action": "say"},
            {"action": "say", "more": 1},
            {"action": "speak"},
            {"action": 5},
            5,
        ]
    ),
)
BODIES = st.builds(
    lambda first, rest, more: {"callflow": [{"action": "makeCall", "params": first}, *rest], **more},
    CALL,
    st.lists(ACTIONS, max_size=3),
    st.fixed_dictionaries(
        {},
        optional={
            "validUntil": st.sampled_from(["2030-01-31T09:00:00.000Z", "2030-01-31", None, 5]),
            "clientRequestId": st.sampled_from(["a", "b", "", "x" * 51, "{{a}}", None]),
            "clientBatchId": st.sampled_from(["a", "b", "x" * 51, None, 5]),
            "unknown": ODD,
        },
    ),
)
Result = EncodedBody | tuple[Finding, ...]


def judged(encoder: FlowEncoder, flow: CallFlow) -> Result:
    try:
        return encoder.encoded(flow)
    except CallFlowError as error:
        return tuple(error.findings)


def as_a_whole(flow: CallFlow) -> Result:
    try:
        flow.validated()
    except CallFlowError as error:
        return tuple(error.findings)
    return EncodedBody(
        flow.fields, flow.source or "", usual_form(flow.destination or ""), stored_body(flow), canonical_body(flow)
    )


@given(st.lists(BODIES, min_size=1, max_size=6))
@settings(max_examples=400, deadline=None)
def test_a_flow_of_a_known_shape_is_encoded_as_by_the_whole_check(bodies: list[dict[str, Any]]) -> None:
    encoder = FlowEncoder()
    flows = [CallFlow(body) for body in bodies] * 3
    assert [judged(encoder, flow) for flow in flows] == [as_a_whole(flow) for flow in flows]


@pytest.mark.parametrize("most", [1, 256])
def test_numbers_texts_and_ids_vary_within_one_shape(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(shape, "MOST_SHAPES", most)
    checks: list[Mapping[str, object]] = []
    validated = CallFlow.validated

    def checked(flow: CallFlow) -> CallFlow:
        checks.append(flow.fields)
        return validated(flow)

    monkeypatch.setattr(CallFlow, "validated", checked)
    encoder = FlowEncoder()
    flows = [
        CallFlow.call(f"{'+' * (n % 2)}65{81000000 + n}", source="+6531234567")
        .say(f"Hello {n}: 100 %", voice_profile="x", repetition=2)
        .then_call(f"+65{82000000 + n}", source="+6531234567")
        .replace(client_request_id=f"order-{n}")
        for n in range(20)
    ]
    encoded = [encoder.encoded(flow) for flow in flows]
    assert len(checks) == 2
    assert encoded == [as_a_whole(flow) for flow in flows]
    assert encoded[5].destination == "+6581000005"
    assert json.loads(encoded[4].stored)["callflow"][0]["params"]["destination"] == "6581000004"


def test_flows_with_shapes_of_their_own_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shape, "MOST_SHAPES", 3)
    encoder = FlowEncoder()
    flows = [CallFlow.call("+6587654321", source="+6531234567").play(f"https://example.com/{n}.wav") for n in range(9)]
    for flow in [*flows, *flows, *flows[:2] * 4]:
        assert encoder.encoded(flow) == as_a_whole(flow)


def test_an_answer_is_no_call() -> None:
    with pytest.raises(InvalidInputError, match="source and a destination"):
        FlowEncoder().encoded(CallFlow.reply().say("Hello", voice_profile="x"))
