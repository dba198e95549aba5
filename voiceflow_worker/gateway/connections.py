"""POSTs to one address on asyncio, over a few kept connections.

Head and body of a POST are given to the connection in one piece, and from that moment the POST may have been sent. So
whatever fails earlier (the wait for a connection, DNS, connecting, a proxy's tunnel, TLS) has provably sent nothing. A
POST is sent once: there are no retries and no redirects. Nothing is read from the environment.
"""

from __future__ import annotations

import asyncio
import re
import select
import ssl
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any, cast

import anyio
import httpx

from voiceflow_worker.gateway.answer import AnswerParser, HttpAnswer, UnreadableAnswerError
from voiceflow_worker.gateway.network import Network, Timeouts, giving_up
from voiceflow_worker.model.reports.verdict import (
    BeforeFirstByte,
    NotSentCause,
    NotSentError,
    Verdict,
    VerdictKind,
)
from voiceflow_worker.model.text.web_address import Proxy

KEEP_ALIVE = 2.0
"""Seconds for which an idle connection is kept. It is less than on most servers (uvicorn 5, nginx 75), so that a POST
hardly ever uses a connection that the server is closing. If it does, the call is in doubt."""
SILENCE = 1.0
"""Seconds after which nothing more is expected on a connection after an answer."""
_NEXT_ADDRESS = 0.25
"""Seconds after which the next address of a name is tried too (RFC 8305 §5, happy eyeballs)."""
_BUFFER = 16 * 1024  # bytes; an answer to a call has a few hundred
_CONNECTION_ENDED = Verdict(
    kind=VerdictKind.NOT_SENT,
    cause=NotSentCause.MISSED_SLOT,
    message="its connection ended, or something came on it, before the call was sent",
)


