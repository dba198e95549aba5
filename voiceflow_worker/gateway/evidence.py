"""What proves that nothing of a POST has left, for each transport. Without proof, it may have.

Each watch is made for one POST, entered while the transport has it, and sets `progress.may_have_left` before the first
byte can leave. What each believes was read in the transports' sources and is tried on sockets in tests/gateway; the
watch over aiohttp is in `aiohttp_pool`, which alone imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

import httpx

from voiceflow_worker.model.verdict import PostProgress


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


WatchMaker = Callable[[PostProgress], Watch]


class BlindWatch:
    """For a transport that we do not know: anything may have left from the start, and no error proves otherwise."""

    __slots__ = ("_progress",)

    extensions: Mapping[str, Any] = {}
    post_was_cut = False

    def __init__(self, progress: PostProgress) -> None:
        self._progress = progress

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


class TracedWatch:
    """For httpx's own pool, through httpcore's `trace` extension: it tells before it writes the head of a request.

    A CONNECT to a proxy is told in the same way, and is not the POST. The pool swallows a failed write and reads on, as
    a server may answer before it has read everything; then the POST was cut.
    """

    __slots__ = ("_progress", "extensions", "post_was_cut")

    def __init__(self, progress: PostProgress) -> None:
        self._progress = progress
        self.extensions: Mapping[str, Any] = {"trace": self._trace}
        self.post_was_cut = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        pass

    def proves_nothing_left(self, error: Exception) -> bool:
        """Whether the head was never begun, and the error is one that httpx understood."""
        return not self._progress.may_have_left and isinstance(error, httpx.TransportError)

    async def _trace(self, name: str, info: Mapping[str, Any]) -> None:
        step = name.partition(".")[2]
        if step == "send_request_headers.started":
            if getattr(info.get("request"), "method", None) != b"CONNECT":
                self._progress.may_have_left = True
        elif step in ("send_request_headers.failed", "send_request_body.failed") and self._progress.may_have_left:
            self.post_was_cut = True
