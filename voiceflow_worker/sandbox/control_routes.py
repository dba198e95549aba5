"""The control of the sandbox over HTTP, for development only: what rang, what to break, what to script."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from voiceflow_worker.model.values import is_list
from voiceflow_worker.sandbox.delivery import Delivery
from voiceflow_worker.sandbox.export_orders import ExportOrder, RowOrder
from voiceflow_worker.sandbox.exports import Exports
from voiceflow_worker.sandbox.faults import Fault, Faults
from voiceflow_worker.sandbox.ledger import Ledger
from voiceflow_worker.sandbox.orders import OrderBook
from voiceflow_worker.sandbox.recordings import RecordingOrder, Recordings
from voiceflow_worker.sandbox.script import Script

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
        reset: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._delivery = delivery
        self._faults = faults
        self._scripts = scripts
        self._rows = rows
        self._exports = exports
        self._recordings = recordings
        self._reset_all = reset

    def routes(self) -> list[Route]:
        """All of it."""
        return [
            Route("/_sandbox/calls", self._calls, methods=["GET"]),
            Route("/_sandbox/deliveries", self._deliveries, methods=["GET"]),
            Route("/_sandbox/faults", self._add_faults, methods=["POST"]),
            Route("/_sandbox/script", self._add_scripts, methods=["POST"]),
            Route("/_sandbox/log", self._add_rows, methods=["POST"]),
            Route("/_sandbox/exports", self._add_exports, methods=["POST"]),
            Route("/_sandbox/exports", self._told_exports, methods=["GET"]),
            Route("/_sandbox/recordings", self._add_recordings, methods=["POST"]),
            Route("/_sandbox/reset", self._reset, methods=["POST"]),
        ]

    async def _calls(self, _request: Request) -> Response:
        return Response(orjson.dumps([entry.as_json() for entry in self._ledger]), media_type="application/json")

    async def _deliveries(self, _request: Request) -> Response:
        return JSONResponse([entry.as_json() for entry in self._delivery.entries])

    async def _add_faults(self, request: Request) -> Response:
        return await self._take(request, Fault, self._faults.add)

    async def _add_scripts(self, request: Request) -> Response:
        return await self._take(request, Script, self._scripts.add)

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

    async def _take(self, request: Request, model: type[Given], add: Callable[[Given], None]) -> Response:
        try:
            given: object = orjson.loads(await request.body())
            orders = [model.model_validate(order) for order in (given if is_list(given) else [given])]
        except orjson.JSONDecodeError as error:
            return JSONResponse({"error": f"no JSON: {error}"}, status_code=400)
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, problem['loc'])) or model.__name__.lower()}: {problem['msg']}"
                for problem in error.errors(include_url=False, include_context=False)
            ]
            return JSONResponse({"error": "; ".join(problems)}, status_code=422)
        for order in orders:
            add(order)
        return JSONResponse({"taken": len(orders)})
