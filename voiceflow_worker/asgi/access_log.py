"""A line of the log for each request, where somebody asks for it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote

import structlog

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = structlog.get_logger("voiceflow.access")
_NUMBER = re.compile(r"\+?[\d\s().-]{7,}")
"""A part of a path that is a telephone number, such as that of /v1/suppression."""


class AccessLog:
    """An ASGI app that logs each HTTP request to the `app` within: who asked, for what, the answer, how long it took.

    The line has no query and no phone number. `sender` names the address that asked.
    """

    def __init__(self, app: ASGIApp, *, sender: Callable[[Scope], object]) -> None:
        self._app = app
        self._sender = sender

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, and log it when its answer has been sent, or could not be."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        status: int | None = None

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            sender = self._sender(scope)
            _log.info(
                "request",
                sender=None if sender is None else str(sender),
                method=scope["method"],
                path=shown_path(scope["path"]),
                status=status,
                ms=round((time.monotonic() - began) * 1000, 1),
            )


def shown_path(path: str) -> str:
    """A path for the log: a part of it that is a phone number is left out."""
    return "/".join("…" if _NUMBER.fullmatch(unquote(part)) else part for part in path.split("/"))
