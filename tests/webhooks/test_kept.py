"""Odd events are kept for people to look at: bounded, never in the way, never with the secret."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import anyio
import pytest

from tests.support.redis_server import RedisServer
from tests.support.waiting import until
from tests.webhooks.contents import contents
from tests.webhooks.payload_forms import Call, whole
from tests.webhooks.receiving import SECRET, Settling, other, posting, receiving, summary
from voiceflow_worker import open_store
from voiceflow_worker.backends.contract.clock import ManualClock
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.webhooks import KeptEvent, KeptEvents, OddEvent, OddReason, receiver_app, webhook_app
from voiceflow_worker.webhooks import kept_events as kept_module

pytestmark = pytest.mark.anyio

NEW = {"namespace": "VOICE", "eventType": "SOMETHING_NEW", "payload": {"a": 1}}


@pytest.mark.parametrize(
    ("event", "status", "reason", "event_type"),
    [
        (b"{", 400, OddReason.NOT_JSON, None),
        (b"", 400, OddReason.NOT_JSON, None),
        (b"\x1f\x8b\x08 zipped", 400, OddReason.NOT_JSON, None),
        ([1, 2], 400, OddReason.NOT_AN_EVENT, None),
        (b"null", 400, OddReason.NOT_AN_EVENT, None),
        ("a text", 400, OddReason.NOT_AN_EVENT, None),
        ({"eventType": "SESSION_SUMMARY"}, 400, OddReason.NOT_AN_EVENT, None),
        (NEW, 200, OddReason.UNKNOWN_EVENT, "SOMETHING_NEW"),
        ({**summary(), "namespace": "SMS"}, 200, OddReason.UNKNOWN_EVENT, "SESSION_SUMMARY"),
        (whole(Call("x", "s"), sessionStatus="SOMETHING_NEW"), 200, OddReason.UNKNOWN_STATUS, "VSS"),
        (other("CALL_STATUS", sessionId=None), 200, OddReason.NO_SESSION, "VCS"),
        (other("CALL_RECORDING_STATUS", sessionId="null"), 200, OddReason.NO_SESSION, "VRU"),
    ],
)
async def test_what_is_odd_is_kept_as_it_came(
    store: Store, event: Any, status: int, reason: OddReason, event_type: str | None
) -> None:
    content = event if isinstance(event, bytes) else json.dumps(event).encode()
    async with posting(receiver_app(store, secret=SECRET)) as sender:
        assert (await sender.send(content)).status_code == status
        assert await sender.metric(f'odd_total{{kept="yes",reason="{reason.value}"}}') == 1
    kept = KeptEvents(store)
    (label,) = await kept.newest()
    assert (label.reason, label.answered, label.event_type) == (reason.value, status, event_type)
    assert (label.size, label.sender) == (len(content), "18.140.80.2")
    found = await kept.get(label.id)
    assert found is not None
    assert found == replace(label, body=content)


@pytest.mark.parametrize("event", [summary(), other("CALL_STATUS"), other("CALL_ACTION")])
async def test_what_is_as_it_should_be_is_not_kept(store: Store, event: dict[str, Any]) -> None:
    async with posting(receiver_app(store, secret=SECRET)) as sender:
        assert (await sender.send(event)).status_code == 200
    assert await KeptEvents(store).newest() == []


async def test_the_authorization_header_is_nowhere_in_the_store(store: Store, shared_redis: RedisServer) -> None:
    async with posting(receiver_app(store, secret=SECRET)) as sender:
        await sender.send(b"{", content_type="text/plain")
    kept = KeptEvents(store)
    (label,) = await kept.newest()
    assert label.content_type == "text/plain"
    assert SECRET not in repr(await kept.get(label.id))
    if not store.url.startswith("redis"):
        assert SECRET not in repr(contents(store, redis=shared_redis))


async def test_of_a_long_body_the_first_16_kb_are_kept(store: Store) -> None:
    content = b'{"a": "' + b"\xc3\xa9" * 100_000
    async with posting(receiver_app(store, secret=SECRET)) as sender:
        assert (await sender.send(content)).status_code == 400
    kept = KeptEvents(store)
    (label,) = await kept.newest()
    found = await kept.get(label.id)
    assert found is not None
    assert (found.body, found.size) == (content[:16_384], len(content))


async def test_an_error_nobody_thought_of_is_kept(store: Store) -> None:
    kept = KeptEvents(store)
    async with posting(webhook_app(Settling(error=RuntimeError("a mistake")), secret=SECRET, kept=kept)) as sender:
        assert (await sender.send()).status_code == 500
    (label,) = await kept.newest()
    assert (label.reason, label.answered) == ("failure", 500)


@dataclass
class Keeping(KeptEvents):
    """Keeps odd events once it is let, or not at all."""

    error: Exception | None = None
    let: anyio.Event = field(default_factory=anyio.Event)
    asked: int = 0

    async def keep(self, odd: OddEvent) -> bool:  # noqa: ARG002
        self.asked += 1
        if self.error is not None:
            raise self.error
        await self.let.wait()
        return True


@pytest.mark.parametrize("error", [StoreUnavailableError("locked"), RuntimeError("a mistake")])
async def test_an_event_that_cannot_be_kept_is_answered_all_the_same(error: Exception) -> None:
    async with posting(webhook_app(Settling(), secret=SECRET, kept=Keeping(error))) as sender:
        assert (await sender.send(b"{")).status_code == 400
        assert await sender.metric('odd_total{kept="no",reason="not_json"}') == 1


async def test_the_answer_does_not_wait_until_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voiceflow_worker.webhooks.receiver.MOST_KEEPING", 3)
    keeping = Keeping()
    async with receiving(kept=keeping) as sender:
        with anyio.fail_after(20):
            for _ in range(5):
                assert (await sender.send(b"{")).status_code == 400
            assert await sender.metric('odd_total{kept="no",reason="not_json"}') == 2
        assert keeping.asked == 3
        keeping.let.set()

        async def all_are_kept() -> bool:
            return await sender.metric('odd_total{kept="yes",reason="not_json"}') == 3

        await until(all_are_kept)


class TestBounds:
    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    async def dated(self, store_url: str, clock: ManualClock) -> AsyncIterator[Store]:
        async with open_store(store_url, clock=clock) as opened:
            yield opened

    async def test_the_newest_are_kept_up_to_a_number(
        self, dated: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kept_module, "MOST", 30)
        monkeypatch.setattr(kept_module, "_ROOM", 10)
        kept = KeptEvents(dated)
        labels: Sequence[KeptEvent] = ()
        for place in range(100):
            await kept.keep(OddEvent(reason=OddReason.NOT_JSON, answered=400, body=b"%d" % place))
            clock.advance(timedelta(seconds=1))
            labels = await kept.newest()
            assert len(labels) <= 30
        assert len(labels) >= 20
        bodies = [found.body for label in labels if (found := await kept.get(label.id)) is not None]
        assert bodies == [b"%d" % place for place in range(99, 99 - len(labels), -1)]

    async def test_they_are_forgotten_after_seven_days(self, dated: Store, clock: ManualClock) -> None:
        kept = KeptEvents(dated)
        await kept.keep(OddEvent(reason=OddReason.NOT_JSON, answered=400, body=b"x"))
        (label,) = await kept.newest()
        clock.advance(timedelta(days=7, seconds=-1))
        assert await kept.get(label.id) is not None
        clock.advance(timedelta(seconds=2))
        assert await kept.newest() == []
        assert await kept.get(label.id) is None
