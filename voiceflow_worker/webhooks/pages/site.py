"""The pages below `/ui` as a read-only ASGI app."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import parse_qs, quote

import anyio
import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import StoreError
from voiceflow_worker.webhooks.pages.basic_auth import CHALLENGE, BasicAuth
from voiceflow_worker.webhooks.pages.queries import DEFAULT_QUEUE, LONGEST_NAME, PageQueries
from voiceflow_worker.webhooks.pages.rendering import PageRenderer

_log = structlog.get_logger("voiceflow.webhooks")

STORE_LIMIT = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class _PageRequest:
    """A request. `home` is the way from its address to `/ui`, so that links work wherever the app is mounted."""

    path: str
    query: Mapping[str, str]
    home: str


class Pages:
    """An ASGI endpoint for `/ui` and `/ui/{rest:path}`. `secret` is the password, with any user name.

    The store has `store_limit` for a page. Raises SettingsError for an empty secret.
    """

    def __init__(self, store: Store, *, secret: str, store_limit: timedelta = STORE_LIMIT) -> None:
        self._auth = BasicAuth(secret)
        self._queries = PageQueries(store)
        self._renderer = PageRenderer()
        self._store_limit = store_limit.total_seconds()
        self._headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": (
                f"default-src 'none'; style-src {self._renderer.style_source}; "
                "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
            ),
            "X-Frame-Options": "DENY",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        page = await self._answer(scope)
        page.headers.update(self._headers)
        if scope["method"] == "HEAD":
            page.body = b""
        await page(scope, receive, send)

    async def _answer(self, scope: Scope) -> Response:
        asked = _asked(scope)
        if not self._auth.allows(scope["headers"]):
            what = "Type the secret of the pages (VOICEFLOW_UI_SECRET) as the password; any user name will do."
            return self._problem(401, asked, "Sign in", what, headers={"WWW-Authenticate": CHALLENGE})
        if scope["method"] not in {"GET", "HEAD"}:
            what = "These pages are read-only."
            return self._problem(405, asked, "Read-only", what, headers={"Allow": "GET, HEAD"})
        try:
            with anyio.fail_after(self._store_limit):
                return await self._looked_up(asked)
        except StoreError as error:
            _log.warning("a page could not be shown", error=str(error))
        except TimeoutError:
            _log.warning("a page could not be shown", error=f"the store took longer than {self._store_limit:g} s")
        except Exception:  # noqa: BLE001 - whatever it is, the answer must have the headers of the others
            _log.exception("a page could not be shown")
            return self._problem(500, asked, "This page failed", "See the log of the receiver.")
        return self._problem(503, asked, "The store is not available", "No call was changed. Try again in a moment.")

    async def _looked_up(self, asked: _PageRequest) -> Response:
        kind, _, name = asked.path.partition("/")
        if kind == "calls" and name:
            return await self._call(asked, name)
        if kind == "batches" and name:
            return await self._batch(asked, name)
        if not asked.path:
            return await self._front(asked)
        return self._problem(404, asked, "No such page", "There are queues, calls and batches here.")

    async def _front(self, asked: _PageRequest) -> Response:
        wanted = asked.query.get("find", "").strip()[:LONGEST_NAME]
        also = asked.query.get("queue")
        found = await self._queries.find(wanted, also=also) if wanted else []
        if len(found) == 1:
            return Response(b"", 303, {"Location": f"{asked.home}/calls/{quote(found[0].id, safe='')}"})
        queues = await self._queries.queues(also=also)
        return self._drawn(200, "front.html", asked, wanted=wanted, found=found, queues=queues)

    async def _call(self, asked: _PageRequest, job_id: str) -> Response:
        found = await self._queries.call(job_id)
        if found is None:
            what = f"The store holds no call {job_id[:LONGEST_NAME]}: it has another id, or was deleted after its time."
            return self._problem(404, asked, "No such call", what)
        return self._drawn(200, "call.html", asked, job=found[0], story=found[1])

    async def _batch(self, asked: _PageRequest, batch_id: str) -> Response:
        queue = asked.query.get("queue") or DEFAULT_QUEUE
        look = await self._queries.batch(queue, batch_id, after=asked.query.get("after"))
        if look is None:
            what = (
                f"Queue {queue[:LONGEST_NAME]} holds no calls of batch {batch_id[:LONGEST_NAME]}. Another queue is "
                "named by ?queue= at the end of the address."
            )
            return self._problem(404, asked, "No such batch", what)
        return self._drawn(200, "batch.html", asked, batch=look)

    def _problem(
        self, status: int, asked: _PageRequest, title: str, what: str, *, headers: Mapping[str, str] | None = None
    ) -> Response:
        page = self._drawn(status, "problem.html", asked, title=title, what=what)
        page.headers.update(headers or {})
        return page

    def _drawn(self, status: int, template: str, asked: _PageRequest, **shown: object) -> Response:
        return Response(self._renderer.draw(template, home=asked.home, **shown), status)


def _asked(scope: Scope) -> _PageRequest:
    rest: str | None = scope.get("path_params", {}).get("rest")
    query = parse_qs(scope["query_string"].decode("latin-1"), errors="replace", max_num_fields=None)
    if rest is None:
        home = "ui"
    else:
        # A slash inside a name came as %2F and does not separate segments: they are counted in the raw path.
        before = scope["path"][: len(scope["path"]) - len(rest)].count("/")
        sent = (scope.get("raw_path") or scope["path"].encode()).count(b"/")
        home = "../" * max(1, sent - before + 1) + "ui"
    return _PageRequest(rest or "", {name: values[0] for name, values in query.items()}, home)
