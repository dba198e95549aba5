"""The control of the sandbox, `/_sandbox/…`: its ledger and its orders."""

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
from voiceflow_worker.sandbox.call import Ledger
from voiceflow_worker.sandbox.orders import Fault, OrderBook, Script

Given = TypeVar("Given", bound=BaseModel)


def control_routes(
    ledger: Ledger, faults: OrderBook[Fault], scripts: OrderBook[Script], reset: Callable[[], None]
) -> list[Route]:
    """Return the routes `/_sandbox/…`. They need no key. A POST of orders has one order or a list."""

    async def list_calls(request: Request) -> Response:
        after = request.query_params.get("after", "0")
        entries = islice(ledger, int(after) if after.isdecimal() else 0, None)
        return Response(orjson.dumps([entry.as_json() for entry in entries]), media_type="application/json")

    async def order_faults(request: Request) -> Response:
        return await _take(request, Fault, faults.add)

    async def order_scripts(request: Request) -> Response:
        return await _take(request, Script, scripts.add)

    async def reset_all(_request: Request) -> Response:
        reset()
        return JSONResponse({"reset": True})

    return [
        Route("/_sandbox/calls", list_calls, methods=["GET"]),
        Route("/_sandbox/faults", order_faults, methods=["POST"]),
        Route("/_sandbox/script", order_scripts, methods=["POST"]),
        Route("/_sandbox/reset", reset_all, methods=["POST"]),
    ]


async def _take(request: Request, model: type[Given], add: Callable[[Given], object]) -> Response:
    """Read orders and carry them out: if one is invalid, the answer is 422, and none is carried out."""
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
