"""The ends of calls in the sandbox, by seed and by script, and the webhooks that report them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.sandbox.calling import ANA, BEN, SOURCE, Caller, calling, settled
from tests.sandbox.menus import Receiver, receiving
from voiceflow_worker.model.flows.rules import write_valid_until
from voiceflow_worker.model.reports.events import SessionSummary, parse_event
from voiceflow_worker.model.reports.outcome import BODY_CODES
from voiceflow_worker.model.reports.status import SessionStatus, session_error
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.outcomes import Outcomes

pytestmark = pytest.mark.anyio

QUICK = 2000.0


@asynccontextmanager
async def reporting() -> AsyncGenerator[tuple[Receiver, Sandbox, Caller]]:
    """A quick sandbox that reports to a receiver, and a caller of it."""
    async with receiving({}) as listener:
        sandbox = Sandbox(webhook=listener.url, speed=QUICK)
        async with calling(sandbox) as caller:
            yield listener, sandbox, caller


async def register(caller: Caller, **given: object) -> Any:
    answer = await caller.client.post(
        f"{caller.url}/api/v1/subaccounts/acme/webhooks", json=given, headers={"Authorization": "Bearer k"}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_summary_tells_how_a_call_ended_as_the_service_words_it() -> None:
    async with receiving({}) as listener:
        sandbox = Sandbox(webhook=listener.url, webhook_secret="Basic c2VjcmV0", speed=QUICK)
        async with calling(sandbox) as caller:
            await caller.script(destination=ANA, outcome="COMPLETED", ring_seconds=5, talk_seconds=20)
            began = datetime.now(UTC)
            answer = await caller.place(clientRequestId="default.01J.1", clientBatchId="batch-1")
            await settled(sandbox)
            (entry,) = await caller.ledger()
    assert listener.authorizations == ["Basic c2VjcmV0"]
    (event,) = listener.events
    assert (event["namespace"], event["eventType"]) == ("VOICE", "SESSION_SUMMARY")
    summary = parse_event(event)
    assert isinstance(summary, SessionSummary)
    assert (summary.session_id, event["payload"]["subAccountId"]) == (answer.json()["sessionId"], "acme")
    assert (summary.client_request_id, event["payload"]["clientBatchId"]) == ("default.01J.1", "batch-1")
    assert (summary.status, summary.last_action, summary.call_count) == (SessionStatus.COMPLETED, "HANGUP", 1)
    assert summary.started_at is not None
    assert summary.ended_at is not None
    assert abs(summary.started_at - began) < timedelta(seconds=10)
    assert summary.ended_at - summary.started_at == timedelta(seconds=25)
    leg = summary.call_a
    assert leg is not None
    assert leg.connected_at is not None
    assert (leg.source, leg.destination, leg.status) == (SOURCE, ANA, "COMPLETED")
    first = event["payload"]["details"]["callA"]
    assert (first["sourceCountryCode"], first["destinationCountryCode"]) == ("SG", "SG")
    assert leg.connected_at - summary.started_at == timedelta(seconds=5)
    assert leg.seconds == 20
    assert leg.mos is not None
    assert 1 <= leg.mos <= 5
    assert (entry["outcome"], entry["seconds"], entry["price"]) == ("COMPLETED", 25.0, "0.0400")


async def test_a_scripted_outcome_and_error_come_true() -> None:
    outcomes = [
        ("NO_ANSWER", SessionStatus.NO_ANSWER),
        ("no answer", SessionStatus.NO_ANSWER),
        ("CANCELLED", SessionStatus.CANCELED),
        ("COMPLETED_UNSUBSCRIBED", SessionStatus.COMPLETED_UNSUBSCRIBED),
        ("UNSUBSCRIBED_CONTACT", SessionStatus.UNSUBSCRIBED_CONTACT),
    ]
    async with reporting() as (listener, sandbox, caller):
        for outcome, _ in outcomes:
            await caller.script(outcome=outcome, times=1)
        await caller.script(outcome="FAILED", error_code=-2004, times=1)
        await caller.script(outcome="ERROR", error_code=-2010, error_message="Trunk full", times=1)
        await caller.script(error_code=-2010, ring_seconds=2, times=1)
        for code in BODY_CODES:  # a code is enough: the call fails, whatever the seed says
            await caller.script(error_code=code, times=1)
        for _ in range(len(outcomes) + 3 + len(BODY_CODES)):
            await caller.place()
            await settled(sandbox)
        entries = await caller.ledger()
    told = [(payload["sessionStatus"], payload.get("errorDetails")) for payload in listener.payloads]
    assert told == [
        *((status.value, None) for _, status in outcomes),
        ("FAILED", {"errorMsg": "no coverage for this destination", "errorCode": -2004}),
        ("ERROR", {"errorMsg": "Trunk full", "errorCode": -2010}),
        ("FAILED", {"errorMsg": "the trunk's capacity is exceeded", "errorCode": -2010}),
        *(("ERROR", {"errorMsg": session_error(code).meaning, "errorCode": code}) for code in BODY_CODES),
    ]
    # Who is on the block list of the account is never called, and nobody without a free line, unless a script says so.
    rang = [(status.value, status is not SessionStatus.UNSUBSCRIBED_CONTACT) for _, status in outcomes]
    assert [(entry["outcome"], entry["rang"]) for entry in entries] == [
        *rang, ("FAILED", True), ("ERROR", False), ("FAILED", True), *[("ERROR", True)] * len(BODY_CODES)
    ]  # fmt: skip
    assert all(entry["heard"] == [] for entry in entries[-len(BODY_CODES) :])


async def test_a_summary_can_be_repeated_dropped_or_nameless() -> None:
    async with reporting() as (listener, sandbox, caller):
        await caller.script(destination=ANA, duplicates=2)
        await caller.script(destination=BEN, drop=True, times=1)
        await caller.script(destination=BEN, no_client_request_id=True)
        await caller.place(ANA, clientRequestId="a")
        await caller.place(BEN, clientRequestId="b")
        third = await caller.place(BEN, clientRequestId="c", clientBatchId="batch")
        await settled(sandbox)
    assert Counter(payload.get("clientRequestId") for payload in listener.payloads) == {"a": 3, None: 1}
    (nameless,) = [payload for payload in listener.payloads if "clientRequestId" not in payload]
    assert (nameless["sessionId"], nameless["clientBatchId"]) == (third.json()["sessionId"], "batch")


async def test_a_call_that_is_dialled_after_its_validity_ends_with_2007_and_never_rings() -> None:
    async with receiving({}) as listener:
        sandbox = Sandbox(webhook=listener.url)
        async with calling(sandbox) as caller:
            await caller.script(destination=ANA, dial_seconds=0.3, delay_seconds=0)
            await caller.script(destination=BEN, dial_seconds=0.3, ring_seconds=0, outcome="BUSY", delay_seconds=0)
            soon = write_valid_until(datetime.now(UTC) + timedelta(seconds=0.2))
            later = write_valid_until(datetime.now(UTC) + timedelta(seconds=60))
            assert (await caller.place(ANA, validUntil=soon)).status_code == 200
            assert (await caller.place(BEN, validUntil=later)).status_code == 200
            assert [entry["rang"] for entry in await caller.ledger()] == [False, False]
            await settled(sandbox)
            assert [entry["rang"] for entry in await caller.ledger()] == [False, True]
    by_code = {payload.get("errorDetails", {}).get("errorCode"): payload for payload in listener.payloads}
    assert set(by_code) == {-2007, None}
    assert (by_code[-2007]["sessionStatus"], by_code[-2007]["callCount"], by_code[-2007]["details"]) == ("ERROR", 0, {})


async def test_a_delivery_is_tried_once_unless_retries_are_ordered() -> None:
    async with receiving({}, 503, 503, 503) as listener:
        sandbox = Sandbox(webhook=listener.url, speed=QUICK)
        async with calling(sandbox) as caller:
            await caller.place(ANA)
            await settled(sandbox)
            assert len(listener.events) == 1
            await caller.script(retries=5)
            await caller.place(BEN)
            await settled(sandbox)
            deliveries = (await caller.client.get(f"{caller.url}/_sandbox/deliveries")).json()
    assert len(listener.events) == 4
    assert [delivery["status"] for delivery in deliveries] == [503, 503, 503, 200]


async def test_a_receiver_that_is_away_is_written_down() -> None:
    sandbox = Sandbox(webhook="http://127.0.0.1:9/hook", speed=QUICK)
    async with calling(sandbox) as caller:
        answer = await caller.place(clientRequestId="a")
        await settled(sandbox)
        (delivery,) = (await caller.client.get(f"{caller.url}/_sandbox/deliveries")).json()
    assert delivery["status"] is None
    assert "ConnectError" in delivery["error"]
    assert (delivery["client_request_id"], delivery["session_id"]) == ("a", answer.json()["sessionId"])


async def test_summaries_go_where_they_were_registered_for() -> None:
    async with receiving({}) as first, receiving({}) as second:
        sandbox = Sandbox(webhook=first.url, speed=QUICK)
        async with calling(sandbox) as caller:
            listed = await register(caller, type="VSS", url=second.url, httpAuthHeader="Bearer hook")
            await caller.place()
            await settled(sandbox)
            await register(caller, type="VSS", url=second.url, active=False)
            await caller.place()
            await settled(sandbox)
            await caller.client.delete(
                f"{caller.url}/api/v1/subaccounts/acme/webhooks/VSS", headers={"Authorization": "Bearer k"}
            )
            await caller.place()
            await settled(sandbox)
    assert {"type": "VSS", "url": second.url, "enabled": True, "httpAuthHeaderAvailable": True} in listed["webhooks"]
    assert first.events == []
    assert second.authorizations == ["Bearer hook"]


def test_most_calls_are_answered_and_some_end_in_each_other_way() -> None:
    outcomes = Outcomes(0)
    plans = [outcomes.plan(f"65876{place:05d}", []) for place in range(5000)]
    share = {status: count / 50 for status, count in Counter(plan.status for plan in plans).items()}
    assert 65 < share[SessionStatus.COMPLETED] < 80
    assert all(share[status] > 1 for status in (SessionStatus.NO_ANSWER, SessionStatus.BUSY, SessionStatus.FAILED))
    assert all(plan.code is not None for plan in plans if plan.status is SessionStatus.FAILED)
    assert all((plan.talk_seconds > 0) is plan.is_answered for plan in plans)
