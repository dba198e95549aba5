"""Webhooks on their way: each event is POSTed to where it was registered, and what came of it is written down."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
import orjson

from voiceflow_worker.model.values import is_object
from voiceflow_worker.sandbox.activity import Activity
from voiceflow_worker.sandbox.ledger import moment

# A receiver is on the other end of one machine's loopback: more at once only wait in its backlog.
_AT_ONCE = 64
_FIRST_RETRY, _LONGEST_RETRY = 1.0, 60.0


@dataclass(frozen=True, slots=True)
class Hook:
    """Where events of a type are sent, and the Authorization value they carry."""

    url: str
    authorization: str | None = None
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryEntry:
    """One try to deliver an event: the receiver's HTTP status, or what kept it from answering."""

    at: float
    event_type: str
    url: str
    session_id: str | None
    client_request_id: str | None
    status: int | None
    error: str | None = None

    def as_json(self) -> dict[str, object]:
        """The entry for scripts."""
        return {
            "at": moment(self.at),
            "event_type": self.event_type,
            "url": self.url,
            "session_id": self.session_id,
            "client_request_id": self.client_request_id,
            "status": self.status,
            "error": self.error,
        }


class Delivery:
    """Sends events. `speed` shortens the waits between retries; the newest 10,000 tries are remembered."""

    def __init__(self, activity: Activity, *, speed: float, retries: int = 0, timeout: float = 10.0) -> None:
        self._activity = activity
        self._speed = speed
        self._retries = retries
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self.entries: deque[DeliveryEntry] = deque(maxlen=10_000)

    def send(self, hook: Hook, event: Mapping[str, object], *, copies: int = 1, retries: int | None = None) -> None:
        """Send an event, `copies` times, each tried again up to `retries` times until it is answered with 2xx."""
        task = asyncio.create_task(self._deliver(hook, event, copies, self._retries if retries is None else retries))
        self._under_way.add(task)
        self._activity.begin()
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._activity.end()

    async def _deliver(self, hook: Hook, event: Mapping[str, object], copies: int, retries: int) -> None:
        body = orjson.dumps(event)
        for _ in range(copies):
            wait = _FIRST_RETRY
            for left in range(retries, -1, -1):
                entry = await self._post(hook, event, body)
                self.entries.append(entry)
                if left == 0 or (entry.status is not None and 200 <= entry.status < 300):
                    break
                await asyncio.sleep(wait / self._speed)
                wait = min(wait * 2, _LONGEST_RETRY)

    async def _post(self, hook: Hook, event: Mapping[str, object], body: bytes) -> DeliveryEntry:
        headers = {"Content-Type": "application/json"}
        if hook.authorization is not None:
            headers["Authorization"] = hook.authorization
        status, error = None, None
        at = time.time()
        try:
            async with self._client().post(hook.url, data=body, headers=headers, allow_redirects=False) as answer:
                await answer.read()
                status = answer.status
        except (aiohttp.ClientError, OSError, ValueError) as failure:
            error = f"{type(failure).__name__}: {failure}"
        payload = event.get("payload")
        ids: Mapping[str, object] = payload if is_object(payload) else {}
        return DeliveryEntry(
            at=at,
            event_type=str(event.get("eventType")),
            url=hook.url,
            session_id=_text(ids.get("sessionId")),
            client_request_id=_text(ids.get("clientRequestId")),
            status=status,
            error=error,
        )

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            # A proxy of this machine's environment is not between the sandbox and a receiver beside it.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_AT_ONCE), timeout=self._timeout, trust_env=False
            )
        return self._session

    def clear(self) -> None:
        """Call off what is on its way, and forget what was sent."""
        for task in self._under_way:
            task.cancel()
        self.entries.clear()

    async def aclose(self) -> None:
        """Call off what is on its way, and close the connections."""
        self.clear()
        if self._under_way:
            await asyncio.wait(list(self._under_way))
        if self._session is not None:
            await self._session.close()
            self._session = None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
