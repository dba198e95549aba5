"""A job taken apart and put together again, also one that a newer version wrote."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from structlog.testing import capture_logs

from tests.contract.samples import ManualClock, full_job
from tests.contract.suite import NOW, sample_job
from tests.support.engine import Engine
from tests.support.flows import flow, number
from tests.support.voices import ScriptedVoice
from tests.webhooks.payload_forms import LEG, leg
from tests.webhooks.receiving import summary
from voiceflow_worker import Job, JobState, Store, SuppressionList, open_store
from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.backends.record import from_micros, head_of, job_from, record_of, to_micros
from voiceflow_worker.backends.sqlite import write
from voiceflow_worker.core.admission import CallRequest, CheckedCall, new_job
from voiceflow_worker.core.base import record_set
from voiceflow_worker.core.base.reading import find_jobs, gates_of
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.gates import order_gate
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.core.settling.changes import EARLY, SESSIONS, Sessions
from voiceflow_worker.core.settling.settle import outcome_of
from voiceflow_worker.core.suppression import NAMESPACE as SUPPRESSED
from voiceflow_worker.errors import CallFlowError, StoreVersionError, SuppressedNumberError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState
from voiceflow_worker.model.jobs.job import Post
from voiceflow_worker.model.reports.events import SessionSummary, parse_event
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import SessionStatus

pytestmark = pytest.mark.anyio

TIMES = st.datetimes(timezones=st.just(UTC))


def again(job: Job) -> Job:
    return job_from(head_of(job), record_of(job), job.body)


def test_a_job_that_uses_every_field_comes_back_as_it_was() -> None:
    """Whoever adds a field to a job must add it to the record too, or this fails: the sample's fields all differ."""
    job, plain = full_job(), sample_job()
    same = {"id", "queue", "destination", "body", "body_digest", "source", "created_at"}
    names = [field.name for field in structs.fields(Job)]
    assert {name for name in names if getattr(job, name) == getattr(plain, name)} == same
    for post_field in structs.fields(Post):
        assert all(getattr(post, post_field.name) is not None for post in job.posts[:1])
    for outcome_field in structs.fields(Outcome):
        outcomes = [post.outcome for post in job.posts if post.outcome is not None]
        assert any(getattr(outcome, outcome_field.name) is not None for outcome in outcomes)
    assert again(job) == job


KNOWN = '"source":"s","created_at":"2026-01-05T12:00:00Z"'
POST = '"number":1,"client_request_id":"x","began_at":"2026-01-05T12:00:00Z","valid_until":"2026-01-05T12:00:00Z"'


@pytest.mark.parametrize(
    "record",
    [
        f'{{{KNOWN},"colour":"red"}}',
        f'{{{KNOWN},"posts":[{{{POST},"colour":"red"}}]}}',
        f'{{{KNOWN},"posts":[{{{POST},"outcome":{{"status_text":"BUSY","colour":"red"}}}}]}}',
        f'{{{KNOWN},"posts":[{{{POST},"verdict":"painted"}}]}}',
        f'{{{KNOWN},"notes":[{{"at":"2026-01-05T12:00:00Z","kind":"painted","text":"red"}}]}}',
        f'{{{KNOWN},"reason":"red","reason_kind":"painted"}}',
        '{"source":"s"}',
        "not JSON",
    ],
)
def test_what_a_newer_version_wrote_is_refused_and_not_dropped(record: str) -> None:
    with pytest.raises(StoreVersionError, match=rf"{sample_job().id}.*[Uu]pgrade"):
        job_from(head_of(sample_job()), record, "")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20)
    | st.sampled_from(["9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00+23:59", "1e400", "-0", "\ud800", "NaN"]),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.sampled_from(sorted(LEG)), each, max_size=3),
    max_leaves=4,
)  # fmt: skip
FIELDS = st.sampled_from(
    ["sessionStatus", "startTime", "endTime", "lastAction", "callCount", "errorCode", "errorMessage", "details"]
)


@given(
    changes=st.dictionaries(FIELDS, ANYTHING, max_size=4),
    of_leg=st.dictionaries(st.sampled_from(sorted(LEG)), ANYTHING, max_size=4),
)
def test_whatever_a_summary_says_is_read_again_as_it_was_stored(
    changes: dict[str, object], of_leg: dict[str, object]
) -> None:
    """Evidence is never dropped: what the types of the record do not allow would be refused as a newer version's."""
    said = summary(**{"details": {"callA": leg(**of_leg)}, **changes})
    summarised = parse_event(said)
    assert isinstance(summarised, SessionSummary)
    job = full_job()
    post = structs.replace(job.posts[-1], outcome=outcome_of(summarised))
    job = structs.replace(job, posts=(*job.posts[:-1], post))
    assert again(job) == job


class Marked(str):
    """A text of a class of its own, as templates of web pages make them."""

    __slots__ = ()


class Reason(StrEnum):
    ASKED = "asked"


@pytest.mark.parametrize("field", ["unique_key", "batch", "menu", "time_zone"])
@pytest.mark.parametrize("text", [Marked("Asia/Singapore"), Reason.ASKED, 7, True, ZoneInfo("UTC"), ["a"], b"a"])
def test_what_a_program_hands_in_is_refused_or_read_again(field: str, text: Any) -> None:
    options: Any = {field: text}
    call = CallRequest(flow(number(1)), **options)
    try:
        job = new_job(
            CheckedCall.of(call, at=NOW), job_id="default.1", revision="r", queue="default", at=NOW, redial=None
        )
    except (CallFlowError, TypeError, AttributeError):
        assert not isinstance(text, str)
    else:
        assert isinstance(text, str)
        assert getattr(again(job), "batch_id" if field == "batch" else field) == str(text)


@given(TIMES)
def test_a_time_survives_to_the_microsecond(time: datetime) -> None:
    assert from_micros(to_micros(time)) == time


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
        assert await engine.guard._restore([sent[0], replace(sent[0], id=newer)]) == 0


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
