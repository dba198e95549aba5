"""When a call is due: in its calling window, and after it came back, before those that were never tried."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.contract.samples import ManualClock, add_jobs
from tests.support.engine import LEASE, Engine, ScriptedEngine
from tests.support.flows import flow, number
from tests.support.voices import ScriptedVoice, created, not_sent, refused, turned_away
from voiceflow_worker import CallFlowError, Job, JobState
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.sending.journal import NUMBER_BUSY, Dispatch, JournalWriter, requeued
from voiceflow_worker.core.settling.settle import PostAnswer
from voiceflow_worker.errors import IllegalMoveError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import ReasonKind, RedialPolicy
from voiceflow_worker.model.jobs.lifecycle import RETRIES_FIRST
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.window import CallWindow
from voiceflow_worker.queue import CallQueue

pytestmark = pytest.mark.anyio

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
ANA = "+6587654321"
BUSY = "its number is busy with another call"
DAYTIME = CallWindow.parse("09:00-20:00")
# In Singapore, where the clocks are 8 hours ahead of UTC: half past six in the evening, a Monday.
EVENING = datetime(2026, 1, 5, 10, 30, tzinfo=UTC)
CLOSES = datetime(2026, 1, 5, 12, tzinfo=UTC)
NIGHT = datetime(2026, 1, 5, 15, tzinfo=UTC)
OPENS = datetime(2026, 1, 6, 1, tzinfo=UTC)
AGAIN = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=3, after=30 * MINUTE)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(EVENING)


async def enqueued(engine: ScriptedEngine, destination: str = ANA, **given: Any) -> Job:
    return await engine.queue.enqueue(flow(destination), window=DAYTIME, **given)


@pytest.mark.parametrize(
    ("given", "due", "zone"),
    [
        ({}, EVENING, "Asia/Singapore"),
        ({"not_before": NIGHT}, OPENS, "Asia/Singapore"),
        ({"not_before": CLOSES, "valid_until": OPENS + SECOND}, OPENS, "Asia/Singapore"),
        ({"time_zone": "Europe/London"}, EVENING, "Europe/London"),
        ({"time_zone": "America/Los_Angeles"}, datetime(2026, 1, 5, 17, tzinfo=UTC), "America/Los_Angeles"),
    ],
    ids=str,
)
async def test_a_call_is_due_when_its_window_is_open(
    engine: ScriptedEngine, given: dict[str, Any], due: datetime, zone: str
) -> None:
    job = await enqueued(engine, **given)
    assert (job.due_at, job.time_zone, job.window) == (due, zone, DAYTIME)
    if due > EVENING:
        engine.clock.advance(due - EVENING - SECOND)
        assert await engine.lease() == []
        engine.clock.advance(SECOND)
    assert len(await engine.send()) == 1


@pytest.mark.parametrize(
    ("given", "said", "code"),
    [
        (
            {"destination": "+18005551234"},
            r"several time zones .* Give the person a column",
            None,
        ),
        ({"time_zone": "Middle/Earth"}, "not a time zone", None),
        ({"not_before": CLOSES, "valid_until": OPENS}, "but its validity ends at", -1015),
    ],
)
async def test_a_call_whose_window_is_not_known_or_does_not_open_in_time_is_refused(
    engine: ScriptedEngine, given: dict[str, Any], said: str, code: int | None
) -> None:
    with pytest.raises(CallFlowError, match=said) as told:
        await enqueued(engine, **given)
    assert code is None or [found.code for found in told.value.findings] == [code]
    assert (await engine.queue.status()).total == 0


async def test_what_8x8_is_told_ends_with_the_window(engine: ScriptedEngine) -> None:
    engine.clock.advance(CLOSES - EVENING - 30 * SECOND)
    await enqueued(engine)
    await engine.send()
    assert [placement.valid_until for _, placement in engine.voice.placed] == [CLOSES]


async def closed_in_the_queue(engine: ScriptedEngine, _: Job) -> None:
    engine.clock.advance(CLOSES - engine.clock.now())
    await engine.send()


async def closed_before_its_journal(engine: ScriptedEngine, _: Job) -> None:
    dispatches = await engine.prepare()
    engine.clock.advance(CLOSES - engine.clock.now())
    await engine.finish(*dispatches)


async def not_made(engine: ScriptedEngine, _: Job) -> None:
    engine.voice.answers = [not_sent()]
    engine.clock.advance(timedelta(seconds=0.9))
    await engine.send()


async def too_late_for_8x8(engine: ScriptedEngine, _: Job) -> None:
    engine.voice.answers = [refused(-1015)]
    engine.clock.advance(timedelta(seconds=0.9))
    await engine.send()


async def leased_until_the_night(engine: ScriptedEngine, _: Job) -> None:
    await engine.lease()
    engine.clock.advance(HOUR)
    await engine.sweeper.sweep()


async def busy(engine: ScriptedEngine, job: Job) -> None:
    await engine.ends(job, SessionStatus.BUSY)


Way = Callable[[ScriptedEngine, Job], Awaitable[None]]


@pytest.mark.parametrize(
    "way", [closed_in_the_queue, closed_before_its_journal, not_made, too_late_for_8x8, leased_until_the_night, busy]
)
async def test_whatever_makes_a_call_late_it_waits_for_the_morning(engine: ScriptedEngine, way: Way) -> None:
    """The window cut its validUntil short; the call itself has no end."""
    engine.clock.advance(CLOSES - EVENING - SECOND)
    job = await enqueued(engine, redial=AGAIN)
    await way(engine, job)
    waits, rang = await engine.queue.get(job.id), way is busy
    assert (waits.state, waits.due_at, waits.attempt, waits.redials) == (JobState.QUEUED, OPENS, rang, rang)
    assert way is not closed_in_the_queue or waits.reason == "waits for its calling window to open"
    assert way not in {closed_in_the_queue, closed_before_its_journal} or (waits.posts, engine.voice.placed) == ((), [])
    # Another call to that number, one that may ring at any hour, does not find it locked.
    other = Engine(engine.store, engine.voice, queue="alerts")
    await other.enqueue(ANA)
    assert len(await other.send()) == 1
    await other.summarise((await other.queue.find())[0])
    engine.clock.advance(OPENS - engine.clock.now())
    assert [each.id for each in await engine.send()] == [job.id]


async def test_one_whose_calendar_this_installation_does_not_know_waits(engine: ScriptedEngine) -> None:
    """A newer version may have enqueued it: it is not sent on a holiday that cannot be told, nor lost."""
    job = await enqueued(engine)
    strange = replace(job, id=f"{job.id}x", window=replace(DAYTIME, holidays=("XX",)), destination=number(7))
    await add_jobs(engine.store, [strange], now=engine.clock.now())
    await engine.queue.cancel(job.id)
    await engine.send()
    waits = await engine.queue.get(strange.id)
    assert (waits.state, waits.due_at) == (JobState.QUEUED, EVENING + timedelta(days=1))
    assert engine.voice.placed == []


async def test_a_redial_that_could_not_be_made_while_the_call_is_valid_is_not_granted(engine: ScriptedEngine) -> None:
    engine.clock.advance(CLOSES - EVENING - 20 * MINUTE)
    job = await engine.ends(await enqueued(engine, redial=AGAIN, valid_until=OPENS), SessionStatus.BUSY)
    assert (job.state, job.redials) == (JobState.UNREACHED, 0)
    opens = "2026-01-06 01:00:00 UTC"
    assert job.reason == f"BUSY; not called again: the next call would be at {opens}, but its validity ends at {opens}"


async def test_a_redial_by_a_person_waits_for_the_morning_or_is_refused_when_that_is_too_late(
    engine: ScriptedEngine,
) -> None:
    lasts = await engine.ends(await enqueued(engine), SessionStatus.BUSY)
    ends = await engine.ends(await enqueued(engine, number(1), valid_until=CLOSES + HOUR), SessionStatus.BUSY)
    assert lasts.state is JobState.UNREACHED
    engine.clock.advance(CLOSES - EVENING)
    assert (await engine.queue.redial(lasts.id)).due_at == OPENS
    with pytest.raises(IllegalMoveError, match="does not open again before its validity ends"):
        await engine.queue.redial(ends.id)


async def test_the_redial_policy_of_a_queue_is_that_of_every_call_that_brings_none(store: Store) -> None:
    queue = CallQueue(store, redial=AGAIN)
    never = RedialPolicy(on=frozenset(), limit=0, after=timedelta())
    for place, own in enumerate((None, replace(AGAIN, limit=1), never)):
        given: dict[str, Any] = {} if own is None else {"redial": own}
        assert (await queue.enqueue(flow(number(place)), **given)).redial == (own or AGAIN)


@pytest.fixture
def line(any_store: Store, clock: ManualClock) -> Line:
    return Line(any_store, clock)


class Line:
    """A queue of calls, and what becomes of those that a worker has taken."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.engine = Engine(store, ScriptedVoice())
        self.clock = clock
        self.journal = JournalWriter(store, self.engine.policy, lease=LEASE)
        self.numbers: dict[str, int] = {}

    async def add(self, count: int, **options: object) -> None:
        for _ in range(count):
            place = len(self.numbers) + 1
            job = await self.engine.enqueue(number(place), **options)
            self.numbers[job.id] = place
            self.clock.advance(timedelta(milliseconds=1))

    async def leased(self, limit: int = 100) -> list[int]:
        return [self.numbers[job.id] for job in await self.engine.lease(limit)]

    async def begun(self, job: Job) -> Job:
        dispatch = Dispatch(job)
        assert await self.journal.enter([dispatch]) == [None]
        return dispatch.job

    async def requeue(self, job: Job, reason: str, *, wait: timedelta = timedelta()) -> None:
        kind = ReasonKind.NUMBER_BUSY if reason == BUSY else None
        await self.journal.move((job, requeued(job, reason, at=self.clock.now(), kind=kind, wait=wait)))


