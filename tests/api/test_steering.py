"""Queues and the suppression list over HTTP."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.api.clients import Client, call, program
from tests.api.test_action_keys import escalated
from tests.api.test_http_api import findings_of
from tests.support.flows import flow
from tests.support.redis_server import standalone
from tests.support.waiting import until
from voiceflow_worker import CallQueue, JobState, Store, open_store
from voiceflow_worker.core.base.reading import limits_of
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.service.escalations import Escalations
from voiceflow_worker.service.whole_queue import read_queue

pytestmark = pytest.mark.anyio


async def test_a_queue_is_shown_held_resumed_and_paced(memory: Store, client: Client) -> None:
    assert (await client.get("/v1/queues/default")).json() == (await read_queue(CallQueue(memory))).as_json()
    held = (await client.post("/v1/queues/default/hold", json={"note": "lunch", "for": "10m"})).json()
    assert (held["scope"], held["name"], held["state"]) == ("queue", "default", "held")
    assert held["until"] is not None
    assert "lunch" in held["reason"]
    assert [each["name"] for each in (await client.get("/v1/queues/default")).json()["holds"]] == ["default"]
    assert (await client.post("/v1/queues/default/resume")).json()["state"] == "open"
    for given, rate in ((5, 5), ("0.5", 0.5), ("unlimited", None)):
        answer = await client.put("/v1/queues/default/rate", json={"rate": given})
        assert answer.json() == {"queue": "default", "rate": rate, "is_set": True}
    limits = await limits_of(memory, "default")
    assert limits is not None
    assert limits.rate is None
    entries = (await client.get("/v1/audit")).json()["entries"]
    told = [(each["action"], each["on"], each["by"], each["note"]) for each in entries]
    assert told[-2:] == [("resume", "api", "api", None), ("hold", "api", "api", "lunch")]


async def test_numbers_are_put_on_the_list_and_taken_off(memory: Store, client: Client) -> None:
    put = await client.put("/v1/suppression/+6587654321", json={"note": "asked by mail", "for": "30d"})
    assert (put.status_code, put.json()["number"]) == (200, "+6587654321")
    assert put.json()["until"] is not None
    assert (await client.put("/v1/suppression/8765%204322?country=SG")).json()["number"] == "+6587654322"
    assert len(await SuppressionList(memory).find("+6587654321", "+6587654322")) == 2
    gone = {"number": "+6587654321", "removed": True}
    assert (await client.delete("/v1/suppression/%2B6587654321")).json() == gone
    assert (await client.delete("/v1/suppression/+6587654321")).json() == {**gone, "removed": False}


async def test_what_stops_calls_passes_on_a_server_that_became_forgetful(tmp_path: Path) -> None:
    redis = standalone(tmp_path)
    redis.start()
    try:
        async with open_store(redis.url) as store:
            batch, single = [await CallQueue(store).enqueue(flow(n), batch_id=b) for n, b in FORGOTTEN]
            first, second = [await escalated(store, key) for key in ("disk", "fire")]
            async with program(store) as client:
                redis.ask("CONFIG", "SET", "appendonly", "no")
                redis.ask("CLIENT", "KILL", "TYPE", "normal")

                async def is_refused() -> bool:
                    return "may lose what it has confirmed" in (await client.get("/v1/calls")).text

                await until(is_refused)
                for method, path in GOES_ON:
                    answer = await client.request(method, f"/v1/{path}", json={"rate": 5} if "rate" in path else {})
                    assert (answer.status_code, "may lose what it has confirmed" in answer.text) == (503, True), (
                        answer.text
                    )
                for method, path in (
                    ("POST", "queues/default/hold"), ("PUT", "suppression/+6587654399"),
                    ("POST", f"batches/{batch.batch_id}/cancel"), ("POST", f"calls/{single.id}/cancel"),
                    ("POST", f"escalations/{first}/stop"), ("POST", f"escalations/{second}/acknowledge"),
                ):  # fmt: skip
                    answer = await client.request(method, f"/v1/{path}", json={})
                    assert answer.status_code == 200, (path, answer.text)
                    assert "may be lost: the server of the store" in answer.json()["warning"], path
                redis.ask("CONFIG", "SET", "appendonly", "yes")
        redis.wait_for_first_aof()
        async with open_store(redis.url) as store:
            status = await CallQueue(store).status()
            assert (status.states[JobState.CANCELLED], [gate.name for gate in status.holds][:1]) == (4, ["default"])
            assert not await Escalations(CallQueue(store)).recent()
            assert await SuppressionList(store).find("+6587654399")
    finally:
        redis.kill()


FORGOTTEN = [("+6587654321", "march"), ("+6587654322", None)]
GOES_ON = [("POST", "queues/default/resume"), ("PUT", "queues/default/rate"), ("GET", "calls")]


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
