"""Events during calls: whose they are, what was pressed, and the states that 8x8 reports.

An answer that was left over gives a call the session of another: what comes for that session is nobody else's.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.contract.samples import ManualClock, delete
from tests.support.engine import ScriptedEngine
from tests.support.flows import SOURCE, number
from tests.support.voices import created, unknown
from voiceflow_worker import CallPolicy, Job, JobState, Store
from voiceflow_worker.backends.sqlite.store import SqliteStore
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.core.base.record_set import json_records, text_records
from voiceflow_worker.core.ports.reads import Read
from voiceflow_worker.core.progress import INCOMING, CallProgress, IncomingCall
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
    SessionSummary,
)
from voiceflow_worker.model.reports.outcome import CallLeg
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import VerdictKind
from voiceflow_worker.types import KeyPress
from voiceflow_worker.webhooks.menu_calls import MenuCall, MenuCalls

pytestmark = pytest.mark.anyio

AT = datetime(2026, 7, 1, 9, tzinfo=UTC)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
NOBODY = MenuCall(None, None, ())


def press(digits: str, *, seconds: int = 0, event_id: str | None = "e") -> KeyPress:
    return KeyPress(at=AT + seconds * SECOND, menu="main", digits=digits, event_id=event_id)


def event(job: Job, session_id: str | None, **changes: Any) -> CallAction:
    """A call action event from a session to the numbers of this call."""
    given = {"source": job.source, "destination": job.destination, "direction": Direction.OUTBOUND, **changes}
    return CallAction(**{"session_id": session_id, **given})


@pytest.fixture
async def in_doubt(engine: ScriptedEngine) -> Job:
    engine.voice.answers = [unknown()]
    job = await engine.enqueue()
    await engine.send()
    job = await engine.queue.get(job.id)
    assert (job.state, job.source) == (JobState.IN_DOUBT, SOURCE)
    return job


@pytest.fixture
async def submitted(engine: ScriptedEngine) -> Job:
    job = await engine.enqueue()
    await engine.send()
    return await engine.queue.get(job.id)


@pytest.fixture
def menu_calls(store: Store) -> MenuCalls:
    return MenuCalls(store, CallPolicy())


async def test_a_press_is_added_to_its_post_once_in_the_order_of_time_and_not_beyond_the_most(submitted: Job) -> None:
    def pressed(job: Job, key: KeyPress) -> Job:
        return with_press(job, 1, key)

    both = pressed(pressed(submitted, press("2", seconds=2, event_id="b")), press("1", seconds=1, event_id="a"))
    assert both.digits == "1,2"
    assert pressed(both, press("1", seconds=5, event_id="a")) is both
    unnamed = pressed(submitted, press("1", event_id=None))
    assert pressed(unnamed, press("1", event_id=None)) is unnamed
    many = tuple(press("1", event_id=str(place)) for place in range(MOST_PRESSES))
    full = replace(submitted, posts=(replace(submitted.posts[0], presses=many),))
    assert pressed(full, press("1", event_id="one more")) is full


async def test_a_call_is_found_by_its_session(store: Store, menu_calls: MenuCalls, submitted: Job) -> None:
    found = await menu_calls.find(event(submitted, submitted.session_id))
    assert found == MenuCall(submitted, 1, ())
    await menu_calls.pressed(found, press("1"), session_id=submitted.session_id)
    again = await menu_calls.find(event(submitted, submitted.session_id))
    assert [each.digits for each in again.presses] == ["1"]
    assert (await get_jobs(store, [submitted.id]))[submitted.id].digits == "1"
    await delete(store, [await get_job(store, submitted)], keep_keys_until=store.clock.now())
    await menu_calls.pressed(again, press("2"), session_id=submitted.session_id)  # it was pruned: nothing is kept


async def get_job(store: Store, job: Job) -> Job:
    return (await get_jobs(store, [job.id]))[job.id]


async def test_what_was_pressed_in_a_call_that_is_not_a_job_is_kept_once_for_a_while_by_all_receivers(
    store: Store, menu_calls: MenuCalls, clock: ManualClock
) -> None:
    """Each receiver has read the call before the other stores its key press. A repeated event adds nothing."""
    inbound, other = CallAction(session_id="theirs", direction=Direction.INBOUND), MenuCalls(store, CallPolicy())
    lines = [await each.find(inbound) for each in (menu_calls, other)]
    first, second = press("1", event_id="a"), press("2", seconds=1, event_id="b")
    for receiver, line, key in ((menu_calls, lines[0], first), (other, lines[1], second), (other, lines[1], second)):
        await receiver.pressed(line, key, session_id="theirs")
    assert (await menu_calls.find(inbound)).presses == (first, second)
    clock.advance(PRESSES_KEPT + SECOND)
    assert (await menu_calls.find(inbound)).presses == ()


async def test_a_call_in_doubt_is_found_by_its_numbers_and_settled(
    store: Store, menu_calls: MenuCalls, in_doubt: Job
) -> None:
    found = (await menu_calls.find(event(in_doubt, "session-of-8x8"))).job
    assert found is not None
    (post,) = found.posts
    kept = (found.state, post.verdict, post.session_id, post.message)
    said = "a call action event came from this call"
    assert kept == (JobState.SUBMITTED, VerdictKind.PLACED, "session-of-8x8", said)
    assert await Sessions(store).find(["session-of-8x8"]) == {"session-of-8x8": (in_doubt.id, 1)}
    assert (await menu_calls.find(event(in_doubt, "session-of-8x8"))).job == found
    assert (await get_job(store, in_doubt)).revision == found.revision


async def test_a_session_whose_record_is_gone_is_found_by_its_numbers(
    store: Store, menu_calls: MenuCalls, submitted: Job
) -> None:
    assert submitted.session_id is not None
    await text_records(store, "session").remove([submitted.session_id])
    assert (await menu_calls.find(event(submitted, submitted.session_id))).job == submitted
    assert (await menu_calls.find(event(submitted, "another"))).job is None


@pytest.mark.parametrize(
    ("changes", "later"),
    [
        ({"source": "+6531234599"}, timedelta()),
        ({"destination": "+6587654399"}, timedelta()),
        ({"direction": Direction.INBOUND}, timedelta()),
        ({"session_id": None}, timedelta()),
        ({"source": None}, timedelta()),
        ({"destination": None}, timedelta()),
        ({}, CallPolicy().submit_window + CallPolicy().ringing + SECOND),  # its lock has ended
    ],
    ids=str,
)
async def test_what_does_not_fit_the_open_post_binds_nothing(
    engine: ScriptedEngine, menu_calls: MenuCalls, in_doubt: Job, changes: dict[str, Any], later: timedelta
) -> None:
    engine.clock.advance(later)
    assert await menu_calls.find(event(in_doubt, **{"session_id": "s", **changes})) == NOBODY
    assert await get_job(engine.store, in_doubt) == in_doubt


async def test_an_answer_that_names_another_session_meanwhile_has_its_way(
    engine: ScriptedEngine, menu_calls: MenuCalls, in_doubt: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = SqliteStore.jobs

    async def then_the_answer_comes(self: SqliteStore, read: Read, *, now: datetime) -> Sequence[Job]:
        found = await jobs(self, read, now=now)
        monkeypatch.undo()
        await engine.verdict(in_doubt, 1, created("the real session"))
        return found

    monkeypatch.setattr(SqliteStore, "jobs", then_the_answer_comes)
    assert (await menu_calls.find(event(in_doubt, "another"))).job is None
    assert (await get_job(engine.store, in_doubt)).session_id == "the real session"


class TestACallOfAnotherProgramToTheSamePerson:
    """Its event came before our POST was answered, and was taken for ours: the numbers are the same."""

    @pytest.fixture
    async def taken_for_ours(self, engine: ScriptedEngine, menu_calls: MenuCalls) -> Job:
        await engine.enqueue(redial=RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=3, after=timedelta()))
        (sending,) = await engine.journal()
        found = await menu_calls.find(event(sending, "theirs"))
        assert found.job is not None
        assert found.job.state is JobState.SUBMITTED
        return sending

    async def test_gives_its_place_to_the_session_that_our_answer_names(
        self, engine: ScriptedEngine, menu_calls: MenuCalls, taken_for_ours: Job
    ) -> None:
        job = await engine.verdict(taken_for_ours, 1, created("ours"))
        assert job.posts[0].session_id == "ours"
        assert (await menu_calls.find(event(job, "ours"))).job == job
        assert (await menu_calls.find(event(job, "theirs"))).job is None

    @pytest.mark.parametrize("client_request_id", [None, "crm-4711", "staging.01KE70EHG0AVPS20ZQXJ62RE14.1"])
    async def test_does_not_settle_ours_which_is_settled_by_its_own_summary_whatever_that_is_called(
        self, engine: ScriptedEngine, taken_for_ours: Job, client_request_id: str | None
    ) -> None:
        await engine.verdict(taken_for_ours, 1, created("ours"))
        theirs = SessionSummary(session_id="theirs", client_request_id=client_request_id, status=SessionStatus.BUSY)
        assert await engine.settler.summary(theirs) in {SummaryResult.UNKNOWN, SummaryResult.EARLY}
        await engine.sweeper.sweep()
        assert await engine.state(taken_for_ours) == "submitted", "no redial is granted while ours rings"
        named = None if client_request_id is None else "mangled"
        ours = SessionSummary(session_id="ours", client_request_id=named, status=SessionStatus.COMPLETED)
        assert await engine.settler.summary(ours) is SummaryResult.SETTLED
        assert await engine.state(taken_for_ours) == "completed"

    async def test_that_tells_whose_it_is_leaves_ours_in_doubt_again(
        self, engine: ScriptedEngine, menu_calls: MenuCalls, in_doubt: Job
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
        owners = await Sessions(engine.store).find(["theirs"])
        assert owners.keys() == {"theirs"}
        assert in_doubt.id not in {job_id for job_id, _ in owners.values()}


async def test_a_number_that_is_written_with_a_zero_too_many_is_found_by_either_spelling(
    store: Store, clock: ManualClock, menu_calls: MenuCalls
) -> None:
    for place, spelling in enumerate(("+4402079460958", "+442079460958")):
        engine = ScriptedEngine(store, clock, queue=f"q{place}")
        engine.voice.answers = [unknown()]
        job = await engine.enqueue("+4402079460958")
        await engine.send()
        found = await menu_calls.find(event(job, f"s{place}", destination=spelling))
        assert found.job is not None
        assert found.job.id == job.id
        await engine.summarise(job)


def summary_of(session: str, destination: str | None) -> SessionSummary:
    leg = None if destination is None else CallLeg(destination=destination)
    return SessionSummary(session_id=session, status=SessionStatus.COMPLETED, status_text="COMPLETED", call_a=leg)


@pytest.mark.parametrize("spelled", ["+{}", "{}", "00{}"])
async def test_a_summary_found_by_its_session_alone_settles_only_a_call_to_its_number(
    engine: ScriptedEngine, spelled: str
) -> None:
    """Each call has its predecessor's session."""
    jobs = [await engine.enqueue(number(place)) for place in range(3)]
    places = {f"{job.id}.1": place for place, job in enumerate(jobs)}
    engine.voice.answer = lambda placement: created(f"session-{places[placement.client_request_id] - 1}")
    await engine.send()
    for place, job in enumerate(jobs):
        told = spelled.format(job.destination.removeprefix("+"))
        assert await engine.settler.summary(summary_of(f"session-{place}", told)) is not SummaryResult.SETTLED
    assert [await engine.state(job) for job in jobs] == ["submitted"] * 3
    for place, job in enumerate(jobs):  # with its request id, each is settled
        assert await engine.summarise(job, session_id=f"s{place}") is SummaryResult.SETTLED


