"""Acting on the pages: who may, what is asked before, and what it does to a real store."""

from __future__ import annotations

from urllib.parse import urlencode, urljoin

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.console.signing_in import (
    FROM_HERE,
    HOST,
    OPERATORS,
    READERS,
    Form,
    Page,
    browser,
    confirmed,
    ended,
    enqueued,
    hostile,
    in_doubt,
    receiver,
    signed_in,
)
from tests.contract.samples import add_jobs
from tests.support.faulty_store import FaultyStore, StoreCall
from voiceflow_worker import CallQueue, Store, SuppressionList
from voiceflow_worker.console.acting import ACTS
from voiceflow_worker.core.base.identity import QueueNames
from voiceflow_worker.core.base.reading import gates_of
from voiceflow_worker.model.copying import replace

pytestmark = pytest.mark.anyio


# -- who may -----------------------------------------------------------------------------------------------------------


def acting_routes() -> list[str]:
    """Every address that changes something, from the table that the pages are served by."""
    assert len(ACTS) >= 10
    return [*(f"/ui/act/{each.name}" for each in ACTS), "/ui/campaign"]


async def test_a_reader_cannot_act(memory: Store) -> None:
    (job,) = await enqueued(memory, batch="march")
    subject = {"queue": "default", "batch": "march", "call": job.id, "number": "+6587654321", "numbers": "+6587654321"}
    for operators in (True, False):
        app = receiver(memory, operators=operators)
        async with signed_in(app, READERS) as client:
            shown = Page((await client.get("/ui/batches/march")).text)
            assert shown.links("/act/") == []
            token = dict(Form((await client.get("/ui")).text).hidden)["token"]
            for route in acting_routes():
                answer = await client.post(route, data={**subject, "token": token, "note": "x", "verdict": "placed"})
                assert answer.status_code == 403, route
                assert (await client.get(route, params=subject)).status_code == 403, route
    assert await CallQueue(memory).get(job.id) == job
    assert not await gates_of(memory, "default")
    assert not await SuppressionList(memory).scan()


async def test_a_stranger_is_asked_to_sign_in(memory: Store) -> None:
    async with browser(receiver(memory)) as client:
        for route in acting_routes():
            assert (await client.post(route, data={"queue": "default"})).status_code == 401
            assert (await client.get(route)).status_code == 401


# -- forged forms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({}, None),
        (FROM_HERE, "wrong"),
        (FROM_HERE, "another session's"),
        ({"Origin": "https://evil.example"}, None),
        ({**FROM_HERE, "Sec-Fetch-Site": "cross-site"}, None),
    ],
)
async def test_a_forged_form_changes_nothing(memory: Store, headers: dict[str, str], token: str | None) -> None:
    """With the token None, the attacker has even got hold of the right one."""
    await enqueued(memory, batch="march")
    app = receiver(memory)
    async with signed_in(app) as other, signed_in(app) as client:
        tokens = [dict(Form((await each.get("/ui")).text).hidden)["token"] for each in (client, other)]
        sent = {None: tokens[0], "another session's": tokens[1]}.get(token, token)
        client.headers.pop("Origin")
        for route in acting_routes():
            answer = await client.post(route, data={"queue": "default", "token": sent or ""}, headers=headers)
            assert answer.status_code == 403, route
    assert not await gates_of(memory, "default")


async def test_only_a_post_acts(memory: Store) -> None:
    await enqueued(memory)
    async with signed_in(receiver(memory)) as client:
        token = dict(Form((await client.get("/ui")).text).hidden)["token"]
        for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"):
            await client.request(method, "/ui/act/hold", params={"queue": "default", "token": token})
    assert not await gates_of(memory, "default")


async def test_asking_changes_nothing(store: Store) -> None:
    _, (doubt, *_) = await in_doubt(store)
    job = await ended(store)
    (waiting,) = await enqueued(store, batch="march")

    async def only_reads(call: StoreCall) -> None:
        assert call.name != "write"

    asked = {
        "hold": {"queue": "default", "batch": "march"}, "resume": {"queue": "default"}, "import-numbers": {},
        "cancel-batch": {"queue": "default", "batch": "march"}, "cancel-call": {"call": waiting.id},
        "redial": {"call": job.id}, "resolve": {"call": doubt.id}, "suppress": {"call": job.id},
        "redial-batch": {"queue": "default", "batch": "march", "outcome": "busy"},
    }  # fmt: skip
    async with signed_in(receiver(FaultyStore(store, before=only_reads))) as client:
        for name, subject in asked.items():
            answer = await client.get(f"/ui/act/{name}?{urlencode(subject)}")
            assert answer.status_code == 200, name
            told = Page(answer.text).text
            assert "Will be called" in told
            assert "Will not be called" in told
            assert told.endswith("Go back"), "what changes nothing has the same name beside every button"
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


# -- what is typed -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "/ui/act/hold?queue=NO%20queue", "/ui/act/hold?queue=default&batch=none", "/ui/act/nothing",
        "/ui/act/cancel-call?call=default.none", "/ui/act/redial?call=%00", "/ui/act/resolve?call=..%2F..", "/ui/act/",
        f"/ui/act/cancel-call?call={'x' * 5000}", "/ui/act/redial?call=default.%ff",
    ],
)  # fmt: skip
async def test_what_is_not_there_is_reported(memory: Store, address: str) -> None:
    async with signed_in(receiver(memory)) as client:
        answer = await client.get(address)
    assert answer.status_code == 404
    assert len(answer.text) < 20_000


