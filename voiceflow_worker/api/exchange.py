"""Requests to the HTTP API: their query, key and body, read strictly, and what they work with."""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast
from urllib.parse import parse_qsl

import anyio
import anyio.to_thread
from starlette.datastructures import FormData, Headers
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope

from voiceflow_worker.actions import Operator
from voiceflow_worker.api.answers import JSON, KEY_IN_USE, LONGEST_TEXT, Answer, ProblemError, bad, unfit
from voiceflow_worker.api.places import Place, Waits
from voiceflow_worker.api.secrets import Right
from voiceflow_worker.asgi.compression import decompressed
from voiceflow_worker.core.audit import Interface
from voiceflow_worker.core.outcomes.outbox import OutcomeWatch
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.queue import CallQueue
from voiceflow_worker.errors import VoiceflowError
from voiceflow_worker.finding import Finding
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.text.json_text import RepeatedNameError, distinct
from voiceflow_worker.model.text.printable import storing_problem
from voiceflow_worker.service.escalation_policies import PolicyFile
from voiceflow_worker.service.other_process import OtherProcess

if TYPE_CHECKING:
    from voiceflow_worker.ivr.menu import Menu
    from voiceflow_worker.settings import Settings

T = TypeVar("T")

LONGEST_BODY = 1_000_000
READ_LIMIT = timedelta(seconds=10)
LONGEST_WAIT = 60
MOST_CAMPAIGNS = 4
LONGEST_KEY = 200
DEEPEST = 60
"""The most objects and arrays within each other in a body."""
_IN_THREAD = 20_000
"""Bodies from this size on are read in a thread, so that 8x8 does not wait for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What all routes work with: the store, the settings, and the menus that the server was started with."""

    store: Store
    settings: Settings
    process: OtherProcess
    watch: OutcomeWatch
    waits: Waits
    policies: PolicyFile
    """The policies of escalations."""
    menus: Mapping[str, Menu] = field(default_factory=dict[str, "Menu"])
    campaigns: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(MOST_CAMPAIGNS))
    """The places of campaigns that are read at once."""
    keys: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    """The keys of the requests that are worked on, each with its path."""

    @property
    def queue(self) -> CallQueue:
        """The queue of the settings, which gets the calls."""
        return CallQueue(self.store, self.settings.queue, policy=self.settings.policy())


