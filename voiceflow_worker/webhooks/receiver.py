"""The endpoint that receives all events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

import orjson
import structlog
from starlette.types import Receive, Scope, Send

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
from voiceflow_worker.webhooks.kept_events import OddEvent, OddReason
from voiceflow_worker.webhooks.metrics import Metrics
from voiceflow_worker.webhooks.ports import (
    AnswersEvents,
    EventAnswer,
    KeepsOddEvents,
    KeepsProgress,
    OtherEvent,
    SettlesSummaries,
)
from voiceflow_worker.webhooks.reading import ClientLeftError, RequestReader, WebhookAnswer, understood

_log = structlog.get_logger("voiceflow.webhooks")

_EMPTY = b"{}"
# A call action event asks what to do next. With no menu there is nothing to do: the call ends, instead of leaving a
# person on a line that stays silent until the service gives up.
_NO_MENU = orjson.dumps({"callflow": [{"action": "hangup"}]})

MOST_LATE = 1000
"""Events that were answered 503 and are still with the store. With more of them, the next are not handed to it."""
MOST_KEEPING = 50
"""Odd events on their way to the store; what comes on top of them is only counted."""


class Receiver:
    """An ASGI endpoint. Beside the store, and `on_event` if there is one, it waits for nothing but its client.

    The store has `store_limit`, and `event_limit` where a call action event is to be answered. What takes longer is not
    cut off, which could leave half of a change: the sender hears 503, "send it again", and whatever comes of the first
    one is found by the second.
    """

    def __init__(
        self,
        settle: SettlesSummaries,
        *,
        reader: RequestReader,
        metrics: Metrics,
        progress: KeepsProgress | None,
        kept: KeepsOddEvents | None,
        on_event: AnswersEvents | None,
        store_limit: timedelta,
        event_limit: timedelta,
    ) -> None:
        self._settle = settle
        self._reader = reader
        self._metrics = metrics
        self._progress = progress
        self._kept = kept
        self._on_event = on_event
        self._store_limit = store_limit.total_seconds()
        self._event_limit = event_limit.total_seconds()
        self._seldom = RateLimitedLog()
        self._late = 0
        self._keeping = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """WebhookAnswer one request."""
        began = time.perf_counter()

        async def answer(given: WebhookAnswer) -> None:
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(given.body))]
            if given.closes:
                headers.append((b"connection", b"close"))
            if given.refusal is not None:
                self._metrics.refusals.labels(given.refusal).inc()
            self._metrics.answers.labels(str(given.status)).inc()
            self._metrics.seconds.observe(time.perf_counter() - began)
            await send({"type": "http.response.start", "status": given.status, "headers": headers})
            await send({"type": "http.response.body", "body": given.body})

        try:
            content = await self._reader.content(scope, receive)
        except ClientLeftError:
            return
        if isinstance(content, WebhookAnswer):
            await answer(content)
            return
        event = understood(content)
        if isinstance(event, WebhookAnswer):
            given = event
            await answer(given)
        else:
            self._metrics.events.labels(_kind(event)).inc()
            given = await self._take(event, answer)
        if given.odd is not None:
            # Behind the answer: whoever sent it does not wait for what is only for people to look at.
            await self._keep(given.odd, given.status, content, event, scope)

    async def _take(self, event: Event, answer: Callable[[WebhookAnswer], Awaitable[None]]) -> WebhookAnswer:
        """Hand an event on and answer it, at the latest when its time limit is over."""
        if isinstance(event, UnknownEvent):
            given = WebhookAnswer(200, _EMPTY, OddReason.UNKNOWN_EVENT)
            await answer(given)
            return given
        if self._late >= MOST_LATE:
            given = self._not_stored(event, "the store has not answered for long")
            await answer(given)
            return given
        limit = self._event_limit if isinstance(event, CallAction) else self._store_limit
        # A task of its own, not a scope that is cancelled: a change on its way to the store cannot be called back, and
        # the store's own code waits for it under a shield. asyncio's task, for an anyio task group takes three times as
        # long (38 and 12 µs), and both servers run on asyncio.
        with self._metrics.in_store.track_inprogress():
            taken = asyncio.ensure_future(self._handed_on(event))
            try:
                await asyncio.wait((taken,), timeout=limit)
                if taken.done():
                    await answer(taken.result())
                    return taken.result()
                self._metrics.store_timeouts.inc()
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
            reply = None if self._on_event is None else await self._on_event(event)
            return WebhookAnswer(200, _written(reply, event), None if found else OddReason.NO_SESSION)
        except (StoreError, StaleJobError) as error:
            # A job that others keep changing counts like an unavailable store: the event is not stored.
            return self._not_stored(event, str(error))
        except Exception:  # noqa: BLE001 - whatever it is, a 200 would be false, and one event must not take others with it
            if (suppressed := self._seldom.admit(500)) is not None:
                _log.exception(
                    "an event could not be taken, its sender was told 500", kind=_kind(event), more=suppressed
                )
            return WebhookAnswer.refused(500, "failure", "the event could not be taken", odd=OddReason.FAILURE)

    async def _settled(self, summary: SessionSummary) -> WebhookAnswer:
        result = await self._settle.summary(summary)
        self._metrics.summaries.labels(result.value).inc()
        return WebhookAnswer(200, _EMPTY, OddReason.UNKNOWN_STATUS if summary.status is None else None)

    async def _progressed(self, event: OtherEvent) -> bool:
        """Store the progress in an event; False if the event names no session."""
        match event:
            case CallStatus() if self._progress is not None:
                return await self._progress.status(event)
            case RecordingReady() if self._progress is not None:
                return await self._progress.recording(event)
            case NumberUpdate() if self._progress is not None:
                await self._progress.numbers(event)
                return True
            case _:
                return True

    def _not_stored(self, event: Event, why: str) -> WebhookAnswer:
        self._metrics.store_failures.inc()
        if (suppressed := self._seldom.admit(503)) is not None:
            # One line a second: what is more is counted in the metrics.
            _log.warning(
                "an event was not stored, its sender was told 503", kind=_kind(event), error=why, more=suppressed
            )
        return WebhookAnswer.refused(503, "store", "the event could not be stored; send it again later")

    async def _keep(
        self, reason: OddReason, answered: int, content: bytes, event: Event | WebhookAnswer, scope: Scope
    ) -> None:
        kept = False
        if self._kept is not None and self._keeping < MOST_KEEPING:
            odd = OddEvent(
                reason=reason,
                answered=answered,
                body=content,
                event_type=_told_type(event),
                sender=self._reader.sender(scope),
                content_type=_content_type(scope),
            )
            self._keeping += 1
            try:
                kept = await self._kept.keep(odd)
            except Exception as error:  # noqa: BLE001 - its sender has its answer, and nothing hangs on this
                if (suppressed := self._seldom.admit("kept")) is not None:
                    _log.warning("an odd event was not kept", reason=reason.value, error=str(error), more=suppressed)
            finally:
                self._keeping -= 1
        self._metrics.odd.labels(reason.value, "yes" if kept else "no").inc()


def _written(answer: EventAnswer, event: Event) -> bytes:
    match answer:
        case None:
            return _NO_MENU if isinstance(event, CallAction) else _EMPTY
        case bytes():
            return answer
        case Mapping():
            return orjson.dumps(answer)


def _told_type(event: Event | WebhookAnswer) -> str | None:
    match event:
        case WebhookAnswer():
            return None
        case UnknownEvent():
            return event.event_type
        case _:
            return _kind(event)


def _content_type(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"content-type":
            return str(value.decode("latin-1"))
    return None


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
