"""The sign-in and the sign-out of the pages: sessions with their cookie, and forms with a CSRF token."""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from hashlib import scrypt
from itertools import islice
from math import inf
from secrets import token_urlsafe
from typing import TypedDict
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import structlog
from anyio.to_thread import run_sync
from itsdangerous import BadData, URLSafeSerializer
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope

from voiceflow_worker.asgi.gatekeeper import Address, NamingProxy, WrongSecrets
from voiceflow_worker.asgi.limits import at_most
from voiceflow_worker.console.routes.page import Answer, Page, PageRequest, problem, sentence
from voiceflow_worker.core.base.identity import keyed_digest
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.ports import Clock, Store
from voiceflow_worker.errors import InvalidInputError, SettingsError
from voiceflow_worker.model.text.wording import LONGEST_NAME, read_name
from voiceflow_worker.model.zones import zone_named
from voiceflow_worker.secret_text import is_one_of

LASTS = timedelta(hours=12)
READ_EVERY = timedelta(seconds=1)
"""The longest time until other receivers notice a sign-out."""
ENDED = "page-session-ended"


class PageRole(StrEnum):
    """The role of a person on the pages. A reader may only look; an operator may also act."""

    READER = "reader"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSession:
    """A session of a person who has signed in, with the `name` that the person typed, or that a trusted proxy gave.

    Forms must have the `token`.
    """

    id: str
    name: str
    role: PageRole
    token: str
    until: datetime
    is_named: bool = False
    """Whether a trusted proxy gave the name."""

    @property
    def login(self) -> str | None:
        """The name, if it is certain; None for one that the person typed."""
        return self.name if self.is_named else None

    @property
    def owner(self) -> str:
        """Whose the session is: what it left belongs to the next one of the same person."""
        return self.id if self.is_named else self.name

    @property
    def may_act(self) -> bool:
        """Whether this person may carry out actions."""
        return self.role is PageRole.OPERATOR

    def sent(self, token: str) -> bool:
        """Whether a form with this token comes from a page of this session."""
        return hmac.compare_digest(token.encode(), self.token.encode())


class _Signed(TypedDict):
    id: str
    name: str
    token: str
    until: int


