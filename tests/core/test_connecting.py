"""Calls that are connecting when an order returns do not leave, wherever the connection takes its time."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import httpx
import pytest

from tests.gateway.misbehaving import (
    CERTIFICATE,
    LONGEST,
    Behaviour,
    Connection,
    MisbehavingServer,
    answer,
    created,
    places,
)
from tests.support.company_proxy import AUTHORITY, VOICE, CompanyProxy
from tests.support.everyday import combinations
from tests.support.flows import number
from tests.support.loops import either_loop
from tests.support.stores import url_for
from tests.support.waiting import until
from tests.support.workers import enqueued, states, worker_for
from voiceflow_worker import CallQueue, VoiceClient, open_store
from voiceflow_worker.core import gates
from voiceflow_worker.core.ports import Placement
from voiceflow_worker.core.sending import submit
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.gateway import transports
from voiceflow_worker.model.reports.verdict import PostProgress

pytestmark = pytest.mark.anyio

CALLS = 4
WITHIN = 0.4
"""The seconds within which a call leaves here after its journal entry. They are 2 outside of these tests."""
Stalls = Callable[[], object]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (gates, submit):
        monkeypatch.setattr(module, "SENT_WITHIN", WITHIN)


@contextmanager
def ours(stalls: Stalls, *, behaviour: Behaviour = places) -> Generator[tuple[MisbehavingServer, VoiceClient]]:
    """Connections of our own, to a TLS server that lets the handshake wait."""
    with MisbehavingServer(behaviour, tls=True, at_first=stalls) as server:
        trust = ssl.create_default_context(cafile=CERTIFICATE)
        yield server, VoiceClient("key", "sub", base_url=server.url, ssl_context=trust)


@contextmanager
def httpx_pool(stalls: Stalls) -> Generator[tuple[MisbehavingServer, VoiceClient]]:
    """A transport of the user, which connects when its POST begins."""
    with MisbehavingServer(places, tls=True, at_first=stalls) as server:
        transport = httpx.AsyncHTTPTransport(verify=ssl.create_default_context(cafile=CERTIFICATE), trust_env=False)
        yield server, VoiceClient("key", "sub", base_url=server.url, transport=transport)


@contextmanager
def proxy(stalls: Stalls, *, behaviour: Behaviour = places) -> Generator[tuple[MisbehavingServer, VoiceClient]]:
    """Connections of our own through the proxy of a company, which lets CONNECT wait."""
    with (
        MisbehavingServer(behaviour) as server,
        MisbehavingServer(CompanyProxy({VOICE: server.port}), at_first=stalls) as company,
    ):
        trust = ssl.create_default_context(cafile=AUTHORITY)
        yield server, VoiceClient("key", "sub", base_url=f"https://{VOICE}", ssl_context=trust, proxy=company.url)


WAYS = {"ours": ours, "httpx": httpx_pool, "proxy": proxy}


async def hold(queue: CallQueue) -> None:
    await queue.hold(reason="lunch")


async def hold_the_batch(queue: CallQueue) -> None:
    await queue.hold(batch_id="march", reason="lunch")


async def cancel(queue: CallQueue) -> None:
    await queue.cancel_batch("march")


async def opt_out(queue: CallQueue) -> None:
    await SuppressionList(queue.store).add(*(number(place) for place in range(CALLS)), reason="asked")


Order = Callable[[CallQueue], Awaitable[None]]


def named(case: object) -> str:
    return getattr(case, "__name__", str(case))


ORDERS: tuple[Order, ...] = (hold, hold_the_batch, cancel, opt_out)


@dataclass(frozen=True)
class Set:
    """A way to connect, a store, and a rate."""

    way: str
    backend: str
    rate: float | None

    def __str__(self) -> str:
        return f"{self.way}-{self.backend}-{self.rate}"


SETS = [
    *[Set("ours", backend, rate) for backend in ("sqlite", "redis") for rate in (None, 50)],
    Set("httpx", "sqlite", None),
    Set("proxy", "redis", 50),
    Set("httpx", "redis", 50),
    Set("proxy", "sqlite", None),
]


@pytest.mark.parametrize(("kind", "order"), combinations(SETS, ORDERS), ids=named)
async def test_no_call_that_is_connecting_when_an_order_returns_leaves_after_it(
    fresh_url: Callable[[str], str], kind: Set, order: Order
) -> None:
    goes_on, knocked = threading.Event(), threading.Event()
    ended = order in {cancel, opt_out}

    def stalls() -> None:
        knocked.set()
        goes_on.wait(LONGEST)

    with WAYS[kind.way](stalls) as (server, client):
        async with open_store(fresh_url(kind.backend)) as store, client, anyio.create_task_group() as group:
            queue = await enqueued(store, CALLS, batch_id="march")
            worker = worker_for(store, client, rate=kind.rate)
            group.start_soon(worker.run)
            assert await anyio.to_thread.run_sync(knocked.wait, LONGEST)
            await until(lambda: worker.in_flight > 0)
            await order(queue)
            goes_on.set()
            await until(lambda: worker.in_flight == 0)
            assert server.posts == []
            if ended:
                await until(lambda: _are(queue, {"cancelled": CALLS}))
            else:
                await queue.resume(batch_id=None if order is hold else "march")
                await until(lambda: _are(queue, {"accepted": CALLS}))
            worker.stop()
        assert len(server.posts) == (0 if ended else CALLS)


async def _are(queue: CallQueue, expected: dict[str, int]) -> bool:
    return await states(queue) == expected


def places_once(connection: Connection) -> None:
    """Place one call, and end the connection."""
    connection.read_request()
    session_id = f"s-{len(connection.server.bodies)}"
    connection.send(answer(200, created(session_id), "Connection: close"))


def takes_too_long() -> None:
    time.sleep(1.5 * WITHIN)  # the time that a slow network takes


@pytest.mark.parametrize("rate", [None, 5])
@pytest.mark.parametrize("way", [ours, proxy])
async def test_where_connecting_always_takes_too_long_each_call_rings_once(
    tmp_path: Path,
    way: Callable[..., AbstractContextManager[tuple[MisbehavingServer, VoiceClient]]],
    rate: float | None,
) -> None:
    """Under a rate, a send slot is taken so early that the call is connected by then, once that is known."""
    with way(takes_too_long, behaviour=places_once) as (server, client):
        async with open_store(url_for("sqlite", tmp_path)) as store, client:
            queue = await enqueued(store, CALLS)
            with anyio.fail_after(LONGEST):
                await worker_for(store, client, concurrency=2, rate=rate).drain()
            assert await states(queue) == {"accepted": CALLS}
            entries = sum(job.post_count for job in await queue.find(limit=None))
        assert len(server.posts) == CALLS
        assert entries <= 3 * CALLS, "calls were journalled in vain, again and again"


@either_loop
async def test_where_httpx_takes_too_long_to_connect_nothing_is_sent_and_the_service_counts_as_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transports, "LEFT_WITHIN", WITHIN)
    with httpx_pool(takes_too_long) as (server, client):
        async with client:
            until = datetime.now(UTC) + timedelta(hours=1)
            placement = Placement(body='{"callflow":[]}', client_request_id="default.1.1", valid_until=until)
            verdict = await client.place(placement, progress=PostProgress(), now=datetime.now(UTC))
            assert verdict.is_outage
            assert "ConnectTimeout" in verdict.message
        assert server.posts == []


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["sqlite", "redis"])
@pytest.mark.parametrize("rate", [None, 50])
async def test_no_call_leaves_while_nobody_answers_its_syns_nor_when_somebody_does_at_last(
    fresh_url: Callable[[str], str], backend: str, rate: float | None
) -> None:
    """The queue of connections of the server is full for eight seconds; a hold and a resume come in between."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        knocking = [socket.socket() for _ in range(4)]
        for each in knocking:
            each.setblocking(False)
            each.connect_ex(listening.getsockname())
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with (
            open_store(fresh_url(backend)) as store,
            VoiceClient("key", "sub", base_url=url) as client,
            anyio.create_task_group() as group,
        ):
            queue = await enqueued(store, CALLS)
            worker = worker_for(store, client, rate=rate)
            group.start_soon(worker.run)
            await until(lambda: worker.in_flight > 0)
            began = time.monotonic()
            await queue.hold(reason="lunch")
            assert time.monotonic() - began < WITHIN  # no call is sending: it is connecting
            await anyio.sleep(8)  # the SYNs stay unanswered
            for each in knocking:
                each.close()
            with MisbehavingServer(places, listening=listening) as server:
                await until(lambda: worker.in_flight == 0)
                await anyio.sleep(4)  # the kernel sends a SYN again, seconds later
                assert server.posts == []
                await queue.resume()
                await until(lambda: _are(queue, {"accepted": CALLS}))
                worker.stop()
                assert len(server.posts) == CALLS
