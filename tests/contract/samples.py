"""What the contract's tests stand on: the ground with its clock, sample jobs and moves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from itertools import count as counter
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from voiceflow_worker.core.ports import Event, Store
from voiceflow_worker.core.ports.store import BulkWrite, Insert, Replace, Result, Write, WriteResult, tally_change
from voiceflow_worker.core.writes import deleted, inserted
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.job import (
    Edits,
    Job,
    JobState,
    KeyPress,
    Note,
    NoteKind,
    Post,
    ReasonKind,
    RedialPolicy,
)
from voiceflow_worker.model.reports.outcome import CallLeg, Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import VerdictKind
from voiceflow_worker.model.window import CallWindow

_START = datetime(2026, 1, 5, 12, tzinfo=UTC)


class ManualClock:
    """A `Clock` for tests. Time passes only by `advance`, which wakes tasks when their sleep is over.

    `jump` sets only the wall clock, as an administrator or a time server would. The monotonic clock stays the same.
    """

    def __init__(self, start: datetime = _START) -> None:
        self._now = start
        self._monotonic = 0.0
        self._sleepers: list[tuple[float, anyio.Event]] = []

    @property
    def sleepers(self) -> int:
        """The number of tasks that are asleep."""
        return len(self._sleepers)

    @property
    def next_wake(self) -> timedelta | None:
        """The time until the first task wakes up; None if no task is asleep."""
        if not self._sleepers:
            return None
        return timedelta(seconds=max(min(until for until, _ in self._sleepers) - self._monotonic, 0.0))

    def now(self) -> datetime:
        """The current time, in UTC."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Sleep until the clock has advanced by `seconds`. With zero or less, only let other tasks run."""
        if seconds <= 0:
            await checkpoint()
            return
        sleeper = (self._monotonic + seconds, anyio.Event())
        self._sleepers.append(sleeper)
        try:
            await sleeper[1].wait()
        finally:
            self._sleepers.remove(sleeper)

    def advance(self, by: timedelta) -> None:
        """Advance both clocks, and wake the tasks whose sleep is over."""
        self._now += by
        self._monotonic += by.total_seconds()
        for until, event in self._sleepers:
            if until <= self._monotonic:
                event.set()

    def jump(self, by: timedelta) -> None:
        """Set the wall clock forward, or back with a negative step."""
        self._now += by


NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
QUEUE = "default"
BODY = (
    '{"callflow":[{"action":"makeCall","params":{"source":"+6531234567","destination":"+6587654321"}},'
    '{"action":"say","params":{"text":"Your order is ready.","voiceProfile":"en-IE-EmilyNeural"}},'
    '{"action":"hangup"}]}'
)

HOUR = timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)

_tokens = counter(1)


def sample_job(number: int = 1, **fields: Any) -> Job:
    """A queued job, due at `NOW`. Ids are in the order of the numbers. `fields` replace the defaults."""
    queue = fields.get("queue", QUEUE)
    sample = Job(
        id=f"{queue}.{number:026d}",
        queue=queue,
        state=JobState.QUEUED,
        due_at=NOW,
        revision=f"made-{number}",
        destination=f"+65{80000000 + number}",
        body=BODY,
        body_digest="digest-of-the-body",
        source="+6531234567",
        created_at=NOW,
    )
    return replace(sample, **fields)


def sample_jobs(amount: int, **fields: Any) -> Sequence[Job]:
    """Sample jobs with the numbers 1 to `amount`."""
    return [sample_job(number, **fields) for number in range(1, amount + 1)]


async def add_jobs(store: Store, jobs: Sequence[Job], *, now: datetime = NOW) -> Sequence[WriteResult]:
    """Store new jobs, each in its own state; returns the answers."""
    return await store.write(BulkWrite(writes=tuple(map(inserted, jobs))), now=now)


