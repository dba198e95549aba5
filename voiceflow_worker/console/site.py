"""The pages below `/ui` as an ASGI app. It checks sessions, chooses routes, and sets headers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

import anyio
import structlog
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from voiceflow_worker.actions import Operator
from voiceflow_worker.asgi import limits
from voiceflow_worker.asgi.gatekeeper import Gatekeeper, NamingProxy
from voiceflow_worker.console import campaigns, exports
from voiceflow_worker.console.acting import DOUBTS, SECTION, ActionDone, PageActing, only_operators
from voiceflow_worker.console.formats import NOW, ZONE
from voiceflow_worker.console.rendering import draw, templates
from voiceflow_worker.console.routes.batches import (
    show_batch,
    show_batches,
    show_overview,
)
from voiceflow_worker.console.routes.calls import doubts_route, show_call, show_calls, show_suppression
from voiceflow_worker.console.routes.page import (
    Answer,
    PageRequest,
    PageRoute,
    problem,
    read_request,
    sentence,
    zone_of,
)
from voiceflow_worker.console.sessions import (
    CAMPAIGN,
    SIGN_IN,
    SIGN_OUT,
    PageAccess,
    PageForm,
    PageSession,
    PageSessions,
    zone_of_browser,
)
from voiceflow_worker.core.audit import Interface
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import InvalidInputError, StoreError
from voiceflow_worker.gateway.client import time_at_8x8
from voiceflow_worker.ivr.menu import Menu
from voiceflow_worker.reporting.now import now_in_queues
from voiceflow_worker.service.other_process import OtherProcess

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings

FOLDER = "static"
_UNSURE = "The action may or may not have been carried out. Before you repeat it, open the page of what it was about."
_WHOM_TO_ASK = "The log of this receiver names the cause, as `voiceflow doctor` does."
_log = structlog.get_logger("voiceflow.console")

_SLOW = {SECTION: limits.ACTION, CAMPAIGN: limits.WORK, exports.SECTION: limits.WORK}
LIVE = b"x-voiceflow-live"
"""The header by which the script requests the live part of a page. Its value is the ETag of the present part."""
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


class Pages:
    """The ASGI endpoint for `/ui` and `/ui/{rest:path}`. People sign in as the `settings` say.

    By the time at 8x8, the pages decide whether 8x8 can still place a call in doubt. A page must be read within
    `store_limit`. Campaigns may begin with one of `menus`, and take what is not said from the `settings`. `clock` is a
    monotonic clock in seconds, by default the store's. Raises SettingsError.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        menus: Sequence[Menu] = (),
        store_limit: timedelta = limits.PAGE,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._store = store
        policy = settings.policy()
        sessions = PageSessions(
            store,
            secrets=settings.secret_values("ui_secret"),
            operator_secrets=settings.secret_values("ui_operator_secret"),
            monotonic=clock,
        )
        sender = Gatekeeper(trusted_proxies=settings.trusted_proxies).sender
        self._access = PageAccess(sessions, sender=sender, clock=store.clock, proxy=NamingProxy.of(settings))
        operator = Operator(store, policy, on=Interface.PAGES, time_at_8x8=partial(time_at_8x8, settings))
        process = OtherProcess(store, settings=settings)
        self.acting: PageActing = PageActing(operator, process)
        self._campaigns = campaigns.CampaignPage(operator, process, menus=menus, settings=settings)
        self._exports = exports.ReportExports(store, process)
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
        self._store_limit = store_limit.total_seconds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        with ExitStack() as held:
            answer = await self._answer(scope, receive, held)
            for name, value in _HEADERS.items():
                answer.headers.setdefault(name, value)
            if scope["method"] == "HEAD":
                answer.body = b""
            await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, held: ExitStack) -> Response:
        asked = read_request(scope)
        reads = scope["method"] in {"GET", "HEAD"}
        if reads and asked.section == FOLDER:
            with suppress(HTTPException):  # there is no such file
                file = await self._static.get_response(asked.name, scope)
                file.headers["Cache-Control"] = "no-cache"
                return file
        limit = self._store_limit if reads else limits.ACTION.total_seconds()
        if asked.section in _SLOW:
            limit = _SLOW[asked.section].total_seconds()
        try:
            with anyio.fail_after(limit):
                return await self._admitted(scope, receive, asked, held)
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

    async def _admitted(self, scope: Scope, receive: Receive, asked: PageRequest, held: ExitStack) -> Response:
        """The answer to a request, as the session allows. `held` closes the files of the answer. Raises StoreError."""
        method = scope["method"]
        try:
            named = self._access.named(scope)
        except InvalidInputError as error:
            return self._drawn(problem(403, "Nobody is signed in", sentence(error)), asked)
        if named is None and asked.path == SIGN_IN and method in {"GET", "HEAD", "POST"}:
            if method != "POST":
                return self._drawn(self._access.open(), asked)
            resumed = partial(self._resumed, scope, asked)
            return self._drawn(await self._access.sign_in(scope, receive, asked, resumed=resumed), asked)
        session = named or await self._access.session(scope)
        if session is None:
            return self._drawn(await self._access.closed(scope, receive, asked), asked)
        asked = await self._in_zone(scope, asked)
        if asked.section == SECTION and method in {"GET", "HEAD", "POST"}:
            return self._drawn(await self.acting.answer(scope, receive, asked, session), asked, session)
        if asked.section == CAMPAIGN and method in {"GET", "HEAD", "POST"}:
            return self._drawn(await self._campaign(scope, receive, asked, session), asked, session)
        if method in {"GET", "HEAD"}:
            if asked.section == exports.SECTION:
                report = await self._exports.answer(scope, receive, asked, session, held=held)
                return self._drawn(report, asked, session)
            return await self._looked_up(asked, session, tag=dict(scope["headers"]).get(LIVE))
        if method == "POST" and asked.path == SIGN_OUT:
            return self._drawn(await self._access.sign_out(scope, receive, asked, session), asked, session)
        what = "A form cannot be sent to this page. Open the page, and use its buttons."
        return self._drawn(problem(405, "Not possible here", what, headers={"Allow": "GET, HEAD"}), asked, session)

    async def _in_zone(self, scope: Scope, asked: PageRequest) -> PageRequest:
        """A request with the zone of its times. Raises StoreError."""
        chosen, is_live = zone_of_browser(scope), LIVE in dict(scope["headers"])  # a live part names no other zone
        usual = chosen if chosen and is_live else (await zone_of(self._store, asked.queue or self._queue)).key
        asked = replace(asked, zone=chosen or usual, usual_zone=usual)
        ZONE.set(asked.time_zone)
        NOW.set(self._store.clock.now())
        return asked

    async def _campaign(self, scope: Scope, receive: Receive, asked: PageRequest, session: PageSession) -> Answer:
        if not session.may_act:
            return only_operators(session)
        if scope["method"] != "POST":
            return await self._campaigns.open(session)
        result = await self._campaigns.answer(scope, receive, session)
        return await self.acting.tell(result, asked, session) if isinstance(result, ActionDone) else result

    async def _resumed(self, scope: Scope, asked: PageRequest, form: PageForm, session: PageSession) -> Response:
        """The form of a campaign as the person who has signed in again left it. Raises StoreError."""
        asked = await self._in_zone(scope, replace(asked, path=CAMPAIGN))
        page = await self._campaigns.resumed(form, session) if session.may_act else only_operators(session)
        return self._drawn(page, asked, session)

    async def _looked_up(self, asked: PageRequest, session: PageSession, *, tag: bytes | None) -> Response:
        route = self._routes.get(f"{asked.section}/ID" if asked.name else asked.path)
        if route is None:
            what = "Use the links of the navigation to find the page."
            return self._drawn(problem(404, "No such page", what), asked, session)
        if tag is None:
            said = await self.acting.told(asked, session)
            return self._drawn(await self._with_now(await route(self._store, asked)), asked, session, said=said)

        page = await self._with_now(await route(self._store, replace(asked, is_poll=True)))
        if isinstance(page, Response) or not page.is_live:  # it does not exist any more
            return Response(status_code=204)
        html = draw(page, asked, live_only=True, may_act=session.may_act)
        current = f'"{sha256(html).hexdigest()[:16]}"'
        is_known = current.encode() == tag
        return Response(b"" if is_known else html, 304 if is_known else 200, {"ETag": current})

    async def _with_now(self, page: Answer) -> Answer:
        """The page with what happens now in the queues, unless it says so itself. Raises StoreError."""
        if isinstance(page, Response) or "bars" in page.shown:
            return page
        return replace(page, shown={**page.shown, "bars": await now_in_queues(self._store)})

    def _drawn(
        self,
        page: Answer,
        asked: PageRequest,
        session: PageSession | None = None,
        *,
        said: str | None = None,
    ) -> Response:
        if isinstance(page, Response):
            return page
        may_act = session is not None and session.may_act
        signs_out = session is not None and not session.is_named
        html = draw(page, asked, session=session, may_act=may_act, signs_out=signs_out, told=said)
        return Response(html, page.status, page.headers)