class ConnectionPosts:
    """POSTs over connections of its own, at most `limit` at a time. The running event loop must be asyncio's.

    In a network with a proxy to `url`, which must begin with https, each connection is a tunnel.
    """

    def __init__(
        self, url: httpx.URL, *, headers: Mapping[str, str], timeouts: Timeouts, limit: int, network: Network
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._host = url.raw_host.decode("ascii")
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self._proxy = network.proxy_to(url)
        self._ssl_context = network.ssl_context if url.scheme == "https" else None
        if self._ssl_context is not None:
            self._ssl_context.set_alpn_protocols(["http/1.1"])
        self._timeouts = timeouts
        lines = [f"{name}: {value}" for name, value in headers.items()]
        path = url.raw_path.decode("ascii")
        self._head = "\r\n".join([f"POST {path} HTTP/1.1", *lines, "Content-Length: "]).encode("ascii")
        self._permits = asyncio.Semaphore(limit)
        self._idle: list[Connection] = []  # the connection that was used last is the last one
        self._connections: set[Connection] = set()
        self._closing: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def post(self, body: bytes, before_first_byte: BeforeFirstByte) -> PostOnConnection:
        """POST a body once, and return its exchange, to be released once, after the verdict.

        `before_first_byte` is awaited when there is a connection. If it raises, the connection is kept, and the error
        is raised. Raises NotSentError if the connection ended, or something came on it, before the first byte; and
        TimeoutError if no answer began in time.
        """
        await self._wait_for_permit()
        connection: Connection | None = None
        try:
            connection = await self._take() or await self._connect()
            if self._is_closed or not connection.may_be_kept:
                raise ConnectionError("the connection was ended, or the server sent an answer, before a request")
            await before_first_byte()
            answer = await connection.post(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
        except BaseException:
            if connection is None:
                self._permits.release()
            else:
                self.return_connection(connection, keep=not connection.is_asked, was_used=False)
            raise
        return PostOnConnection(self, connection, answer)

    def return_connection(self, connection: Connection, *, keep: bool, was_used: bool = True) -> None:
        """Take a connection back after its POST, and close it unless it may be kept."""
        self._permits.release()
        connection.is_asked = False
        if not keep or self._is_closed or not connection.may_be_kept:
            connection.abort()
            return
        if was_used:
            connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if self._closing is None:
            self._closing = self._loop.call_later(KEEP_ALIVE, self._close_old)

    async def aclose(self) -> None:
        """Close all connections. POSTs that are still in flight fail."""
        self._is_closed = True
        self._idle.clear()
        if self._closing is not None:
            self._closing.cancel()
        connections = list(self._connections)
        for connection in connections:
            connection.abort()
        for connection in connections:
            await connection.has_ended.wait()

    async def _wait_for_permit(self) -> None:
        if not self._permits.locked():
            await self._permits.acquire()
            return
        within = self._timeouts.connect
        try:
            with anyio.fail_after(within):
                await self._permits.acquire()
        except TimeoutError:
            raise TimeoutError(f"no connection was free within {within:g} s") from None

    async def _take(self) -> Connection | None:
        """Return the connection that was used last; None if no connection may be used."""
        while self._idle:
            connection = self._idle.pop()
            for _ in range(2):  # the event loop reads what TLS itself sends (session tickets)
                if connection.has_something_to_read:
                    await asyncio.sleep(0)
            if connection.idle_since > self._loop.time() - KEEP_ALIVE and not connection.has_something_to_read:
                return connection
            connection.abort()
        return None

    async def _connect(self) -> Connection:
        within = self._timeouts.connect
        connection = Connection(self._connections, self._timeouts)
        try:
            with anyio.fail_after(within):
                if self._proxy is None:
                    await self._open(lambda: connection, self._host, self._port, ssl_context=self._ssl_context)
                else:
                    await self._tunnel(connection, self._proxy)
        except TimeoutError:
            connection.abort()
            raise TimeoutError(f"connecting took more than {within:g} s") from None
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _open(
        self,
        protocol: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int,
        *,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        options: dict[str, Any] = {}
        if ssl_context is not None:
            within = self._timeouts.connect
            options = {"ssl": ssl_context, "server_hostname": host, "ssl_handshake_timeout": within}
        if isinstance(self._loop, asyncio.BaseEventLoop):  # uvloop tries addresses one by one, and knows no delay
            options["happy_eyeballs_delay"] = _NEXT_ADDRESS
        await self._loop.create_connection(protocol, host, port, **options)

    async def _tunnel(self, connection: Connection, proxy: Proxy) -> None:
        """Connect through a tunnel of a proxy, with TLS in it. Nothing of a POST has left before it is open."""
        if self._ssl_context is None:
            raise ConnectionError("a tunnel needs an https address")
        tunnel = _Tunnel(f"{self._host}:{self._port}", proxy.credentials)
        try:
            await self._open(lambda: tunnel, proxy.host, proxy.port)
            transport = await tunnel.is_open
            inner = await self._loop.start_tls(
                transport, connection, self._ssl_context, server_hostname=self._host,
                ssl_handshake_timeout=self._timeouts.connect,
            )  # fmt: skip
        except BaseException:
            tunnel.abort()
            raise
        if inner is None:
            raise ConnectionError("the tunnel ended before it was used")
        connection.connection_made(inner)

    def _close_old(self) -> None:
        self._closing = None
        oldest = self._loop.time() - KEEP_ALIVE
        while self._idle and self._idle[0].idle_since <= oldest:
            self._idle.pop(0).abort()
        if self._idle:
            self._closing = self._loop.call_at(self._idle[0].idle_since + KEEP_ALIVE, self._close_old)


class _Tunnel(asyncio.Protocol):
    """Asks a proxy for a tunnel (CONNECT) to `target`. `is_open` has its transport, or why there is none."""

    def __init__(self, target: str, credentials: tuple[str, str] | None) -> None:
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if credentials is not None:
            lines.append(f"Proxy-Authorization: Basic {b64encode(':'.join(credentials).encode()).decode()}")
        self._request = "\r\n".join([*lines, "", ""]).encode()
        self._head = b""
        self._transport: asyncio.Transport | None = None
        self.is_open: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()
        self.is_open.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may wait for it

    def abort(self) -> None:
        """Close the connection to the proxy at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the new transport. The event loop calls this."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Read the answer of the proxy. The event loop calls this."""
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if self.is_open.done() or (not end and len(self._head) <= _LONGEST_HEAD):
            return
        status = _STATUS.match(head + end)
        if status is not None and end and not status[1].startswith(b"2"):
            self._fail(httpx.ProxyError(b" ".join(filter(None, status.groups())).decode("latin-1")))
        elif status is None or rest or not end:
            self._fail(ConnectionError("what answers is no proxy that opens tunnels"))
        elif self._transport is not None:
            self.is_open.set_result(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Record that the proxy has ended the connection. The event loop calls this."""
        self._fail(exc or ConnectionError("the connection was ended before a tunnel was open"))

    def _fail(self, error: Exception) -> None:
        if not self.is_open.done():
            self.is_open.set_exception(error)


_LONGEST_HEAD = 64 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)(?: +([^\r\n]*))?\r\n")


class PostOnConnection:
    """One POST and its answer on a connection.

    The answer on a new connection belongs to its POST, unless more came with it. On a kept connection, the answer may
    be left over from an earlier request. It belongs to the POST in two cases: nothing more arrives for long enough, or
    the connection ends as the answer announced. A server that announces the end reads no further request (RFC 9112
    §9.6). An end that was not announced proves nothing: the server may have read the POST and ended before it answered.
    """

    __slots__ = ("_connection", "_posts", "answer", "has_own_connection")

    def __init__(self, posts: ConnectionPosts, connection: Connection, answer: HttpAnswer) -> None:
        self._posts = posts
        self._connection = connection
        self.answer: HttpAnswer = answer
        self.has_own_connection: bool = connection.posts == 1 and not connection.has_more

    async def stays_silent(self) -> bool:
        """Return whether nothing arrives for `SILENCE`, while the connection stays open or ends as announced."""
        return await self._connection.stays_silent(SILENCE)

    def release(self, *, keep: bool) -> None:
        """Release the connection. With `keep`, it may be used for another POST."""
        self._posts.return_connection(self._connection, keep=keep)


class Connection(asyncio.BufferedProtocol):
    """One connection. It notices data that belongs to no request, and is then not used again.

    It reads into a buffer of its own. Without this buffer, asyncio would allocate 256 KB for each read, which takes
    14 µs.
    """

    def __init__(self, connections: set[Connection], timeouts: Timeouts) -> None:
        self.posts: int = 0
        self.idle_since: float = 0.0
        """The time on the event loop's clock since which nothing was asked on this connection."""
        self.has_more: bool = False
        self.is_asked: bool = False
        """Whether it has a POST whose answer has not been released."""
        self.has_ended: asyncio.Event = asyncio.Event()
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._timeouts = timeouts
        self._transport: asyncio.Transport | None = None
        self._ended_in_order = False
        self._parser = AnswerParser()
        self._answered: asyncio.Future[HttpAnswer] | None = None
        self._post_was_cut = False
        self._changed: asyncio.Event | None = None
        self._heard = self._by = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._poll: select.poll | None = None
        self._buffer = memoryview(bytearray(_BUFFER))  # TLS writes to slices of it, which must not be copies

    @property
    def may_be_kept(self) -> bool:
        """True if another POST may be sent on this connection."""
        if not self._is_open or self.has_more or self._post_was_cut:
            return False
        return not self.posts or self._parser.keeps_connection

    @property
    def has_something_to_read(self) -> bool:
        """True if data has arrived that was not read yet, or the end of the connection."""
        if self._transport is None or self._transport.is_closing():
            return True
        if self._poll is None:
            opened = self._transport.get_extra_info("socket")
            if opened is None:
                return True
            self._poll = select.poll()
            self._poll.register(opened.fileno(), select.POLLIN)
        return bool(self._poll.poll(0))

    async def post(self, request: bytes) -> HttpAnswer:
        """Send the bytes of a POST at once, and return the answer.

        Raises TimeoutError if no head of an answer came in time, ConnectionError if the connection ended first, and
        NotSentError if it had ended, or something had come on it, before the first byte.
        """
        # On a new connection, what has come may be session tickets, which the event loop has not read yet.
        is_quiet = self.may_be_kept and not (self.posts and self.has_something_to_read)
        if self._transport is None or not is_quiet:
            raise NotSentError(_CONNECTION_ENDED)
        self._transport.write(request)
        self.posts += 1
        self._parser = AnswerParser()
        self.is_asked = True
        self._answered = self._loop.create_future()
        self._heard = self._loop.time()
        self._by = self._heard + self._timeouts.deadline
        if self._timer is None:
            self._timer = self._loop.call_at(self._heard + self._timeouts.read, self._check_timeout)
        try:
            return await self._answered
        finally:
            self._answered = None

    async def stays_silent(self, wait: float) -> bool:
        """Return whether nothing arrives for `wait` seconds, while the connection stays open or ends as announced."""
        self._changed = asyncio.Event()
        if self._is_open and not self.has_more:
            with anyio.move_on_after(wait):
                await self._changed.wait()
        if self.has_more:
            return False
        if self._is_open:
            return not self.has_something_to_read
        return self._ended_in_order and not self._parser.keeps_connection

    def abort(self) -> None:
        """Close the connection at once. What was not sent yet is never sent."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the new transport. The event loop calls this."""
        self._transport = cast("asyncio.Transport", transport)
        for option in giving_up():
            transport.get_extra_info("socket").setsockopt(*option)
        self.idle_since = self._loop.time()
        self._connections.add(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (the event loop gives it)
        """Return the buffer for data. The event loop calls this."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Read the data in the buffer. The event loop calls this."""
        if self._answered is None or self._answered.done():
            self.has_more = True
            self.abort()
            self._notify()
            return
        self._heard = self._loop.time()
        try:
            self._parser.feed(bytes(self._buffer[:nbytes]))
        except UnreadableAnswerError as error:
            self._fail(error)
            return
        if self._parser.has_head and self._transport is not None and self._transport.get_write_buffer_size():
            # The server answered before it had read the whole POST. The rest stays here for good.
            self._post_was_cut = True
            self.abort()
        if self._parser.is_over:
            self._give_answer()

    def eof_received(self) -> None:
        """Record that the server ended the connection in order. The event loop calls this, and then closes it."""
        self._ended_in_order = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Record that the connection has ended. The event loop calls this."""
        self._ended_in_order = self._ended_in_order and exc is None
        self._connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._end(exc or ConnectionError("the connection ended before an answer"))
        self.has_ended.set()
        self._notify()

    @property
    def _is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def _check_timeout(self) -> None:
        """End the wait for an answer if it has taken too long; otherwise check again later.

        One timer serves many POSTs: to set and cancel a timer for each takes 3 µs.
        """
        self._timer = None
        if self._answered is None or self._answered.done():
            return
        due = min(self._heard + self._timeouts.read, self._by)
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._check_timeout)
        else:
            within = self._timeouts.deadline if due == self._by else self._timeouts.read
            self._end(TimeoutError(f"no answer within {within:g} s"))

    def _end(self, error: Exception) -> None:
        """End the wait for an answer. If its head has come, the answer is what has come; else the POST fails."""
        self._parser.connection_ended(in_order=self._ended_in_order)
        if self._parser.has_head:
            self._give_answer()
        else:
            self._fail(error)

    def _give_answer(self) -> None:
        if self._answered is not None and not self._answered.done():
            self.has_more = self._parser.has_more
            self._answered.set_result(self._parser.answer(post_was_cut=self._post_was_cut))

    def _fail(self, error: Exception) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error)

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed.set()
