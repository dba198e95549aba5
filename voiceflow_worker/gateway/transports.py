"""The two transports for POSTs, the choice between them, and the proof that an answer belongs to its POST.

On asyncio, `connections` carries the POSTs. Everything else goes over httpx: POSTs on trio, over a transport of the
user or through a proxy without TLS, and all requests that place no call. There the trace of
httpx's own pool proves what was not sent, and each request asks the server to close its connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import anyio
import httpx

from voiceflow_worker.errors import SettingsError
from voiceflow_worker.gateway.answer import HttpAnswer, read_answer
from voiceflow_worker.gateway.connections import ConnectionPosts, PostOnConnection
from voiceflow_worker.gateway.first_byte import FirstByte
from voiceflow_worker.gateway.network import Network, Timeouts
from voiceflow_worker.gateway.verdict import verdict_on_unmatched
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind

REMEMBERED = 4096
"""The number of session ids of recent answers that one client remembers."""


class AnswerProof:
    """Verifies that the answers of one client belong to their POSTs.

    An answer CREATED with a new session is trusted. Two kinds of answers may be left over from another request:
    answers which say that nobody was called, and answers with the session of an earlier answer. These are trusted only
    if the POST had its own connection, or if nothing follows the answer.
    """

    __slots__ = ("_are_unique", "_sessions", "unproven_holds")

    def __init__(self) -> None:
        self.unproven_holds: int = 0
        """The number of answers that hold the queue if they belong to their POSTs, which is not known yet."""
        self._sessions: dict[str, None] = {}
        self._are_unique = True

    async def verify(self, verdict: Verdict, exchange: PostOnConnection | HttpxExchange) -> tuple[Verdict, bool]:
        """Return the verdict that may be trusted, and whether the connection may be used again."""
        repeats = self._was_seen(verdict.session_id)
        is_in_doubt = verdict.kind is VerdictKind.UNKNOWN
        is_trusted = (verdict.kind is VerdictKind.CREATED or is_in_doubt) and not repeats
        if is_trusted or exchange.has_own_connection:
            return verdict, not is_in_doubt
        answer = exchange.answer
        if is_in_doubt or not (answer.is_whole and answer.states_its_length):
            return verdict_on_unmatched(verdict), False
        self.unproven_holds += verdict.hold is not None
        try:
            is_ours = await exchange.stays_silent()
        finally:
            self.unproven_holds -= verdict.hold is not None
        if not is_ours:
            return verdict_on_unmatched(verdict), False
        if repeats:  # a stand-in for 8x8 may give several calls one id: ids then prove nothing
            self._are_unique = False
        return verdict, True

    def _was_seen(self, session_id: str | None) -> bool:
        """Return whether an earlier answer had this session id, which is remembered."""
        if session_id is None or not self._are_unique:
            return False
        if session_id in self._sessions:
            return True
        self._sessions[session_id] = None
        if len(self._sessions) > REMEMBERED:
            del self._sessions[next(iter(self._sessions))]
        return False


def open_transports(
    network: Network,
    url: httpx.URL,
    *,
    headers: Mapping[str, str],
    timeouts: Timeouts,
    limit: int,
    given: httpx.AsyncBaseTransport | None = None,
) -> tuple[ConnectionPosts | HttpxPosts, httpx.AsyncBaseTransport]:
    """Return what carries POSTs to `url`, with `headers`, and the transport of httpx for all other requests.

    Both are for the running event loop, in a network, or over a `given` transport.
    """
    if given is not None:
        return HttpxPosts(given, url, headers=headers, timeouts=timeouts), given
    by_httpx = not runs_on_asyncio() or (network.proxy_to(url) is not None and url.scheme != "https")
    others = network.transport(limit=limit, gives_up=by_httpx)
    if by_httpx:
        return HttpxPosts(others.pool_to(url), url, headers=headers, timeouts=timeouts), others
    return ConnectionPosts(url, headers=headers, timeouts=timeouts, limit=limit, network=network), others


def check_transport(transport: httpx.AsyncBaseTransport) -> None:
    """Raise SettingsError for a pool of httpx that speaks HTTP/2, because its errors have not been examined."""
    if is_known(transport) and getattr(getattr(transport, "_pool", None), "_http2", False):
        raise SettingsError("calls are sent over HTTP/1.1 only: make the transport with http2=False")


def is_known(transport: httpx.AsyncBaseTransport) -> bool:
    """Return whether the transport is httpx's own pool, whose errors of connecting prove that nothing was sent.

    Subclasses and wrappers are unknown, because they may send a request twice or late.
    """
    return type(transport) is httpx.AsyncHTTPTransport


class HttpxPosts:
    """POSTs over a transport of httpx. Each POST asks the server to close its connection.

    If an answer is left over on a kept connection, httpcore takes it for the answer to the next POST, and data after an
    answer cannot be seen. httpx's own pool shows by its trace that the head of the POST is sent now: until then, also
    at a proxy, nothing was sent. An unknown transport gets the POST after the step before the first byte, and each of
    its errors leaves the call in doubt.
    """

    def __init__(
        self, transport: httpx.AsyncBaseTransport, url: httpx.URL, *, headers: Mapping[str, str], timeouts: Timeouts
    ) -> None:
        self._transport = transport
        self._url = url
        self._headers = {**headers, "Connection": "close"}
        self._timeouts = timeouts
        self._is_known = is_known(transport)

    async def post(self, body: bytes, before_first_byte: FirstByte) -> HttpxExchange:
        """POST a body once, and return its exchange. Raises what the transport raises, and TimeoutError."""
        is_new = False
        deadline = self._timeouts.deadline
        # Before the POST, what is read is the answer of a proxy.
        times = {**self._timeouts.of_httpx, "read": self._timeouts.connect}

        async def commit() -> None:
            scope.deadline = float("inf")
            departure = await before_first_byte()
            scope.deadline = anyio.current_time() + deadline
            times["read"] = self._timeouts.read
            if not self._is_known:
                times.update((name, min(times[name], departure.within)) for name in ("connect", "write", "pool"))

        async def trace(name: str, info: Mapping[str, Any]) -> None:
            nonlocal is_new
            if name.startswith("connection.connect_") and name.endswith(".started"):
                is_new = True
            elif name.endswith(".send_request_headers.started") and info["request"].method != b"CONNECT":
                await commit()

        extensions = {"timeout": times, "trace": trace} if self._is_known else {"timeout": times}
        headers = {**self._headers, "Content-Length": str(len(body))}
        request = httpx.Request("POST", self._url, headers=headers, content=body, extensions=extensions)
        with anyio.CancelScope(deadline=anyio.current_time() + deadline) as scope:
            if not self._is_known:
                await commit()
            request.stream = _Body(body, before_first_byte, commit)
            response = await self._transport.handle_async_request(request)
            answer = await read_answer(response)
            # A stranger can keep the connection only if the server keeps it too, although the POST asks for its end.
            is_closed = answer.came_with_content or answer.closes_its_connection
            return HttpxExchange(answer, has_own_connection=is_new if self._is_known else is_closed)
        missing = "answer" if before_first_byte.may_have_left else "connection"
        raise TimeoutError(f"no {missing} within {deadline:g} s")

    async def aclose(self) -> None:
        """Do nothing: the connections are those of the transport."""


@dataclass(frozen=True, slots=True)
class HttpxExchange:
    """One POST and its answer over a transport of httpx, with the methods of `PostOnConnection`."""

    answer: HttpAnswer
    has_own_connection: bool

    async def stays_silent(self) -> bool:
        """Return False, because data after an answer cannot be seen."""
        return False

    def release(self, *, keep: bool) -> None:
        """Do nothing, because no connection is kept."""


class _Body(httpx.AsyncByteStream):
    """A body in one piece, given out once, and only after `commit`, whatever a trace has shown.

    It is a plain iterator: httpx's async generator would stay open after a failed write.
    """

    def __init__(self, body: bytes, first: FirstByte, commit: Callable[[], Awaitable[None]]) -> None:
        self._left = [body]
        self._first = first
        self._commit = commit

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        if not self._first.may_have_left:
            await self._commit()
        return self._left.pop()


def runs_on_asyncio() -> bool:
    """Return whether the running event loop is asyncio's."""
    return anyio.get_cancelled_exc_class() is asyncio.CancelledError
