"""The list of batches, the durations of a report, and reasons in words."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.contract.samples import NOW, ManualClock, add_jobs, commit, moved, sample_job
from tests.support.flows import flow, number
from voiceflow_worker import CallQueue, Store
from voiceflow_worker.backends.memory.store import MemoryStore
from voiceflow_worker.core.base.identity import BATCH_KEPT, PROGRAMS, BatchNames, batch_puts
from voiceflow_worker.core.ports.store import BulkWrite, Write
from voiceflow_worker.core.suppression import Suppression
from voiceflow_worker.core.writes import inserted
from voiceflow_worker.model.jobs.job import JobState, Post, ReasonKind
from voiceflow_worker.model.reports.outcome import CallLeg, Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.reporting.batches import BATCHES_A_PAGE, read_batches
from voiceflow_worker.reporting.reasons import why_nobody_was_reached
from voiceflow_worker.reporting.report import build_report

pytestmark = pytest.mark.anyio


async def made(
    store: Store, name: str, *, state: JobState = JobState.QUEUED, is_campaign: bool = True, queue: str = "default"
) -> None:
    """A batch of one call in this state, made at the present time of the store."""
    now = store.clock.now()
    job = sample_job(hash(name) % 10**9, batch_id=name, state=state, queue=queue)
    puts = batch_puts(queue, name, at=now, is_campaign=is_campaign)
    await store.write(BulkWrite(writes=(inserted(job, puts=puts),)), now=now)


async def names_of(store: Store, *, limit: int = BATCHES_A_PAGE, name: str = "") -> list[list[str | None]]:
    """The names of all pages."""
    pages: list[list[str | None]] = []
    after: str | None = ""
    while after is not None:
        page = await read_batches(store, ["default", "other"], after=after, limit=limit, name=name)
        pages.append([each.batch_id for each in page.batches])
        after = page.after
    return pages


async def test_pages_hold_each_batch_of_all_queues_once_the_newest_first(any_store: Store, clock: ManualClock) -> None:
    for place in range(23):
        await made(any_store, f"b{place}", queue="default" if place % 3 else "other", is_campaign=place % 2 == 0)
        clock.advance(timedelta(seconds=1))
    wanted = [f"b{place}" for place in reversed(range(23))]
    for limit in (1, 4, 23, 50):
        pages = await names_of(any_store, limit=limit)
        assert [name for page in pages for name in page] == wanted
        assert all(len(page) == limit for page in pages[:-1])
    assert await names_of(any_store, name="B1") == [[each for each in wanted if "b1" in each]]


async def test_a_batch_whose_calls_are_gone_is_in_no_page_and_the_page_is_full_all_the_same() -> None:
    store = MemoryStore(clock=ManualClock(NOW))
    for place in range(20):
        puts = batch_puts("default", f"gone {place}", at=NOW + timedelta(seconds=place), is_campaign=True)
        await store.write(BulkWrite(writes=(Write(puts=puts),)), now=NOW)
    await made(store, "first")
    assert (await names_of(store, limit=1))[0] == ["first"]


async def test_two_processes_that_make_one_batch_at_once_make_one_entry() -> None:
    clock = ManualClock(NOW)
    store = MemoryStore(clock=clock)
    await made(store, "march")
    clock.advance(timedelta(seconds=2))
    # The second has not seen the name of the first.
    puts = batch_puts("default", "march", at=clock.now(), is_campaign=True)
    await store.write(BulkWrite(writes=(Write(puts=puts),)), now=clock.now())
    assert await names_of(store) == [["march"]]
    assert [each.name for each in await BatchNames(store, "default").page(limit=1)] == ["march"]


async def test_a_batch_keeps_its_place_when_more_calls_come_and_has_its_name_until_the_end() -> None:
    clock = ManualClock(NOW)
    store = MemoryStore(clock=clock)
    for batch in ("one", "two", "one"):
        await CallQueue(store).enqueue(flow(number(0)), batch=batch)
        clock.advance(timedelta(minutes=1))
    assert await names_of(store) == [["two", "one"]]
    assert [each.name for each in await BatchNames(store, "default").page(of=[PROGRAMS])] == ["two", "one"]
    clock.advance(BATCH_KEPT)
    assert await BatchNames(store, "default").page() == []


SINGAPORE, LONDON, NOWHERE = "+6587654321", "+447700900123", "+80012345678"
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
MET = (CallLeg(destination=SINGAPORE, status="Completed"), CallLeg(destination="+6531234567", status="BUSY"))
"""The legs of a call that connects two people. The person answered, and the second party was busy."""


def post(outcome: Outcome | None = None, *, at: datetime = NOW, **more: Any) -> Post:
    return Post(client_request_id="x", began_at=at, valid_until=at, outcome=outcome, **{"number": 1, **more})


def ended(status: SessionStatus, *, at: datetime = NOW, **more: Any) -> Outcome:
    """A session that took ten seconds."""
    return Outcome(status=status, status_text=status.value, started_at=at, ended_at=at + 10 * SECOND, **more)


async def test_the_durations_are_those_of_every_attempt(store: Store) -> None:
    attempts = [(SessionStatus.COMPLETED, 30.0), (SessionStatus.BUSY, 2.5), (SessionStatus.COMPLETED, 12.25)]
    posts = [post(ended(status, seconds=length), number=n) for n, (status, length) in enumerate(attempts, 1)]
    jobs = [sample_job(n, batch_id="march", posts=tuple(posts[:n])) for n in (1, 2, 3)]
    await add_jobs(store, jobs)
    found = (await build_report(store, "default", "march")).as_json()
    assert (found["seconds"], found["answered"]) == (30 * 3 + 2.5 * 2 + 12.25, 2)


async def test_reasons_that_differ_from_call_to_call_are_told_alike(store: Store) -> None:
    """By their kind: what a person writes is never taken for one of them."""
    queue = CallQueue(store)
    for place in range(7):
        await queue.enqueue(flow(number(place)), batch="march")
    for place, job in enumerate(await queue.find()):
        words = Suppression(number=job.destination, since=NOW, reason=f"asked by {place}").in_words()
        kind = ReasonKind.SUPPRESSED if place < 4 else None
        if place < 6:
            await commit(store, [moved(job, state=JobState.CANCELLED, reason=words, reason_kind=kind)])
    found = Counter(filter(None, map(why_nobody_was_reached, await queue.find())))
    listed = "one of its numbers, or that of a second party, is on the suppression list"
    assert [(each.partition(" since ")[0], count) for each, count in found.most_common()] == [
        (f"cancelled: {listed}", 4),
        ("cancelled: its number has been on the suppression list", 1),
        ("cancelled: its number has been on the suppression list", 1),
    ]
