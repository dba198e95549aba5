"""A record that a newer version wrote is refused with a sentence; work goes on with the others."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from structlog.testing import capture_logs

from tests.contract.samples import ManualClock
from tests.support.engine import Engine
from tests.support.flows import number
from tests.support.voices import ScriptedVoice
from voiceflow_worker import Job, JobState, Store, SuppressionList, open_store
from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.backends.memory.store import MemoryStore
from voiceflow_worker.backends.record import record_of
from voiceflow_worker.backends.sqlite import write
from voiceflow_worker.core.audit import Actor
from voiceflow_worker.core.base import record_set
from voiceflow_worker.core.base.reading import find_jobs, gates_of
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.gates import order_gate
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.core.settling.changes import EARLY, SESSIONS, Sessions
from voiceflow_worker.core.store_copy import StoreCopy
from voiceflow_worker.core.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.errors import StoreClosedError, StoreVersionError, SuppressedNumberError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState
from voiceflow_worker.model.reports.status import SessionStatus

pytestmark = pytest.mark.anyio

ANA, BEN, NEW = number(1), number(2), "+6599999999"


class NewState(StrEnum):
    """A state of gates that a newer version has."""

    NAPPING = "napping"


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    written: Callable[[Job], str] = lambda job: (  # noqa: E731
        orjson.dumps({**orjson.loads(record_of(job)), "mood": "sunny"}).decode()
        if job.destination == NEW
        else record_of(job)
    )
    monkeypatch.setattr(write, "record_of", written)
    async with open_store(f"sqlite:///{tmp_path / 'calls.db'}", clock=clock) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _nothing_was_told() -> None:
    record_set._reported.clear()  # pyright: ignore[reportPrivateUsage]


@pytest.fixture
def here(store: Store) -> Engine:
    return Engine(store, ScriptedVoice())


async def three(engine: Engine) -> tuple[Job, Job, Job]:
    """Three calls, the second written by a newer version."""
    return await engine.enqueue(ANA), await engine.enqueue(NEW), await engine.enqueue(BEN)


async def put(store: Store, namespace: str, **values: Any) -> None:
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    await text_records(store, namespace).put(texts)


async def test_the_others_are_leased_found_and_sent(here: Engine, clock: ManualClock) -> None:
    ana, newer, ben = await three(here)
    with capture_logs() as logs:
        sent = await here.send()
        assert {job.id for job in sent} == {ana.id, ben.id}
        assert {job.state for job in sent} == {JobState.SUBMITTED}
        found = await find_jobs(here.store, Listing(queue="default", limit=1))
        found = [*found, *await find_jobs(here.store, Listing(queue="default", limit=None, after=found[-1].id))]
        assert {job.id for job in found} == {ana.id, ben.id}
        clock.advance(timedelta(minutes=2))
        await here.sweeper.sweep()
    told = [line for line in logs if newer.id in str(line.get("reason"))]
    assert len(told) == 1
    assert "upgrade this installation" in told[0]["event"]
    with pytest.raises(StoreVersionError, match="mood"):
        await here.queue.get(newer.id)


async def test_a_store_that_holds_a_newer_job_has_not_forgotten_it(here: Engine, store: Store, tmp_path: Path) -> None:
    await three(here)
    sent = await here.send()
    newer = (await here.enqueue(NEW)).id
    async with Engine(store, ScriptedVoice(), local_journal=JournalFiles(tmp_path)).at_work() as engine:
        assert engine.guard is not None
        assert await engine.guard._restore([sent[0], replace(sent[0], id=newer)]) == (0, 0)


async def test_a_store_with_a_newer_job_is_not_copied_without_it(here: Engine) -> None:
    await three(here)
    made = MemoryStore()
    with pytest.raises(StoreVersionError, match=r"not all of .* can be read: .*mood"):
        await StoreCopy(here.store, "made").run(lambda: nullcontext(made), Actor(name="Ann"), within=timedelta(0))
    with pytest.raises(StoreClosedError):
        await Engine(made, ScriptedVoice()).enqueue(ANA)


async def test_a_parked_summary_of_a_newer_version_is_left_and_others_are_applied(here: Engine) -> None:
    ana, _, ben = await three(here)
    await here.send()
    for job in (ana, ben):
        session = f"session-{job.id}.1"
        await text_records(here.store, SESSIONS).remove([session])
        await here.summarise(job, SessionStatus.BUSY, with_client_request_id=False, session_id=session)
        await text_records(here.store, SESSIONS).put({session: f"{job.id}.1"})
    newer = {"status": "BUSY", "status_text": "BUSY", "mood": "sunny"}
    await put(here.store, EARLY, **{f"session-{ana.id}.1": newer, "session-x": "no JSON"})
    for _ in range(2):
        await here.sweeper.sweep()
    assert (await here.state(ana), await here.state(ben)) == ("submitted", "unreached")
    kept = await Sessions(here.store).early.all()
    assert kept == [(f"session-{ana.id}.1", None), ("session-x", None)]


@pytest.mark.parametrize("entry", [{"since": "2026-01-01T00:00:00+00:00", "scope": "all"}, "no JSON", [1], None])
async def test_a_suppression_that_cannot_be_read_counts_for_good(here: Engine, entry: object) -> None:
    waiting = await here.enqueue(ANA)
    await put(here.store, SUPPRESSED, **{ANA: entry})
    with pytest.raises(SuppressedNumberError, match="newer version"):
        await here.enqueue(ANA)
    await here.send()
    assert await here.state(waiting) == "cancelled"
    assert len(await SuppressionList(here.store).scan()) == 1


async def test_a_gate_in_an_unknown_state_lets_nothing_pass(here: Engine, store: Store) -> None:
    await here.enqueue(ANA)
    state = cast("GateState", NewState.NAPPING)
    gate = Gate(queue="default", scope=GateScope.QUEUE, name="default", state=state, since=store.clock.now())
    await order_gate(store, gate)
    (standing,) = await gates_of(store, "default")
    assert standing.state is GateState.HELD
    assert await here.send() == []


async def test_a_journal_file_of_a_newer_version_is_left_alone(here: Engine, store: Store, tmp_path: Path) -> None:
    files = JournalFiles(tmp_path / "state")
    await here.enqueue(ANA)
    (sent,) = await here.send()
    journal = await files.begin("default", at=store.clock.now())
    await journal.append([sent], first=1)
    journal.record_committed([True])
    journal.close()
    (path,) = (tmp_path / "state" / "default").iterdir()
    whole = path.read_text()
    later = store.clock.now() + timedelta(days=400)
    for text in (whole.replace("post_count", "mood"), whole.replace('"voiceflow_journal":5', '"voiceflow_journal":6')):
        assert text != whole
        path.write_text(text)
        assert await files.entries(str(path)) == []
        await files.prune("default", before=later)
        assert path.exists()
