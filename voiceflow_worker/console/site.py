"""The pages below `/ui` as an ASGI app. It checks sessions, chooses routes, and sets headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import anyio
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from voiceflow_worker.actions import Operator
from voiceflow_worker.asgi import limits
from voiceflow_worker.console import campaign, views
from voiceflow_worker.console.orders import DOUBTS, SECTION, ActionDone, Orders
from voiceflow_worker.console.page import Answer, Page, PageRequest, PageRoute, problem, read_request, sentence
from voiceflow_worker.console.rendering import ZONE, draw, templates
from voiceflow_worker.console.sign_in import (
    SIGN_IN,
    SIGN_OUT,
    FormRefusedError,
    Person,
    SignIn,
    comes_from_here,
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
_LONGEST_NOTICE = 1000
"""The most characters of a result in a cookie, which has room for 4,096 bytes."""
_log = structlog.get_logger("voiceflow.console")

LIVE = "x-voiceflow-live"
"""The header by which the script requests the live part of a page."""
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


class _Section(NamedTuple):
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
            views.EXPORT: _Section(views.ReportExports(store, files).answer, for_operators=False),
        }
        self._routes: Mapping[str, PageRoute] = {
            "": partial(views.show_overview, policy=policy),
            "batches": views.show_batches,
            "batches/ID": views.show_batch,
            "calls": views.show_calls,
            "calls/ID": views.show_call,
            DOUBTS: views.doubts_route(policy),
            "suppression": views.show_suppression,
        }
        templates()  # while there are file descriptors
        self._static = StaticFiles(packages=[("voiceflow_worker.console", FOLDER)])
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
            await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        asked, reads = read_request(request.scope), request.method in {"GET", "HEAD"}
        if reads and asked.section == FOLDER:
            with suppress(HTTPException):  # there is no such file
                file = await self._static.get_response(asked.name, request.scope)
                file.headers["Cache-Control"] = "no-cache"
                return file
        if (zone := zone_named(request.cookies.get(ZONE_COOKIE, ""))) is not None:
            asked = replace(asked, zone=zone.key)
        ZONE.set(asked.time_zone)
        section, person = self._sections.get(asked.section), None
        limit = (self._store_limit if section is None else section.limit).total_seconds()
        unsure = "" if reads else _UNSURE
        page: Answer | ActionDone
        try:
            person = self._access.person(request)
            with anyio.fail_after(limit):
                page = await self._page(request, asked, person)
        except FormRefusedError as error:
            page = problem(400, "Nothing was changed", sentence(error))
        except InvalidInputError as error:  # the name of a proxy is not certain
            page = problem(403, "Nobody is signed in", sentence(error))
        except (StoreError, TimeoutError) as error:
            why = error.in_public if isinstance(error, StoreError) else f"the store took longer than {limit:g} s"
            _log.warning("a page could not be shown", error=str(error) or why)
            what = unsure or "Nothing was changed; open this page again once the store is back."
            page = problem(503, "The store is not available", f"{sentence(why)} {_WHOM_TO_ASK} {what}")
        except Exception:  # noqa: BLE001 - after any error, the answer must have the usual headers
            _log.exception("a page could not be shown")
            page = problem(500, "This page failed", f"The log of the receiver has the reason. {unsure}")
        if isinstance(page, ActionDone):
            request.session["notice"] = page.message[:_LONGEST_NOTICE]
            return Response(b"", 303, {"Location": f"{asked.home}/{page.back}" if page.back else asked.home})
        return page if isinstance(page, Response) else _drawn(page, request, asked, person)

    async def _page(self, request: Request, asked: PageRequest, person: Person | None) -> Answer | ActionDone:
        """Return the answer to a request, as the session allows. Raises StoreError and FormRefusedError."""
        posts, section = request.method == "POST", self._sections.get(asked.section)
        if request.method not in {"GET", "HEAD", "POST"}:
            return Response(status_code=405, headers={"Allow": "GET, HEAD, POST"})
        if posts and not comes_from_here(request.headers):
            what = "The form was not sent from this console. Open the page again, and send it from there."
            return problem(403, "Nothing was changed", what)
        if asked.path == SIGN_IN and not (person and person.is_named):
            return await self._access.answer(request, asked)
        if person is None:
            return self._access.closed(request, asked)
        if section is not None:
            if section.for_operators and not person.may_act:
                what = "Sign in with VOICEFLOW_UI_OPERATOR_SECRET, or have VOICEFLOW_AUTH_OPERATORS name you."
                return problem(403, f"{person.name} may look only", what)
            return await section.answer(request, asked, person)
        if posts and asked.path == SIGN_OUT:
            return sign_out(request, asked)
        if posts:
            what = "A form cannot be sent to this page. Open the page, and use its buttons."
            return problem(405, "Not possible here", what, headers={"Allow": "GET, HEAD"})
        route = self._routes.get(f"{asked.section}/ID" if asked.name else asked.path)
        if route is None:
            return problem(404, "No such page", "Use the links of the navigation to find the page.")
        return await route(self._store, asked)


def _drawn(page: Page, request: Request, asked: PageRequest, person: Person | None) -> Response:
    """Return a page as HTML; or to the script, its live part alone."""
    may_act = person is not None and person.may_act
    if LIVE not in request.headers or person is None:
        notice = request.session.pop("notice", None) if request.method == "GET" else None  # once
        html = draw(page, asked, person=person, may_act=may_act, notice=notice)
        return Response(html, page.status, page.headers)
    if not page.is_live:  # it does not exist any more
        return Response(status_code=204)
    return Response(draw(page, asked, live_only=True, may_act=may_act))
