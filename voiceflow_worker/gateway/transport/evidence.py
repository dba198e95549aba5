"""Watches over POSTs: proof, for each transport, that nothing has left, and that an answer belongs to its POST.

Without proof, a POST may have left, and an answer may be a leftover of another request.

Each watch is made for one POST, entered while the transport has it, and sets `progress.may_have_left` before the first
byte can leave. What each believes was read in the transports' sources and is tried on sockets in tests/gateway; the
watch over aiohttp is in `aiohttp_pool`, which alone imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

import httpx

from voiceflow_worker.gateway.answers.answer import AnswerReader
from voiceflow_worker.model.reports.verdict import PostProgress


class Watch(Protocol):
    """Watches one POST on its way through a transport."""

    @property
    def extensions(self) -> Mapping[str, Any]:
        """What the request carries for this watch (httpx request extensions)."""
        ...

    @property
    def post_was_cut(self) -> bool:
        """Whether the body of the POST provably did not leave whole."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def proves_nothing_left(self, error: Exception) -> bool:
        """Whether this error of the transport proves that no byte of the POST has left."""
        ...

    def has_own_connection(self, answer: AnswerReader) -> bool:
        """Whether the POST was sent once, as the first request of its connection: the answer is then its own."""
        ...

    async def falls_silent(self, wait: float) -> bool:
        """Whether it is certain that nothing more comes on the connection within so many seconds."""
        ...

    def over(self, *, keep: bool) -> None:
        """Called last for every POST, once it is judged; `keep` says whether its connection may serve another."""
        ...


WatchMaker = Callable[[PostProgress], Watch]


class _Deaf:
    """A watch that cannot listen to a connection. Its requests ask for the connection to be closed after them."""

    __slots__ = ()

    async def falls_silent(self, wait: float) -> bool:  # noqa: ARG002 (there is nothing to wait for)
        """Never certain."""
        return False

    def over(self, *, keep: bool) -> None:
        """Nothing is kept."""


class BlindWatch(_Deaf):
    """For a transport that we do not know: anything may have left from the start, and no error proves otherwise.

    Where httpx's own pool lies beneath it, the `trace` extension reaches it and reports each request.
    """

    __slots__ = ("_connections", "_posts", "_progress", "extensions")

    post_was_cut = False

    def __init__(self, progress: PostProgress) -> None:
        self._progress = progress
        self.extensions: Mapping[str, Any] = {"trace": self._trace}
        self._posts = 0
        self._connections = 0

    def __enter__(self) -> Self:
        self._progress.may_have_left = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        pass

    def proves_nothing_left(self, error: Exception) -> bool:  # noqa: ARG002 (that is the point)
        """No."""
        return False

    def has_own_connection(self, answer: AnswerReader) -> bool:
        """Whether one POST was traced on one new connection; untraced, whether the server closes the connection.

        A transport that ignores that it was asked to close its connection keeps it only where the server does as well.
        An answer that was made with its content came over no connection.
        """
        if self._posts:
            return self._posts == self._connections == 1
        return answer.came_with_content or answer.closes_its_connection

    async def _trace(self, name: str, info: Mapping[str, Any]) -> None:
        self._connections += _is_a_connection(name)
        self._posts += _is_a_post(name, info)


class TracedWatch(_Deaf):
    """For httpx's own pool, through httpcore's `trace` extension: it reports each request before it is written.

    A CONNECT to a proxy is reported in the same way, and is not the POST. The pool ignores a failed write and reads on,
    as a server may answer before it has read everything; then the POST was cut.
    """

    __slots__ = ("_is_connected", "_progress", "extensions", "post_was_cut")

    def __init__(self, progress: PostProgress) -> None:
        self._progress = progress
        self.extensions: Mapping[str, Any] = {"trace": self._trace}
        self.post_was_cut = False
        self._is_connected = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        pass

    def proves_nothing_left(self, error: Exception) -> bool:
        """Whether the head was never begun, and the error is one that httpx understood."""
        return not self._progress.may_have_left and isinstance(error, httpx.TransportError)

    def has_own_connection(self, answer: AnswerReader) -> bool:  # noqa: ARG002 (others look at it)
        """Whether the connection was made for this POST, and not for another request of the transport's owner."""
        return self._is_connected

    async def _trace(self, name: str, info: Mapping[str, Any]) -> None:
        step = name.partition(".")[2]
        if _is_a_connection(name):
            self._is_connected = True
        elif _is_a_post(name, info):
            self._progress.may_have_left = True
        elif step in ("send_request_headers.failed", "send_request_body.failed") and self._progress.may_have_left:
            self.post_was_cut = True


def _is_a_connection(event: str) -> bool:
    return event in ("connection.connect_tcp.complete", "connection.connect_unix_socket.complete")


def _is_a_post(event: str, info: Mapping[str, Any]) -> bool:
    """Whether the head of a request is about to leave. A CONNECT to a proxy does not count."""
    request = info.get("request")
    return event.endswith(".send_request_headers.started") and getattr(request, "method", None) != b"CONNECT"
