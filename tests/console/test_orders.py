"""The pages of orders: who may, what is asked before, and what it does to a real store."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode, urljoin, urlsplit

import httpx
import pytest
from structlog.testing import capture_logs

from tests.cli.eight_by_eight import running
from tests.console.signing_in import (
    FROM_HERE,
    HOST,
    OPERATORS,
    READERS,
    Form,
    Page,
    confirmed,
    ended,
    enqueued,
    in_doubt,
    receiver,
    signed_in,
)
from tests.contract.samples import ManualClock
from tests.support.cut_imports import cut_import
from tests.support.engine import Engine
from tests.support.faulty_store import FaultyStore, StoreCall
from tests.support.flows import number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallQueue, Store, SuppressionList, open_store
from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.console.orders import ORDERS
from voiceflow_worker.core.audit import entries_on
from voiceflow_worker.core.base.reading import gates_of
from voiceflow_worker.model.jobs.gate import GateState
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.webhooks import app as from_settings

pytestmark = pytest.mark.anyio


# -- who may -----------------------------------------------------------------------------------------------------------


def acting_routes() -> list[str]:
    """Every address that changes something, from the table that the pages are served by."""
    assert len(ORDERS) >= 10
    return [*(f"/ui/act/{each}" for each in ORDERS), "/ui/campaign", "/ui/campaigns/x"]


async def test_a_reader_cannot_act(memory: Store) -> None:
    (job,) = await enqueued(memory, batch="march")
    subject = {"queue": "default", "batch": "march", "call": job.id, "number": "+6587654321", "numbers": "+6587654321"}
    for operators in (True, False):
        app = receiver(memory, operators=operators)
        async with signed_in(app, READERS) as client:
            shown = Page((await client.get("/ui/batches/march")).text)
            assert shown.links("/act/") == []
            for route in acting_routes():
                answer = await client.post(route, data={**subject, "note": "x", "verdict": "placed"})
                assert answer.status_code == 403, route
                assert (await client.get(route, params=subject)).status_code == 403, route
    assert await CallQueue(memory).get(job.id) == job
    assert not await gates_of(memory, "default")
    assert not await SuppressionList(memory).scan()


# -- forged forms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers", [{}, {"Origin": "https://evil.example"}, {**FROM_HERE, "Sec-Fetch-Site": "cross-site"}]
)
async def test_a_forged_form_changes_nothing(memory: Store, headers: dict[str, str]) -> None:
    await enqueued(memory, batch="march")
    async with signed_in(receiver(memory)) as client:
        client.headers.pop("Origin")
        for route in [*acting_routes(), "/ui/sign-out"]:
            answer = await client.post(route, data={"queue": "default"}, headers=headers)
            assert answer.status_code == 403, route
        assert (await client.get("/ui")).status_code == 200, "still signed in"
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


# -- what each does ---------------------------------------------------------------------------------------------------


async def told_after(client: httpx.AsyncClient, done: httpx.Response) -> str:
    """The page that an act leads to."""
    assert done.status_code == 303, done.text
    return Page((await client.get(urljoin(str(done.url), done.headers["location"]))).text).text


@pytest.mark.parametrize("store_url", ["sqlite", "postgres"], indirect=True)
async def test_each_act_is_asked_and_carried_out_in_the_name_of_who_signed_in(store: Store) -> None:
    busy, reached = await ended(store, to=number(2)), await ended(store, SessionStatus.COMPLETED, to=number(3))
    _, (doubt,) = await in_doubt(store)
    first, *_ = await enqueued(store, 3, batch="march")
    march = "queue=default&batch=march"
    table: list[tuple[str, dict[str, str], str, str]] = [
        (f"hold?{march}", {"note": "why", "for": "2h"}, "Hold batch march of queue default?", "held until"),
        (f"resume?{march}", {"note": "why"}, "This hold ends.", "atch march is open"),
        (f"cancel-call?call={first.id}", {"note": "why"}, "is not called", "is cancelled"),
        (f"redial?call={busy.id}", {"note": "why"}, "rings again", "will be called again"),
        (f"redial?call={reached.id}", {"note": "why", "force": "yes"}, "rings again", "will be called again"),
        (f"resolve?call={doubt.id}", {"note": "why", "verdict": "placed"}, "is in doubt?", "resolved as placed"),
        (f"cancel-batch?{march}", {"note": "why"}, "waiting calls: cancelled when you confirm", "ended and will not"),
        (
            "suppress",
            {"numbers": "8765 4321\r\n\r\n", "country": "sg", "note": "why", "for": "30d"},
            "Stop",
            "1 number",
        ),
        ("unsuppress?number=%2B6587654321", {"note": "why"}, "Take +6587654321 off", "is off the list"),
        (f"forget?call={first.id}", {"note": "why"}, "Erase +6580000000 for good?", "a person was erased: 2 calls"),
    ]
    assert {*ORDERS} == {row[0].partition("?")[0] for row in table} | {
        "redial-batch", "import-numbers",
    }  # fmt: skip
    with capture_logs() as logs:
        async with signed_in(receiver(store)) as client:
            for address, typed, question, result in table:
                asked = (await client.get(f"/ui/act/{address}")).text
                assert question in Page(asked).text, address
                assert ("force" in Form(asked).fields) == ("force" in typed), address
                assert "Will not be called" in asked, address
                done = await confirmed(client, f"/ui/act/{address}", **typed)
                assert result in await told_after(client, done), address
    kept = [each for each in await entries_on(store, limit=100) if each.action != "start"]
    assert {(each.name, each.on) for each in kept} == {("Mary Tan", "pages")}
    assert {each.note for each in kept} == {"why", "erased"}, "of the person who was erased"
    event = "somebody carried out an action"
    said = [(each["action"], each["name"]) for each in logs if each["event"] == event]
    assert said == [(address.partition("?")[0], "Mary Tan") for address, *_ in table]


async def test_a_person_is_erased_on_the_page_of_a_call_by_an_operator_alone(memory: Store) -> None:
    job = await ended(memory, to=number(5))
    other = await ended(memory, to=number(6))
    app, address = receiver(memory), f"/ui/act/forget?call={job.id}"
    async with signed_in(app, READERS) as client:
        assert "forget" not in (await client.get(f"/ui/calls/{job.id}")).text
        assert (await client.get(address)).status_code == 403
        assert (await client.post("/ui/act/forget", data={"call": job.id})).status_code == 403
    async with signed_in(app) as client:
        assert Page((await client.get(f"/ui/calls/{job.id}")).text).links("act/forget?call=")
        asked = await client.get(address)
        assert f"Erase {number(5)} for good?" in Page(asked.text).text
        assert await CallQueue(memory).find(destination=number(5)), "it only asks"
        with capture_logs() as logs:
            done = await confirmed(client, address, note=f"asked by mail, {number(5)}")
            told = await told_after(client, done)
        assert "a person was erased: 1 call" in told
        for text in (done.headers["location"], told, *map(str, logs)):
            assert number(5)[3:] not in text, "no number in the receipt, an address or the log"
        assert await CallQueue(memory).find(destination=number(5)) == []
        assert (await CallQueue(memory).get(other.id)).destination == number(6)
        assert (await client.get(f"/ui/act/forget?call={job.id}")).status_code == 404
        (entry,) = [each for each in await entries_on(memory, limit=20) if each.action == "forget"]
        assert (entry.name, entry.on) == ("Mary Tan", "pages")
        assert number(5)[3:] not in str(entry)
        _, (doubt,) = await in_doubt(memory)
        assert (await client.get(f"/ui/act/forget?call={doubt.id}")).status_code == 409, "it may still ring"


async def test_what_was_typed_stays_where_it_is_refused(memory: Store) -> None:
    await enqueued(memory, batch="a/b")
    address = "/ui/act/hold?queue=default&batch=a%2Fb"
    async with signed_in(receiver(memory)) as client:
        for text in ("soon", "0"):
            refused = await confirmed(client, address, **{"for": text, "note": "kept"})
            assert (refused.status_code, "kept" in refused.text) == (409, True)
        assert not await gates_of(memory, "default")
        done = await confirmed(client, address, **{"for": "2h"})
        assert urljoin(str(done.url), done.headers["location"]).startswith(f"{HOST}/ui/batches/a%2Fb?queue=default")
    (gate,) = await gates_of(memory, "default")
    assert gate.until is not None
    assert timedelta(hours=1, minutes=59) < gate.until - memory.clock.now() <= timedelta(hours=2)


async def test_a_finished_batch_offers_no_hold_and_a_refusal_leads_back(memory: Store) -> None:
    [job] = await enqueued(memory, 1, batch="march")
    async with signed_in(receiver(memory)) as client:
        address = "/ui/batches/march?queue=default"
        assert Page((await client.get(address)).text).links("/act/hold?")
        await confirmed(client, f"/ui/act/cancel-call?call={job.id}")
        shown = Page((await client.get(address)).text)
        assert [each for name in ("hold", "cancel-batch") for each in shown.links(f"/act/{name}?")] == []
        job = await ended(memory, SessionStatus.COMPLETED)
        refused = await client.get(f"/ui/act/cancel-call?call={job.id}")
        assert refused.status_code == 409
        assert f"/ui/calls/{job.id}" in {
            urlsplit(urljoin(str(refused.url), each)).path for each in Page(refused.text).links()
        }


async def test_the_calls_of_a_batch_are_redialled_that_reached_nobody_or_failed(memory: Store) -> None:
    kinds = [SessionStatus.BUSY] * 3 + [SessionStatus.NO_ANSWER, SessionStatus.ERROR, SessionStatus.COMPLETED]
    address = "/ui/act/redial-batch?queue=default&batch=march"
    async with signed_in(receiver(memory)) as client:
        await ended(memory, SessionStatus.COMPLETED, to=number(9))
        assert Page((await client.get("/ui/batches/march")).text).links("redial-batch") == [], "everybody was reached"
        for place, status in enumerate(kinds):
            await ended(memory, status, to=number(place))
        for wrong in ("", "&outcome=completed", "&outcome=nothing"):
            assert (await client.get(f"{address}{wrong}")).status_code == 409, wrong
        links = Page((await client.get("/ui/batches/march")).text).links("redial-batch")
        for link, redialled in zip(links, ("4 calls", "1 call"), strict=True):
            there = urljoin(f"{HOST}/ui/batches/march", link).removeprefix(HOST)
            done = await confirmed(client, there, note="asked for it")
            assert f"redialled: {redialled} of batch march" in await told_after(client, done)
        found = await CallQueue(memory).find(states=[JobState.QUEUED])
        assert {job.reason for job in found} == {"asked for it (by Mary Tan)"}
        engine = Engine(memory, ScriptedVoice())
        for job in await engine.send():
            await engine.summarise(job, SessionStatus.BUSY)
        (again,) = Page((await client.get("/ui/batches/march")).text).links("redial-batch")
        assert again.endswith("outcome=unreached&times=2"), "as often as a person says"


async def test_several_doubts_are_resolved_with_one_note(store: Store) -> None:
    _, doubts = await in_doubt(store, 3)
    chosen = "&".join(f"call={job.id}" for job in doubts[:2])
    async with signed_in(receiver(store)) as client:
        asked = Page((await client.get(f"/ui/act/resolve?{chosen}")).text).text
        assert "Resolve 2 calls in doubt?" in asked
        assert f"You decide about {doubts[0].destination}, {doubts[1].destination}." in asked
        assert all(f"{job.id} {job.destination}: POST 1, " in asked for job in doubts[:2]), "the facts"
        for typed, why in (
            ({"note": "seen"}, "hoose what happened"), ({"verdict": "placed"}, "how you know"),
            ({"verdict": "perhaps", "note": "x"}, "hoose what happened"),
        ):  # fmt: skip
            refused = await confirmed(client, f"/ui/act/resolve?{chosen}", **typed)
            assert (refused.status_code, why in refused.text) == (409, True), typed
        assert (await client.get("/ui/act/resolve")).status_code == 409
        done = await confirmed(client, f"/ui/act/resolve?{chosen}", verdict="placed", note="seen in the portal")
        assert "2 calls resolved as placed" in (await client.get(urljoin(str(done.url), done.headers["location"]))).text
    found = [await CallQueue(store).get(job.id) for job in doubts]
    assert [job.state for job in found] == [JobState.ACCEPTED, JobState.ACCEPTED, JobState.IN_DOUBT]
    assert found[0].notes[0].text == "seen in the portal (by Mary Tan)"


async def test_a_receiver_with_settings_asks_8x8_for_its_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    async with open_store(url) as store:
        _, (doubt,) = await in_doubt(store)
    monkeypatch.setenv("VOICEFLOW_STORE", url)
    monkeypatch.setenv("VOICEFLOW_UI_SECRET", READERS)
    monkeypatch.setenv("VOICEFLOW_UI_OPERATOR_SECRET", OPERATORS)
    with running(Sandbox(clock_offset=timedelta(minutes=3))) as eight:
        for name, value in eight.environment.items():
            monkeypatch.setenv(name, value)
        app = from_settings.app()
        async with app.router.lifespan_context(app), signed_in(app) as client:
            typed = {"verdict": "not-placed", "note": "not in the portal"}
            told = await confirmed(client, f"/ui/act/resolve?call={doubt.id}", **typed)
    assert told.status_code == 303


async def test_a_number_on_the_list_is_found_and_taken_off(memory: Store) -> None:
    listed = SuppressionList(memory)
    await listed.add("+6587654321", "+6587654322")
    async with signed_in(receiver(memory)) as client:
        refused = await confirmed(client, "/ui/act/suppress", numbers="+6587654323\r\nno number")
        assert (refused.status_code, await listed.find("+6587654323")) == (409, {})
        found = await client.get("/ui/suppression", params={"number": "+65 8765 4321"})
        (remove,) = Page(found.text).links("unsuppress")
        assert "+6587654322" not in found.text
        assert (await confirmed(client, urljoin(str(found.url), remove).removeprefix(HOST))).status_code == 303
        assert [each.number for each in await listed.scan()] == ["+6587654322"]
        assert "is not on the list" in (await client.get("/ui/suppression?number=%2B6587654321")).text
        assert "is not one phone number" in (await client.get("/ui/suppression?number=none")).text
        assert (await client.get("/ui/act/unsuppress?number=%2B6587654321")).status_code == 409


async def test_a_file_of_numbers_is_imported(memory: Store) -> None:
    listed = SuppressionList(memory)
    german = b"Phone\n0171 2345678\n0664 1234567\n+33612345678\n"
    async with signed_in(receiver(memory)) as client:

        async def sent(name: str, content: bytes = german, **typed: str) -> str:
            form, file = Form((await client.get(f"/ui/act/{name}")).text), ("evil/../name.csv", content)
            answer = await client.post(f"/ui/act/{name}", data=form.values(**typed), files={"file": file})
            return answer.text if answer.status_code == 409 else await told_after(client, answer)

        bad = b"Name,Phone\nAna,8765 4321\nBen,none\n"
        assert "has no country code" in await sent("import-numbers", bad)
        assert "no column &#39;Land&#39;" in await sent("import-numbers", bad, columns="country=Land")
        assert "Choose a file" in (await confirmed(client, "/ui/act/import-numbers")).text
        assert "3 numbers added" in await sent("import-numbers", country="DE", note="CRM")
        assert {each.reason for each in await listed.scan()} == {"CRM (by Mary Tan), from name.csv"}
        told = await sent("import-numbers", bad, country="SG")
        assert ("1 number added" in told, "line 3" in told, "/tmp" in told) == (True, True, False)


async def test_the_first_page_has_the_button_that_ends_each_hold() -> None:
    memory = MemoryStore(clock=(clock := ManualClock()))
    await enqueued(memory, batch="march")
    await cut_import(memory, batch="april")
    queue = CallQueue(memory)
    clock.advance(timedelta(minutes=11))
    await queue.hold(batch_id="march", reason="wait for legal")
    await queue.hold(reason="the text is wrong")
    app = receiver(memory)
    async with signed_in(app, READERS) as client:
        assert Page((await client.get("/ui")).text).links("/act/") == []
    async with signed_in(app) as client:
        for action, batch in [("cancel-batch", "april"), ("resume", "march"), ("resume", None)]:
            asked = {"queue": "default"} | ({"batch": batch} if batch else {})
            href = f"ui/act/{action}?{urlencode(asked)}"
            (link, *_) = [each for each in Page((await client.get("/ui")).text).links("/act/") if each == href]
            assert (await confirmed(client, urljoin("/ui", link))).status_code == 303
        left = [gate.state for gate in await gates_of(memory, "default") if gate.is_closed(at=memory.clock.now())]
        assert left == [GateState.CANCELLED]
