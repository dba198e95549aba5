"""Sign people in by a secret or a proxy, keep their sessions in a signed cookie, and read the forms they send."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import scrypt
from types import MappingProxyType
from urllib.parse import quote, unquote, urlsplit

import anyio
import structlog
from starlette.datastructures import Headers, ImmutableMultiDict, MutableHeaders, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from voiceflow_worker.actions import Operator
from voiceflow_worker.asgi.gatekeeper import NamingProxy, public_path
from voiceflow_worker.asgi.limits import at_most
from voiceflow_worker.console.page import Answer, Page, PageRequest, problem
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import InvalidInputError, SettingsError
from voiceflow_worker.model.text.wording import read_name
from voiceflow_worker.secret_text import is_one_of
from voiceflow_worker.settings import Settings

LASTS = timedelta(hours=12)
COOKIE = "voiceflow"
SIGN_IN, SIGN_OUT = "sign-in", "sign-out"
LONGEST_FORM = 50_000_000
"""The largest form in bytes, with its file. A list that is too large for a campaign is refused later, with its page."""
_WAY = re.compile(r"[A-Za-z0-9_.~!$'()*+,;:@%/?&=-]{0,2000}")

_log = structlog.get_logger("voiceflow.console")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody who has signed in, with the name that was typed, or that a trusted proxy gave (`is_named`)."""

    name: str
    may_act: bool
    is_named: bool = False

    def acting(self, operator: Operator) -> Operator:
        """Return an operator who acts in the name of this person."""
        return replace(operator, name=self.name, login=self.name if self.is_named else None)


class FormRefusedError(InvalidInputError):
    """Raised for a form that is too long, or cannot be read. Nothing was changed."""


class PageForm(ImmutableMultiDict[str, str]):
    """The values of a form, or of the query of a URL; its `files` by field: the name of each file, and its content."""

    files: Mapping[str, tuple[str, bytes]] = MappingProxyType({})

    def one(self, name: str) -> str:
        """Return the value with this name, without white space around it; empty if there is none."""
        return self.get(name, "").strip()

    def all(self, name: str) -> list[str]:
        """Return all different values with this name."""
        return list(dict.fromkeys(filter(None, map(str.strip, self.getlist(name)))))


async def read_form(request: Request) -> PageForm:
    """Read the form in the body of a request. Raises FormRefusedError."""
    too_long = FormRefusedError(f"the form with its files is longer than {LONGEST_FORM:,} bytes. Use the command")
    limited = Request(request.scope, at_most(request.receive, LONGEST_FORM, otherwise=too_long))
    try:
        async with limited.form(max_files=3, max_fields=2000, max_part_size=LONGEST_FORM) as form:
            sent = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
            found = PageForm([(name, value) for name, value in form.multi_items() if isinstance(value, str)])
            found.files = {name: (value.filename or "", await value.read()) for name, value in sent if value.filename}
            return found
    except (HTTPException, MultiPartException, ClientDisconnect, LookupError, UnicodeError) as error:
        raise FormRefusedError("the form cannot be read. Open the page again, and send it once more") from error


