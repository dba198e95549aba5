"""The Idempotency-Key of each request that can ring: its spellings, another body, two requests at once."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

import anyio
import httpx
import pytest

from tests.api.clients import CALL, Client, findings_of, program
from tests.support.faulty_store import FaultyStore, Loss
from voiceflow_worker import CallQueue, Store

pytestmark = pytest.mark.anyio

ORDERS: Mapping[str, Mapping[str, Any]] = {
    "/v1/calls": CALL,
    "/v1/campaigns": {"say": "Hello.", "rows": [{"destination": "+6587654301"}], "batch": "march"},
    "/v1/escalations": {"numbers": ["+6587654321"], "say": "The disk is full.", "rounds": 1},
}
EACH = pytest.mark.parametrize("path", ORDERS)


async def order(client: Client, path: str, key: str, **fields: object) -> httpx.Response:
    return await client.post(path, json={**ORDERS[path], **fields}, headers={"Idempotency-Key": key})


@EACH
async def test_three_clients_with_one_key_make_one_thing(memory: Store, path: str) -> None:
    answers = list[httpx.Response]()

    async def ask(client: Client) -> None:
        answer = await order(client, path, "42")
        while answer.status_code == 409:
            assert int(answer.headers["Retry-After"]) > 0
            answer = await order(client, path, "42")
        answers.append(answer)

    async with program(memory) as one, program(memory) as two, program(memory) as three:
        async with anyio.create_task_group() as group:
            for client in (one, two, three):
                group.start_soon(ask, client)
        codes = sorted(each.status_code for each in answers)
        assert codes == [200, 200, 201] or (path == "/v1/campaigns" and set(codes) <= {200, 201}), (
            "at once, each begins it"
        )
        assert len({each.headers["location"] for each in answers}) == 1
        assert len(await CallQueue(memory).find()) == 1
        if path == "/v1/escalations":
            assert (await order(one, path, "42", window=None)).status_code == 200, "a null says nothing"
        assert (await order(one, path, "42", say="Another text.")).json()["code"] == "idempotency_key_reused"
        assert (await order(one, path, "43", say="")).status_code == 422
        assert (await order(one, path, "43")).status_code != 422, "a refused request leaves its key free"


@EACH
@pytest.mark.parametrize("key", [None, "", " ", "é", "x" * 201])
async def test_a_key_is_needed(memory: Store, client: Client, path: str, key: str | None) -> None:
    headers = {} if key is None else {"Idempotency-Key": key.encode()}
    answer = await client.post(path, json=ORDERS[path], headers=headers)  # type: ignore[arg-type]
    assert (answer.status_code, [each["parameter"] for each in findings_of(answer)]) == (422, ["Idempotency-Key"])
    assert await CallQueue(memory).find() == []


@EACH
@pytest.mark.parametrize("loss", [Loss.BEFORE, Loss.AFTER])
@pytest.mark.parametrize("place", [1, 2, 3])
async def test_a_lost_answer_makes_nothing_twice(memory: Store, path: str, loss: Loss, place: int) -> None:
    faulty, writes = FaultyStore(memory), count(1)
    faulty.lose(loss, "write", when=lambda _: next(writes) == place)
    async with program(faulty) as client:
        answers = [await order(client, path, "42") for _ in range(4)]
    assert all(int(each.headers["Retry-After"]) > 0 for each in answers if each.status_code == 503)
    said = [each for each in answers if each.status_code != 503]
    assert len(said) >= 3
    assert said[-1].status_code == 200
    assert len({each.headers["location"] for each in said}) == 1
    assert len(await CallQueue(memory).find()) == 1
