"""Queues and the suppression list over HTTP."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.api.clients import Client, call, findings_of
from tests.support.flows import flow
from voiceflow_worker import CallQueue, Store
from voiceflow_worker.core.base.reading import limits_of
from voiceflow_worker.core.gates import order_gate
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.model.jobs.gate import Gate, GateKind, GateState
from voiceflow_worker.service.whole_queue import read_queue

pytestmark = pytest.mark.anyio


async def test_a_queue_is_shown_held_resumed_and_paced(memory: Store, client: Client) -> None:
    assert (await client.get("/v1/queues/default")).json() == (await read_queue(CallQueue(memory))).as_json()
    held = (await client.post("/v1/queues/default/hold", json={"note": "lunch", "for": "10m"})).json()
    assert (held["scope"], held["name"], held["state"]) == ("queue", "default", "held")
    assert held["until"] is not None
    assert "lunch" in held["reason"]
    assert [each["name"] for each in (await client.get("/v1/queues/default")).json()["holds"]] == ["default"]
    for number in ("+6587654321", "+6587654322"):
        await CallQueue(memory).enqueue(flow(number))
    order = {"since": held["since"], "most": 2}
    for less, status in (({"since": held["since"]}, 422), ({"most": 2}, 422), ({**order, "most": 1}, 409)):
        assert (await client.post("/v1/queues/default/resume", json=less)).status_code == status
    other = await client.post("/v1/queues/default/resume", json={**order, "since": "2026-01-01T00:00:00Z"})
    assert (other.status_code, "lunch" in other.json()["detail"]) == (409, True)
    for most in (2, 0):  # a lost answer
        opened = await client.post("/v1/queues/default/resume", json={**order, "most": most})
        assert (opened.status_code, opened.json()["state"]) == (200, "open")
    await client.post("/v1/queues/default/hold", json={"note": "again"})
    assert (await client.post("/v1/queues/default/resume", json=order)).status_code == 409, "a newer hold stands"
    for given, rate in ((5, 5), ("0.5", 0.5), ("unlimited", None)):
        answer = await client.put("/v1/queues/default/rate", json={"rate": given})
        assert answer.json() == {"queue": "default", "rate": rate, "is_set": True}
    limits = await limits_of(memory, "default")
    assert limits is not None
    assert limits.rate is None
    entries = (await client.get("/v1/audit")).json()["entries"]
    told = [(each["action"], each["on"], each["by"], each["note"]) for each in entries]
    assert [each[:3] for each in told[-3:]] == [(order, "api", "api") for order in ("hold", "resume", "hold")]


async def test_a_queue_that_is_held_for_unread_files_is_resumed_by_who_says_so(memory: Store, client: Client) -> None:
    kinds, way = frozenset({GateKind.UNREAD_FILES}), "/v1/queues/default/resume"
    held = Gate.of("default", None, GateState.HELD, since=memory.clock.now(), reason="2 files", kinds=kinds)
    await order_gate(memory, held)
    order = {"since": held.since.isoformat(), "most": 0}
    for body in ({}, {"unread_files": False}, {"note": "sure"}):
        refused = await client.post(way, json=order | body)
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict"), refused.text
        assert "in /v1: unread_files" in refused.json()["detail"]
        assert (await client.get("/v1/queues/default")).json()["holds"]
    resumed = await client.post(way, json={**order, "unread_files": True})
    assert (resumed.status_code, resumed.json().get("state")) == (200, "open"), resumed.text
    assert not (await client.get("/v1/queues/default")).json()["holds"]


async def test_calls_and_batches_of_another_queue_are_listed_and_stopped(memory: Store, client: Client) -> None:
    await CallQueue(memory, "night").enqueue(flow("+6587654321"), batch="march")
    for query, count in (({}, 0), ({"queue": "night"}, 1)):
        for name in ("calls", "batches"):
            assert len((await client.get(f"/v1/{name}", params=query)).json()[name]) == count
    for path in ("hold", "cancel"):
        way = f"/v1/batches/march/{path}"
        assert [(await client.post(f"{way}{query}")).status_code for query in ("", "?queue=No", "?queue=night")] == [
            404, 404, 200,
        ]  # fmt: skip
    assert (await client.get("/v1/batches/march?queue=night")).json()["states"]["cancelled"] == 1


async def test_numbers_are_put_on_the_list_and_taken_off(memory: Store, client: Client) -> None:
    put = await client.put("/v1/suppression/+6587654321", json={"note": "asked by mail", "for": "30d"})
    assert (put.status_code, put.json()["number"]) == (200, "+6587654321")
    assert put.json()["until"] is not None
    since = put.json()["since"]
    assert (await client.put("/v1/suppression/8765%204322?country=SG")).json()["number"] == "+6587654322"
    assert len(await SuppressionList(memory).find("+6587654321", "+6587654322")) == 2
    one = "/v1/suppression/%2B6587654321"
    for query, status in (({}, 422), ({"since": "soon"}, 422), ({"since": "2026-01-01T00:00:00Z"}, 409)):
        assert (await client.delete(one, params=query)).status_code == status
    removed = await client.delete(one, params={"since": since})
    assert removed.json() == {"number": "+6587654321", "removed": True}
    assert (await client.delete(one, params={"since": since})).status_code == 204, "a lost answer"
    await SuppressionList(memory).add("+6587654321", reason="opted out")
    assert (await client.delete(one, params={"since": since})).status_code == 409, "it came meanwhile"
    shown = (await client.get(one)).json()
    assert (await client.delete(one, params={"since": shown["since"]})).status_code == 200


WRONG: list[tuple[str, str, dict[str, Any] | None, int]] = [
    ("GET", "queues/No%20Queue", None, 404),
    ("POST", "queues/No%20Queue/hold", None, 404),
    ("POST", "queues/default/hold", {"for": "soon"}, 422),
    ("POST", "queues/default/hold", {"for": "0s"}, 422),
    ("POST", "queues/default/hold", {"note": 5}, 422),
    ("POST", "queues/default/hold", {"until": "x"}, 422),
    ("POST", "queues/default/hold", {"note": "x" * 1001}, 422),
    ("PUT", "queues/default/rate", {}, 422),
    ("PUT", "queues/default/rate", {"rate": None}, 422),
    ("PUT", "queues/default/rate", {"rate": True}, 422),
    ("PUT", "queues/default/rate", {"rate": 0}, 422),
    ("PUT", "queues/default/rate", {"rate": -5}, 422),
    ("PUT", "queues/default/rate", {"rate": 10**400}, 422),
    ("PUT", "queues/default/rate", {"rate": [5]}, 422),
    ("PUT", "suppression/87654321", None, 422),
    ("PUT", "suppression/nobody", None, 422),
    ("PUT", "suppression/+6587654321", {"until": "tomorrow"}, 422),
    ("PUT", "suppression/+6587654321", {"until": "2030-01-01T00:00:00Z", "for": "1d"}, 422),
    ("PUT", "suppression/+6587654321?country=Atlantis", None, 422),
    ("DELETE", "suppression/nobody", None, 422),
]


async def test_what_cannot_be_done_is_a_problem(memory: Store, client: Client) -> None:
    for method, path, body, status in WRONG:
        answer = await client.request(method, f"/v1/{path}", json=body)
        assert answer.status_code == status, answer.text
        assert findings_of(answer)
        assert not await SuppressionList(memory).find("+6587654321")


async def test_a_person_is_erased(memory: Store, client: Client) -> None:
    queue = CallQueue(memory)
    job = await queue.get((await call(client, "erased")).json()["id"])
    erased = await client.delete("/v1/people/8765 4321?country=SG")
    assert (erased.status_code, erased.json()["erased"]["calls"]) == (200, 1)
    assert "87654321" not in erased.text
    assert (await client.get(f"/v1/calls/{job.id}")).status_code == 404
    again = await call(client, "erased")
    assert (again.status_code, again.json()["code"]) == (422, "idempotency_key_reused"), again.text
    await queue.enqueue(flow("+6587654321"))
    await memory.lease(
        "default", worker_id="w", limit=1, until=memory.clock.now() + timedelta(hours=1), now=memory.clock.now()
    )
    assert (await client.delete("/v1/people/+6587654321")).status_code == 409
