"""The trigger that starts DAGs by the ends of calls, as the triggerer of Airflow drives it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from tests.support.flows import flow
from tests.support.waiting import until
from voiceflow_worker import CallQueue, Store, open_store
from voiceflow_worker.core.outcomes.outbox import positions
from voiceflow_worker.core.ports.record_set import text_records
from voiceflow_worker.core.progress import IncomingCalls
from voiceflow_worker.model.reports.events import ActionStatus, CallAction, CallStatus, Direction

events = pytest.importorskip("airflow_provider.triggers.events", exc_type=ImportError)
pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(tmp_path: Path, connect: Callable[..., None]) -> AsyncIterator[Store]:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    connect(extra={"store": url})
    async with open_store(url) as opened:
        yield opened


async def ended(store: Store, *keys: str, batch_id: str = "march") -> None:
    queue = CallQueue(store)
    for key in keys:
        job = await queue.enqueue(flow(), unique_key=key, batch_id=batch_id)
        await queue.cancel(job.id)


class Triggerer:
    """What Airflow does with a trigger: it reads the stream, stores events, and confirms those that it has stored."""

    def __init__(self, store: Store, **wanted: Any) -> None:
        self._store, self._positions = store, positions(store)
        trigger = events.VoiceEventTrigger(poll_interval=0.05, **wanted)
        self.producer = trigger.create_shared_stream_producer(trigger.serialize()[1])
        self._stream = self.producer.open_stream()
        self._name = f"airflow/{trigger.shared_stream_key()}"

    async def __aenter__(self) -> Self:
        self._next: Any = asyncio.ensure_future(anext(self._stream))
        await until(self._has_begun)
        return self

    async def _has_begun(self) -> bool:
        stored = (self._positions, text_records(self._store, "incoming-position"))
        keys = [key for each in stored for key, _ in await each.all()]
        return any(key.startswith(self._name) for key in keys)  # a reader stores its first position when it begins

    async def __aexit__(self, *_: object) -> None:
        self._next.cancel()
        await asyncio.gather(self._next, return_exceptions=True)
        await self._stream.aclose()

    async def take(self) -> tuple[dict[str, Any], int]:
        found: tuple[dict[str, Any], int] = await asyncio.wait_for(self._next, 30)
        self._next = asyncio.ensure_future(anext(self._stream))
        return found

    async def confirm(self, position: int, *, is_clean: bool = True) -> None:
        await self.producer.advance(
            [SimpleNamespace(broker_payload=position, outcome=SimpleNamespace(is_clean=is_clean))]
        )


async def test_each_call_that_ends_is_an_event_and_begins_with_the_trigger(store: Store) -> None:
    await ended(store, "before")
    async with Triggerer(store) as triggerer:
        await ended(store, "one", "two")
        found = [(await triggerer.take())[0] for _ in range(2)]
    assert [(each["unique_key"], each["state"], each["batch_id"]) for each in found] == [
        ("one", "cancelled", "march"),
        ("two", "cancelled", "march"),
    ]
    assert "+65" not in json.dumps(found)


async def test_what_airflow_has_not_stored_is_given_again_and_what_it_has_stored_is_not(store: Store) -> None:
    async with Triggerer(store) as first:
        await ended(store, "one", "two", "three")
        positions = [(await first.take())[1] for _ in range(3)]
        await first.confirm(positions[0])
        with pytest.raises(RuntimeError, match="has not stored"):
            await first.confirm(positions[1], is_clean=False)
    async with Triggerer(store) as second:
        assert [(await second.take())[0]["unique_key"] for _ in range(2)] == ["two", "three"]


async def test_other_batches_and_answers_are_passed_over_and_not_read_again(store: Store) -> None:
    async with Triggerer(store, batch_id="april"), Triggerer(store, answers=["confirmed"]):
        await ended(store, *(f"march-{position}" for position in range(150)))
    async with Triggerer(store, batch_id="april") as again:
        await ended(store, "april", batch_id="april")
        event, _ = await again.take()
        assert event["unique_key"] == "april"


async def test_an_incoming_call_is_one_event_however_many_events_8x8_sends_of_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "SETTLING", timedelta(0))
    calls = IncomingCalls(store)

    async def phoned(session: str, **more: Any) -> None:
        await calls.note(CallStatus(session_id=session, source="+6581234567", destination="+6531234567", **more))

    async with Triggerer(store, incoming=True) as triggerer:
        for session in ("one", "one", "two"):
            await phoned(session, direction=Direction.INBOUND)
        await phoned("three", direction=Direction.OUTBOUND)
        received = CallAction(session_id="four", call_status=ActionStatus.CALL_RECEIVED)
        for event in (received, received, replace(received, call_status=ActionStatus.ACTION_COMPLETED)):
            await calls.note(event)
        found = [await triggerer.take() for _ in range(3)]
        assert [(event["session_id"], event["source"]) for event, _ in found] == [
            ("one", "+6581234567"),
            ("two", "+6581234567"),
            ("four", None),
        ]
        await triggerer.confirm(found[1][1])
    async with Triggerer(store, incoming=True) as again:
        assert (await again.take())[0]["session_id"] == "four"


def test_triggers_that_watch_the_same_calls_share_their_reader() -> None:
    one, same, other = (events.VoiceEventTrigger(batch_id=batch_id) for batch_id in ("a", "a", "b"))
    assert one.shared_stream_key() == same.shared_stream_key() != other.shared_stream_key()
    path, arguments = one.serialize()
    assert path.endswith(type(one).__name__)
    assert type(one)(**arguments).serialize() == one.serialize()
