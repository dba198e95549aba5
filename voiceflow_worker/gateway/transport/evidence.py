"""Watches over POSTs: proof that nothing has left, and that an answer belongs to its POST, for each transport.

Without proof, a POST counts as sent, and its answer counts as one that may belong to an earlier request.

A watch is made for one POST, and entered while the transport sends this POST. The watch sets `progress.may_have_left`
before the first byte can leave. The assumptions of a watch about its transport come from the transport's source, and
are tested on sockets in tests/gateway. The watch over aiohttp is in `watched_connector`, so that this module does not
import aiohttp.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self

import httpx

from voiceflow_worker.gateway.answers.answer import Answer
from voiceflow_worker.model.reports.verdict import PostProgress


class Watch(Protocol):
    """The watch over one POST on its way through a transport."""

    @property
    def extensions(self) -> Mapping[str, Any]:
        """The httpx request extensions that this watch needs."""
        ...

    @property
    def post_was_cut(self) -> bool:
        """Whether it is proven that a part of the POST's body did not leave."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def proves_nothing_left(self, error: Exception) -> bool:
        """Whether this error of the transport proves that no byte of the POST has left."""
        ...

    def has_own_connection(self, answer: Answer) -> bool:
        """Whether the POST was sent once, as the first request of its connection, so that the answer belongs to it."""
        ...

    async def falls_silent(self, wait: float) -> bool:
        """Whether it is certain that nothing more arrives on the connection within `wait` seconds."""
        ...

    def over(self, *, keep: bool) -> None:
        """End the watch, after the verdict. With `keep`, the connection may be used for another POST."""
        ...


WatchMaker = Callable[[PostProgress], Watch]


class _Deaf:
    """The base of watches that cannot see data after an answer. Their POSTs ask the server to close the connection."""

    __slots__ = ()

    def __exit__(self, *_: object) -> None:
        pass

    async def falls_silent(self, wait: float) -> bool:  # noqa: ARG002 (there is nothing to wait for)
        """False, because this watch cannot see data after an answer."""
        return False

    def over(self, *, keep: bool) -> None:
        """Do nothing, because no connection is kept."""


class BlindWatch(_Deaf):
    """The watch for an unknown transport: whatever error the transport raises, the POST may have left.

    If the transport wraps httpx's own pool, the pool reports connections and requests to the `trace` extension. They
    show whether the answer belongs to the POST.
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

    def proves_nothing_left(self, error: Exception) -> bool:  # noqa: ARG002 (no error proves it)
        """False, because no error of an unknown transport proves that nothing has left."""
        return False

    def has_own_connection(self, answer: Answer) -> bool:
        """Whether the trace shows one POST on one new connection.

        Without a trace: whether the answer used no connection, or announces that the server closes the connection.
        Each POST asks for its connection to be closed. A transport that ignores this can keep the connection only if
        the server keeps it too. A response that was made with its content (httpx.MockTransport) used no connection.
        """
        if self._posts:
            return self._posts == self._connections == 1
        return answer.came_with_content or answer.closes_its_connection

    async def _trace(self, name: str, info: Mapping[str, Any]) -> None:
        self._connections += _is_a_connection(name)
        self._posts += _is_a_post(name, info)


class TracedWatch(_Deaf):
    """The watch for httpx's own pool, by httpcore's `trace` extension, which reports each request before it is written.

    A CONNECT to a proxy is reported in the same way, but is not the POST. If a write fails, a part of the POST has not
    left. The pool then still reads an answer, because a server may answer early.
    """

    __slots__ = ("_is_connected", "_progress", "extensions", "post_was_cut")

    def __init__(self, progress: PostProgress) -> None:
        self._progress = progress
        self.extensions: Mapping[str, Any] = {"trace": self._trace}
        self.post_was_cut = False
        self._is_connected = False

    def __enter__(self) -> Self:
        return self

    def proves_nothing_left(self, error: Exception) -> bool:
        """Whether no part of the POST's head was written, and the error is one of httpx's own."""
        return not self._progress.may_have_left and isinstance(error, httpx.TransportError)

    def has_own_connection(self, answer: Answer) -> bool:  # noqa: ARG002 (other watches use it)
        """Whether the connection was made for this POST, and not for another request over the same transport."""
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
