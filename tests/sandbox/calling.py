"""Helpers of the sandbox tests: flows, a client that places calls, and a receiver that keeps and answers events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import anyio
import httpx
from starlette.types import Receive, Scope, Send

from voiceflow_worker.asgi.server import serving
from voiceflow_worker.model.reports.events import SessionSummary, parse_event
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.sandbox.orders import Script

SOURCE = "+6531234567"
ANA = "+6587654321"
BEN = "+6587654322"
ACCOUNT = "/api/v1/subaccounts/acme"
PATH = f"{ACCOUNT}/callflows"
KEY = {"Authorization": "Bearer key-1"}
QUICK = 2000.0
Json: TypeAlias = dict[str, Any]


def call(destination: object = ANA, **more: object) -> Json:
    return {"action": "makeCall", "params": {"source": SOURCE, "destination": destination, **more}}


def say(words: str = "Your order is ready.") -> Json:
    return {"action": "say", "params": {"text": words, "voiceProfile": "en-US-BenjaminRUS"}}


def ask(prompt: str = "Press a key.", **more: object) -> Json:
    """A question for one key, which does not wait long for it."""
    rules = {"minDigits": 1, "maxDigits": 1, "digitTimeout": 5000, "overallTimeout": 10000, "noOfTries": 1}
    params = {"promptMessage": prompt, "voiceProfile": "en-US-BenjaminRUS", **rules, **more}
    return {"action": "sayAndCapture", "params": params}


HANGUP: Json = {"action": "hangup"}


def body(destination: object = ANA, **more: object) -> Json:
    """A body as the messaging guide prints it: a call, a text, the end."""
    return {"callflow": [call(destination), say(), HANGUP], **more}


def asking(*actions: Json, destination: str = ANA, **more: object) -> Json:
    """A request for a call that goes through these actions, a question unless given."""
    return {"callflow": [call(destination), *(actions or (ask(),))], **more}


def answered(*actions: Json, place: str | None = None) -> Json:
    """An answer to a call action event."""
    return {"callflow": list(actions)} if place is None else {"clientActionId": place, "callflow": list(actions)}


GOODBYE = answered(say("Goodbye."), HANGUP)
Replies: TypeAlias = Callable[[Json], "Json | bytes | int"]
"""From the payload of a call action event to its answer: a body, raw bytes, or another status than 200."""


def in_turn(*replies: Json | bytes | int) -> Replies:
    """These answers, one after another."""
    left = list(replies)
    return lambda _: left.pop(0)


@dataclass
class Caller:
    """A client of a running sandbox."""

    url: str
    client: httpx.AsyncClient
    sandbox: Sandbox

    async def place(self, destination: str = ANA, **more: object) -> httpx.Response:
        return await self.post(body(destination, **more))

    async def post(
        self, given: object, *, headers: Mapping[str, str] = KEY, path: str = PATH, within: float | None = None
    ) -> httpx.Response:
        content = given if isinstance(given, bytes) else json.dumps(given).encode()
        limit = self.client.timeout if within is None else within
        return await self.client.post(self.url + path, content=content, headers=dict(headers), timeout=limit)

    async def told(self) -> list[Json]:
        """The ledger of calls."""
        found: list[Json] = (await self.client.get(f"{self.url}/_sandbox/calls")).json()
        return found

    async def order(self, kind: str, given: object, *, status: int = 200) -> Any:
        answer = await self.client.post(f"{self.url}/_sandbox/{kind}", json=given)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def fault(self, fault: str, **more: object) -> None:
        await self.order("faults", {"fault": fault, **more})

    async def script(self, **more: object) -> None:
        await self.order("script", more)

    async def settled(self) -> None:
        """Wait until every call has ended, and its events are delivered."""
        with anyio.fail_after(30):
            await self.sandbox.idle()

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
        yield Caller(url, client, sandbox)


@dataclass
class Receiver:
    """Keeps every event in the order in which it came; answers call action events."""

    replies: Replies
    statuses: list[int]
    """Those of the next answers; 200 after them."""
    url: str = ""
    events: list[Json] = field(default_factory=list[Json])
    authorizations: list[str | None] = field(default_factory=list[str | None])
    holds: asyncio.Event | None = None
    """Call action events are answered when this is set."""
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with the first call action event."""

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise RuntimeError("none")
        content, more = b"", True
        while more:
            message = await receive()
            content, more = content + message.get("body", b""), message.get("more_body", False)
        event = json.loads(content)
        self.events.append(event)
        headers = dict(scope["headers"])
        self.authorizations.append(headers[b"authorization"].decode() if b"authorization" in headers else None)
        status, answer = self.statuses.pop(0) if self.statuses else 200, b"{}"
        if event["eventType"] == "CALL_ACTION":
            self.asked.set()
            if self.holds is not None:
                await self.holds.wait()
            reply = self.replies(event["payload"])
            if isinstance(reply, int):
                status = reply
            else:
                answer = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        length = (b"content-length", str(len(answer)).encode())
        await send({"type": "http.response.start", "status": status, "headers": [length]})
        await send({"type": "http.response.body", "body": answer})

    def of(self, event_type: str) -> list[Json]:
        """The payloads of events of one type."""
        return [event["payload"] for event in self.events if event["eventType"] == event_type]

    def read(self, event_type: str) -> list[Any]:
        """Events of one type, as our receiver reads them."""
        return [parse_event(event) for event in self.events if event["eventType"] == event_type]

    @property
    def questions(self) -> list[Json]:
        return self.of("CALL_ACTION")

    @property
    def summary(self) -> SessionSummary:
        """That of the one session there was."""
        (found,) = self.read("SESSION_SUMMARY")
        assert isinstance(found, SessionSummary)
        return found

    @property
    def order(self) -> list[str]:
        """The types of the events as they came."""
        return [event["eventType"] for event in self.events]


@asynccontextmanager
async def receiving(replies: Replies | Json, *statuses: int) -> AsyncGenerator[Receiver]:
    receiver = Receiver(replies if callable(replies) else lambda _: replies, list(statuses))
    async with serving(receiver.app) as address:
        receiver.url = f"{address.url}/hook"
        yield receiver


@asynccontextmanager
async def reporting(
    replies: Replies | Json = GOODBYE, *statuses: int, speed: float = QUICK, **more: Any
) -> AsyncGenerator[tuple[Receiver, Caller]]:
    """A quick sandbox that reports to a receiver, and a caller of it."""
    async with (
        receiving(replies, *statuses) as receiver,
        calling(Sandbox(webhook=receiver.url, speed=speed, **more)) as caller,
    ):
        yield receiver, caller


@dataclass(frozen=True)
class Played:
    """A call to its end: what the receiver got, and what the sandbox has of it."""

    receiver: Receiver
    entry: Json


async def played(
    replies: Replies | Json,
    request: Json | None = None,
    *,
    script: Json | None = None,
    **more: Any,
) -> Played:
    """Play one call, as `script` says. The person answers, and presses a 1."""
    async with reporting(replies, **more) as (receiver, caller):
        given = {"outcome": "COMPLETED", "keys": ["1", "2"], **(script or {})}
        caller.sandbox.scripts.add(Script.model_validate(given))
        assert (await caller.post(request or asking())).status_code == 200
        await caller.settled()
        (entry,) = await caller.told()
        return Played(receiver, entry)
