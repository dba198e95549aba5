"""Why a call failed, by the SIP code of an event; and answered calls whose sound was bad."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from tests.webhooks.payload_forms import leg, whole
from tests.webhooks.receiving import posting, receiver_of
from tests.webhooks.test_payload_forms import named, now, submitted
from tests.webhooks.test_printed_events import of_call
from voiceflow_worker import Job, call_as_json
from voiceflow_worker.campaigns.row_list import ListedRow
from voiceflow_worker.core.ports import Store
from voiceflow_worker.reporting.breakdown import dead_numbers
from voiceflow_worker.reporting.report import build_full_report
from voiceflow_worker.reporting.story import story

pytestmark = pytest.mark.anyio

DEAD = "the number does not exist"


def ended_with(job: Job, code: int, **changes: object) -> dict[str, Any]:
    of_leg = {"callStatus": "CALL_DISCONNECTED", "callDuration": 0, "sipCode": code, "callId": leg()["callId"]}
    return of_call(job, "CALL_STATUS", **{**of_leg, **changes})


def failed(job: Job, **changes: object) -> dict[str, Any]:
    of_leg = leg(callStatus="FAILED", connectedTimestamp=None, callDuration=0, callQuality=None)
    return whole(named(job), **{"sessionStatus": "FAILED", "details": {"callA": of_leg}, **changes})


async def listed(store: Store, job: Job) -> tuple[str, str]:
    row = ListedRow.of(await now(store, job), None, {})
    return row.result, row.why


@pytest.mark.parametrize(
    ("code", "result", "why"),
    [
        (404, "dead number", DEAD),
        (484, "dead number", DEAD),
        (604, "dead number", DEAD),
        (410, "dead number", "the number does not exist any more"),
        (480, "failed", "the phone is switched off or away"),
        (403, "failed", "the caller id was refused"),
        (503, "failed", "the network failed"),
        (499, "failed", "the call could not be connected"),
    ],
)
async def test_a_failed_call_tells_why_by_the_code_of_its_leg_in_whatever_order_the_events_come(
    store: Store, code: int, result: str, why: str
) -> None:
    for order in permutations([0, 1]):
        job = await submitted(store)
        events = [failed(job), ended_with(job, code)]
        async with posting(receiver_of(store).app) as sender:
            for place in (*order, *order):
                assert (await sender.send(events[place])).status_code == 200
        assert await listed(store, job) == (result, why)
        told = call_as_json(await now(store, job))
        assert told["result"] == result.replace(" ", "_")
        assert told["outcome"]["legs"][0]["sip_code"] == code  # type: ignore[index]
        shown = "\n".join(story(await now(store, job), at=store.clock.now()).lines())
        assert f"SIP {code}" in shown
    is_dead = result == "dead number"
    report = await build_full_report(store, "default", None)
    assert report.as_json()["dead_numbers"] == 2 * is_dead
    assert ("suppress import --from-report dead" in str(report)) is is_dead
    assert await dead_numbers(store, "default", None) == ["+6587654321"] * is_dead


async def test_only_the_leg_of_the_person_and_only_a_call_that_failed_make_a_number_dead(store: Store) -> None:
    job = await submitted(store)
    desk = leg(callId="b", destination="+6531234999", callStatus="FAILED", connectedTimestamp=None, callQuality=None)
    async with posting(receiver_of(store).app) as sender:
        await sender.send(ended_with(job, 404, callId="b", destination="+6531234999"))
        await sender.send(failed(job, details={"callA": leg(), "callB": desk}))
        assert (await listed(store, job))[0] == "desk busy"
        for status in ("NO_ANSWER", "BUSY"):
            job = await submitted(store)
            await sender.send(ended_with(job, 404))
            await sender.send(whole(named(job), sessionStatus=status, details={"callA": leg(callStatus=status)}))
            assert (await listed(store, job))[0] == status.lower().replace("_", " ")
        job = await submitted(store)
        await sender.send(ended_with(job, 404, callId=None))
        await sender.send(failed(job, details=None))
        assert await listed(store, job) == ("dead number", DEAD), "of a summary without legs"


@pytest.mark.parametrize(
    ("quality", "said"),
    [
        ({"mos": 2.4, "packetLossRate": 0.02, "jitter": 30}, "MOS 2.4"),
        ({"mos": 3.9, "packetLossRate": 0.05, "jitter": 20}, "5 % of packets lost"),
        ({"mos": 3.9, "packetLossRate": 6, "jitter": 20}, "6 % of packets lost"),
        ({"mos": 4.1, "packetLossRate": 0, "jitter": 45}, "jitter 45 ms"),
        ({"mos": 3.0, "packetLossRate": 0.2, "jitter": 45}, "MOS 3, 20 % of packets lost, jitter 45 ms"),
        ({"mos": 3.1, "packetLossRate": 0.02, "jitter": 30}, ""),
        ({"mos": 4.4, "packetLossRate": 0.5, "jitter": 9}, ""),
        ({"mos": 4.4, "packetLossRate": 1.5, "jitter": 9}, ""),
        ({"mos": 0}, ""),
        (None, ""),
    ],
)
async def test_the_bad_sound_of_an_answered_call_is_told_beside_answered_and_counted(
    store: Store, quality: object, said: str
) -> None:
    job = await submitted(store)
    async with posting(receiver_of(store).app) as sender:
        await sender.send(whole(named(job), details={"callA": leg(callQuality=quality)}))
    assert await listed(store, job) == ("answered", f"bad sound: {said}" if said else "")
    shown = "\n".join(story(await now(store, job), at=store.clock.now()).lines())
    assert (f"the sound was bad: {said}" in shown) is bool(said)
    assert ("the sound was bad" in shown) is bool(said)
    report = await build_full_report(store, "default", None)
    assert report.as_json()["bad_sound"] == bool(said)
    assert ("answered with bad sound: 1" in str(report)) is bool(said)
