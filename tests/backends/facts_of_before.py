"""A store in which some calls have facts, and others were stored or moved by an older version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from tests.core.test_breakdown import some_job, some_post
from tests.support.plain_breakdown import plain_breakdown
from voiceflow_worker import Job, Store
from voiceflow_worker.backends import kept_facts
from voiceflow_worker.backends.contract import NOW, QUEUE, moved, sample_job
from voiceflow_worker.backends.record import Head, job_from, record_of
from voiceflow_worker.core.overview.report import build_full_report
from voiceflow_worker.core.ports import Query
from voiceflow_worker.model.jobs.job import JobState
from voiceflow_worker.model.records.facts import WIDTH, stamp_of
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import SessionStatus

ENDED = (JobState.COMPLETED, JobState.UNREACHED, JobState.FAILED)


async def reports_are_exact(store: Store) -> None:
    """Check the reports of the queue and of its batch against a count of the jobs themselves."""
    for batch_id in (None, "march"):
        jobs = await store.jobs.find(Query(queue=QUEUE, batch_id=batch_id, limit=None))
        assert (await build_full_report(store, QUEUE, batch_id)).breakdown == plain_breakdown(jobs)


async def check_with_an_older_version(
    store: Store, *, strip: Callable[[str], object], move: Callable[[str, str, str], object]
) -> None:
    """Check reports while an older version works beside this one.

    `strip` takes away a job's facts, and `move` gives a job a revision and a record, as the older version does.
    """
    random = Random(3)
    jobs = [moved(some_job(place, random), state=random.choice(ENDED)).new for place in range(90)]
    await store.jobs.enqueue(jobs, now=NOW)
    await reports_are_exact(store)
    for job in jobs[::3]:
        strip(job.id)
    await reports_are_exact(store)
    for place, job in enumerate(jobs[1::3]):
        move(job.id, f"of-before-{place}", record_of(some_job(1, random)))
    await reports_are_exact(store)
    found = await store.jobs.find(Query(queue=QUEUE, limit=None))
    assert all(await store.jobs.commit([moved(job, posts=some_job(1, random).posts) for job in found[::2]]))
    await reports_are_exact(store)


async def check_with_damaged_facts(store: Store, put: Callable[[str, str], object]) -> None:
    """Check reports while the facts of one job are damaged. `put` gives a job the text of its facts."""
    random = Random(3)
    jobs = [moved(some_job(place, random), state=random.choice(ENDED)).new for place in range(1, 40)]
    await store.jobs.enqueue(jobs, now=NOW)
    for text in ("", "x,", '"', '"SG|1||",', "null," * WIDTH, "[", '"\\ud800",'):
        put(jobs[20].id, f'{text}"{stamp_of(jobs[20].revision)}"')
        await reports_are_exact(store)
    waiting = f'"",{"null," * (WIDTH - 2)}'
    revision = jobs[20].revision
    for stamp in (f"{revision}1", f"{revision}~", f"x{stamp_of(revision)}"):  # an older form, a newer, another revision
        put(jobs[20].id, f'{waiting}"{stamp}"')
        await reports_are_exact(store)


async def check_with_odd_values(store: Store) -> None:
    """Check reports of a call with a value that facts cannot have."""
    ended = Outcome(status=SessionStatus.COMPLETED, status_text="COMPLETED", seconds=10**20)
    odd = replace(some_post(1, Random(3)), outcome=ended)
    await store.jobs.enqueue([sample_job(1, batch_id="march", posts=(odd,)), sample_job(2)], now=NOW)
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
