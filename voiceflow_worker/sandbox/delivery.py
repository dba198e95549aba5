"""The delivery of events to webhooks by POST, with a record of each attempt."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from ssl import SSLContext

import httpx
import orjson

from voiceflow_worker.model.flows.values import is_object
from voiceflow_worker.sandbox.call import JsonEntry
from voiceflow_worker.sandbox.call_events import Activity
from voiceflow_worker.sandbox.outcomes import text

# The receiver is on the same machine, and more connections would only wait in its backlog.
_AT_ONCE = 64
_FIRST_RETRY, _LONGEST_RETRY = 1.0, 60.0


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """The URL that events of a type are sent to, and their Authorization value."""

    url: str
    authorization: str | None = None
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryEntry(JsonEntry):
    """One attempt to deliver an event, with the receiver's HTTP status or the error.

    `seconds` is how long the answer took, and `answer` is its body.
    """

    at: float
    event_type: str
    url: str
    session_id: str | None
    client_request_id: str | None
    status: int | None
    error: str | None = None
    event_id: str | None = None
    seconds: float = 0.0
    answer: bytes | None = None


class Delivery:
    """The sender of events. It keeps the newest 10,000 attempts. `speed` shortens the waits between retries.

    `ssl_context` has the certificates that are trusted, by default the public ones.
    """

    def __init__(
        self,
        activity: Activity,
        *,
        speed: float,
        retries: int = 0,
        ssl_context: SSLContext | None = None,
    ) -> None:
        self._activity = activity
        self._speed = speed
        self._retries = retries
        self._ssl_context = ssl_context
        self._places = asyncio.Semaphore(_AT_ONCE)
        # Each carries one event at a time, because httpx's pool needs 2 ms for each of many requests at once.
        self._free: list[httpx.AsyncHTTPTransport] = []
        self.entries: deque[DeliveryEntry] = deque(maxlen=10_000)

    def send(
        self,
        hook: WebhookTarget,
        event: Mapping[str, object],
        *,
        copies: int = 1,
    ) -> None:
        """Send an event `copies` times. Each copy is sent again up to `retries` times if the answer is not 2xx."""
        self._activity.run(self._deliver(hook, event, copies))

    async def ask(self, hook: WebhookTarget, event: Mapping[str, object], *, within: float) -> DeliveryEntry:
        """Send an event that is a question, and wait up to `within` seconds for its answer."""
        # A caller waits for each question, so questions do not queue behind summaries or each other.
        return await self._post(hook, event, orjson.dumps(event), within=within)

    async def _deliver(
        self,
        hook: WebhookTarget,
        event: Mapping[str, object],
        copies: int,
    ) -> None:
        body = orjson.dumps(event)
        for _ in range(copies):
            wait = _FIRST_RETRY
            for left in range(self._retries, -1, -1):
                async with self._places:  # the timeout begins after the wait for a place
                    entry = await self._post(hook, event, body, within=10.0)
                if left == 0 or (entry.status is not None and 200 <= entry.status < 300):
                    break
                await asyncio.sleep(wait / self._speed)
                wait = min(wait * 2, _LONGEST_RETRY)

    async def _post(
        self, hook: WebhookTarget, event: Mapping[str, object], body: bytes, *, within: float
    ) -> DeliveryEntry:
        headers = {"Content-Type": "application/json"}
        if hook.authorization is not None:
            headers["Authorization"] = hook.authorization
        status, error, content = None, None, b""
        at, began = time.time(), time.perf_counter()
        try:
            request = httpx.Request("POST", hook.url, content=body, headers=headers)
            async with asyncio.timeout(within), self._transport() as transport:
                response = await transport.handle_async_request(request)
                content = await response.aread()
            status = response.status_code
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as failure:
            error = f"{type(failure).__name__}: {failure}"
        payload = event.get("payload")
        ids: Mapping[str, object] = payload if is_object(payload) else {}
        entry = DeliveryEntry(
            at=at,
            event_type=str(event.get("eventType")),
            url=hook.url,
            session_id=text(ids, "sessionId"),
            client_request_id=text(ids, "clientRequestId"),
            status=status,
            error=error,
            event_id=text(ids, "eventId"),
            seconds=time.perf_counter() - began,
            answer=None if status is None else content,
        )
        self.entries.append(entry)
        return entry

    @asynccontextmanager
    async def _transport(self) -> AsyncGenerator[httpx.AsyncHTTPTransport]:
        """A transport for one event, with a connection that is used again unless the event fails."""
        transport = self._free.pop() if self._free else self._new_transport()
        try:
            yield transport
        except BaseException:
            await transport.aclose()
            raise
        self._free.append(transport)

    async def aclose(self) -> None:
        """Close the connections, after all deliveries have ended."""
        while self._free:
            await self._free.pop().aclose()

    def _new_transport(self) -> httpx.AsyncHTTPTransport:
        # The receiver is on this machine, so proxies in the environment are ignored.
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
        trusted = self._ssl_context or _public_certificates()
        return httpx.AsyncHTTPTransport(verify=trusted, trust_env=False, limits=limits)


@cache
def _public_certificates() -> SSLContext:
    return httpx.create_ssl_context(trust_env=False)
