"""Answers that are given once, whoever is asked."""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest
from anyio.lowlevel import checkpoint

from voiceflow_worker import open_store
from voiceflow_worker.backends.contract.clock import ManualClock
from voiceflow_worker.webhooks.menus.once import AnswersOnce

pytestmark = pytest.mark.anyio


async def test_who_waits_for_an_answer_looks_ever_less_often_up_to_five_times_a_second() -> None:
    clock = ManualClock()
    async with open_store("memory://", clock=clock) as store:
        one, two = (AnswersOnce(store, claim_for=timedelta(seconds=10)) for _ in range(2))
        assert await one.turn("event") is None
        heard: list[bytes | None] = []
        waits: list[float] = []

        async def ask() -> None:
            heard.append(await two.turn("event"))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                for look in range(10):
                    while clock.next_wake is None:
                        await checkpoint()
                    waits.append(clock.next_wake.total_seconds())
                    if look == 9:
                        await one.keep({"event": b"{}"})
                    clock.advance(clock.next_wake)
                    while clock.next_wake == timedelta(0):
                        await checkpoint()
    assert waits[:3] == pytest.approx([0.02, 0.03, 0.045], abs=1e-5)
    assert waits[-3:] == pytest.approx([0.2, 0.2, 0.2], abs=1e-5)
    assert heard == [b"{}"]
