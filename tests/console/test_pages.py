"""The pages for people: who may look, what they see, and that looking changes nothing."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from urllib.parse import quote, unquote, urljoin
from zoneinfo import ZoneInfo

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp

from tests.console.signing_in import FROM_HERE, HOST, STRICT, Page, enqueued, hostile, receiver, signed_in
from tests.contract.samples import add_jobs, commit
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import number
from tests.support.voices import ScriptedVoice, unknown
from voiceflow_worker import (
    CallPolicy,
    CallQueue,
    CampaignOptions,
    FlowTemplate,
    Job,
    Receiver,
    RedialPolicy,
    enqueue_file,
    load_settings,
)
from voiceflow_worker.console import views
from voiceflow_worker.console.site import Pages
from voiceflow_worker.core.base.identity import QueueNames, batch_puts
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite, Write
from voiceflow_worker.core.progress import CallProgress
from voiceflow_worker.core.writes import changed
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import JobState, KeyPress, Note, NoteKind, Post
from voiceflow_worker.model.reports.events import CallStatus, SessionSummary
from voiceflow_worker.model.reports.outcome import CallLeg, Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import VerdictKind
from voiceflow_worker.webhooks.menu_calls import MenuCall, MenuCalls

pytestmark = pytest.mark.anyio

S = SessionStatus
SECRET = "correct-horse:battery"
WEBHOOK_SECRET = "Bearer only-8x8-knows-this"


@asynccontextmanager
async def reading(app: ASGIApp) -> AsyncGenerator[httpx.AsyncClient]:
    """Somebody who has signed in as a reader."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=HOST, headers=FROM_HERE) as client:
        assert (await client.post("/ui/sign-in", data={"name": "Ana", "secret": SECRET})).status_code == 303
        yield client


def shown_by(store: Store) -> ASGIApp:
    """The pages of a store, whose reader changes nothing in it."""
    reads = FaultyStore(store, before=only_reads)
    return Receiver(load_settings(webhook_secret=WEBHOOK_SECRET, ui_secret=SECRET), reads).app


async def only_reads(call: StoreCall) -> None:
    assert call.name != "write", "a page changed the store"


async def page(app: ASGIApp, path: str) -> Page:
    async with reading(app) as client:
        answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return Page(answer.text)


# -- who may look ------------------------------------------------------------------------------------------------------


async def test_whoever_does_not_know_the_secret_sees_nothing(memory: Store) -> None:
    app = shown_by(memory)
    known = [("Cookie", ""), ("Cookie", f"voiceflow={SECRET}"), ("Cookie", "voiceflow=eyJuYW1lIjoiQW5hIn0.made-up")]
    for headers in [{name: value} for name, value in [*known, ("Authorization", f"Bearer {SECRET}")]]:
        for path in ["/ui", "/ui/calls/default.1", "/ui/batches/b", "/ui/nothing", "/ui/act/hold"]:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://calls") as client:
                answer = await client.get(path, headers=headers)
                sent = await client.post(path, headers={**headers, **FROM_HERE})
                assert sent.status_code == 401, (path, headers)
            assert answer.status_code == 401, (path, headers)
            assert "Sign in" in Page(answer.text).text
            assert "default" not in answer.text.replace("default.1", "")


# -- what every answer is like -----------------------------------------------------------------------------------------


def broken(store: Store, error: Exception | None) -> FaultyStore:
    """A store whose every call fails with `error`, or is never answered."""

    async def fail(_: StoreCall) -> None:
        if error is not None:
            raise error
        await anyio.sleep_forever()

    return FaultyStore(store, before=fail)


def assert_strict(answer: httpx.Response) -> None:
    assert {name: answer.headers[name] for name in STRICT} == STRICT
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    nothing, own = {"default-src", "base-uri", "frame-ancestors"}, {"style-src", "script-src", "img-src", "connect-src"}
    assert policy == {**dict.fromkeys(nothing, "'none'"), **dict.fromkeys({*own, "form-action"}, "'self'")}
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


