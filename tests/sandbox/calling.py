"""Helpers of the sandbox tests: a client that places calls, and a receiver that keeps the events it is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx
from starlette.types import Receive, Scope, Send

from voiceflow_worker.asgi.server import serving
from voiceflow_worker.sandbox import Sandbox

SOURCE = "+6531234567"
ANA = "+6587654321"
BEN = "+6587654322"
PATH = "/api/v1/subaccounts/acme/callflows"
KEY = {"Authorization": "Bearer key-1"}


def body(destination: object = ANA, **more: object) -> dict[str, Any]:
    """A body as the messaging guide prints it: a call, a text, the end."""
    return {
        "callflow": [
            {"action": "makeCall", "params": {"source": SOURCE, "destination": destination}},
            {"action": "say", "params": {"text": "Your order is ready.", "voiceProfile": "en-IE-EmilyNeural"}},
            {"action": "hangup"},
        ],
        **more,
    }


@dataclass
class Caller:
    """A client of a running sandbox."""

    url: str
    client: httpx.AsyncClient

    async def place(self, destination: str = ANA, **more: object) -> httpx.Response:
        return await self.post(body(destination, **more))

    async def post(self, given: object, *, headers: Mapping[str, str] = KEY, path: str = PATH) -> httpx.Response:
        content = given if isinstance(given, bytes) else json.dumps(given).encode()
        return await self.client.post(self.url + path, content=content, headers=dict(headers))

    async def ledger(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.client.get(f"{self.url}/_sandbox/calls")).json()
        return found

    async def order(self, kind: str, given: object) -> httpx.Response:
        answer = await self.client.post(f"{self.url}/_sandbox/{kind}", json=given)
        assert answer.status_code == 200, answer.text
        return answer

    async def fault(self, fault: str, **more: object) -> None:
        await self.order("faults", {"fault": fault, **more})

    async def script(self, **more: object) -> None:
        await self.order("script", more)

    async def bytes_of_answer(self, destination: str = ANA) -> bytes:
        """All bytes the sandbox answers a call with until it closes the connection; an error if it resets it."""
        content = json.dumps(body(destination)).encode()
        address = httpx.URL(self.url)
        reader, writer = await asyncio.open_connection(address.host, address.port)
        try:
            writer.write(
                b"POST %s HTTP/1.1\r\nHost: sandbox\r\nAuthorization: Bearer key-1\r\nContent-Length: %d\r\n\r\n%s"
                % (PATH.encode(), len(content), content)
            )
            return await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def calling(sandbox: Sandbox) -> AsyncGenerator[Caller]:
    async with sandbox.running() as url, httpx.AsyncClient(timeout=20, trust_env=False) as client:
        yield Caller(url, client)


async def settled(sandbox: Sandbox) -> None:
    with anyio.fail_after(30):
        await sandbox.idle()


@dataclass
class Listener:
    """A webhook receiver that keeps every event, and answers with the statuses it is given, then with 200."""

    url: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise RuntimeError("none")
        content = b""
        while True:
            message = await receive()
            content += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.events.append(json.loads(content))
        headers = dict(scope["headers"])
        self.authorizations.append(headers[b"authorization"].decode() if b"authorization" in headers else None)
        status = self.statuses.pop(0) if self.statuses else 200
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})

    @property
    def payloads(self) -> list[dict[str, Any]]:
        return [event["payload"] for event in self.events]


@asynccontextmanager
async def listening(*statuses: int) -> AsyncGenerator[Listener]:
    listener = Listener(statuses=list(statuses))
    async with serving(listener.app) as address:
        listener.url = f"{address.url}/hook"
        yield listener


@asynccontextmanager
async def reporting(**more: Any) -> AsyncGenerator[tuple[Listener, Sandbox, Caller]]:
    """A quick sandbox that reports to a listener, and a caller of it."""
    async with listening() as listener:
        sandbox = Sandbox(**{"webhook": listener.url, "speed": 2000.0, **more})
        async with calling(sandbox) as caller:
            yield listener, sandbox, caller
