"""The log export as the sandbox plays it: what is in the log, when, and how exports go wrong."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.sandbox.calling import ANA, BEN, KEY, SOURCE, Caller, calling
from voiceflow_worker import VoiceClient
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.exports import COLUMNS
from voiceflow_worker.sandbox.orders import RowOrder, Script

pytestmark = pytest.mark.anyio

EXPORTS = "/api/v1/subaccounts/acme/messages/exports"
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


class TestRows:
    async def test_a_call_that_ended_has_a_row(self, sandbox: Sandbox, caller: Caller) -> None:
        session = (await caller.place(ANA)).json()["sessionId"]
        await sandbox.idle()
        (row,) = await rows(caller)
        assert list(row) == list(COLUMNS)
        assert len(COLUMNS) == 35
        assert (row["BillableDurationInSec"], row["TotalPriceOfCall"], row["UnitPriceCurrency"]) == (
            "60",
            "0.0400",
            "USD",
        )
        assert (row["DestinationCountryCode"], row["CallType"], row["BillingIncrement"]) == ("SG", "PSTN", "60+60")
        assert (row["SessionId"], row["SubAccountId"], row["Direction"]) == (session, "acme", "OUTBOUND")
        assert (row["SourceEndpoint"], row["DestinationEndpoint"]) == (SOURCE[1:], ANA[1:])
        assert (row["SessionStatus"], row["DurationInSec"]) == ("COMPLETED", "20")
        began, ended = (datetime.fromisoformat(row[name]) for name in ("InitiatedAt", "DisconnectedAt"))
        assert ended - began == timedelta(seconds=20)
        assert abs(datetime.now(UTC) - began) < timedelta(seconds=30)

    @pytest.mark.parametrize(
        "script",
        [Script(outcome=SessionStatus.UNSUBSCRIBED_CONTACT), Script(ring_seconds=100_000)],
        ids=["never dialled", "goes on"],
    )
    async def test_a_call_that_was_not_dialled_or_goes_on_has_none(
        self, sandbox: Sandbox, caller: Caller, script: Script
    ) -> None:
        sandbox.scripts.clear()
        sandbox.scripts.add(script)
        await caller.place(ANA)
        assert (await caller.post({"callflow": []})).status_code == 422
        if script.ring_seconds is None:
            await sandbox.idle()
        assert (await finished(caller))["status"] == "empty"

    async def test_a_call_with_a_second_party_has_two(self, sandbox: Sandbox, caller: Caller) -> None:
        flow = [{"action": "makeCall", "params": {"source": SOURCE, "destination": number}} for number in (ANA, BEN)]
        session = (await caller.post({"callflow": flow})).json()["sessionId"]
        await sandbox.idle()
        first, second = await rows(caller)
        assert [first["DestinationEndpoint"], second["DestinationEndpoint"]] == [ANA[1:], BEN[1:]]
        assert {first["SessionId"], second["SessionId"]} == {session}
        assert first["CallId"] != second["CallId"]
        (entry,) = sandbox.ledger
        assert entry.price == str(sum(Decimal(row["TotalPriceOfCall"]) for row in (first, second)))
        assert first["InitiatedAt"] <= second["InitiatedAt"]

    async def test_the_second_party_is_not_called_before_the_first_answers(
        self, sandbox: Sandbox, caller: Caller
    ) -> None:
        sandbox.scripts.clear()
        sandbox.scripts.add(Script(outcome=SessionStatus.BUSY, ring_seconds=0))
        flow = [{"action": "makeCall", "params": {"source": SOURCE, "destination": number}} for number in (ANA, BEN)]
        await caller.post({"callflow": flow})
        await sandbox.idle()
        (row,) = await rows(caller)
        assert (row["SessionStatus"], row["SipStatus"], row["ConnectedAt"]) == ("BUSY", "486", "")

    async def test_rows_come_as_late_as_they_are_told_to(self, sandbox: Sandbox, caller: Caller) -> None:
        await caller.order("log", {"destination": ANA, "late_seconds": 1_000_000})
        await caller.place(ANA)
        await caller.place(BEN)
        await sandbox.idle()
        assert [row["DestinationEndpoint"] for row in await rows(caller)] == [BEN[1:]]

    async def test_rows_may_never_come(self, sandbox: Sandbox, caller: Caller) -> None:
        sandbox.rows.add(RowOrder(never=True))
        await caller.place(ANA)
        await sandbox.idle()
        assert await rows(caller) == []

    async def test_a_reset_empties_the_log(self, sandbox: Sandbox, caller: Caller) -> None:
        await caller.place(ANA)
        await sandbox.idle()
        await caller.order("reset", {})
        assert await rows(caller) == []
        assert len((await caller.client.get(f"{caller.url}/_sandbox/exports")).json()) == 1


class TestExports:
    async def test_an_export_is_of_its_range(self, sandbox: Sandbox, caller: Caller) -> None:
        await caller.place(ANA)
        await sandbox.idle()
        hour = timedelta(hours=1)
        now = datetime.now(UTC)
        inside = {"from": (now - hour).isoformat(), "to": (now + hour).strftime("%Y-%m-%dT%H:%M:%SZ")}
        assert len(await rows(caller, **inside)) == 1
        assert await rows(caller, **{"from": "2020-07-01", "to": "2020-07-02T13:00:00"}) == []
        assert len(await rows(caller, limit=0)) == 1

    @pytest.mark.parametrize(
        "body", [{"from": "2026-01-02", "to": "2026-01-01"}, {"from": "yesterday"}, {"limit": -1}, {"limit": True}]
    )
    async def test_a_range_that_makes_no_sense_is_refused(self, caller: Caller, body: dict[str, object]) -> None:
        refused = await begin(caller, **body)
        assert refused.status_code == 400
        assert " should be " in refused.json()["message"]

    async def test_rows_that_come_later_are_not_in_it(self, sandbox: Sandbox, caller: Caller) -> None:
        await caller.place(ANA)
        await sandbox.idle()
        job_id = (await begin(caller)).json()["jobId"]
        await caller.place(BEN)
        await sandbox.idle()
        while (told := await state(caller, job_id))["status"] != "succeeded":
            pass
        (link,) = told["data"]
        assert BEN[1:] not in (await caller.client.get(link)).text

    @pytest.mark.parametrize("status", ["failed", "error", "cancelled", "empty"])
    async def test_it_ends_as_it_is_told_to(self, caller: Caller, status: str) -> None:
        await caller.order("exports", {"status": status})
        assert (await finished(caller))["status"] == status
        assert (await finished(caller))["status"] == "empty"

    async def test_its_beginning_is_refused_as_it_is_told_to(self, caller: Caller) -> None:
        await caller.order("exports", {"http_status": 503})
        assert [(await begin(caller)).status_code for _ in range(2)] == [503, 202]

    async def test_it_can_be_called_off(self, caller: Caller) -> None:
        job_id = (await begin(caller)).json()["jobId"]
        gone = await caller.client.delete(f"{caller.url}{EXPORTS}/{job_id}", headers=KEY)
        assert gone.status_code == 204
        assert (await state(caller, job_id))["status"] == "cancelled"

    async def test_an_export_that_nobody_began_is_not_found(self, caller: Caller) -> None:
        assert (await state(caller, "other"))["code"] == 4018
        job_id = (await begin(caller)).json()["jobId"]
        others = f"{caller.url}{EXPORTS.replace('acme', 'other')}/{job_id}"
        assert (await caller.client.get(others, headers=KEY)).status_code == 404

    async def test_who_has_no_key_gets_nothing(self, caller: Caller) -> None:
        job_id = (await begin(caller)).json()["jobId"]
        for method, path in (("POST", ""), ("GET", f"/{job_id}"), ("DELETE", f"/{job_id}")):
            assert (await caller.client.request(method, caller.url + EXPORTS + path)).status_code == 401

    async def test_a_file_takes_its_signature_and_no_key(self, sandbox: Sandbox, caller: Caller) -> None:
        await caller.place(ANA)
        await sandbox.idle()
        (link,) = (await finished(caller))["data"]
        assert (await caller.client.get(link, headers=KEY)).status_code == 400
        assert (await caller.client.get(link + "x")).status_code == 403


class TestWithTheClient:
    async def test_its_times_are_by_the_clock_of_the_sandbox(self) -> None:
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
