"""Events during calls: whose they are, what was pressed, and the states and recordings that 8x8 reports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from tests.contract.samples import ManualClock, delete
from tests.support.engine import Engine
from tests.support.flows import SOURCE
from tests.support.voices import ScriptedVoice, created, unknown
from voiceflow_worker import CallPolicy, Job, JobState, Store
from voiceflow_worker.backends.sqlite.store import SqliteStore
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.ports.reads import Read
from voiceflow_worker.core.progress import CallProgress, IncomingCalls, incoming_position
from voiceflow_worker.core.settling.changes import PRESSES_KEPT, Sessions
from voiceflow_worker.core.settling.settle import SummaryResult
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.evidence import MOST_PRESSES, with_press
from voiceflow_worker.model.jobs.job import RedialPolicy
from voiceflow_worker.model.reports.events import (
    ActionStatus,
    CallAction,
    CallStatus,
    Direction,
    RecordingReady,
    SessionSummary,
)
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import VerdictKind
from voiceflow_worker.types import KeyPress
from voiceflow_worker.webhooks.menu_calls import MenuCall, MenuCalls

pytestmark = pytest.mark.anyio


AT = datetime(2026, 7, 1, 9, tzinfo=UTC)


def press(digits: str, *, seconds: int = 0, event_id: str | None = "e") -> KeyPress:
    return KeyPress(at=AT + timedelta(seconds=seconds), menu="main", digits=digits, event_id=event_id)


def pressed(job: Job, number: int, press: KeyPress) -> Job:
    return with_press(job, number, press, at=AT, policy=CallPolicy())


def event(job: Job, session_id: str | None) -> CallAction:
    return CallAction(
        session_id=session_id, source=job.source, destination=job.destination, direction=Direction.OUTBOUND
    )


@pytest.fixture
async def in_doubt(store: Store) -> Job:
    engine = Engine(store, ScriptedVoice(answers=[unknown()]))
    job = await engine.enqueue()
    await engine.send()
    job = await engine.queue.get(job.id)
    assert (job.state, job.source) == (JobState.IN_DOUBT, SOURCE)
    return job


@pytest.fixture
async def submitted(store: Store) -> Job:
    engine = Engine(store, ScriptedVoice())
    job = await engine.enqueue()
    await engine.send()
    return await engine.queue.get(job.id)


@pytest.fixture
def menu_calls(store: Store) -> MenuCalls:
    return MenuCalls(store, CallPolicy())


class TestAPress:
    async def test_is_added_to_its_post_in_the_order_of_time(self, submitted: Job) -> None:
        later = pressed(submitted, 1, press("2", seconds=2, event_id="b"))
        both = pressed(later, 1, press("1", seconds=1, event_id="a"))
        assert both.digits == "1,2"

    async def test_of_the_same_event_is_added_once(self, submitted: Job) -> None:
        once = pressed(submitted, 1, press("1"))
        assert pressed(once, 1, press("1", seconds=5)) is once
        unnamed = pressed(submitted, 1, press("1", event_id=None))
        assert pressed(unnamed, 1, press("1", event_id=None)) is unnamed

    async def test_beyond_the_most_is_not_kept(self, submitted: Job) -> None:
        many = tuple(press("1", event_id=str(place)) for place in range(MOST_PRESSES))
        full = replace(submitted, posts=(replace(submitted.posts[0], presses=many),))
        assert pressed(full, 1, press("1", event_id="one more")) is full


async def test_a_call_is_found_by_its_session(store: Store, menu_calls: MenuCalls, submitted: Job) -> None:
    found = await menu_calls.find(event(submitted, submitted.session_id))
    assert found == MenuCall(submitted, 1, ())
    await menu_calls.pressed(found, press("1"), session_id=submitted.session_id)
    again = await menu_calls.find(event(submitted, submitted.session_id))
    assert [each.digits for each in again.presses] == ["1"]
    assert (await get_jobs(store, [submitted.id]))[submitted.id].digits == "1"


async def test_two_receivers_keep_both_key_presses_of_a_call_without_a_job(
    store: Store, menu_calls: MenuCalls, submitted: Job
) -> None:
    """Each has read the call before the other stores its key press. A repeated event adds nothing."""
    other, inbound = MenuCalls(store, CallPolicy()), replace(event(submitted, "theirs"), direction=Direction.INBOUND)
    lines = [await each.find(inbound) for each in (menu_calls, other)]
    await menu_calls.pressed(lines[0], press("1", event_id="a"), session_id="theirs")
    await other.pressed(lines[1], press("2", seconds=1, event_id="b"), session_id="theirs")
    await other.pressed(lines[1], press("2", seconds=1, event_id="b"), session_id="theirs")
    assert [each.digits for each in (await menu_calls.find(inbound)).presses] == ["1", "2"]


async def test_a_call_in_doubt_is_found_by_its_numbers_and_settled(
    store: Store, menu_calls: MenuCalls, in_doubt: Job
) -> None:
    found = await menu_calls.find(event(in_doubt, "session-of-8x8"))
    assert found.job is not None
    post = found.job.posts[0]
    assert (found.job.state, post.verdict, post.session_id) == (
        JobState.SUBMITTED, VerdictKind.PLACED, "session-of-8x8",
    )  # fmt: skip
    assert post.message == "a call action event came from this call"
    assert await Sessions(store).find(["session-of-8x8"]) == {"session-of-8x8": (in_doubt.id, 1)}
    revision = found.job.revision
    assert (await menu_calls.find(event(in_doubt, "session-of-8x8"))).job == found.job
    assert (await get_jobs(store, [in_doubt.id]))[in_doubt.id].revision == revision


async def test_a_session_whose_record_is_gone_is_found_by_its_numbers(
    store: Store, menu_calls: MenuCalls, submitted: Job
) -> None:
    assert submitted.session_id is not None
    await text_records(store, "session").remove([submitted.session_id])
    assert (await menu_calls.find(event(submitted, submitted.session_id))).job == submitted
    assert (await menu_calls.find(event(submitted, "another"))).job is None


async def test_numbers_bind_nothing_once_the_lock_has_ended(
    menu_calls: MenuCalls, in_doubt: Job, clock: ManualClock
) -> None:
    policy = CallPolicy()
    clock.advance(policy.submit_window + policy.ringing + timedelta(seconds=1))
    assert (await menu_calls.find(event(in_doubt, "late"))).job is None


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "+6531234599"},
        {"destination": "+6587654399"},
        {"direction": Direction.INBOUND},
        {"session_id": None},
        {"source": None},
        {"destination": None},
    ],
    ids=str,
)
async def test_what_does_not_fit_the_open_post_binds_nothing(
    store: Store, menu_calls: MenuCalls, in_doubt: Job, changes: dict[str, object]
) -> None:
    found = await menu_calls.find(replace(event(in_doubt, "s"), **changes))  # type: ignore[arg-type]
    assert found == MenuCall(None, None, ())
    assert (await get_jobs(store, [in_doubt.id]))[in_doubt.id] == in_doubt


async def test_what_was_pressed_in_a_call_that_is_not_a_job_is_kept_for_a_while(
    menu_calls: MenuCalls, clock: ManualClock
) -> None:
    inbound = CallAction(session_id="inbound", direction=Direction.INBOUND)
    line = await menu_calls.find(inbound)
    await menu_calls.pressed(line, press("1", event_id="a"), session_id="inbound")
    line = await menu_calls.find(inbound)
    await menu_calls.pressed(line, press("2", seconds=1, event_id="b"), session_id="inbound")
    await menu_calls.pressed(await menu_calls.find(inbound), press("2", seconds=1, event_id="b"), session_id="inbound")
    assert (await menu_calls.find(inbound)).presses == (press("1", event_id="a"), press("2", seconds=1, event_id="b"))
    clock.advance(PRESSES_KEPT + timedelta(seconds=1))
    assert (await menu_calls.find(inbound)).presses == ()


async def test_a_press_of_a_job_that_was_pruned_meanwhile_is_let_go(
    store: Store, menu_calls: MenuCalls, submitted: Job
) -> None:
    line = await menu_calls.find(event(submitted, submitted.session_id))
    await delete(store, [submitted], keep_keys_until=store.clock.now())
    await menu_calls.pressed(line, press("1"), session_id=submitted.session_id)


async def test_an_answer_that_names_another_session_meanwhile_has_its_way(
    store: Store, menu_calls: MenuCalls, in_doubt: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = SqliteStore.jobs

    async def then_the_answer_comes(self: SqliteStore, read: Read, *, now: datetime) -> Sequence[Job]:
        found = await jobs(self, read, now=now)
        monkeypatch.undo()
        await Engine(store, ScriptedVoice()).verdict(in_doubt, 1, created("the real session"))
        return found

    monkeypatch.setattr(SqliteStore, "jobs", then_the_answer_comes)
    assert (await menu_calls.find(event(in_doubt, "another"))).job is None
    assert (await get_jobs(store, [in_doubt.id]))[in_doubt.id].session_id == "the real session"


class TestACallOfAnotherProgramToTheSamePerson:
    """Its event came before our POST was answered, and was taken for ours: the numbers are the same."""

    @pytest.fixture
    def engine(self, store: Store) -> Engine:
        return Engine(store, ScriptedVoice())

    @pytest.fixture
    async def taken_for_ours(self, engine: Engine, menu_calls: MenuCalls) -> Job:
        again = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=3, after=timedelta())
        await engine.enqueue(redial=again)
        (sending,) = await engine.journal()
        found = await menu_calls.find(event(sending, "theirs"))
        assert found.job is not None
        assert found.job.state is JobState.SUBMITTED
        return sending

    async def test_gives_its_place_to_the_session_that_our_answer_names(
        self, engine: Engine, menu_calls: MenuCalls, taken_for_ours: Job
    ) -> None:
        job = await engine.verdict(taken_for_ours, 1, created("ours"))
        assert job.posts[0].session_id == "ours"
        assert (await menu_calls.find(event(job, "ours"))).job == job
        assert (await menu_calls.find(event(job, "theirs"))).job is None

    @pytest.mark.parametrize("client_request_id", [None, "crm-4711", "staging.01KE70EHG0AVPS20ZQXJ62RE14.1"])
    async def test_does_not_settle_ours_and_grants_no_redial_while_ours_rings(
        self, engine: Engine, taken_for_ours: Job, client_request_id: str | None
    ) -> None:
        await engine.verdict(taken_for_ours, 1, created("ours"))
        theirs = SessionSummary(session_id="theirs", client_request_id=client_request_id, status=SessionStatus.BUSY)
        assert await engine.settler.summary(theirs) in {SummaryResult.UNKNOWN, SummaryResult.EARLY}
        await engine.sweeper.sweep()
        assert await engine.state(taken_for_ours) == "submitted"
        ours = SessionSummary(session_id="ours", status=SessionStatus.COMPLETED)
        assert await engine.settler.summary(ours) is SummaryResult.SETTLED

    async def test_is_not_what_a_session_is_that_our_answer_named_whatever_its_summary_calls_it(
        self, engine: Engine, taken_for_ours: Job
    ) -> None:
        await engine.verdict(taken_for_ours, 1, created("ours"))
        ours = SessionSummary(session_id="ours", client_request_id="mangled", status=SessionStatus.COMPLETED)
        assert await engine.settler.summary(ours) is SummaryResult.SETTLED
        assert await engine.state(taken_for_ours) == "completed"

    async def test_that_tells_whose_it_is_leaves_ours_in_doubt_again(
        self, engine: Engine, menu_calls: MenuCalls, store: Store, in_doubt: Job
    ) -> None:
        await menu_calls.find(event(in_doubt, "theirs"))
        assert await engine.state(in_doubt) == "submitted"
        theirs = SessionSummary(session_id="theirs", client_request_id="crm-4711", status=SessionStatus.COMPLETED)
        for _ in range(2):
            assert await engine.settler.summary(theirs) is SummaryResult.UNKNOWN
            assert await engine.state(in_doubt) == "in_doubt"
        # Neither a late event nor the log of 8x8 takes it for ours again.
        assert (await menu_calls.find(event(in_doubt, "theirs"))).job is None
        assert await engine.state(in_doubt) == "in_doubt"
        owners = await Sessions(store).find(["theirs"])
        assert owners.keys() == {"theirs"}
        assert in_doubt.id not in {job_id for job_id, _ in owners.values()}


async def test_a_number_that_is_written_with_a_zero_too_many_is_found_by_either_spelling(
    store: Store, menu_calls: MenuCalls
) -> None:
    for place, spelling in enumerate(("+4402079460958", "+442079460958")):
        engine = Engine(store, ScriptedVoice(answers=[unknown()]), queue=f"q{place}")
        job = await engine.enqueue("+4402079460958")
        await engine.send()
        found = await menu_calls.find(replace(event(job, f"s{place}"), destination=spelling))
        assert found.job is not None
        assert found.job.id == job.id
        await engine.summarise(job)


def state(status: str, *, seconds: int = 0, session_id: str | None = "s", event_id: str | None = None) -> CallStatus:
    return CallStatus(
        session_id=session_id,
        event_id=event_id,
        call_id="leg-1",
        call_status=status,
        direction=Direction.OUTBOUND,
        source="+6531234567",
        destination="+6587654321",
        sip_code=180,
        duration=timedelta(seconds=seconds),
        timestamp=AT + timedelta(seconds=seconds),
    )


def recording(status: str, *, file_path: str | None = None, session_id: str | None = "s") -> RecordingReady:
    return RecordingReady(
        session_id=session_id,
        recording_id="r",
        status=status,
        file_path=file_path,
        duration=timedelta(seconds=12) if file_path else None,
    )


async def test_states_are_reported_in_order_of_their_time_whatever_order_they_came_in(store: Store) -> None:
    progress = CallProgress(store)
    for status, seconds in (("COMPLETED", 20), ("INITIATED", 0), ("ANSWERED", 8), ("RINGING", 3)):
        assert await progress.status(state(status, seconds=seconds))
    heard = await progress.of(["s"])
    assert [each.status for each in heard.states] == ["INITIATED", "RINGING", "ANSWERED", "COMPLETED"]
    first = heard.states[1]
    assert (first.session_id, first.at, first.call_id) == ("s", AT + timedelta(seconds=3), "leg-1")
    assert (first.direction, first.source, first.destination) == ("OUTBOUND", "+6531234567", "+6587654321")
    assert (first.seconds, first.sip_code) == (3.0, 180)


async def test_the_same_event_again_is_one_entry(store: Store, clock: ManualClock) -> None:
    progress = CallProgress(store)
    for _ in range(3):
        await progress.status(state("RINGING"))
        await CallProgress(store).recording(recording("UPLOAD_COMPLETED", file_path="/r.wav"))
        clock.advance(timedelta(seconds=1))
    heard = await progress.of(["s"])
    assert len(heard.states) == 1
    assert len(heard.recordings) == 1


@pytest.mark.parametrize("order", [("UPLOADING", "UPLOAD_COMPLETED"), ("UPLOAD_COMPLETED", "UPLOADING")])
async def test_a_recording_is_reported_once_with_its_file(
    store: Store, clock: ManualClock, order: tuple[str, str]
) -> None:
    progress = CallProgress(store)
    for status in order:
        await progress.recording(recording(status, file_path="/r.wav" if status == "UPLOAD_COMPLETED" else None))
        clock.advance(timedelta(seconds=1))
    (told,) = (await progress.of(["s"])).recordings
    assert (told.recording_id, told.status, told.file_path, told.seconds) == ("r", "UPLOAD_COMPLETED", "/r.wav", 12.0)


async def test_sessions_whose_names_begin_alike_are_not_mixed_up(store: Store) -> None:
    progress = CallProgress(store)
    for session_id in ("s", "s/", "s/t", "s%2Ft", "st"):
        await progress.status(state("RINGING", session_id=session_id))
    for session_id in ("s", "s/", "s/t", "s%2Ft", "st"):
        (told,) = (await progress.of([session_id])).states
        assert told.session_id == session_id


async def test_they_end_by_themselves(store: Store, clock: ManualClock) -> None:
    progress = CallProgress(store, recordings_for=timedelta(days=30))
    await progress.status(state("RINGING"))
    await progress.recording(recording("UPLOAD_COMPLETED", file_path="/r.wav"))
    clock.advance(timedelta(days=8))
    heard = await progress.of(["s"])
    assert (len(heard.states), len(heard.recordings)) == (0, 1)
    clock.advance(timedelta(days=23))
    assert (await progress.of(["s"])).recordings == ()


async def test_a_job_finds_what_was_heard_of_its_sessions_and_is_not_moved_by_it(store: Store, engine: Engine) -> None:
    await engine.enqueue()
    progress = CallProgress(store)
    (job,) = await engine.send()
    assert job.session_id is not None
    await progress.status(state("RINGING", session_id=job.session_id))
    await progress.recording(recording("UPLOAD_COMPLETED", session_id=job.session_id))
    await progress.status(state("RINGING", session_id="another"))
    heard = await progress.of_job(job)
    assert [each.session_id for each in heard.states] == [job.session_id]
    assert len(heard.recordings) == 1
    assert await engine.queue.get(job.id) == job


async def test_each_incoming_call_is_kept_once_and_in_the_order_of_arrival(store: Store) -> None:
    progress, incoming, began = CallProgress(store), IncomingCalls(store), store.clock.now()
    received = CallAction(session_id="c", call_status=ActionStatus.CALL_RECEIVED, source="+6581234567")
    for given in (
        CallStatus(session_id="b", direction=Direction.INBOUND),
        CallStatus(session_id="b", direction=Direction.INBOUND, call_status="ANSWERED"),
        CallStatus(session_id="d", direction=Direction.OUTBOUND),
        CallStatus(session_id="e"),
    ):
        await progress.status(given)
    for action in (received, received, replace(received, session_id="f", call_status=ActionStatus.ACTION_COMPLETED)):
        await progress.action(action)
    found = await incoming.after(incoming_position(began), limit=10)
    assert [call.session_id for _, call in found] == ["b", "c"]
    assert [call.source for _, call in found] == [None, "+6581234567"]
    assert [call.session_id for _, call in await incoming.after(found[0][0], limit=10)] == ["c"]
