"""What a newer version wrote: what is only shown leaves out what it does not know; what decides about a call leaves it
alone, says so, and goes on with the others."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from tests.support.engine import Engine
from tests.support.flows import number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import Job, JobState, Store, StoreVersionError, SuppressionList
from voiceflow_worker.backends.contract.clock import ManualClock
from voiceflow_worker.backends.witness import JournalFiles
from voiceflow_worker.core.guard.journal_check import JournalledCall, forgotten_of
from voiceflow_worker.core.numbers.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.core.outcomes.hook_backlog import WAITING, HookBacklog
from voiceflow_worker.core.outcomes.outbox import CURSORS, cursors
from voiceflow_worker.core.overview.heartbeat import WORKERS, Heartbeats, WorkerBeat
from voiceflow_worker.core.overview.report import build_full_report
from voiceflow_worker.core.overview.status import read_status
from voiceflow_worker.core.ports import Event, EventKind, Move, Query, record_set
from voiceflow_worker.core.settling.sessions import PARKED, Sessions
from voiceflow_worker.errors import SuppressedNumberError
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState
from voiceflow_worker.model.records import facts
from voiceflow_worker.model.reports.events import SessionSummary
from voiceflow_worker.model.reports.status import SessionStatus

pytestmark = pytest.mark.anyio

ANA, BEN, NEW = number(1), number(2), "+6599999999"


class NewKind(StrEnum):
    """A kind of event that a newer version has."""

    SANG = "sang"


class NewState(StrEnum):
    """A state of gates that a newer version has."""

    NAPPING = "napping"


@pytest.fixture(autouse=True)
def _nothing_was_told() -> None:
    record_set._report.cache_clear()  # pyright: ignore[reportPrivateUsage]


@pytest.fixture
def here(store: Store) -> Engine:
    return Engine(store, ScriptedVoice())


async def three(engine: Engine) -> tuple[Job, Job, Job]:
    """Three calls, the second written by a newer version."""
    return await engine.enqueue(ANA), await engine.enqueue(NEW), await engine.enqueue(BEN)


async def put(store: Store, namespace: str, **values: Any) -> None:
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    await store.records.put(namespace, texts, expires_at=None, now=store.clock.now())


async def test_the_others_are_leased_found_and_sent(here: Engine, clock: ManualClock) -> None:
    ana, newer, ben = await three(here)
    with capture_logs() as logs:
        sent = await here.send()
        assert {job.id for job in sent} == {ana.id, ben.id}
        assert {job.state for job in sent} == {JobState.SUBMITTED}
        found = await here.store.jobs.find(Query(queue="default", limit=1))
        found = [*found, *await here.store.jobs.find(Query(queue="default", limit=None, after=found[-1].id))]
        assert {job.id for job in found} == {ana.id, ben.id}
        clock.advance(timedelta(minutes=2))
        await here.sweeper.sweep()
    told = [line for line in logs if newer.id in str(line.get("reason"))]
    assert len(told) == 1
    assert "upgrade this installation" in told[0]["event"]
    with pytest.raises(StoreVersionError, match="mood"):
        await here.queue.get(newer.id)


async def test_a_report_counts_every_call_whose_facts_it_can_read(here: Engine, store: Store) -> None:
    await three(here)
    with capture_logs() as logs:
        report = await build_full_report(store, "default", None)
    assert report.total == 3
    assert report.breakdown is not None
    assert [each.total for each in report.breakdown.by_country] == [3]
    assert logs == []


async def test_a_report_counts_the_others(here: Engine, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(facts, "FORM", str(int(facts.FORM) + 1))  # the form of a newer version
        await three(here)
    with capture_logs() as logs:
        report = await build_full_report(store, "default", None)
    assert report.breakdown is not None
    assert [each.total for each in report.breakdown.by_country] == [2]
    assert [line["event"].endswith("upgrade this installation") for line in logs] == [True]


async def test_a_listing_is_whole_whatever_the_size_of_its_pages(here: Engine) -> None:
    jobs = [await here.enqueue(NEW if place % 3 else number(place)) for place in range(12)]
    wanted = sorted(job.id for job in jobs if job.destination != NEW)
    for limit in (1, 2, 5, None):
        found: list[str] = []
        while page := await here.store.jobs.find(
            Query(queue="default", limit=limit, after=found[-1] if found else None)
        ):
            found += [job.id for job in page]
            if limit is None:
                break
        assert found == wanted


async def test_summaries_of_the_others_are_settled_and_its_own_is_not_taken(here: Engine) -> None:
    ana, newer, _ = await three(here)
    await here.send()
    with pytest.raises(StoreVersionError):
        await here.settler.summary(
            SessionSummary(session_id="s", status=SessionStatus.BUSY, client_request_id=f"{newer.id}.1")
        )
    await here.summarise(ana)
    assert await here.state(ana) == "completed"


async def test_a_store_that_holds_a_newer_job_has_not_forgotten_it(here: Engine) -> None:
    await three(here)
    sent = await here.send()
    newer = (await here.enqueue(NEW)).id
    posted = [JournalledCall.of(sent[0], retention=timedelta(days=1))]
    posted.append(JournalledCall(job=replace(sent[0], id=newer), pruned_from=posted[0].pruned_from))
    assert await forgotten_of(here.store, posted, now=here.store.clock.now()) == []


async def test_a_parked_summary_of_a_newer_version_is_left_and_others_are_applied(here: Engine) -> None:
    ana, _, ben = await three(here)
    await here.send()
    for job in (ana, ben):
        session = f"session-{job.id}.1"
        await here.store.records.delete("session", {session: None})
        await here.summarise(job, SessionStatus.BUSY, with_client_request_id=False, session_id=session)
        await Sessions(here.store).remember({session: f"{job.id}.1"})
    newer = {"status": "BUSY", "status_text": "BUSY", "mood": "sunny"}
    await put(here.store, PARKED, **{f"session-{ana.id}.1": newer, "session-x": "no JSON"})
    for _ in range(2):
        await here.sweeper.sweep()
    assert (await here.state(ana), await here.state(ben)) == ("submitted", "unreached")
    kept = await Sessions(here.store).parked.all()
    assert kept == [(f"session-{ana.id}.1", None), ("session-x", None)]


async def test_heartbeats_of_other_versions_are_shown(store: Store) -> None:
    beat = {"worker_id": "w", "queue": "default", "rate": 2.5, "in_flight": 3, "mood": "sunny"}
    await put(store, WORKERS, **{"default/w": beat, "default/v": {"worker_id": "v"}, "default/u": "no JSON"})
    assert await Heartbeats(store).workers("default") == [
        WorkerBeat(worker_id="w", queue="default", rate=2.5, in_flight=3)
    ]
    status = await read_status(store, "default")
    assert (status.workers, status.rate_now) == (1, 2.5)


@pytest.mark.parametrize("entry", [{"since": "2026-01-01T00:00:00+00:00", "scope": "all"}, "no JSON", [1], None])
async def test_a_suppression_that_cannot_be_read_counts_for_good(here: Engine, entry: object) -> None:
    waiting = await here.enqueue(ANA)
    await put(here.store, SUPPRESSED, **{ANA: entry})
    with pytest.raises(SuppressedNumberError, match="newer version"):
        await here.enqueue(ANA)
    await here.send()
    assert await here.state(waiting) == "cancelled"
    assert len(await SuppressionList(here.store).scan()) == 1


async def test_what_hooks_have_to_tell_stays_for_who_can_read_it(store: Store) -> None:
    event = ["default.1", "ended", "2026-01-05T12:00:00+00:00", "completed", "r", 2, 7, "more"]
    fine = {"event": event, "failures": 1, "first_failed_at": None, "due_at": None, "error": "", "mood": "sunny"}
    await put(store, WAITING, **{"crm/default/1": fine, "crm/default/2": {"mood": "sunny"}, "crm/default/3": "no JSON"})
    book = HookBacklog(store, hook="crm", queue="default")
    assert [entry.event.sequence for entry in await book.waiting()] == [7]
    assert len(await store.records.scan(WAITING, now=store.clock.now())) == 3


async def test_a_reader_whose_place_cannot_be_read_stands_still(store: Store) -> None:
    await put(store, CURSORS, hook={"place": 7})
    with pytest.raises(StoreVersionError, match="Upgrade"):
        await cursors(store).get(["hook"])


async def test_a_gate_in_an_unknown_state_lets_nothing_pass(here: Engine, store: Store) -> None:
    await here.enqueue(ANA)
    state = cast("GateState", NewState.NAPPING)
    gate = Gate(queue="default", scope=GateScope.QUEUE, name="default", state=state, since=store.clock.now())
    await store.control.gate(gate)
    (standing,) = await store.control.gates("default")
    assert standing.state is GateState.HELD
    assert await here.send() == []


async def test_events_of_an_unknown_kind_are_passed_over(here: Engine, store: Store) -> None:
    job = await here.enqueue(ANA)
    told = [
        Event(job_id=job.id, kind=kind, at=store.clock.now(), state=JobState.QUEUED, revision="r")
        for kind in (cast("EventKind", NewKind.SANG), EventKind.ENDED)
    ]
    (leased,) = await here.lease()
    assert await store.jobs.commit([Move(leased, replace(leased, revision="another"), tuple(told))]) == [True]
    assert [event.kind for event in await store.jobs.events("default")] == [EventKind.OTHER, EventKind.ENDED]


async def test_a_journal_file_of_a_newer_version_is_left_alone(here: Engine, store: Store, tmp_path: Path) -> None:
    files = JournalFiles(tmp_path / "state")
    await here.enqueue(ANA)
    (sent,) = await here.send()
    journal = await files.begin("default", "worker-1", retention=timedelta(days=1))
    await journal.append([sent])
    journal.judge([True])
    journal.close()
    path = tmp_path / "state" / "default" / "worker-1.journal"
    whole = path.read_text()
    later = store.clock.now() + timedelta(days=400)
    for text in (whole.replace("post_count", "mood"), whole.replace('"voiceflow_journal":1', '"voiceflow_journal":2')):
        assert text != whole
        path.write_text(text)
        assert [file.kept for file in await files.files("default")] in ([None], [])
        assert await files.entries("default", "worker-1") == []
        await files.prune("default", before=later)
        assert path.exists()
