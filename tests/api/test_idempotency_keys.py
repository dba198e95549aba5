"""The Idempotency-Key of each request that can ring: its spellings, another body, two requests at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import httpx
import pytest

from tests.api.clients import CALL, Client, program
from voiceflow_worker import CallQueue, Store
from voiceflow_worker.api import escalations
from voiceflow_worker.service.named_call import NamedCall
from voiceflow_worker.service.named_campaign import NamedCampaign

pytestmark = pytest.mark.anyio

ORDERS: Mapping[str, Mapping[str, Any]] = {
    "/v1/calls": CALL,
    "/v1/campaigns": {"say": "Hello.", "rows": [{"destination": "+6587654301"}], "batch": "march"},
    "/v1/escalations": {"numbers": ["+6587654321"], "say": "The disk is full.", "rounds": 1},
}
WORK: Mapping[str, tuple[Any, str]] = {
    "/v1/calls": (NamedCall, "enqueue"),
    "/v1/campaigns": (NamedCampaign, "start"),
    "/v1/escalations": (escalations, "start_escalation"),
}
EACH = pytest.mark.parametrize("path", ORDERS)


async def order(client: Client, path: str, key: str, **fields: object) -> httpx.Response:
    return await client.post(path, json={**ORDERS[path], **fields}, headers={"Idempotency-Key": key})


KEYS = {
    "order 42": ['"order 42"', '"order 42";version=1', '"order 42" ; a'],
    '"a\\"b\\\\c"': ['a"b\\c'],
    "42": ['"42"'],
}
NO_KEYS = ['"', '""', '"a', '"a"b"', '"a\\b"', '" a"', '"a "', '"a"b', f'"{"a" * 201}"']


@EACH
async def test_a_key_in_quotes_is_the_key_and_half_a_string_is_none(memory: Store, client: Client, path: str) -> None:
    for key in NO_KEYS if path == "/v1/calls" else NO_KEYS[:1]:
        told = await order(client, path, key)
        assert told.status_code == 400
        assert "Idempotency-Key" in told.json()["findings"][0]["detail"]
        assert await CallQueue(memory).find() == []
    for key, also in KEYS.items() if path == "/v1/calls" else [("42", ['"42"'])]:
        first = await order(client, path, key)
        again = [await order(client, path, each) for each in also]
        assert [first.status_code, *(each.status_code for each in again)] == [201, *[200] * len(also)]
        assert {each.headers["location"] for each in again} == {first.headers["location"]}
    assert len(await CallQueue(memory).find()) == (len(KEYS) if path == "/v1/calls" else 1)


@EACH
async def test_of_two_requests_at_once_the_second_is_told_to_ask_again(
    memory: Store, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, name = WORK[path]
    work: Callable[..., Awaitable[object]] = getattr(kind, name)
    begun, goes_on, first = anyio.Event(), anyio.Event(), list[httpx.Response]()

    async def slow(*arguments: Any, **named: Any) -> object:
        begun.set()
        await goes_on.wait()
        return await work(*arguments, **named)

    monkeypatch.setattr(kind, name, slow)
    async with program(memory) as client, anyio.create_task_group() as group:

        async def ask() -> None:
            first.append(await order(client, path, "42"))

        group.start_soon(ask)
        await begun.wait()
        second = await order(client, path, '"42"')
        goes_on.set()
    assert (second.status_code, second.json()["code"]) == (409, "idempotency_key_in_use")
    assert int(second.headers["Retry-After"]) > 0
    assert [each.status_code for each in first] == [201]
    async with program(memory) as client:
        assert (await order(client, path, '"42"')).status_code == 200
        assert (await order(client, path, "43", say="")).status_code == 422
        assert (await order(client, path, "43")).status_code != 422, "a refused request leaves its key free"
