"""A sandbox beside the test, on an event loop and in a thread of its own, as 8x8 is beside everybody."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import pytest

from voiceflow_worker.sandbox import Sandbox


@dataclass(frozen=True)
class EightByEight:
    """A sandbox that runs, and what a worker must be told to reach it."""

    sandbox: Sandbox
    url: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "VOICEFLOW_BASE_URL": self.url, "VOICEFLOW_API_KEY": "key-1", "VOICEFLOW_SUB_ACCOUNT": "acme",
            "VOICEFLOW_OUTCOMES": "none",
        }  # fmt: skip

    def settings(self, monkeypatch: pytest.MonkeyPatch, **more: str) -> Self:
        """Point the commands of this process at this sandbox. `more` are other settings, without their prefix."""
        for name, value in {**self.environment, **{f"VOICEFLOW_{name}": value for name, value in more.items()}}.items():
            monkeypatch.setenv(name, value)
        return self

    @property
    def rang(self) -> list[str]:
        """The numbers whose phones rang, sorted: a number that rang twice is there twice."""
        return sorted(entry.destination or "" for entry in self.sandbox.ledger if entry.rang)


@contextmanager
def running(sandbox: Sandbox) -> Iterator[EightByEight]:
    ready = threading.Event()
    found: list[str] = []
    loop = asyncio.new_event_loop()
    ending = asyncio.Event()

    async def serve() -> None:
        async with sandbox.running() as url:
            found.append(url)
            ready.set()
            await ending.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(30), "the sandbox did not start"
        yield EightByEight(sandbox, found[0])
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join(30)
        loop.close()