async def test_every_answer_has_the_strict_headers(memory: Store) -> None:
    (job,) = await enqueued(memory, batch="march")
    async with reading(shown_by(memory)) as client:
        answers = {
            200: await client.get("/ui"),
            401: await client.get("/ui", headers={"Cookie": "voiceflow=wrong"}),
            404: await client.get("/ui/calls/default.none"),
            403: await client.post("/ui", headers={"Origin": "null"}),
            405: await client.post("/ui"),
        }
        others = [await client.get(f"/ui/calls/{job.id}"), await client.get("/ui/batches/march")]
    away = Pages(broken(memory, StoreUnavailableError("redis://:hush@x is gone")), load_settings(ui_secret=SECRET))
    failing = Pages(broken(memory, RuntimeError("a fault")), load_settings(ui_secret=SECRET))
    for status, pages in ((503, away), (500, failing)):
        transport = httpx.ASGITransport(pages)
        async with httpx.AsyncClient(transport=transport, base_url=HOST, cookies=client.cookies) as other:
            answers[status] = await other.get("/ui")
    for status, answer in answers.items():
        assert answer.status_code == status
        assert_strict(answer)
    for answer in others:
        assert answer.status_code == 200
        assert_strict(answer)
    assert answers[405].headers["allow"] == "GET, HEAD"
    assert "The store is not available" in answers[503].text
    assert "The store cannot be reached, or is locked. The log of this receiver names the cause" in answers[503].text
    assert ("a fault" in answers[500].text, "hush" in answers[503].text) == (False, False)


async def test_a_page_needs_nothing_but_its_own_files(memory: Store) -> None:
    (job,) = await enqueued(memory, batch="march")
    app = shown_by(memory)
    for path in ("/ui", "/ui/batches", "/ui/calls", f"/ui/calls/{job.id}", "/ui/batches/march"):
        found = await page(app, path)
        assert not {"style", "onload", "onclick"} & {name for name, _ in found.attributes}
        assert "style" not in found.tags
        loaded = [value for name, value in found.attributes if name in {"src", "href"} and "/static/" in value]
        assert [each.rpartition("/")[2] for each in loaded] == ["icon.svg", "style.css", "live.js"]
        assert not [value for _, value in found.attributes if "//" in value]
        # The browser is told where they are whether or not it has signed in: they hold no data.
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://calls") as client:
            for each in loaded:
                answer = await client.get(urljoin(f"http://calls{path}", each))
                assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")
                assert answer.headers["x-content-type-options"] == "nosniff"
                known = {"If-None-Match": answer.headers["etag"]}
                again = await client.get(urljoin(f"http://calls{path}", each), headers=known)
                assert (again.status_code, again.content) == (304, b"")
            assert "color-scheme: light dark" in (await client.get("/ui/static/style.css")).text
            assert (await client.get("/ui/static/../templates/call.html")).status_code != 200
            assert (await client.get("/ui/static/%2e%2e/templates/call.html")).status_code != 200


async def test_the_script_gets_the_live_part_alone(memory: Store) -> None:
    await enqueued(memory, 3)
    live = {"X-Voiceflow-Live": "1"}
    async with reading(shown_by(memory)) as client:
        first = await client.get("/ui", headers=live)
        assert (first.status_code, "<html" in first.text, "0 of 3" in Page(first.text).text) == (200, False, True)
        assert_strict(first)
        assert (await client.get("/ui", headers=live)).text == first.text, "nothing has changed"
        assert (await client.get("/ui/doubts", headers=live)).status_code == 204
        assert (await client.get("/ui", headers={**live, "Cookie": ""})).status_code == 401


# -- what is on them ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cookie", "zone"),
    [("Asia/Tokyo", "Asia/Tokyo"), (None, "UTC"), ("../etc", "UTC"), ("localtime", "UTC"), ("right/Asia/Tokyo", "UTC")],
)
async def test_times_are_in_the_zone_of_the_browser(memory: Store, cookie: str | None, zone: str) -> None:
    at = datetime(2040, 1, 2, 12, 0, tzinfo=UTC)
    await enqueued(memory, time_zone="Asia/Singapore", not_before=at)
    async with reading(shown_by(memory)) as client:
        if cookie is not None:
            client.cookies.set("voiceflow-zone", cookie)
        for headers in ({}, {"x-voiceflow-live": ""}):
            text = Page((await client.get("/ui/calls", headers=headers)).text).text
            assert f"it is due at {at.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S} {zone}" in text


