"""A TCP proxy that loses answers: what was asked is done, and nobody hears of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.abc import SocketAttribute, SocketStream, TaskStatus

GONE = (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError)


class CuttingProxy:
    """Run before a server; `cut_answer_to(text)` loses the answer to the next request that holds the text.

    From when it `withholds` them on, no answer comes any more, and the connections stay.
    """

    def __init__(self, port: int) -> None:
        self._server = port
        self.withholds = False
        self._cut_at: bytes | None = None
        self.port = 0
        self.cut = 0
        self.requests: list[bytes] = []
        self._connections: set[anyio.CancelScope] = set()

    def cut_answer_to(self, text: bytes) -> None:
        """Close the connection in place of the next answer to a request with this text."""
        self._cut_at = text

    def lead_to(self, port: int) -> None:
        """Lead all clients to another server, as an address does that is moved after a failover."""
        self._server = port
        self.close_all()

    def close_all(self) -> None:
        """Close all connections; new ones work."""
        for scope in list(self._connections):
            scope.cancel()

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[CuttingProxy]:
        """Accept connections on a port of its own."""
        async with anyio.create_task_group() as group:
            await group.start(self._serve)
            yield self
            group.cancel_scope.cancel()

    async def _serve(self, *, task_status: TaskStatus[None]) -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self.port = listener.extra(SocketAttribute.local_port)
        task_status.started()
        async with listener:
            await listener.serve(self._handle)

    async def _handle(self, client: SocketStream) -> None:
        async with client:
            with suppress(OSError):  # the server is away
                await self._between(client, await anyio.connect_tcp("127.0.0.1", self._server))

    async def _between(self, client: SocketStream, server: SocketStream) -> None:
        async with server:
            async with anyio.create_task_group() as group:
                self._connections.add(group.cancel_scope)
                cutting = anyio.Event()
                group.start_soon(self._requests, client, server, cutting, group.cancel_scope)
                await self._answers(client, server, cutting)
                group.cancel_scope.cancel()
            self._connections.discard(group.cancel_scope)

    async def _requests(
        self, client: SocketStream, server: SocketStream, cutting: anyio.Event, scope: anyio.CancelScope
    ) -> None:
        try:
            while True:
                request = await client.receive()
                self.requests.append(request)
                if self._cut_at is not None and self._cut_at in request:
                    self._cut_at = None
                    cutting.set()
                await server.send(request)
        except GONE:
            scope.cancel()

    async def _answers(self, client: SocketStream, server: SocketStream, cutting: anyio.Event) -> None:
        try:
            while True:
                answer = await server.receive()
                if cutting.is_set():
                    self.cut += 1
                    return
                if not self.withholds:
                    await client.send(answer)
        except GONE:
            pass
