"""Checks of the facts that a store keeps beside its calls, against a count of the calls themselves."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from tests.core.test_breakdown import some_job, some_post
from tests.support.plain_breakdown import plain_breakdown
from voiceflow_worker import Job, Store
from voiceflow_worker.backends import kept_facts
from voiceflow_worker.backends.contract import NOW, QUEUE, moved, sample_job
from voiceflow_worker.backends.record import Head, job_from
from voiceflow_worker.core.overview.report import build_full_report
from voiceflow_worker.core.ports import Query
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.records import facts
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import SessionStatus

ENDED = (JobState.COMPLETED, JobState.UNREACHED, JobState.FAILED)


async def reports_are_exact(store: Store) -> None:
    """Check the reports of the queue and of its batch against a count of the jobs themselves."""
    for batch_id in (None, "march"):
        jobs = await store.jobs.find(Query(queue=QUEUE, batch_id=batch_id, limit=None))
        assert (await build_full_report(store, QUEUE, batch_id)).breakdown == plain_breakdown(jobs)


async def check_with_odd_values(store: Store) -> None:
    """Check reports of a call with a value that facts cannot have."""
    ended = Outcome(status=SessionStatus.COMPLETED, status_text="COMPLETED", seconds=10**20)
    odd = replace(some_post(1, Random(3)), outcome=ended)
    await store.jobs.enqueue([sample_job(1, batch_id="march", posts=(odd,)), sample_job(2)], now=NOW)
    await reports_are_exact(store)


async def check_without_file_descriptors(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that calls are stored and reported though the data of their country cannot be loaded at that moment."""

    def no_data(number: str) -> str:
        raise OSError(24, "Too many open files", number)

    random = Random(3)
    jobs = [some_job(place, random) for place in range(3)]
    await store.jobs.enqueue(jobs, now=NOW)
    with monkeypatch.context() as without:
        without.setattr(facts, "country_of", no_data)
        assert await store.jobs.commit([moved(job, state=JobState.FAILED) for job in jobs]) == [True] * 3
    await reports_are_exact(store)


async def check_that_no_job_is_decoded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that a report decodes no call, waiting or ended, but only open ones."""
    random = Random(3)
    jobs = [moved(some_job(place, random), state=random.choice(ENDED)).new for place in range(90)]
    jobs += [moved(some_job(place, random), state=JobState.QUEUED, posts=()).new for place in range(90, 120)]
    jobs += [moved(some_job(place, random), state=JobState.CANCELLED, posts=()).new for place in range(120, 150)]
    await store.jobs.enqueue(jobs, now=NOW)
    decoded: list[str] = []

    def job_that_is_noted(head: Head, record: str, body: str) -> Job:
        decoded.append(head[0])
        return job_from(head, record, body)

    monkeypatch.setattr(kept_facts, "job_from", job_that_is_noted)
    await reports_are_exact(store)
    assert decoded == []
    begun = moved(jobs[5], state=JobState.SENDING)
    await store.jobs.commit([begun])
    await reports_are_exact(store)
    assert set(decoded) == {jobs[5].id}
    decoded.clear()
    await store.jobs.commit([moved(begun.new, state=ENDED[0])])
    await reports_are_exact(store)
    assert decoded == []
