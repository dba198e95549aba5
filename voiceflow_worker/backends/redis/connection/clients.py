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
from coredis import Redis
from coredis.connection import BaseConnectionParams, TCPConnection, TCPLocation
from coredis.exceptions import ConnectionError as DriverConnectionError
from coredis.exceptions import PrimaryNotFoundError
from coredis.pool import ConnectionPool
from coredis.retry import NoRetryPolicy

from voiceflow_worker.backends.redis.connection.url import RedisURL, Topology

Client = Redis[str]


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


def _close(values: Iterable[object]) -> None:
    """Close the in-process streams among these values. The driver leaves them open, and then warns about them."""
    for value in values:
        if isinstance(value, (MemoryObjectSendStream, MemoryObjectReceiveStream)):
            value.close()


@asynccontextmanager
async def opened(url: RedisURL, location: TCPLocation, check: Check) -> AsyncGenerator[Client]:
    """A context with a client of the server at this location, which is checked at once.

    Later the client checks each new connection. It does not retry: after a lost answer, the caller decides whether the
    request may be repeated.
    """
    options: BaseConnectionParams = {**_options(url), "client_name": NAME, "db": url.database}
    async with _client(location, options, ANSWER_TIMEOUT, check) as client:
        async with client.connection_pool.acquire():
            pass
        yield client


async def primary(url: RedisURL, learnt: set[tuple[str, int]] | None = None) -> TCPLocation:
    """The address of the server that has the store: as the URL says, or as a sentinel or a node of a cluster says now.

    Nodes of the cluster that are not in the URL are added to `learnt`, and asked too. Raises PrimaryNotFoundError if
    nobody who answers knows the primary.
    """
    if url.topology is Topology.STANDALONE:
        return TCPLocation(*url.nodes[0])
    named = _named_by_cluster if url.topology is Topology.CLUSTER else _named_by_sentinel
    learnt = set() if learnt is None else learnt
    for node in dict.fromkeys((*url.nodes, *learnt)):
        async with _client(TCPLocation(*node), _options(url, short=True), CONNECT_TIMEOUT) as client:
            with suppress(DriverConnectionError, TimeoutError):
                if found := await named(client, url, node, learnt):
                    return TCPLocation(*found)
    await checkpoint_if_cancelled()  # a cancelled handshake gives an error of the driver, which was suppressed above
    what = "the service" if url.topology is Topology.SENTINEL else "the keys of the store"
    raise PrimaryNotFoundError(f"nobody knows a primary of {what} {url.service or url.root!r}")


async def _named_by_sentinel(
    client: Client, url: RedisURL, node: tuple[str, int], learnt: set[tuple[str, int]]
) -> tuple[str, int] | None:
    del node, learnt
    return await client.sentinel_get_master_addr_by_name(url.service or "")


async def _named_by_cluster(
    client: Client, url: RedisURL, node: tuple[str, int], learnt: set[tuple[str, int]]
) -> tuple[str, int] | None:
    """The node that has the slot of the store. A node that is cut off from most others does not know."""
    if (await client.cluster_info()).get("cluster_state") != "ok":
        return None
    slot = await client.cluster_keyslot(url.root)
    found: tuple[str, int] | None = None
    for (first, last), nodes in (await client.cluster_slots()).items():
        # A node that does not know its own name is at the address at which it was asked.
        places = [(each["host"] or node[0], each["port"]) for each in nodes]
        learnt.update(places)
        if first <= slot <= last and places:
            found = places[0]
    return found


def _client(
    location: TCPLocation, options: BaseConnectionParams, timeout: float, check: Check | None = None
) -> Redis[str]:
    """A client of one server. `timeout` limits the wait for a free connection of the pool, in seconds."""
    pool = ConnectionPool[_Connection](connection_class=_Connection, location=location, timeout=timeout, **options)
    cast("dict[str, Any]", pool.connection_kwargs)["check"] = check
    return Redis(connection_pool=pool, decode_responses=True, retry_policy=NoRetryPolicy())


def _options(url: RedisURL, *, short: bool = False) -> BaseConnectionParams:
    """The options of a connection; `short` for one question to a sentinel or to a node of the cluster."""
    is_sentinel = short and url.topology is Topology.SENTINEL
    return {
        "connect_timeout": CONNECT_TIMEOUT,
        "stream_timeout": CONNECT_TIMEOUT if short else ANSWER_TIMEOUT,
        "decode_responses": True,
        "username": url.sentinel_username if is_sentinel else url.username,
        "password": url.sentinel_password if is_sentinel else url.password,
        "ssl_context": url.tls,
    }
