"""uvicorn's HTTP protocols, telling the door what becomes of each connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from voiceflow_worker.asgi.door import Door, Guest

    class _Uvicorn(asyncio.Protocol):
        """What uvicorn's protocols have in common; they have no base of their own."""

        def on_response_complete(self) -> None:
            """An answer was written in full."""

else:
    _Uvicorn = object


def guarded(protocol: type[asyncio.Protocol], door: Door) -> type[asyncio.Protocol]:
    """The protocol for connections that `door` counts."""
    return cast("type[asyncio.Protocol]", type(protocol.__name__, (_Telling, protocol), {"door": door}))


class _Telling(_Uvicorn):
    door: Door
    guest: Guest | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.guest = self.door.enter(self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.guest is not None:
            self.door.heard(self.guest)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.guest is not None:
            self.door.answered(self.guest)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.guest is not None:
            self.door.leave(self.guest)
            self.guest = None
