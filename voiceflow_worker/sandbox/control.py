"""The control of the sandbox, `/_sandbox/…`: its ledger and its orders; and the OpenAPI document of all of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, ClassVar, TypeAlias, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from voiceflow_worker.asgi import openapi
from voiceflow_worker.asgi.openapi import Answers, Schemas, types_of
from voiceflow_worker.model.flows.values import is_list
from voiceflow_worker.sandbox import callflows
from voiceflow_worker.sandbox.account import AccountRoutes, Operations
from voiceflow_worker.sandbox.call import Ledger
from voiceflow_worker.sandbox.exports import COLUMNS, ExportRoutes
from voiceflow_worker.sandbox.orders import Fault, OrderBook, Script
from voiceflow_worker.sandbox.wire import CallActionReply, HookType

Given = TypeVar("Given", bound=BaseModel)
Entries: TypeAlias = list[dict[str, Any]]


_ORDERED: Answers = {
    200: ("The orders were taken.", []),
    400: ("The body is not JSON.", []),
    422: ("An order is invalid, and none was taken.", []),
}
_LISTED: Answers = {200: ("All of them, the oldest first.", [Entries])}


def _one_or_more(order: type[BaseModel]) -> Any:
    kind: Any = order
    return kind | list[kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRoutes:
    """The routes `/_sandbox/…` and `/openapi.json`. They need no key.

    A POST of orders has one order or a list. If one order is invalid, the answer is 422, and none is carried out.
    """

    ledger: Ledger
    faults: OrderBook[Fault]
    scripts: OrderBook[Script]
    reset: Callable[[], None]
    operations: ClassVar[Operations] = Operations(root="/_sandbox", is_open=True)

    def routes(self) -> list[Route]:
        """Return all routes."""
        return [*self.operations.routes(self), Route("/openapi.json", _describe, methods=["GET"])]

    @operations.on("GET", "/calls", _LISTED)
    async def list_calls(self, request: Request) -> Response:
        """List the POSTs to the callflows endpoint. `?after=100` leaves out the first 100."""
        after = request.query_params.get("after", "0")
        entries = islice(self.ledger, int(after) if after.isdecimal() else 0, None)
        return Response(orjson.dumps([entry.as_json() for entry in entries]), media_type="application/json")

    @operations.on("POST", "/faults", _ORDERED, body=_one_or_more(Fault))
    async def order_faults(self, request: Request) -> Response:
        """Order faults of the callflows endpoint."""
        return await _take(request, Fault, self.faults.add)

    @operations.on("POST", "/script", _ORDERED, body=_one_or_more(Script))
    async def order_scripts(self, request: Request) -> Response:
        """Choose how calls end."""
        return await _take(request, Script, self.scripts.add)

    @operations.on("POST", "/reset", {200: ("All is deleted.", [])})
    async def reset_all(self, _request: Request) -> Response:
        """Delete the open calls, all orders, and the records of calls."""
        self.reset()
        return JSONResponse({"reset": True})


async def _take(request: Request, model: type[Given], add: Callable[[Given], object]) -> Response:
    """Read orders and carry them out."""
    try:
        given: object = orjson.loads(await request.body())
        orders = [model.model_validate(order) for order in (given if is_list(given) else [given])]
    except orjson.JSONDecodeError as error:
        return JSONResponse({"error": f"the body is not JSON: {error}"}, 400)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc'])) or model.__name__.lower()}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_context=False)
        ]
        return JSONResponse({"error": "; ".join(problems)}, 422)
    for order in orders:
        add(order)
    return JSONResponse({"taken": len(orders)})


_ABOUT = (
    "The parts of the 8x8 Voice API that voiceflow-worker uses, with the events that 8x8 sends, and the control of the "
    "sandbox. The project wrote this description; it is not a document of 8x8. Requests and answers of real accounts "
    f"may have more fields. The CSV files of an export have the columns {', '.join(COLUMNS)}."
)


@cache
def description() -> bytes:
    """Return the OpenAPI document as JSON."""
    operations = (
        callflows.OPERATION,
        *AccountRoutes.operations,
        *ExportRoutes.operations,
        *ControlRoutes.operations,
    )
    schemas = Schemas([*types_of(operations), CallActionReply])
    made = openapi.document(
        operations,
        schemas,
        security="apiKey",
        title="8x8 Voice API, as the voiceflow sandbox plays it",
        version="1",
        description=_ABOUT,
    )
    made["servers"] = [{"url": "/"}]
    made["webhooks"] = {
        "VSS": _event(HookType.VSS, "A session has ended.", "The event was received.", {}),
        "VCA": _event(HookType.VCA, "A call asks for its next actions.", "These.", schemas.content([CallActionReply])),
    }
    return orjson.dumps(made)


def _event(kind: HookType, said: str, answer: str, content: dict[str, Any]) -> dict[str, Any]:
    operation = {
        "operationId": f"on{kind}",
        "summary": said,
        "requestBody": {"required": True, "content": {openapi.JSON: {"schema": {"type": "object"}}}},
        "responses": {"200": openapi.response(200, answer, content)},
    }
    return {"post": operation}


async def _describe(_request: Request) -> Response:
    return Response(description(), media_type="application/json")