class Asked:
    """One request that was admitted. `parts` are the values in its path, by name."""

    def __init__(
        self, scope: Scope, receive: Receive, *, desk: Desk, parts: Mapping[str, str], place: Place, program: str
    ) -> None:
        self._scope = scope
        self._receive = receive
        self.desk: Desk = desk
        self.parts: Mapping[str, str] = parts
        self.headers: Headers = Headers(scope=scope)
        self._place = place
        self._program = program
        self.threads: anyio.CapacityLimiter | None = None
        """Where the work on a large body is done, so that 8x8 does not wait for it; None for a small one."""

    @property
    def operator(self) -> Operator:
        """The program that asks, by the name of its secret."""
        policy, name = self.desk.settings.policy(), self._program
        return Operator(self.desk.store, policy, name, on=Interface.API, login=name)

    @cached_property
    def query(self) -> Mapping[str, str]:
        """The values of the query, each name once. Raises ProblemError."""
        try:
            text = self._scope["query_string"].decode("ascii")
            pairs = parse_qsl(text, keep_blank_values=True, errors="strict")
        except UnicodeDecodeError:
            raise bad("the query is not in UTF-8, with %XX for each byte that is not ASCII") from None
        found = dict(pairs)
        if len(found) < len(pairs):
            raise unfit("a name stands twice in the query; give it once")
        for name, value in pairs:
            _check_text(f"the query's {name[:40]}", value)
        return found

    def known_query(self, *names: str) -> Mapping[str, str]:
        """The query, which may have these names only. Raises ProblemError."""
        if unknown := [name[:40] for name in self.query if name not in names]:
            known = ", ".join(names) or "none"
            raise unfit(f"{', '.join(map(repr, unknown))} is not known in this query; known: {known}")
        return self.query

    def number(self, name: str, *, most: int, default: int, least: int = 0) -> int:
        """A whole number in the query, from `least` to `most`. Raises ProblemError."""
        text = self.query.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
            raise unfit(f"{name} is {text[:40]!r}; give a whole number from {least} to {most}")
        return int(text)

    @property
    def key(self) -> str:
        """The `Idempotency-Key`. Raises ProblemError if it is missing, or cannot be a unique key."""
        values = self.headers.getlist("idempotency-key")
        if len(values) != 1 or not values[0].strip():
            raise bad(
                "the header Idempotency-Key is missing, or there are several; give each request a key of its own, such "
                "as the id of your order: the same key again is the same request, and rings nobody twice"
            )
        key = _unquoted(values[0].strip())
        if not key or len(key) > LONGEST_KEY or not (key.isascii() and key.isprintable()) or key != key.strip():
            raise bad(
                f"the Idempotency-Key must have 1 to {LONGEST_KEY} characters, all of them printable ASCII, and no "
                "space at its ends"
            )
        return key

    @contextmanager
    def alone(self, key: str) -> Generator[None]:
        """A block in which this server works on no other request with this key. Raises ProblemError if it does."""
        held = (self._scope["path"], key)
        if held in self.desk.keys:
            told = "a request with this Idempotency-Key is in progress; ask again when it is answered"
            found = [Finding(message=told)]
            raise ProblemError(409, told, findings=found, headers={"Retry-After": "1"}, code=KEY_IN_USE)
        self.desk.keys.add(held)
        try:
            yield
        finally:
            self.desk.keys.discard(held)

    @property
    def seen(self) -> str | None:
        """What the program has seen of a thing: the ETag in `If-Match`; None without one, and for `*`.

        Raises ProblemError.
        """
        values = self.headers.getlist("if-match")
        if not values or values == ["*"]:
            return None
        if len(values) > 1 or (found := _ETAG.fullmatch(values[0].strip())) is None:
            raise bad('If-Match must be one ETag in quotes, as an answer told it: If-Match: "…"')
        return found[1]

    async def body(self, *, longest: int = LONGEST_BODY, media_type: str = JSON) -> bytes:
        """The body of the request. Raises ProblemError, before anything is read if the headers say enough."""
        given = self.media_type or media_type
        if given != media_type:
            raise ProblemError(415, f"the body is {given[:60]!r}; send {media_type}")
        too_long = self._refuse_long(longest, readable=("identity", "gzip", "x-gzip", "deflate"))
        self._place.give_up()
        content = bytearray()
        try:
            with anyio.fail_after(READ_LIMIT.total_seconds()):
                async for chunk in Request(self._scope, self._receive).stream():
                    content += chunk
                    if len(content) > longest:
                        raise too_long
        except TimeoutError:
            raise ProblemError(408, "the body did not arrive in time", headers={"Connection": "close"}) from None
        except ClientDisconnect:
            raise bad("the body did not arrive") from None
        await self._place.take()
        whole = decompressed(bytes(content), longest=longest)
        if len(whole) > longest:
            raise too_long
        return whole

    @property
    def media_type(self) -> str:
        """The media type of the body, without its parameters; empty if none is given."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def _refuse_long(self, longest: int, *, readable: Sequence[str] = ("identity",)) -> ProblemError:
        """Raise ProblemError if the headers say that the body cannot be read. Returns the problem of one too long."""
        if self.headers.get("content-encoding", "identity").strip().lower() not in readable:
            raise ProblemError(415, f"the body has an encoding that is not read here; read is {' or '.join(readable)}")
        length = self.headers.get("content-length", "0")
        too_long = ProblemError(413, f"the body is longer than {longest} bytes")
        if not length.isdigit() or int(length[:18]) > longest:
            raise too_long
        return too_long

    @asynccontextmanager
    async def form(self, *, longest: int, longest_text: int, within: float) -> AsyncGenerator[FormData]:
        """The parts of a multipart body. Large files are written to temporary ones as they come in.

        The whole has at most `longest` bytes, a part that is no file `longest_text`. Raises ProblemError.
        """
        too_long = self._refuse_long(longest)
        self._place.give_up()
        left = longest

        async def limited() -> Message:
            nonlocal left
            message = await self._receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise too_long
            return message

        try:
            with anyio.fail_after(within):
                form = await Request(self._scope, limited).form(max_part_size=longest_text, max_files=10, max_fields=10)
        except TimeoutError:
            raise ProblemError(408, "the body did not arrive in time", headers={"Connection": "close"}) from None
        except ClientDisconnect:
            raise bad("the body did not arrive") from None
        except (HTTPException, MultiPartException, ValueError) as error:  # also of an odd charset
            why = str(getattr(error, "detail", error))
            if "maximum size" in why:
                raise ProblemError(413, f"a part that is no file is longer than {longest_text} bytes") from None
            raise bad(f"the form cannot be read: {why[:200]}") from None
        try:
            await self._place.take()
            yield form
        finally:
            await form.close()

    async def json(self, *, or_nothing: bool = False) -> Mapping[str, Any]:
        """The JSON object in the body; with `or_nothing`, an empty one if there is no body. Raises ProblemError."""
        content = await self.body()
        return {} if not content and or_nothing else await self.json_object(content)

    async def json_object(self, content: bytes) -> Mapping[str, Any]:
        """The JSON object in these bytes. Raises ProblemError."""
        self.threads = _one_at_a_time() if len(content) >= _IN_THREAD else None
        document = await self.aside(strict_json, content)
        if not isinstance(document, dict):
            raise unfit("the body is not a JSON object")
        return cast("dict[str, Any]", document)

    async def aside(self, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """The result of work on the body, done in a thread if the body is large."""
        done = partial(work, *arguments, **named)
        return done() if self.threads is None else await anyio.to_thread.run_sync(done, limiter=self.threads)

    def step_aside(self) -> None:
        """Leave the place among the requests that are worked on: what follows is a wait, or is done elsewhere."""
        self._place.leave()

    async def ended(self, job: Job, *, within: float) -> Job:
        """The call when it has ended; as it stands after this time, or when the server stops or the client leaves."""
        if job.state.is_final or not within:
            return job
        found = await self.until(partial(self.desk.watch.wait, job.id), within=within)
        return found if found is not None and found.state.is_final else await self.desk.queue.get(job.id)

    async def until(self, work: Callable[[], Awaitable[T]], *, within: float) -> T | None:
        """What `work` waits for; None after this time, after an error, or if the server stops or the client leaves."""
        found: T | None = None

        async def gone(scope: anyio.CancelScope) -> None:
            while (await self._receive())["type"] != "http.disconnect":
                pass
            scope.cancel()

        self._place.leave()
        with self.desk.waits.waiting(within) as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(gone, scope)
                with suppress(VoiceflowError):  # such as that it was deleted meanwhile: the last look says it
                    found = await work()
                group.cancel_scope.cancel()
        return found


_ETAG = re.compile(r'"([!#-~]*)"')
_STRING = re.compile(r'"((?:[^"\\]|\\["\\])*)"(?:[ \t]*;.*)?')
"""A string of a structured field (RFC 8941), with parameters, which have no meaning here."""


def _unquoted(key: str) -> str:
    """The key in a header that is a string of a structured field, as the IETF draft has it; else as it stands."""
    if not key.startswith('"'):
        return key
    if (found := _STRING.fullmatch(key)) is None:
        raise bad(
            f'the Idempotency-Key {key[:40]!a} begins with a quote, and is no string in quotes: give "key" or key'
        )
    return re.sub(r"\\(.)", r"\1", found[1])


_one_at_a_time = cache(lambda: anyio.CapacityLimiter(1))


Handler: TypeAlias = Callable[[Asked], Awaitable[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path, such as `/v1/calls/{id}`. `doc` is its operation in the OpenAPI document."""

    method: str
    path: str
    handle: Handler
    doc: Mapping[str, object]
    told_as_503: frozenset[int] = frozenset()
    """The statuses that are answered as 503, because the senders ask again after nothing else."""

    @property
    def right(self) -> Right:
        """The right that a program needs for this."""
        if self.method == "GET":
            return Right.READ
        rings = self.path.startswith(_RINGS) or self.path in {"/v1/calls", "/v1/calls/{id}/redial"}
        return Right.CALL if rings else Right.STEER


