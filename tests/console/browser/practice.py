"""A practice with its list of people, and its desk in a browser."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from selenium.webdriver.common.by import By

from tests.acceptance.then import LeapingClock, SandboxOfThen
from tests.console.browser.reader import Reader
from tests.console.signing_in import OPERATORS, READERS
from tests.ivr.asking import SECRET
from tests.support.redis_server import free_port
from voiceflow_worker import Receiver, VoiceClient, Worker, WorkerOptions, load_settings, open_store
from voiceflow_worker.asgi import serving
from voiceflow_worker.webhooks import PATH


@dataclass
class Practice:
    """A receiver with pages, a sandbox and their store, on a clock that leaps."""

    address: str
    clock: LeapingClock
    sandbox: SandboxOfThen
    drain: Callable[[], Coroutine[Any, Any, object]]
    portal: BlockingPortal

    def work(self) -> dict[str, list[str]]:
        """Let a worker send what is due; by the ledger, what each phone that rang for it told."""
        before = len(self.sandbox.ledger)
        self.portal.call(self.drain)
        told: dict[str, list[str]] = {}
        for each in list(self.sandbox.ledger)[before:]:
            if each.rang and each.destination:
                told.setdefault(each.destination, []).append(" ".join(each.heard))
        return told


@pytest.fixture
def desk() -> Iterator[Practice]:
    with start_blocking_portal("asyncio") as portal, portal.wrap_async_context_manager(practice(portal)) as opened:
        yield opened


def write(reader: Reader, name: str, *parts: str) -> None:
    """Type a text, with a click for each column in it, as `{{…}}`."""
    field = reader.field(name)
    reader.script("arguments[0].scrollIntoView({block: 'center'})", field)
    field.click()
    for part in parts:
        if part.startswith("{{"):
            reader.click(reader.driver.find_element(By.CSS_SELECTOR, f"[data-insert='{part}']"))
        else:
            reader.keys(part)
    assert field.get_attribute("value") == "".join(parts)


def upload(reader: Reader, desk: Practice, file: Path, saved: Path | None = None) -> None:
    reader.open(f"{desk.address}/ui/campaign")
    reader.field("file").send_keys(str(file))
    if saved is not None:
        reader.field("saved").send_keys(str(saved))
    reader.send("look")


FIVE = datetime(2026, 12, 1, 16, 0, 30, tzinfo=UTC)
"""Half a minute after 17:00 in Berlin and Paris, on a Tuesday."""


@asynccontextmanager
async def practice(portal: BlockingPortal) -> AsyncGenerator[Practice]:
    clock, port = LeapingClock(FIVE), free_port()
    api: dict[str, Any] = {"api_key": "any", "sub_account": "demo", "base_url": f"http://127.0.0.1:{port}"}
    settings = load_settings(webhook_secret=SECRET, ui_secret=READERS, ui_operator_secret=OPERATORS, **api)
    async with open_store("memory://", clock=clock) as store:
        receiver = Receiver(settings, store)
        async with receiver.running(), serving(receiver.app) as address:
            sandbox = SandboxOfThen(webhook=address.url + PATH, webhook_secret=SECRET, speed=100)
            sandbox.clock = clock
            options = WorkerOptions(policy=settings.policy())
            async with sandbox.running(port=port), VoiceClient.from_settings(settings) as voice:

                async def drain() -> None:
                    await Worker(store, voice, options=options).drain()
                    await sandbox.idle()

                yield Practice(address.url, clock, sandbox, drain, portal)
