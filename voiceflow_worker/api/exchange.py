"""Requests to the HTTP API: read strictly and whole, worked on a few at a time, and what they work with."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import parse_qsl

import anyio
import anyio.to_thread
import structlog
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request

from voiceflow_worker.actions import ActionRefusedError, Operator, OperatorAction
from voiceflow_worker.api.answers import (
    UNREADABLE,
    Answer,
    Fault,
    ProblemError,
    bad,
    fault_of,
    faults_of,
    problem_of,
    refused,
    unfit,
)
from voiceflow_worker.api.operations import MULTIPART, Operation
from voiceflow_worker.asgi import limits
from voiceflow_worker.asgi.limits import decompressed
from voiceflow_worker.asgi.openapi import JSON
from voiceflow_worker.core.audit import Actor, Interface
from voiceflow_worker.core.outcomes.outbox import OutcomeWatch
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import InvalidInputError, RequestInProgressError, VoiceflowError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.text.arguments import LONGEST_KEY
from voiceflow_worker.model.text.json_text import RepeatedNameError, distinct
from voiceflow_worker.model.text.printable import storing_problem
from voiceflow_worker.queue import CallQueue
from voiceflow_worker.service.on_call import PolicyFile
from voiceflow_worker.service.other_process import OtherProcess

if TYPE_CHECKING:
    from voiceflow_worker.ivr.menu import Menu
    from voiceflow_worker.settings import Settings

T = TypeVar("T")

LONGEST_BODY = 1_000_000
LONGEST_FILE = 20_000_000
AT_ONCE, MOST_IN_LINE = 4, 200
"""The most requests that are worked on at once, and the most in all. Further ones get a 429."""
MOST_WAITING = 200
"""The most requests that wait for an outcome."""
MOST_CAMPAIGNS = 4
DEEPEST = 60
"""The most objects and arrays within each other in a body."""
_TOO_DEEP = f"the body is nested too deeply; at most {DEEPEST} levels are read"
_IN_THREAD = 20_000
"""Bodies from this size on are read in a thread, so that 8x8 does not wait for them."""
WAITS_FOR_EVENTS = timedelta(milliseconds=250)
"""The longest that a request waits for events of 8x8, so that many of them do not stop all requests."""
IN_LINE_FOR = timedelta(seconds=5)

_log = structlog.get_logger("voiceflow.api")


class EventsFirst:
    """Lets events of 8x8 go first: a request that comes meanwhile is begun when none of them is being handled."""

    def __init__(self) -> None:
        self._events = 0
        self._free = anyio.Event()

    @contextmanager
    def handling(self) -> Generator[None]:
        """A block in which an event is handled."""
        self._events += 1
        try:
            yield
        finally:
            self._events -= 1
            if not self._events:
                self._free.set()
                self._free = anyio.Event()

    async def wait_for_none(self) -> None:
        """Wait until no event is being handled, at most `WAITS_FOR_EVENTS`."""
        with anyio.move_on_after(WAITS_FOR_EVENTS.total_seconds()):
            while self._events:
                await self._free.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiContext:
    """What all routes work with: the store, the settings, the menus of the server, and how much is done at once."""

    store: Store
    settings: Settings
    process: OtherProcess
    watch: OutcomeWatch
    policies: PolicyFile
    """The policies of escalations."""
    menus: Mapping[str, Menu] = field(default_factory=dict[str, "Menu"])
    events: EventsFirst = field(default_factory=EventsFirst)
    line: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(MOST_IN_LINE))
    turns: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(AT_ONCE))
    waits: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(MOST_WAITING))
    campaigns: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(MOST_CAMPAIGNS))
    """The requests that are in line, are worked on, wait for an outcome, and read a campaign."""
    stopping: anyio.Event = field(default_factory=anyio.Event)
    """Set when the server is to stop: all waits end."""
    keys: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    """The keys of the requests that are worked on, each with its path."""

    @property
    def queue(self) -> CallQueue:
        """The queue of the settings, which gets the calls."""
        return CallQueue(self.store, self.settings.queue, policy=self.settings.policy())


@contextmanager
def among(limiter: anyio.CapacityLimiter, who: object, *, told: str, after: str = "1") -> Generator[None]:
    """A block in which `who` is one of those that a limiter lets in. Raises ProblemError if there is no room."""
    try:
        limiter.acquire_on_behalf_of_nowait(who)
    except anyio.WouldBlock:
        raise ProblemError(429, told, headers={"Retry-After": after}) from None
    try:
        yield
    finally:
        limiter.release_on_behalf_of(who)


@dataclass(slots=True, kw_only=True, eq=False)
class Asked:
    """One request that was admitted. `parts` are the values in its path, and `key` is its Idempotency-Key.

    `upload` is a form with files beside the JSON object in it. `prefix` stands before /v1 in the address that the
    program knows. The work on a large body is done in `threads`, so that 8x8 does not wait for it.
    """

    request: Request
    context: ApiContext
    operation: Operation
    parts: Mapping[str, str]
    program: str
    prefix: str
    key: str = ""
    upload: FormData | None = None
    threads: anyio.CapacityLimiter | None = None
    _place: AsyncExitStack = field(default_factory=AsyncExitStack)
    _faults: list[Fault] = field(default_factory=list[Fault])
    _query: BaseModel | None = None
    _document: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def actor(self) -> Actor:
        """Who makes something, with the key of the request."""
        return replace(self.operator.actor, key=self.key or None)

    @property
    def operator(self) -> Operator:
        """The program that asks, by the name of its secret."""
        policy, name = self.context.settings.policy(), self.program
        return Operator(self.context.store, policy, name, on=Interface.API, login=name)

    async def answer(self) -> Answer:
        """Read the request, wait in line, and handle it. Raises ProblemError, with all that is wrong."""
        operation = self.operation
        async with AsyncExitStack() as whole, self._place:
            self._place.enter_context(among(self.context.line, self, told=_CROWDED))
            self._read_head()
            content = None if operation.body is None else await self._sent(whole)
            await self._take_turn()
            try:
                given = {"query": self._query, "body": await self._read_body(content)}
                return await operation.handle(self, **{name: given[name] for name in operation.reads})
            except InvalidInputError as error:
                raise problem_of(error, self.faults_of(error.findings)) from error

    async def _take_turn(self) -> None:
        turns = self.context.turns
        with anyio.move_on_after(IN_LINE_FOR.total_seconds()) as scope:
            await turns.acquire_on_behalf_of(self)
        if scope.cancelled_caught:
            raise ProblemError(429, _CROWDED, headers={"Retry-After": "1"})
        self._place.callback(turns.release_on_behalf_of, self)
        await self.context.events.wait_for_none()

    async def leave_line(self) -> None:
        """Leave the line and the turn: what follows is a wait, or is done elsewhere."""
        await self._place.aclose()

    def _read_head(self) -> None:
        """Read the query and the headers, and keep what is wrong with them."""
        headers, operation, faults = self.request.headers, self.operation, self._faults
        pairs = list[tuple[str, str]]()
        try:
            text = self.request.scope["query_string"].decode("ascii")
            pairs = parse_qsl(text, keep_blank_values=True, errors="strict")
        except UnicodeDecodeError:
            told = "the query is not in UTF-8, with %XX for each byte that is not ASCII"
            faults.append(Fault(detail=told, code=UNREADABLE))
        for name, value in pairs:
            if problem := storing_problem(value):
                faults.append(Fault(detail=problem, code=UNREADABLE, parameter=name[:40]))
        if len(given := dict(pairs)) < len(pairs):
            faults.append(Fault(detail="a name is twice in the query; give it once"))
        try:
            self._query = operation.query.model_validate(given)
        except ValidationError as error:
            faults += faults_of(error, query=operation.query)
        values, keyed = headers.getlist("idempotency-key"), operation.keyed
        is_preview = getattr(self._query, "dry_run", False)
        if keyed or (keyed is None and (values or not is_preview)):
            try:
                self.key = _key_in(values)
            except ProblemError as problem:
                faults += problem.faults

    async def _read_body(self, content: bytes | None) -> BaseModel | None:
        """Read the JSON in the body. Raises ProblemError with all that is wrong with the request."""
        operation, found = self.operation, None
        if self.upload is not None:
            content = await _definition(self.upload, operation.files or {})
        if content or operation.needs_body:
            self.threads = _one_at_a_time() if len(content or b"") >= _IN_THREAD else None
            try:
                self._document = await self.in_thread(strict_json, content or b"")
            except ProblemError as problem:
                raise refused([*self._faults, *problem.faults]) from None
        if operation.body is not None:
            try:
                found = operation.body.model_validate(self._document)
            except ValidationError as error:
                self._faults += faults_of(error)
        if self._faults:
            try:
                if operation.check is not None:
                    await operation.check(self, found)
            except InvalidInputError as error:
                self._faults += self.faults_of(error.findings)
            raise refused(self._faults)
        return found

    def faults_of(self, findings: Sequence[Finding]) -> list[Fault]:
        """Findings as faults of this request."""
        schema: Mapping[str, Any] = getattr(self.operation.body, "table", {})
        query = self.operation.query.model_fields.keys() - self._document.keys()
        return [fault_of(each, body=self._document, schema=schema, query=query) for each in findings]

    @contextmanager
    def alone(self) -> Generator[None]:
        """A block in which this server works on no other request with this key. Raises ProblemError if it does."""
        held = (self.operation.path, self.key)
        if held in self.context.keys:
            raise RequestInProgressError
        self.context.keys.add(held)
        try:
            yield
        finally:
            self.context.keys.discard(held)

    async def _sent(self, whole: AsyncExitStack) -> bytes | None:
        """The body of the request; None for a form, whose large files are written to temporary ones as they come in.

        `whole` closes them. Raises ProblemError, before anything is read if the headers say enough.
        """
        headers = self.request.headers
        given = headers.get("content-type", "").partition(";")[0].strip().lower() or JSON
        is_form = self.operation.files is not None and given == MULTIPART
        if not is_form and given != JSON:
            raise ProblemError(415, f"the body is {given[:60]!r}; send {JSON}")
        readable = ("identity",) if is_form else ("identity", "gzip", "x-gzip", "deflate")
        if headers.get("content-encoding", "identity").strip().lower() not in readable:
            raise ProblemError(415, f"the body has an encoding that is not read here; read is {' or '.join(readable)}")
        longest = LONGEST_FILE + LONGEST_BODY if is_form else LONGEST_BODY
        length = headers.get("content-length", "0")
        too_long = ProblemError(413, f"the body is longer than {longest} bytes")
        if not length.isdigit() or int(length[:18]) > longest:
            raise too_long
        request = Request(self.request.scope, limits.at_most(self.request.receive, longest, otherwise=too_long))
        limit = limits.UPLOAD if is_form else limits.BODY
        try:
            with anyio.fail_after(limit.total_seconds()):
                if is_form:
                    form = request.form(max_part_size=LONGEST_BODY, max_files=10, max_fields=10)
                    self.upload = await whole.enter_async_context(form)
                    return None
                content = await request.body()
        except TimeoutError:
            raise ProblemError(408, "the body did not arrive in time", headers={"Connection": "close"}) from None
        except ClientDisconnect:
            raise bad("the body did not arrive") from None
        except (HTTPException, MultiPartException, ValueError) as error:  # also of an odd charset
            why = str(getattr(error, "detail", error))
            if "maximum size" in why:
                raise ProblemError(413, f"a part that is no file is longer than {LONGEST_BODY} bytes") from None
            raise bad(f"the form cannot be read: {why[:200]}") from None
        content = decompressed(content, longest=longest)
        if len(content) > longest:
            raise too_long
        return content

    async def done(self, act: OperatorAction, token: str | None = None) -> Answer:
        """Carry out an action, and answer with its document."""
        done = await act.do(token)
        if not done.documents:
            raise ActionRefusedError(done.message)
        return Answer(done.documents[0])

    async def in_thread(self, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """The result of work on the body, done in a thread if the body is large."""
        done = partial(work, *arguments, **named)
        return done() if self.threads is None else await anyio.to_thread.run_sync(done, limiter=self.threads)

    async def ended(self, job: Job, *, within: float) -> Job:
        """The call when it has ended; as it stands after this time, or when the server stops or the client leaves."""
        if job.state.is_final or not within:
            return job
        found = await self.until(partial(self.context.watch.wait, job.id), within=within)
        return found if found is not None and found.state.is_final else await self.context.queue.get(job.id)

    async def until(self, work: Callable[[], Awaitable[T]], *, within: float) -> T | None:
        """What `work` waits for; None after this time, after an error, or if the server stops or the client leaves."""
        await self.leave_line()
        with (
            among(self.context.waits, self, told=f"{MOST_WAITING} requests wait already; ask again later", after="2"),
            anyio.move_on_after(within),
            suppress(VoiceflowError),  # such as that it was deleted meanwhile: the last look says it
        ):
            return await limits.while_connected(self.request.receive, work, self.context.stopping.wait)
        return None


_CROWDED = "too many requests at once; try again in a moment"
_STRING = re.compile(r'"((?:[^"\\]|\\["\\])*)"(?:[ \t]*;.*)?')
"""A string of a structured field (RFC 8941), with parameters, which have no meaning here."""
_KEY = re.compile(rf"[!-~](?:[ -~]{{0,{LONGEST_KEY - 2}}}[!-~])?")
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_one_at_a_time = cache(lambda: anyio.CapacityLimiter(1))


def _key_in(values: list[str]) -> str:
    """The `Idempotency-Key`. Raises ProblemError if it is missing, or cannot be a unique key."""
    key = values[0].strip() if len(values) == 1 else ""
    if found := _STRING.fullmatch(key):  # a string of a structured field, as the IETF draft has it
        unquoted = re.sub(r"\\(.)", r"\1", found[1])
    else:
        unquoted = "" if key.startswith('"') else key
    if _KEY.fullmatch(unquoted):
        return unquoted
    told = (
        f"the Idempotency-Key {key[:40]!a} must have 1 to {LONGEST_KEY} characters, all of them printable ASCII, "
        'without a space at its ends; give "key" or key'
        if key
        else "the header Idempotency-Key is missing, or there are several; give each request a key of its own, such as "
        "the id of your order: the same key again is the same request, and rings nobody twice"
    )
    raise bad(told, parameter="Idempotency-Key")


async def _definition(form: FormData, files: Mapping[str, str]) -> bytes:
    """The part of a form with the JSON, whatever its name. Raises ProblemError without one, or with several."""
    others = [(name, value) for name, value in form.multi_items() if name not in files]
    if len(others) != 1:
        names = ", ".join(name[:40] for name, _ in others) or "none"
        raise unfit(
            f"the form has {len(others)} parts beside the files ({names}); give the fields as one JSON object, in the "
            "part definition"
        )
    ((_, value),) = others
    if isinstance(value, str):
        return value.encode(errors="surrogatepass")
    if (value.size or 0) > LONGEST_BODY:
        raise ProblemError(413, f"the definition is longer than {LONGEST_BODY} bytes; send many rows as a file")
    return await value.read()


def strict_json(content: bytes) -> dict[str, Any]:
    """The JSON object in UTF-8. Raises ProblemError for all that readers may read differently.

    These are names that stand twice, NaN and infinite numbers, halves of characters, and U+0000. Deep nesting is
    refused too.
    """
    try:
        text = content.decode().removeprefix("\ufeff")
        read: object = json.loads(text, object_pairs_hook=distinct, parse_constant=_finite, parse_float=_finite)
        escaped = json.dumps(read, ensure_ascii=False).encode() if "\\u" in text else b""  # fails for half a character
    except RepeatedNameError as error:
        raise bad(f"the name {error.name!a} is twice in one object of the body") from None
    except RecursionError:
        raise bad(_TOO_DEEP) from None
    except ValueError as error:
        raise bad(f"the body is not JSON: {str(error)[:200]}") from None
    if _NUL.search(escaped):
        raise bad("a text of the body has a NUL character (U+0000), which no store can keep; remove it")
    level: list[object] = [read]
    for _ in range(DEEPEST):
        level = [each for value in level for each in _within(value)]
    if level:
        raise bad(_TOO_DEEP)
    if not isinstance(read, dict):
        raise refused([Fault(detail="the body is not a JSON object", pointer="")])
    return cast("dict[str, Any]", read)


def _finite(number: str) -> float:
    if not math.isfinite(value := float(number)):
        raise ValueError(f"{number[:20]} is not a finite number")
    return value


def _within(value: object) -> Iterable[object]:
    """The values in an object or an array."""
    if isinstance(value, dict):
        return cast("dict[str, object]", value).values()
    return cast("list[object]", value) if isinstance(value, list) else ()
