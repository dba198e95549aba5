"""The sandbox: a simulator of 8x8 that calls nobody."""

from __future__ import annotations

import contextlib
import io
import math
import re
import struct
import time
import wave
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from itertools import islice
from ssl import SSLContext
from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from voiceflow_worker.asgi.server import serving
from voiceflow_worker.model.flows.values import is_list
from voiceflow_worker.model.text.arguments import checked
from voiceflow_worker.sandbox.account import AccountRoutes, SandboxAccount
from voiceflow_worker.sandbox.answers import date_header
from voiceflow_worker.sandbox.call import JsonEntry, Ledger
from voiceflow_worker.sandbox.call_events import Activity, InboundOrder
from voiceflow_worker.sandbox.callflows import Callflows, Misbehaviour
from voiceflow_worker.sandbox.delivery import Delivery, WebhookTarget
from voiceflow_worker.sandbox.event_maker import EventMaker
from voiceflow_worker.sandbox.exchange import Exchange, Stage, Switchboard
from voiceflow_worker.sandbox.exports import ExportRoutes, Exports, LogRows
from voiceflow_worker.sandbox.orders import (
    EventOrder,
    ExportOrder,
    Fault,
    OrderBook,
    Recordings,
    RowOrder,
    Script,
)
from voiceflow_worker.sandbox.outcomes import Outcomes

