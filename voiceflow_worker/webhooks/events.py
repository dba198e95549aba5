"""The endpoint of the receiver, for events of all types."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple, TypeAlias

import orjson
import structlog
from prometheus_client import CollectorRegistry
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from voiceflow_worker.asgi import limits
from voiceflow_worker.asgi.gatekeeper import Gatekeeper, RefusalReason
from voiceflow_worker.core.base.round_trips import RateLimitedLog
from voiceflow_worker.core.progress import CallProgress
from voiceflow_worker.core.settling.settle import Settler
from voiceflow_worker.errors import StaleJobError, StoreError, WebhookEventError
from voiceflow_worker.gateway.account import PATH
from voiceflow_worker.model.reports.events import (
    CallAction,
    CallStatus,
    SessionSummary,
    UnknownEvent,
    WebhookEvent,
    parse_event,
)
from voiceflow_worker.service import metrics as named

_log = structlog.get_logger("voiceflow.webhooks")

OtherEvent: TypeAlias = CallAction | CallStatus
"""A known event other than a summary."""
AnswersEvents: TypeAlias = Callable[[OtherEvent], Awaitable[bytes | None]]
"""A handler of events other than summaries. It returns the JSON body of the answer, or None for the usual answer. If it
raises a StoreError, the event is answered with 503."""

_KINDS: Mapping[type, str] = {
    SessionSummary: "VSS",
    CallAction: "VCA",
    CallStatus: "VCS",
    UnknownEvent: "unknown",
}
_REFUSALS = {
    RefusalReason.NETWORK: (403, "events from this network are not accepted"),
    RefusalReason.SECRET: (401, "the Authorization header is missing or wrong"),
}
_EMPTY = b"{}"
LONGEST_BODY = 1_000_000
MOST_LATE = 1000
"""The largest number of events that are still being stored after their 503. Beyond it, new events get a 503 at once."""
LOGGED = 2048
"""The number of bytes of an event that could not be understood that are logged."""
REFUSED_EVERY = timedelta(minutes=10)
"""The time in which a log line for each reason tells of refused requests."""


class Metrics:
    """The metrics of the receiver."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.answers: Any = named.WEBHOOK_ANSWERS.on(registry)
        self.events: Any = named.WEBHOOK_EVENTS.on(registry)
        self.summaries: Any = named.WEBHOOK_SUMMARIES.on(registry)
        self.refusals: Any = named.WEBHOOK_REFUSALS.on(registry)
        self.odd: Any = named.WEBHOOK_UNPARSED.on(registry)
        self.store_failures: Any = named.WEBHOOK_STORE_FAILURES.on(registry)
        self.in_store: Any = named.WEBHOOK_IN_PROGRESS.on(registry)
        self.seconds: Any = named.WEBHOOK_SECONDS.on(registry)


class WebhookAnswer(NamedTuple):
    """An answer to a request. `odd` is why the event could not be understood, `refusal` why the request was refused.

    `closes` is True if the connection is closed after the answer, because the body was not read to its end.
    """

    status: int
    body: bytes
    odd: str | None = None
    refusal: str | None = None
    closes: bool = False

    @classmethod
    def refused(cls, status: int, refusal: str, sentence: str, *, odd: str | None = None) -> WebhookAnswer:
        """Return an answer that refuses a request, with the reason in a sentence."""
        return cls(status, orjson.dumps({"error": sentence}), odd, refusal)