@pytest.mark.parametrize("spelled", ["+6587654321", "6587654321", "006587654321", None, "anonymous"])
async def test_a_summary_that_does_not_contradict_settles_the_call_of_its_session(
    engine: ScriptedEngine, submitted: Job, spelled: str | None
) -> None:
    assert await engine.settler.summary(summary_of(submitted.session_id or "", spelled)) is SummaryResult.SETTLED


async def test_the_menu_of_another_call_is_not_spoken_to_whoever_is_on_the_line(
    engine: ScriptedEngine, menu_calls: MenuCalls
) -> None:
    """Neither for another number, nor for the number that was called before it for the same call."""
    engine.voice.answers = [created("s1"), created("s")]
    job = await engine.enqueue(number(0), further_numbers=[number(1)])
    await engine.send()
    await engine.summarise(job, SessionStatus.BUSY)
    await engine.send()
    for called, is_ours in [
        (job.numbers[1], True), (job.numbers[1].removeprefix("+"), True), (job.destination, False), (number(7), False),
    ]:  # fmt: skip
        found = await menu_calls.find(event(job, "s", destination=called))
        assert (found.job is not None) is is_ours, called
    assert await engine.settler.summary(summary_of("s", job.destination)) is not SummaryResult.SETTLED
    assert await engine.state(job) == "submitted"