Given = TypeVar("Given", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRoutes:
    """The routes `/_sandbox/…` and `/openapi.json`. They need no key.

    A POST of orders has one order or a list. If one order is invalid, the answer is 422, and none is carried out.
    """

    ledger: Ledger
    delivery: Delivery
    faults: OrderBook[Fault]
    scripts: OrderBook[Script]
    rows: OrderBook[RowOrder]
    exports: Exports
    events: OrderBook[EventOrder]
    switchboard: Switchboard
    reset: Callable[[], None]

    def routes(self) -> list[Route]:
        """Return all routes."""
        return [
            Route("/_sandbox/calls", self._calls, methods=["GET"]),
            Route("/_sandbox/deliveries", _listing(lambda: self.delivery.entries), methods=["GET"]),
            _orders("faults", Fault, self.faults.add),
            _orders("script", Script, self.scripts.add),
            _orders("events", EventOrder, self.events.add),
            Route("/_sandbox/inbound", self._call_in, methods=["POST"]),
            Route("/_sandbox/inbound", _listing(lambda: self.switchboard.entries), methods=["GET"]),
            _orders("log", RowOrder, self.rows.add),
            _orders("exports", ExportOrder, self.exports.add),
            Route("/_sandbox/recordings/{name}.wav", _tone, methods=["GET"]),
            Route("/_sandbox/reset", self._reset, methods=["POST"]),
            Route("/openapi.json", _describe, methods=["GET"]),
        ]

    async def _calls(self, request: Request) -> Response:
        after = request.query_params.get("after", "0")
        entries = islice(self.ledger, int(after) if after.isdecimal() else 0, None)
        return Response(orjson.dumps([entry.as_json() for entry in entries]), media_type="application/json")

    async def _call_in(self, request: Request) -> Response:
        sessions: list[str | None] = []

        def call(order: InboundOrder) -> None:
            sessions.append(self.switchboard.call(order).session_id)

        taken = await _take(request, InboundOrder, call, check=self.switchboard.sub_account_of)
        return JSONResponse({"taken": len(sessions), "session_ids": sessions}) if sessions else taken

    async def _reset(self, _request: Request) -> Response:
        self.reset()
        return JSONResponse({"reset": True})


TONE_SECONDS = 3


async def _tone(_request: Request) -> Response:
    """A recording under any name, for calls that play a file: a tone of 440 Hz, at 8 kHz."""
    written = io.BytesIO()
    with wave.open(written, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        samples = (int(8000 * math.sin(math.tau * 440 * at / 8000)) for at in range(8000 * TONE_SECONDS))
        sound.writeframes(b"".join(struct.pack("<h", each) for each in samples))
    return Response(written.getvalue(), media_type="audio/wav")


def _listing(entries: Callable[[], Iterable[JsonEntry]]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(_request: Request) -> Response:
        return JSONResponse([entry.as_json() for entry in entries()])

    return endpoint


def _orders(name: str, model: type[Given], add: Callable[[Given], None]) -> Route:
    async def endpoint(request: Request) -> Response:
        return await _take(request, model, add)

    return Route(f"/_sandbox/{name}", endpoint, methods=["POST"])


async def _take(
    request: Request,
    model: type[Given],
    add: Callable[[Given], None],
    *,
    check: Callable[[Given], object] = lambda _: None,
) -> Response:
    """Read orders and carry them out. `check` raises ValueError for an order that cannot be carried out."""
    try:
        given: object = orjson.loads(await request.body())
        orders = [model.model_validate(order) for order in (given if is_list(given) else [given])]
        for order in orders:
            check(order)
    except orjson.JSONDecodeError as error:
        return JSONResponse({"error": f"the body is not JSON: {error}"}, status_code=400)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc'])) or model.__name__.lower()}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_context=False)
        ]
        return JSONResponse({"error": "; ".join(problems)}, status_code=422)
    except ValueError as error:
        return JSONResponse({"error": str(error)}, status_code=422)
    for order in orders:
        add(order)
    return JSONResponse({"taken": len(orders)})


@cache
def description() -> bytes:
    """Return the OpenAPI document as JSON."""
    return files("voiceflow_worker.sandbox").joinpath("openapi.json").read_bytes()


async def _describe(_request: Request) -> Response:
    return Response(description(), media_type="application/json")


_CALLFLOWS = re.compile(r"/api/v1/subaccounts/([^/]+)/callflows")


@checked
class Sandbox:
    """A simulator of 8x8 for one account. It calls nobody. It runs on asyncio.

    `seed` decides how calls end. With `speed`, time passes faster than in reality: at 60, a minute takes a second.
    `api_key`, `sub_accounts`, `numbers` (permitted sources) and `voices` restrict requests only if they are given.

    `webhook` receives all events of a sub-account until another webhook is registered. The events carry
    `webhook_secret` in the Authorization header. A failed delivery is tried again up to `webhook_retries` times. A call
    action event (VCA) is sent once, and must be answered within `answer_within`, which `speed` does not shorten. Call
    status events (VCS) are sent only to webhooks that were registered for them, unless `call_statuses` is set.
    `ssl_context` has the certificates of webhooks that are trusted, by default the public ones.

    `clock_offset` is added to the clock by which the sandbox judges `validUntil` and writes the Date header. The times
    in the ledger are those of the true clock. The ledger and all orders can be used from Python and over HTTP.
    """

    def __init__(
        self,
        *,
        seed: int | str = 0,
        api_key: str | None = None,
        sub_accounts: Collection[str] | None = None,
        numbers: Sequence[str] | None = None,
        voices: Collection[str] | None = None,
        webhook: str | None = None,
        webhook_secret: str | None = None,
        webhook_retries: int = 0,
        speed: float = 1.0,
        answer_within: timedelta = timedelta(seconds=10),
        call_statuses: bool = False,
        clock_offset: timedelta = timedelta(0),
        ssl_context: SSLContext | None = None,
    ) -> None:
        if not speed > 0:
            raise ValueError(f"speed={speed}: the speed must be above 0. At 60, a minute takes a second")
        self._clock_offset = clock_offset
        self._activity = Activity()
        self._account = SandboxAccount(
            api_key=api_key,
            sub_accounts=sub_accounts,
            numbers=numbers,
            voices=voices,
            hook=None if webhook is None else WebhookTarget(url=webhook, authorization=webhook_secret),
        )
        self._outcomes = Outcomes(seed)
        self._delivery = Delivery(self._activity, speed=speed, retries=webhook_retries, ssl_context=ssl_context)
        self.rows: OrderBook[RowOrder] = OrderBook()
        """Orders for rows in the log of calls: `sandbox.rows.add(RowOrder(…))`."""
        self._log = LogRows(self.rows, speed=speed)
        self.exports: Exports = Exports(self._log, now=self._now)
        """Exports of the log of calls, and orders for exports: `sandbox.exports.add(ExportOrder(…))`."""
        self.events: OrderBook[EventOrder] = OrderBook()
        """Orders for the delivery of events: `sandbox.events.add(EventOrder(…))`."""
        self.recordings: Recordings = Recordings()
        """Recordings of sessions: `sandbox.recordings.add(RecordingOrder(…))`."""
        events = EventMaker(
            account=self._account,
            delivery=self._delivery,
            orders=self.events,
            activity=self._activity,
            speed=speed,
            within=answer_within.total_seconds(),
            statuses=call_statuses,
        )
        stage = Stage(account=self._account, events=events, recordings=self.recordings, speed=speed)
        exchange = Exchange(activity=self._activity, stage=stage, log=self._log, now=self._now)
        self.inbound: Switchboard = Switchboard(account=self._account, outcomes=self._outcomes, exchange=exchange)
        """Calls to the account's numbers: `sandbox.inbound.call(InboundOrder(…))`. Results are in `.entries`."""
        self._misbehaviour = Misbehaviour()
        self.ledger: Ledger = Ledger()
        """Every call that was requested, in order."""
        self.faults: OrderBook[Fault] = OrderBook()
        """Orders for faults: `sandbox.faults.add(Fault(…))`."""
        self.scripts: OrderBook[Script] = OrderBook()
        """Scripts of calls: `sandbox.scripts.add(Script(…))`."""
        self._callflows = Callflows(
            account=self._account,
            ledger=self.ledger,
            faults=self.faults,
            misbehaviour=self._misbehaviour,
            scripts=self.scripts,
            outcomes=self._outcomes,
            exchange=exchange,
            now=self._now,
        )
        control = ControlRoutes(
            ledger=self.ledger,
            delivery=self._delivery,
            faults=self.faults,
            scripts=self.scripts,
            rows=self.rows,
            exports=self.exports,
            events=self.events,
            switchboard=self.inbound,
            reset=self.reset,
        )
        account = [
            *AccountRoutes(self._account, self.recordings).routes(),
            *ExportRoutes(self._account, self.exports).routes(),
        ]
        self._others = Starlette(routes=[*control.routes(), *account], lifespan=self._lifespan)

    @property
    def app(self) -> ASGIApp:
        """The sandbox as an ASGI app. Connection faults need `running`, because other servers hide the socket."""
        return self._serve

    @contextlib.asynccontextmanager
    async def running(self, *, host: str = "127.0.0.1", port: int = 0) -> AsyncGenerator[str]:
        """Serve the sandbox on this event loop during the block, and yield its base URL. Port 0 means any free port.

        At the end, open calls are deleted, and stalled connections are reset. Raises OSError if the port cannot be
        bound. A sandbox can run only once.
        """
        async with serving(self.app, host=host, port=port, date_header=False) as address:
            self._misbehaviour.transport_of = address.transport_of
            try:
                yield address.url
            finally:
                self._misbehaviour.call_off()

    async def idle(self) -> None:
        """Wait until every call has ended, and every event has been delivered or given up."""
        await self._activity.quiet()

    def reset(self) -> None:
        """Delete the open calls, all orders, and the records of calls and deliveries. Registered webhooks stay."""
        orders = (self.faults, self.scripts, self.events, self.rows, self.exports, self.recordings)
        entries = (self._delivery.entries, self.inbound.entries, self._log, self.ledger)
        for each in (self._activity, self._outcomes, *orders, *entries):
            each.clear()

    async def aclose(self) -> None:
        """Delete the open calls, and close connections to receivers. Called by `running` and a server's lifespan."""
        self._misbehaviour.call_off()
        await self._activity.aclose()
        await self._delivery.aclose()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        send = self._dated(send)
        if scope["type"] == "http" and scope["method"] == "POST":
            found = _CALLFLOWS.fullmatch(scope["path"])
            if found is not None:
                await self._callflows.post(found[1], scope, receive, send)
                return
        await self._others(scope, receive, send)

    def _dated(self, send: Send) -> Send:
        """Return a `send` that adds the sandbox's Date header to every answer."""

        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"date", date_header(self._now()))]
            await send(message)

        return send_dated

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncGenerator[None]:
        yield
        await self.aclose()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(time.time(), UTC) + self._clock_offset
