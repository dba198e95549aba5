"""The connections of a server: a request that does not end holds none for long, and keeps no other client waiting."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from voiceflow_worker.asgi import time_limits


class Connections(ServerState):
    """The connections of one server, at `most` so many. One without a whole request may be ended to make room.

    `unfinished` are those whose request has begun, or has never begun; `idle` are those that wait for the next request.
    Each has the oldest first.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self.unfinished: OrderedDict[Connection, None] = OrderedDict()
        self.idle: OrderedDict[Connection, None] = OrderedDict()

    def make_room(self) -> None:
        """End the oldest connections without a whole request, until there are fewer than `most`."""
        while len(self.connections) >= self._most and (waiting := self.unfinished or self.idle):
            next(iter(waiting)).end()


class Connection(HttpToolsProtocol):
    """One connection to a client."""

    _head_late: asyncio.TimerHandle | None = None

    @property
    def _all(self) -> Connections:
        return cast("Connections", self.server_state)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self._all.make_room()
        self._note()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._note()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._note(begins=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def end(self) -> None:
        """End the connection at once, whatever has not been sent yet."""
        self._forget()
        self.connections.discard(self)  # it is gone before the loop has closed it, so the next one has its place
        self.transport.abort()

    def _note(self, *, begins: bool = True) -> None:
        """Note what the connection waits for. `begins`: a request that has not ended has begun."""
        cycle, places = cast("RequestResponseCycle | None", self.cycle), self._all
        has_head = cycle is not None and not cycle.response_complete
        if self.transport.is_closing() or self.pipeline or (has_head and not self.cycle.more_body):
            self._forget()
        elif has_head:
            self._stop_clock()
            places.unfinished[self] = None
        elif begins:
            places.idle.pop(self, None)
            places.unfinished[self] = None
            if self._head_late is None:
                self._head_late = self.loop.call_later(time_limits.HEAD.total_seconds(), self.end)
        else:
            places.idle[self] = None

    def _forget(self) -> None:
        self._stop_clock()
        self._all.unfinished.pop(self, None)
        self._all.idle.pop(self, None)

    def _stop_clock(self) -> None:
        if self._head_late is not None:
            self._head_late.cancel()
            self._head_late = None
