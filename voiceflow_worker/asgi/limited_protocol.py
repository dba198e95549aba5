"""uvicorn's HTTP protocols, with a limit on connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from voiceflow_worker.asgi.connections import ClientConnection, ConnectionLimiter

    class _Uvicorn(asyncio.Protocol):
        """The interface that uvicorn's HTTP protocols share. uvicorn has no base class for it."""

        timeout_keep_alive_task: asyncio.TimerHandle | None

        def on_response_complete(self) -> None:
            """Called when an answer was written in full."""

else:
    _Uvicorn = object


def limited_protocol(protocol: type[asyncio.Protocol], limiter: ConnectionLimiter) -> type[asyncio.Protocol]:
    """A subclass of `protocol` that reports its connections to `limiter`."""
    return cast("type[asyncio.Protocol]", type(protocol.__name__, (_LimitedProtocol, protocol), {"limiter": limiter}))


class _LimitedProtocol(_Uvicorn):
    limiter: ConnectionLimiter
    client_connection: ClientConnection | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.client_connection = self.limiter.connected(self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.client_connection is not None:
            self.limiter.received(self.client_connection)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.client_connection is not None:
            self.limiter.answered(self.client_connection)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            # uvicorn leaves the timer of a connection that was reset, and the timer kept all of it in memory for 5 s.
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None
        if self.client_connection is not None:
            self.limiter.disconnected(self.client_connection)
            self.client_connection = None
