"""Nothing rings outside its calling window: not at enqueue, not at a redial, not when a worker was slow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.contract.samples import ManualClock, add_jobs
from tests.support.engine import Engine
from tests.support.flows import flow, number
from tests.support.voices import ScriptedVoice, not_sent, refused
from voiceflow_worker import CallFlowError, Job, JobState
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import IllegalMoveError
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import RedialPolicy
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import Verdict
from voiceflow_worker.model.window import CallWindow
from voiceflow_worker.queue import CallQueue

pytestmark = pytest.mark.anyio

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
ANA = "+6587654321"
DAYTIME = CallWindow.parse("09:00-20:00")
# In Singapore, where the clocks are 8 hours ahead of UTC: half past six in the evening, a Monday.
EVENING = datetime(2026, 1, 5, 10, 30, tzinfo=UTC)
CLOSES = datetime(2026, 1, 5, 12, tzinfo=UTC)
OPENS = datetime(2026, 1, 6, 1, tzinfo=UTC)
AGAIN = RedialPolicy(on=frozenset({SessionStatus.BUSY}), limit=3, after=30 * MINUTE)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(EVENING)


async def enqueued(engine: Engine, *, destination: str = ANA, window: CallWindow = DAYTIME, **given: Any) -> Job:
    return await engine.queue.enqueue(flow(destination), window=window, **given)


class TestEnqueue:
    async def test_a_call_is_due_at_once_while_its_window_is_open(self, engine: Engine) -> None:
        job = await enqueued(engine)
        assert (job.due_at, job.time_zone, job.window) == (EVENING, "Asia/Singapore", DAYTIME)

    async def test_a_call_for_the_night_is_due_in_the_morning(self, engine: Engine, clock: ManualClock) -> None:
        job = await enqueued(engine, not_before=datetime(2026, 1, 5, 15, tzinfo=UTC))
        assert job.due_at == OPENS
        clock.advance(OPENS - EVENING - SECOND)
        assert await engine.lease() == []
        clock.advance(SECOND)
        assert len(await engine.send()) == 1

    async def test_the_zone_of_the_request_wins_over_that_of_the_number(self, engine: Engine) -> None:
        job = await enqueued(engine, time_zone="Europe/London")
        assert (job.due_at, job.time_zone) == (EVENING, "Europe/London")
        night = await enqueued(engine, destination=number(1), time_zone="America/Los_Angeles")
        assert night.due_at == datetime(2026, 1, 5, 17, tzinfo=UTC)

    async def test_a_number_that_may_be_anywhere_needs_a_zone(self, engine: Engine) -> None:
        with pytest.raises(
            CallFlowError, match=r"several time zones .* give the person a time zone, or the window one$"
        ):
            await enqueued(engine, destination="+18005551234")
        with pytest.raises(CallFlowError, match="not a time zone"):
            await enqueued(engine, time_zone="Middle/Earth")
        assert (await engine.queue.status()).total == 0

    async def test_a_window_that_does_not_open_while_the_call_is_valid_is_refused(self, engine: Engine) -> None:
        with pytest.raises(CallFlowError, match="but its validity ends at") as told:
            await enqueued(engine, not_before=CLOSES, valid_until=OPENS)
        assert [found.code for found in told.value.findings] == [-1015]
        await enqueued(engine, not_before=CLOSES, valid_until=OPENS + SECOND)


class TestOnItsWay:
    async def test_what_8x8_is_told_ends_with_the_window(
        self, engine: Engine, clock: ManualClock, voice: ScriptedVoice
    ) -> None:
        clock.advance(CLOSES - EVENING - 30 * SECOND)
        await enqueued(engine)
        await engine.send()
        assert [placement.valid_until for _, placement in voice.placed] == [CLOSES]

    async def test_a_call_whose_window_closed_in_the_queue_waits_for_the_morning(
        self, engine: Engine, clock: ManualClock, voice: ScriptedVoice
    ) -> None:
        job = await enqueued(engine)
        clock.advance(CLOSES - EVENING)
        assert await engine.send() == []
        waits = await engine.queue.get(job.id)
        assert (waits.state, waits.due_at, waits.attempt, waits.posts) == (JobState.QUEUED, OPENS, 0, ())
        assert waits.reason == "waits for its calling window to open"
        clock.advance(OPENS - CLOSES)
        await engine.send()
        assert len(voice.placed) == 1

    async def test_a_call_whose_window_closed_just_before_its_journal_gives_its_number_back(
        self, store: Store, engine: Engine, clock: ManualClock, voice: ScriptedVoice
    ) -> None:
        clock.advance(CLOSES - EVENING - SECOND)
        job = await enqueued(engine)
        (dispatch,) = await engine.prepare()
        clock.advance(SECOND)
        await engine.finish(dispatch)
        waits = await engine.queue.get(job.id)
        assert (waits.state, waits.due_at, waits.posts) == (JobState.QUEUED, OPENS, ())
        assert voice.placed == []
        # Another call to that number, one that may ring at any hour, does not find it locked.
        other = Engine(store, voice, queue="alerts")
        await other.enqueue(ANA)
        assert len(await other.send()) == 1

    @pytest.mark.parametrize("verdict", [not_sent(), refused(-1015)], ids=["not sent", "too late for 8x8"])
    async def test_a_call_that_was_not_made_goes_out_in_the_next_window(
        self, engine: Engine, clock: ManualClock, voice: ScriptedVoice, verdict: Verdict
    ) -> None:
        """The window cut its validUntil short; the call itself has no end."""
        clock.advance(CLOSES - EVENING - SECOND)
        voice.answers = [verdict]
        job = await enqueued(engine)
        clock.advance(timedelta(seconds=0.9))
        await engine.send()
        waits = await engine.queue.get(job.id)
        assert (waits.state, waits.due_at, waits.attempt) == (JobState.QUEUED, OPENS, 0)

    async def test_a_lease_that_ended_in_the_night_is_due_in_the_morning(
        self, engine: Engine, clock: ManualClock
    ) -> None:
        job = await enqueued(engine)
        await engine.lease()
        clock.advance(CLOSES - EVENING + HOUR)
        await engine.sweeper.sweep()
        assert (await engine.queue.get(job.id)).due_at == OPENS

    async def test_one_whose_calendar_this_installation_does_not_know_waits(
        self, engine: Engine, store: Store, clock: ManualClock, voice: ScriptedVoice
    ) -> None:
        """A newer version may have enqueued it: it is not sent on a holiday that cannot be told, nor lost."""
        job = await enqueued(engine)
        strange = replace(job, id=f"{job.id}x", window=replace(DAYTIME, holidays=("XX",)), destination=number(7))
        await add_jobs(store, [strange], now=clock.now())
        await engine.queue.cancel(job.id)
        await engine.send()
        waits = await engine.queue.get(strange.id)
        assert waits.state is JobState.QUEUED
        assert waits.due_at == EVENING + timedelta(days=1)
        assert voice.placed == []


class TestRedial:
    async def unanswered(self, engine: Engine, job: Job) -> Job:
        await engine.send()
        await engine.summarise(job, SessionStatus.BUSY)
        return await engine.queue.get(job.id)

    async def test_one_that_falls_into_the_night_is_made_in_the_morning(
        self, engine: Engine, clock: ManualClock, voice: ScriptedVoice
    ) -> None:
        clock.advance(CLOSES - EVENING - 20 * MINUTE)
        job = await self.unanswered(engine, await enqueued(engine, redial=AGAIN))
        assert (job.state, job.due_at, job.redials) == (JobState.QUEUED, OPENS, 1)
        clock.advance(OPENS - clock.now())
        await engine.send()
        assert voice.client_request_ids == [f"{job.id}.1", f"{job.id}.2"]

    async def test_one_that_could_not_be_made_while_the_call_is_valid_is_not_granted(
        self, engine: Engine, clock: ManualClock
    ) -> None:
        clock.advance(CLOSES - EVENING - 20 * MINUTE)
        job = await self.unanswered(engine, await enqueued(engine, redial=AGAIN, valid_until=OPENS))
        assert (job.state, job.redials) == (JobState.UNREACHED, 0)
        assert job.reason == (
            "BUSY; not called again: the next call would be at 2026-01-06 01:00:00 UTC, but its validity ends at "
            "2026-01-06 01:00:00 UTC"
        )

    async def test_by_a_person_waits_for_the_morning_too(self, engine: Engine, clock: ManualClock) -> None:
        job = await self.unanswered(engine, await enqueued(engine))
        assert job.state is JobState.UNREACHED
        clock.advance(CLOSES - EVENING)
        assert (await engine.queue.redial(job.id)).due_at == OPENS

    async def test_by_a_person_is_refused_when_the_window_does_not_open_in_time(
        self, engine: Engine, clock: ManualClock
    ) -> None:
        job = await self.unanswered(engine, await enqueued(engine, valid_until=CLOSES + HOUR))
        clock.advance(CLOSES - EVENING)
        with pytest.raises(IllegalMoveError, match="does not open again before its validity ends"):
            await engine.queue.redial(job.id)


class TestThePolicyOfAQueue:
    async def test_is_that_of_every_call_that_brings_none(self, store: Store) -> None:
        queue = CallQueue(store, redial=AGAIN)
        own = replace(AGAIN, limit=1)
        never = RedialPolicy(on=frozenset(), limit=0, after=timedelta())
        assert (await queue.enqueue(flow(number(1)))).redial == AGAIN
        assert (await queue.enqueue(flow(number(2)), redial=own)).redial == own
        assert (await queue.enqueue(flow(number(3)), redial=never)).redial == never
