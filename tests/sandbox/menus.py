"""Helpers of the sandbox tests: flows, and a receiver that keeps events and answers call action events with flows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import anyio
from starlette.types import Receive, Scope, Send

from tests.sandbox.calling import ANA, SOURCE
from tests.sandbox.contract import known_contract
from voiceflow_worker.asgi.server import serving

VOICE = "en-US-BenjaminRUS"
Json: TypeAlias = dict[str, Any]


def say(words: str, **more: object) -> Json:
    return {"action": "say", "params": {"text": words, "voiceProfile": VOICE, **more}}


def ask(prompt: str = "Press a key.", **more: object) -> Json:
    """A question for one key, which does not wait long for it."""
    rules = {"minDigits": 1, "maxDigits": 1, "digitTimeout": 5000, "overallTimeout": 10000, "noOfTries": 1}
    return {"action": "sayAndCapture", "params": {"promptMessage": prompt, "voiceProfile": VOICE, **rules, **more}}


def call(destination: str, **more: object) -> Json:
    return {"action": "makeCall", "params": {"source": SOURCE, "destination": destination, **more}}


HANGUP: Json = {"action": "hangup"}


def asking(*actions: Json, destination: str = ANA, **more: object) -> Json:
    """A request for a call that goes through these actions, a question unless given."""
    return {"callflow": [call(destination), *(actions or (ask(),))], **more}


def answered(*actions: Json, place: str | None = None) -> Json:
    """An answer to a call action event."""
    return {"callflow": list(actions)} if place is None else {"clientActionId": place, "callflow": list(actions)}


Replies: TypeAlias = Callable[[Json], "Json | bytes | int"]
"""From the payload of a call action event to its answer: a body, raw bytes, or another status than 200."""


@dataclass
class Receiver:
    """Keeps every event in the order in which it came, each as the document has it; answers call action events."""

    replies: Replies
    url: str = ""
    events: list[Json] = field(default_factory=list[Json])
    authorizations: list[str | None] = field(default_factory=list[str | None])
    statuses: list[int] = field(default_factory=list[int])
    """Those of the next answers; 200 after them."""
    problems: list[str] = field(default_factory=list[str])
    holds: asyncio.Event | None = None
    """Call action events are answered when this is set."""
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise RuntimeError("none")
        content = b""
        while True:
            message = await receive()
            content += message.get("body", b"")
            if not message.get("more_body"):
                break
        event = json.loads(content)
        self.events.append(event)
        self.problems += known_contract().problems_of_event(content)
        headers = dict(scope["headers"])
        self.authorizations.append(headers[b"authorization"].decode() if b"authorization" in headers else None)
        self._more.set()
        status, body = self.statuses.pop(0) if self.statuses else 200, b"{}"
        if event["eventType"] == "CALL_ACTION":
            if self.holds is not None:
                await self.holds.wait()
            reply = self.replies(event["payload"])
            if isinstance(reply, int):
                status = reply
            else:
                body = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": status, "headers": [length]})
        await send({"type": "http.response.body", "body": body})

    def of(self, event_type: str) -> list[Json]:
        """The payloads of events of one type."""
        return [event["payload"] for event in self.events if event["eventType"] == event_type]

    async def reached(self, count: int, event_type: str = "CALL_ACTION") -> None:
        """Wait until so many events of a type have come."""
        with anyio.fail_after(30):
            while len(self.of(event_type)) < count:
                self._more.clear()
                await self._more.wait()

    @property
    def payloads(self) -> list[Json]:
        return [event["payload"] for event in self.events]

    @property
    def questions(self) -> list[Json]:
        return self.of("CALL_ACTION")

    @property
    def summary(self) -> Json:
        """That of the one session there was."""
        (found,) = self.of("SESSION_SUMMARY")
        return found

    @property
    def order(self) -> list[str]:
        """The types of the events as they came."""
        return [event["eventType"] for event in self.events]


@asynccontextmanager
async def receiving(replies: Replies | Json, *statuses: int) -> AsyncGenerator[Receiver]:
    receiver = Receiver(replies if callable(replies) else lambda _: replies, statuses=list(statuses))
    async with serving(receiver.app) as address:
        receiver.url = f"{address.url}/hook"
        yield receiver
    assert not receiver.problems


def in_turn(*replies: Json | bytes | int) -> Replies:
    """These answers, one after another."""
    left = list(replies)
    return lambda _: left.pop(0)