def full_job() -> Job:
    """A job in which every field differs from its default."""
    outcome = Outcome(
        status=SessionStatus.NO_ANSWER,
        status_text="No Answer",
        code=-2001,
        message="ni hao 你好",
        session_id="session-1",
        started_at=NOW + MICROSECOND,
        ended_at=NOW + HOUR,
        seconds=12.5,
        last_action="sayAndCapture",
        legs=(CallLeg(call_id="call-1", initiated_at=NOW, seconds=1.5, mos=4.1, jitter_ms=2.0), CallLeg()),
    )
    unknown = Outcome(status=None, status_text="SOMETHING_NEW")
    posts = tuple(
        Post(
            number=number,
            client_request_id=f"default.1.{number}",
            began_at=NOW + number * MICROSECOND,
            valid_until=NOW + HOUR,
            redial=1,
            answered_at=NOW + HOUR,
            verdict=verdict,
            code=-1015,
            message="Created",
            session_id="session-1",
            outcome=(outcome, unknown, None)[number % 3],
            outcome_known_at=NOW + HOUR,
            presses=(
                KeyPress(at=NOW, menu="main", digits="12#", event_id="event-1", answer="confirmed", leads_on=True),
            )
            * (number % 2),
            place=1,
        )
        for number, verdict in enumerate([*VerdictKind, None], 1)
    )
    return sample_job(
        state=JobState.SUBMITTED,
        due_at=NOW + 7 * MICROSECOND,
        revision="a revision",
        worker_id="worker-1",
        priority=-5,
        batch_id="batch",
        unique_key="key",
        valid_until=NOW + HOUR + MICROSECOND,
        active_until=NOW + 2 * HOUR,
        not_before=NOW - HOUR,
        first_due_at=NOW - 2 * HOUR,
        returned_at=NOW - HOUR,
        goes_first=True,
        time_zone="Asia/Singapore",
        reason="redial after BUSY",
        reason_kind=ReasonKind.NUMBER_BUSY,
        data={"name": "Ana", "table": 4, "vip": True, "note": None},
        menu="main",
        failures=3,
        missed_windows=2,
        post_count=17,
        redials=1,
        redial=RedialPolicy(
            on=frozenset({SessionStatus.BUSY, SessionStatus.NO_ANSWER}), limit=2,
            after={SessionStatus.BUSY: 30 * MICROSECOND, SessionStatus.NO_ANSWER: 2 * HOUR},
        ),
        window=CallWindow.parse("09:00-12:00,14:00-20:00", days="mon-fri,sun", holidays="SG,DE-BY"),
        posts=posts,
        notes=tuple(Note(at=NOW, kind=kind, text=f"a note: {kind.value}") for kind in NoteKind),
        further_numbers=("+6581111111", "+6582222222"),
        place=1,
        validity="2:00:00",
        ends_because="it is no longer in the list",
        edits=Edits(digest="digest-of-now", made="digest-of-then"),
    )  # fmt: skip


def moved(job: Job, *events: Event, **fields: Any) -> Write:
    """A write that gives a job these fields and a new revision, with these events."""
    new = replace(job, **{"revision": f"moved-{next(_tokens)}", **fields})
    wakes = new.queue if new.state is JobState.QUEUED else None
    return Write(changes=(Replace(job.revision, new, tally_change(job, new)),), events=events, wakes=wakes)


def new_job(write: Write) -> Job:
    """The job that a write stores."""
    return next(each.job for each in write.changes if isinstance(each, Insert | Replace))


async def commit(store: Store, writes: Sequence[Write]) -> list[bool]:
    """Write all in one bulk write; returns whether the store has the new job of each."""
    return await _done(store, tuple(writes))


async def delete(store: Store, jobs: Sequence[Job], *, keep_keys_until: datetime) -> list[bool]:
    """Delete jobs in one bulk write; returns whether each is gone."""
    return await _done(store, tuple(deleted(job, keep_key_until=keep_keys_until) for job in jobs))


async def _done(store: Store, writes: tuple[Write, ...]) -> list[bool]:
    written = await store.write(BulkWrite(writes=writes), now=store.clock.now())
    return [answer.result is Result.DONE for answer in written]


Opener = Callable[[], AbstractAsyncContextManager[Store]]
"""A function that opens the storage under test. Each call opens the same storage."""


@pytest.mark.anyio
class Ground:
    """The base class of all parts of the contract. A subclass must define the fixture `opener`."""

    @pytest.fixture
    def opener(self) -> Opener:
        """The function that opens the storage under test. The storage is empty when a test begins."""
        raise NotImplementedError("a subclass of the contract must define the fixture `opener`")

    @pytest.fixture
    async def store(self, opener: Opener) -> AsyncGenerator[Store]:
        """The open store."""
        async with opener() as store:
            yield store

    @pytest.fixture
    async def other(self, opener: Opener, store: Store) -> AsyncGenerator[Store]:  # noqa: ARG002 - opened after it
        """The same storage, opened a second time, as by another worker."""
        async with opener() as other:
            yield other
