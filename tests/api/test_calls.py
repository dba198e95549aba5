"""Calls over HTTP: what each field does, one call for each key, and waiting for an outcome."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import anyio
import pytest

from tests.api.clients import CALL, Client, api_of, call, findings_of, program
from tests.contract.samples import ManualClock, delete
from tests.support.calls import Calls
from tests.support.engine import Engine
from tests.support.flows import SOURCE, flow
from tests.support.voices import ScriptedVoice, unknown
from tests.support.waiting import until
from voiceflow_worker import (
    CallQueue,
    Menu,
    SessionStatus,
    Store,
    enqueue_rows,
    load_settings,
    open_store,
)
from voiceflow_worker.campaigns.campaign import Campaign
from voiceflow_worker.campaigns.fields import fields_of
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.core.audit import entries_on
from voiceflow_worker.core.base.keys import owners_of
from voiceflow_worker.ivr import End
from voiceflow_worker.model.jobs.call_json import call_as_json
from voiceflow_worker.service.named_call import NamedCall

pytestmark = pytest.mark.anyio
BODY: dict[str, object] = {
    "callflow": [
        {"action": "makeCall", "params": {"source": "6531111111", "destination": "6587654321"}},
        {"action": "say", "params": {"text": "Hello.", "voiceProfile": "en-US-JennyNeural"}},
        {"action": "hangup"},
    ]
}


async def test_a_call_that_was_asked_for_is_the_calls_json_and_the_same_key_is_the_same_call(
    memory: Store, client: Client
) -> None:
    first = await call(client, valid_for="2h", batch="march", data={"name": "Li"})
    again = await call(client, valid_for="2h", batch="march", data={"name": "Li"})
    shown = await client.get(first.headers["location"])
    listed = await client.get("/v1/calls")
    assert (first.status_code, again.status_code, shown.status_code) == (201, 200, 200)
    [job] = await CallQueue(memory).find()
    told = json.loads(json.dumps(call_as_json(job)))
    assert first.json() == again.json() == told
    assert shown.json() == listed.json()["calls"][0] == {**told, "waits": "no worker of queue default runs"}
    assert (job.unique_key, job.batch_id, job.source, job.data) == ("order-42", "march", SOURCE, {"name": "Li"})
    assert job.valid_until is not None
    assert timedelta(hours=1, minutes=59) < job.valid_until - job.created_at <= timedelta(hours=2)
    (entry,) = await entries_on(memory, call=job.id)
    assert (entry.action, entry.on, entry.batch, entry.numbers) == ("call", "api", "march", job.numbers)
    assert entry in await entries_on(memory), "and once"


SAME = [
    b'{"to":"+6587654321","say":"Hi","priority":3,"data":{"a":1,"b":[]}}',
    b'{ "say" : "Hi",\n"data" : {"b":[ ],"a":1.0}, "priority": 3e0, "to":"+6587654321" }',
    b'\xef\xbb\xbf{"priority":0.3E1,"to":"\\u002b6587654321","say":"\\u0048i","data":{"a":10e-1,"b":[]}}',
]
OTHER = [
    b'{"to":"+6587654321","say":"Hi!","priority":3,"data":{"a":1,"b":[]}}',
    b'{"to":"+6587654321","say":"Hi","priority":3,"data":{"a":true,"b":[]}}',
    b'{"to":"+6587654321","say":"Hi","priority":3,"data":{"a":"1","b":[]}}',
    b'{"to":"+6587654321","say":"Hi","priority":3,"data":{"a":1,"b":[0]}}',
    b'{"to":"+6587654321","say":"Hi","priority":4,"data":{"a":1,"b":[]}}',
]


async def test_the_same_key_with_another_body_is_refused(memory: Store, client: Client) -> None:
    headers = {"Idempotency-Key": "1", "Content-Type": "application/json"}
    bodies = [body.replace(b'"b":[]', b'"b":2').replace(b'"b":[ ]', b'"b":2.0') for body in SAME]
    told = [(await client.post("/v1/calls", content=body, headers=headers)).status_code for body in bodies]
    assert told == [201, 200, 200]
    for body in OTHER:
        answer = await client.post("/v1/calls", content=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
        assert "another body" in str(findings_of(answer)[0]["detail"])
        assert "Retry-After" not in answer.headers
    assert len(await CallQueue(memory).find()) == 1


async def test_what_a_request_means_later_is_no_conflict_and_is_not_judged_again() -> None:
    clock = ManualClock(datetime(2026, 3, 2, 8, 0, tzinfo=UTC))
    fields = {"valid_for": "1h", "not_before": "tomorrow 09:00", "time_zone": "UTC", "window": "17:00-18:00"}
    async with open_store("memory://", clock=clock) as store:
        async with program(store) as client:
            made = await call(client, **fields)
            assert made.status_code == 201
        for later in (timedelta(minutes=7), timedelta(days=1), timedelta(days=300)):
            clock.advance(later)
            async with program(store, voice_profile="en-US-JennyNeural", source="+6531111111") as client:
                again = await call(client, **fields)
            assert (again.status_code, again.json()) == (200, made.json())
        await CallQueue(store).cancel(made.json()["id"])
        jobs = await CallQueue(store).find()
        assert await delete(store, jobs, keep_keys_until=clock.now() + timedelta(days=9)) == [True]
        assert not (await owners_of(store, ["order-42"]))["order-42"].body, "only its tombstone is left"
        async with program(store) as client:
            again = await call(client, **fields)
            assert (again.status_code, again.json()["id"]) == (200, made.json()["id"])
            assert again.json()["state"] == "cancelled"
            assert (await call(client)).status_code == 422


async def test_a_key_of_another_way_is_refused_with_its_cause(memory: Store, client: Client) -> None:
    job = await CallQueue(memory).enqueue(flow(CALL["to"], CALL["say"]), unique_key="order-42")
    answer = await call(client)
    assert answer.status_code == 422
    [found] = findings_of(answer)
    assert job.id in str(found["detail"])
    assert "enqueued in another way" in str(found["detail"])


async def test_a_number_on_the_suppression_list_is_refused_and_a_repeat_is_not(memory: Store, client: Client) -> None:
    assert (await call(client, "before")).status_code == 201
    await client.put("/v1/suppression/+6587654321", json={"note": "asked by mail"})
    assert (await call(client, "before")).status_code == 200
    answer = await call(client, "after")
    assert answer.status_code == 422
    assert "suppression list" in str(findings_of(answer)[0]["detail"])
    assert len(await CallQueue(memory).find()) == 1


menu = Menu("confirm", prompt="Hello {{name}}. Press 1 to confirm.", voice_profile="en-IE-EmilyNeural")
menu.on("1", result="confirmed", goto=End("Thank you."))

GIVEN: dict[str, dict[str, object]] = {
    "some": {
        "to": "8765 4321", "country": "SG", "source": "SG=+6531111111,*=+12025550123", "language": "en",
        "voice_profile": "en-US-JennyNeural", "say": "Hello {{name}}, {{n}}, {{ name | upper }}.",
        "data": {"name": "Li", "n": 3, "is_new": True}, "valid_for": "90m", "window": "00:00-24:00",
        "days": "mon-sat", "batch": "march", "priority": 7,
    },
    "others": {
        "not_before": "tomorrow 09:00", "time_zone": "Asia/Singapore", "valid_until": "2099-12-31T09:00:00Z",
        "window": "09:00-18:00", "window_time_zone": "Europe/Berlin",
        "holidays": ["SG", "number"], "redial_on": ["busy", "no_answer"], "redial_max": 2,
        "redial_after": {"busy": "5m", "no_answer": "2h"},
    },
}  # fmt: skip
"""Each field of a call, but for those that have tests of their own."""


@pytest.mark.parametrize("given", GIVEN)
async def test_the_fields_do_what_the_options_of_a_campaign_do(memory: Store, given: str) -> None:
    fields = {**CALL, **GIVEN[given]}
    settings = load_settings(source=SOURCE, voice_profile="en-IE-EmilyNeural")
    now = memory.clock.now()
    made = NamedCall(fields, key="1").checked(settings=settings, now=now)
    options = {key: value for key, value in fields.items() if key not in {"to", "language"}}
    row = {"destination": fields["to"], **({"language": fields["language"]} if "language" in fields else {})}
    campaign = Campaign.of({"batch": "b", **options, "rows": [row]}, settings=settings, now=now)
    await enqueue_rows(CallQueue(memory), campaign.rows or (), campaign.options)
    [job] = await CallQueue(memory).find()
    assert (made.body, made.destination, made.source, made.priority) == (
        job.body, job.destination, job.source, job.priority,
    )  # fmt: skip
    assert (made.not_before, made.window, made.redial) == (job.not_before, job.window, job.redial)
    assert (made.menu, made.batch_id) == (job.menu, fields.get("batch"))
    if "valid_for" in fields:
        assert made.valid_until == now + timedelta(minutes=90)
    known = {name for each in GIVEN.values() for name in each} | {"to", "further_numbers", "say", "flow", "ivr", "menu"}
    assert known == set(fields_of(Of.CALL))


BEGINS: list[tuple[dict[str, Any], int, str]] = [
    ({"flow": BODY, "menu": "confirm"}, 201, '"menu":"confirm"'), ({"flow": BODY}, 201, '"source":"+6531111111"'),
    ({"say": "Hello.", "menu": "confirm"}, 422, "asks no question"), ({"ivr": "os:path"}, 422, "confirm"),
    ({"ivr": "confirm", "data": {"name": "Li"}}, 201, '"menu":"confirm"'),
]  # fmt: skip


async def test_a_flow_is_a_request_body_and_an_ivr_one_of_the_servers_menus(memory: Store) -> None:
    async with program(memory, menus=[menu]) as client:
        for place, (fields, status, told) in enumerate(BEGINS):
            answer = await call(client, str(place), **{"say": None, **fields})
            assert (answer.status_code, told in answer.text) == (status, True), answer.text
            assert status == 422 or answer.json()["destination"] == CALL["to"]


BAD: list[tuple[dict[str, Any], str | None]] = [
    ({"to": "87654321"}, "to"), ({"to": None}, "to"), ({"to": ["+6587654321"]}, "to"), ({"to": 6587.5}, "to"),
    ({"to": ""}, "to"), ({"to": "+65 8765 4321, +65 8765 4322"}, "to"), ({"say": ""}, "say"), ({"say": None}, None),
    ({"say": " "}, "say"), ({"say": "x" * 10_001}, "say"), ({"say": "{% for i in range(99999) %}x{% endfor %}"}, "say"),
    ({"say": "Hello {{name}}."}, "data/name"), ({"flow": BODY}, None), ({"say": None, "flow": []}, "flow"),
    ({"say": None, "flow": {"callflow": []}}, "flow/callflow"),
    ({"say": None, "flow": {"callflow": [{"action": "fly"}]}}, "flow/callflow/0/action"),
    ({"say": None, "flow": "/etc/passwd"}, "flow"), ({"ivr": "confirm"}, None), ({"colour": "red"}, "colour"),
    ({"template": "x.json"}, "template"), ({"file": "/etc/passwd"}, "file"), ({"campaign": "x.toml"}, "campaign"),
    ({"valid_for": "soon"}, None), ({"valid_for": {}}, None), ({"valid_for": "-1h"}, None),
    ({"not_before": "09:00"}, None), ({"window": "nine to five"}, None), ({"time_zone": "Mars"}, None),
    ({"redial_on": "sunday"}, None), ({"redial_max": -1, "redial_on": "busy"}, None), ({"priority": 1e30}, None),
    ({"priority": "high"}, None), ({"data": []}, None), ({"data": {"a": {}}}, None),
    ({"data": {"a": "x" * 9000}}, None),
    ({"say": "Hello {{name}}.", "data": {}}, "data/name"), ({"say": "{{name}}", "data": {"Name": "Ann"}}, "data/name"),
    ({"say": "Hello {{name}}.", "data": {"name": ""}}, "data/name"), ({"say": "Hello.", "name": "Ann"}, "name"),
    ({"say": "On {{day|date}}.", "data": {"day": "soon"}}, "data/day"),
    ({"batch": "b" * 51}, None), ({"country": "Atlantis"}, None), ({"source": "nobody"}, None),
    *(({"voice_profile": each}, "voice_profile") for each in (-1, 1e308, "{{ 7*7 }}", "en US")),
    ({"batch": 1e308}, "batch"), ({"language": -1}, "language"), ({"language": "{{x}}"}, "language"),
    ({f"k{place}": 1 for place in range(20_000)}, "k0"), ({"language": ["en"]}, "language"),
    ({"data": {"n": 2**70}}, None), ({"source": {"SG": 1}}, None),
]  # fmt: skip


async def test_what_is_wrong_has_a_finding_and_nothing_is_stored(memory: Store, client: Client) -> None:
    for fields, column in BAD:
        headers = {"Idempotency-Key": "1"}
        answer = await client.post("/v1/calls", json={**CALL, **fields}, headers=headers)
        assert answer.status_code == 422, (fields, answer.text)
        found = findings_of(answer)
        assert found
        assert not any({"row", "column"} & each.keys() for each in found)
        if column is not None:
            assert f"/{column}" in {each["pointer"] for each in found}, (fields, found)
    assert not await CallQueue(memory).find()


async def test_a_number_below_zero_is_no_batch(memory: Store, client: Client) -> None:
    (found,) = findings_of(await call(client, batch=-1))
    assert (found["pointer"], "no batch id" in str(found["detail"])) == ("/batch", True)
    assert await CallQueue(memory).find() == []


async def test_a_missing_field_is_no_name_in_the_data(client: Client) -> None:
    """Also if the data has the same name: a program that follows the pointer mends what is wrong."""
    for path, data, missing in (
        ("/v1/calls", {"to": "+6587654321"}, "/to"),
        ("/v1/escalations", {"numbers": ["+6587654321"]}, "/numbers"),
    ):
        body = {"say": "Your order is ready.", "data": data}
        refused = await client.post(path, json=body, headers={"Idempotency-Key": "1"})
        found = {each["pointer"] for each in findings_of(refused)}
        assert missing in found, refused.text
        assert not {each for each in found if str(each).startswith("/data/")}


async def test_settings_complete_a_call_and_what_is_missing_is_told() -> None:
    async with open_store("memory://") as store, program(store, source=None, voice_profile=None) as client:
        found = findings_of(await call(client))
        assert any("source" in str(each["detail"]) for each in found)
    async with open_store("memory://") as store, program(store, redial_on="busy", redial_max=3) as client:
        assert (await call(client)).status_code == 201
        [job] = await CallQueue(store).find()
        assert job.redial is not None
        assert job.redial.limit == 3


async def test_calls_are_found_by_batch_state_and_number(client: Client) -> None:
    for place in range(5):
        await call(client, str(place), batch=f"b{place % 2}")
    for query, count in (
        ({"batch": "b0"}, 3), ({"state": "queued"}, 5), ({"state": "completed"}, 0), ({"batch": "none"}, 0),
        ({"number": "+65 8765 4321"}, 5), ({"number": " 6587654321"}, 5),
        ({"number": "6587654321", "batch": "b1"}, 2), ({"number": "+6581111111"}, 0),
    ):  # fmt: skip
        answer = await client.get("/v1/calls", params=query)
        assert len(answer.json()["calls"]) == count, query


async def test_a_call_is_redialled_once_after_its_newest_attempt(memory: Store, client: Client) -> None:
    calls = Calls(memory)
    job = await calls.ended(SessionStatus.BUSY)
    path = f"/v1/calls/{job.id}/redial"
    assert (await client.get(f"/v1/calls/{job.id}")).json()["due_at"] is None, "it has ended"
    for wrong in ({}, {"post": "1"}, {"post": -1}):
        assert (await client.post(path, json=wrong)).status_code == 422, "a repeat would ring again"
    for _ in range(2):  # a lost answer
        first = await client.post(path, json={"post": 1, "note": "she asked for it"})
        assert (first.status_code, first.json()["state"]) == (200, "queued")
    [sent] = await calls.engine.send()
    await calls.end(sent)
    again = await client.post(path, json={"post": 1})
    assert (again.status_code, "POST 2 is now the newest" in again.json()["detail"]) == (409, True)
    assert await calls.engine.send() == []
    refused = await client.post(path, json={"post": 2})
    assert (refused.status_code, findings_of(refused)[0]["code"]) == (409, "wrong_state")
    assert (await client.post(path, json={"post": 2, "force": True})).json()["state"] == "queued"
    entries = [each.action for each in await entries_on(memory, call=job.id)]
    assert entries.count("redial") == 2


async def test_further_numbers_of_a_person_are_kept_in_their_order(client: Client) -> None:
    made = await call(client, further_numbers=["8765 4322", "+6587654323"], country="SG", data={"name": "Li"})
    assert made.json()["further_numbers"] == ["+6587654322", "+6587654323"]
    assert made.json()["data"] == {"name": "Li"}
    many = [f"+658{number:07}" for number in range(40_000)]
    for wrong, detail in ((5, "no list"), ({"a": 1}, "no list"), (["12"], ""), (many, "at most 10 of a person")):
        (refused,) = findings_of(await call(client, "wrong", further_numbers=wrong))
        assert (refused["pointer"], detail in str(refused["detail"])) == ("/further_numbers", True)


async def waits(client: Client, count: int) -> bool:
    return f"voiceflow_api_waiting {count}.0\n" in (await client.get("/metrics")).text


async def test_who_waits_gets_the_outcome_when_it_comes(memory: Store) -> None:
    calls = Calls(memory)
    job = await calls.placed()
    async with program(memory) as client, anyio.create_task_group() as group:
        found: list[Any] = []

        async def ask() -> None:
            found.append((await client.get(f"/v1/calls/{job.id}?wait=30")).json())

        for _ in range(150):
            group.start_soon(ask)
        await until(partial(waits, client, 150))
        assert not found
        assert (await client.get(f"/v1/calls/{job.id}")).json()["state"] == "submitted", "others are not kept waiting"
        await calls.end(job)
    assert [each["state"] for each in found] == ["completed"] * 150


async def test_a_wait_ends_after_its_time_and_when_the_server_stops(client: Client) -> None:
    made = (await call(client)).json()["id"]
    began = anyio.current_time()
    assert (await client.get(f"/v1/calls/{made}?wait=1")).json()["state"] == "queued"
    assert 0.9 < anyio.current_time() - began < 10
    async with anyio.create_task_group() as group:
        group.start_soon(partial(client.get, f"/v1/calls/{made}?wait=60"))
        await until(partial(waits, client, 1))
        api_of(client).stop()
    assert (await client.get(f"/v1/calls/{made}?wait=60")).json()["state"] == "queued"
    assert anyio.current_time() - began < 20


async def test_what_an_action_on_a_call_refuses_is_a_problem(memory: Store, client: Client) -> None:
    engine = Engine(memory, ScriptedVoice(answers=[unknown()]))
    doubt = await engine.enqueue("+6587654321")
    await engine.send()
    path = f"/v1/calls/{doubt.id}/resolve"
    decided = {"placed": True, "note": "asked", "post": 1}
    for wrong in ({"placed": "yes"}, {"note": ""}, {"note": None}, {"post": None}):
        assert (await client.post(path, json=decided | wrong)).status_code == 422
    assert (await client.post(path, json={"placed": False, "note": "asked", "post": 1})).status_code == 409, "too early"
    assert (await client.post(path, json=decided | {"post": 2})).status_code == 409, "it has no such attempt"
    assert (await client.post(f"/v1/calls/{doubt.id}/cancel")).status_code == 409
    assert (await client.post("/v1/calls/default.nope/cancel")).status_code == 404
    for _ in range(2):  # a lost answer
        assert (await client.post(path, json=decided)).json()["state"] == "accepted"
    made = (await call(client)).json()["id"]
    gone = [await client.post(f"/v1/calls/{made}/cancel", json={"note": "it is off"}) for _ in "ab"]  # a lost answer
    assert [(each.status_code, each.json()["reason"]) for each in gone] == [(200, "it is off (by api)")] * 2
