"""Somebody who fills in the form of a campaign, and the file of people that is uploaded."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from tests.console.signing_in import Form, Page, receiver, signed_in
from voiceflow_worker import Menu, Store

PEOPLE = "Guest,Mobile,Day,Room\nAna <3,8765 4321,31/12/2099,7\nBob,8765 4322,1/2/2099,8\n"
WORDS = {"say": "Hello {{guest}}.", "voice_profile": "en-US-JennyNeural", "source": "+6531234567", "country": "SG"}


@dataclass
class Clerk:
    """Somebody who fills in the form of a campaign, and sends all that it has in it, as a browser does."""

    client: httpx.AsyncClient
    shown: httpx.Response

    async def send(self, do: str, files: Mapping[str, tuple[str, str | bytes]] | None = None, /, **typed: str) -> str:
        """Press a button, with what the form shows, and what is typed now. Returns what the page then says."""
        given = (files or {}).items()
        sent = {name: (file, each if isinstance(each, bytes) else each.encode()) for name, (file, each) in given}
        data: dict[str, list[str]] = {}
        form = Form(self.shown.text)
        for name, value in form.sent:
            data.setdefault(name, []).append(value)
        for name in filter(re.compile("column ").match, typed):
            assert typed[name] in form.offered.get(name, typed[name]), "it can be picked"
        data |= {name: [value] for name, value in typed.items()} | {"do": [do]}
        sent = sent or {"file": ("", b"")}  # as browsers send a field for files that is empty
        answer = await self.client.post("/ui/campaign", data=data, files=sent)
        if answer.headers["content-type"].startswith("text/html"):
            self.shown = answer
            return Page(answer.text).text
        return answer.text


@asynccontextmanager
async def clerk(store: Store) -> AsyncGenerator[Clerk]:
    menu = Menu("ask", prompt="Hello {{guest}}. Press 1.", voice_profile="de-DE-KatjaNeural")
    menu.on("1", goto="Thank you.")
    async with signed_in(receiver(store, menus=[menu])) as client:
        yield Clerk(client, await client.get("/ui/campaign"))


def people(content: str = PEOPLE, name: str = "may.csv") -> dict[str, tuple[str, str]]:
    return {"file": (name, content)}
