"""Helpers of the sandbox tests: a client that places calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import httpx

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

    async def post(
        self, given: object, *, headers: Mapping[str, str] = KEY, path: str = PATH, within: float | None = None
    ) -> httpx.Response:
        content = given if isinstance(given, bytes) else json.dumps(given).encode()
        limit = self.client.timeout if within is None else within
        return await self.client.post(self.url + path, content=content, headers=dict(headers), timeout=limit)

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
