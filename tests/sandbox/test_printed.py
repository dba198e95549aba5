"""Examples of the 8x8 guides go through client, sandbox and receiver, and the OpenAPI document knows them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.model.test_events import ACTION, SUMMARY
from tests.model.test_guides import ANSWERS, REQUESTS
from tests.sandbox.contract import Contract, Exchange
from tests.sandbox.staged import goodbye, problems_of, staged
from tests.webhooks.receiving import SECRET, Settling, posting
from voiceflow_worker import CallFlow
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox.orders.script import Script
from voiceflow_worker.webhooks import PATH, webhook_app

pytestmark = pytest.mark.anyio

Json = dict[str, Any]
STATES = ("CALL_INITIATED", "CALL_RECEIVED", "CALL_CONNECTED", "CALL_DISCONNECTED", "CALL_UPDATED", "DTMF_RECEIVED")
RECORDED = (
    "PROCESSING", "PROCESSING_FAILED", "UPLOAD_COMPLETED", "UPLOAD_FAILED", "CALLBACK_COMPLETED", "CALLBACK_FAILED",
    "UNKNOWN",
)  # fmt: skip
ENDED = (
    "COMPLETED", "NO_ANSWER", "NO ANSWER", "BUSY", "CANCELED", "CANCELLED", "FAILED", "ERROR", "COMPLETED_UNSUBSCRIBED",
    "COMPLETED_UNSUB_ERROR", "UNSUBSCRIBED_CONTACT",
)  # fmt: skip
ERRORS = (-2001, -2002, -2003, -2004, -2005, -2006, -2007, -2008, -2009, -2010, -9999)


async def test_every_printed_request_is_placed_and_told_of_as_the_document_says() -> None:
    async with staged() as stage:
        stage.sandbox.scripts.add(Script(outcome=SessionStatus.COMPLETED))
        for given in REQUESTS.values():
            body = deepcopy(given)
            if "validUntil" in body:  # the printed one has passed
                body["validUntil"] = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
            await stage.voice.send(CallFlow.parse(body))
            asked = json.loads(stage.asked.exchanges[-1].request)
            assert asked == {**body, "clientRequestId": asked["clientRequestId"]}
        await stage.settled()
    assert not problems_of(stage)
    assert [entry.outcome for entry in stage.sandbox.ledger] == ["COMPLETED"] * len(REQUESTS)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
async def test_every_printed_answer_of_a_menu_is_carried_out_as_the_document_says(answer: Json) -> None:
    answers = iter([answer])
    async with staged(lambda: next(answers, goodbye())) as stage:
        stage.sandbox.scripts.add(Script(outcome=SessionStatus.COMPLETED, keys=["1"], steps=True))
        await stage.voice.send(CallFlow.parse(REQUESTS["simple menu"]))
        await stage.settled()
    assert not problems_of(stage)
    replies = [json.loads(told.answer) for told in stage.told.exchanges if b'"CALL_ACTION"' in told.request]
    assert replies[0] == answer
    assert [entry.outcome for entry in stage.sandbox.ledger] == ["COMPLETED"]


def printed_events() -> Iterator[Json]:
    """Every event of the contract, with every status, state and code that it lists."""

    def changed(event: Json, **payload: object) -> Json:
        return {**event, "payload": {**event["payload"], **payload}}

    def of(event_type: str, **payload: object) -> Json:
        return {"namespace": "VOICE", "eventType": event_type, "description": "As 8x8 words it", "payload": payload}

    yield from (changed(SUMMARY, sessionStatus=status) for status in ENDED)
    yield from (
        changed(SUMMARY, sessionStatus="ERROR", errorDetails={"errorMsg": "Why", "errorCode": code}) for code in ERRORS
    )
    references = {"sourceRefId": "null", "destinationRefId": "null"}
    yield from (changed(ACTION, eventData={"dtmf": dtmf}) for dtmf in ("1", "12*#", None))
    yield changed(ACTION, callStatus="CALL_RECEIVED", callDirection="INBOUND", **references)
    yield {**ACTION, "version": 1}
    state = {name: ACTION["payload"][name] for name in ACTION["payload"] if name not in {"eventData", "clientActionId"}}
    yield from (of("CALL_STATUS", **{**state, "callStatus": each}, **references) for each in STATES)
    recording = {
        "recordingId": "r",
        "sessionId": "s",
        "subAccountId": "acme",
        "durationSeconds": 12,
        "filePath": "a.mp3",
    }
    yield from (of("CALL_RECORDING_STATUS", **recording, status=status) for status in RECORDED)


async def test_every_printed_event_is_taken_by_the_receiver_and_is_as_the_document_says() -> None:
    # Not taken strictly here: the guides spell CallA and SourceRefId, which are more than the document lists.
    contract = Contract(strictly=False)
    settling, events = Settling(), list(printed_events())
    async with posting(webhook_app(settling, secret=SECRET)) as sender:
        for event in events:
            answer: httpx.Response = await sender.send(event)
            assert answer.status_code == 200, (event, answer.text)
            exchange = Exchange(
                "POST", PATH, json.dumps(event).encode(), 200, answer.headers["content-type"], answer.content
            )
            assert not list(contract.problems_of_event(exchange)), event
    assert len(settling.taken) == len(ENDED) + len(ERRORS)
    assert len(events) == len(settling.taken) + 5 + len(STATES) + len(RECORDED)
