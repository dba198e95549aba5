"""Events in every form that 8x8 prints or that was seen: what each changes, and what is told of it."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest
import structlog.testing

from tests.webhooks.payload_forms import FORMS, Call, Form, leg, whole
from tests.webhooks.receiving import (
    SECRET,
    Sender,
    named,
    now,
    of_call,
    other,
    posting,
    receiver_of,
    submitted,
    summary,
)
from voiceflow_worker import Job, JobState, call_as_json
from voiceflow_worker.campaigns.uncalled import ListedRow
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.progress import CallProgress
from voiceflow_worker.reporting.story import story

pytestmark = pytest.mark.anyio


async def count_of(sender: Sender, result: str) -> float:
    return await sender.metric(f'summaries_total{{result="{result}"}}')


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
async def test_every_form_of_a_summary_settles_its_call_once(store: Store, form: Form) -> None:
    job = await submitted(store)
    event = form.event(named(job))
    async with posting(receiver_of(store).app) as sender:
        for _ in range(3):
            assert (await sender.send(event)).status_code == 200
        assert await count_of(sender, "settled") == 1
        assert await count_of(sender, "repeated") == 2
    ended = await now(store, job)
    assert ended.state is form.state
    outcome = ended.posts[0].outcome
    assert outcome is not None
    assert {name: getattr(outcome, name) for name in form.outcome} == dict(form.outcome)
    assert len(outcome.legs) == form.legs
    assert len(ended.posts) == 1


async def test_the_legs_and_their_quality_are_kept(store: Store) -> None:
    job = await submitted(store)
    async with posting(receiver_of(store).app) as sender:
        await sender.send(whole(named(job)))
    outcome = (await now(store, job)).outcome
    assert outcome is not None
    (leg,) = outcome.legs
    assert (leg.seconds, leg.mos, leg.packet_loss_rate, leg.jitter_ms) == (13.0, 4.5, 0.02, 20.0)
    assert (leg.source, leg.destination, leg.status) == ("+6531234567", "+6587654321", "COMPLETED")


@pytest.mark.parametrize(
    "call",
    [
        Call("default.01JB3W8Z5Q7X9V2K4M6N8P0R2T.1", "nobodys"),
        Call("order-42.7", "nobodys"),
        Call("other.01JB3W8Z5Q7X9V2K4M6N8P0R2T.999999", ""),
    ],
)
async def test_summaries_of_calls_that_this_store_does_not_know_are_counted(store: Store, call: Call) -> None:
    async with posting(receiver_of(store).app) as sender:
        assert (await sender.send(whole(call))).status_code == 200
        assert await count_of(sender, "unknown") == 1
        assert await sender.metric('answers_total{status="200"}') == 1


async def test_each_printed_event_changes_what_it_is_about_and_nothing_else(store: Store) -> None:
    job = await submitted(store)
    async with posting(receiver_of(store).app) as sender:
        for event in [
            of_call(job, "CALL_STATUS"),
            of_call(job, "CALL_ACTION", callStatus="ACTION_COMPLETED", eventData={"dtmf": "1"}, clientActionId="x"),
        ]:
            for _ in range(2):
                assert (await sender.send(event)).status_code == 200
        assert (await now(store, job)).state is JobState.SUBMITTED
        found = await CallProgress(store).of_job(job)
        assert [(each.status, each.sip_code, each.seconds) for each in found.states] == [("CALL_CONNECTED", 200, 10)]
        await sender.send(whole(named(job)))
        assert (await now(store, job)).state is JobState.COMPLETED
        for kind in ("VCS", "VCA"):
            assert await sender.metric(f'events_total{{kind="{kind}"}}') == 2
        assert await sender.metric('unparsed_total{reason="unknown_event"}') == 0


NEW = {"namespace": "VOICE", "eventType": "SOMETHING_NEW", "payload": {"a": 1}}


@pytest.mark.parametrize(
    ("event", "status", "reason"),
    [
        (b"{", 400, "not_json"), (b'{"a": nan}', 400, "not_json"),
        (b"\x1f\x8b", 400, "not_json"), (b"[" * 5000, 400, "not_json"),
        ({}, 400, "not_an_event"), (b"null", 400, "not_an_event"),
        ({"eventType": "SESSION_SUMMARY"}, 400, "not_an_event"), (NEW, 200, "unknown_event"),
        ({**summary(), "namespace": "SMS"}, 200, "unknown_event"),
        (whole(Call("x", "s"), sessionStatus="SOMETHING_NEW"), 200, "unknown_status"),
        (other("CALL_STATUS", sessionId=None), 200, "no_session"),
    ],
)  # fmt: skip
async def test_what_could_not_be_understood_is_logged_and_counted(
    store: Store, event: Any, status: int, reason: str
) -> None:
    content = event if isinstance(event, bytes) else json.dumps(event).encode()
    with structlog.testing.capture_logs() as logged:
        async with posting(receiver_of(store).app) as sender:
            assert (await sender.send(content)).status_code == status
            assert await sender.metric(f'unparsed_total{{reason="{reason}"}}') == 1
    (line,) = [each for each in logged if each.get("reason") == reason]
    assert line["body"] == content[:2048].decode(errors="backslashreplace")
    assert (line["answered"], line["size"], line["sender"]) == (status, len(content), "18.140.80.2")
    assert SECRET not in repr(line)


@pytest.mark.parametrize("event", [summary(), other("CALL_STATUS")])
async def test_what_is_as_it_should_be_is_not_logged(store: Store, event: dict[str, Any]) -> None:
    with structlog.testing.capture_logs() as logged:
        async with posting(receiver_of(store).app) as sender:
            assert (await sender.send(event)).status_code == 200
    assert not [each for each in logged if "reason" in each]


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
        (404, "dead number", DEAD), (484, "dead number", DEAD), (604, "dead number", DEAD),
        (410, "dead number", "the number does not exist any more"),
        (480, "failed", "the phone is switched off or away"), (403, "failed", "the caller id was refused"),
        (503, "failed", "the network failed"), (499, "failed", "the call could not be connected"),
    ],
)  # fmt: skip
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
