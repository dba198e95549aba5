"""What the actions of the pages do to a real store, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from structlog.testing import capture_logs

from tests.cli.eight_by_eight import running
from tests.console.signing_in import HOST, OPERATORS, READERS, Form, confirmed, receiver, signed_in
from tests.console.stored_calls import ended, in_doubt
from tests.console.test_pages import Page, enqueued
from tests.support.engine import Engine
from tests.support.flows import number
from tests.support.voices import ScriptedVoice, unknown
from voiceflow_worker import CallQueue, Job, Store, SuppressionList, open_store
from voiceflow_worker.backends.contract.samples import ManualClock, add_jobs
from voiceflow_worker.core.ports import Query
from voiceflow_worker.core.ports.reading import find_jobs, gates_of
from voiceflow_worker.core.ports.record_set import QueueNames
from voiceflow_worker.model.jobs.gate import GateScope, GateState
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.sandbox import Sandbox
from voiceflow_worker.webhooks import app as from_settings
from voiceflow_worker.webhooks import receiver_app

pytestmark = pytest.mark.anyio


async def test_a_queue_is_held_and_resumed(store: Store) -> None:
    await enqueued(store, 3)
    async with signed_in(receiver(store)) as client:
        asked = Page((await client.get("/ui/act/hold?queue=default")).text).text
        assert "3 waiting calls. Nothing more rings" in asked
        assert "no call is under way" in asked
        done = await confirmed(client, "/ui/act/hold?queue=default", note="a wrong date")
        assert done.status_code == 303
        after = Page((await client.get(urljoin(str(done.url), done.headers["location"]))).text)
        assert "Queue default is on hold. A wrong date (by Mary Tan)." in after.text
        assert not await Engine(store, ScriptedVoice()).lease()
        assert (await confirmed(client, "/ui/act/resume?queue=default")).status_code == 303
    assert len(await Engine(store, ScriptedVoice()).lease()) == 3


async def test_a_batch_is_held_for_a_time(store: Store) -> None:
    await enqueued(store, batch_id="a/b")
    address = "/ui/act/hold?queue=default&batch=a%2Fb"
    async with signed_in(receiver(store)) as client:
        for text in ("soon", "0"):
            refused = await confirmed(client, address, **{"for": text, "note": "kept"})
            assert (refused.status_code, "kept" in refused.text) == (409, True), "what was typed stays"
        assert not await gates_of(store, "default")
        done = await confirmed(client, address, **{"for": "2h"})
        assert urljoin(str(done.url), done.headers["location"]).startswith(
            f"{HOST}/ui/batches/a%2Fb?queue=default&told="
        )
    (gate,) = await gates_of(store, "default")
    assert gate.until is not None
    assert timedelta(hours=1, minutes=59) < gate.until - store.clock.now() <= timedelta(hours=2)
    assert (gate.name, gate.reason) == ("a/b", "held by Mary Tan")


async def test_white_space_in_the_name_of_a_batch_is_kept(memory: Store) -> None:
    for name in ("march", " march ", "\u3000"):
        await enqueued(memory, batch_id=name)
    async with signed_in(receiver(memory)) as client:
        for action, spelled in (("cancel-batch", "%20march%20"), ("hold", "%E3%80%80")):
            assert (await confirmed(client, f"/ui/act/{action}?queue=default&batch={spelled}")).status_code == 303
    closed = {(gate.scope, gate.name) for gate in await gates_of(memory, "default")}
    assert closed == {(GateScope.BATCH, " march "), (GateScope.BATCH, "\u3000")}


async def test_a_finished_batch_offers_no_hold_and_a_refusal_leads_back(store: Store) -> None:
    [job] = await enqueued(store, 1, batch_id="march")
    async with signed_in(receiver(store)) as client:
        address = "/ui/batches/march?queue=default"
        assert Page((await client.get(address)).text).links("/act/hold?")
        await confirmed(client, f"/ui/act/cancel-call?call={job.id}")
        shown = Page((await client.get(address)).text)
        assert [each for name in ("hold", "cancel-batch") for each in shown.links(f"/act/{name}?")] == []
        refused = await client.get(f"/ui/act/cancel-call?call={job.id}")
        assert refused.status_code == 409
        assert f"/ui/calls/{job.id}" in {
            urlsplit(urljoin(str(refused.url), each)).path for each in Page(refused.text).links()
        }


async def test_a_batch_is_cancelled_for_good(store: Store) -> None:
    jobs = await enqueued(store, 3, batch_id="march")
    address = "/ui/act/cancel-batch?queue=default&batch=march"
    async with signed_in(receiver(store)) as client:
        assert "3 waiting calls: cancelled when you confirm" in Page((await client.get(address)).text).text
        done = await confirmed(client, address, note="moved")
        assert "3 waiting calls ended" in (await client.get(urljoin(str(done.url), done.headers["location"]))).text
        again = await confirmed(client, "/ui/act/resume?queue=default&batch=march")
        assert (again.status_code, "is cancelled, and stays so" in again.text) == (409, True)
        assert (await client.get("/ui/act/cancel-batch?queue=default")).status_code == 404
    for job in jobs:
        found = await CallQueue(store).get(job.id)
        assert (found.state, "moved (by Mary Tan)" in (found.reason or "")) == (JobState.CANCELLED, True)
    (gate,) = await gates_of(store, "default")
    assert gate.state is GateState.CANCELLED


async def test_a_call_is_cancelled_unless_it_has_left(store: Store) -> None:
    (job,) = await enqueued(store)
    address = f"/ui/act/cancel-call?call={job.id}"
    async with signed_in(receiver(store)) as client:
        assert f"{job.destination} is not called" in (await client.get(address)).text
        assert (await confirmed(client, address)).status_code == 303
        found = await CallQueue(store).get(job.id)
        assert (found.state, found.notes[0].text) == (JobState.CANCELLED, "cancelled by Mary Tan")
        refused = await client.get(address)
        assert (refused.status_code, "it cannot be cancelled" in refused.text) == (409, True)
        _, (doubt,) = await in_doubt(store)
        refused = await client.get(f"/ui/act/cancel-call?call={doubt.id}")
        assert (refused.status_code, "a call cannot be taken back" in refused.text) == (409, True)


async def test_a_call_is_redialled_as_the_command_permits(store: Store) -> None:
    busy, reached = await ended(store), await ended(store, SessionStatus.COMPLETED)
    _, (doubt,) = await in_doubt(store)
    async with signed_in(receiver(store)) as client:
        assert f"{busy.destination} rings once more" in (await client.get(f"/ui/act/redial?call={busy.id}")).text
        assert (await confirmed(client, f"/ui/act/redial?call={busy.id}", note="asked for it")).status_code == 303
        found = await CallQueue(store).get(busy.id)
        assert (found.state, found.reason) == (JobState.QUEUED, "asked for it (by Mary Tan)")
        again = f"/ui/act/redial?call={reached.id}"
        refused = await confirmed(client, again)
        assert (refused.status_code, "the person was called" in refused.text) == (409, True)
        assert (await CallQueue(store).get(reached.id)).state is JobState.COMPLETED
        assert (await confirmed(client, again, force="yes")).status_code == 303
        assert (await CallQueue(store).get(reached.id)).state is JobState.QUEUED
        refused = await client.get(f"/ui/act/redial?call={doubt.id}")
        assert (refused.status_code, "while it is in doubt, a person can resolve it" in refused.text) == (409, True)
        forced = {"call": doubt.id, "force": "yes", "token": dict(Form((await client.get("/ui")).text).hidden)["token"]}
        assert (await client.post("/ui/act/redial", data=forced)).status_code == 409
    assert (await CallQueue(store).get(doubt.id)).state is JobState.IN_DOUBT


async def batch_of_all_kinds(store: Store) -> dict[str, list[Job]]:
    """Batch march: 3 calls that were busy, of which one number is suppressed, and calls that ended in other ways."""
    engine = Engine(store, ScriptedVoice())
    kinds = [SessionStatus.BUSY] * 3 + [SessionStatus.NO_ANSWER, SessionStatus.ERROR, SessionStatus.COMPLETED]
    for place in range(len(kinds)):
        await engine.enqueue(number(place), batch_id="march")
    sent = sorted(await engine.send(), key=lambda job: job.destination)
    for job, status in zip(sent, kinds, strict=True):
        await engine.summarise(job, status)
    found = {job.destination: job for job in await engine.queue.find(batch_id="march")}
    jobs = [found[number(place)] for place in range(len(kinds))]
    await SuppressionList(store).add(number(2), reason="asked by mail")
    doubtful = Engine(store, ScriptedVoice(answer=lambda _: unknown()))
    await doubtful.enqueue(number(90), batch_id="march")
    return {"busy": jobs[:2], "listed": jobs[2:3], "others": jobs[3:], "doubts": await doubtful.send()}


async def test_a_batch_is_redialled_by_outcome_after_a_count(store: Store) -> None:
    jobs = await batch_of_all_kinds(store)
    await CallQueue(store).hold(batch_id="march", reason="wait")
    address = "/ui/act/redial-batch?queue=default&batch=march"
    async with signed_in(receiver(store)) as client:
        (link,) = Page((await client.get("/ui/batches/march")).text).links("redial-batch")
        chosen = await client.get(urljoin(f"{HOST}/ui/batches/march", link))
        told = Page(chosen.text).text
        for words in ("no answer: 1 call", "busy: 3 calls", "failed or error: 1 call", "No phone yet."):
            assert words in told
        assert "canceled" not in told
        assert Form(chosen.text).fields >= {"outcome", "times"}
        step = chosen.text.partition('action="../../ui/act/redial-batch"')[2].partition("</form>")[0]
        assert ('method="get"' in step, "token" in step) == (True, False), "the token never stands in an address"
        asked = Page((await client.get(f"{address}&outcome=busy")).text).text
        for words in (
            "Redial 2 calls of batch march?", "each phone rings once more", "1 call on the suppression list: left out",
            "batch march is held", "Calls in doubt",
        ):  # fmt: skip
            assert words in asked, asked
        done = await confirmed(client, f"{address}&outcome=busy", note="asked for it")
        assert done.status_code == 303
        after = Page((await client.get(urljoin(str(done.url), done.headers["location"]))).text)
        assert "redialled: 2 calls of batch march" in after.text
        again = await client.get(f"{address}&outcome=busy")
        assert (again.status_code, "1 call on the suppression list" in again.text) == (409, True)
        assert "asked for it (by Mary Tan)" in (await client.get(f"/ui/calls/{jobs['busy'][0].id}")).text
    for job in jobs["busy"]:
        found = await CallQueue(store).get(job.id)
        assert (found.state, found.reason) == (JobState.QUEUED, "asked for it (by Mary Tan)")
    for job in (*jobs["listed"], *jobs["others"], *jobs["doubts"]):
        assert await CallQueue(store).get(job.id) == job, "nothing else is touched, above all no doubt"


async def test_only_the_calls_that_were_counted_are_redialled_and_each_once(store_url: str) -> None:
    clock = ManualClock()
    address = "/ui/act/redial-batch?queue=default&batch=march&outcome=busy&outcome=no_answer"
    async with open_store(store_url, clock=clock) as store:
        jobs = await batch_of_all_kinds(store)
        counted = [*jobs["busy"], jobs["others"][0]]
        async with signed_in(receiver(store)) as client:
            asked = await client.get(address)
            assert "Redial 3 calls" in asked.text
            clock.advance(timedelta(minutes=1))
            engine = Engine(store, ScriptedVoice())
            await engine.enqueue(number(70), batch_id="march")
            (late,) = await engine.send()
            await engine.summarise(late, SessionStatus.BUSY)
            values = Form(asked.text).values(note="x")
            done = [await client.post("/ui/act/redial-batch", data=values) for _ in range(2)]
            assert [each.status_code for each in done] == [303, 303]
            assert {job.id for job in await engine.queue.find(states=[JobState.QUEUED])} == {job.id for job in counted}
            for job in await engine.send():
                await engine.summarise(job, SessionStatus.BUSY)  # they end later than any count so far
            clock.advance(timedelta(minutes=1))
            told = Page((await client.get(address)).text).text
            assert ("Redial 1 call of" in told, "3 calls redialled before: left out" in told) == (True, True)
            assert "Redial 4 calls of" in (await client.get(f"{address}&times=2")).text
            for wrong in ("times=0", "times=-1", "times=x", "outcome=completed", "outcome=nothing"):
                assert (await client.get(f"{address}&{wrong}".replace("outcome=busy&", ""))).status_code == 409, wrong
            assert not await engine.queue.find(states=[JobState.QUEUED])


async def test_a_cancelled_batch_is_not_redialled(memory: Store) -> None:
    await batch_of_all_kinds(memory)
    async with signed_in(receiver(memory)) as client:
        form = Form((await client.get("/ui/act/redial-batch?queue=default&batch=march&outcome=busy")).text)
        await CallQueue(memory).cancel_batch("march")
        assert not Page((await client.get("/ui/batches/march")).text).links("redial-batch")
        refused = await client.post("/ui/act/redial-batch", data=form.values(note="x"))
        assert (refused.status_code, "its calls are never sent" in refused.text) == (409, True)
        for query in ("queue=default", "queue=default&batch=none", "batch=march"):
            assert (await client.get(f"/ui/act/redial-batch?{query}&outcome=busy")).status_code == 404, query
        await enqueued(memory, batch_id="april")
        nothing = await client.get("/ui/act/redial-batch?queue=default&batch=april")
        assert (nothing.status_code, "o call of batch april has ended" in nothing.text) == (409, True)


async def test_the_inbox_has_every_doubt_with_its_evidence(store: Store) -> None:
    _, doubts = await in_doubt(store, 3)
    await QueueNames(store).remember("default")
    async with signed_in(receiver(store)) as client:
        told = Page((await client.get("/ui/doubts")).text)
    for job in doubts:
        assert job.destination in told.text
        assert "POST 1 to 8x8: unknown" in told.text
    assert [value for name, value in told.attributes if name == "value" and value in {job.id for job in doubts}]


async def test_the_inbox_is_read_page_by_page(memory: Store) -> None:
    await enqueued(memory, 120)
    for job in await find_jobs(memory, Query(queue="default", limit=None)):
        await add_jobs(
            memory,
            [replace(job, id=f"default.doubt-{job.id[8:]}", state=JobState.IN_DOUBT, revision="mine")],
            now=memory.clock.now(),
        )
    await QueueNames(memory).remember("default")
    listed: list[str] = []
    async with signed_in(receiver(memory)) as client:
        path = "/ui/doubts"
        while path:
            answer = await client.get(path)
            found = Page(answer.text)
            assert "120 in doubt" in found.text
            listed += found.links("/calls/")
            onward = found.links("after=")
            path = urljoin(str(answer.url), onward[0]) if onward else ""
    assert len(listed) == len(set(listed)) == 120


async def test_several_doubts_are_resolved_with_one_note(store: Store) -> None:
    _, doubts = await in_doubt(store, 3)
    chosen = "&".join(f"call={job.id}" for job in doubts[:2])
    async with signed_in(receiver(store)) as client:
        asked = Page((await client.get(f"/ui/act/resolve?{chosen}")).text).text
        assert "Resolve 2 calls in doubt?" in asked
        assert f"You decide about {doubts[0].destination}, {doubts[1].destination}." in asked
        for typed in ({"note": "seen"}, {"verdict": "placed"}, {"verdict": "perhaps", "note": "x"}):
            assert (await confirmed(client, f"/ui/act/resolve?{chosen}", **typed)).status_code == 409
        assert (await client.get("/ui/act/resolve")).status_code == 409
        done = await confirmed(client, f"/ui/act/resolve?{chosen}", verdict="placed", note="seen in the portal")
        assert "2 calls resolved as placed" in (await client.get(urljoin(str(done.url), done.headers["location"]))).text
    found = [await CallQueue(store).get(job.id) for job in doubts]
    assert [job.state for job in found] == [JobState.ACCEPTED, JobState.ACCEPTED, JobState.IN_DOUBT]
    assert found[0].notes[0].text == "seen in the portal (by Mary Tan)"


@pytest.mark.parametrize(
    ("ours", "theirs", "status"), [(140, 0, 409), (140, 140, 303), (0, 140, 303), (140, None, 303), (0, None, 409)]
)
async def test_not_placed_is_judged_by_the_clock_of_8x8(ours: int, theirs: int | None, status: int) -> None:
    clock = ManualClock()

    async def time_at_8x8() -> datetime | None:
        return None if theirs is None else began + timedelta(seconds=theirs)

    async with open_store("memory://", clock=clock) as store:
        _, doubts = await in_doubt(store, 2)
        began = clock.now()
        clock.advance(timedelta(seconds=ours))
        chosen = "&".join(f"call={job.id}" for job in doubts)
        app = receiver_app(store, secret=None, ui_secret=READERS, ui_operator_secret=OPERATORS, time_at_8x8=time_at_8x8)
        async with signed_in(app) as client:
            told = await confirmed(client, f"/ui/act/resolve?{chosen}", verdict="not-placed", note="not in the portal")
        assert (told.status_code, "8x8 may still place" in told.text) == (status, status == 409)
        states = {(await CallQueue(store).get(job.id)).state for job in doubts}
        assert states == {JobState.QUEUED if status == 303 else JobState.IN_DOUBT}


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


async def test_numbers_are_put_on_the_list_and_taken_off(store: Store) -> None:
    listed = SuppressionList(store)
    async with signed_in(receiver(store)) as client:
        for bad in ("no number", "8765 4321"):
            refused = await confirmed(client, "/ui/act/suppress", numbers=f"+6587654321\r\n{bad}")
            assert (refused.status_code, await listed.scan()) == (409, []), bad
        numbers = "8765 4321\r\n\r\n+6587654322"
        typed = {"numbers": numbers, "country": "sg", "note": "by mail", "for": "30d"}
        assert (await confirmed(client, "/ui/act/suppress", **typed)).status_code == 303
        for each in await listed.scan():
            assert each.until is not None
            assert timedelta(days=29, hours=23) < each.until - store.clock.now() <= timedelta(days=30)
        assert [(each.number, each.reason) for each in await listed.scan()] == [
            ("+6587654321", "by mail (by Mary Tan)"), ("+6587654322", "by mail (by Mary Tan)"),
        ]  # fmt: skip
        found = await client.get("/ui/suppression", params={"number": "+65 8765 4321"})
        (remove,) = Page(found.text).links("unsuppress")
        assert "+6587654322" not in found.text
        assert (await confirmed(client, urljoin(str(found.url), remove).removeprefix(HOST))).status_code == 303
        assert [each.number for each in await listed.scan()] == ["+6587654322"]
        assert "is not on the list" in (await client.get("/ui/suppression?number=%2B6587654321")).text
        assert "give digits only" in (await client.get("/ui/suppression?number=none")).text
        assert (await client.get("/ui/act/unsuppress?number=%2B6587654321")).status_code == 409


async def test_a_file_of_numbers_is_imported_all_or_nothing(memory: Store) -> None:
    listed = SuppressionList(memory)
    content = b"Name,Phone\nAna,8765 4321\nBen,none\n"
    async with signed_in(receiver(memory)) as client:

        async def imported(**typed: str) -> httpx.Response:
            form = Form((await client.get("/ui/act/import-numbers")).text)
            return await client.post(
                "/ui/act/import-numbers", data=form.values(**typed), files={"file": ("evil/../name.csv", content)}
            )

        refused = await imported(country="SG")
        assert (refused.status_code, "line 3" in refused.text, await listed.scan()) == (409, True, [])
        assert "/tmp" not in refused.text
        assert (await imported(country="SG", skip="yes", note="CRM")).status_code == 303
        assert [each.reason for each in await listed.scan()] == ["CRM (by Mary Tan)"]
        national = await imported()
        assert (national.status_code, "does not say its country" in national.text) == (409, True)
        assert (await imported(column="Fax")).status_code == 409
        empty = await confirmed(client, "/ui/act/import-numbers")
        assert (empty.status_code, "choose a file" in empty.text) == (409, True)


async def test_every_action_is_in_the_log_with_who_did_it(memory: Store) -> None:
    await enqueued(memory)
    with capture_logs() as logs:
        async with signed_in(receiver(memory)) as client:
            await confirmed(client, "/ui/act/hold?queue=default")
            await confirmed(client, "/ui/act/resume?queue=default")
    event = "somebody carried out an action on the pages"
    done = [(each["action"], each["name"]) for each in logs if each["event"] == event]
    assert done == [("hold", "Mary Tan"), ("resume", "Mary Tan")]