def state(status: str, *, seconds: int = 0, session_id: str | None = "s") -> CallStatus:
    return CallStatus(
        session_id=session_id, event_id=None, call_id="leg-1", call_status=status, direction=Direction.OUTBOUND,
        source="+6531234567", destination="+6587654321", sip_code=180, duration=seconds * SECOND,
        timestamp=AT + seconds * SECOND,
    )  # fmt: skip


async def test_states_are_reported_once_in_order_of_their_time_whatever_order_they_came_in(store: Store) -> None:
    progress = CallProgress(store)
    for status, seconds in 2 * (("COMPLETED", 20), ("INITIATED", 0), ("ANSWERED", 8), ("RINGING", 3)):
        assert await progress.status(state(status, seconds=seconds))
    heard = await progress.of(["s"])
    assert [each.status for each in heard.states] == ["INITIATED", "RINGING", "ANSWERED", "COMPLETED"]
    first = heard.states[1]
    assert (first.session_id, first.at, first.call_id) == ("s", AT + 3 * SECOND, "leg-1")
    assert (first.direction, first.source, first.destination) == ("OUTBOUND", "+6531234567", "+6587654321")
    assert (first.seconds, first.sip_code) == (3.0, 180)


async def test_sessions_whose_names_begin_alike_are_not_mixed_up(store: Store) -> None:
    progress, names = CallProgress(store), ("s", "s/", "s/t", "s%2Ft", "st")
    for session_id in names:
        await progress.status(state("RINGING", session_id=session_id))
    for session_id in names:
        (told,) = (await progress.of([session_id])).states
        assert told.session_id == session_id


