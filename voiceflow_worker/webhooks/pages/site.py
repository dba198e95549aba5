"""The pages below `/ui` as an ASGI app: who may look, which route answers, and the headers of every answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

import anyio
import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import StoreError
from voiceflow_worker.webhooks.pages.basic_auth import CHALLENGE, BasicAuth
from voiceflow_worker.webhooks.pages.live import LiveParts
from voiceflow_worker.webhooks.pages.rendering import PageRenderer
from voiceflow_worker.webhooks.pages.routes.page import Answer, PageRequest, problem, read_request
from voiceflow_worker.webhooks.pages.routes.table import reading_route
from voiceflow_worker.webhooks.pages.static_files import FOLDER, StaticFiles

_log = structlog.get_logger("voiceflow.webhooks")

STORE_LIMIT = timedelta(seconds=10)
LIVE = b"x-voiceflow-live"
"""The header with which the script asks for the live part of a page; its value is the tag of the part it has."""
_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Pages:
    """An ASGI endpoint for `/ui` and `/ui/{rest:path}`. `secret` is the password, with any user name.

    The store has `store_limit` for a page. `clock` gives seconds that never jump: by default those of the store.
    Raises SettingsError for an empty secret.
    """

    def __init__(
        self,
        store: Store,
        *,
        secret: str,
        store_limit: timedelta = STORE_LIMIT,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._store = store
        self._auth = BasicAuth(secret)
        self._static = StaticFiles()
        self._renderer = PageRenderer(static_version=self._static.version)
        self._live = LiveParts(store.clock.monotonic if clock is None else clock)
        self._store_limit = store_limit.total_seconds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        answer = await self._answer(scope)
        for name, value in _HEADERS.items():
            answer.headers.setdefault(name, value)
        if scope["method"] == "HEAD":
            answer.body = b""
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope) -> Response:
        asked = read_request(scope)
        reads = scope["method"] in {"GET", "HEAD"}
        if reads and asked.room == FOLDER:
            file = self._static.answer(asked.name, version=asked.query.get("v"))
            if file is not None:
                return file
        if not self._auth.allows(scope["headers"]):
            what = "Type the secret of the pages (VOICEFLOW_UI_SECRET) as the password; any user name will do."
            return self._drawn(problem(401, "Sign in", what), asked, headers={"WWW-Authenticate": CHALLENGE})
        if not reads:
            what = "These pages are read-only."
            return self._drawn(problem(405, "Read-only", what), asked, headers={"Allow": "GET, HEAD"})
        try:
            with anyio.fail_after(self._store_limit):
                return await self._looked_up(asked, tag=dict(scope["headers"]).get(LIVE))
        except StoreError as error:
            _log.warning("a page could not be shown", error=str(error))
        except TimeoutError:
            _log.warning("a page could not be shown", error=f"the store took longer than {self._store_limit:g} s")
        except Exception:  # noqa: BLE001 - whatever it is, the answer must have the headers of the others
            _log.exception("a page could not be shown")
            return self._drawn(problem(500, "This page failed", "See the log of the receiver."), asked)
        what = "No call was changed. Try again in a moment."
        return self._drawn(problem(503, "The store is not available", what), asked)

    async def _looked_up(self, asked: PageRequest, *, tag: bytes | None) -> Response:
        route = reading_route(asked)
        if route is None:
            return self._drawn(problem(404, "No such page", "The links of the navigation lead to all pages."), asked)
        if tag is None:
            return self._drawn(await route(self._store, asked), asked)

        async def make() -> bytes | None:
            page = await route(self._store, replace(asked, is_poll=True))
            if isinstance(page, Response) or not page.is_live:
                return None
            return self._renderer.draw_live_part(page, asked)

        part = await self._live.get((asked.path, *sorted(asked.query.items()), asked.home), make)
        if part is None:  # it stands still, or is gone
            return Response(status_code=204)
        if part.tag.encode() == tag:
            return Response(status_code=304, headers={"ETag": part.tag})
        return Response(part.html, headers={"ETag": part.tag})

    def _drawn(self, page: Answer, asked: PageRequest, *, headers: Mapping[str, str] | None = None) -> Response:
        if isinstance(page, Response):
            return page
        return Response(self._renderer.draw(page, asked), page.status, headers)
