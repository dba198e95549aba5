"""A bare sink: answers every POST with CREATED and a fresh session, as cheaply as Python can; run as a process.

It tells its port on the first line of stdout, and ends at SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
from itertools import count

_sessions = count(1)


class Sink(asyncio.Protocol):
    """One connection. `buffer` has what came and is not answered yet."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            head, separator, rest = self.buffer.partition(b"\r\n\r\n")
            if not separator:
                return
            length = _content_length(head)
            if len(rest) < length:
                return
            self.buffer = rest[length:]
            body = b'{"sessionId":"s-%d","sessionStatus":"CREATED","statusCode":1,"statusMessage":"Created"}' % next(
                _sessions
            )
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            )


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def main() -> None:
    """Serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_server(Sink, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - its parent reads this
    await stop.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
