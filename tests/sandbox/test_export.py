"""The log export as the sandbox plays it: what is in the log, when, and how exports go wrong."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.sandbox.calling import ACCOUNT, ANA, BEN, KEY, SOURCE, Caller, call, calling
from voiceflow_worker import VoiceClient
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.exports import COLUMNS
from voiceflow_worker.sandbox.orders import Script

pytestmark = pytest.mark.anyio

EXPORTS = f"{ACCOUNT}/messages/exports"
QUICK = Script(outcome=SessionStatus.COMPLETED, ring_seconds=0, talk_seconds=20, delay_seconds=0)


@pytest.fixture
def sandbox() -> Sandbox:
    made = Sandbox(speed=1000)
    made.scripts.add(QUICK)
    return made


@pytest.fixture
async def caller(sandbox: Sandbox) -> AsyncIterator[Caller]:
    async with calling(sandbox) as made:
        yield made


async def begin(caller: Caller, **body: object) -> httpx.Response:
    return await caller.client.post(caller.url + EXPORTS, json=body, headers=KEY)


async def state(caller: Caller, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await caller.client.get(f"{caller.url}{EXPORTS}/{job_id}", headers=KEY)).json()
    return found


async def finished(caller: Caller, **body: object) -> dict[str, Any]:
    """Begin an export and ask until it has come to its end."""
    begun = await begin(caller, **body)
    assert begun.status_code == 202, begun.text
    while (told := await state(caller, begun.json()["jobId"]))["status"] in {"queued", "running"}:
        pass
    return told


async def rows(caller: Caller, **body: object) -> list[dict[str, str]]:
    """All rows of an export."""
    found: list[dict[str, str]] = []
    for link in (await finished(caller, **body)).get("data", []):
        file = await caller.client.get(link)
        assert file.headers["content-type"].startswith("text/csv")
        found += csv.DictReader(io.StringIO(file.text, newline=""))
    return found


async def test_each_leg_of_a_call_that_was_dialled_and_has_ended_has_a_row(sandbox: Sandbox, caller: Caller) -> None:
    session = (await caller.place(ANA)).json()["sessionId"]
    await sandbox.idle()
    (row,) = await rows(caller)
    assert list(row) == list(COLUMNS)
    assert (row["SessionId"], row["SubAccountId"], row["Direction"]) == (session, "acme", "OUTBOUND")
    assert (row["SourceEndpoint"], row["DestinationEndpoint"]) == (SOURCE[1:], ANA[1:])
    assert (row["SessionStatus"], row["DurationInSec"]) == ("COMPLETED", "20")
    began, ended = (datetime.fromisoformat(row[name]) for name in ("InitiatedAt", "DisconnectedAt"))
    assert ended - began == timedelta(seconds=20)
    assert abs(datetime.now(UTC) - began) < timedelta(seconds=30)
    await caller.order("reset", {})
    assert await rows(caller) == [], "a reset empties the log"

    two = [call(number) for number in (ANA, BEN)]
    sandbox.scripts.add(Script(outcome=SessionStatus.COMPLETED, times=1))
    sandbox.scripts.add(Script(outcome=SessionStatus.BUSY, ring_seconds=0, times=1))
    for _ in range(2):
        assert (await caller.post({"callflow": two})).status_code == 200
        await sandbox.idle()
    assert (await caller.post({"callflow": []})).status_code == 422
    sandbox.scripts.add(Script(outcome=SessionStatus.UNSUBSCRIBED_CONTACT, times=1))
    await caller.place(ANA)
    await sandbox.idle()
    first, second, busy = await rows(caller)
    assert [each["DestinationEndpoint"] for each in (first, second, busy)] == [ANA[1:], BEN[1:], ANA[1:]]
    assert (first["SessionId"] == second["SessionId"], first["CallId"] == second["CallId"]) == (True, False)
    assert (busy["SessionStatus"], busy["SipStatus"], busy["ConnectedAt"]) == ("BUSY", "486", "")


async def test_an_export_is_of_its_range_and_of_what_had_ended_by_then(sandbox: Sandbox, caller: Caller) -> None:
    await caller.place(ANA)
    await sandbox.idle()
    hour, now = timedelta(hours=1), datetime.now(UTC)
    inside = {"from": (now - hour).isoformat(), "to": (now + hour).strftime("%Y-%m-%dT%H:%M:%SZ")}
    assert len(await rows(caller, **inside)) == 1
    assert await rows(caller, **{"from": "2020-07-01", "to": "2020-07-02T13:00:00"}) == []
    for wrong in ({"from": "2026-01-02", "to": "2026-01-01"}, {"from": "yesterday"}):
        refused = await begin(caller, **wrong)
        assert (refused.status_code, " should be " in refused.json()["message"]) == (400, True)
    job_id = (await begin(caller)).json()["jobId"]
    await caller.place(BEN)
    await sandbox.idle()
    while (told := await state(caller, job_id))["status"] != "succeeded":
        pass
    (link,) = told["data"]
    assert BEN[1:] not in (await caller.client.get(link)).text
    assert (await caller.client.get(link, headers=KEY)).status_code == 400, "it takes its signature and no key"
    assert (await caller.client.get(link + "x")).status_code == 403


async def test_an_export_is_its_accounts_own(caller: Caller) -> None:
    job_id = (await begin(caller)).json()["jobId"]
    for method, path in (("POST", ""), ("GET", f"/{job_id}")):
        assert (await caller.client.request(method, caller.url + EXPORTS + path)).status_code == 401
    others = f"{caller.url}{EXPORTS.replace('acme', 'other')}/{job_id}"
    assert (await caller.client.get(others, headers=KEY)).status_code == 404


async def test_its_times_are_by_the_clock_of_the_sandbox() -> None:
    off = timedelta(hours=-3)
    sandbox = Sandbox(speed=1000, clock_offset=off)
    sandbox.scripts.add(QUICK)
    async with calling(sandbox) as caller, VoiceClient("key-1", "acme", base_url=caller.url) as voice:
        await caller.place(ANA)
        await sandbox.idle()
        there = datetime.now(UTC) + off
        log = await voice.logged_calls(since=there - timedelta(hours=1), until=there + timedelta(seconds=5))
    (row,) = log.rows
    assert row.initiated_at is not None
    assert abs(row.initiated_at - there) < timedelta(seconds=5)
