"""The transports on which every row of the verdict table is tried."""

from __future__ import annotations

import math
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest

from tests.gateway.misbehaving import CERTIFICATE, LONGEST, Behaviour, MisbehavingServer
from voiceflow_worker.core.ports import Placement
from voiceflow_worker.gateway.client import VoiceClient
from voiceflow_worker.gateway.network import Network
from voiceflow_worker.gateway.rest import RestClient
from voiceflow_worker.gateway.wire import Wire
from voiceflow_worker.model.reports.verdict import BeforeFirstByte, Departure, Verdict

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
TRUSTING_CERTIFI = httpx.create_ssl_context(trust_env=False)
BODY = (
    '{"callflow":[{"action":"makeCall","params":{"source":"+6531234567","destination":"+6587654321"}},'
    '{"action":"say","params":{"text":"Your order is ready.","voiceProfile":"en-IE-EmilyNeural"}}]}'
)


class Stranger(httpx.AsyncBaseTransport):
    """A transport that the gateway does not know: whatever it is made of, its errors prove nothing."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self.inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self.inner.aclose()


@dataclass(frozen=True)
class Kind:
    """One transport on one event loop. `tells`: its errors of connecting prove that nothing left."""

    name: str
    backend: str
    make: Callable[..., httpx.AsyncBaseTransport] | None
    tells: bool = True

    def client(
        self,
        url: str,
        *,
        connect: float = 20.0,
        read: float = 20.0,
        concurrency: int = 10,
        trust: ssl.SSLContext | None = None,
        proxy: str | None = None,
        **options: Any,
    ) -> VoiceClient:
        """A client over this transport; its times are long unless a test is about them."""
        if self.make is None:
            options |= {"ssl_context": trust, "proxy": proxy, "concurrency": concurrency}
        else:
            options["transport"] = self.make(
                verify=trust or TRUSTING_CERTIFI,
                trust_env=False,
                proxy=None if proxy is None else httpx.Proxy(proxy),
                limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
            )
        return VoiceClient(
            "secret-key-1",
            "sub_account",
            base_url=url,
            connect_timeout=timedelta(seconds=connect),
            read_timeout=timedelta(seconds=read),
            allow_plain_http=True,
            **options,
        )


def stranger(**options: Any) -> httpx.AsyncBaseTransport:
    return Stranger(httpx.AsyncHTTPTransport(**options))


OURS = Kind("default", "asyncio", None)
"""Our own connections, which are kept."""
KINDS = (
    OURS,
    Kind("pool", "asyncio", httpx.AsyncHTTPTransport),
    Kind("unknown", "asyncio", stranger, tells=False),
)


def named(kind: Kind) -> str:
    return f"{kind.name}-{kind.backend}"


trio_too = pytest.mark.parametrize("kind", [*KINDS, Kind("default", "trio", None)], ids=named)
"""For time limits, cancellation and kept connections: httpx's pool on trio, which the client takes there, as well."""


@pytest.fixture(params=KINDS, ids=named)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each transport in turn."""
    chosen: Kind = request.param
    return chosen


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The event loop of the transport, where a test has one; else asyncio."""
    kind: Kind | None = request.getfixturevalue("kind") if "kind" in request.fixturenames else None
    return kind.backend if kind is not None else "asyncio"


@pytest.fixture(scope="session")
def trusting() -> ssl.SSLContext:
    """Trusts the certificate of the misbehaving server."""
    return ssl.create_default_context(cafile=CERTIFICATE)


def placement(*, body: str = BODY, valid_for: float = 120.0, call: int = 1) -> Placement:
    """A call that is ready to leave."""
    until = NOW + timedelta(seconds=valid_for)
    return Placement(body=body, client_request_id=f"default.01ARZ3NDEKTSV4RRFFQ69G5FAV.{call}", valid_until=until)


class Before:
    """The step before the first byte. It counts how often it was taken."""

    def __init__(self) -> None:
        self.taken = 0

    async def __call__(self) -> Departure:
        self.taken += 1
        return Departure(NOW, math.inf)


async def place(
    client: VoiceClient, *, before: BeforeFirstByte | None = None, body: str = BODY, call: int = 1
) -> Verdict:
    """Place one call."""
    return await client.place(placement(body=body, call=call), before_first_byte=before or Before())


async def posted(
    kind: Kind, behaviour: Behaviour, count: int = 1, *, tls: bool = False, body: str = BODY,
    before: BeforeFirstByte | None = None, **options: Any,
) -> tuple[MisbehavingServer, list[Verdict]]:  # fmt: skip
    """The verdicts of calls that are placed one after the other where a server behaves so, and that server."""
    trust = ssl.create_default_context(cafile=CERTIFICATE) if tls else None
    with MisbehavingServer(behaviour, tls=tls) as server:
        async with kind.client(server.url, trust=trust, **options) as client:
            verdicts = [await place(client, body=body, before=before, call=call) for call in range(1, count + 1)]
    return server, verdicts


Said = httpx.Response | Exception


@dataclass
class StandIn:
    """Answers requests with what it is given, the last for ever, and keeps what it was asked and how it slept."""

    requests: list[httpx.Request] = field(default_factory=list)
    naps: list[float] = field(default_factory=list)

    def answers_to(self, request: httpx.Request, /) -> list[Said]:
        """The answers that are left for such a request."""
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        left = self.answers_to(request)
        given = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(given, Exception):
            raise given
        return httpx.Response(given.status_code, content=given.content, headers=given.headers)

    def rest(self, base_url: str, sub_account: str, *, tries: int, longest_pause: timedelta) -> RestClient:
        """The client of the rest of the API that asks it."""
        wire, seconds = Wire("secret-key-1", sub_account, base_url=base_url), timedelta(seconds=5)
        return RestClient(
            httpx.MockTransport(self.handle), wire, network=Network(), timeouts={}, deadline=seconds, tries=tries,
            longest_pause=longest_pause, sleep=self.sleep,
        )  # fmt: skip


async def happened(event: threading.Event) -> None:
    """Wait for what a thread of a server tells."""
    assert await anyio.to_thread.run_sync(event.wait, LONGEST)
