"""Somebody who uploads a list and fills in the page of its campaign, as a browser does."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.console.signing_in import Form, Page, receiver, signed_in
from voiceflow_worker import Menu, Store

PEOPLE = "Guest,Mobile,Day,Room\nAna <3,8765 4321,31/12/2099,7\nBob,8765 4322,1/2/2099,8\n"
WORDS = {
    "say": "Hello {{guest}}.", "voice_profile": "en-US-JennyNeural", "source": "+6531234567", "country": "SG",
    "any": "yes",
}  # fmt: skip


@dataclass
class Clerk:
    """Somebody at the page of a campaign, which is `shown`."""

    client: httpx.AsyncClient
    shown: httpx.Response | None = None

    async def upload(self, content: str | bytes = PEOPLE, name: str = "may.csv", **typed: str) -> str:
        """Upload a list, and return what the page then says."""
        sent = content if isinstance(content, bytes) else content.encode()
        answer = await self.client.post("/ui/campaign", data=typed, files={"file": (name, sent)})
        return await self._follow(answer)

    async def send(self, do: str, /, files: Any = None, **typed: str | list[str]) -> str:
        """Press a button, with what the form shows, and what is typed now. Returns what the page then says."""
        return await self._follow(await self.post(do, files, **typed))

    async def post(self, do: str, /, files: Any = None, **typed: str | list[str]) -> httpx.Response:
        """Press a button, and return the answer itself."""
        assert self.shown is not None
        data: dict[str, str | list[str]] = {}
        for name, value in Form(self.shown.text).sent:
            before = data.get(name)
            data[name] = value if before is None else [*(before if isinstance(before, list) else [before]), value]
        files = files or {"file": ("", b"")}  # as browsers send a field for files that is empty
        return await self.client.post(self.shown.url, data={**data, **typed, "do": do}, files=files)

    async def _follow(self, answer: httpx.Response) -> str:
        while answer.status_code == 303:
            answer = await self.client.get(answer.url.join(answer.headers["location"]))
        self.shown = answer
        return Page(answer.text).text

    @property
    def typed(self) -> dict[str, str]:
        """What the page has in its fields."""
        assert self.shown is not None
        return Form(self.shown.text).typed


@asynccontextmanager
async def clerk(store: Store, **settings: Any) -> AsyncGenerator[Clerk]:
    """Somebody who has signed in."""
    menu = Menu("ask", prompt="Hello {{guest}}. Press 1.", voice_profile="de-DE-KatjaNeural")
    menu.on("1", goto="Thank you.")
    async with signed_in(receiver(store, menus=[menu], **settings)) as client:
        yield Clerk(client)
