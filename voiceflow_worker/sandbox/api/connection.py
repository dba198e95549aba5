"""The socket of a request, for faults of the connection: resets, cuts, and bytes that are not HTTP."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, cast

from starlette.types import Receive, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from voiceflow_worker.sandbox.orders.faults import Fault

IN_STATE = "sandbox.connection"
_LINGER_NOT = struct.pack("ii", 1, 0)


class ServiceConnection:
    """One TCP connection of a client."""

    __slots__ = ("_transport", "surplus")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.surplus: Fault | None = None
        """The order for a surplus answer, which is sent before the answer to the next request."""

    def write(self, data: bytes) -> None:
        """Send these bytes unchanged, without the HTTP server."""
        self._transport.write(data)

    def reset(self) -> None:
        """End the connection with a TCP reset, so that the client's next read fails."""
        # With SO_LINGER at 0, close() discards unsent bytes and sends RST instead of FIN (socket(7)).
        opened = self._transport.get_extra_info("socket")
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self._transport.abort()

    def close(self) -> None:
        """End the connection with a TCP FIN: the client reads all written bytes, then the end of the stream."""
        self._transport.close()


class ConnectionTellingProtocol(H11Protocol):
    """uvicorn's HTTP protocol, which also puts the connection into the state of each request's scope."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Put the connection into the `state` of the scope of each of its requests."""
        transport = cast("asyncio.Transport", transport)
        super().connection_made(transport)
        self.app_state: dict[str, Any] = {**self.app_state, IN_STATE: ServiceConnection(transport)}


def connection_of(scope: Scope) -> ServiceConnection:
    """Return the connection of a request.

    Raises ConnectionResetError if the server or the client of the request has no socket.
    """
    connection = scope.get("state", {}).get(IN_STATE)
    if not isinstance(connection, ServiceConnection):
        raise ConnectionResetError(
            "this fault acts on the connection of the request, which this server hides; use Sandbox.running()"
        )
    return connection


async def until_disconnected(receive: Receive) -> None:
    """Wait until the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass
