"""A TCP proxy before several servers, as a load balancer is: connections go round, past servers that refuse them."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress


@contextmanager
def round_robin(ports: Sequence[int]) -> Generator[int]:
    """The port of a proxy before these ports, in a thread of its own."""
    loop, started, ending = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    turns, found = itertools.cycle(range(len(ports))), list[int]()

    async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        with suppress(ConnectionError, RuntimeError):
            target.close()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = next(turns)
        for place in range(len(ports)):
            with suppress(ConnectionError):
                its_reader, its_writer = await asyncio.open_connection("127.0.0.1", ports[(first + place) % len(ports)])
                await asyncio.gather(carry(reader, its_writer), carry(its_reader, writer))
                return
        writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        found.append(server.sockets[0].getsockname()[1])
        started.set()
        await ending.wait()
        server.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert started.wait(30), "the proxy did not start"
        yield found[0]
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join(30)
        loop.close()
