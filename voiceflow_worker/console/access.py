"""The sign-in and the sign-out of the pages, and the session cookie."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from urllib.parse import quote, unquote

import structlog
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope

from voiceflow_worker.asgi.gatekeeper import Address, NamingProxy, WrongSecrets
from voiceflow_worker.console.language import translated
from voiceflow_worker.console.routes.page import Answer, Page, PageRequest, problem, sentence
from voiceflow_worker.console.sessions import (
    LASTS,
    FormRefusedError,
    PageRole,
    PageSession,
    PageSessions,
    checked_form,
    comes_from_here,
    read_form,
)
from voiceflow_worker.core.ports import Clock
from voiceflow_worker.model.text.wording import LONGEST_NAME, read_name
from voiceflow_worker.model.zones import zone_named

SIGN_IN, SIGN_OUT = "sign-in", "sign-out"
_COOKIE, _ZONE = "voiceflow", "voiceflow-zone"
"""The session cookie; and the cookie with the zone of times, which the script sets."""
_MOST_COOKIES = 5
"""How many cookies with the name of the session cookie are looked at. Other sites of the host may set some too."""
LONGEST_SHORT_FORM = 1_000_000
_WAY = re.compile(r"[A-Za-z0-9_.~!$'()*+,;:@%/?&=-]{0,2000}")

SenderOf = Callable[[Scope], Address | None]
"""A function that returns the address of the sender of a request; None if it is not known."""

_log = structlog.get_logger("voiceflow.console")


class PageAccess:
    """The sign-in of people by a secret, or `proxy` that names them. Wrong secrets are counted by the sender's address.

    `sign_out` is where that proxy signs people out.
    """

    def __init__(
        self,
        sessions: PageSessions,
        *,
        sender: SenderOf,
        clock: Clock,
        proxy: NamingProxy | None = None,
        sign_out: str | None = None,
    ) -> None:
        self._proxy = proxy
        self._sign_out = sign_out
        self._sessions = sessions
        self._sender = sender
        self._clock = clock
        self._wrong = WrongSecrets()

    def named(self, scope: Scope) -> PageSession | None:
        """The session of the person whom a trusted proxy names; None if none does.

        Raises InvalidInputError for a header that is no certain name.
        """
        found = None if self._proxy is None else self._proxy.person(scope)
        if found is None:
            return None
        name, may_act = found
        return self._sessions.named(name, PageRole.OPERATOR if may_act else PageRole.READER)

    async def session(self, scope: Scope) -> PageSession | None:
        """The session in the cookie of a request; None if there is none. Raises StoreError."""
        for value in islice(cookies(Headers(scope=scope), _COOKIE), _MOST_COOKIES):
            if (session := await self._sessions.find(value)) is not None:
                return session
        return None

    def open(self) -> Page:
        """The sign-in form at its own address."""
        return _form(200)

    def closed(self, scope: Scope, asked: PageRequest) -> Page:
        """The sign-in form, shown instead of the requested page. After the sign-in, the browser goes to that page."""
        if not self._sessions.has_secrets:
            what = translated(
                "The proxy of this console names nobody: nothing was done. Open the console through it, and sign in."
            )
            return problem(401, "Nobody is signed in", what)
        said = ""
        if scope["method"] == "POST" and comes_from_here(Headers(scope=scope)):
            said = translated("Your sign-in has ended, and nothing was done. Sign in, and fill in the form again.")
        return _form(401, way=_way_of(scope, asked), said=said)

    async def sign_in(self, scope: Scope, receive: Receive, asked: PageRequest) -> Answer:
        """Begin a new session with a cookie, if the secret is right, and lead to its page. Raises StoreError."""
        headers, address = Headers(scope=scope), self._sender(scope)
        if not comes_from_here(headers):
            return problem(403, "Not from this console", "Open the sign-in page of this console, and sign in there.")
        try:
            form = await read_form(scope, receive, longest=LONGEST_SHORT_FORM)
        except FormRefusedError as error:
            return _form(400, said=sentence(error))
        way = form.one("way") if _is_ours(form.one("way")) else ""
        now = self._clock.now()
        if (wait := self._wrong.wait(address, at=now)) is not None:
            seconds = f"{wait.total_seconds():.0f}"
            said = f"Too many wrong secrets were typed. Try again in {seconds} seconds."
            page = _form(429, way=way, name=form.one("name"), said=said)
            return replace(page, headers={"Retry-After": seconds})
        try:
            name = read_name(form.one("name"))
        except ValueError as error:
            return _form(400, way=way, said=f"Check your name: {error}.")
        role = self._sessions.role_of(form.one("secret"))
        if role is None:
            self._wrong.failed(address, at=now)
            _log.warning("somebody typed a wrong secret to sign in to the console", address=str(address))
            return _form(401, way=way, name=form.one("name"), said="The secret is wrong.")
        if (old := await self.session(scope)) is not None:
            await self._sessions.end(old)
        session = self._sessions.begin(name, role)
        _log.info("somebody signed in to the console", name=session.name, role=role.value, address=str(address))
        answer = Response(b"", 303, {"Location": f"{asked.home}/{way}" if way else asked.home})
        # Without a path attribute, the cookie belongs to /ui, wherever /ui is mounted (RFC 6265 §5.1.4).
        answer.set_cookie(
            _COOKIE,
            await self._sessions.cookie(session),
            max_age=int(LASTS.total_seconds()),
            path=None,
            secure=_is_behind_tls(scope, headers),
            httponly=True,
            samesite="lax",
        )
        return answer

    def signs_out(self, session: PageSession) -> bool:
        """Whether signing out ends anything: a person whom the proxy goes on to name is signed in again."""
        return not session.is_named or self._sign_out is not None

    async def sign_out(self, scope: Scope, receive: Receive, asked: PageRequest, session: PageSession) -> Answer:
        """End the session, and lead to the proxy that has named the person. Raises StoreError."""
        try:
            await checked_form(scope, receive, session, longest=LONGEST_SHORT_FORM)
        except FormRefusedError as error:
            return problem(403, "You are still signed in", sentence(error))
        own = await self.session(scope)
        if own is not None:
            await self._sessions.end(own)
        where = self._sign_out if session.is_named else None
        answer = Response(b"", 303, {"Location": where or asked.home, "Clear-Site-Data": '"cache"'})
        answer.delete_cookie(_COOKIE, path=None, httponly=True, samesite="lax")  # type: ignore[arg-type]
        return answer


def zone_of_browser(scope: Scope) -> str | None:
    """The zone in which a browser shows times; None if it has not said so yet."""
    return next((value for value in cookies(Headers(scope=scope), _ZONE) if zone_named(value) is not None), None)


def cookies(headers: Headers, wanted: str) -> Iterator[str]:
    """The values of the cookies with this name.

    Other programs on the host may set cookies in forms that the parser of the standard library refuses, and it then
    refuses all cookies of the request.
    """
    for header in headers.getlist("cookie"):
        for pair in header.split(";"):
            name, _, value = pair.partition("=")
            if name.strip() == wanted:
                yield value.strip().strip('"')


def _form(status: int, *, way: str = "", name: str = "", said: str = "") -> Page:
    shown = {"way": way, "name": name, "said": said, "longest_name": LONGEST_NAME}
    return Page(template="sign-in.html", shown=shown, status=status)


def _way_of(scope: Scope, asked: PageRequest) -> str:
    """The address below /ui to which the sign-in leads, as the browser requested it; empty for the overview."""
    if not asked.path or asked.section in {SIGN_IN, SIGN_OUT}:
        path = ""
    else:
        raw = (scope.get("raw_path") or quote(scope["path"]).encode()).decode("latin-1")
        path = "/".join(raw.split("/")[-asked.home.count("../") :])
    query = scope["query_string"].decode("latin-1")
    way = f"{path}?{query}" if query else path
    return way if scope["method"] in {"GET", "HEAD"} and _is_ours(way) else ""


def _is_ours(way: str) -> bool:
    """Whether a redirect to this address, relative to /ui/, stays below /ui."""
    path = unquote(way.partition("?")[0])
    return _WAY.fullmatch(way) is not None and ".." not in path.split("/") and not path.startswith("/")


def _is_behind_tls(scope: Scope, headers: Headers) -> bool:
    """Whether the browser uses TLS. Behind a proxy, the scheme in the browser's `Origin` header decides."""
    return scope.get("scheme") == "https" or headers.get("origin", "").startswith("https://")
