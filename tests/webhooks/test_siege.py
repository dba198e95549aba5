"""A siege of half-open connections: health is answered, and no summary is lost."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from bench.webhook_load import BODY, request
from bench.webhooks import seed, settled
from tests.support.processes import running
from voiceflow_worker.webhooks import PATH

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SECRET, WRONG = "Bearer 5b0c2d7e9f8a41c3", "Bearer 0000000000000000"
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: receiver\r\n"
ATTACKS = ("", HEAD, f"{HEAD}Authorization: {SECRET}\r\nContent-Length: 999\r\n\r\n")
"""Requests that do not end: one that has not begun, one in its headers, one in its body."""
HALF_OPEN, DESCRIPTORS, CALLS = 800, 640, 200


async def half_open(port: int, attack: str, held: anyio.Semaphore) -> None:
    """Send this and then a byte at a time, again and again; `held` counts the connections."""
    while True:
        with suppress(OSError, anyio.BrokenResourceError, anyio.EndOfStream):
            async with await anyio.connect_tcp("127.0.0.1", port) as line:
                await line.send(attack.encode())
                held.release()
                while True:
                    with anyio.move_on_after(3):
                        await line.receive()
                    await line.send(b"x" if attack else b"")
        await anyio.sleep(3)


async def asked(port: int, sent: bytes) -> bytes:
    """The status that is answered to a request on a connection of its own."""
    with anyio.fail_after(10):
        async with await anyio.connect_tcp("127.0.0.1", port) as line:
            await line.send(sent)
            return (await line.receive())[9:12]


async def test_half_open_connections_keep_neither_summaries_nor_health_waiting(tmp_path: Path) -> None:
    """There are more of them than the receiver may have files open; each comes again when it is ended."""
    url = f"sqlite:///{tmp_path}/calls.db"
    posts, held = await seed(url, CALLS), anyio.Semaphore(0)
    env = {"VOICEFLOW_STORE": url, "VOICEFLOW_WEBHOOK_SECRET": SECRET}
    with running("serve", "--port", "0", env=env, descriptors=DESCRIPTORS) as receiver:
        port = int(receiver.wait_for(r"http://127\.0\.0\.1:(\d+)")[1])
        async with anyio.create_task_group() as group:
            for place in range(HALF_OPEN):
                group.start_soon(half_open, port, ATTACKS[place % len(ATTACKS)], held)
                await anyio.sleep(0.002)  # they come again in the same pace
            for _ in range(HALF_OPEN):
                await held.acquire()
            for post, session in posts:
                body = BODY % {"request": post, "session": session}
                assert await asked(port, request(body, path=PATH, secret=WRONG)) == b"401"
                assert await asked(port, request(body, path=PATH, secret=SECRET)) == b"200"
                assert await asked(port, b"GET /healthz HTTP/1.1\r\nHost: receiver\r\n\r\n") == b"200"
            group.cancel_scope.cancel()
    assert await settled(url) == CALLS
