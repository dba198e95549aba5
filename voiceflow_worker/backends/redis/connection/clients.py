"""Clients of coredis, set up for this store: no retries of their own, time limits, keep-alive."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from anyio import TASK_STATUS_IGNORED
from anyio.abc import TaskStatus
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from coredis import Redis, RedisCluster
from coredis.client import Sentinel
from coredis.connection import BaseConnectionParams, ClusterConnection, TCPConnection, TCPLocation
from coredis.pool import ClusterConnectionPool, ConnectionPool
from coredis.retry import NoRetryPolicy
from coredis.typing import Unpack

from voiceflow_worker.backends.redis.connection.url import RedisURL, Topology

Client = Redis[str] | RedisCluster[str]

CONNECT_TIMEOUT = 2.0
ANSWER_TIMEOUT = 5.0
"""Seconds to wait for an answer. The slowest script that may run, an enqueue of 20,000 jobs, takes about 1.5 s."""
_KEEPALIVE = {
    option: seconds
    for name, seconds in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
    if (option := getattr(socket, name, None)) is not None
}


class _Connection(TCPConnection):
    """A connection with TCP keep-alive, which notices that the other end is gone."""

    def __init__(self, location: TCPLocation, **options: Unpack[BaseConnectionParams]) -> None:
        super().__init__(location, socket_keepalive=True, socket_keepalive_options=dict(_KEEPALIVE), **options)

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        """Run as the driver does, and close what it leaves open where the connection was refused."""
        try:
            await super().run(task_status=task_status)
        finally:
            _close(vars(self).values())

    def __del__(self) -> None:
        _close(vars(self).values())  # of one that was cancelled before it ran


class _ClusterConnection(ClusterConnection):
    """The same to a node of a cluster."""

    def __init__(self, location: TCPLocation, **options: Any) -> None:
        options |= {"socket_keepalive": True, "socket_keepalive_options": dict(_KEEPALIVE)}
        super().__init__(location, **options)

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        """Run as the driver does, and close what it leaves open where the connection was refused."""
        try:
            await super().run(task_status=task_status)
        finally:
            _close(vars(self).values())

    def __del__(self) -> None:
        _close(vars(self).values())  # of one that was cancelled before it ran


def _close(values: Iterable[object]) -> None:
    """Close the in-process streams among these. The driver leaves them open and warns about it."""
    for value in values:
        if isinstance(value, (MemoryObjectSendStream, MemoryObjectReceiveStream)):
            value.close()


@asynccontextmanager
async def opened(url: RedisURL) -> AsyncGenerator[Client]:
    """A client of the server, the cluster, or the primary that the sentinels name now.

    Nothing is retried by the client: after a lost answer it would find its own write and call it somebody else's.
    """
    match url.topology:
        case Topology.STANDALONE:
            host, port = url.nodes[0]
            async with _standalone(url, TCPLocation(host, port)) as client:
                yield client
        case Topology.SENTINEL:
            async with _standalone(url, await primary(url)) as client:
                yield client
        case Topology.CLUSTER:
            cluster = _cluster(url)
            try:
                async with cluster as client:
                    yield client
            finally:
                _close(getattr(cluster.connection_pool.cluster_layout, "_error_stream", ()))


async def primary(url: RedisURL) -> TCPLocation:
    """Where the primary of the service is, by the first sentinel that knows."""
    async with AsyncExitStack() as stack:
        sentinel: Sentinel[str] = Sentinel(
            [TCPLocation(host, port) for host, port in url.nodes],
            sentinel_kwargs={
                "connect_timeout": CONNECT_TIMEOUT,
                "stream_timeout": CONNECT_TIMEOUT,
                "username": url.sentinel_username,
                "password": url.sentinel_password,
                "ssl_context": url.tls,
            },
            decode_responses=True,
            retry_policy=NoRetryPolicy(),
        )
        await stack.enter_async_context(sentinel)
        host, port = await sentinel.discover_primary(url.service or "")
        return TCPLocation(host, port)


def _standalone(url: RedisURL, location: TCPLocation) -> Redis[str]:
    pool = ConnectionPool[_Connection](
        connection_class=_Connection,
        location=location,
        timeout=ANSWER_TIMEOUT,
        **_options(url),
    )
    return Redis(connection_pool=pool, decode_responses=True, retry_policy=NoRetryPolicy())


def _cluster(url: RedisURL) -> RedisCluster[str]:
    pool = ClusterConnectionPool(
        [TCPLocation(host, port) for host, port in url.nodes],
        connection_class=_ClusterConnection,
        timeout=ANSWER_TIMEOUT,
        # Asks nodes for CONFIG, which managed clusters forbid; a slot that is not covered says so when it is used.
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
        "client_name": "voiceflow-worker",
        "db": url.database,
    }
