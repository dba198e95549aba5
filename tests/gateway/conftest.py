"""The transports on which every row of the verdict table is tried."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.gateway.misbehaving import CERTIFICATE
from voiceflow_worker.core.ports import Placement
from voiceflow_worker.gateway.client import VoiceClient

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


def placement(*, body: str = BODY, valid_for: float = 120.0) -> Placement:
    """A call that is ready to leave."""
    return Placement(
        body=body,
        client_request_id="default.01ARZ3NDEKTSV4RRFFQ69G5FAV.1",
        valid_until=NOW + timedelta(seconds=valid_for),
    )
