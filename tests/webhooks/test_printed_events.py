"""One event of each type in the form that the pages of 8x8 print, and what each changes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.flows import SOURCE
from tests.webhooks.payload_forms import whole
from tests.webhooks.receiving import posting, receiver_of
from tests.webhooks.test_payload_forms import named, now, submitted
from voiceflow_worker import Job, JobState
from voiceflow_worker.core.own_numbers import OwnNumbers
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.progress import CallProgress

pytestmark = pytest.mark.anyio

OTHER = "+6531234568"


def of_call(job: Job, event_type: str, **changes: object) -> dict[str, Any]:
    """An event during a call, with each field of the printed ones."""
    payload = {
        "eventId": "eb0fc709-9693-11ea-454d-1705dde98182",
        "callId": "a1d6a5e3-efec-11e9-b999-7d370b5f90d1",
        "sessionId": named(job).session_id,
        "subAccountId": "account_x",
        "callStatus": "CALL_CONNECTED",
        "callDirection": "OUTBOUND",
        "callType": "PSTN",
        "source": SOURCE,
        "destination": job.destination,
        "sourceFormat": "MSISDN",
        "destinationFormat": "MSISDN",
        "sourceCountryCode": "SG",
        "destinationCountryCode": "Null",
        "sourceRefId": "Null",
        "destinationRefId": "vn-ref-1",
        "callDuration": 10,
        "eventData": " ",
        "sipCode": 200,
        "timestamp": "2026-07-01T08:12:01Z",
        **changes,
    }
    return {"namespace": "VOICE", "eventType": event_type, "description": "", "payload": payload}


def numbers(*states: tuple[str, str], at: str = "2026-02-17T05:10:14.760Z", **changes: object) -> dict[str, Any]:
    """A report on numbers of the account."""
    listed = [
        {
            "msisdn": number,
            "updatedTimestamp": at,
            "countryCode": "SG",
            "operationalStatus": status,
            "referenceId": "MyVirtualNumber-1",
            "rentalPrice": 5.0,
            "incomingRate": 0.05,
            "billingUnit": 1,
            "billingCurrency": "USD",
            "numberHealthCheckEnabled": False,
            "updateStatus": "UPDATED",
        }
        for number, status in states
    ]
    payload = {
        "subAccountId": "MySubAccount",
        "totalNumbers": len(listed),
        "updateEventType": "UPDATES",
        "virtualNumbers": listed,
        **changes,
    }
    said = "Status of account virtual number(s) updated"
    return {"namespace": "VOICE", "eventType": "VIRTUAL_NUMBER_UPDATE", "description": said, "payload": payload}


async def test_each_printed_event_changes_what_it_is_about_and_nothing_else(store: Store) -> None:
    job = await submitted(store)
    async with posting(receiver_of(store).app) as sender:
        for event in [
            of_call(job, "CALL_STATUS"),
            of_call(job, "CALL_ACTION", callStatus="ACTION_COMPLETED", eventData={"dtmf": "1"}, clientActionId="x"),
            {
                "namespace": "VOICE",
                "eventType": "CALL_RECORDING_STATUS",
                "payload": {
                    "recordingId": "a1d6a5e4-efec-11e9-b999-7d370b5f90d1",
                    "sessionId": named(job).session_id,
                    "durationSeconds": 13,
                    "filePath": "s3://bucket/a.mp3",
                    "status": "UPLOAD_COMPLETED",
                },
            },
            numbers((SOURCE, "Active"), (OTHER, "Active")),
        ]:
            for _ in range(2):
                assert (await sender.send(event)).status_code == 200
        assert (await now(store, job)).state is JobState.SUBMITTED
        found = await CallProgress(store).of_job(job)
        assert [(each.status, each.sip_code, each.seconds) for each in found.states] == [("CALL_CONNECTED", 200, 10)]
        assert [(each.status, each.file_path) for each in found.recordings] == [
            ("UPLOAD_COMPLETED", "s3://bucket/a.mp3")
        ]
        assert not await OwnNumbers(store).not_active()
        await sender.send(numbers((SOURCE, "Unhealthy"), (OTHER, "Active")))
        assert [(each.number, each.status) for each in await OwnNumbers(store).not_active()] == [(SOURCE, "Unhealthy")]
        await sender.send(whole(named(job)))
        assert (await now(store, job)).state is JobState.COMPLETED
        for kind in ("VCS", "VCA", "VRU", "VNU"):
            assert await sender.metric(f'events_total{{kind="{kind}"}}') == (3 if kind == "VNU" else 2)
        assert await sender.metric('unparsed_total{reason="unknown_event"}') == 0