async def test_they_end_by_themselves(store: Store, clock: ManualClock) -> None:
    progress = CallProgress(store)
    await progress.status(state("RINGING"))
    clock.advance(8 * DAY)
    assert (await progress.of(["s"])).states == ()


async def test_a_job_finds_what_was_heard_of_its_sessions_and_is_not_moved_by_it(store: Store, submitted: Job) -> None:
    progress, session = CallProgress(store), submitted.session_id
    await progress.status(state("RINGING", session_id=session))
    await progress.status(state("RINGING", session_id="another"))
    heard = await progress.of_job(submitted)
    assert [each.session_id for each in heard.states] == [session]
    assert await get_job(store, submitted) == submitted


async def test_each_incoming_call_is_kept_once(store: Store) -> None:
    progress = CallProgress(store)
    received = CallAction(session_id="c", call_status=ActionStatus.CALL_RECEIVED, source="+6581234567")
    for given in (
        CallStatus(session_id="b", direction=Direction.INBOUND),
        CallStatus(session_id="b", direction=Direction.INBOUND, call_status="ANSWERED", source="+6581234568"),
        CallStatus(session_id="d", direction=Direction.OUTBOUND),
        CallStatus(session_id="e"),
    ):
        await progress.status(given)
    for action in (received, received, replace(received, session_id="f", call_status=ActionStatus.ACTION_COMPLETED)):
        await progress.action(action)
    found = await json_records(store, INCOMING, IncomingCall).all()
    assert [call and (call.session_id, call.source) for _, call in found] == [("b", None), ("c", "+6581234567")]