_RINGS = ("/v1/campaigns", "/v1/escalations", "/v1/hooks/")


def texts_in(body: Mapping[str, Any], *names: str) -> dict[str, str | None]:
    """The texts of a body that has no other names than these. Raises ProblemError."""
    if unknown := [name[:40] for name in body if name not in names]:
        raise unfit(f"{', '.join(map(repr, unknown))} is not known here; known: {', '.join(names)}")
    for name, value in body.items():
        if value is not None and not (isinstance(value, str) and len(value) <= LONGEST_TEXT):
            raise unfit(f"{name} is not a text of at most {LONGEST_TEXT} characters")
    return {name: body.get(name) for name in names}


def strict_json(content: bytes) -> object:
    """The JSON document in UTF-8. Raises ProblemError for all that readers may read differently.

    These are names that stand twice, NaN and infinite numbers, halves of characters, and U+0000. Deep nesting is
    refused too.
    """
    try:
        document = json.loads(
            content.decode().removeprefix("\ufeff"), object_pairs_hook=distinct, parse_constant=_constant
        )
    except ProblemError:
        raise
    except RepeatedNameError as error:
        raise bad(f"the name {error.name!a} stands twice in one object of the body") from None
    except UnicodeDecodeError:
        raise bad("the body is not in UTF-8") from None
    except RecursionError:
        raise bad(f"the body is nested too deeply; at most {DEEPEST} levels are read") from None
    except ValueError as error:
        raise bad(f"the body is not JSON: {str(error)[:200]}") from None
    _check(document)
    return document


def _constant(name: str) -> object:
    raise bad(f"the body holds {name}, which JSON does not have")


def _check(document: object) -> None:
    """Raise ProblemError for a value that no store can keep. Nothing here is recursive."""
    level: list[object] = [document]
    for _ in range(DEEPEST):
        below: list[object] = []
        for value in level:
            if isinstance(value, str):
                _check_text("a text of the body", value)
            elif isinstance(value, float) and not math.isfinite(value):
                raise bad("a number of the body is too large")
            elif isinstance(value, dict):
                below += [*value, *value.values()]
            elif isinstance(value, list):
                below += value
        if not below:
            return
        level = below
    raise bad(f"the body is nested too deeply; at most {DEEPEST} levels are read")


def _check_text(what: str, text: str) -> None:
    if problem := storing_problem(text):
        raise bad(f"{what} {problem}")
