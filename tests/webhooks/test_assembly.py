"""The one assembly of a receiver: `serve`, the factory of ASGI servers, and a mount in another app do the same."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urljoin

import anyio
import httpx
import pytest
import structlog
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.console.signing_in import READERS, Form, sign_in
from tests.contract.suite import ManualClock
from tests.support.flows import SOURCE, flow
from tests.support.processes import Process, running
from tests.support.redis_server import free_port
from tests.support.waiting import until, wait_until
from tests.webhooks.payload_forms import Call, whole
from tests.webhooks.receiving import SECRET, metric_in, named, other, receiver_of, submitted
from voiceflow_worker import (
    CallPolicy,
    CallQueue,
    Sandbox,
    SessionStatus,
    Store,
    VoiceClient,
    Worker,
    load_settings,
    open_store,
)
from voiceflow_worker.asgi.server import serving
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.progress import CallProgress
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.sandbox import Script
from voiceflow_worker.service import forget as forgetting
from voiceflow_worker.service.uploads import Uploads, uploading
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
                assert process.is_running, process.printed
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
            assert "voiceflow_on_call" in (await client.get("/metrics")).text
            assert (await client.get("/v1/queues/default")).status_code == 401
            client.headers["Authorization"] = f"Bearer {API_SECRET}"
            ordered = {"policy": "night", "say": "The disk is full."}
            answer = await client.post("/v1/escalations", json=ordered, headers={"Idempotency-Key": "disk"})
            assert answer.status_code == 201, answer.text
            await Worker(store, voice, rate=100).drain()
            batch = f"/v1/batches/{answer.json()['batch_id']}"
            with anyio.fail_after(20):
                while not (await client.get(batch)).json()["answers"]:  # noqa: ASYNC110
                    await anyio.sleep(0.1)
            assert (await client.get(batch)).json()["answers"] == {"acknowledged": 1}
            assert "acknowledged in call" in (await client.get(batch)).json()["hold"]["reason"]
        assert [entry.destination for entry in sandbox.ledger if entry.rang] == [ANA]


async def test_a_server_that_sends_no_lifespan_is_told_so_on_every_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VOICEFLOW_STORE", f"sqlite:///{tmp_path / 'calls.db'}")
    with structlog.testing.capture_logs() as logs:
        transport = httpx.ASGITransport(app())  # sends none
        async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
            for answer in (await client.post(PATH, json={}), await client.get("/healthz"), await client.get("/ui")):
                assert (answer.status_code, "lifespan" in answer.json()["error"]) == (503, True)
    assert "lifespan" in logs[-1]["why"]


async def test_a_receiver_runs_once(memory: Store) -> None:
    receiver = Receiver(load_settings(), memory)
    async with receiver.running():
        with pytest.raises(RuntimeError, match="a Receiver of its own each time"):
            await receiver.running().__aenter__()
    with pytest.raises(RuntimeError, match="or has ended"):
        await receiver.running().__aenter__()


async def test_an_error_of_the_program_around_a_receiver_comes_as_it_was_raised(memory: Store) -> None:
    with pytest.raises(LookupError, match="of the shop"):
        async with Receiver(load_settings(), memory).running():
            raise LookupError("of the shop")


RETENTION = CallPolicy()


async def test_a_receiver_deletes_the_old_calls_of_a_queue_without_a_worker() -> None:
    clock = ManualClock()
    async with open_store("memory://", clock=clock) as store:
        queue = CallQueue(store, "offers", policy=RETENTION)
        await queue.cancel((await queue.enqueue(flow())).id)
        clock.jump(RETENTION.retention + timedelta(hours=1))
        async with receiver_of(store).running():

            async def is_gone() -> bool:
                return (await queue.status()).total == 0

            await until(is_gone)


async def test_uploads_of_an_erased_person_go_from_the_store_and_those_of_dead_processes_from_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with open_store("memory://") as store:
        uploads = Uploads(store)
        kept = await uploads.keep(b"destination\n+6587654321\n", name="people.csv")
        await CallQueue(store).enqueue(flow())
        with uploading() as mine:
            dead = mine.with_name("voiceflow-upload-abc")
            dead.mkdir()
            await forgetting.forget(store, "+6587654321")
            assert (mine.exists(), dead.exists()) == (True, False)
        assert not mine.exists()
        dead.mkdir()
        async with receiver_of(store).running():
            assert not dead.exists(), "a receiver that begins deletes them too"
        assert (await uploads.find(kept.id), await uploads.content(kept)) == (None, None)


# -- the servers it is promised for, each really serving it: voiceflow serve, uvicorn and granian ----------------------

FACTORY = "voiceflow_worker.webhooks.app:app"
PROXY = {"VOICEFLOW_TRUSTED_PROXIES": "127.0.0.1", "VOICEFLOW_AUTH_HEADER": "Remote-User"}
SERVERS = ["serve", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("uvicorn", "granian"))]


@contextmanager
def served(kind: str, url: str, **settings: str) -> Generator[tuple[Process, str]]:
    """A server as a process, and the address it listens on."""
    env = {"VOICEFLOW_STORE": url, "VOICEFLOW_WEBHOOK_SECRET": SECRET, **settings}
    port = str(free_port())
    arguments = {
        "serve": ("serve", "--port", port),
        "uvicorn": ("--factory", FACTORY, "--port", port, "--no-proxy-headers", "--timeout-keep-alive", "75"),
        "granian": ("--interface", "asgi", "--factory", FACTORY, "--port", port),
    }
    module = "voiceflow_worker" if kind == "serve" else kind
    with running(*arguments[kind], module=module, env=env) as started:
        address = f"http://127.0.0.1:{port}"
        _wait_for(started, address)
        try:
            yield started, address
        finally:
            started.end(signal.SIGTERM)  # granian serves from a process of its own, which outlives a killed parent


def _wait_for(process: Process, address: str) -> None:
    def is_up() -> bool:
        assert process.is_running, process.printed
        try:
            return httpx.get(f"{address}/healthz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    wait_until(is_up, lambda: f"a server on {address}\n{process.printed}")


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.parametrize("kind", SERVERS)
async def test_the_receiver_does_all_of_it_on_this_server(kind: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    async with open_store(url) as store:
        job = await submitted(store)
        await CallQueue(store).enqueue(flow(), batch="a/b")
        call = named(job)
        with served(kind, url, VOICEFLOW_UI_SECRET=READERS, **PROXY) as (process, address):
            async with httpx.AsyncClient(base_url=address, timeout=30, trust_env=False) as client:
                client.headers["Authorization"] = SECRET
                answer = await client.post(PATH, json=whole(call))
                assert (answer.status_code, answer.content) == (200, b"{}")
                assert (await client.post(PATH, json=whole(call))).status_code == 200
                state = other("CALL_STATUS", sessionId=call.session_id, callStatus="RINGING")
                assert (await client.post(PATH, json=state)).status_code == 200
                assert (await client.post(PATH, json=other("CALL_ACTION"))).json()["callflow"]
                assert (await client.post(PATH, content=b"{")).status_code == 400
                assert (await client.post(PATH, content=b"x" * 1_000_001)).status_code == 413
                assert (await client.post(PATH, content=_in_chunks(1_000_001))).status_code == 413
                assert (await client.post(PATH, json={}, headers={"Authorization": "x"})).status_code == 401
                body = _in_chunks(3_000_000)
                assert (await client.post(PATH, content=body, headers={"Authorization": "x"})).status_code == 401
                assert (await client.get(PATH)).status_code == 405
                assert (await client.get("/readyz")).json() == {"status": "ok"}
                metrics = (await client.get("/metrics")).text
                client.headers["Origin"] = address
                closed = await client.get("/ui/batches/a%2Fb")
                assert closed.status_code == 401
                way = dict(Form(closed.text).hidden)["way"]
                signed_in = await sign_in(client, READERS, way=way)
                shown = await client.get(urljoin(str(signed_in.url), signed_in.headers["location"]))
                assert (shown.status_code, "a/b" in shown.text) == (200, True)
                # On one connection, each request has the name that it gives.
                for names, status in ((["ana@x"], 200), (["ben@x", "ana@x"], 403), (["ben@x"], 200), ([], 200)):
                    page = await client.get("/ui", headers=[("Remote-User", name) for name in names])
                    seen = [name for name in ("ana@x", "ben@x") if f"{name}, reader" in page.text]
                    assert (page.status_code, seen) == (status, names * (status == 200))
            assert metric_in(metrics, 'summaries_total{result="settled"}') == 1
            assert metric_in(metrics, 'summaries_total{result="repeated"}') == 1
            assert (await get_jobs(store, [job.id]))[job.id].state is JobState.COMPLETED
            assert len((await CallProgress(store).of([call.session_id])).states) == 1
            assert metric_in(metrics, 'unparsed_total{reason="not_json"}') == 1
            assert await Heartbeats(store).has_receiver()
            assert process.end(signal.SIGTERM) in {0, -signal.SIGTERM}  # uvicorn hands the signal on once it is done
        assert not await Heartbeats(store).has_receiver(), "it stopped in order"


@pytest.mark.slow
@pytest.mark.parametrize("kind", SERVERS)
def test_the_server_does_not_believe_whom_a_stranger_says_to_be(kind: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    shown = {"Authorization": SECRET, "X-Forwarded-For": "18.140.80.2", "X-Real-IP": "18.140.80.2"}
    event = whole(Call("default.01J.1", "s"))
    allow = {"VOICEFLOW_WEBHOOK_ALLOW": "18.140.80.2"}
    with served(kind, url, **allow) as (_, address):
        assert httpx.post(address + PATH, json=event, headers=shown, trust_env=False).status_code == 403
    with served(kind, url, **allow, VOICEFLOW_TRUSTED_PROXIES="127.0.0.1") as (_, address):
        assert httpx.post(address + PATH, json=event, headers=shown, trust_env=False).status_code == 200
        spoofed = {**shown, "X-Forwarded-For": "18.140.80.2, 203.0.113.9"}
        assert httpx.post(address + PATH, json=event, headers=spoofed, trust_env=False).status_code == 403


async def _in_chunks(size: int) -> AsyncIterator[bytes]:
    """So many bytes, with no Content-Length that would tell how many."""
    for _ in range(size // 50_000):
        yield b"x" * 50_000
    yield b"x" * (size % 50_000)
