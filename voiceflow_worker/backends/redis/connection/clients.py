"""Clients of coredis for this store, with timeouts and TCP keep-alive, and without retries."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol, cast

from anyio import TASK_STATUS_IGNORED
from anyio.abc import TaskStatus
from anyio.lowlevel import checkpoint_if_cancelled
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from coredis import Redis, RedisCluster
from coredis.connection import BaseConnectionParams, ClusterConnection, TCPConnection, TCPLocation
from coredis.exceptions import ConnectionError as DriverConnectionError
from coredis.exceptions import PrimaryNotFoundError
from coredis.pool import ClusterConnectionPool, ConnectionPool
from coredis.retry import NoRetryPolicy

from voiceflow_worker.backends.redis.connection.url import RedisURL, Topology

Client = Redis[str] | RedisCluster[str]


class Connection(Protocol):
    """One connection to one server: a connection of coredis, or a `ScriptLine`."""

    def create_request(self, command: bytes, *args: Any) -> Awaitable[Any]:
        """Send a command, and return an awaitable for its answer."""
        ...


Check = Callable[[Connection], Awaitable[None]]
"""A check of a new connection, before its first use. If it raises an error, the connection is closed."""

NAME = "voiceflow-worker"
CONNECT_TIMEOUT = 2.0
ANSWER_TIMEOUT = 5.0
"""Seconds to wait for an answer. The slowest script, an enqueue of 20,000 jobs, takes about 1.5 s."""
_KEEPALIVE = {
    option: seconds
    for name, seconds in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
    if (option := getattr(socket, name, None)) is not None
}


def keep_alive(connection: socket.socket) -> None:
    """Turn on TCP keep-alive, by which a connection notices that the other end is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, seconds in _KEEPALIVE.items():
        connection.setsockopt(socket.IPPROTO_TCP, option, seconds)


class _Connection(TCPConnection):
    """A connection that notices a dead server, by TCP keep-alive, and is checked before its first use."""

    def __init__(self, location: TCPLocation, *, check: Check | None = None, **options: Any) -> None:
        super().__init__(location, socket_keepalive=True, socket_keepalive_options=dict(_KEEPALIVE), **options)
        if check is not None:
            self.register_connect_callback(check)

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        """Run as the driver does, and close the streams that the driver leaves open after a refused connection."""
        try:
            await super().run(task_status=task_status)
        finally:
            _close(vars(self).values())

    def __del__(self) -> None:
        _close(vars(self).values())  # `run` was perhaps cancelled before it began


class _ClusterConnection(_Connection, ClusterConnection):
    """A connection with TCP keep-alive to a node of a cluster."""


def _close(values: Iterable[object]) -> None:
    """Close the in-process streams among these values. The driver leaves them open, and then warns about them."""
    for value in values:
        if isinstance(value, (MemoryObjectSendStream, MemoryObjectReceiveStream)):
            value.close()


@asynccontextmanager
async def opened(url: RedisURL, check: Check) -> AsyncGenerator[Client]:
    """A context with a client of the server, of the cluster, or of the primary that the sentinels name now.

    The server, or each primary of the cluster, is checked at once. Later the client checks each new connection.
    The client does not retry. After a lost answer, the caller decides whether the request may be repeated.
    """
    if url.topology is Topology.CLUSTER:
        cluster = _cluster(url)
        try:
            async with cluster:
                pool = cluster.connection_pool
                _have_checked(pool, check)
                for node in pool.cluster_layout.primaries:
                    async with pool.acquire(node=node):
                        pass
                yield cluster
        finally:
            _close(getattr(cluster.connection_pool.cluster_layout, "_error_stream", ()))
    else:
        location = await primary(url) if url.topology is Topology.SENTINEL else TCPLocation(*url.nodes[0])
        async with _client(location, _options(url), ANSWER_TIMEOUT, check) as client:
            async with client.connection_pool.acquire():
                pass
            yield client


async def primary(url: RedisURL) -> TCPLocation:
    """The address of the service's primary, from the first sentinel that knows it.

    Raises PrimaryNotFoundError if no sentinel that answers knows the service.
    """
    options: BaseConnectionParams = {
        "connect_timeout": CONNECT_TIMEOUT,
        "stream_timeout": CONNECT_TIMEOUT,
        "decode_responses": True,
        "username": url.sentinel_username,
        "password": url.sentinel_password,
        "ssl_context": url.tls,
    }
    for node in url.nodes:
        async with _client(TCPLocation(*node), options, CONNECT_TIMEOUT) as sentinel:
            with suppress(DriverConnectionError, TimeoutError):
                if found := await sentinel.sentinel_get_master_addr_by_name(url.service or ""):
                    return TCPLocation(*found)
    await checkpoint_if_cancelled()  # a cancelled handshake gives an error of the driver, which was suppressed above
    raise PrimaryNotFoundError(f"no sentinel knows a primary of the service {url.service!r}")


def _client(
    location: TCPLocation, options: BaseConnectionParams, timeout: float, check: Check | None = None
) -> Redis[str]:
    """A client of one server. `timeout` limits the wait for a free connection of the pool, in seconds."""
    pool = ConnectionPool[_Connection](connection_class=_Connection, location=location, timeout=timeout, **options)
    _have_checked(pool, check)
    return Redis(connection_pool=pool, decode_responses=True, retry_policy=NoRetryPolicy())


def _have_checked(pool: ConnectionPool[Any] | ClusterConnectionPool, check: Check | None) -> None:
    """Have each new connection of the pool checked. The pool of a cluster gives its options to discovery too."""
    cast("dict[str, Any]", pool.connection_kwargs)["check"] = check


def _cluster(url: RedisURL) -> RedisCluster[str]:
    pool = ClusterConnectionPool(
        [TCPLocation(*node) for node in url.nodes],
        connection_class=_ClusterConnection,
        timeout=ANSWER_TIMEOUT,
        # The full check would need CONFIG, which managed clusters forbid. An uncovered slot gives an error when used.
        skip_full_coverage_check=True,
        max_connections_per_node=True,
        **_options(url),
    )
    return RedisCluster(connection_pool=pool, decode_responses=True, retry_policy=NoRetryPolicy())


def _options(url: RedisURL) -> BaseConnectionParams:
    return {
        "connect_timeout": CONNECT_TIMEOUT,
        "stream_timeout": ANSWER_TIMEOUT,
        "decode_responses": True,
        "username": url.username,
        "password": url.password,
        "ssl_context": url.tls,
        "client_name": NAME,
        "db": url.database,
    }
