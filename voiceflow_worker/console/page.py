"""Requests for pages with their queries, and pages as answers to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

from starlette.responses import Response
from starlette.types import Scope

from voiceflow_worker.core.base.identity import BatchNames, QueueNames, job_of, queue_of
from voiceflow_worker.core.base.reading import find_jobs, get_jobs
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reads import ByKey, Listing
from voiceflow_worker.errors import StoreVersionError
from voiceflow_worker.model.jobs.job import Job, usual_key
from voiceflow_worker.model.text.printable import as_stored
from voiceflow_worker.model.text.wording import DEFAULT_QUEUE, QUEUE_NAME
from voiceflow_worker.model.times import zone_of_number
from voiceflow_worker.model.zones import zone_named

LONGEST_NAME = 256


async def find_call(store: Store, text: str, *, also: str | None = None) -> Job | None:
    """The call with this id, `clientRequestId` or unique key; None if there is none, or one in several queues.

    `also` is a queue that is searched even if it never had a worker or a batch. Raises StoreError.
    """
    job = await call_with(store, text)
    if job is None and (post := job_of(text)) is not None:
        job = await call_with(store, post[0])
    if job is not None:
        return job
    reads = [ByKey(name, (usual_key(text),)) for name in await queue_names(store, also=also)]
    found = [job for read in reads for job in await find_jobs(store, read) if job.body]  # a tombstone has none
    return found[0] if len(found) == 1 else None


async def call_with(store: Store, job_id: str) -> Job | None:
    """The call with this id; None if there is none. Raises StoreError."""
    # A text that cannot be an id is not looked up, because some stores find the job by the queue in its id.
    if len(job_id) > LONGEST_NAME or "." not in job_id or not QUEUE_NAME.fullmatch(queue_of(job_id)):
        return None
    return (await get_jobs(store, [job_id])).get(job_id)


async def no_such_batch(store: Store, queue: str, batch_id: str) -> Page:
    """The page that says that a queue has no calls of this batch. Raises StoreError."""
    is_name = QUEUE_NAME.fullmatch(queue) and 0 < len(batch_id) <= LONGEST_NAME
    unknown = await BatchNames(store, queue).why_unknown(batch_id) if is_name else None
    return problem(404, "No such batch", sentence(unknown or "the address of this page names no batch with calls"))


async def queue_names(store: Store, *, also: str | None) -> list[str]:
    """The queues that ever had a call or a worker, the default queue, and the queue `also`. Raises StoreError."""
    known = await QueueNames(store).known()
    named = {also} if also is not None and QUEUE_NAME.fullmatch(also) else set[str]()
    return sorted({DEFAULT_QUEUE, *known, *named})


_LOOKED_AT = 100


async def zone_of(store: Store, queue: str) -> ZoneInfo:
    """The zone of most of the newest calls of a queue; UTC if none has one. Raises StoreError.

    A call without a time zone counts with that of its number.
    """
    newest = Listing(queue=queue, newest=True, limit=_LOOKED_AT)
    jobs: Sequence[Job] = ()
    with suppress(StoreVersionError):
        jobs = await find_jobs(store, newest)
    names = Counter(job.time_zone or zone_of_number(job.destination).zone for job in jobs)
    del names[None]
    usual = min(names, key=lambda name: (-names[name], name or ""), default=None)
    return zone_named(usual or "") or ZoneInfo("UTC")


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A request for a page below `/ui`.

    `home` is the relative path from the page to `/ui`, so that links work wherever the app is mounted. `zone` is the
    zone of the times on the page: that of the browser, or the one that its person has chosen, or else the `usual_zone`,
    which is that of the queue.
    """

    path: str
    query: Mapping[str, str]
    home: str
    zone: str = "UTC"
    usual_zone: str = "UTC"

    @property
    def time_zone(self) -> ZoneInfo:
        """The zone of the times on the page."""
        return zone_named(self.zone) or ZoneInfo("UTC")

    @property
    def queue(self) -> str | None:
        """The queue of the page; None if it names none."""
        name = queue_of(self.name) if self.section == "calls" and self.name else self.query.get("queue", "")
        return name if QUEUE_NAME.fullmatch(name) else None

    @property
    def section(self) -> str:
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
    """The message of an error, or a clause, as a sentence with a capital letter.

    The name of a file or an address at its beginning stays as it is.
    """
    said = str(error).removesuffix(".")
    first = said.split(maxsplit=1)[0].rstrip(",:;") if said.strip() else ""
    begins = said[:1].upper() if first.replace("-", "").isalpha() else said[:1]
    return f"{begins}{said[1:]}{'' if said.endswith('?') else '.'}"


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
    return PageRequest(rest or "", {name: as_stored(values[0]) for name, values in query.items()}, home)
