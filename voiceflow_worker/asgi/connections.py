"""The connections of a server: a request that does not end holds none for long, and keeps no other client waiting."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from voiceflow_worker.asgi import limits

JUST_NOW = 1.0
"""Seconds for which a new connection is ended after idle ones alone: its first bytes may not have been read yet."""


class Connections(ServerState):
    """The connections of one server, at `most` so many. One without a whole request may be ended to make room.

    `unfinished` are those whose request has begun, or has never begun; `idle` are those that wait for the next request.
    Each has the oldest first.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self.unfinished: OrderedDict[Connection, float] = OrderedDict()
        self.idle: OrderedDict[Connection, None] = OrderedDict()

    def make_room(self) -> None:
        """End connections until there are fewer than `most`: the oldest without a whole request, then the idle ones.

        One that was made just now has not been read yet, and goes last.
        """
        while len(self.connections) >= self._most and (self.unfinished or self.idle):
            oldest, since = next(iter(self.unfinished.items()), (None, 0.0))
            if oldest is None or (self.idle and oldest.loop.time() - since < JUST_NOW):
                oldest = next(iter(self.idle))
            oldest.end()


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
            places.unfinished.setdefault(self, self.loop.time())
        elif begins:
            places.idle.pop(self, None)
            places.unfinished.setdefault(self, self.loop.time())
            if self._head_late is None:
                self._head_late = self.loop.call_later(limits.HEAD.total_seconds(), self.end)
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
