"""The endpoint of the receiver, for events of all types."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import NamedTuple, TypeAlias

import orjson
import structlog
from prometheus_client import CollectorRegistry
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from voiceflow_worker.asgi import limits
from voiceflow_worker.asgi.gatekeeper import Gatekeeper
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

AnswersActions: TypeAlias = Callable[[CallAction], Awaitable[bytes]]
"""A handler of call action events, which returns the JSON body of the answer. After a StoreError the answer is 503."""

_KINDS: Mapping[type, str] = {
    SessionSummary: "VSS",
    CallAction: "VCA",
    CallStatus: "VCS",
    UnknownEvent: "unknown",
}
LONGEST_BODY = 1_000_000
MOST_LATE = 1000
"""The largest number of events that are still being stored after their 503. Beyond it, new events get a 503 at once."""
LOGGED = 2048
"""The number of bytes of an event that could not be understood that are logged."""


class WebhookAnswer(NamedTuple):
    """An answer to a request. `odd` is why the event could not be understood, `refusal` why the request was refused."""

    status: int
    body: bytes = b"{}"
    odd: str | None = None
    refusal: str | None = None

    @classmethod
    def error(cls, status: int, sentence: str, **why: str) -> WebhookAnswer:
        """Return the answer with an error in a sentence."""
        return cls(status, orjson.dumps({"error": sentence}), **why)


_REFUSALS = {
    403: WebhookAnswer.error(403, "events from this network are not accepted", refusal="network"),
    401: WebhookAnswer.error(401, "the Authorization header is missing or wrong", refusal="secret"),
}
_TOO_SLOW = WebhookAnswer.error(408, "the body did not arrive in time", refusal="too_slow")
_TOO_LARGE = WebhookAnswer.error(413, f"the body is longer than {LONGEST_BODY} bytes", refusal="too_large")


class EventEndpoint:
    """The ASGI endpoint for events of all types. Its metrics go to `registry`.

    Session summaries go to `settle`, states of legs to `progress`, and call actions to `on_action`, whose result is the
    answer. An event that could not be understood is logged with the first 2 KB of its body, and counted.

    The answer to an accepted event is 200. Repeated events, and events of an unknown type or session, are accepted too.
    Other answers: 400 for a body that is not JSON in UTF-8 or not an event, 401 for a wrong secret, 403 for a wrong
    network, 408 for a body that came too slowly, 413 for one that is too long, 500 if the receiver itself failed, and
    503, "send it again", if the store cannot be reached, or if the event was not handled within `limits.EVENT`, a call
    action event within `limits.KEY_PRESS`. The work still goes on, because a stop could leave a change half done. When
    8x8 sends the event again, the receiver finds the stored result.
    """

    def __init__(
        self, settle: Settler, gatekeeper: Gatekeeper, progress: CallProgress, on_action: AnswersActions, *,
        registry: CollectorRegistry,
    ) -> None:  # fmt: skip
        self._settle = settle
        self._gatekeeper = gatekeeper
        self._progress = progress
        self._on_action = on_action
        self._answers = named.WEBHOOK_ANSWERS.on(registry)
        self._events = named.WEBHOOK_EVENTS.on(registry)
        self._summaries = named.WEBHOOK_SUMMARIES.on(registry)
        self._refusals = named.WEBHOOK_REFUSALS.on(registry)
        self._odd = named.WEBHOOK_UNPARSED.on(registry)
        self._store_failures = named.WEBHOOK_STORE_FAILURES.on(registry)
        self._in_progress = named.WEBHOOK_IN_PROGRESS.on(registry)
        self._seconds = named.WEBHOOK_SECONDS.on(registry)
        self._seldom = RateLimitedLog()
        self._late = 0

    @property
    def routes(self) -> list[Route]:
        """Paths of events: both spellings, as a redirect would lead 8x8 to http:// behind a proxy."""
        return [Route(path, self, methods=["POST"]) for path in (PATH, PATH + "/")]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = time.perf_counter()

        async def answer(reply: WebhookAnswer) -> None:
            self._answers.labels(str(reply.status)).inc()
            self._seconds.observe(time.perf_counter() - began)
            headers = {"Connection": "close"} if reply is _TOO_SLOW else None
            response = Response(reply.body, reply.status, headers, media_type="application/json")
            with suppress(OSError):  # the client has gone
                await response(scope, receive, send)

        status = self._gatekeeper.refusal(scope)
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        is_long = length.isdigit() and int(length[:18]) > LONGEST_BODY
        content, refusal = b"", _REFUSALS[status] if status is not None else _TOO_LARGE if is_long else None
        try:
            if refusal is None:
                content = await _read(scope, receive)
                refusal = _TOO_LARGE if len(content) > LONGEST_BODY else None
        except ClientDisconnect:
            return
        except TimeoutError:
            refusal = _TOO_SLOW
        if refusal is not None:
            self._refusals.labels(refusal.refusal).inc()
            self._log_seldom("an event was refused", refusal.refusal, scope)
            await answer(refusal)
            with suppress(ClientDisconnect, TimeoutError):  # some servers reset a connection whose body was not read
                await _read(scope, receive)
            return
        event = _event_in(content)
        if isinstance(event, WebhookAnswer):
            reply = event
            await answer(reply)
        else:
            self._events.labels(_KINDS[type(event)]).inc()
            reply = await self._take(event, answer)
        if reply.odd is not None:
            self._odd.labels(reply.odd).inc()
            body = content[:LOGGED].decode(errors="backslashreplace")
            said = {"answered": reply.status, "size": len(content), "body": body}
            self._log_seldom("an event could not be understood", reply.odd, scope, **said)

    async def _take(self, event: WebhookEvent, answer: Callable[[WebhookAnswer], Awaitable[None]]) -> WebhookAnswer:
        """Handle an event. The answer is sent when the event is handled, or when its time limit is over."""
        if isinstance(event, UnknownEvent) or self._late >= MOST_LATE:
            reply = WebhookAnswer(200, odd="unknown_event")
            if not isinstance(event, UnknownEvent):
                reply = self._not_stored(event, "too many earlier events are still waiting for the store")
            await answer(reply)
            return reply
        limit = (limits.KEY_PRESS if isinstance(event, CallAction) else limits.EVENT).total_seconds()
        # The work runs in its own task, because a change on its way to the store must not be cancelled. The task is
        # asyncio's, on which granian and uvicorn run: an anyio task group takes 38 µs instead of 12.
        with self._in_progress.track_inprogress():
            work = asyncio.ensure_future(self._handled(event))
            try:
                await asyncio.wait((work,), timeout=limit)
                if work.done():
                    await answer(work.result())
                    return work.result()
                self._late += 1
                try:
                    reply = self._not_stored(event, f"handling it took longer than {limit:g} s")
                    await answer(reply)
                    await asyncio.wait((work,))
                finally:
                    self._late -= 1
            finally:
                work.cancel()  # it is still running only if the server ends and has cancelled this request
        return reply

    async def _handled(self, event: SessionSummary | CallAction | CallStatus) -> WebhookAnswer:
        """Store an event. Return its answer, also after an error."""
        try:
            if isinstance(event, SessionSummary):
                result = await self._settle.summary(event)
                self._summaries.labels(result.value).inc()
                return WebhookAnswer(200, odd="unknown_status" if event.status is None else None)
            if isinstance(event, CallAction):
                has_session = await self._progress.action(event)
                return WebhookAnswer(200, await self._on_action(event), None if has_session else "no_session")
            state = await self._progress.status(event)
            if state is not None and state.failure is not None:
                await self._settle.failure(state)
            return WebhookAnswer(200, odd="no_session" if state is None else None)
        except (StoreError, StaleJobError) as error:
            # StaleJobError: others changed the job at every try, so the event is not stored.
            return self._not_stored(event, str(error))
        except Exception:  # noqa: BLE001 - the event was not stored, and other events must not fail with it
            if (more := self._seldom.admit(500)) is not None:
                _log.exception("an event failed, and was answered with 500", kind=_KINDS[type(event)], more=more)
            return WebhookAnswer.error(500, "the event could not be handled", odd="failure")

    def _not_stored(self, event: WebhookEvent, why: str) -> WebhookAnswer:
        self._store_failures.inc()
        if (more := self._seldom.admit(503)) is not None:
            kind = _KINDS[type(event)]
            _log.warning("an event was not stored, and was answered with 503", kind=kind, error=why, more=more)
        return WebhookAnswer.error(503, "the event could not be stored; send it again later", refusal="store")

    def _log_seldom(self, what: str, reason: str | None, scope: Scope, **said: object) -> None:
        """Log what was wrong with a request, at most once in ten seconds for each reason; metrics count all."""
        if (more := self._seldom.admit(reason)) is not None:
            sender = str(self._gatekeeper.sender(scope))
            _log.warning(what, reason=reason, sender=sender, more=more, **said)


async def _read(scope: Scope, receive: Receive) -> bytes:
    """Read a body to its end, and return it, or the beginning of one that is too long. Raises TimeoutError."""
    content = bytearray()
    async with asyncio.timeout(limits.BODY.total_seconds()):
        async for chunk in Request(scope, receive).stream():
            content += chunk if len(content) <= LONGEST_BODY else b""
    return bytes(content)


def _event_in(content: bytes) -> WebhookEvent | WebhookAnswer:
    """Return the event in a body, or the answer that refuses it. A NUL, which no store can keep, becomes U+FFFD."""
    try:
        return parse_event(orjson.loads(content.replace(b"\\u0000", b"\\ufffd")))
    except WebhookEventError as error:  # comes first, because it is a ValueError too
        return WebhookAnswer.error(400, str(error), odd="not_an_event")
    except ValueError as error:
        return WebhookAnswer.error(400, f"the body is not JSON in UTF-8: {error}", odd="not_json")