async def test_a_waiting_call_says_why_it_waits_on_its_page_and_in_each_list(memory: Store) -> None:
    first, _ = await enqueued(memory, 2, batch="march")
    await CallQueue(memory).hold(batch_id="march", reason="wait for legal")
    why = "batch march is held until somebody resumes it: wait for legal"
    app = shown_by(memory)
    assert f"Waits: {why}" in (await page(app, f"/ui/calls/{first.id}")).text
    for path in ("/ui/calls", "/ui/batches/march"):
        assert (await page(app, path)).text.count(why) >= 2, path


@pytest.mark.parametrize("store_url", ["sqlite", "postgres"], indirect=True)
async def test_the_front_page_tells_of_every_queue(store: Store) -> None:
    await enqueued(store, 3)
    await enqueued(store, 2, queue="reminders")
    await enqueued(store, 1, queue="unworked")
    await QueueNames(store).remember("reminders")
    await CallQueue(store, "reminders").hold(reason="the text has a wrong date")
    engine = Engine(store, ScriptedVoice(answer=lambda _: unknown()))
    await engine.send()
    app = shown_by(store)
    found = await page(app, "/ui")
    for told in (
        "3 calls are in doubt",
        "Queue reminders is on hold. The text has a wrong date. Nothing of it is sent until somebody resumes it.",
        "Queue reminders has calls to send, but no worker", "default 0 of 3", "reminders 0 of 2", "on hold",
        "reminders : Nobody is being called; 2 wait behind the hold.",
        "unworked : Nobody is being called; 1 waits: no worker of queue unworked runs.", "unworked 0 of 1",
    ):  # fmt: skip
        assert told in found.text, told
    assert [found.text.count(once) for once in ("calls are in doubt", "wrong date", "reminders 0 of 2")] == [1, 1, 1]
    assert "unworked 0 of 1" in (await page(app, "/ui?queue=unworked")).text
    assert "default" in (await page(app, "/ui?queue=NO%20queue!")).text
    (doubts,) = {link for link in found.links("state=in_doubt") if "queue=default" in link}
    assert len((await page(app, urljoin("/ui", doubts))).links("calls/default.")) == 3


async def test_a_call_is_found_by_its_number_or_a_part_of_it(store: Store) -> None:
    (job,) = await enqueued(store)
    (far,) = await enqueued(store, queue="far")
    await QueueNames(store).remember("far")
    async with reading(shown_by(store)) as client:
        for text in (job.destination, job.destination.removeprefix("+"), "+65 8000 0000"):
            answer = await client.get("/ui/calls", params={"who": text})
            assert {job.id, far.id} <= {each.rpartition("/")[2] for each in Page(answer.text).links("calls/")}
        for text in ("nothing like it", "default.01J", ".", "\x00", "9" * 5000, "{tag}.x", "%ff"):
            answer = await client.get("/ui/calls", params={"who": text})
            assert (answer.status_code, "No call fits this filter" in answer.text) == (200, True), text


async def test_the_page_of_a_call_is_one_timeline_with_the_ids_below(store: Store) -> None:
    engine = Engine(store, ScriptedVoice())
    await engine.enqueue(batch="march/2", unique_key="order-42", data={"name": "Ana Tan"})
    (job,) = await engine.send()
    at = datetime(2026, 7, 1, 21, 2, 2, tzinfo=UTC)
    line = MenuCall(job, 1, ())
    press = KeyPress(at=at + timedelta(seconds=6), menu="m", digits="1", answer="confirmed")
    await MenuCalls(store, CallPolicy()).pressed(line, press, session_id=job.session_id)
    ringing = CallStatus(session_id=job.session_id, call_status="RINGING", timestamp=at.astimezone(), sip_code=180)
    await CallProgress(store).status(ringing)
    end = at + timedelta(seconds=11)
    leg = CallLeg(destination=job.destination, status="COMPLETED", connected_at=at, disconnected_at=end)
    told = SessionSummary(status=SessionStatus.COMPLETED, client_request_id=f"{job.id}.1", ended_at=end, call_a=leg)
    await engine.settler.summary(told)
    found = await page(shown_by(store), f"/ui/calls/{job.id}")
    happened, technical = found.text.partition("What happened")[2].split(" Technical ")
    assert "answered Ana Tan" in found.text
    for told_here in ("To +6587654321 From +6531234567", "Batch march/2", "Your order is ready."):
        assert told_here in happened
    timeline = "Jul 1, 2026, 21:02:02 answered Jul 1, 2026, 21:02:08 pressed 1, confirmed menu m asked "
    assert timeline + "Jul 1, 2026, 21:02:13 hung up" in happened
    for told_here in (job.id, "order-42", f"POST 1 {job.id}.1", str(job.session_id), "RINGING, SIP 180"):
        assert told_here in technical
        assert told_here not in happened
    (batch,) = found.links("batches/")
    there = urljoin(f"http://calls/ui/calls/{job.id}", batch)
    assert there == "http://calls/ui/batches/march%2F2?queue=default"
    assert "1 call in queue default" in (await page(shown_by(store), there)).text


