"""A burst of summaries and a siege, behind nginx as docs/deploy has it: health is answered, and no summary is lost.

Of a burst, an event that is handled too late is answered with 503, and settled all the same: on a busy machine there
may be some. What these processes wait for a processor is no fault of theirs.

    .venv/bin/python -m pytest -s tests/webhooks/test_siege.py
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
import pytest

from bench.webhook_load import BODY, request
from bench.webhooks import Posts, seed, settled
from tests.deploy.proxies import nginx
from tests.support.processes import running, waited_for_a_processor
from voiceflow_worker.webhooks import PATH

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(600)]

SECRET, WRONG = "Bearer 5b0c2d7e9f8a41c3", "Bearer 0000000000000000"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: receiver\r\nConnection: close\r\n\r\n"
SLOW_HEAD = b"POST /webhooks/8x8 HTTP/1.1\r\nHost: receiver\r\n"
ATTACKS = (b"", SLOW_HEAD, SLOW_HEAD + f"Authorization: {SECRET}\r\nContent-Length: 999\r\n\r\n".encode())
"""Requests that do not end: one that has not begun, one in its headers, one in its body."""
HALF_OPEN, DESCRIPTORS, BEHIND, KEPT, REDELIVERED = 1500, 1024, 200, 300, 5000
WRONG_POSTS = 2000
BURST, WITHIN = 2000, 2.0


@dataclass
class Told:
    """The answers to requests, each on a connection of its own, by status; and how long the slowest took."""

    port: int
    statuses: Counter[str] = field(default_factory=Counter[str])
    slowest: float = 0.0

    async def ask(self, sent: bytes) -> None:
        began = time.perf_counter()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(sent)
            async with asyncio.timeout(60):
                self.statuses[(await reader.readuntil(b"\r\n\r\n"))[9:12].decode()] += 1
            writer.close()
        except (OSError, EOFError, TimeoutError) as error:
            self.statuses[type(error).__name__] += 1
        self.slowest = max(self.slowest, time.perf_counter() - began)

    async def ask_until(self, over: asyncio.Event) -> None:
        while not over.is_set():
            await self.ask(HEALTH)
            await asyncio.sleep(0.2)


def summary(post: tuple[str, str], *, secret: str = SECRET) -> bytes:
    return request(BODY % {"request": post[0], "session": post[1]}, path=PATH, secret=secret)


@contextmanager
def proxied(
    folder: Path, calls: int, *, url: str = "", descriptors: int | None = None
) -> Iterator[tuple[str, Posts, int, int, Callable[[], float]]]:
    """A store with calls that wait for their summaries, the ports of nginx and of the receiver behind it.

    The function says how long the receiver and this process have waited for a processor.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 8 * HALF_OPEN:
        pytest.skip("needs more file descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    url = url or f"sqlite:///{folder / 'calls.db'}"
    posts = anyio.run(seed, url, calls)
    env = {"VOICEFLOW_STORE": url, "VOICEFLOW_WEBHOOK_SECRET": SECRET}
    with running("serve", "--port", "0", env=env, descriptors=descriptors) as receiver:
        port = int(receiver.wait_for(r"http://127\.0\.0\.1:(\d+)")[1])
        pids = [receiver.pid, os.getpid()]
        with nginx("nginx.conf", f"127.0.0.1:{port}", folder, tls=False) as address:
            yield url, posts, int(address.rpartition(":")[2]), port, partial(waited_for_a_processor, pids)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_of_a_burst_of_summaries_each_is_answered_and_settled(tmp_path: Path) -> None:
    async def burst(posts: Posts, events: Told, health: Told) -> None:
        over, began = asyncio.Event(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(health.ask_until(over))
            async with asyncio.TaskGroup() as senders:
                for place, post in enumerate(posts):
                    await asyncio.sleep(max(0.0, began + place * WITHIN / BURST - time.perf_counter()))
                    senders.create_task(events.ask(summary(post)))
            over.set()
            await asking

    with proxied(tmp_path, BURST) as (url, posts, port, direct, starved):
        before = starved()
        events, health = Told(port), Told(direct)
        asyncio.run(burst(posts, events, health))
        sys.stdout.write(f"\nburst: {events}\n{health}\n")
        assert set(events.statuses) <= {"200", "503"}
        assert set(health.statuses) == {"200"}
        assert health.slowest < 1 + starved() - before
        assert anyio.run(settled, url) == BURST


async def half_open(port: int, sent: bytes, held: asyncio.Semaphore) -> None:
    """Send this and then a byte at a time, again and again; `held` counts the connections."""
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            held.release()
            with closing(writer):
                while not reader.at_eof():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(3):
                            await reader.read()
                    writer.write(sent and b"x")
        await asyncio.sleep(1)


async def redelivered(port: int, posts: Posts, statuses: Counter[str]) -> None:
    """Send summaries on one connection, each until it was taken."""
    kept: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    while posts:
        post = posts.pop()
        try:
            reader, writer = kept = kept or await asyncio.open_connection("127.0.0.1", port)
            writer.write(summary(post))
            async with asyncio.timeout(60):
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
            status = head[9:12].decode()
        except (OSError, EOFError, TimeoutError) as error:
            status = type(error).__name__
            if kept is not None:
                kept[1].close()
            kept = None
        statuses[status] += 1
        if status != "200":
            posts.append(post)
            await asyncio.sleep(0.1)
    if kept is not None:
        kept[1].close()


@pytest.mark.parametrize("behind", ["nginx", "nothing"])
@pytest.mark.parametrize("backend", ["sqlite", "postgres"])
def test_half_open_connections_keep_neither_summaries_nor_health_waiting(
    backend: str, behind: str, fresh_url: Callable[[str], str], tmp_path: Path
) -> None:
    """There are more of them than the receiver may have files open; each comes again when it is ended."""

    async def siege(posts: Posts, statuses: Counter[str], *, events: Told, wrong: Told, health: Told) -> None:
        over, held = asyncio.Event(), asyncio.Semaphore(0)
        async with asyncio.TaskGroup() as group:
            attackers = [
                group.create_task(half_open(events.port, ATTACKS[place % len(ATTACKS)], held))
                for place in range(HALF_OPEN)
            ]
            for _ in attackers:
                await held.acquire()
            asking = group.create_task(health.ask_until(over))
            for post in posts[:BEHIND]:
                await events.ask(summary(post))
            left = posts[BEHIND:]
            async with asyncio.TaskGroup() as senders:
                for _ in range(KEPT):
                    senders.create_task(redelivered(events.port, left, statuses))
                for _ in range(WRONG_POSTS):
                    await wrong.ask(summary(("r", "s"), secret=WRONG))
            over.set()
            await asking
            for each in attackers:
                each.cancel()

    calls, url = BEHIND + REDELIVERED, fresh_url(backend)
    with proxied(tmp_path, calls, url=url, descriptors=DESCRIPTORS) as (_, posts, proxy, direct, starved):
        port, before = proxy if behind == "nginx" else direct, starved()
        events, wrong, health, statuses = Told(port), Told(port), Told(direct), Counter[str]()
        asyncio.run(siege(posts, statuses, events=events, wrong=wrong, health=health))
        sys.stdout.write(
            f"\nhalf open, {backend}, {behind}: {events}\n{wrong}\n{statuses}\n{health}\n{starved() - before}\n"
        )
        assert events.statuses == {"200": BEHIND}
        assert wrong.statuses == {"401": WRONG_POSTS}
        assert statuses["200"] == REDELIVERED
        assert set(health.statuses) == {"200"}
        assert health.slowest < 2 + starved() - before
        assert anyio.run(settled, url) == calls
