"""The webhook receiver in your own web app, with your routes, lifespan and metrics.

The program needs no account: a sandbox in this process simulates 8x8, and calls nobody. The app is a Starlette app.
FastAPI is based on Starlette, so everything works there too.

    python examples/mounted_receiver.py
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
from prometheus_client import CollectorRegistry, Counter, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from voiceflow_worker import (
    CallFlow,
    CallQueue,
    Receiver,
    Sandbox,
    VoiceClient,
    Worker,
    load_settings,
    open_store,
)
from voiceflow_worker.asgi import serving
from voiceflow_worker.webhooks import PATH

AUTHORIZATION = "Bearer whatever-was-registered-with-the-webhook"


def make_app() -> Starlette:
    """Return an app with its own routes, and with the receiver mounted under /calls."""
    registry = CollectorRegistry()
    visits = Counter("shop_visits", "Visits of the front page.", registry=registry)

    async def front_page(_request: Request) -> Response:
        visits.inc()
        return PlainTextResponse("The shop is open.")

    async def metrics(_request: Request) -> Response:
        return Response(generate_latest(registry))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        async with open_store("memory://") as store:
            app.state.store = store
            # Your /metrics shows the receiver's counters too, so the receiver needs none.
            settings = load_settings(webhook_secret=AUTHORIZATION)
            receiver = Receiver(settings, store, registry=registry, metrics=False)
            mount = Mount("/calls", app=receiver.app)
            app.router.routes.append(mount)
            # A server runs only the lifespan of the outermost app, so what the receiver does by itself starts here.
            async with receiver.running():
                yield
            app.router.routes.remove(mount)  # a lifespan that begins again makes its own

    return Starlette(routes=[Route("/", front_page), Route("/metrics", metrics)], lifespan=lifespan)


async def main() -> None:
    """Serve the app, make a call, and print what the app shows."""
    app = make_app()
    async with serving(app) as address, httpx.AsyncClient(base_url=address.url) as browser:
        queue = CallQueue(app.state.store)
        flow = CallFlow.call("+6587654321", source="+6531234567").say(
            "Your order is ready.", voice_profile="en-IE-EmilyNeural"
        )
        job = await queue.enqueue(flow)

        sandbox = Sandbox(webhook=f"{address.url}/calls{PATH}", webhook_secret=AUTHORIZATION, speed=50)
        async with sandbox.running() as url, VoiceClient("any-key", "demo", base_url=url) as voice:
            await Worker(queue.store, voice, rate=10).drain()

        print((await browser.get("/")).text)
        job = await queue.get(job.id)
        print(f"the call is {job.state}: {job.outcome.status_text if job.outcome else 'not known yet'}")
        for line in (await browser.get("/metrics")).text.splitlines():
            if line.startswith(("shop_visits_total", "voiceflow_webhook_summaries_total")):
                print(line)


if __name__ == "__main__":
    asyncio.run(main())
