"""People who sign in to the pages of a receiver, in the way of a browser; and calls in a store that they act on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import httpx
from starlette.applications import Starlette

from tests.support.engine import Engine
from tests.support.flows import flow, number
from tests.support.voices import ScriptedVoice, unknown
from voiceflow_worker import (
    CallPolicy,
    CallQueue,
    CallRequest,
    Job,
    Menu,
    Receiver,
    Store,
    load_settings,
)
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.reports.status import SessionStatus

READERS, OPERATORS = "correct-horse:battery", "staple/of operators"
HOST = "http://calls"
FROM_HERE = {"Origin": HOST}


class Form(HTMLParser):
    """What a page sends untouched, `hidden` or `ticked`, and the fields to fill in, with what is `typed` in them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.hidden: list[tuple[str, str]] = []
        self.ticked: list[tuple[str, str]] = []
        self.fields: set[str] = set()
        self.typed: dict[str, str] = {}
        self.sent: list[tuple[str, str]] = []
        """All that a browser sends of a form in which nothing was touched, but for its buttons and files."""
        self.offered: dict[str, set[str]] = {}
        """What can be picked in each list."""
        self._in, self._is_text, self._is_first = "", False, False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        name = found.get("name")
        if tag in {"input", "textarea"} and name:
            if found.get("type") == "hidden":
                self.hidden.append((name, found.get("value") or ""))
            else:
                if "checked" in found:
                    self.ticked.append((name, found.get("value") or ""))
                    self.hidden.append(self.ticked[-1])
                self.fields.add(name)
                self.typed[name] = found.get("value") or ""
            if found.get("type") != "file" and (found.get("type") not in {"checkbox", "radio"} or "checked" in found):
                self.sent.append((name, found.get("value") or ""))
        if tag in {"select", "textarea"} and name:
            self._in, self._is_text = name, tag == "textarea"
            self._is_first = tag == "select"
        if tag == "option" and self._in:
            self.offered.setdefault(self._in, set()).add(found.get("value") or "")
        if tag == "option" and self._in and ("selected" in found or self._is_first):
            if self._is_first:
                self.sent.append((self._in, ""))
            self._is_first = False
            self.sent[-1] = (self._in, found.get("value") or "")
            if "selected" in found:
                self.typed[self._in] = found.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag in {"textarea", "select"}:
            self._in = ""

    def handle_data(self, data: str) -> None:
        if self._is_text and self._in in self.typed and self.typed[self._in] == "":
            self.typed[self._in] = data.strip()
            self.sent[-1] = (self._in, data.removeprefix("\n"))

    def values(self, **typed: str) -> dict[str, list[str]]:
        values: dict[str, list[str]] = {}
        untouched = [each for each in self.hidden if each not in self.ticked or each[0] not in typed]
        for name, value in [*untouched, *typed.items()]:
            values.setdefault(name, []).append(value)
        return values


def receiver(store: Store, **more: Any) -> Starlette:
    """The app of a receiver with pages."""
    return with_pages(store, **more).app


def with_pages(store: Store, *, operators: bool = True, menus: Sequence[Menu] = (), **settings: Any) -> Receiver:
    """A receiver with pages."""
    secrets: dict[str, Any] = {"ui_secret": READERS, "ui_operator_secret": OPERATORS if operators else None}
    return Receiver(load_settings(**secrets, **settings), store, menus=menus)


@asynccontextmanager
async def browser(app: Starlette, *, address: str = "192.0.2.7") -> AsyncGenerator[httpx.AsyncClient]:
    """Somebody who has not signed in, and whose forms come from these pages."""
    transport = httpx.ASGITransport(app, client=(address, 5000))
    async with httpx.AsyncClient(transport=transport, base_url=HOST, headers=FROM_HERE) as client:
        yield client


async def sign_in(client: httpx.AsyncClient, secret: str, *, name: str = "Mary Tan", way: str = "") -> httpx.Response:
    return await client.post("/ui/sign-in", data={"name": name, "secret": secret, "way": way})


@asynccontextmanager
async def signed_in(
    app: Starlette, secret: str = OPERATORS, *, name: str = "Mary Tan"
) -> AsyncGenerator[httpx.AsyncClient]:
    """Mary, or somebody else, who has signed in, by default as an operator."""
    async with browser(app) as client:
        assert (await sign_in(client, secret, name=name)).status_code == 303
        yield client


async def confirmed(client: httpx.AsyncClient, address: str, **typed: str) -> httpx.Response:
    """Open the confirmation of an action, fill in its form, and send it."""
    asked = await client.get(address)
    assert asked.status_code == 200, asked.text
    form = Form(asked.text)
    assert typed.keys() <= form.fields, form.fields
    return await client.post(address.partition("?")[0], data=form.values(**typed))


async def in_doubt(store: Store, count: int = 1, *, valid_for: timedelta | None = None) -> tuple[Engine, list[Job]]:
    policy = CallPolicy() if valid_for is None else CallPolicy(submit_window=valid_for, clock_skew=timedelta())
    engine = Engine(store, ScriptedVoice(answer=lambda _: unknown()), policy=policy)
    for place in range(count):
        await engine.enqueue(number(place), batch="march")
    jobs = await engine.send()
    assert {job.state for job in jobs} == {JobState.IN_DOUBT}
    return engine, jobs


async def ended(store: Store, status: SessionStatus = SessionStatus.BUSY, *, to: str = "+6587654321") -> Job:
    engine = Engine(store, ScriptedVoice())
    await engine.enqueue(to, batch="march")
    (job,) = await engine.send()
    await engine.summarise(job, status)
    return await engine.queue.get(job.id)


STRICT = {
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}


class Page(HTMLParser):
    """What a browser makes of a page: its elements, their attributes, and its texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def links(self, holding: str = "") -> list[str]:
        """The addresses that the page leads to, beside its own files and the signs in it."""
        hrefs = [value for name, value in self.attributes if name == "href"]
        return [each for each in hrefs if holding in each and not each.startswith("#") and "/static/" not in each]


async def enqueued(store: Store, count: int = 1, *, queue: str = "default", **more: Any) -> list[Job]:
    requests = [CallRequest(flow=flow(number(place)), **more) for place in range(count)]
    return [made.job for made in await CallQueue(store, queue).enqueue_many(requests)]


def hostile(field: str) -> str:
    return f"\"'></title></style><script>alert('{field}')</script><img src=x onerror=y>{{{{7*7}}}}&amp;{field}"
