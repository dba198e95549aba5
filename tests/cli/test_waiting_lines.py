"""A worker that stays says why queued calls wait."""

from __future__ import annotations

import anyio
import pytest

from tests.support.flows import flow, number
from tests.support.waiting import until
from voiceflow_worker import CallQueue, CallRequest, open_store
from voiceflow_worker.cli.drain_report import waiting_lines
from voiceflow_worker.cli.output import Output

pytestmark = pytest.mark.anyio


async def test_what_calls_wait_for_is_said_once_and_again_when_it_changes(capfd: pytest.CaptureFixture[str]) -> None:
    async with open_store("memory://") as store:
        queue = CallQueue(store)
        await queue.enqueue_many(CallRequest(flow=flow(number(place)), batch_id="march") for place in range(3))
        said: list[str] = []
        await queue.hold(batch_id="march", reason="wrong date")

        def is_said() -> bool:
            said.extend(capfd.readouterr().err.splitlines())
            return bool(said)

        with anyio.fail_after(60):
            async with waiting_lines(queue, Output(), every=0.001):
                await until(is_said)
                await anyio.sleep(0.02)  # twenty more looks, which must say nothing; no event says that they did not
                assert capfd.readouterr().err == ""
        assert len(said) == 1
        assert said[0].startswith("waiting: ")
        assert "3" in said[0]