async def test_hostile_texts_stay_texts_in_every_question_and_answer(store: Store) -> None:
    _, (doubt,) = await in_doubt(store)
    job = replace(
        doubt, id=f"default.{hostile('id')}", batch_id=hostile("batch"), reason=hostile("reason"), revision="x"
    )
    await add_jobs(store, [job], now=store.clock.now())
    await QueueNames(store).remember("default")
    subject = urlencode({"queue": "default", "batch": hostile("batch"), "call": job.id})
    async with signed_in(receiver(store)) as client:
        answers = [
            await client.get(f"/ui/act/{name}?{subject}")
            for name in ("hold", "cancel-batch", "resolve", "redial", "redial-batch")
        ]
        answers.append(await client.get(f"/ui/act/redial-batch?{subject}", params={"outcome": hostile("outcome")}))
        answers.append(await client.get("/ui/doubts"))
        answers.append(
            await confirmed(client, f"/ui/act/hold?{subject}", **{"for": hostile("for"), "note": hostile("why")})
        )
        answers.append(await confirmed(client, "/ui/act/suppress", numbers=hostile("number"), note=hostile("because")))
        done = await confirmed(client, f"/ui/act/hold?{subject}", note=hostile("why"))
        answers.append(await client.get(urljoin(str(done.url), done.headers["location"])))
        foreign = await client.post("/ui/act/suppress", data={"token": "x" * 100})
        assert (foreign.status_code, "This form belongs to another sign-in" in foreign.text) == (403, True)
        token = dict(Form((await client.get("/ui")).text).hidden)["token"]
        await SuppressionList(store).add("+6587654329", reason=hostile("listed"))
        answers += [
            await client.get("/ui/suppression"),
            await client.get("/ui/suppression", params={"number": hostile("n")}),
        ]
        long = await client.post("/ui/act/hold", data={"queue": "default", "token": token, "note": "x" * 501})
        assert (long.status_code, "longer than 500" in long.text) == (409, True)
    for answer in answers:
        assert "<script>alert" not in answer.text, answer.url
        assert "<img" not in answer.text
    assert hostile("why") in "".join(Page(answers[9].text).texts)


async def test_actions_work_wherever_the_receiver_is_mounted(memory: Store) -> None:
    await enqueued(memory, batch="a/b")
    app = Starlette(routes=[Mount("/our/calls", app=receiver(memory))])
    async with browser(app) as client:
        prefix = "/our/calls/ui"
        closed = await client.get(f"{prefix}/batches/a%2Fb?queue=default")
        way = dict(Form(closed.text).hidden)["way"]
        answer = await client.post(f"{prefix}/sign-in", data={"name": "Mary", "secret": OPERATORS, "way": way})
        back = urljoin(str(answer.url), answer.headers["location"])
        assert back == f"{HOST}{prefix}/batches/a%2Fb?queue=default"
        shown = await client.get(back)
        (hold,) = Page(shown.text).links("act/hold")
        done = await confirmed(client, urljoin(str(shown.url), hold).removeprefix(HOST))
        assert (await client.get(urljoin(str(done.url), done.headers["location"]))).status_code == 200
    assert len(await gates_of(memory, "default")) == 1


# -- a campaign from a file --------------------------------------------------------------------------------------------


async def test_a_campaign_is_previewed_before_it_is_started_and_an_upload_is_of_one_person(memory: Store) -> None:
    app = receiver(memory)
    people = {"file": ("../may <i>.csv", b"destination,name\n+6587654321,Ana <3\n+6587654322,Bob\n")}
    words = {"say": "Hello {{name}}.", "voice_profile": "en-US-JennyNeural", "source": "+6531234567"}
    async with signed_in(app) as client, signed_in(app, name="Bob Lim") as other:
        token, theirs = [dict(Form((await one.get("/ui")).text).hidden)["token"] for one in (client, other)]
        shown = await client.post("/ui/campaign", data={**words, "token": token, "do": "start"}, files=people)
        assert (shown.status_code, await CallQueue(memory).find()) == (409, [])
        assert "Hello Ana &lt;3." in shown.text
        kept = {name: value for name, value in Form(shown.text).hidden if name == "campaign"}
        stolen = await other.post("/ui/campaign", data={**words, **kept, "token": theirs, "do": "start"})
        assert (stolen.status_code, await CallQueue(memory).find()) == (409, [])
        done = await client.post("/ui/campaign", data={**words, **kept, "token": token, "do": "start"})
        assert (done.status_code, done.headers["location"].partition("?")[0]) == (303, "../ui/batches/may-i-")
        assert {job.destination for job in await CallQueue(memory).find()} == {"+6587654321", "+6587654322"}
        again = await client.post(
            "/ui/campaign", data={**words, "token": token}, files={"file": ("x.csv", b"x" * 20_000_001)}
        )
        assert again.status_code == 403
