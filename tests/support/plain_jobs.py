"""One job as a value, taken through its moves without a store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
POLICY = CallPolicy()


def a_job(state: JobState = JobState.QUEUED, **changes: Any) -> Job:
    job = Job(
        id="q.01",
        queue="q",
        state=state,
        due_at=NOW,
        destination="+6587654321",
        body="{}",
        body_digest="d",
        source="+6531234567",
        created_at=NOW,
    )
    return replace(job, **changes)


def leased(job: Job, *, at: datetime = NOW) -> Job:
    return lifecycle.lease(job, worker_id="w", until=at + MINUTE)


def begun(job: Job, *, at: datetime = NOW) -> Job:
    """A queued job whose next POST is on its way."""
    return lifecycle.begin(leased(job, at=at), at=at, lease_until=at + MINUTE, policy=POLICY)


def sending(**changes: Any) -> Job:
    return begun(a_job(**changes))


def in_doubt(**changes: Any) -> Job:
    return lifecycle.doubt(sending(**changes), at=NOW + MINUTE, reason="lost", policy=POLICY)


def not_placed(job: Job, *, at: datetime = NOW + HOUR) -> Job:
    return lifecycle.resolve(job, placed=False, at=at, recorded_at=at, note="no row", policy=POLICY)


def placed(job: Job) -> Job:
    return lifecycle.resolve(job, placed=True, at=NOW, recorded_at=NOW, note="heard it", policy=POLICY)
