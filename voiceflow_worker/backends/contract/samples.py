"""Jobs and moves to test with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

from voiceflow_worker.core.ports import Event, Move
from voiceflow_worker.model.jobs.job import Job, JobState

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
QUEUE = "default"
BODY = (
    '{"callflow":[{"action":"makeCall","params":{"source":"+6531234567","destination":"+6587654321"}},'
    '{"action":"say","params":{"text":"Your order is ready.","voiceProfile":"en-IE-EmilyNeural"}},'
    '{"action":"hangup"}]}'
)

_tokens = count(1)


def sample_job(number: int = 1, **fields: Any) -> Job:
    """A queued job that is due at `NOW`; jobs of ascending numbers have ascending ids. `fields` replace its own."""
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
    """Jobs numbered from 1."""
    return [sample_job(number, **fields) for number in range(1, amount + 1)]


def moved(job: Job, *events: Event, **fields: Any) -> Move:
    """A move of this job to what `fields` say, under a revision of its own."""
    return Move(job, replace(job, **{"revision": f"moved-{next(_tokens)}", **fields}), events)