NOWHERE = {
    "No such call": [f"calls/{each}" for each in (
        "default.01J", "nothing", "a" * 5000, "default.", "..%2F..", "{x}.y", "%00", "default.%00%ff", "UP.x",
    )],
    "No such batch": [f"batches/march{each}" for each in ("", "?queue=default", "?queue=", "?queue=NO!", "?queue=%00")],
}  # fmt: skip


async def test_what_is_not_there_is_told(store: Store) -> None:
    await enqueued(store, 2, queue="far", batch="march")
    async with reading(shown_by(store)) as client:
        for told, paths in NOWHERE.items():
            for path in paths:
                answer = await client.get(f"/ui/{path}")
                assert (answer.status_code, told in answer.text) == (404, True), path
                assert len(answer.text) < 6000
        assert (await client.get("/ui/batches/march?queue=far")).status_code == 200
    transport = httpx.ASGITransport(Receiver(load_settings(), store).app)
    async with httpx.AsyncClient(transport=transport, base_url=HOST) as client:
        for path in ("/ui", "/ui/", "/ui/calls/default.1"):
            assert (await client.get(path)).status_code == 404, "without a secret there are no pages"


async def followed(client: httpx.AsyncClient, path: str, label: str) -> list[list[str]]:
    """The calls on each page, from `path` on to the one that has no link `label` any more."""
    listed: list[list[str]] = []
    while path:
        answer = await client.get(path)
        assert answer.status_code == 200
        found = Page(answer.text)
        listed.append([unquote(link.rpartition("/")[2]) for link in found.links("calls/")])
        onward = found.links(f"{label}=")
        path = urljoin(str(answer.url), onward[0]) if onward else ""
    return listed


async def test_calls_are_listed_a_page_at_a_time_the_newest_first(store: Store) -> None:
    jobs = await enqueued(store, 130, batch="a/b ?")
    far = await enqueued(store, 15, queue="far", batch="a/b ?")
    await enqueued(store, 5, batch="other")
    newest = sorted((job.id for job in [*jobs, *far]), key=lambda each: each.partition(".")[2], reverse=True)
    await CallQueue(store).cancel(jobs[0].id)
    async with reading(shown_by(store)) as client:
        newest_of = "/ui/calls?batch=a%2Fb%20%3F"
        down = await followed(client, newest_of, "after")
        assert [len(each) for each in down] == [50, 50, 45]
        assert [each for page in down for each in page] == newest
        in_far = await followed(client, "/ui/calls?queue=far", "after")
        assert in_far == [[job.id for job in reversed(far)]]
        batch = Page((await client.get("/ui/batches/a%2Fb%20%3F")).text)
        all_calls = next(each for each in batch.links("calls?") if "state=" not in each)
        answer = await client.get(urljoin("http://calls/ui/batches/x", all_calls))
        assert len(Page(answer.text).links("calls/")) == 50