async def test_whatever_brings_a_call_back_it_goes_before_those_never_tried(line: Line) -> None:
    await line.add(12)
    busy, _, slot, away, unreached, held = await line.engine.lease(6)
    await line.requeue(busy, BUSY, wait=NUMBER_BUSY)
    await line.requeue(slot, "the rate allows no further call yet")
    now = line.clock.now()
    begun = await line.begun(away)
    await line.engine.settler.verdicts([PostAnswer(begun, 1, turned_away(429), now, held_until=now + 2 * LEASE)])
    await line.engine.verdict(await line.begun(unreached), 1, not_sent())
    await line.engine.settler.verdicts([PostAnswer(await line.begun(held), 1, turned_away(401), now, None)])
    assert (await line.leased())[:2] == [3, 6], "they are due at once, where they were"
    line.clock.advance(LEASE + SECOND)  # the leases of all others end
    await line.engine.sweeper.sweep()
    line.clock.advance(LEASE + SECOND)
    assert await line.leased() == [2, 3, 6, 7, 8, 9, 10, 11, 12, 5, 1, 4], "by the time at which each is due"


async def test_row_2_of_40_that_was_busy_for_a_moment_is_sent_third(line: Line) -> None:
    await line.add(40)
    _, second = await line.engine.lease(2)
    await line.requeue(second, BUSY, wait=0.3 * SECOND)
    assert await line.leased(1) == [3]
    line.clock.advance(0.3 * SECOND)
    assert await line.leased() == [2, *range(4, 41)]


