"""The endpoint that receives all events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import orjson
import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from voiceflow_worker.core.events.progress import CallProgress
from voiceflow_worker.core.ports.rate_limited_log import RateLimitedLog
from voiceflow_worker.errors import StaleJobError, StoreError
from voiceflow_worker.model.reports.events import (
    CallAction,
    CallStatus,
    Event,
    NumberUpdate,
    RecordingReady,
    SessionSummary,
    UnknownEvent,
)
from voiceflow_worker.webhooks.kept_events import KeptEvents, OddEvent, OddReason
from voiceflow_worker.webhooks.metrics import Metrics
from voiceflow_worker.webhooks.ports import AnswersEvents, EventAnswer, OtherEvent, SettlesSummaries
from voiceflow_worker.webhooks.reading import RequestReader, WebhookAnswer, understood

_log = structlog.get_logger("voiceflow.webhooks")

_KINDS: Mapping[type, str] = {
    SessionSummary: "VSS",
    CallAction: "VCA",
    CallStatus: "VCS",
    RecordingReady: "VRU",
    NumberUpdate: "VNU",
    UnknownEvent: "unknown",
}
_EMPTY = b"{}"
# A call action event asks what to do next. With no menu there is nothing to do: the call ends, instead of leaving a
# person on a line that stays silent until the service gives up.
_NO_MENU = orjson.dumps({"callflow": [{"action": "hangup"}]})

MOST_LATE = 1000
"""Events that were answered 503 while the store still works on them. At this number, further ones get 503 at once."""
MOST_KEEPING = 50
"""Odd events that are being stored at the same time; further ones are only counted."""


@dataclass(slots=True, eq=False, kw_only=True)
class Receiver:
    """An ASGI endpoint for events of every type.

    The store has `store_limit`, and `event_limit` for a call action event. Work that takes longer is answered with 503,
    "send it again", and goes on: to cut it off could leave half of a change. The repeated event finds its result.
    """

    settle: SettlesSummaries
    reader: RequestReader
    metrics: Metrics
    progress: CallProgress | None
    kept: KeptEvents | None
    on_event: AnswersEvents | None
    store_limit: timedelta
    event_limit: timedelta
    _seldom: RateLimitedLog = field(default_factory=RateLimitedLog, init=False)
    _late: int = field(default=0, init=False)
    _keeping: int = field(default=0, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = time.perf_counter()

        async def answer(given: WebhookAnswer) -> None:
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(given.body))]
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
        event = understood(content)
        if isinstance(event, WebhookAnswer):
            given = event
            await answer(given)
        else:
            self.metrics.events.labels(_KINDS[type(event)]).inc()
            given = await self._take(event, answer)
        if given.odd is not None:
            # After the answer: the sender need not wait for this.
            await self._keep(given.odd, given.status, content, event, scope)

    async def _take(self, event: Event, answer: Callable[[WebhookAnswer], Awaitable[None]]) -> WebhookAnswer:
        """Handle an event, and answer it at the latest when its time limit is over."""
        if isinstance(event, UnknownEvent):
            given = WebhookAnswer(200, _EMPTY, OddReason.UNKNOWN_EVENT)
            await answer(given)
            return given
        if self._late >= MOST_LATE:
            given = self._not_stored(event, "the store has not answered for long")
            await answer(given)
            return given
        limit = (self.event_limit if isinstance(event, CallAction) else self.store_limit).total_seconds()
        # A task of its own, not a scope that is cancelled: a change on its way to the store cannot be called back, and
        # the store's own code waits for it under a shield. asyncio's task, for an anyio task group takes three times as
        # long (38 and 12 µs), and both servers run on asyncio.
        with self.metrics.in_store.track_inprogress():
            taken = asyncio.ensure_future(self._handed_on(event))
            try:
                await asyncio.wait((taken,), timeout=limit)
                if taken.done():
                    await answer(taken.result())
                    return taken.result()
                self.metrics.store_timeouts.inc()
                given = self._not_stored(event, f"it took longer than {limit:g} s")
                self._late += 1
                try:
                    await answer(given)
                    await asyncio.wait((taken,))
                except Exception:
                    # The client has left (ASGI: OSError). The event is stored all the same.
                    await asyncio.wait((taken,))
                    raise
                finally:
                    self._late -= 1
            finally:
                taken.cancel()  # only where this request itself was cancelled: the server has ended
        return given

    async def _handed_on(self, event: SessionSummary | OtherEvent) -> WebhookAnswer:
        try:
            if isinstance(event, SessionSummary):
                return await self._settled(event)
            found = await self._progressed(event)
            reply = None if self.on_event is None else await self.on_event(event)
            return WebhookAnswer(200, _written(reply, event), None if found else OddReason.NO_SESSION)
        except (StoreError, StaleJobError) as error:
            # A job that others keep changing counts like an unavailable store: the event is not stored.
            return self._not_stored(event, str(error))
        except Exception:  # noqa: BLE001 - whatever it is, a 200 would be false, and one event must not take others with it
            if (suppressed := self._seldom.admit(500)) is not None:
                _log.exception(
                    "an event could not be taken, and was answered with 500", kind=_KINDS[type(event)], more=suppressed
                )
            return WebhookAnswer.refused(500, "failure", "the event could not be taken", odd=OddReason.FAILURE)

    async def _settled(self, summary: SessionSummary) -> WebhookAnswer:
        result = await self.settle.summary(summary)
        self.metrics.summaries.labels(result.value).inc()
        return WebhookAnswer(200, _EMPTY, OddReason.UNKNOWN_STATUS if summary.status is None else None)

    async def _progressed(self, event: OtherEvent) -> bool:
        """Store the progress in an event; False if the event names no session."""
        if self.progress is None:
            return True
        match event:
            case CallStatus():
                return await self.progress.status(event)
            case RecordingReady():
                return await self.progress.recording(event)
            case NumberUpdate():
                await self.progress.numbers(event)
            case CallAction():
                pass
        return True

    def _not_stored(self, event: Event, why: str) -> WebhookAnswer:
        self.metrics.store_failures.inc()
        if (suppressed := self._seldom.admit(503)) is not None:
            # One line a second: what is more is counted in the metrics.
            _log.warning(
                "an event was not stored, and was answered with 503",
                kind=_KINDS[type(event)],
                error=why,
                more=suppressed,
            )
        return WebhookAnswer.refused(503, "store", "the event could not be stored; send it again later")

    async def _keep(
        self, reason: OddReason, answered: int, content: bytes, event: Event | WebhookAnswer, scope: Scope
    ) -> None:
        kept = False
        if self.kept is not None and self._keeping < MOST_KEEPING:
            odd = OddEvent(
                reason=reason,
                answered=answered,
                body=content,
                event_type=event.event_type if isinstance(event, UnknownEvent) else _KINDS.get(type(event)),
                sender=self.reader.sender(scope),
                content_type=Headers(scope=scope).get("content-type"),
            )
            self._keeping += 1
            try:
                kept = await self.kept.keep(odd)
            except Exception as error:  # noqa: BLE001 - its sender has its answer, and nothing hangs on this
                if (suppressed := self._seldom.admit("kept")) is not None:
                    _log.warning("an odd event was not kept", reason=reason.value, error=str(error), more=suppressed)
            finally:
                self._keeping -= 1
        self.metrics.odd.labels(reason.value, "yes" if kept else "no").inc()


def _written(answer: EventAnswer, event: Event) -> bytes:
    match answer:
        case None:
            return _NO_MENU if isinstance(event, CallAction) else _EMPTY
        case bytes():
            return answer
        case Mapping():
            return orjson.dumps(answer)
