"""The work for the rows of a file on their way into the queue: each check is made once."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.campaigns.reading import NOW, SAY, file_of
from voiceflow_worker import CallFlow, CallQueue, CampaignOptions
from voiceflow_worker.campaigns.calls.template import FlowTemplate
from voiceflow_worker.campaigns.enqueue import enqueue_file
from voiceflow_worker.core.numbers.suppression import SuppressionList
from voiceflow_worker.model.flows.canonical import canonical_body
from voiceflow_worker.model.flows.rules import find_problems

pytestmark = pytest.mark.anyio
ROWS = 100


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each function was called, wherever it is imported; of the suppression list, the numbers looked up."""
    counts: Counter[str] = Counter()

    def count(function: Callable[..., object]) -> Callable[..., object]:
        def counted(*given: object, **named: object) -> object:
            counts[function.__name__] += 1
            return function(*given, **named)

        return counted

    for function in (find_problems, canonical_body):
        counted = count(function)
        for module in list(sys.modules.values()):
            if vars(module).get(function.__name__) is function:
                monkeypatch.setattr(module, function.__name__, counted)
    standing = SuppressionList.standing

    async def looked_up(self: SuppressionList, numbers: Iterable[str]) -> object:
        wanted = list(numbers)
        counts["standing"] += len(wanted)
        return await standing(self, wanted)

    monkeypatch.setattr(SuppressionList, "standing", looked_up)
    return counts


CALL = {"action": "makeCall", "params": {"source": "{{source}}", "destination": "{{destination}}"}}
WITH_NUMBER_AND_ID = FlowTemplate.parse(
    {"callflow": [CALL, {"action": "say", "params": {"text": "Hello {{name}}"}}], "clientRequestId": "{{order}}"},
    name="flow.json",
)


@pytest.mark.parametrize("template", [SAY, WITH_NUMBER_AND_ID], ids=["a text", "number and id of the row"])
@pytest.mark.parametrize("dry_run", [False, True], ids=["enqueued", "dry run"])
async def test_rows_of_one_shape_are_validated_once_and_each_is_looked_up_once(
    queue: CallQueue, tmp_path: Path, calls: Counter[str], dry_run: bool, template: FlowTemplate
) -> None:
    rows = "".join(f"+65{81000000 + n},Ana,order-{n}\n" for n in range(ROWS))
    path = file_of(tmp_path, f"destination,name,order\n{rows}")
    options = CampaignOptions(template=template, source="+6531234567", voice_profile="en-IE-EmilyNeural")
    calls.clear()
    report = await enqueue_file(queue, path, options, now=NOW, dry_run=dry_run)
    assert (report.valid, report.enqueued) == (ROWS, 0 if dry_run else ROWS)
    assert calls == {"find_problems": 1, "canonical_body": 1, "standing": ROWS}


async def test_a_request_body_is_checked_encoded_and_looked_up_once(
    queue: CallQueue, tmp_path: Path, calls: Counter[str]
) -> None:
    bodies = [CallFlow.call(f"+65{81000000 + n}", source="+6531234567").hangup().to_body() for n in range(ROWS)]
    path = file_of(tmp_path, "".join(f"{json.dumps(body)}\n" for body in bodies), "calls.jsonl")
    calls.clear()
    report = await enqueue_file(queue, path, now=NOW)
    assert (report.valid, report.enqueued) == (ROWS, ROWS)
    assert calls == {"find_problems": ROWS, "canonical_body": ROWS, "standing": ROWS}
