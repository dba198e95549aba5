"""A VNU that says that a number should not be used is seen by the people who use it, until it is Active again."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.webhooks.receiving import SECRET, posting
from voiceflow_worker import CallQueue
from voiceflow_worker.cli.sending import metrics_text
from voiceflow_worker.core.ports import Store
from voiceflow_worker.webhooks import receiver_app

pytestmark = pytest.mark.anyio


def update(**statuses: str) -> Mapping[str, object]:
    numbers = [
        {"msisdn": number.removeprefix("n"), "operationalStatus": status, "updateStatus": "UPDATED"}
        for number, status in statuses.items()
    ]
    payload = {"subAccountId": "acme", "updateEventType": "UPDATES", "virtualNumbers": numbers}
    return {"namespace": "VOICE", "eventType": "VIRTUAL_NUMBER_UPDATE", "payload": payload}


async def shown(store: Store) -> dict[str, str]:
    numbers = (await CallQueue(store).status()).as_json()["numbers"]
    assert isinstance(numbers, list)
    return {each["number"]: each["status"] for each in numbers}


async def test_a_number_that_should_not_be_used_is_shown_until_it_is_active_again(store: Store) -> None:
    async with posting(receiver_app(store, secret=SECRET)) as receiver:
        told = update(n6531234567="Unhealthy", n6531234568="Expiring", n6531234569="Active")
        assert (await receiver.send(told)).status_code == 200
        assert await shown(store) == {"+6531234567": "Unhealthy", "+6531234568": "Expiring"}
        metrics = metrics_text(await CallQueue(store).status()).decode()
        assert 'voiceflow_number_not_active{number="+6531234567",status="Unhealthy"} 1.0' in metrics
        assert (await receiver.send(update(n6531234567="ACTIVE"))).status_code == 200
        assert await shown(store) == {"+6531234568": "Expiring"}
