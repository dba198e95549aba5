"""Whatever is sent, the answer is 2xx or 4xx, and only summaries are settled."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.webhooks.receiving import Settling, other, status_of, summary

pytestmark = pytest.mark.anyio

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
EVENTS = [
    summary(),
    summary(errorDetails={"errorCode": -2004, "errorMsg": "no coverage"}),
    other("CALL_ACTION", callStatus="ACTION_COMPLETED", eventData={"dtmf": "1"}, sipCode=200),
    other("CALL_STATUS", callStatus="RINGING", timestamp="2026-07-01T09:00:00Z"),
    other("CALL_RECORDING_STATUS", durationSeconds=12),
    other("VIRTUAL_NUMBER_UPDATE", virtualNumbers=[{"msisdn": "6531234567"}]),
]


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place within a JSON value, as the keys that lead to it."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """An event with some of its values replaced, dropped or renamed, and perhaps cut or with a byte changed."""
    event: Any = json.loads(json.dumps(draw(st.sampled_from(EVENTS))))
    for _ in range(draw(st.integers(0, 4))):
        path = draw(st.sampled_from(places(event)))
        if not path:
            continue
        within = event
        for key in path[:-1]:
            within = within[key]
        match draw(st.sampled_from(["replace", "drop", "rename"])):
            case "drop":
                del within[path[-1]]
            case "rename" if isinstance(within, dict):
                within[draw(st.text(max_size=12))] = within.pop(path[-1])
            case _:
                within[path[-1]] = draw(JSON)
    content = json.dumps(event, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    match draw(st.sampled_from(["whole", "whole", "whole", "cut", "byte"])):
        case "cut":
            return content[: draw(st.integers(0, len(content)))]
        case "byte":
            place = draw(st.integers(0, len(content) - 1))
            return content[:place] + bytes([draw(st.integers(0, 255))]) + content[place + 1 :]
        case _:
            return content


@given(content=mutated() | st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
async def test_any_body_is_answered_with_200_or_400(content: bytes) -> None:
    settling = Settling()
    status = await status_of(content, settling)
    assert status in {200, 400}
    assert not settling.taken or status == 200
