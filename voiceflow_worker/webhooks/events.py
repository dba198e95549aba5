"""The endpoint of the receiver, for events of all types."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from voiceflow_worker.asgi import limits
from voiceflow_worker.core.base.round_trips import RateLimitedLog
from voiceflow_worker.core.progress import CallProgress
from voiceflow_worker.core.settling.settle import Settler
from voiceflow_worker.errors import StaleJobError, StoreError
from voiceflow_worker.gateway.account import PATH
from voiceflow_worker.model.reports.events import (
    CallAction,
    CallStatus,
    SessionSummary,
    UnknownEvent,
    WebhookEvent,
)
from voiceflow_worker.webhooks.reading import (
    ACCEPTED_ENCODING,
    AnswersEvents,
    Metrics,
    OddReason,
    OtherEvent,
    RequestReader,
    WebhookAnswer,
    understood,
)

_log = structlog.get_logger("voiceflow.webhooks")

_KINDS: Mapping[type, str] = {
    SessionSummary: "VSS",
    CallAction: "VCA",
    CallStatus: "VCS",
    UnknownEvent: "unknown",
}
_EMPTY = b"{}"

MOST_LATE = 1000
"""The largest number of events that are still being stored after their 503. Beyond it, new events get a 503 at once."""
LOGGED = 2048
"""The number of bytes of an event that could not be understood that are logged."""


@dataclass(slots=True, eq=False, kw_only=True)
class EventEndpoint:
    """The ASGI endpoint for events of all types.

    Session summaries go to `settle`, states to `progress`. All events of calls except summaries also go
    to `on_event`, whose result is the answer. An event that could not be understood is logged with the first 2 KB of
    its body, and counted.

    The answer to an accepted event is 200. Repeated events, and events of an unknown type or session, are accepted too.
    Other answers: 400 for a body that is not JSON or not an event, 401 for a wrong secret, 403 for a wrong network, 408
    for a body that came too slowly, 413 for one that is too long, 415 for an encoding other than gzip and deflate, 500
    if the receiver itself failed, and 503, "send it again", if the store cannot be reached, or if the event was not
    handled within `store_limit`, a call action event within `event_limit`. The work still goes on, because a stop could
    leave a change half done. When 8x8 sends the event again, the receiver finds the stored result.
    """

    settle: Settler
    reader: RequestReader
    metrics: Metrics
    progress: CallProgress | None = None
    on_event: AnswersEvents | None = None
    store_limit: timedelta = limits.EVENT
    event_limit: timedelta = limits.KEY_PRESS
    first: Callable[[], AbstractContextManager[None]] = nullcontext
    """The context in which an event is handled, before which others have to wait."""
    _seldom: RateLimitedLog = field(default_factory=RateLimitedLog, init=False)
    _of_store: RateLimitedLog = field(default_factory=RateLimitedLog, init=False)
    _late: int = field(default=0, init=False)

    @property
    def routes(self) -> list[Route]:
        """The paths of events: both spellings, as a redirect would lead 8x8 to http:// behind a proxy."""
        return [Route(path, self, methods=["POST"]) for path in (PATH, PATH + "/")]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = time.perf_counter()

        async def answer(given: WebhookAnswer) -> None:
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(given.body))]
            if given.status == 415:
                headers.append((b"accept-encoding", ACCEPTED_ENCODING))
            if given.closes:
                headers.append((b"connection", b"close"))
            if given.refusal is not None:
                self.metrics.refusals.labels(given.refusal).inc()
            self.metrics.answers.labels(str(given.status)).inc()
            self.metrics.seconds.observe(time.perf_counter() - began)
            await send({"type": "http.response.start", "status": given.status, "headers": headers})
            await send({"type": "http.response.body", "body": given.body})

        try:
            content = await self.reader.content(scope, receive)
        except ClientDisconnect:
            return
        if isinstance(content, WebhookAnswer):
            await answer(content)
            return
        event = understood(content, scope)
        if isinstance(event, WebhookAnswer):
            given = event
            await answer(given)
        else:
            self.metrics.events.labels(_KINDS[type(event)]).inc()
            given = await self._take(event, answer)
        if given.odd is not None:
            self._report(given.odd, given.status, content, scope)

    async def _take(self, event: WebhookEvent, answer: Callable[[WebhookAnswer], Awaitable[None]]) -> WebhookAnswer:
        """Handle an event. The answer is sent when the event is handled, or when its time limit is over."""
        if isinstance(event, UnknownEvent):
            given = WebhookAnswer(200, _EMPTY, OddReason.UNKNOWN_EVENT)
            await answer(given)
            return given
        if self._late >= MOST_LATE:
            given = self._not_stored(event, "too many earlier events are still waiting for the store")
            await answer(given)
            return given
        limit = (self.event_limit if isinstance(event, CallAction) else self.store_limit).total_seconds()
        # The work runs in its own task, because a change on its way to the store must not be cancelled. The task is
        # asyncio's, on which granian and uvicorn run: an anyio task group takes 38 µs instead of 12.
        with self.metrics.in_store.track_inprogress():
            taken = asyncio.ensure_future(self._handed_on(event))
            try:
                with self.first():
                    await asyncio.wait((taken,), timeout=limit)
                    if taken.done():
                        await answer(taken.result())
                        return taken.result()
                given = self._not_stored(event, f"handling it took longer than {limit:g} s")
                self._late += 1
                try:
                    await answer(given)
                    await asyncio.wait((taken,))
                except Exception:
                    # The client has disconnected (ASGI: OSError). The event is still stored.
                    await asyncio.wait((taken,))
                    raise
                finally:
                    self._late -= 1
            finally:
                taken.cancel()  # it is still running only if the server ends and has cancelled this request
        return given

    async def _handed_on(self, event: SessionSummary | OtherEvent) -> WebhookAnswer:
        try:
            if isinstance(event, SessionSummary):
                return await self._settled(event)
            found = await self._progressed(event)
            reply = None if self.on_event is None else await self.on_event(event)
            return WebhookAnswer(200, reply or _EMPTY, None if found else OddReason.NO_SESSION)
        except (StoreError, StaleJobError) as error:
            # StaleJobError: others changed the job at every try, so the event is not stored.
            return self._not_stored(event, str(error))
        except Exception:  # noqa: BLE001 - the event was not stored, and other events must not fail with it
            if (suppressed := self._seldom.admit(500)) is not None:
                _log.exception("an event failed, and was answered with 500", kind=_KINDS[type(event)], more=suppressed)
            return WebhookAnswer.refused(500, "failure", "the event could not be handled", odd=OddReason.FAILURE)

    async def _settled(self, summary: SessionSummary) -> WebhookAnswer:
        result = await self.settle.summary(summary)
        self.metrics.summaries.labels(result.value).inc()
        return WebhookAnswer(200, _EMPTY, OddReason.UNKNOWN_STATUS if summary.status is None else None)

    async def _progressed(self, event: OtherEvent) -> bool:
        """Store the progress that an event reports. Returns False if the event names no session."""
        if self.progress is None:
            return True
        match event:
            case CallStatus():
                state = await self.progress.status(event)
                if state is not None and state.failure is not None:
                    await self.settle.failure(state)
                return state is not None
            case CallAction():
                return await self.progress.action(event)

    def _not_stored(self, event: WebhookEvent, why: str) -> WebhookAnswer:
        self.metrics.store_failures.inc()
        if (suppressed := self._of_store.admit(503)) is not None:
            # One line in ten seconds is logged; the metrics count all events.
            _log.warning(
                "an event was not stored, and was answered with 503",
                kind=_KINDS[type(event)],
                error=why,
                more=suppressed,
            )
        return WebhookAnswer.refused(503, "store", "the event could not be stored; send it again later")

    def _report(self, reason: OddReason, answered: int, content: bytes, scope: Scope) -> None:
        """Count an event that could not be understood, and log its beginning: at most one event a second."""
        self.metrics.odd.labels(reason.value).inc()
        if (suppressed := self._seldom.admit(reason)) is not None:
            _log.warning(
                "an event could not be understood",
                reason=reason.value,
                answered=answered,
                sender=self.reader.sender(scope),
                content_type=Headers(scope=scope).get("content-type"),
                size=len(content),
                body=content[:LOGGED].decode(errors="backslashreplace"),
                more=suppressed,
            )
