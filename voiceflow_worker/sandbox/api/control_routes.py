"""The control of the sandbox over HTTP, for development only: what rang, what to break, what to script."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from voiceflow_worker.model.flows.values import is_list
from voiceflow_worker.sandbox.api.exports import Exports
from voiceflow_worker.sandbox.calls.inbound import InboundOrder
from voiceflow_worker.sandbox.calls.ledger import Ledger
from voiceflow_worker.sandbox.events.delivery import Delivery
from voiceflow_worker.sandbox.events.number_updates import NumberUpdateOrder, NumberUpdates
from voiceflow_worker.sandbox.exchange.switchboard import Switchboard
from voiceflow_worker.sandbox.orders.event_orders import EventOrder, EventOrders
from voiceflow_worker.sandbox.orders.export_orders import ExportOrder, RowOrder
from voiceflow_worker.sandbox.orders.faults import Fault, Faults
from voiceflow_worker.sandbox.orders.orders import OrderBook
from voiceflow_worker.sandbox.orders.recordings import RecordingOrder, Recordings
from voiceflow_worker.sandbox.orders.script import Script

Given = TypeVar("Given", bound=BaseModel)


class ControlRoutes:
    """`/_sandbox/…`. Orders are one object, or a list of them; one that is wrong is answered 422, and none is taken."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        delivery: Delivery,
        faults: Faults,
        scripts: OrderBook[Script],
        rows: OrderBook[RowOrder],
        exports: Exports,
        recordings: Recordings,
        events: EventOrders,
        switchboard: Switchboard,
        number_updates: NumberUpdates,
        reset: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._delivery = delivery
        self._faults = faults
        self._scripts = scripts
        self._rows = rows
        self._exports = exports
        self._recordings = recordings
        self._events = events
        self._switchboard = switchboard
        self._number_updates = number_updates
        self._reset_all = reset

    def routes(self) -> list[Route]:
        """All of it."""
        return [
            Route("/_sandbox/calls", self._calls, methods=["GET"]),
            Route("/_sandbox/deliveries", self._deliveries, methods=["GET"]),
            Route("/_sandbox/faults", self._add_faults, methods=["POST"]),
            Route("/_sandbox/script", self._add_scripts, methods=["POST"]),
            Route("/_sandbox/events", self._add_events, methods=["POST"]),
            Route("/_sandbox/inbound", self._call_in, methods=["POST"]),
            Route("/_sandbox/inbound", self._came_in, methods=["GET"]),
            Route("/_sandbox/numbers", self._update_numbers, methods=["POST"]),
            Route("/_sandbox/log", self._add_rows, methods=["POST"]),
            Route("/_sandbox/exports", self._add_exports, methods=["POST"]),
            Route("/_sandbox/exports", self._told_exports, methods=["GET"]),
            Route("/_sandbox/recordings", self._add_recordings, methods=["POST"]),
            Route("/_sandbox/reset", self._reset, methods=["POST"]),
        ]

    async def _calls(self, request: Request) -> Response:
        told = request.query_params.get("after", "0")
        after = int(told) if told.isdecimal() else 0
        entries = [entry.as_json() for entry in islice(self._ledger, after, None)]
        return Response(orjson.dumps(entries), media_type="application/json")

    async def _deliveries(self, _request: Request) -> Response:
        return JSONResponse([entry.as_json() for entry in self._delivery.entries])

    async def _add_faults(self, request: Request) -> Response:
        return await self._take(request, Fault, self._faults.add)

    async def _add_scripts(self, request: Request) -> Response:
        return await self._take(request, Script, self._scripts.add)

    async def _add_events(self, request: Request) -> Response:
        return await self._take(request, EventOrder, self._events.add)

    async def _call_in(self, request: Request) -> Response:
        sessions: list[str] = []

        def call(order: InboundOrder) -> None:
            sessions.append(self._switchboard.call(order).session_id)

        taken = await self._take(request, InboundOrder, call, check=self._switchboard.sub_account_of)
        return JSONResponse({"taken": len(sessions), "session_ids": sessions}) if sessions else taken

    async def _came_in(self, _request: Request) -> Response:
        return JSONResponse([entry.as_json() for entry in self._switchboard.entries])

    async def _update_numbers(self, request: Request) -> Response:
        updates = self._number_updates
        return await self._take(request, NumberUpdateOrder, updates.send, check=updates.sub_account_of)

    async def _add_rows(self, request: Request) -> Response:
        return await self._take(request, RowOrder, self._rows.add)

    async def _add_exports(self, request: Request) -> Response:
        return await self._take(request, ExportOrder, self._exports.add)

    async def _told_exports(self, _request: Request) -> Response:
        return JSONResponse(self._exports.as_json())

    async def _add_recordings(self, request: Request) -> Response:
        return await self._take(request, RecordingOrder, self._recordings.add)

    async def _reset(self, _request: Request) -> Response:
        self._reset_all()
        return JSONResponse({"reset": True})

    async def _take(
        self,
        request: Request,
        model: type[Given],
        add: Callable[[Given], None],
        *,
        check: Callable[[Given], object] = lambda _: None,
    ) -> Response:
        """Read orders and give them; `check` raises ValueError for one that cannot be carried out."""
        try:
            given: object = orjson.loads(await request.body())
            orders = [model.model_validate(order) for order in (given if is_list(given) else [given])]
            for order in orders:
                check(order)
        except orjson.JSONDecodeError as error:
            return JSONResponse({"error": f"no JSON: {error}"}, status_code=400)
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
