"""A store that hangs: the sender hears 503 within the limit, nobody hears a false 200, and nothing is half done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import anyio
import orjson
import pytest

from tests.support.waiting import until
from tests.webhooks.receiving import SECRET, events_app, other, receiving, summary
from voiceflow_worker.core.progress import LegState
from voiceflow_worker.core.settling.settle import SummaryResult
from voiceflow_worker.model.reports.events import CallStatus, RecordingReady, SessionSummary
from voiceflow_worker.webhooks.reading import OtherEvent

pytestmark = pytest.mark.anyio

SHORT = timedelta(milliseconds=100)


@dataclass
class Hanging:
    """Takes events once it is let; under a shield, as the engine waits for a commit that is under way."""

    let: anyio.Event = field(default_factory=anyio.Event)
    taken: list[object] = field(default_factory=list)

    async def summary(self, summary: SessionSummary) -> SummaryResult:
        await self._take(summary)
        return SummaryResult.SETTLED

    async def status(self, event: CallStatus) -> LegState | None:
        await self._take(event)
        return None

    async def recording(self, event: RecordingReady) -> bool:
        await self._take(event)
        return True

    async def _take(self, event: object) -> None:
        with anyio.CancelScope(shield=True):
            await self.let.wait()
        self.taken.append(event)


@pytest.mark.parametrize("event", [summary(), other("CALL_STATUS"), other("CALL_RECORDING_STATUS")])
async def test_a_store_that_hangs_is_reported_as_503_and_the_event_is_not_cut_off(event: dict[str, Any]) -> None:
    hanging = Hanging()
    async with receiving(hanging, progress=hanging, store_limit=SHORT) as sender:
        with anyio.fail_after(20):
            assert (await sender.send(event)).status_code == 503
        assert await sender.metric("store_failures_total") == 1
        assert await sender.metric("store_timeouts_total") == 1
        assert await sender.metric("in_progress") == 1
        assert hanging.taken == []
        hanging.let.set()

        async def is_free() -> bool:
            return await sender.metric("in_progress") == 0

        await until(is_free)
        assert len(hanging.taken) == 1, "what was under way has come to its end"
        assert (await sender.send(event)).status_code == 200, "the sender comes again, as it was told"


async def test_while_too_many_are_with_a_store_that_hangs_the_next_are_not_handed_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("voiceflow_worker.webhooks.events.MOST_LATE", 3)
    hanging = Hanging()
    async with receiving(hanging, store_limit=SHORT) as sender:
        with anyio.fail_after(20):
            for _ in range(5):
                assert (await sender.send()).status_code == 503
        assert await sender.metric("in_progress") == 3
        assert await sender.metric("store_failures_total") == 5
        hanging.let.set()


async def test_a_menu_that_hangs_has_a_limit_of_its_own() -> None:
    async def menu(_event: OtherEvent) -> bytes:
        await anyio.sleep(2 * SHORT.total_seconds())  # longer than one limit and shorter than the other
        return b'{"callflow": []}'

    event = other("CALL_ACTION", eventData={"dtmf": "1"})
    async with receiving(on_event=menu, store_limit=SHORT, event_limit=timedelta(seconds=20)) as sender:
        assert (await sender.send(event)).json() == {"callflow": []}
    async with receiving(on_event=menu, event_limit=SHORT) as sender:
        assert (await sender.send(event)).status_code == 503


async def test_what_is_with_a_store_that_hangs_is_not_cut_off_when_its_sender_has_gone() -> None:
    """A server may raise when an answer finds nobody (ASGI: OSError)."""
    let, taken = anyio.Event(), list[SessionSummary]()

    class Slow:
        async def summary(self, summary: SessionSummary) -> SummaryResult:
            await let.wait()
            taken.append(summary)
            return SummaryResult.SETTLED

    body = orjson.dumps(summary())
    headers = [(b"authorization", SECRET.encode())]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 503
        let.set()
        raise OSError("the client has gone")

    scope = {
        "type": "http", "method": "POST", "path": "/webhooks/8x8", "headers": headers, "query_string": b"",
        "client": ("127.0.0.1", 1),
    }  # fmt: skip
    app = events_app(Slow(), store_limit=SHORT)
    with anyio.fail_after(20), pytest.raises(OSError, match="gone"):
        await app(scope, receive, send)
    assert len(taken) == 1
