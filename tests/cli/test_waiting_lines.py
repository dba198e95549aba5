"""A worker that stays says why queued calls wait."""

from __future__ import annotations

import anyio
import pytest

from tests.support.flows import flow, number
from voiceflow_worker import CallQueue, CallRequest, open_store
from voiceflow_worker.cli.output import Output
from voiceflow_worker.cli.waiting_lines import waiting_lines

pytestmark = pytest.mark.anyio


async def test_what_calls_wait_for_is_said_once_and_again_when_it_changes(capfd: pytest.CaptureFixture[str]) -> None:
    async with open_store("memory://") as store:
        queue = CallQueue(store)
        await queue.enqueue_many(CallRequest(flow=flow(number(place)), batch_id="march") for place in range(3))
        said: list[str] = []
        await queue.hold(batch_id="march", reason="wrong date")
        with anyio.fail_after(30):
            async with waiting_lines(queue, Output(), every=0.001):
                while not said:
                    await anyio.sleep(0.001)
                    said += capfd.readouterr().err.splitlines()
                for _ in range(20):
                    await anyio.sleep(0.001)
                assert capfd.readouterr().err == ""
        assert len(said) == 1
        assert said[0].startswith("waiting: ")
        assert "3" in said[0]
