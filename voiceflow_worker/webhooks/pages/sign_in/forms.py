"""Forms that people send to the pages. They are read within limits, and only if these pages sent them."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.webhooks.pages.sign_in.sessions import PageSession


class FormRefusedError(InvalidInputError):
    """Raised for a form that is too long, cannot be read, or did not come from these pages. Nothing was changed."""


class PageForm:
    """The values of a form, or of the query of a URL. `file` is the content of the form's file, if it has one."""

    def __init__(self, values: Iterable[tuple[str, str]], *, file: bytes | None = None) -> None:
        self._values = list(values)
        self.file = file

    def one(self, name: str) -> str:
        """The value with this name, without white space around it; empty if there is none."""
        return next((value.strip() for key, value in self._values if key == name), "")

    def exactly(self, name: str) -> str:
        """The value with this name, with its spaces, because a batch's name may begin with a space."""
        return next((value for key, value in self._values if key == name), "")

    def some(self, *names: str) -> list[tuple[str, str]]:
        """The values with these names, as they were sent, each with its name."""
        return [(key, value) for key, value in self._values if key in names and value]

    def all(self, name: str) -> list[str]:
        """All different values with this name."""
        return list(dict.fromkeys(value.strip() for key, value in self._values if key == name and value.strip()))


async def read_form(scope: Scope, receive: Receive, *, longest: int) -> PageForm:
    """Read the form in the body of a request, of at most `longest` bytes. Raises FormRefusedError."""
    left = longest

    async def limited() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise FormRefusedError(f"the form is longer than {longest:,} bytes; send less at once")
        return message

    if _charset(Headers(scope=scope)) not in {b"utf-8", b"utf8"}:
        raise FormRefusedError("the form is not in UTF-8, as the forms of these pages are; open the page again")
    try:
        form: FormData = await Request(scope, limited).form(max_files=1, max_fields=2000, max_part_size=longest)
    except (HTTPException, MultiPartException, ClientDisconnect, UnicodeDecodeError) as error:
        raise FormRefusedError("the form cannot be read; open the page again, and send it once more") from error
    try:
        file = next((value for _, value in form.multi_items() if isinstance(value, UploadFile)), None)
        content = None if file is None else await file.read()
        return PageForm(((name, value) for name, value in form.multi_items() if isinstance(value, str)), file=content)
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
        raise FormRefusedError("this form was not sent from these pages; open the page again, and send it from there")
    form = await read_form(scope, receive, longest=longest)
    if not session.sent(form.one("token")):
        raise FormRefusedError("this form belongs to another sign-in; open the page again, and send it once more")
    return form
