"""The one assembly of a receiver: `serve`, the factory of ASGI servers, and a mount in another app do the same."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest
import structlog
from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.console.signing_in import READERS
from tests.support.flows import SOURCE
from tests.support.processes import running
from tests.support.redis_server import free_port
from voiceflow_worker import Sandbox, SessionStatus, Store, VoiceClient, Worker, load_settings, open_store
from voiceflow_worker.asgi.server import serving
from voiceflow_worker.sandbox import Script
from voiceflow_worker.webhooks import PATH, Receiver
from voiceflow_worker.webhooks.app import app

pytestmark = pytest.mark.anyio

WEBHOOK_SECRET, API_SECRET = "Bearer of-webhooks-f0c7d1a9", "of-programs-8c1f0e6d5b"
ANA = "+6587654321"
POLICY = f'[night]\nnumbers = ["{ANA}"]\n'
Assembled = Callable[[Store], AbstractAsyncContextManager[str]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn knows no other


@asynccontextmanager
async def by_serve(store: Store) -> AsyncGenerator[str]:
    address = f"http://127.0.0.1:{free_port()}"

    async def is_up() -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False) as client:
                return (await client.get(f"{address}/healthz")).is_success
        except httpx.TransportError:
            return False

    env = {name: value for name, value in os.environ.items() if name.startswith("VOICEFLOW_")}
    port = address.rpartition(":")[2]
    with running("serve", "--api", "--port", port, env={**env, "VOICEFLOW_STORE": store.url}) as process:
        with anyio.fail_after(30):
            while not await is_up():
                assert process.is_running, process.told
                await anyio.sleep(0.05)
        yield address


@asynccontextmanager
async def by_factory(store: Store) -> AsyncGenerator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOICEFLOW_STORE", store.url)
        async with serving(app()) as address:
            yield address.url


@asynccontextmanager
async def by_mount(store: Store) -> AsyncGenerator[str]:
    @asynccontextmanager
    async def lifespan(outer: Starlette) -> AsyncGenerator[None]:
        receiver = Receiver(load_settings(), store)
        outer.router.routes.append(Mount("/calls", app=receiver.app))
        async with receiver.running():
            yield

    async with serving(Starlette(lifespan=lifespan)) as address:
        yield f"{address.url}/calls"


@pytest.mark.parametrize("assembled", [pytest.param(by_serve, marks=pytest.mark.slow), by_factory, by_mount])
async def test_every_receiver_hears_the_key_of_an_escalation_and_has_the_api_and_the_pages(
    assembled: Assembled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "policies.toml").write_text(POLICY, "utf-8")
    given = {
        "webhook_secret": WEBHOOK_SECRET, "api_secret": API_SECRET, "ui_secret": READERS, "source": SOURCE,
        "voice_profile": "en-IE-EmilyNeural", "escalations": str(tmp_path / "policies.toml"),
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(f"VOICEFLOW_{name.upper()}", value)
    async with open_store(f"sqlite:///{tmp_path / 'calls.db'}") as store, assembled(store) as url:
        sandbox = Sandbox(webhook=url + PATH, webhook_secret=WEBHOOK_SECRET, speed=500)
        sandbox.scripts.add(Script(destination=ANA, outcome=SessionStatus.COMPLETED, keys=["1"]))
        async with (
            sandbox.running() as base_url,
            VoiceClient("any-key", "demo", base_url=base_url) as voice,
            httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client,
        ):
            assert "<form" in (await client.get("/ui")).text  # where people sign in
            assert "<form" in (await client.get("/", follow_redirects=True)).text
            assert "voiceflow_escalations" in (await client.get("/metrics")).text
            assert (await client.get("/v1/queues/default")).status_code == 401
            client.headers["Authorization"] = f"Bearer {API_SECRET}"
            ordered = {"policy": "night", "say": "The disk is full."}
            answer = await client.post("/v1/escalations", json=ordered, headers={"Idempotency-Key": "disk"})
            assert answer.status_code == 201, answer.text
            await Worker(store, voice, rate=100).drain()
            shown = f"/v1/escalations/{answer.json()['id']}"

            async def state() -> str:
                return str((await client.get(f"{shown}?wait=1")).json()["state"])

            with anyio.fail_after(20):
                while (now := await state()) == "open":
                    pass
            assert now == "acknowledged"
        assert [entry.destination for entry in sandbox.ledger if entry.rang] == [ANA]


async def test_a_server_that_sends_no_lifespan_is_told_so_on_every_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VOICEFLOW_STORE", f"sqlite:///{tmp_path / 'calls.db'}")
    monkeypatch.setenv("VOICEFLOW_WEBHOOK_ALLOW", "192.0.2.0/24")
    with structlog.testing.capture_logs() as logs:
        transport = httpx.ASGITransport(app())  # sends none
        async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
            for answer in (await client.post(PATH, json={}), await client.get("/healthz"), await client.get("/ui")):
                assert (answer.status_code, "lifespan" in answer.json()["error"]) == (503, True)
    assert "lifespan" in logs[-1]["why"]
    assert ("192.0.2.0/24", "Unix socket" in logs[0]["unix_socket"]) == (logs[0]["networks"], True)


async def test_a_receiver_without_pages_says_what_it_is(memory: Store) -> None:
    receiver = Receiver(load_settings(), memory, registry=CollectorRegistry())
    async with receiver.running(), serving(receiver.app) as address, httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{address.url}/")
    assert answer.status_code == 200
    assert "VOICEFLOW_UI_SECRET" in answer.text


async def test_a_mount_whose_lifespan_runs_again_serves_the_receiver_of_that_run(memory: Store) -> None:
    """Its registry is the same; and a receiver that is run twice says what to do instead."""
    registry = CollectorRegistry()
    for _ in range(2):
        receiver = Receiver(load_settings(), memory, registry=registry, metrics=False)
        async with receiver.running():
            assert b"voiceflow_webhook_answers" in generate_latest(registry)
            with pytest.raises(RuntimeError, match="a Receiver of its own each time"):
                await receiver.running().__aenter__()
        assert generate_latest(registry) == b""
        with pytest.raises(RuntimeError, match="or has ended"):
            await receiver.running().__aenter__()


async def test_an_error_of_the_program_around_a_receiver_comes_as_it_was_raised(memory: Store) -> None:
    with pytest.raises(LookupError, match="of the shop"):
        async with Receiver(load_settings(), memory, registry=CollectorRegistry()).running():
            raise LookupError("of the shop")
