"""Programs that use the HTTP API of a receiver."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import httpx
from prometheus_client import CollectorRegistry

from tests.support.flows import SOURCE
from voiceflow_worker import Store, load_settings
from voiceflow_worker.api.app import HttpApi
from voiceflow_worker.ivr.menu import Menu
from voiceflow_worker.webhooks import Receiver

Client: TypeAlias = httpx.AsyncClient
"""A program that uses the API."""
SECRET = "a-secret-of-programs"
CALL = {"to": "+6587654321", "say": "Your order is ready."}


@asynccontextmanager
async def program(
    store: Store,
    *,
    secret: str | None = SECRET,
    menus: Sequence[Menu] = (),
    address: str = "192.0.2.7",
    registry: CollectorRegistry | None = None,
    **settings: Any,
) -> AsyncGenerator[Client]:
    """A program with this secret, and the HTTP API of a receiver with these settings."""
    given = {
        "source": SOURCE,
        "voice_profile": "en-IE-EmilyNeural",
        "api_secret": SECRET,
        "store": store.url,
        **settings,
    }
    read = load_settings(**given)
    receiver = Receiver(read, store, menus=menus, api=True)
    if registry is not None:
        registry.register(receiver.registry)
    transport = httpx.ASGITransport(receiver.app, client=(address, 5000))
    headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://calls", headers=headers) as client:
        yield client


async def call(client: Client, key: str = "order-42", **fields: object) -> httpx.Response:
    return await client.post("/v1/calls", json={**CALL, **fields}, headers={"Idempotency-Key": key})


def api_of(client: Client) -> HttpApi:
    """The API behind a client."""
    app = client._transport.app  # type: ignore[attr-defined]
    (found,) = {route.app for route in app.routes if isinstance(route.app, HttpApi)}
    return found


def findings_of(answer: httpx.Response) -> list[dict[str, object]]:
    """The findings of a problem, which is one in every respect."""
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["type"] == f"urn:voiceflow:problem:{problem['code']}"
    assert problem["title"]
    assert problem["detail"]
    found: list[dict[str, object]] = problem["findings"]
    assert found or problem["status"] >= 500
    assert all(each["code"] and each["detail"] and {"pointer", "severity"} <= each.keys() for each in found)
    return found
