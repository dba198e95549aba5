"""Readers who see no whole telephone number, on any page, until they ask for one, which the audit log has."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from html import unescape
from random import Random
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit
from zipfile import ZipFile

import httpx
import pytest

from tests.console.signing_in import OPERATORS, READERS, Form, receiver, signed_in
from tests.console.test_actions import scheduled
from tests.console.test_pages import Page, enqueued
from tests.contract.samples import add_jobs
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import flow, number
from tests.support.schedules import keep_runs
from tests.support.spellings import rows_of_digits, spelt
from voiceflow_worker import CallQueue, Campaign, Escalation, Escalations, Job, Store, SuppressionList
from voiceflow_worker.core.audit import Actor, AuditEntry, entries_on
from voiceflow_worker.core.ports.store import BulkWrite, Write
from voiceflow_worker.core.progress import CallProgress
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import JobState, KeyPress, Note, NoteKind, Post
from voiceflow_worker.model.reports.events import CallStatus
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.verdict import VerdictKind

pytestmark = pytest.mark.anyio

NUMBER, DIGITS = "+6587654321", "87654321"
USUAL = (NUMBER, "6587654321", "+65 8765 4321", "(65) 8765-4321", "0065 87654321", "8765 4321", "8765.4321")
_MADE = Random(3)
_SPELT = [spelt(_MADE, _MADE.choice([DIGITS, f"65{DIGITS}"])) for _ in range(24)]
SPELT = (*USUAL, *(each for each in _SPELT if len(each) <= 44))
PEOPLE: list[dict[str, Any]] = [
    {"destination": NUMBER, "name": f"Ann {NUMBER}", "mobile": each, "age": 41} for each in (*SPELT, int(DIGITS))
]


def said(place: int) -> str:
    return f"call {SPELT[place % len(SPELT)]} back"


async def filled(store: Store) -> Job:
    """A store with the number in all that pages show, in each of its spellings; and a call that has it everywhere."""
    now, queue = store.clock.now(), CallQueue(store)
    fields = {"say": f"Hello, {NUMBER}", "source": "+6531234567", "voice_profile": "en-SG-LunaNeural"}
    rows = [{**row, "unique_key": f"k{place}/{NUMBER}"} for place, row in enumerate(PEOPLE)]
    started = await Campaign.of({**fields, "rows": rows, "batch": "march-20260301"}).start(queue)
    assert started.enqueued == len(PEOPLE), started
    for place, name in enumerate(SPELT):
        await queue.enqueue(flow(number(place)), batch_id=f"of {name}", data={f"at {name}": name, "note": said(place)})
    (plain,) = await enqueued(store)
    post = Post(
        number=1, client_request_id=f"{plain.id}.1", began_at=now, valid_until=now, verdict=VerdictKind.REFUSED,
        code=-1009, message=said(0), session_id="s-2",
        outcome=Outcome(status=None, status_text=said(1), message=said(2), session_id="s-2", code=None),
        presses=(KeyPress(at=now, menu="m", digits=DIGITS),),
    )  # fmt: skip
    job = replace(
        plain, id="default.everywhere", state=JobState.IN_DOUBT, batch_id=f"of {NUMBER}", destination=NUMBER,
        unique_key=NUMBER, source=NUMBER, reason=said(3), data={"name": said(4), said(5): int(DIGITS), "all": [NUMBER]},
        posts=(post,), notes=(Note(at=now, kind=NoteKind.RESOLVED, text=said(6)),), revision="mine",
    )  # fmt: skip
    ended = replace(job, id="default.ended", batch_id=f"of {SPELT[3]}", unique_key="its", state=JobState.FAILED)
    await add_jobs(store, [job, replace(ended, revision="its")], now=now)
    progress = CallProgress(store)
    await progress.status(
        CallStatus(session_id="s-2", call_status=said(0), timestamp=now, source=NUMBER, destination=NUMBER)
    )
    await queue.hold(batch_id="march-20260301", reason=said(1))
    alarm = Escalation(numbers=[NUMBER], say=said(2), source=NUMBER, voice_profile="en-IE-EmilyNeural")
    await Escalations(queue).start(alarm, key=f"disk/{NUMBER}")
    listed = SuppressionList(store)
    await listed.add(NUMBER, *(f"+65876500{place:02}" for place in range(99)), "+6598765432", reason=said(3))
    run = await scheduled(store)
    await keep_runs(store, replace(run, message=said(4), ordered_by=said(5)))
    hold = AuditEntry.of(Actor(name=said(6)), "hold", at=now, queue="default", batch="march-20260301", result=said(0))
    await store.write(BulkWrite(writes=(Write(puts=hold.puts()),)), now=now)
    return job


def has_number(answer: httpx.Response) -> bool:
    """Whether an answer has the number anywhere, in any spelling: in its body, its files or its headers."""
    content = answer.content
    if content.startswith(b"PK"):
        with ZipFile(io.BytesIO(content)) as book:
            content = b"\n".join(map(book.read, book.namelist()))
    text = content.decode() + "".join(f"\n{name}: {value}" for name, value in answer.headers.items())
    # Markup parts what is shown; a script or a style shows nothing.
    parts = re.split(r"<(?:script|style)[^>]*>.*?</(?:script|style)>|<[^>]*>|[\"']", text, flags=re.DOTALL)
    tags = re.findall(r"<[^>]*>", text)
    return any(DIGITS in row for part in (*parts, *tags) for row in rows_of_digits(unescape(part)))


@asynccontextmanager
async def reader(store: Store, secret: str = READERS, **settings: Any) -> AsyncGenerator[httpx.AsyncClient]:
    async with signed_in(receiver(store, ui_mask=True, **settings), secret) as client:
        yield client


async def crawled(client: httpx.AsyncClient, *more: str) -> dict[str, httpx.Response]:
    """All pages that links lead to, from the overview on, and these."""
    waiting, seen = ["/ui", *more], dict[str, httpx.Response]()
    while waiting:
        link = waiting.pop()
        if link in seen or "/static/" in link or "/language" in link:
            continue
        answer = seen[link] = await client.get(link)
        if answer.headers.get("content-type", "").startswith("text/html"):
            found = [urljoin(str(answer.url), each) for each in Page(answer.text).links()]
            waiting += [f"{urlsplit(each).path}?{urlsplit(each).query}".rstrip("?") for each in found]
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "de"])
async def test_no_page_of_a_reader_has_a_whole_number_in_its_bytes(memory: Store, language: str) -> None:
    job = await filled(memory)
    live = {"X-Voiceflow-Live": "", "Accept-Language": language}
    async with reader(memory) as client, reader(memory, OPERATORS) as operator:
        client.headers["Accept-Language"] = language
        pages = await crawled(client, "/ui/suppression?after=%2B6587600000", f"/ui/calls/{job.id}", "/ui/act/hold")
        kinds = {urlsplit(link).path.removeprefix("/ui").strip("/").partition("/")[0] for link in pages}
        assert kinds >= {"", "batches", "calls", "doubts", "escalations", "schedules", "suppression", "export"}
        for link, answer in pages.items():
            assert answer.status_code in {200, 403}, (link, answer.status_code)
            assert not has_number(answer), link
            assert DIGITS not in re.sub(r"[^0-9A-Za-z]", "", unquote(link)), link
        parts = [await client.get(link, headers=live) for link in pages if "/export/" not in link]
        assert not any(map(has_number, parts))
        assert "+65******21" in pages[f"/ui/calls/{job.id}"].text
        of_numbers = [link for link in pages if link.startswith("/ui/batches/~")]
        assert len(of_numbers) >= len(SPELT), "a batch that is named by a number has its page, by an id"
        ticks = [unescape(each) for each in re.findall(r'name="of" value="([^"]*)"', pages["/ui/batches"].text)]
        assert any("/~" in each for each in ticks)
        for form in ("csv", "xlsx"):
            query = "&".join(f"of={quote(each)}" for each in ticks[:20])
            report = await client.get(f"/ui/export/{form}?{query}")
            assert (report.status_code, has_number(report)) == (200, False)
        for link in (f"/ui/calls/{job.id}", "/ui/calls", "/ui/suppression", "/ui/escalations", "/ui/doubts"):
            assert has_number(await operator.get(link)), link
        for form in ("csv", "xlsx"):
            assert has_number(await operator.get(f"/ui/export/{form}?queue=default&batch=march-20260301")), form


QUERIES = (
    "export/csv?filter=who%3D{}",
    "export/csv?filter=batch%3Dmarch-20260301%26column%3Dmobile%26value%3D{}",
    "calls?who={}",
    "?find={}",
    "suppression?number={}",
    "calls?batch=march-20260301&column=mobile&value={}",
)


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
async def test_a_search_finds_what_is_shown_and_tells_of_nothing_else(memory: Store, *, every: bool) -> None:
    await filled(memory)

    async def of(client: httpx.AsyncClient, way: str, text: str) -> list[str]:
        answer = await client.get(f"/ui/{way.format(quote(text))}".replace("/ui/?", "/ui?"), follow_redirects=True)
        assert not has_number(answer), text
        return sorted(
            each for each in Page(answer.text).links("calls/") + Page(answer.text).texts if "default." in each
        )

    async with reader(memory) as client:
        parts = [DIGITS[start:end] for start in range(8) for end in range(start + 3, 9)] if every else ["7654", "4321"]
        spelt = [NUMBER, "6587654321", "8765 4321", f"k0/{DIGITS}", "8765-4321"]
        for way in QUERIES:
            for part in [*parts, *(spelt if every else spelt[::2])]:
                # Another number, with the digits that are shown of each.
                other = re.sub("[3-8]", "9", part.replace("+65", "@")).replace("@", "+65")
                assert await of(client, way, part) == await of(client, way, other), (way, part)
        assert await of(client, "calls?who={}", "ann"), "people are found by their names"


async def test_a_reader_sees_a_number_once_the_audit_log_has_it_and_once_for_each_click(store: Store) -> None:
    job = await filled(store)
    way = f"/ui/calls/{job.id}"
    async with reader(store) as client:
        form = Form((await client.get(way)).text).values()
        for data, headers in (({**form, "token": ["x"]}, {}), ({}, {}), (form, {"Origin": "https://evil.example"})):
            refused = await client.post(way, data=data, headers=headers)
            assert (refused.status_code, has_number(refused)) == (403, False)
        assert not await entries_on(store, call=job.id)
        absent = await client.post("/ui/calls/default.absent", data=form)
        assert absent.status_code == 404
        for _ in range(3):  # its answer was lost twice
            shown = await client.post(way, data=form)
            assert (shown.status_code, has_number(shown), 'id="live" data-live' in shown.text) == (200, True, False)
        assert not has_number(await client.get(way)), "it is masked again"
        (entry,) = await entries_on(store, call=job.id)
        assert (entry.action, entry.name, entry.on, entry.numbers) == ("show the number", "Mary Tan", "pages", ())
        assert DIGITS not in str(entry.as_json())
        assert (await client.post(way, data=Form((await client.get(way)).text).values())).status_code == 200
        assert len(await entries_on(store, call=job.id)) == 2
        (other, *_) = await CallQueue(store).find(batch_id="march-20260301")
        assert (await client.post(f"/ui/calls/{other.id}", data=form)).status_code == 200
        assert len(await entries_on(store, call=other.id)) == 1, "the form of another call hides no look at this one"
    async with reader(store, OPERATORS) as operator:
        assert (await operator.post(way, data=form)).status_code == 405, "operators see it"


async def test_a_reader_learns_of_a_number_that_was_typed_whether_it_is_suppressed(store: Store) -> None:
    await filled(store)
    way, absent = "/ui/suppression", "+6581112222"

    async def searches() -> list[AuditEntry]:
        return [each for each in await entries_on(store) if each.action == "search the suppression list"]

    async with reader(store) as client:
        form = Form((await client.get(way)).text).values()
        for data, headers in (({**form, "token": ["x"]}, {}), (form, {"Origin": "https://evil.example"})):
            refused = await client.post(way, data={**data, "number": [NUMBER]}, headers=headers)
            assert (refused.status_code, "+65******21" in refused.text) == (403, False)
        assert not await searches()
        for _ in range(2):  # its answer was lost
            found = await client.post(way, data={**form, "number": [USUAL[2]]})
            assert (found.status_code, found.text.count("+65******21"), has_number(found)) == (200, 1, False)
            assert "+65******32" not in found.text, "others are not shown"
        assert len(await searches()) == 1
        other = await client.post(way, data={**form, "number": [absent]})
        assert "+65******22 is not on the list" in other.text
        for wrong in ("", DIGITS[:4], "ann"):
            assert not has_number(await client.post(way, data={**form, "number": [wrong]}))
        found_out = await searches()
        assert {(each.name, each.on, each.numbers, each.queue) for each in found_out} == {
            ("Mary Tan", "pages", (), None)
        }
        assert len(found_out) == 5, "the same form hides no search for another number"
        assert not any(each in str(entry.as_json()) for entry in found_out for each in (DIGITS, absent[3:]))
    async with reader(store, OPERATORS) as operator:
        assert (await operator.post(way, data=form)).status_code == 405, "operators search as before"
        assert has_number(await operator.get(f"{way}?number={quote(NUMBER)}"))


async def test_nothing_is_shown_if_the_audit_log_cannot_have_it(memory: Store) -> None:
    job = await filled(memory)

    async def down(call: StoreCall) -> None:
        if call.name == "write" and fails:
            raise StoreUnavailableError("gone")

    fails = False
    async with reader(FaultyStore(memory, before=down)) as client:
        form = Form((await client.get(f"/ui/calls/{job.id}")).text).values()
        fails = True
        answer = await client.post(f"/ui/calls/{job.id}", data=form)
        assert (answer.status_code, has_number(answer)) == (503, False)
