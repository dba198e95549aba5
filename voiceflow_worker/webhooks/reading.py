"""Requests read and parsed into events, or refused with an answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta

import orjson
from starlette.types import Receive, Scope

from voiceflow_worker.errors import WebhookEventError
from voiceflow_worker.model.reports.events import Event, parse_event
from voiceflow_worker.webhooks.decoding import decoded
from voiceflow_worker.webhooks.gatekeeper import Gatekeeper, RefusalReason
from voiceflow_worker.webhooks.kept_events import OddReason

DISCARDS_FOR = 2.0
"""Seconds for which the body of a request that is turned away is read, and thrown away."""
MOST_DISCARDED = 4_000_000
"""Bytes of it."""


@dataclass(frozen=True, slots=True)
class WebhookAnswer:
    """What is answered. `odd` is why the event is kept for people to look at; None for one that is as it should be.

    `closes`: it is the last answer of its connection, for more of the body may come.
    """

    status: int
    body: bytes
    odd: OddReason | None = None
    refusal: str | None = None
    closes: bool = False

    @classmethod
    def refused(cls, status: int, refusal: str, sentence: str, *, odd: OddReason | None = None) -> WebhookAnswer:
        """An answer that says why an event was not taken."""
        return cls(status, orjson.dumps({"error": sentence}), odd, refusal)


class ClientLeftError(Exception):
    """Raised when the client is gone before its request was in: nobody is left to answer."""


class RequestReader:
    """Reads requests. Nothing of a stranger's body is looked at, and of nobody's more than `longest_body` bytes.

    A body may take `read_limit` to arrive.
    """

    def __init__(self, gatekeeper: Gatekeeper, *, longest_body: int, read_limit: timedelta) -> None:
        self._gatekeeper = gatekeeper
        self._longest_body = longest_body
        self._read_limit = read_limit.total_seconds()

    def sender(self, scope: Scope) -> str | None:
        """The address that a request comes from, as far as it is believed."""
        client = scope.get("client")
        address = self._gatekeeper.sender(scope["headers"], client[0] if client else None)
        return None if address is None else str(address)

    async def content(self, scope: Scope, receive: Receive) -> bytes | WebhookAnswer:
        """The whole body of somebody who may hand in events. Raises ClientLeftError."""
        client = scope.get("client")
        match self._gatekeeper.refusal(scope["headers"], client[0] if client else None):
            case RefusalReason.NETWORK:
                return await self._turned_away(
                    WebhookAnswer.refused(403, "network", "events are not taken from this network"), receive
                )
            case RefusalReason.SECRET:
                return await self._turned_away(
                    WebhookAnswer.refused(401, "secret", "the Authorization header is missing or wrong"), receive
                )
            case None:
                pass
        if _told_length(scope) > self._longest_body:
            return await self._turned_away(self._too_large(), receive)
        try:
            async with asyncio.timeout(self._read_limit):
                return await self._read(receive)
        except TimeoutError:
            return replace(WebhookAnswer.refused(408, "too_slow", "the body did not arrive in time"), closes=True)

    async def _turned_away(self, given: WebhookAnswer, receive: Receive) -> WebhookAnswer:
        """The answer, once the rest of the body has come and was thrown away, within limits.

        A connection that is closed with something unread is reset, and the sender may never see why (RFC 9112 §9.6).
        """
        try:
            async with asyncio.timeout(DISCARDS_FOR):
                discarded = await self._discard(receive)
        except TimeoutError:
            discarded = False
        return replace(given, closes=not discarded)

    async def _discard(self, receive: Receive) -> bool:
        """Throw away what comes; False when it is too much."""
        left = MOST_DISCARDED
        while left > 0:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientLeftError
            if not message.get("more_body", False):
                return True
            left -= len(message.get("body", b""))
        return False

    def _too_large(self) -> WebhookAnswer:
        return WebhookAnswer.refused(413, "too_large", f"an event has at most {self._longest_body} bytes")

    async def _read(self, receive: Receive) -> bytes | WebhookAnswer:
        """The whole body, unless it is too long."""
        content = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientLeftError
            content += message.get("body", b"")
            more = message.get("more_body", False)
            if len(content) > self._longest_body:
                return await self._turned_away(self._too_large(), receive) if more else self._too_large()
            if not more:
                return bytes(content)


def understood(content: bytes) -> Event | WebhookAnswer:
    """The event in a body."""
    try:
        return parse_event(decoded(content))
    except WebhookEventError as error:  # a ValueError too, so before it
        return WebhookAnswer.refused(400, "not_an_event", str(error), odd=OddReason.NOT_AN_EVENT)
    except ValueError as error:
        return WebhookAnswer.refused(400, "not_json", f"no JSON: {error}", odd=OddReason.NOT_JSON)


def _told_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:18])
    return 0