class PageSessions:
    """The sessions of the pages. All receivers with the same secrets and the same store share them.

    The cookie holds the whole session, signed with a key that is derived from the secret of the role. While a secret
    has two values, both sign people in, and sessions of both go on; the end of a value ends its sessions. Raises
    SettingsError if both roles have the same secret.
    """

    def __init__(
        self,
        store: Store,
        *,
        secrets: Sequence[str],
        operator_secrets: Sequence[str] = (),
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        if set(secrets) & set(operator_secrets):
            raise SettingsError(
                "readers and operators of the console have the same secret; give operators a different one"
            )
        self._secrets = {PageRole.READER: tuple(secrets), PageRole.OPERATOR: tuple(operator_secrets)}
        self._ended = text_records(store, ENDED)
        self._clock = store.clock
        self._store_id = store.id
        self._monotonic = store.clock.monotonic if monotonic is None else monotonic
        self._ended_ids: frozenset[str] = frozenset()
        self._read_at = -inf

    @property
    def has_secrets(self) -> bool:
        """Whether anybody can sign in with a secret."""
        return any(self._secrets.values())

    def role_of(self, secret: str) -> PageRole | None:
        """The role that this secret belongs to; None for a wrong secret."""
        matches = [role for role, values in self._secrets.items() if is_one_of(secret.encode(), values)]
        return matches[0] if matches else None

    def begin(self, name: str, role: PageRole) -> PageSession:
        """Begin a session, with a new id and a new token."""
        until = (self._clock.now() + LASTS).replace(microsecond=0)
        return PageSession(id=token_urlsafe(16), name=name, role=role, token=token_urlsafe(32), until=until)

    def named(self, name: str, role: PageRole) -> PageSession:
        """The session of a person whom a trusted proxy names. Of one name, it is the same on all receivers."""
        its_id, token = (keyed_digest(self._store_id, f"console {of} {name}") for of in ("id", "token"))
        until = self._clock.now() + LASTS
        return PageSession(id=its_id, name=name, role=role, token=token, until=until, is_named=True)

    async def cookie(self, session: PageSession) -> str:
        """The session as the value of a cookie."""
        signed = _Signed(id=session.id, name=session.name, token=session.token, until=int(session.until.timestamp()))
        return str((await run_sync(next, self._signers(session.role))).dumps(signed))

    async def find(self, cookie: str) -> PageSession | None:
        """The session in a cookie; None if the cookie is not genuine or the session is over. Raises StoreError."""
        session = await run_sync(self._read, cookie)
        if session is None or session.until <= self._clock.now() or await self._has_ended(session):
            return None
        return session

    async def end(self, session: PageSession) -> None:
        """End a session on all receivers. Its cookie is then no longer accepted. Raises StoreError."""
        await self._ended.put({session.id: ""}, until=session.until)
        self._read_at = -inf

    async def _has_ended(self, session: PageSession) -> bool:
        """Whether a person has signed out of the session. All ended sessions are read together, once a second."""
        now = self._monotonic()
        if now - self._read_at >= READ_EVERY.total_seconds():
            self._ended_ids = frozenset([session_id for session_id, _ in await self._ended.all()])
            self._read_at = now
        return session.id in self._ended_ids

    def _signers(self, role: PageRole) -> Iterator[URLSafeSerializer]:
        """The signers of a role, that of the newest value first."""
        for value in self._secrets[role]:
            yield URLSafeSerializer(_key(value, role), salt=f"voiceflow pages {role.value}")

    def _read(self, cookie: str) -> PageSession | None:
        for role, signer in [(each, signer) for each in self._secrets for signer in self._signers(each)]:
            try:
                signed: _Signed = signer.loads(cookie)
            except BadData:
                continue
            return PageSession(
                id=signed["id"],
                name=signed["name"],
                role=role,
                token=signed["token"],
                until=datetime.fromtimestamp(signed["until"], UTC),
            )
        return None


@lru_cache(maxsize=16)
def _key(secret: str, role: PageRole) -> bytes:
    # Slow on purpose (40 ms, in a thread), so that nobody can find a short secret by trying many secrets on a cookie.
    return scrypt(secret.encode(), salt=f"voiceflow pages {role.value}".encode(), n=2**14, r=8, p=1)


class FormRefusedError(InvalidInputError):
    """Raised for a form that is too long, cannot be read, or did not come from these pages. Nothing was changed."""


class OtherSignInError(FormRefusedError):
    """Raised for a `form` that a page of another session has sent."""

    def __init__(self, form: PageForm) -> None:
        super().__init__("this form belongs to another sign-in; open the page again, and fill it in once more")
        self.form = form


class PageForm:
    """The values of a form, or of the query of a URL.

    `files` are the files of the form, by the names of their fields: for each, the name that the browser gave it, and
    its content. `file` is the content of the file in the field `file`.
    """

    def __init__(
        self, values: Iterable[tuple[str, str]], *, files: Mapping[str, tuple[str, bytes]] | None = None
    ) -> None:
        self._values = list(values)
        self.files: Mapping[str, tuple[str, bytes]] = files or {}

    @property
    def file(self) -> bytes | None:
        """The content of the form's file; None if there is none, or it is empty."""
        return self.files["file"][1] if "file" in self.files else None

    def but(self, *names: str) -> list[tuple[str, str]]:
        """The values without those with these names."""
        return [(key, value) for key, value in self._values if key not in names]

    def one(self, name: str) -> str:
        """The value with this name, without white space around it; empty if there is none."""
        return next((value.strip() for key, value in self._values if key == name), "")

    def exactly(self, name: str) -> str:
        """The value with this name, with its spaces, because a batch's name may begin with a space."""
        return next((value for key, value in self._values if key == name), "")

    def some(self, *names: str) -> list[tuple[str, str]]:
        """The values with these names, as they were sent, each with its name."""
        return [(key, value) for key, value in self._values if key in names and value]

    def lists(self) -> dict[str, list[str]]:
        """All values by their names, without white space around them, with the line breaks of texts."""
        found: dict[str, list[str]] = {}
        for key, value in self._values:
            found.setdefault(key, []).append(value.replace("\r\n", "\n").strip())
        return found

    def all(self, name: str) -> list[str]:
        """All different values with this name."""
        return list(dict.fromkeys(value.strip() for key, value in self._values if key == name and value.strip()))


def query_form(scope: Scope) -> PageForm:
    """The values of the query of a URL."""
    return PageForm(parse_qsl(scope["query_string"].decode("latin-1"), errors="replace", keep_blank_values=True))


async def read_form(scope: Scope, receive: Receive, *, longest: int) -> PageForm:
    """Read the form in the body of a request, of at most `longest` bytes. Raises FormRefusedError."""
    too_long = f"the form with its files is longer than {longest:,} bytes; split the file, or use the command"
    limited = at_most(receive, longest, otherwise=FormRefusedError(too_long))
    if _charset(Headers(scope=scope)) not in {b"utf-8", b"utf8"}:
        raise FormRefusedError("the form is not in UTF-8, as the forms of this console are; open the page again")
    try:
        form: FormData = await Request(scope, limited).form(max_files=3, max_fields=2000, max_part_size=longest)
    except (HTTPException, MultiPartException, ClientDisconnect, UnicodeDecodeError) as error:
        raise FormRefusedError("the form cannot be read; open the page again, and send it once more") from error
    try:
        sent = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
        files = {name: (value.filename or "", await value.read()) for name, value in sent}
        for shown in (name for name, content in files.values() if name and not content):
            raise FormRefusedError(f"the file {shown[:LONGEST_NAME]!r} is empty; choose another one")
        files = {name: file for name, file in files.items() if file[1]}  # a field without a file has no name either
        return PageForm(((name, value) for name, value in form.multi_items() if isinstance(value, str)), files=files)
    finally:
        await form.close()


def _charset(headers: Headers) -> bytes:
    """The charset in the header `Content-Type`. Some charsets of Python raise errors, or decode to half characters."""
    _, options = parse_options_header(headers.get("content-type"))
    return options.get(b"charset", b"utf-8").lower()


def comes_from_here(headers: Headers) -> bool:
    """Whether a browser sent a request from a page of the same server.

    Browsers say so in the header `Sec-Fetch-Site`, which proxies do not change. Over plain HTTP, browsers send this
    header only to their own machine. Without the header, `Origin` must name the host of the request.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin, host = headers.get("origin"), headers.get("host")
    return origin is not None and host is not None and urlsplit(origin).netloc.lower() == host.lower()


async def checked_form(scope: Scope, receive: Receive, session: PageSession, *, longest: int) -> PageForm:
    """Read a form that a page of this session has sent. Raises FormRefusedError for any other form."""
    if not comes_from_here(Headers(scope=scope)):
        raise FormRefusedError("this form was not sent from this console; open the page again, and send it from there")
    form = await read_form(scope, receive, longest=longest)
    if not session.sent(form.one("token")):
        raise OtherSignInError(form)
    return form


SIGN_IN, SIGN_OUT = "sign-in", "sign-out"
CAMPAIGN = "campaign"
"""The page that goes on with its form after another sign-in."""
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
    """The sign-in of people by a secret, or `proxy` that names them. Wrong secrets are counted by sender's address."""

    def __init__(
        self,
        sessions: PageSessions,
        *,
        sender: SenderOf,
        clock: Clock,
        proxy: NamingProxy | None = None,
    ) -> None:
        self._proxy = proxy
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

    async def closed(self, scope: Scope, receive: Receive, asked: PageRequest) -> Page:
        """The sign-in form, shown instead of the requested page. After the sign-in, the browser goes to that page.

        What was sent to the page of `CAMPAIGN` goes on with the sign-in.
        """
        if not self._sessions.has_secrets:
            what = "The proxy of this console names nobody: nothing was done. Open the console through it, and sign in."
            return problem(401, "Nobody is signed in", what)
        said = kept = ""
        if scope["method"] == "POST" and comes_from_here(Headers(scope=scope)):
            then = "fill in the form again"
            if asked.path == CAMPAIGN:
                with suppress(FormRefusedError):  # it is too long
                    form = await read_form(scope, receive, longest=LONGEST_SHORT_FORM)
                    kept = urlencode(form.but("token", "do"), errors="replace")
                    then = "choose the file again" if form.files else "what you have typed is still there"
            said = f"Your sign-in has ended, and nothing was done. Sign in: {then}."
        return _form(401, way=_way_of(scope, asked), said=said, kept=kept)

    async def sign_in(
        self,
        scope: Scope,
        receive: Receive,
        asked: PageRequest,
        *,
        resumed: Callable[[PageForm, PageSession], Awaitable[Response]],
    ) -> Answer:
        """Begin a new session with a cookie, if the secret is right, and lead to its page. Raises StoreError.

        With a form that was sent before, it leads to what is `resumed` with it.
        """
        headers, address = Headers(scope=scope), self._sender(scope)
        if not comes_from_here(headers):
            return problem(403, "Not from this console", "Open the sign-in page of this console, and sign in there.")
        try:
            form = await read_form(scope, receive, longest=2 * LONGEST_SHORT_FORM)
        except FormRefusedError as error:
            return _form(400, said=sentence(error))
        way, kept = form.one("way") if _is_ours(form.one("way")) else "", form.one("kept")
        now = self._clock.now()
        if (wait := self._wrong.wait(address, at=now)) is not None:
            seconds = f"{wait.total_seconds():.0f}"
            said = f"Too many wrong secrets were typed. Try again in {seconds} seconds."
            page = _form(429, way=way, kept=kept, name=form.one("name"), said=said)
            return replace(page, headers={"Retry-After": seconds})
        try:
            name = read_name(form.one("name"))
        except ValueError as error:
            return _form(400, way=way, kept=kept, said=f"Check your name: {error}.")
        role = self._sessions.role_of(form.one("secret"))
        if role is None:
            self._wrong.failed(address, at=now)
            _log.warning("somebody typed a wrong secret to sign in to the console", address=str(address))
            return _form(401, way=way, kept=kept, name=form.one("name"), said="The secret is wrong.")
        if (old := await self.session(scope)) is not None:
            await self._sessions.end(old)
        session = self._sessions.begin(name, role)
        _log.info("somebody signed in to the console", name=session.name, role=role.value, address=str(address))
        answer = Response(b"", 303, {"Location": f"{asked.home}/{way}" if way else asked.home})
        if kept:
            answer = await resumed(PageForm(parse_qsl(kept, keep_blank_values=True, errors="replace")), session)
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

    async def sign_out(self, scope: Scope, receive: Receive, asked: PageRequest, session: PageSession) -> Answer:
        """End the session. Raises StoreError."""
        try:
            await checked_form(scope, receive, session, longest=LONGEST_SHORT_FORM)
        except FormRefusedError as error:
            return problem(403, "You are still signed in", sentence(error))
        own = await self.session(scope)
        if own is not None:
            await self._sessions.end(own)
        answer = Response(b"", 303, {"Location": asked.home, "Clear-Site-Data": '"cache"'})
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


def _form(status: int, *, way: str = "", name: str = "", said: str = "", kept: str = "") -> Page:
    shown = {"way": way, "name": name, "said": said, "kept": kept}
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
