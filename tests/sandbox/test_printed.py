"""Examples of the 8x8 guides go through client and sandbox, and the OpenAPI document knows them."""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.sandbox.guides import ANSWERS, REQUESTS
from tests.sandbox.staged import goodbye, problems_of, staged
from voiceflow_worker import CallFlow
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox.orders import Script

pytestmark = pytest.mark.anyio

Json = dict[str, Any]


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
