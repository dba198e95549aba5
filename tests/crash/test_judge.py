"""The judge turns red for each broken promise, and only then."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.crash.judge import judge
from voiceflow_worker import CallPolicy, Job, JobState
from voiceflow_worker.backends.contract.samples import sample_job
from voiceflow_worker.model.jobs import lifecycle
from voiceflow_worker.model.jobs.evidence import answered, summarised
from voiceflow_worker.model.jobs.job import Note, NoteKind
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import Verdict, VerdictKind

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
POLICY = CallPolicy()


def sending(number: int = 1) -> Job:
    leased = lifecycle.lease(sample_job(number), worker_id="worker-1", until=NOW)
    return lifecycle.begin(leased, at=NOW, lease_until=NOW, policy=POLICY)


def in_doubt(number: int = 1) -> Job:
    return lifecycle.doubt(sending(number), at=NOW, reason="killed", policy=POLICY)


def submitted(number: int = 1) -> Job:
    created = Verdict(kind=VerdictKind.CREATED, message="Created", session_id="session-1")
    return answered(sending(number), 1, created, at=NOW, policy=POLICY)


def completed(number: int = 1) -> Job:
    outcome = Outcome(status=SessionStatus.COMPLETED, status_text="COMPLETED")
    return summarised(submitted(number), 1, outcome, at=NOW, policy=POLICY)


def row(job: Job, *, rang: bool = True, post: int = 1, after: timedelta = timedelta(seconds=1)) -> dict[str, Any]:
    return {
        "at": (NOW + after).isoformat(),
        "destination": job.destination,
        "client_request_id": f"{job.id}.{post}",
        "rang": rang,
    }


def sentences(jobs: list[Job], ledger: list[dict[str, Any]], **given: Any) -> list[str]:
    enqueued = given.pop("enqueued", [job.id for job in jobs])
    return [each.sentence.partition(":")[0] for each in judge(jobs, ledger, enqueued=enqueued, **given).violations]


def test_a_run_in_which_every_promise_was_kept_is_accepted() -> None:
    jobs = [completed(1), in_doubt(2), replace(sample_job(3), state=JobState.EXPIRED)]
    judgement = judge(jobs, [row(jobs[0])], enqueued=[job.id for job in jobs])
    assert not judgement.violations
    assert judgement.open_doubts == (jobs[1].id,)
    assert (judgement.rang, judgement.rings_per_destination, judgement.lost) == (1, 1, 0)


def test_a_ring_that_a_person_knows_of_is_known() -> None:
    job = lifecycle.resolve(in_doubt(), placed=True, at=NOW, witnessed=NOW, note="in the log", policy=POLICY)
    assert not sentences([job], [row(job)])
    assert "TWICE" in sentences([job], [row(job), row(job, post=2)])


@pytest.mark.parametrize(
    ("job", "rows", "expected"),
    [
        (completed(), [{}, {"post": 2}], {"TWICE", "WRONG POST", "NO JOURNAL"}),
        (completed(), [{}, {}], {"TWICE", "SENT TWICE"}),
        (completed(), [{}, {"rang": False}], {"SENT TWICE"}),
        (completed(), [], {"MADE UP"}),
        (completed(), [{"after": timedelta(minutes=3)}], {"LATE"}),
        (in_doubt(), [{}], {"UNSETTLED"}),
        (submitted(), [{}], {"STUCK", "UNKNOWN RING"}),
        (sending(), [{}], {"STUCK", "UNKNOWN RING"}),
        (sample_job(), [], {"STUCK"}),
        (replace(completed(), notes=(Note(at=NOW, kind=NoteKind.RANG_TWICE, text="twice"),)), [{}], {"INCIDENT"}),
    ],
)
def test_each_broken_promise_is_found(job: Job, rows: list[dict[str, Any]], expected: set[str]) -> None:
    assert set(sentences([job], [row(job, **each) for each in rows])) == expected


def test_a_job_that_is_gone_is_lost_and_one_that_nobody_handed_in_is_made_up() -> None:
    job = replace(sample_job(), state=JobState.EXPIRED)
    assert sentences([job], [], enqueued=[job.id, "default.gone"]) == ["LOST"]
    assert sentences([job], [], enqueued=[]) == ["MADE UP"]


def test_what_the_store_counts_must_be_what_it_lists() -> None:
    assert sentences([in_doubt()], [], counted={JobState.IN_DOUBT: 2})
    assert not sentences([in_doubt()], [], counted={JobState.IN_DOUBT: 1, JobState.QUEUED: 0})