def comes_from_here(headers: Headers) -> bool:
    """Return whether a browser sent a request from a page of the same server.

    Browsers say so in the header `Sec-Fetch-Site`, which proxies do not change. Over plain HTTP, browsers send this
    header only to their own machine. Without the header, `Origin` must name the host of the request.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin, host = headers.get("origin"), headers.get("host")
    return origin is not None and host is not None and urlsplit(origin).netloc.lower() == host.lower()


class SignIn:
    """The sign-in of people. All receivers with the same secrets and the same store share the sessions.

    A sign-out deletes the cookie. A session lasts twelve hours, and ends when a secret is changed. Raises SettingsError
    if readers and operators have the same secret.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._readers = settings.secret_values("ui_secret")
        self._operators = settings.secret_values("ui_operator_secret")
        if {*self._readers} & {*self._operators}:
            raise SettingsError(
                "readers and operators of the console have the same secret; give operators a different one"
            )
        self._proxy = NamingProxy.of(settings)
        self._wrong = anyio.Lock()
        self._clock = store.clock
        # Slow on purpose (40 ms, once), so that nobody can find a short secret by trying many secrets on a cookie.
        secrets = "\n".join((*self._readers, "", *self._operators)).encode()
        self._key = scrypt(secrets, salt=f"pages {store.id}".encode(), n=2**14, r=8, p=1).hex()

    def with_sessions(self, app: ASGIApp) -> ASGIApp:
        """Return an app whose requests have a session, which is a cookie signed by the secrets."""
        sessions = SessionMiddleware(
            app, secret_key=self._key, session_cookie=COOKIE, max_age=int(LASTS.total_seconds())
        )

        async def secured(scope: Scope, receive: Receive, send: Send) -> None:
            async def sent(message: Message) -> None:
                headers = MutableHeaders(scope=message) if message["type"] == "http.response.start" else None
                if headers is not None and "set-cookie" in headers:
                    cookie = headers["set-cookie"].replace("path=/;", f"path={public_path(scope, '/ui')};")
                    headers["set-cookie"] = cookie + "; secure" * bool(scope["session"].get("is_secure"))
                await send(message)

            await sessions(scope, receive, sent)

        return secured

    def person(self, request: Request) -> Person | None:
        """Return who sends a request: the person whom a trusted proxy names, or whose session it is; None for nobody.

        Raises InvalidInputError for a header that is no certain name.
        """
        named = None if self._proxy is None else self._proxy.person(request.scope)
        if named is not None:
            return Person(name=named[0], may_act=named[1], is_named=True)
        session = request.session if self._readers else {}
        if session.get("until", 0) < self._clock.now().timestamp():
            return None
        return Person(name=session["name"], may_act=session["may_act"])

    def closed(self, request: Request, asked: PageRequest) -> Page:
        """Return the sign-in form, shown instead of the requested page. It leads to that page."""
        if not self._readers:
            what = "The proxy of this console names nobody: nothing was done. Open the console through it, and sign in."
            return problem(401, "Nobody is signed in", what)
        if request.method == "POST":
            return _form(401, said="Your sign-in has ended, and nothing was done.", is_aside=True)
        raw: bytes = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
        path = "/".join(raw.decode("latin-1").split("/")[-asked.home.count("../") :]) if asked.path else ""
        path = "" if asked.path in {SIGN_IN, SIGN_OUT} else path
        way = f"{path}?{request.url.query}" if request.url.query else path
        return _form(401, way=way if _is_ours(way) else "")

    async def answer(self, request: Request, asked: PageRequest) -> Answer:
        """Show the form, or begin a session if the secret is right, and lead to the page that was wanted."""
        if request.method != "POST":
            return _form(200)
        form = await read_form(request)
        way, secret = form.one("way") if _is_ours(form.one("way")) else "", form.one("secret").encode()
        try:
            name = read_name(form.one("name"))
        except ValueError as error:
            return _form(400, way=way, said=f"Check your name: {error}.")
        may_act = is_one_of(secret, self._operators)
        if not (may_act or is_one_of(secret, self._readers)):
            _log.warning("somebody typed a wrong secret to sign in to the console", address=str(request.client))
            async with self._wrong:  # at most one try a second, by all together
                await anyio.sleep(1)
            return _form(401, way=way, name=name, said="The secret is wrong.")
        request.session.clear()
        is_secure = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
        until = (self._clock.now() + LASTS).timestamp()
        request.session.update(name=name, may_act=may_act, until=until, is_secure=is_secure)
        _log.info("somebody signed in to the console", name=name, may_act=may_act)
        return Response(b"", 303, {"Location": f"{asked.home}/{way}" if way else asked.home})


def sign_out(request: Request, asked: PageRequest) -> Response:
    """Delete the cookie of a session."""
    request.session.clear()
    return Response(b"", 303, {"Location": asked.home, "Clear-Site-Data": '"cache"'})


def _form(status: int, *, way: str = "", name: str = "", said: str = "", is_aside: bool = False) -> Page:
    shown = {"way": way, "name": name, "said": said, "is_aside": is_aside}
    return Page(template="sign-in.html", shown=shown, status=status)


def _is_ours(way: str) -> bool:
    """Return whether a redirect to this address, relative to /ui/, stays below /ui."""
    path = unquote(way.partition("?")[0])
    return _WAY.fullmatch(way) is not None and ".." not in path.split("/") and not path.startswith("/")
