"""A worker that sends for a command or a task leaves the limits of its queue as they are."""

from __future__ import annotations

import pytest

from tests.support.workers import set_limits
from voiceflow_worker import VoiceClient, Voiceflow, open_store
from voiceflow_worker.core.ports import Limits
from voiceflow_worker.core.ports.controls import UNREADABLE_LIMITS
from voiceflow_worker.settings import load_settings

pytestmark = pytest.mark.anyio

OURS = load_settings(rate=10, burst=1, max_active=50)


@pytest.mark.parametrize(
    ("of_queue", "own", "found"),
    [
        (None, (), (10, 1, 50)),
        (UNREADABLE_LIMITS, (), (10, 1, 50)),
        (Limits(rate=3, burst=2, max_active=7), (), (3, 2, 7)),
        (Limits(rate=None, burst=2, max_active=None), ("burst",), (None, 1, None)),
        (Limits(rate=3, burst=2, max_active=7), ("max_active",), (3, 2, 50)),
    ],
)
async def test_only_its_own_settings_go_before_them(
    of_queue: Limits | None, own: tuple[str, ...], found: tuple[object, ...]
) -> None:
    async with open_store("memory://") as store:
        if of_queue is not None:
            await set_limits(store, "default", of_queue)
        async with VoiceClient("key", "sub") as client:
            worker = await Voiceflow(OURS, store=store, client=client).temporary_worker(but=own)
    limits = worker._limits
    assert (limits.rate, limits.burst, limits.max_active) == found
