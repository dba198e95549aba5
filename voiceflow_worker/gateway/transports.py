"""The two transports for POSTs, the choice between them, and the proof that an answer belongs to its POST.

On asyncio, `connections` carries the POSTs. Everything else goes over httpx: POSTs on trio, over a transport of the
user or through a proxy without TLS, and all requests that place no call. There the trace of
httpx's own pool proves what was not sent, and each request asks the server to close its connection.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import anyio
import httpx

from voiceflow_worker.errors import SettingsError
from voiceflow_worker.gateway.answer import AnswerReader, HttpAnswer
from voiceflow_worker.gateway.connections import ConnectionPosts, PostOnConnection
from voiceflow_worker.gateway.network import LEFT_WITHIN, Network, Timeouts
from voiceflow_worker.gateway.verdict import verdict_on_unmatched
from voiceflow_worker.model.reports.verdict import (
    PostProgress,
    Reservation,
    Verdict,
    VerdictKind,
)

LONGEST_WAIT = 3.0
"""Connections are kept only if the wait for silence after an answer takes at most this many seconds. Otherwise each
call gets a new connection, and its answer needs no proof. Calls that wait for silence count as in flight, so with
longer waits a campaign with a few refusals would fall behind its rate."""
LATE = 60.0
"""The seconds for which a response time counts at least. It is forgotten before three times as many have passed."""
SHORTEST = 1.0
"""The shortest wait, in seconds, after which no answer is expected."""
REMEMBERED = 4096
"""The number of session ids of recent answers that one client remembers."""


class AnswerProof:
    """Verifies that the answers of one client belong to their POSTs. `at_most` is the read timeout, in seconds.

    An answer CREATED with a new session is trusted. Two kinds of answers may be left over from another request:
    answers which say that nobody was called, and answers with the session of an earlier answer. These are trusted only
    if the POST had its own connection, or if nothing follows the answer.
    """

    __slots__ = ("_at_most", "_sessions", "_times")

    def __init__(self, *, at_most: float) -> None:
        self._at_most = at_most
        self._times = AnswerTimes()
        self._sessions = RecentSessions()

    def waited(self, seconds: float) -> None:
        """Record how many seconds an answer took, or how long a POST waited in vain for one."""
        self._times.add(seconds, at=time.monotonic())

    async def verify(
        self, verdict: Verdict, exchange: PostOnConnection | HttpxExchange, *, progress: PostProgress
    ) -> tuple[Verdict, bool]:
        """The verdict that may be trusted, and whether the connection may be used again.

        While answers are slow, no connection is used again. A hold does not wait for the proof, which takes a second
        or more.
        """
        wait = self._times.long_enough(at=time.monotonic(), at_most=self._at_most)
        keep = wait <= LONGEST_WAIT
        repeats = verdict.session_id is not None and self._sessions.seen_before(verdict.session_id)
        is_in_doubt = verdict.kind is VerdictKind.UNKNOWN
        if (verdict.kind is VerdictKind.CREATED or is_in_doubt) and not repeats:
            return verdict, keep and not is_in_doubt
        if exchange.has_own_connection:
            return verdict, keep and not is_in_doubt
        if is_in_doubt:
            return verdict_on_unmatched(verdict), False
        if verdict.hold is not None:
            await progress.hold(verdict.hold)
        answer = exchange.answer
        if not (answer.is_whole and answer.states_its_length and await exchange.stays_silent(wait)):
            return verdict_on_unmatched(verdict), False
        if repeats:
            self._sessions.mark_not_unique()
        return verdict, keep


class AnswerTimes:
    """The slowest of the recent response times. The argument `at` is the current time, in monotonic seconds."""

    __slots__ = ("_before", "_began", "_now")

    def __init__(self) -> None:
        self._began = float("-inf")
        self._now = 0.0
        self._before = 0.0

    def add(self, seconds: float, *, at: float) -> None:
        """Record how many seconds an answer took, or how long a POST waited in vain for one."""
        self._rotate(at)
        self._now = max(self._now, seconds)

    def long_enough(self, *, at: float, at_most: float) -> float:
        """Seconds after which no answer is expected: twice the slowest recent response time, within limits.

        The result is at most `at_most`, but never less than one second.
        """
        self._rotate(at)
        return max(SHORTEST, min(2 * max(self._now, self._before), at_most))

    def _rotate(self, at: float) -> None:
        if at - self._began < LATE:
            return
        self._before = self._now if at - self._began < 2 * LATE else 0.0
        self._now = 0.0
        self._began = at


class RecentSessions:
    """The last 4096 session ids that one client received. An answer with one of them may be that to another call."""

    __slots__ = ("_are_unique", "_ids")

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._are_unique = True

    def seen_before(self, session_id: str) -> bool:
        """Remember a session id. Returns whether it was known already; after `mark_not_unique`, always False."""
        if not self._are_unique:
            return False
        if session_id in self._ids:
            return True
        self._ids[session_id] = None
        if len(self._ids) > REMEMBERED:
            self._ids.popitem(last=False)
        return False

    def mark_not_unique(self) -> None:
        """Record that the server gives several calls the same id, as a stand-in for 8x8 may. Ids then prove nothing."""
        self._are_unique = False
        self._ids.clear()


@dataclass(frozen=True, slots=True)
class Transport:
    """What carries the requests of an open client: `posts` its POSTs, and `transport`, of httpx, all other requests.

    An async context manager.
    """

    posts: ConnectionPosts | HttpxPosts
    transport: httpx.AsyncBaseTransport

    async def __aenter__(self) -> None:
        await self.transport.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        await self.posts.aclose()
        await self.transport.__aexit__(kind, error, trace)


def open_transport(
    network: Network,
    url: httpx.URL,
    *,
    headers: Mapping[str, str],
    timeouts: Timeouts,
    limit: int,
    given: httpx.AsyncBaseTransport | None = None,
) -> Transport:
    """A transport for the running event loop in a network, or over one of httpx. POSTs go to `url`, with `headers`."""
    if given is not None:
        return Transport(HttpxPosts(given, url, headers=headers, timeouts=timeouts), given)
    by_httpx = not runs_on_asyncio() or (network.proxy_to(url) is not None and url.scheme != "https")
    others = network.transport(limit=limit, gives_up=by_httpx)
    if by_httpx:
        return Transport(HttpxPosts(others.pool_to(url), url, headers=headers, timeouts=timeouts), others)
    return Transport(ConnectionPosts(url, headers=headers, timeouts=timeouts, limit=limit, network=network), others)


def check_transport(transport: httpx.AsyncBaseTransport) -> None:
    """Raise SettingsError for a pool of httpx that speaks HTTP/2, because its errors have not been examined."""
    if is_known(transport) and getattr(getattr(transport, "_pool", None), "_http2", False):
        raise SettingsError("calls are sent over HTTP/1.1 only: make the transport with http2=False")


def is_known(transport: httpx.AsyncBaseTransport) -> bool:
    """Whether the transport is httpx's own pool, whose errors of connecting prove that nothing was sent.

    Subclasses and wrappers are unknown, because they may send a request twice or late.
    """
    return type(transport) is httpx.AsyncHTTPTransport


class HttpxPosts:
    """POSTs over a transport of httpx. Each POST asks the server to close its connection.

    If an answer is left over on a kept connection, httpcore takes it for the answer to the next POST, and data after an
    answer cannot be seen. httpx's own pool tells by its trace that a connection is made, and that the head of the POST
    is sent now: between the two, also at a proxy, nothing was sent. Each other error, and each of an unknown transport,
    leaves the call in doubt. Its methods are those of `ConnectionPosts`.
    """

    def __init__(
        self, transport: httpx.AsyncBaseTransport, url: httpx.URL, *, headers: Mapping[str, str], timeouts: Timeouts
    ) -> None:
        self._transport = transport
        self._url = url
        self._headers = {**headers, "Connection": "close"}
        self._deadline = timeouts.deadline
        # A POST that has no connection within this time must not be sent any more.
        self._connect_within = min(timeouts.connect, LEFT_WITHIN)
        self._timeouts = timeouts
        self._is_known = is_known(transport)

    async def connect(self, *, waits: bool = True) -> Reservation | None:  # noqa: ARG002 (it never waits)
        """Nothing: httpx connects when the POST begins."""
        return NoReservation()

    async def post(self, body: bytes, *, progress: PostProgress) -> HttpxExchange:
        """POST a body once, and return its exchange. An error counts as `progress` says."""
        is_new = False

        async def trace(name: str, info: Mapping[str, Any]) -> None:
            nonlocal is_new
            if name.endswith(".send_request_headers.started") and info["request"].method != b"CONNECT":
                progress.begin_sending()  # what it raises keeps httpcore from the first byte
                times["read"] = self._timeouts.read
            elif self._is_known and name.startswith("connection.connect_") and name.endswith(".started"):
                is_new, progress.may_have_been_sent = True, False

        progress.may_have_been_sent = True
        if not self._is_known:
            progress.begin_sending()
        times = {**self._timeouts.of_httpx, "connect": self._connect_within}
        if self._is_known:
            times["read"] = self._connect_within  # of the answer of a proxy
        extensions = {"timeout": times, "trace": trace}
        headers = {**self._headers, "Content-Length": str(len(body))}
        request = httpx.Request("POST", self._url, headers=headers, content=body, extensions=extensions)
        request.stream = _Body(body, progress)
        with anyio.move_on_after(self._deadline):
            response = await self._transport.handle_async_request(request)
            reader = AnswerReader(response)
            await reader.read()
            answer = reader.answer()
            # A stranger can keep the connection only if the server keeps it too, although the POST asks for its end.
            is_closed = answer.came_with_content or answer.closes_its_connection
            return HttpxExchange(answer, has_own_connection=is_new if self._is_known else is_closed)
        raise TimeoutError(f"no answer within {self._deadline:g} s")

    async def aclose(self) -> None:
        """Do nothing: the connections are those of the transport."""


class NoReservation:
    """What a transport that cannot connect in advance reserves: nothing."""

    __slots__ = ()

    def release(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class HttpxExchange:
    """One POST and its answer over a transport of httpx, with the methods of `PostOnConnection`."""

    answer: HttpAnswer
    has_own_connection: bool

    async def stays_silent(self, wait: float) -> bool:  # noqa: ARG002 (there is nothing to wait for)
        """False, because data after an answer cannot be seen."""
        return False

    def release(self, *, keep: bool) -> None:
        """Do nothing, because no connection is kept."""


class _Body(httpx.AsyncByteStream):
    """A body in one piece, as a plain iterator: httpx's async generator would stay open after a failed write.

    Whoever reads it may send it, whatever a trace has told.
    """

    def __init__(self, body: bytes, progress: PostProgress) -> None:
        self._left = [body]
        self._progress = progress

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        self._progress.may_have_been_sent = True
        return self._left.pop()


def runs_on_asyncio() -> bool:
    """Whether the running event loop is asyncio's."""
    return anyio.get_cancelled_exc_class() is asyncio.CancelledError