async def test_calls_are_filtered_by_state_outcome_number_answer_and_time(store: Store) -> None:
    engine = Engine(store, ScriptedVoice())
    people = ("Ana Tan", "Ben", "Cy", "Dee")
    sent = [await engine.enqueue(number(at), batch="march", data={"name": name}) for at, name in enumerate(people)]
    for job in await engine.send():
        await engine.summarise(job)
    await enqueued(store, 2, batch="march")
    (pressed,) = await engine.queue.find(destination=sent[0].destination, states=[JobState.COMPLETED])
    (wrong,) = await engine.queue.find(destination=sent[1].destination, states=[JobState.COMPLETED])
    for job, name in ((pressed, "confirmed"), (wrong, None)):
        press = KeyPress(at=store.clock.now(), menu="main", digits="7", answer=name)
        keyed = replace(job, posts=(replace(job.posts[0], presses=(press,)),))
        assert all(await commit(store, [changed(job, keyed, at=store.clock.now())[1]]))
    shown = {
        "state=completed": 4, "state=queued": 2, "state=ended": 4, "state=under_way": 0, "outcome=reached": 4,
        "outcome=completed": 4, "outcome=busy": 0, "state=lost": 0, "outcome=ODD%3Cb%3E": 0,
        "answer=confirmed": 1, "answer=no": 0, "answer=-": 1,
        f"who={quote(sent[1].destination)}&state=completed": 1, "who=ana%20t": 1, "who=8000%20000": 6, "who=99": 0,
        f"number={quote(sent[1].destination)}&state=completed": 1, "batch=march&answer=confirmed&state=completed": 1,
        "batch=none": 0, "queue=far": 0, "": 6,
    }  # fmt: skip
    async with reading(shown_by(store)) as client:
        for query, count in shown.items():
            answer = await client.get(f"/ui/calls?{query}")
            found = Page(answer.text)
            assert (answer.status_code, len(found.links("calls/"))) == (200, count), query
            assert ("No call fits this filter" in found.text) is (count == 0), query
        for query in ("after=%00", "after=zzz", f"after={'9' * 3000}", "queue=NO!", "state=%00", "batch=%ff"):
            assert (await client.get(f"/ui/calls?{query}")).status_code == 200, query


async def test_batches_are_listed_and_searched(store: Store) -> None:
    for place in range(60):
        await enqueued(store, 1, batch=f"batch-{place:02}/x")
    await enqueued(store, 2, queue="far", batch="March <b>")
    async with reading(shown_by(store)) as client:
        first = await client.get("/ui/batches")
        found = Page(first.text)
        assert len(found.links("batches/")) == 50
        assert "March <b>" in found.text, "the newest first"
        (onward,) = found.links("after=")
        rest = Page((await client.get(urljoin(str(first.url), onward))).text)
        assert len(rest.links("batches/")) == 11
        assert not rest.links("after=")
        assert not {*found.links("batches/")} & {*rest.links("batches/")}
        one = Page((await client.get("/ui/batches?name=MARCH")).text)
        (link,) = one.links("batches/")
        assert (await client.get(urljoin(str(first.url), link))).status_code == 200
        assert "March <b>" in one.text
        assert "None of the batches" in Page((await client.get("/ui/batches?name=nothing")).text).text


