"""A web service that phones a customer when an order is ready, with the worker and the receiver in its own process.

uvicorn examples.order_service.service:app --no-proxy-headers --timeout-graceful-shutdown 1

It has the settings of the environment. 8x8 sends its events to https://…/calls/webhooks/8x8.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
from fastapi import FastAPI, HTTPException, Request

from voiceflow_worker import InvalidInputError, Voiceflow
from voiceflow_worker.errors import StoreUnavailableError

SCHEMA = "CREATE TABLE IF NOT EXISTS order_calls (id TEXT PRIMARY KEY, order_key TEXT, state TEXT)"


def make_app(given: Voiceflow | None = None, database: str = "orders.db") -> FastAPI:
    """Return the app. It opens a Voiceflow of its own unless an open one is given."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            voiceflow = await stack.enter_async_context(Voiceflow.from_env()) if given is None else given
            app.state.voiceflow, app.state.table = voiceflow, sqlite3.connect(database, isolation_level=None)
            stack.callback(app.state.table.close)
            app.state.table.execute(SCHEMA)
            receiver = voiceflow.receiver()
            app.mount("/calls", receiver.app)
            await stack.enter_async_context(receiver.running())
            group = await stack.enter_async_context(anyio.create_task_group())
            group.start_soon(keep_outcomes, app)
            stack.callback(group.cancel_scope.cancel)
            async with voiceflow.working():
                yield

    app = FastAPI(lifespan=lifespan)
    app.post("/orders/{order}/ready", status_code=202)(ready)
    return app


async def ready(request: Request, order: int, phone: str) -> dict[str, str]:
    """Call the customer once for this order, however often the request is repeated."""
    try:
        job = await request.app.state.voiceflow.call(
            phone, say=f"Your order {order} is ready.", unique_key=f"order-{order}", valid_for="2h"
        )
    except InvalidInputError as error:  # a wrong number, an opt-out, another text for this order: nobody is called
        raise HTTPException(422, str(error)) from error
    except StoreUnavailableError as error:  # perhaps it was stored: the same key again is the same call
        raise HTTPException(503, str(error), {"Retry-After": "1"}) from error
    return {"id": job.id, "state": job.state}


async def keep_outcomes(app: FastAPI) -> None:
    """Store how each call ended. An outcome may come twice, so that writing it twice changes nothing."""
    async with app.state.voiceflow.queue.outcomes(consumer="orders") as outcomes:
        async for outcome in outcomes:
            row = (outcome.job.id, outcome.job.unique_key, outcome.state)
            app.state.table.execute("INSERT OR REPLACE INTO order_calls VALUES (?, ?, ?)", row)


app = make_app()
