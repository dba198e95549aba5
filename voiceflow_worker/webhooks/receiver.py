"""The one route for all events: let in, read, understand, hand on, answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta

import anyio
import orjson
import structlog
from starlette.types import Receive, Scope, Send

from voiceflow_worker.errors import StaleJobError, StoreError, WebhookEventError
from voiceflow_worker.model.events import (
    CallAction,
    CallStatus,
    Event,
    NumberUpdate,
    RecordingReady,
    SessionSummary,
    UnknownEvent,
    parse_event,
)
from voiceflow_worker.webhooks.gatekeeper import Gatekeeper, Refusal
from voiceflow_worker.webhooks.metrics import Metrics
from voiceflow_worker.webhooks.ports import AnswersEvents, EventAnswer, SettlesSummaries

_log = structlog.get_logger("voiceflow.webhooks")

_EMPTY = b"{}"
# A call action event asks what to do next. With no menu there is nothing to do: the call ends, instead of leaving a
# person on a line that stays silent until the service gives up.
_NO_MENU = orjson.dumps({"callflow": [{"action": "hangup"}]})


class Receiver:
    """An ASGI endpoint. Beside the store, and `on_event` if there is one, it waits for nothing but its client.

    A body may have `longest_body` bytes and take `read_limit` to arrive.
    """

    def __init__(
        self,
        settle: SettlesSummaries,
        *,
        gatekeeper: Gatekeeper,
        metrics: Metrics,
        on_event: AnswersEvents | None,
        longest_body: int,
        read_limit: timedelta,
    ) -> None:
        self._settle = settle
        self._gatekeeper = gatekeeper
        self._metrics = metrics
        self._on_event = on_event
        self._longest_body = longest_body
        self._read_limit = read_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = time.perf_counter()
        try:
            status, body = await self._answer(scope, receive)
        except _ClientLeftError:
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if status == 408:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self._metrics.answers.labels(str(status)).inc()
        self._metrics.seconds.observe(time.perf_counter() - began)

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        client = scope.get("client")
        refusal = self._gatekeeper.refusal(scope["headers"], client[0] if client else None)
        match refusal:
            case Refusal.NETWORK:
                return self._refuse(403, refusal.value, "events are not taken from this network")
            case Refusal.SECRET:
                return self._refuse(401, refusal.value, "the Authorization header is missing or wrong")
            case None:
                pass
        if _told_length(scope) > self._longest_body:
            return self._refuse(413, "too_large", f"an event has at most {self._longest_body} bytes")
        try:
            with anyio.fail_after(self._read_limit.total_seconds()):
                content = await self._read(receive)
        except TimeoutError:
            return self._refuse(408, "too_slow", "the body did not arrive in time")
        if content is None:
            return self._refuse(413, "too_large", f"an event has at most {self._longest_body} bytes")
        try:
            event = parse_event(orjson.loads(content))
        except orjson.JSONDecodeError as error:
            return self._refuse(400, "not_json", f"no JSON: {error}")
        except WebhookEventError as error:
            return self._refuse(400, "not_an_event", str(error))
        return await self._take(event)

    async def _take(self, event: Event) -> tuple[int, bytes]:
        self._metrics.events.labels(_kind(event)).inc()
        try:
            if isinstance(event, SessionSummary):
                result = await self._settle.summary(event)
                self._metrics.summaries.labels(result.value).inc()
                return 200, _EMPTY
            if isinstance(event, UnknownEvent):
                return 200, _EMPTY
            return 200, _written(None if self._on_event is None else await self._on_event(event), event)
        except (StoreError, StaleJobError) as error:
            # A job that others keep moving is no better than a store that is away: the event is not stored.
            self._metrics.store_failures.inc()
            _log.warning("an event was not stored, its sender was told 503", kind=_kind(event), error=str(error))
            return self._refuse(503, "store", "the event could not be stored; send it again later")
        except Exception:  # noqa: BLE001 - whatever it is, a 200 would be false, and one event must not take others with it
            _log.exception("an event could not be taken, its sender was told 500", kind=_kind(event))
            return self._refuse(500, "failure", "the event could not be taken")

    def _refuse(self, status: int, reason: str, sentence: str) -> tuple[int, bytes]:
        self._metrics.refusals.labels(reason).inc()
        return status, orjson.dumps({"error": sentence})

    async def _read(self, receive: Receive) -> bytes | None:
        """The whole body; None as soon as it is too long."""
        content = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _ClientLeftError
            content += message.get("body", b"")
            if len(content) > self._longest_body:
                return None
            if not message.get("more_body", False):
                return bytes(content)


class _ClientLeftError(Exception):
    """Raised when the client is gone before its request was in: nobody is left to answer."""


def _told_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:18])
    return 0


def _written(answer: EventAnswer, event: Event) -> bytes:
    match answer:
        case None:
            return _NO_MENU if isinstance(event, CallAction) else _EMPTY
        case bytes():
            return answer
        case Mapping():
            return orjson.dumps(answer)


def _kind(event: Event) -> str:
    match event:
        case SessionSummary():
            return "VSS"
        case CallAction():
            return "VCA"
        case CallStatus():
            return "VCS"
        case RecordingReady():
            return "VRU"
        case NumberUpdate():
            return "VNU"
        case UnknownEvent():
            return "unknown"