async def test_each_count_above_the_rows_of_a_batch_is_that_of_its_list(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = tmp_path / "may.csv"
    rows = [f"Ana Tan {at},A{at},{number(at)},Dr {'Kim' if at % 2 else 'Lee'}" for at in range(9)]
    people.write_text("\n".join(("Name,Kurz,destination,Arzt", *rows, "Bad Row,B,12,Dr Lee", "Worse Row,,,Dr Lee", "")))
    said = FlowTemplate.speaking("Hallo {{Name}}.")
    options = CampaignOptions(template=said, source="+6531234567", window="any", voice_profile="de-DE-KatjaNeural")
    engine = Engine(store, ScriptedVoice())
    await enqueue_file(engine.queue, people, options, skip_bad=True)
    ends = dict(zip(map(number, range(9)), [S.COMPLETED] * 5 + [S.BUSY, S.NO_ANSWER], strict=False))
    for job in await engine.send():
        if job.destination in ends:
            await engine.summarise(job, ends[job.destination])
    for at, answer in enumerate(("confirmed", "confirmed", "call back", None)):
        (job,) = await engine.queue.find(destination=number(at))
        press = KeyPress(at=store.clock.now(), menu="main", digits="7", answer=answer)
        keyed = replace(job, posts=(replace(job.posts[0], presses=(press,)),))
        assert all(await commit(store, [changed(job, keyed, at=store.clock.now())[1]]))
    counts = {"confirmed": 2, "call back": 1, "other keys": 1, "not reached": 2, "calling": 2, "no key": None}
    counts["not called"] = 2
    for page_size in (1, 50):
        monkeypatch.setattr(views, "A_PAGE", page_size)
        async with reading(shown_by(store)) as client:
            shown = await client.get("/ui/batches/may")
            above = shown.text.partition('class="tabs"')[2].partition("</nav>")[0]
            counted = r'(?:<i [^>]*></i>)?([\w ]+)(?: <span class="muted">(\d+)</span>)?'
            tabs = re.findall(rf'<a href="([^"]*)"[^>]*>{counted}</a>', above)
            links = {words: (urljoin(str(shown.url), unescape(href)), count) for href, words, count in tabs}
            assert links["all"][1] == "9"
            assert {words: int(links[words][1]) if links[words][1] else None for words in counts} == counts
            for words, count in counts.items():
                names, place = list[str](), links[words][0]
                while place:
                    listed = await client.get(place)
                    names += re.findall(r">(Ana Tan \d|Bad Row|Worse Row)<", listed.text)
                    onward = re.search(r'href="([^"]*(?:after|row)=[^"]*)">(?:Later rows|Older)<', listed.text)
                    place = urljoin(str(listed.url), unescape(onward[1])) if onward else ""
                assert len({*names}) == len(names) == (count or 1), words
    async with reading(shown_by(store)) as client:
        for find, found in (("Dr Lee", 5), ("dr kim", 4), ("confirmed", 2), ("no answer", 1), ("Ana Tan 3", 1)):
            listed = await client.get("/ui/calls", params={"who": find})
            assert len(re.findall(r'<td class="name">Ana Tan \d</td>', listed.text)) == found, find


async def test_the_overview_and_a_batch_say_what_happens_now(memory: Store) -> None:
    queue = CallQueue(memory)
    engine = Engine(memory, ScriptedVoice())
    async with signed_in(receiver(memory)) as client:

        async def told(path: str) -> str:
            html = (await client.get(path)).text
            bar = html.partition('aria-label="What happens now')[2].partition("</section>")[0]
            return Page(bar.partition(">")[2]).text

        assert "Nobody is being called, and nobody waits. Hold" in await told("/ui")
        policy = RedialPolicy(on=frozenset({S.BUSY}), limit=2, after=timedelta(minutes=30))
        for place in range(3):
            await engine.enqueue(number(place), batch="march", redial=policy)
        for path in ("/ui", "/ui/batches/march"):
            assert "Nobody is being called; 3 wait: no worker of queue default runs. Hold" in await told(path), path
        sent = await engine.send()
        assert "3 people are being called. Hold" in await told("/ui/batches/march")
        await engine.summarise(sent[0], S.BUSY)
        await engine.summarise(sent[1], S.BUSY)
        at = (await queue.get(sent[0].id)).due_at
        again = "2 wait; the next is called at "
        assert f"1 person is being called; {again}" in await told("/ui/batches/march")
        assert f"{at:%H:%M}" in await told("/ui/batches/march")
        await engine.summarise(sent[2])
        html = (await client.get("/ui/batches/march")).text
        assert html.index("More</summary>") < html.index("Cancel the batch"), "under More"
        await queue.hold(batch_id="march", reason="a wrong date")
        held = await told("/ui/batches/march")
        assert [each in held for each in ("2 wait behind the hold", "A wrong date", "Resume")] == [True] * 3
        await queue.cancel_batch("march", reason="over")
        assert "All 3 calls have ended." in await told("/ui/batches/march")


# -- what hostile texts do ---------------------------------------------------------------------------------------------


def hostile_job(at: datetime, plain: Job) -> Job:
    post = Post(
        number=1,
        client_request_id=hostile("request"),
        began_at=at,
        valid_until=at,
        verdict=VerdictKind.REFUSED,
        code=-1009,
        message=hostile("message"),
        session_id=hostile("session"),
        outcome=Outcome(
            status=None, status_text=hostile("status"), message=hostile("ending"), session_id="s-2", code=None
        ),
        presses=(KeyPress(at=at, menu=hostile("menu"), digits=hostile("digits")),),
    )
    return replace(
        plain,
        id=f"default.{hostile('id')}",
        state=JobState.IN_DOUBT,
        batch_id=hostile("batch"),
        destination=hostile("destination"),
        unique_key=hostile("key"),
        source=hostile("source"),
        reason=hostile("reason"),
        data={hostile("name"): hostile("value")},
        posts=(post,),
        notes=(Note(at=at, kind=NoteKind.RESOLVED, text=hostile("note")),),
        revision="mine",
    )


async def test_hostile_texts_stay_texts_in_every_field(store: Store) -> None:
    now = store.clock.now()
    (plain,) = await enqueued(store)
    job = hostile_job(now, plain)
    await add_jobs(store, [job], now=now)
    puts = batch_puts(job.queue, job.batch_id or "", at=now, is_campaign=True)
    await store.write(BulkWrite(writes=(Write(puts=puts),)), now=now)
    progress = CallProgress(store)
    await progress.status(
        CallStatus(
            session_id="s-2",
            call_status=hostile("leg"),
            timestamp=now,
            source=hostile("from"),
            destination=hostile("to"),
        )
    )
    queue = CallQueue(store)
    await queue.hold(batch_id=job.batch_id, reason=hostile("hold"))
    paths = {
        f"/ui/calls/{quote(job.id, safe='')}": [
            "id", "reason", "source", "destination", "batch", "key", "session", "request", "message", "status", "menu",
            "digits", "note", "leg", "from", "to", "name", "value",
        ],
        f"/ui/batches/{quote(hostile('batch'), safe='')}": [
            "batch", "destination", "digits", "hold",
        ],
        "/ui": ["batch", "hold"],
        "/ui/batches": ["batch"],
        "/ui/calls": ["batch", "destination", "status", "digits"],
        f"/ui/calls?who={quote(hostile('looked-for'), safe='')}": [],
        f"/ui/calls/{quote('default.' + hostile('absent'), safe='')}": ["absent"],
        f"/ui/batches/{quote(hostile('nobatch'), safe='')}?queue=default": ["nobatch"],
    }  # fmt: skip
    async with reading(shown_by(store)) as client:
        for path, fields in paths.items():
            answer = await client.get(path)
            found = Page(answer.text)
            assert (found.tags.count("script"), "img" in found.tags) == (1, False), path
            assert not [name for name, _ in found.attributes if name.startswith("on")], path
            for field in fields:
                assert hostile(field) in "".join(found.texts), (field, path)
            for link in found.links("/"):
                assert not set(link) & set("<>\"' "), link
        (back,) = [link for link in Page((await client.get("/ui/calls")).text).links("calls/") if "script" in link]
        assert (await client.get(urljoin("http://calls/ui/calls", back))).status_code == 200


# -- where they are ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("root_path", ["", "/proxied"])
async def test_links_work_wherever_the_receiver_is_mounted(memory: Store, root_path: str) -> None:
    (job,) = await enqueued(memory, batch="a/b")
    app = Starlette(routes=[Mount("/our/calls", app=shown_by(memory))])
    transport = httpx.ASGITransport(app, root_path=root_path)
    async with httpx.AsyncClient(transport=transport, base_url=HOST, headers=FROM_HERE) as client:
        prefix = f"http://calls{root_path}/our/calls"
        await client.post(f"{prefix}/ui/sign-in", data={"name": "Ana", "secret": SECRET})
        for path in (
            "/ui",
            "/ui/",
            f"/ui/calls/{job.id}",
            "/ui/batches/a%2Fb",
            "/ui/calls/none%2Fat%2Fall",
            "/ui/x/y/z",
        ):
            answer = await client.get(prefix + path)
            found = Page(answer.text)
            assert urljoin(str(answer.url), found.links()[0]) == f"{prefix}/ui", path
            for link in found.links("calls/") + found.links("batches/"):
                assert (await client.get(urljoin(str(answer.url), link))).status_code == 200
