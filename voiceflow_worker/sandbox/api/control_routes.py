"""The control of the sandbox over HTTP: its ledger, its orders, and its OpenAPI document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import islice
from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from voiceflow_worker.model.flows.values import is_list
from voiceflow_worker.sandbox.api.exports import Exports
from voiceflow_worker.sandbox.calls.call_events import InboundOrder
from voiceflow_worker.sandbox.calls.ledger import JsonEntry, Ledger
from voiceflow_worker.sandbox.events.delivery import Delivery
from voiceflow_worker.sandbox.exchange import Switchboard
from voiceflow_worker.sandbox.orders import (
    EventOrder,
    ExportOrder,
    Fault,
    OrderBook,
    RowOrder,
    Script,
)

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
            Route("/_sandbox/exports", self._list_exports, methods=["GET"]),
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

    async def _list_exports(self, _request: Request) -> Response:
        return JSONResponse(self.exports.as_json())

    async def _reset(self, _request: Request) -> Response:
        self.reset()
        return JSONResponse({"reset": True})


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
    return files("voiceflow_worker.sandbox.api").joinpath("openapi.json").read_bytes()


async def _describe(_request: Request) -> Response:
    return Response(description(), media_type="application/json")
