"""uvicorn's HTTP protocols, telling the door what becomes of each connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from voiceflow_worker.asgi.door import Door, Guest


def guarded(protocol: type[asyncio.Protocol], door: Door) -> type[asyncio.Protocol]:
    """The protocol for connections that `door` counts."""
    return cast("type[asyncio.Protocol]", type(protocol.__name__, (_telling(protocol),), {"door": door}))


def _telling(protocol: Any) -> type:
    class Telling(protocol):  # type: ignore[misc]  # uvicorn's two protocols have no base in common
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

        def connection_lost(self, error: Exception | None) -> None:
            super().connection_lost(error)
            if self.guest is not None:
                self.door.leave(self.guest)
                self.guest = None

    return Telling
