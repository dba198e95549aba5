"""The receiver on the servers it is promised for, each really serving it: `voiceflow serve`, uvicorn and granian."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from tests.console.signing_in import READERS, Form, sign_in
from tests.support.flows import flow
from tests.support.processes import Process, running
from tests.support.redis_server import free_port
from tests.support.waiting import wait_until
from tests.webhooks.payload_forms import Call, whole
from tests.webhooks.receiving import SECRET, metric_in, other
from tests.webhooks.test_payload_forms import named, submitted
from voiceflow_worker import CallQueue, open_store
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.core.heartbeats import Heartbeats
from voiceflow_worker.core.progress import CallProgress
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.webhooks import PATH

FACTORY = "voiceflow_worker.webhooks.app:app"
PROXY = {"VOICEFLOW_TRUSTED_PROXIES": "127.0.0.1", "VOICEFLOW_AUTH_HEADER": "Remote-User"}
SERVERS = ["serve", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("uvicorn", "granian"))]


@contextmanager
def served(kind: str, url: str, **settings: str) -> Iterator[tuple[Process, str]]:
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
        assert process.is_running, process.told
        try:
            return httpx.get(f"{address}/healthz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    wait_until(is_up, lambda: f"a server on {address}\n{process.told}")


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.parametrize("kind", SERVERS)
async def test_the_receiver_does_all_of_it_on_this_server(kind: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    async with open_store(url) as store:
        job = await submitted(store)
        await CallQueue(store).enqueue(flow(), batch_id="a/b")
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
