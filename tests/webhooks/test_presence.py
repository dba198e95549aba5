"""While the receiver runs, others can know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType

import anyio
import pytest

from tests.webhooks.receiving import receiver_of
from voiceflow_worker import Store
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.webhooks.readiness import present

pytestmark = pytest.mark.anyio


@dataclass
class Told(Heartbeats):
    """Hears of receivers; is away as often as it is told."""

    away: int = 0
    heard: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    twice: anyio.Event = field(default_factory=anyio.Event)

    async def receiver(self, name: str, *, failing: Mapping[str, str] = MappingProxyType({})) -> None:  # noqa: ARG002
        self.heard.append(name)
        if len(self.heard) > 1:
            self.twice.set()
        if self.away:
            self.away -= 1
            raise StoreUnavailableError("locked")

    async def receiver_left(self, name: str) -> None:
        self.left.append(name)
        if self.away:
            raise StoreUnavailableError("locked")


async def test_a_served_receiver_is_present_from_its_first_request_on_until_it_stops(store: Store) -> None:
    async with receiver_of(store).running():
        assert await Heartbeats(store).has_receiver()
    assert not await Heartbeats(store).has_receiver()


async def test_a_store_that_is_away_does_not_end_the_receiver() -> None:
    told = Told(away=1)
    async with present(told, name="here", failing=dict, every=timedelta(milliseconds=10)):
        with anyio.fail_after(20):
            await told.twice.wait()
        told.away = 99
    assert told.left == ["here"]
