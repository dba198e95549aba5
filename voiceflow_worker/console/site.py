"""The pages below `/ui` as an ASGI app. It checks sessions, chooses routes, and sets headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

import anyio
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from voiceflow_worker.actions import Operator
from voiceflow_worker.asgi import limits
from voiceflow_worker.console import campaign, exports
from voiceflow_worker.console.batches import show_batch, show_batches, show_overview
from voiceflow_worker.console.calls import doubts_route, show_call, show_calls, show_suppression
from voiceflow_worker.console.formats import NOW, ZONE
from voiceflow_worker.console.orders import DOUBTS, SECTION, ActionDone, Orders
from voiceflow_worker.console.page import Answer, PageRequest, PageRoute, problem, read_request, sentence, zone_of
from voiceflow_worker.console.rendering import draw, templates
from voiceflow_worker.console.sign_in import (
    SIGN_IN,
    SIGN_OUT,
    FormRefusedError,
    Person,
    SignIn,
    comes_from_here,
    only_operators,
    refused,
    sign_out,
)
from voiceflow_worker.core.audit import Interface
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import InvalidInputError, StoreError
from voiceflow_worker.gateway.client import time_at_8x8
from voiceflow_worker.ivr.menu import Menu
from voiceflow_worker.model.zones import zone_named

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings

FOLDER = "static"
_UNSURE = "The action may or may not have been carried out. Before you repeat it, open the page of what it was about."
_WHOM_TO_ASK = "The log of this receiver names the cause, as `voiceflow doctor` does."
_LONGEST_TOLD = 1000
"""The most characters of a result in a cookie, which has room for 4,096 bytes."""
_log = structlog.get_logger("voiceflow.console")

LIVE = "x-voiceflow-live"
"""The header by which the script requests the live part of a page. Its value is the ETag of the present part."""
ZONE_COOKIE = "voiceflow-zone"
"""The cookie with the zone of times, which the script sets."""
_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers send no Origin with forms
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
}


@dataclass(frozen=True, slots=True)
class _Section:
    """What answers the requests below an address: only to operators, and for at most so long."""

    answer: Callable[[Request, PageRequest, Person], Awaitable[Answer | ActionDone]]
    limit: timedelta = limits.WORK
    for_operators: bool = True


class Pages:
    """The ASGI endpoint for `/ui` and `/ui/{rest:path}`. People sign in as the `settings` say.

    By the time at 8x8, the pages decide whether 8x8 can still place a call in doubt. A page must be read within
    `store_limit`. Campaigns may begin with one of `menus`, and take what is not said from the `settings`. Raises
    SettingsError.
    """

    def __init__(
        self, store: Store, settings: Settings, *, menus: Sequence[Menu] = (), store_limit: timedelta = limits.PAGE
    ) -> None:
        self._store = store
        policy = settings.policy()
        self._access = SignIn(store, settings)
        operator = Operator(store, policy, on=Interface.PAGES, time_at_8x8=partial(time_at_8x8, settings))
        files = anyio.Lock()  # files are read one at a time, so that events of 8x8 go first
        campaigns = campaign.CampaignPages(operator, settings, menus=menus, files=files)
        self._sections = {
            SECTION: _Section(Orders(operator, files).answer, limits.ACTION),
            campaign.NEW: _Section(campaigns.begin),
            campaign.SECTION: _Section(campaigns.answer),
            exports.SECTION: _Section(exports.ReportExports(store, files).answer, for_operators=False),
        }
        self._routes: Mapping[str, PageRoute] = {
            "": partial(show_overview, policy=policy),
            "batches": show_batches,
            "batches/ID": show_batch,
            "calls": show_calls,
            "calls/ID": show_call,
            DOUBTS: doubts_route(policy),
            "suppression": show_suppression,
        }
        templates()  # while there are file descriptors
        self._static = StaticFiles(packages=[("voiceflow_worker.console", FOLDER)])
        self._queue = settings.queue
        self._store_limit = store_limit
        self._app = self._access.with_sessions(self._serve)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        with ExitStack() as held:
            request.state.held = held  # closes the files of the answer
            answer = await self._answer(request)
            for name, value in _HEADERS.items():
                answer.headers.setdefault(name, value)
            if request.method == "HEAD":
                answer.body = b""
            await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        asked, reads = read_request(request.scope), request.method in {"GET", "HEAD"}
        if reads and asked.section == FOLDER:
            with suppress(HTTPException):  # there is no such file
                file = await self._static.get_response(asked.name, request.scope)
                file.headers["Cache-Control"] = "no-cache"
                return file
        section = self._sections.get(asked.section)
        limit = (self._store_limit if section is None else section.limit).total_seconds()
        try:
            with anyio.fail_after(limit):
                return await self._admitted(request, asked)
        except StoreError as error:
            _log.warning("a page could not be shown", error=str(error))
            why = error.in_public
        except TimeoutError:
            why = f"the store took longer than {limit:g} s"
            _log.warning("a page could not be shown", error=why)
        except Exception:  # noqa: BLE001 - after any error, the answer must have the usual headers
            _log.exception("a page could not be shown")
            what = f"The log of the receiver has the reason.{'' if reads else f' {_UNSURE}'}"
            return self._drawn(problem(500, "This page failed", what), asked)
        what = "Nothing was changed; open this page again once the store is back." if reads else _UNSURE
        return self._drawn(problem(503, "The store is not available", f"{sentence(why)} {_WHOM_TO_ASK} {what}"), asked)

    async def _admitted(self, request: Request, asked: PageRequest) -> Response:
        """Return the answer to a request, as the session allows. Raises StoreError."""
        method = request.method
        if method not in {"GET", "HEAD", "POST"}:
            return Response(status_code=405, headers={"Allow": "GET, HEAD, POST"})
        if method == "POST" and not comes_from_here(request.headers):
            what = "The form was not sent from this console. Open the page again, and send it from there."
            return self._drawn(problem(403, "Nothing was changed", what), asked)
        try:
            person = self._access.person(request)
        except InvalidInputError as error:
            return self._drawn(problem(403, "Nobody is signed in", sentence(error)), asked)
        try:
            if asked.path == SIGN_IN and not (person and person.is_named):
                return self._drawn(await self._access.answer(request, asked), asked)
            if person is None:
                return self._drawn(self._access.closed(request, asked), asked)
            asked = await self._in_zone(request, asked)
            return await self._of_person(request, asked, person)
        except FormRefusedError as error:
            return self._drawn(refused(error), asked, person)

    async def _of_person(self, request: Request, asked: PageRequest, person: Person) -> Response:
        if (section := self._sections.get(asked.section)) is not None:
            if section.for_operators and not person.may_act:
                return self._drawn(only_operators(person), asked, person)
            result = await section.answer(request, asked, person)
            if isinstance(result, ActionDone):
                request.session["told"] = result.message[:_LONGEST_TOLD]
                return Response(b"", 303, {"Location": f"{asked.home}/{result.back}" if result.back else asked.home})
            return self._drawn(result, asked, person, said=_told(request))
        if request.method == "POST" and asked.path == SIGN_OUT:
            return sign_out(request, asked)
        if request.method == "POST":
            what = "A form cannot be sent to this page. Open the page, and use its buttons."
            return self._drawn(problem(405, "Not possible here", what, headers={"Allow": "GET, HEAD"}), asked, person)
        return await self._looked_up(request, asked, person)

    async def _in_zone(self, request: Request, asked: PageRequest) -> PageRequest:
        """Return a request with the zone of its times. Raises StoreError."""
        chosen = zone_named(request.cookies.get(ZONE_COOKIE, ""))
        is_live = LIVE in request.headers  # a live part names no other zone
        usual = chosen if chosen and is_live else await zone_of(self._store, asked.queue or self._queue)
        asked = replace(asked, zone=(chosen or usual).key, usual_zone=usual.key)
        ZONE.set(asked.time_zone)
        NOW.set(self._store.clock.now())
        return asked

    async def _looked_up(self, request: Request, asked: PageRequest, person: Person) -> Response:
        route, tag = self._routes.get(f"{asked.section}/ID" if asked.name else asked.path), request.headers.get(LIVE)
        if route is None:
            what = "Use the links of the navigation to find the page."
            return self._drawn(problem(404, "No such page", what), asked, person)
        if tag is None:
            page = await route(self._store, asked)
            return self._drawn(page, asked, person, said=_told(request))
        page = await route(self._store, asked)
        if isinstance(page, Response) or not page.is_live:  # it does not exist any more
            return Response(status_code=204)
        html = draw(page, asked, live_only=True, may_act=person.may_act)
        current = f'"{sha256(html).hexdigest()[:16]}"'
        is_known = current == tag
        return Response(b"" if is_known else html, 304 if is_known else 200, {"ETag": current})

    def _drawn(
        self, page: Answer, asked: PageRequest, person: Person | None = None, *, said: str | None = None
    ) -> Response:
        if isinstance(page, Response):
            return page
        html = draw(page, asked, person=person, may_act=person is not None and person.may_act, told=said)
        return Response(html, page.status, page.headers)


def _told(request: Request) -> str | None:
    """Return the result of the action that led to this page, once; None if no action did."""
    told = request.session.pop("told", None) if request.method == "GET" and LIVE not in request.headers else None
    return told if isinstance(told, str) else None
