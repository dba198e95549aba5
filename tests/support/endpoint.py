"""The system of a user, to which outcomes are sent: an HTTP server that answers as ordered, on either event loop."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream


@dataclass(frozen=True)
class Received:
    """One request."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


Answer = Callable[[Received, SocketStream], Awaitable[None]]


def answering(status: int, *headers: str, body: bytes = b"{}") -> Answer:
    """A function that gives this answer."""

    async def answer(_received: Received, stream: SocketStream) -> None:
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers]
        await stream.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    return answer


class Endpoint:
    """Takes POSTs; each is answered by the next of `answers`, and once there is none with `usual`."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answers: list[Answer] = []
        self.usual: Answer = answering(204, body=b"")
        self.url = ""

    @property
    def ids(self) -> list[str]:
        return [received.id for received in self.received]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Endpoint]:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(SocketAttribute.local_port)
        self.url = f"http://127.0.0.1:{port}/hooks/calls?token=of-the-tests"
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, self._serve)
            yield self
            group.cancel_scope.cancel()

    async def _serve(self, stream: SocketStream) -> None:
        async with stream:
            buffered = BufferedByteReceiveStream(stream)
            while True:
                try:
                    head = (await buffered.receive_until(b"\r\n\r\n", 65536)).decode().split("\r\n")
                    lines = (line.partition(":") for line in head[1:])
                    headers = {name.lower(): value.strip() for name, _, value in lines}
                    body = await buffered.receive_exactly(int(headers["content-length"]))
                except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError, anyio.ClosedResourceError):
                    return
                received = Received({"request-line": head[0], **headers}, body)
                answer = self.answers.pop(0) if self.answers else self.usual
                self.received.append(received)
                try:
                    await answer(received, stream)
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                    return
