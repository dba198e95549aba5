"""Updates of the account's numbers (VNU), sent when they are ordered."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from tests.sandbox.calling import calling, listening
from voiceflow_worker.model.reports.events import NumberUpdate, parse_event
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.events.number_updates import NumberChange, NumberUpdateOrder, UpdateKind
from voiceflow_worker.sandbox.orders.event_orders import EventKind, EventOrder

pytestmark = pytest.mark.anyio

QUICK = 2000.0


async def settled(sandbox: Sandbox) -> None:
    with anyio.fail_after(20):
        await sandbox.idle()


async def test_a_number_that_became_unhealthy_is_reported_as_the_service_words_it() -> None:
    async with listening() as listener:
        sandbox = Sandbox(webhook=listener.url, speed=QUICK)
        async with calling(sandbox) as caller:
            await caller.order(
                "numbers",
                {
                    "sub_account": "acme",
                    "numbers": [
                        {
                            "msisdn": "6531234567",
                            "operational_status": "Unhealthy",
                            "reference_id": "ref-1",
                            "rental_price": 12.5,
                            "incoming_rate": 0.01,
                            "updated_at": "2026-09-01T08:00:00Z",
                        }
                    ],
                },
            )
            await settled(sandbox)
    (event,) = listener.events
    assert event == {
        "namespace": "VOICE",
        "eventType": "VIRTUAL_NUMBER_UPDATE",
        "description": "Update of virtual numbers",
        "version": 1,
        "payload": {
            "subAccountId": "acme",
            "totalNumbers": 1,
            "updateEventType": "UPDATES",
            "virtualNumbers": [
                {
                    "msisdn": "6531234567",
                    "countryCode": "SG",
                    "operationalStatus": "Unhealthy",
                    "updateStatus": "UPDATED",
                    "referenceId": "ref-1",
                    "rentalPrice": 12.5,
                    "incomingRate": 0.01,
                    "billingUnit": "MINUTE",
                    "billingCurrency": "USD",
                    "updatedTimestamp": "2026-09-01T08:00:00.000Z",
                }
            ],
        },
    }
    update = parse_event(event)
    assert isinstance(update, NumberUpdate)
    (number,) = update.numbers
    assert (number.operational_status, number.updated_at) == ("Unhealthy", datetime(2026, 9, 1, 8, tzinfo=UTC))


async def test_a_snapshot_lists_the_numbers_of_the_account() -> None:
    async with listening() as listener:
        sandbox = Sandbox(webhook=listener.url, numbers=["+6531234567", "+6531234568"], speed=QUICK)
        async with sandbox.running():
            sandbox.number_updates.send(NumberUpdateOrder(kind=UpdateKind.SNAPSHOT))
            await settled(sandbox)
    (payload,) = listener.payloads
    assert payload["updateEventType"] == "SNAPSHOT"
    assert payload["totalNumbers"] == 2
    assert [(number["msisdn"], number["updateStatus"]) for number in payload["virtualNumbers"]] == [
        ("6531234567", "NO_CHANGE"),
        ("6531234568", "NO_CHANGE"),
    ]


async def test_updates_come_twice_or_never_as_ordered() -> None:
    change = NumberUpdateOrder(numbers=(NumberChange(msisdn="+6531234567"),))
    async with listening() as listener:
        sandbox = Sandbox(webhook=listener.url, speed=QUICK)
        sandbox.events.add(EventOrder(event=EventKind.VNU, duplicates=2, duplicate_after=1.0, times=1))
        sandbox.events.add(EventOrder(event=EventKind.VNU, drop=True, times=1))
        async with sandbox.running():
            sandbox.number_updates.send(change)
            await settled(sandbox)
            assert len(listener.events) == 3
            sandbox.number_updates.send(change)
            await settled(sandbox)
    assert len(listener.events) == 3


@pytest.mark.parametrize(
    ("order", "why"),
    [
        ({"numbers": [{"msisdn": "+6531234567"}]}, "register a VNU webhook"),
        ({"kind": "UPDATES"}, "give the changed numbers"),
        ({"numbers": [{"msisdn": "nobody"}]}, "is not a phone number"),
        ({"kind": "SNAPSHOT", "colour": "red"}, "Extra inputs"),
    ],
)
async def test_an_update_that_cannot_be_sent_is_refused(order: dict[str, Any], why: str) -> None:
    async with calling(Sandbox()) as caller:
        answer = await caller.client.post(f"{caller.url}/_sandbox/numbers", json=order)
    assert answer.status_code == 422
    assert why in answer.json()["error"]


async def test_an_event_order_for_updates_names_no_destination() -> None:
    async with calling(Sandbox()) as caller:
        answer = await caller.client.post(
            f"{caller.url}/_sandbox/events", json={"event": "VNU", "destination": "+6587654321"}
        )
    assert answer.status_code == 422
    assert "omit destination" in answer.json()["error"]
