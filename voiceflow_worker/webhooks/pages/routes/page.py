"""Requests for pages, and pages as answers to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from starlette.responses import Response
from starlette.types import Scope

from voiceflow_worker.core.ports import Store


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A request for a page below `/ui`.

    `home` is the relative path from the page to `/ui`, so that links work wherever the app is mounted. `is_poll` is
    True if the request is for the live part only.
    """

    path: str
    query: Mapping[str, str]
    home: str
    is_poll: bool = False

    @property
    def room(self) -> str:
        """The first part of the path, such as `calls`; empty for `/ui` itself."""
        return self.path.partition("/")[0]

    @property
    def name(self) -> str:
        """The rest of the path: the id of one call, or of one batch."""
        return self.path.partition("/")[2]

    def asked(self, name: str) -> str | None:
        """A value of the query, without spaces around it; None if it is missing or empty."""
        return self.query.get(name, "").strip() or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page: a template, and the values `shown` in it. If `is_live`, the template's block `live` updates itself."""

    template: str
    shown: Mapping[str, object] = field(default_factory=dict[str, object])
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    is_live: bool = False


Answer = Page | Response
PageRoute = Callable[[Store, PageRequest], Awaitable[Answer]]
"""A function that reads the store, and returns a page or another response. Raises StoreError."""


def problem(status: int, title: str, what: str, *, back: str = "", headers: Mapping[str, str] | None = None) -> Page:
    """A page that says what is wrong and what to do. `back` is the page under /ui to which its button leads."""
    shown = {"title": title, "what": what, "back": back}
    return Page(template="problem.html", shown=shown, status=status, headers=headers or {})


def sentence(error: Exception | str) -> str:
    """The message of an error, or a clause, as a sentence, with a capital letter and a full stop."""
    said = str(error).removesuffix(".")
    return f"{said[:1].upper()}{said[1:]}."


def read_request(scope: Scope) -> PageRequest:
    """The request of an ASGI scope for `/ui` or `/ui/{rest:path}`."""
    rest: str | None = scope.get("path_params", {}).get("rest")
    query = parse_qs(scope["query_string"].decode("latin-1"), errors="replace", max_num_fields=None)
    if rest is None:
        home = "ui"
    else:
        # Segments are counted in the raw path, where a slash inside a name is %2F and does not separate segments.
        before = scope["path"][: len(scope["path"]) - len(rest)].count("/")
        sent = (scope.get("raw_path") or scope["path"].encode()).count(b"/")
        home = "../" * max(1, sent - before + 1) + "ui"
    return PageRequest(rest or "", {name: values[0] for name, values in query.items()}, home)
