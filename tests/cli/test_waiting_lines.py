"""A worker that stays says why queued calls wait."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio
import pytest

from tests.support.flows import flow, number
from tests.support.waiting import until
from voiceflow_worker import CallQueue, CallRequest, open_store
from voiceflow_worker.cli import drain_report
from voiceflow_worker.cli.drain_report import tell_drained, waiting_lines
from voiceflow_worker.cli.output import Output
from voiceflow_worker.core.overview.drain import DrainResult
from voiceflow_worker.core.overview.heartbeat import Heartbeats
from voiceflow_worker.core.overview.status import QueueStatus

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


async def test_the_counts_of_a_drain_and_the_reasons_why_calls_wait_are_of_one_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[str] = []
    seen = anyio.Event()
    between_looks = anyio.Lock()

    class Looked(CallQueue):
        async def status(self) -> QueueStatus:
            async with between_looks:
                return await super().status()

    @contextmanager
    def meter(_label: str) -> Iterator[Callable[[int, int, str], None]]:
        def show(_done: int, _total: int, note: str) -> None:
            shown.append(note)
            if "waiting" in note:
                seen.set()

        yield show

    monkeypatch.setattr(drain_report, "meter", meter)
    monkeypatch.setattr(drain_report, "LOOK_EVERY", 0.001)
    async with open_store("memory://") as store:
        queue = Looked(store)
        await queue.hold(reason="wrong date")
        with anyio.fail_after(60):
            async with drain_report.drain_progress(queue, label="draining"):
                for place in range(3):
                    seen = anyio.Event()
                    async with between_looks:
                        await queue.enqueue(flow(number(place)))
                    await seen.wait()
    waiting = [note for note in shown if "waiting" in note]
    assert waiting
    for note in waiting:
        assert re.fullmatch(r"0 of (\d) calls have ended; waiting: \1 behind a hold", note), note


async def test_a_worker_that_stops_names_who_stores_the_summaries(capfd: pytest.CaptureFixture[str]) -> None:
    result = DrainResult(later=0, held=0, holds=(), doubts=0, submitted=2)
    async with open_store("memory://") as store:
        queue = CallQueue(store)
        await tell_drained(Output(), queue, result, stopped=True)
        assert "NO RECEIVER IS RUNNING: 2 calls" in capfd.readouterr().err
        await Heartbeats(store).receiver("one")
        await tell_drained(Output(), queue, result, stopped=True)
        told = capfd.readouterr().err
    assert "the receiver that is running stores the summaries when they come" in told
    assert "voiceflow serve" not in told
