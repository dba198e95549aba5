"""Requests for pages with their queries, and pages as answers to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

from starlette.responses import Response
from starlette.types import Scope

from voiceflow_worker.core.base.identity import BatchNames, QueueNames, queue_of
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.text.printable import as_stored
from voiceflow_worker.model.text.wording import DEFAULT_QUEUE, QUEUE_NAME
from voiceflow_worker.model.zones import require_zone

LONGEST_NAME = 256


async def call_with(store: Store, job_id: str) -> Job | None:
    """Return the call with this id; None if there is none. Raises StoreError."""
    if len(job_id) > LONGEST_NAME or "." not in job_id or not QUEUE_NAME.fullmatch(queue_of(job_id)):
        return None
    return (await get_jobs(store, [job_id])).get(job_id)


async def no_such_batch(store: Store, queue: str, batch_id: str) -> Page:
    """Return the page that says that a queue has no calls of this batch. Raises StoreError."""
    is_name = QUEUE_NAME.fullmatch(queue) and 0 < len(batch_id) <= LONGEST_NAME
    unknown = await BatchNames(store, queue).why_unknown(batch_id) if is_name else None
    return problem(404, "No such batch", sentence(unknown or "the address of this page names no batch with calls"))


async def queue_names(store: Store, *, also: str | None) -> list[str]:
    """Return the queues that ever had a call or a worker, the default one, and the queue `also`. Raises StoreError."""
    known = await QueueNames(store).known()
    named = {also} if also is not None and QUEUE_NAME.fullmatch(also) else set[str]()
    return sorted({DEFAULT_QUEUE, *known, *named})


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A request for a page below `/ui`.

    `home` is the relative path from the page to `/ui`, so that links work wherever the app is mounted. `zone` is the
    zone of the times on the page: that of the browser, or the one that its person has chosen.
    """

    path: str
    query: Mapping[str, str]
    home: str
    zone: str = "UTC"

    @property
    def time_zone(self) -> ZoneInfo:
        """Zone of the times on the page."""
        return require_zone(self.zone)

    @property
    def section(self) -> str:
        """First part of the path, such as `calls`; empty for `/ui` itself."""
        return self.path.partition("/")[0]

    @property
    def name(self) -> str:
        """Rest of the path: the id of one call, or of one batch."""
        return self.path.partition("/")[2]

    def asked(self, name: str) -> str | None:
        """Return a value of the query, without spaces around it; None if it is missing or empty."""
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
    """Return a page that says what is wrong and what to do; its button leads to the page `back` under /ui."""
    shown = {"title": title, "what": what, "back": back}
    return Page(template="problem.html", shown=shown, status=status, headers=headers or {})


def sentence(error: Exception | str) -> str:
    """Return the message of an error, or a clause, as a sentence with a capital letter.

    The name of a file or an address at its beginning stays as it is.
    """
    said = str(error).removesuffix(".")
    first = said.split(maxsplit=1)[0].rstrip(",:;") if said.strip() else ""
    begins = said[:1].upper() if first.replace("-", "").isalpha() else said[:1]
    return f"{begins}{said[1:]}{'' if said.endswith('?') else '.'}"


def read_request(scope: Scope) -> PageRequest:
    """Return the request of an ASGI scope for `/ui` or `/ui/{rest:path}`."""
    rest: str | None = scope.get("path_params", {}).get("rest")
    query = parse_qs(scope["query_string"].decode("latin-1"), errors="replace", max_num_fields=None)
    home = "ui"
    if rest is not None:
        # Segments are counted in the raw path, where a slash inside a name is %2F and does not separate segments.
        before = scope["path"][: len(scope["path"]) - len(rest)].count("/")
        sent = (scope.get("raw_path") or scope["path"].encode()).count(b"/")
        home = "../" * max(1, sent - before + 1) + "ui"
    return PageRequest(rest or "", {name: as_stored(values[0]) for name, values in query.items()}, home)
