"""Campaigns over HTTP: started whole and once under a key, previewed, and what is refused; batches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import anyio
import httpx
import pytest

from tests.api.clients import Client, findings_of, program
from tests.contract.samples import ManualClock
from tests.support.cut_imports import cut_import
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import number
from voiceflow_worker import CallQueue, Menu, Store
from voiceflow_worker.api import asked
from voiceflow_worker.api import problems as answers
from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.ivr.menu_data import written_menus
from voiceflow_worker.service.named_campaign import NamedCampaign

pytestmark = pytest.mark.anyio

ROWS = [
    {"destination": "+6587654301", "name": "Ana"},
    {"destination": "+6587654302", "name": "Ben"},
]
CAMPAIGN: Mapping[str, object] = {"rows": ROWS, "say": "Hello {{name}}."}
PEOPLE = b"Mobile,name\n8765 4301,Ana\n8765 4302,Ben\n"
TABLE = {"say": "Hello {{name}}.", "country": "SG", "columns": {"destination": "Mobile"}}
ASK = Menu("ask", prompt="Press 1, {{name}}.", voice_profile="en-US-JennyNeural")
ASK.on("1", goto="Thank you.")


async def start(
    client: Client,
    definition: Mapping[str, object] = CAMPAIGN,
    *,
    key: str | None = "march",
    query: str = "",
) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await client.post(f"/v1/campaigns{query}", json=definition, headers=headers)


async def upload(
    client: Client,
    fields: Mapping[str, object] = TABLE,
    *,
    people: bytes = PEOPLE,
    name: str = "people.csv",
    key: str = "march",
    **parts: Any,
) -> httpx.Response:
    files = {"definition": (None, json.dumps(fields), "application/json"), "file": (name, people), **parts}
    return await client.post("/v1/campaigns", files=files, headers={"Idempotency-Key": key})


async def called(store: Store) -> list[str]:
    return sorted(job.destination for job in await CallQueue(store).find())


async def test_a_campaign_is_started_once_under_its_key(memory: Store, client: Client) -> None:
    first, again = await start(client), await start(client, {name: CAMPAIGN[name] for name in ("say", "rows")})
    assert (first.status_code, again.status_code) == (201, 200), first.text
    assert first.headers["location"] == "/v1/batches/march"
    assert (first.json()["batch_id"], first.json()["enqueued"], first.json()["findings"]) == ("march", 2, [])
    report = again.json()
    assert (report["batch_id"], report["enqueued"], report["duplicates"]) == ("march", 2, 0), "those of the first"
    other = await start(client, {**CAMPAIGN, "say": "Bye {{name}}."})
    assert other.status_code == 422
    assert "belongs to another request" in findings_of(other)[0]["detail"]  # type: ignore[operator]
    assert await called(memory) == ["+6587654301", "+6587654302"]
    assert (await client.get("/v1/batches/march")).json()["ordered"][0]["by"] == "api"


@pytest.mark.parametrize("definition", [{}, {"rows": [{"destination": "+6587654309", "name": "Chen"}]}])
async def test_of_two_campaigns_under_one_key_at_once_on_two_servers_one_is_started(
    memory: Store, definition: Mapping[str, object]
) -> None:
    done = list[httpx.Response]()

    async def is_overtaken(call: StoreCall) -> None:
        if call.name == "write" and not done:
            done.append(await start(quick))

    async with program(FaultyStore(memory, before=is_overtaken)) as slow, program(memory) as quick:
        other = await start(slow, {**CAMPAIGN, **definition})
        assert (done[0].status_code, other.status_code) == (201, 422 if definition else 200), other.text
        assert [(await start(slow)).json()[name] for name in ("enqueued", "duplicates")] == [2, 0]
    assert await called(memory) == ["+6587654301", "+6587654302"]


async def test_a_time_that_is_counted_from_now_is_no_other_campaign() -> None:
    clock = ManualClock()
    memory = MemoryStore(clock=clock)
    later = {"not_before": "tomorrow 09:00", "valid_for": "2h", "time_zone": "Asia/Singapore", "batch": "visits"}
    async with program(memory) as client:
        first = await start(client, {**CAMPAIGN, **later})
        clock.advance(timedelta(days=3))
        again = await start(client, {**CAMPAIGN, **later})
    assert [first.status_code, again.status_code, again.json()["batch_id"]] == [201, 200, "visits"]


@pytest.mark.parametrize(("changed", "again"), [("source", False), ("voice", True), ("menu", False)])
async def test_a_cut_start_is_continued_as_it_was_meant_at_first_and_rings_nobody_twice(
    changed: str, *, again: bool
) -> None:
    """A start is cut behind any write, and the server begins again with other settings, or other texts of its menu."""
    settings: dict[str, dict[str, Any]] = {
        "source": {"source": "+6531230000"},
        "voice": {"voice_profile": "en-SG-WayneNeural"},
        "menu": {},
    }
    other = Menu("ask", prompt="Please press 1, {{name}}.", voice_profile="en-US-JennyNeural")
    other.on("1", goto="Thank you.")
    words = {"say": None, "ivr": "ask"} if changed == "menu" else {}
    definition = {**CAMPAIGN, **words, "again": "elsewhere" if again else None}
    writes = 0

    async def cut(call: StoreCall) -> None:
        nonlocal writes
        writes += call.name == "write"
        if call.name == "write" and writes == step:
            raise StoreUnavailableError("cut")

    for step in range(2, 20):  # the first write is that of the turn
        clock, writes = ManualClock(), 0
        memory = MemoryStore(clock=clock)
        async with program(FaultyStore(memory, after=cut), menus=[ASK]) as client:
            first = await start(client, definition)
        clock.advance(timedelta(minutes=1))  # the turn of a server that does not answer ends
        async with program(memory, menus=[other], **settings[changed]) as client:
            found = await start(client, definition)
        numbers = await called(memory)
        assert numbers == ["+6587654301", "+6587654302"], (step, first.text, found.text)
        if changed != "menu":
            assert found.status_code == 200, (step, found.text)
        if writes < step:
            break
    assert step >= 4


async def test_the_batch_of_a_key_has_the_day_of_its_first_request() -> None:
    clock = ManualClock()
    memory = MemoryStore(clock=clock)
    daily = {**CAMPAIGN, "batch": "reminder-{date}", "time_zone": "Asia/Singapore"}
    async with program(memory) as client:
        first = await start(client, daily)
        clock.advance(timedelta(days=1))
        again, other = await start(client, daily), await start(client, daily, key="april")
        refused = await start(client, {**daily, "time_zone": None}, key="may")
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 201), first.text
    found = [each.json()["batch_id"] for each in (first, again, other)]
    assert found == ["reminder-2026-01-05", "reminder-2026-01-05", "reminder-2026-01-06"]
    assert (again.json()["enqueued"], other.json()["enqueued"]) == (2, 2)
    assert {job.batch_id for job in await CallQueue(memory).find()} == {*found}
    assert (refused.status_code, [each["pointer"] for each in findings_of(refused)]) == (422, ["/batch"])


async def test_a_bad_row_refuses_all_of_them(memory: Store, client: Client) -> None:
    rows = [*ROWS, {"destination": "12", "name": "Cy"}, {"destination": "+6587654303"}, 7]
    refused = await start(client, {**CAMPAIGN, "rows": rows})
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("nothing was enqueued: 3 rows of 5 cannot be called: ")
    found = {each["pointer"] for each in findings_of(refused)}
    assert found >= {"/rows/2/destination", "/rows/3/name", "/rows/4"}
    assert await called(memory) == []
    assert (await start(client)).status_code == 201, "a key whose campaign was refused is free"
    assert (await start(client, {**CAMPAIGN, "rows": rows, "skip_bad": True}, key="other")).status_code == 422


async def test_of_many_bad_rows_the_first_are_told_and_all_are_counted(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "MOST_FINDINGS", 10)
    refused = await start(client, {**CAMPAIGN, "rows": [{"destination": "1", "name": "Cy"}] * 50})
    assert refused.status_code == 422
    assert len(findings_of(refused)) == 11
    assert "40 more findings not listed, of 50 in all" in findings_of(refused)[-1]["detail"]  # type: ignore[operator]


async def test_a_preview_needs_no_key_and_stores_nothing(memory: Store, client: Client) -> None:
    shown = await start(client, {**CAMPAIGN, "rows": [*ROWS, {"destination": "12"}]}, key=None, query="?dry_run=1")
    assert (shown.status_code, shown.json()["dry_run"], shown.json()["rejected"]) == (200, True, 1)
    assert shown.json()["preview"]["calls"] == 2
    assert (await start(client, key=None)).status_code == 422
    assert (await start(client, query="?dry_run=maybe")).status_code == 422
    assert await called(memory) == []


@pytest.mark.parametrize(
    ("name", "people"),
    [
        ("people.csv", PEOPLE),
        ("C:\\of Li\\../people.CSV", PEOPLE),
        ("a" * 300 + ".jsonl", b'{"Mobile": "8765 4301", "name": "Ana"}\n{"Mobile": "8765 4302", "name": "Ben"}\n'),
    ],
    ids=["plain", "a path", "long"],
)
async def test_a_file_is_uploaded_and_its_name_tells_the_format(
    memory: Store, client: Client, name: str, people: bytes
) -> None:
    first = await upload(client, people=people, name=name)
    assert first.status_code == 201, first.text
    assert first.json()["batch_id"] == "march"
    assert (await upload(client, people=people, name=name)).status_code == 200
    assert (await upload(client, people=people + b"\n", name=name)).status_code == 422
    assert await called(memory) == ["+6587654301", "+6587654302"]


@pytest.mark.parametrize(
    ("definition", "parts", "status", "why"),
    [
        ({**TABLE, "file": "/etc/passwd"}, {}, 422, "it names a file of another computer"),
        ({**TABLE, "template": "../../x"}, {}, 422, "it names a file of another computer"),
        ({**TABLE, "say": None, "ivr": "os:system"}, {}, 422, "is not one of the menus: ask"),
        ({**TABLE, "rows": []}, {}, 422, "exclude each other"),
        ({**TABLE, "say": None, "template": {"callflow": []}}, {}, 422, '"pointer":"/template'),
        ({**TABLE, "priority": 1.5}, {}, 422, "priority"),
        ({**TABLE, "columns": {"destination": "Phone"}}, {}, 422, "file.csv"),
        (TABLE, {"definition": ("more.json", "{}")}, 422, "in the part definition"),
        (TABLE, {"file": (None, "Mobile\n1\n")}, 422, "whose ending names the format"),
        (TABLE, {"file": ("people.csv", b"\0" * 20_000_001)}, 413, "longer than 20000000 bytes"),
        (TABLE, {"file": ("people.csv", b"\0" * 21_000_001)}, 413, "longer than 21000000 bytes"),
        (TABLE, {"definition": (None, "say=Hello")}, 400, "is not JSON"),
        (TABLE, {"definition": (None, "[1]")}, 422, "is not a JSON object"),
    ],
    ids=range(13),
)
async def test_what_is_refused(
    memory: Store, definition: Mapping[str, object], parts: Mapping[str, Any], status: int, why: str
) -> None:
    async with program(memory, menus=[ASK]) as client:
        answer = await upload(client, definition, **parts)
        assert (answer.status_code, why in answer.text, "/tmp" in answer.text) == (status, True, False), answer.text
        assert findings_of(answer) or status == 413
        assert await called(memory) == []


@pytest.mark.parametrize("charset", ["undefined", "idna", "utf-16", "hex", "no-such", "utf-8%00"])
async def test_no_charset_of_a_form_is_a_fault_of_the_server(client: Client, charset: str) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="definition"\r\n\r\n{}\r\n--x--\r\n'
    headers = {"Content-Type": f"multipart/form-data; boundary=x; charset={charset}", "Idempotency-Key": "k"}
    answer = await client.post("/v1/campaigns", content=part, headers=headers)
    assert answer.status_code in {400, 422}, answer.text
    assert findings_of(answer)


async def test_a_campaign_for_a_cancelled_batch_leaves_its_key_free(client: Client) -> None:
    await start(client, {**CAMPAIGN, "batch": "visits"}, key="first")
    await client.post("/v1/batches/visits/cancel")
    other = {**CAMPAIGN, "say": "Good morning {{name}}."}
    refused = await start(client, {**other, "batch": "visits"}, key="second")
    assert (refused.status_code, "was cancelled" in refused.text) == (422, True)
    assert (await start(client, {**other, "batch": "visits-2"}, key="second")).status_code == 201


async def test_a_campaign_begins_with_a_menu_of_the_server(store: Store) -> None:
    async with program(store, menus=[ASK]) as client:
        assert (await start(client, {"rows": ROWS, "ivr": "ask"})).status_code == 201
        assert (await start(client, {"rows": ROWS, "ivr": "ask"})).status_code == 200
    assert {job.menu for job in await CallQueue(store).find()} == {"ask"}


async def test_a_menu_of_data_is_kept_with_the_calls(store: Store) -> None:
    menu = {"questions": [{"id": "ask", "text": "Hello {{name}}.", "keys": {"1": {"answer": "yes"}}}]}
    async with program(store) as client:
        assert (await start(client, {"rows": ROWS, "menu": menu})).status_code == 201
        refused = await start(client, {"rows": ROWS, "menu": {"questions": []}}, key="other")
    assert (refused.status_code, findings_of(refused)[0]["pointer"]) == (422, "/menu")
    (name,) = {job.menu for job in await CallQueue(store).find()}
    assert set(await written_menus(store).get([str(name)])) == {name}


async def test_campaigns_that_take_long_keep_nobody_from_holding_a_queue(
    memory: Store, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ends, usual = 0, anyio.Event(), NamedCampaign.start

    async def slow(*arguments: Any, **named: Any) -> Any:
        nonlocal begun
        begun += 1
        await ends.wait()
        return await usual(*arguments, **named)

    monkeypatch.setattr(NamedCampaign, "start", slow)
    async with anyio.create_task_group() as group:
        for place in range(asked.AT_ONCE + asked.CAMPAIGNS):
            rows = [{**ROWS[0], "destination": number(place)}]
            group.start_soon(partial(start, client, {**CAMPAIGN, "rows": rows}, key=f"k{place}"))
        await anyio.wait_all_tasks_blocked()
        assert begun == asked.CAMPAIGNS
        with anyio.fail_after(5):
            assert (await client.post("/v1/queues/default/hold")).status_code == 200
        ends.set()
    assert len(await called(memory)) == asked.AT_ONCE + asked.CAMPAIGNS


async def test_a_batch_is_shown_held_resumed_and_cancelled(memory: Store, client: Client) -> None:
    await start(client)
    shown = (await client.get("/v1/batches/march")).json()
    assert (shown["total"], shown["done"], shown["ended"], shown["answers"]) == (2, 0, False, {})
    held = await client.post("/v1/batches/march/hold", json={"note": "a typo", "for": "10m"})
    assert (held.status_code, held.json()["state"], "a typo" in held.json()["reason"]) == (200, "held", True)
    assert (await client.get("/v1/batches/march")).json()["hold"]["name"] == "march"
    assert (await client.post("/v1/batches/march/hold", json={"for": "soon"})).status_code == 422
    order = {"since": held.json()["since"], "most": 2}
    assert (await client.post("/v1/batches/march/resume", json=order)).json()["state"] == "open"
    assert (await client.post("/v1/batches/march/cancel")).json() == {"batch_id": "march", "cancelled": 2}
    shown = (await client.get("/v1/batches/march?wait=5")).json()
    assert (shown["ended"], shown["states"]["cancelled"], shown["outcomes"]) == (True, 2, {})
    report = (await client.get("/v1/batches/march/report")).json()
    assert report == json.loads(json.dumps((await CallQueue(memory).report("march")).as_json()))
    assert (await client.post("/v1/batches/march/resume", json=order)).status_code == 409, "it is cancelled"
    for path in ("", "/report", "/hold", "/resume", "/cancel"):
        method = "GET" if path in {"", "/report"} else "POST"
        body = order if path == "/resume" else None
        answer = await client.request(method, f"/v1/batches/april{path}", json=body)
        assert (answer.status_code, "has no calls" in answer.text) == (404, True), path


async def test_a_batch_whose_import_was_cut_is_held_when_it_is_resumed(memory: Store, client: Client) -> None:
    await cut_import(memory, 3)
    order = {"since": "2026-01-01T00:00:00Z", "most": 9}
    assert (await client.post("/v1/batches/march/resume", json=order)).json()["state"] == "held"
    assert (await client.get("/v1/batches/march")).json()["hold"]["state"] == "held"
    assert (await client.post("/v1/batches/march/cancel")).json() == {"batch_id": "march", "cancelled": 3}


@pytest.mark.parametrize("name", ["märz 7 €", "100%", "a b", "7"])
async def test_a_batch_may_have_any_name(client: Client, name: str) -> None:
    begun = await start(client, {**CAMPAIGN, "batch": name})
    assert (await client.get(begun.headers["location"])).json()["batch_id"] == name
    assert (await client.post(f"{begun.headers['location']}/cancel")).json()["cancelled"] == 2
    for broken in ("a%00b", "%ff", "%ED%A0%80", "x" * 3000):
        assert (await client.post(f"/v1/batches/{broken}/cancel")).status_code == 404


async def test_a_wait_for_a_batch_ends_with_its_last_call(memory: Store, client: Client) -> None:
    await start(client)
    shown: list[dict[str, Any]] = []
    async with anyio.create_task_group() as group:

        async def wait() -> None:
            shown.append((await client.get("/v1/batches/march?wait=30")).json())

        group.start_soon(wait)
        await CallQueue(memory).cancel_batch("march", reason="it rains")
    assert shown[0]["ended"] is True


async def test_a_list_without_rows_makes_no_batch_and_names_none(memory: Store) -> None:
    async with program(memory) as client:
        answer = await start(client, {**CAMPAIGN, "rows": []})
        assert (answer.status_code, answer.headers.get("location"), answer.json()["rows"]) == (200, None, 0)
        for people in ({}, {"rows": None}, {"file": None}):
            without = {name: value for name, value in CAMPAIGN.items() if name != "rows"}
            answer = await start(client, {**without, **people}, key=f"none{people}")
            assert (answer.status_code, answer.headers.get("location")) == (422, None)
            assert "has no people: give a file or rows" in answer.json()["detail"]
        assert await CallQueue(memory).find(limit=None) == []
        answer = await start(client, key="april")
        assert answer.status_code == 201
        assert (await client.get(answer.headers["location"])).status_code == 200