async def test_what_is_busy_for_longer_than_a_minute_holds_up_nobody(line: Line) -> None:
    await line.add(2)
    (job,) = await line.engine.lease(1)
    for _ in range(1 + RETRIES_FIRST // NUMBER_BUSY):
        await line.requeue(job, BUSY, wait=NUMBER_BUSY)
        line.clock.advance(NUMBER_BUSY)
        (job,) = await line.engine.lease(1)
    assert line.numbers[job.id] == 2
    assert await line.leased() == [1]


async def test_a_higher_priority_goes_before_what_came_back(line: Line) -> None:
    await line.add(2)
    (job,) = await line.engine.lease(1)
    await line.requeue(job, BUSY, wait=NUMBER_BUSY)
    await line.add(1, priority=1)
    line.clock.advance(NUMBER_BUSY)
    assert await line.leased() == [3, 1, 2]


async def test_a_redial_and_a_persons_order_get_a_new_place(line: Line) -> None:
    policy = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=1, after=timedelta())
    await line.add(4, redial=policy)
    busy, answered = await line.engine.lease(2)
    for job, status in ((busy, SessionStatus.BUSY), (answered, SessionStatus.COMPLETED)):
        line.clock.advance(SECOND)
        await line.engine.verdict(await line.begun(job), 1, created(f"session-{job.id}"))
        await line.engine.summarise(job, status)
    await line.engine.queue.redial(answered.id, note="again", force=True)
    assert await line.leased() == [3, 4, 1, 2]


async def test_how_late_the_oldest_call_is_counts_from_when_it_was_first_due(line: Line) -> None:
    """A worker that can send nothing takes calls and puts them back, again and again."""
    await line.add(3)
    began = line.clock.now() - timedelta(milliseconds=3)
    for _ in range(20):
        jobs = await line.engine.lease()
        for job in jobs:
            await line.requeue(job, BUSY, wait=NUMBER_BUSY)
        line.clock.advance(10 * SECOND)
    status = await line.engine.queue.status()
    assert status.oldest_due_seconds == pytest.approx((line.clock.now() - began).total_seconds(), abs=0.01)
