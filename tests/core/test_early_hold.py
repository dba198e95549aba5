"""An answer holds the queue before it is known what it means for its call: once, and also while the store is away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from voiceflow_worker import open_store
from voiceflow_worker.core.ports.reading import gates_of
from voiceflow_worker.core.sending.reply import EarlyHold
from voiceflow_worker.core.settling.holds import Holds
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.model.reports.verdict import Hold, PostProgress, Verdict, VerdictKind

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
HOLD = Hold(reason="8x8 asks for a lower rate (429)")
VERDICT = Verdict(kind=VerdictKind.TURNED_AWAY, message="429", http_status=429, hold=HOLD)


async def test_it_is_ordered_once_and_its_reply_orders_nothing_more() -> None:
    async with open_store("memory://") as store:
        holds = Holds(store, queue="default")
        early = EarlyHold(holds)
        await PostProgress(on_hold=early.order).hold(HOLD)
        [gate] = await gates_of(store, "default")
        assert holds.closed_since(store.clock.monotonic() - 60)
        reply = early.reply(VERDICT, at=NOW)
    assert reply is not None
    assert (reply.verdict, reply.at, reply.gate, reply.held_until) == (VERDICT, NOW, None, gate.until)
    assert gate.until is not None
    assert gate.until - gate.since == timedelta(seconds=1), "one answer, one pause"


async def test_while_the_store_is_away_the_reply_orders_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailableError("the store is away")

    async with open_store("memory://") as store:
        holds = Holds(store, queue="default")
        early = EarlyHold(holds)
        monkeypatch.setattr(store, "write", away)
        await early.order(HOLD)
        assert holds.closed_since(store.clock.monotonic() - 60), "this worker sends nothing more"
        reply = early.reply(VERDICT, at=NOW)
    assert reply is not None
    assert reply.gate is not None
    assert reply.gate.reason == HOLD.reason
