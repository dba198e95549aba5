"""A sandbox, a client and a receiver, all that goes between them kept and held against the OpenAPI document."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import httpx

from tests.sandbox.calling import KEY
from tests.sandbox.contract import Watched, known_contract
from tests.webhooks.receiving import SECRET, events_app
from voiceflow_worker import CallFlow, VoiceClient
from voiceflow_worker.asgi.server import serving
from voiceflow_worker.model.reports.events import CallAction
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.webhooks import PATH as RECEIVER_PATH
from voiceflow_worker.webhooks.reading import OtherEvent

QUICK = 20_000.0


@dataclass(frozen=True)
class Stage:
    """A sandbox and a receiver whose exchanges are watched, and a client between them."""

    sandbox: Sandbox
    voice: VoiceClient
    plain: httpx.AsyncClient
    asked: Watched
    told: Watched
    url: str

    async def settled(self) -> None:
        with anyio.fail_after(100):
            await self.sandbox.idle()


def goodbye() -> dict[str, Any]:
    return {"callflow": [{"action": "hangup"}]}


@asynccontextmanager
async def staged(replies: Callable[[], dict[str, Any]] = goodbye, **more: Any) -> AsyncGenerator[Stage]:
    async def answer(event: OtherEvent) -> bytes | None:
        return CallFlow.parse(replies(), reply=True).to_json() if isinstance(event, CallAction) else None

    told = Watched(events_app(on_event=answer))
    async with serving(told) as receiver:
        hook = receiver.url + RECEIVER_PATH
        sandbox = Sandbox(webhook=hook, webhook_secret=SECRET, speed=QUICK, call_statuses=True, **more)
        asked = Watched(sandbox.app)
        async with (
            serving(asked) as address,
            VoiceClient("key-1", "acme", base_url=address.url) as voice,
            httpx.AsyncClient(trust_env=False, base_url=address.url, headers=KEY, timeout=20) as plain,
        ):
            yield Stage(sandbox, voice, plain, asked, told, address.url)
            await sandbox.aclose()


def problems_of(stage: Stage) -> list[str]:
    contract = known_contract()
    return [problem for exchange in stage.asked.exchanges for problem in contract.problems(exchange)] + [
        problem for exchange in stage.told.exchanges for problem in contract.problems_of_event(exchange.request)
    ]