@dataclass(slots=True, eq=False, kw_only=True)
class EventEndpoint:
    """The ASGI endpoint for events of all types.

    Session summaries go to `settle`, states to `progress`. All events of calls except summaries also go to `on_event`,
    whose result is the answer. An event that could not be understood is logged with the first 2 KB of its body, and
    counted.

    The answer to an accepted event is 200. Repeated events, and events of an unknown type or session, are accepted too.
    Other answers: 400 for a body that is not JSON in UTF-8 or not an event, 401 for a wrong secret, 403 for a wrong
    network, 408 for a body that came too slowly, 413 for one that is too long, 500 if the receiver itself failed, and
    503, "send it again", if the store cannot be reached, or if the event was not handled within `store_limit`, a call
    action event within `event_limit`. The work still goes on, because a stop could leave a change half done. When 8x8
    sends the event again, the receiver finds the stored result.
    """

    settle: Settler
    gatekeeper: Gatekeeper
    metrics: Metrics
    progress: CallProgress | None = None
    on_event: AnswersEvents | None = None
    read_limit: timedelta = limits.BODY
    store_limit: timedelta = limits.EVENT
    event_limit: timedelta = limits.KEY_PRESS
    _seldom: RateLimitedLog = field(default_factory=RateLimitedLog, init=False)
    _refused: RateLimitedLog = field(
        default_factory=lambda: RateLimitedLog(every=REFUSED_EVERY.total_seconds()), init=False
    )
    _late: int = field(default=0, init=False)

    @property
    def routes(self) -> list[Route]:
        """The paths of events: both spellings, as a redirect would lead 8x8 to http:// behind a proxy."""
        return [Route(path, self, methods=["POST"]) for path in (PATH, PATH + "/")]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = time.perf_counter()

        async def answer(reply: WebhookAnswer) -> None:
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(reply.body))]
            if reply.closes:
                headers.append((b"connection", b"close"))
            if reply.refusal is not None:
                self.metrics.refusals.labels(reply.refusal).inc()
            self.metrics.answers.labels(str(reply.status)).inc()
            self.metrics.seconds.observe(time.perf_counter() - began)
            await send({"type": "http.response.start", "status": reply.status, "headers": headers})
            await send({"type": "http.response.body", "body": reply.body})

        try:
            content = await self._content(scope, receive)
        except ClientDisconnect:
            return
        if isinstance(content, WebhookAnswer):
            await answer(content)
            return
        event = _event_in(content)
        if isinstance(event, WebhookAnswer):
            reply = event
            await answer(reply)
        else:
            self.metrics.events.labels(_KINDS[type(event)]).inc()
            reply = await self._take(event, answer)
        if reply.odd is not None:
            self._report(reply.odd, reply.status, content, scope)

    async def _content(self, scope: Scope, receive: Receive) -> bytes | WebhookAnswer:
        """Return the body, or the answer that refuses the request. Raises ClientDisconnect if the sender disconnects.

        The server reads and drops what is left of the body of a refused request.
        """
        refusal = self.gatekeeper.refusal(scope)
        if refusal is not None:
            status, sentence = _REFUSALS[refusal]
            if (left_out := self._refused.admit(refusal)) is not None:
                sender = str(self.gatekeeper.sender(scope))
                _log.warning("an event was refused", sender=sender, reason=refusal.value, left_out=left_out)
            return WebhookAnswer.refused(status, refusal.value, sentence)
        too_large = WebhookAnswer.refused(413, "too_large", f"the body is longer than {LONGEST_BODY} bytes")
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if length.isdigit() and int(length[:18]) > LONGEST_BODY:
            return too_large
        content = bytearray()
        try:
            async with asyncio.timeout(self.read_limit.total_seconds()):
                async for chunk in Request(scope, receive).stream():
                    content += chunk
                    if len(content) > LONGEST_BODY:
                        return too_large
        except TimeoutError:
            return WebhookAnswer.refused(408, "too_slow", "the body did not arrive in time")._replace(closes=True)
        return bytes(content)

    async def _take(self, event: WebhookEvent, answer: Callable[[WebhookAnswer], Awaitable[None]]) -> WebhookAnswer:
        """Handle an event. The answer is sent when the event is handled, or when its time limit is over."""
        if isinstance(event, UnknownEvent):
            reply = WebhookAnswer(200, _EMPTY, "unknown_event")
            await answer(reply)
            return reply
        if self._late >= MOST_LATE:
            reply = self._not_stored(event, "too many earlier events are still waiting for the store")
            await answer(reply)
            return reply
        limit = (self.event_limit if isinstance(event, CallAction) else self.store_limit).total_seconds()
        # The work runs in its own task, because a change on its way to the store must not be cancelled. The task is
        # asyncio's, on which granian and uvicorn run: an anyio task group takes 38 µs instead of 12.
        with self.metrics.in_store.track_inprogress():
            work = asyncio.ensure_future(self._handed_on(event))
            try:
                await asyncio.wait((work,), timeout=limit)
                if work.done():
                    await answer(work.result())
                    return work.result()
                reply = self._not_stored(event, f"handling it took longer than {limit:g} s")
                self._late += 1
                try:
                    await answer(reply)
                    await asyncio.wait((work,))
                except Exception:
                    # The client has disconnected (ASGI: OSError). The event is still stored.
                    await asyncio.wait((work,))
                    raise
                finally:
                    self._late -= 1
            finally:
                work.cancel()  # it is still running only if the server ends and has cancelled this request
        return reply

    async def _handed_on(self, event: SessionSummary | OtherEvent) -> WebhookAnswer:
        try:
            if isinstance(event, SessionSummary):
                result = await self.settle.summary(event)
                self.metrics.summaries.labels(result.value).inc()
                return WebhookAnswer(200, _EMPTY, "unknown_status" if event.status is None else None)
            has_session = await self._progressed(event)
            reply = None if self.on_event is None else await self.on_event(event)
            return WebhookAnswer(200, reply or _EMPTY, None if has_session else "no_session")
        except (StoreError, StaleJobError) as error:
            # StaleJobError: others changed the job at every try, so the event is not stored.
            return self._not_stored(event, str(error))
        except Exception:  # noqa: BLE001 - the event was not stored, and other events must not fail with it
            if (suppressed := self._seldom.admit(500)) is not None:
                _log.exception("an event failed, and was answered with 500", kind=_KINDS[type(event)], more=suppressed)
            return WebhookAnswer.refused(500, "failure", "the event could not be handled", odd="failure")

    async def _progressed(self, event: OtherEvent) -> bool:
        """Store the progress that an event reports. Returns False if the event names no session."""
        if self.progress is None:
            return True
        if isinstance(event, CallAction):
            return await self.progress.action(event)
        state = await self.progress.status(event)
        if state is not None and state.failure is not None:
            await self.settle.failure(state)
        return state is not None

    def _not_stored(self, event: WebhookEvent, why: str) -> WebhookAnswer:
        self.metrics.store_failures.inc()
        if (suppressed := self._seldom.admit(503)) is not None:
            # One line in ten seconds is logged; the metrics count all events.
            _log.warning(
                "an event was not stored, and was answered with 503",
                kind=_KINDS[type(event)],
                error=why,
                more=suppressed,
            )
        return WebhookAnswer.refused(503, "store", "the event could not be stored; send it again later")

    def _report(self, reason: str, answered: int, content: bytes, scope: Scope) -> None:
        """Count an event that could not be understood, and log its beginning."""
        self.metrics.odd.labels(reason).inc()
        if (suppressed := self._seldom.admit(reason)) is not None:
            _log.warning(
                "an event could not be understood",
                reason=reason,
                answered=answered,
                sender=str(self.gatekeeper.sender(scope)),
                content_type=Headers(scope=scope).get("content-type"),
                size=len(content),
                body=content[:LOGGED].decode(errors="backslashreplace"),
                more=suppressed,
            )


def _event_in(content: bytes) -> WebhookEvent | WebhookAnswer:
    """Return the event in a body, or the answer that refuses it. A NUL, which no store can keep, becomes U+FFFD."""
    try:
        return parse_event(orjson.loads(content.replace(b"\\u0000", b"\\ufffd")))
    except WebhookEventError as error:  # comes first, because it is a ValueError too
        return WebhookAnswer.refused(400, "not_an_event", str(error), odd="not_an_event")
    except ValueError as error:
        return WebhookAnswer.refused(400, "not_json", f"the body is not JSON in UTF-8: {error}", odd="not_json")
