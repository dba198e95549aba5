"""The list of batches, and the figures of a report that need each call to be read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.contract.samples import NOW, ManualClock, add_jobs, commit, moved, sample_job
from tests.support.flows import flow, number
from voiceflow_worker import CallQueue, Store
from voiceflow_worker.backends.memory.store import MemoryStore
from voiceflow_worker.core.base.identity import BATCH_KEPT, PROGRAMS, BatchNames, batch_puts
from voiceflow_worker.core.drain import clock_behind
from voiceflow_worker.core.ports.store import BulkWrite, Write
from voiceflow_worker.core.suppression import Suppression
from voiceflow_worker.core.writes import inserted
from voiceflow_worker.model.jobs.job import JobState, KeyPress, Post, ReasonKind
from voiceflow_worker.model.reports.outcome import CallLeg, Charge, Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import VerdictKind
from voiceflow_worker.reporting import breakdown
from voiceflow_worker.reporting.batches import BATCHES_A_PAGE, read_batches, read_newest
from voiceflow_worker.reporting.breakdown import (
    Breakdown,
    Figures,
)
from voiceflow_worker.reporting.report import build_full_report

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
        await CallQueue(store).enqueue(flow(number(0)), batch_id=batch)
        clock.advance(timedelta(minutes=1))
    assert await names_of(store) == [["two", "one"]]
    assert [each.name for each in await BatchNames(store, "default").page(of=[PROGRAMS])] == ["two", "one"]
    clock.advance(BATCH_KEPT)
    assert await BatchNames(store, "default").page() == []


async def test_what_is_in_progress_comes_first_and_ended_batches_of_programs_come_last() -> None:
    clock = ManualClock(NOW)
    store = MemoryStore(clock=clock)
    ended = JobState.COMPLETED
    for name, state, is_campaign in (
        ("old campaign", ended, True), ("waiting", JobState.QUEUED, False), ("new campaign", ended, True),
        ("alarm", ended, False), ("another alarm", ended, False),
    ):  # fmt: skip
        await made(store, name, state=state, is_campaign=is_campaign)
        clock.advance(timedelta(seconds=1))
    found = await read_newest(store, ["default"], limit=3)
    assert [each.batch_id for each in found] == ["waiting", "new campaign", "old campaign", "another alarm"]
    for place in range(5):
        await made(store, f"for later {place}", state=JobState.QUEUED, is_campaign=True)
    due = {("default", "waiting"): clock.now()}
    found = await read_newest(store, ["default"], limit=2, due=due)
    assert [each.batch_id for each in found] == ["waiting", "for later 0", "new campaign", "old campaign"], "due first"


SINGAPORE, LONDON, NOWHERE = "+6587654321", "+447700900123", "+80012345678"
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
MET = (CallLeg(destination=SINGAPORE, status="Completed"), CallLeg(destination="+6531234567", status="BUSY"))
"""The legs of a call that connects two people. The person answered, and the second party was busy."""


def post(outcome: Outcome | None = None, *, at: datetime = NOW, **more: Any) -> Post:
    return Post(client_request_id="x", began_at=at, valid_until=at, outcome=outcome, **{"number": 1, **more})


def ended(status: SessionStatus, *, at: datetime = NOW, **more: Any) -> Outcome:
    """A session that took ten seconds."""
    return Outcome(status=status, status_text=status.value, started_at=at, ended_at=at + 10 * SECOND, **more)


def keyed(digits: str) -> Post:
    return post(presses=(KeyPress(at=NOW, menu="main", digits=digits),))


def price(amount: str, currency: str | None) -> Charge:
    return Charge(price=Decimal(amount), currency=currency)


CALLS: list[dict[str, Any]] = [
    {"posts": (post(ended(SessionStatus.NO_ANSWER, seconds=30, legs=MET), charge=price("0.02", "SGD")),)},
    {
        "destination": LONDON,
        "posts": (
            post(ended(SessionStatus.BUSY), charge=price("0.0125", "USD")),
            post(ended(SessionStatus.COMPLETED, at=NOW + HOUR, seconds=12.25), number=2, at=NOW + HOUR),
        ),
    },
    {"posts": (post(verdict=VerdictKind.REFUSED, code=-1014), post(verdict=VerdictKind.NOT_SENT, number=2))},
    {"posts": (post(verdict=VerdictKind.REFUSED),)},
    {"posts": (post(verdict=VerdictKind.UNKNOWN, at=NOW - SECOND, charge=price("3", None)),)},
    {"state": JobState.CANCELLED, "reason": "a wrong date | and more", "time_zone": "Asia/Kathmandu"},
    {"state": JobState.CANCELLED, "destination": NOWHERE},
]
"""Calls that each count in another way."""


async def test_the_times_of_8x8_do_not_make_the_clock_look_behind(store: Store) -> None:
    """A sandbox that runs fast, or 8x8's own clock, may say that a session ends later than it is."""
    told = ended(SessionStatus.BUSY, at=NOW + HOUR)
    await add_jobs(store, [sample_job(1, posts=(post(told),)), sample_job(2, posts=(post(told),), created_at=NOW)])
    assert await clock_behind(store, "default", allowed=10 * SECOND) is None
    await add_jobs(store, [sample_job(3, created_at=NOW + HOUR)])
    found = await clock_behind(store, "default", allowed=10 * SECOND)
    assert found is not None
    assert found.by == HOUR


async def test_each_call_counts_once_in_each_figure_whatever_the_pages(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breakdown, "PAGE", 2)
    fields = {"batch_id": "march", "destination": SINGAPORE}
    jobs = [sample_job(place, **{**fields, **call}) for place, call in enumerate(CALLS)]
    await add_jobs(store, [*jobs, sample_job(99, batch_id="april")])
    found = (await build_full_report(store, "default", "march")).breakdown
    assert found is not None
    assert found == Breakdown(
        time_zone="Asia/Singapore",
        failures={"cancelled: a wrong date | and more": 1, "cancelled: no reason": 1},
        by_hour={20: Figures(2, 2, 1), 21: Figures(1, 1, 1)},
        by_country={
            "SG": Figures(5, 1, 1, {"SGD": Decimal("0.02")}),
            "GB": Figures(1, 1, 1, {"USD": Decimal("0.0125")}),
            None: Figures(1),
        },
        attempts={0: 4, 1: 2, 2: 1},
        digits={},
        dead_numbers=0,
        bad_sound=0,
        answered_seconds=42.25,
        began_at=NOW - SECOND,
        ended_at=NOW + HOUR + 10 * SECOND,
    )


async def test_the_durations_are_those_of_every_attempt(store: Store) -> None:
    attempts = [(SessionStatus.COMPLETED, 30.0), (SessionStatus.BUSY, 2.5), (SessionStatus.COMPLETED, 12.25)]
    posts = [post(ended(status, seconds=length), number=n) for n, (status, length) in enumerate(attempts, 1)]
    jobs = [sample_job(n, batch_id="march", posts=tuple(posts[:n])) for n in (1, 2, 3)]
    await add_jobs(store, jobs)
    found = (await build_full_report(store, "default", "march")).as_json()
    assert (found["seconds"], found["answered_seconds"]) == (30 * 3 + 2.5 * 2 + 12.25, 30 * 3 + 12.25)
    assert found["answered"] == 2


async def test_reasons_that_differ_from_call_to_call_are_counted_together(store: Store) -> None:
    """By their kind: what a person writes is never taken for one of them."""
    queue = CallQueue(store)
    for place in range(7):
        await queue.enqueue(flow(number(place)), batch_id="march")
    for place, job in enumerate(await queue.find()):
        words = Suppression(number=job.destination, since=NOW, reason=f"asked by {place}").in_words()
        kind = ReasonKind.SUPPRESSED if place < 4 else None
        if place < 6:
            await commit(store, [moved(job, state=JobState.CANCELLED, reason=words, reason_kind=kind)])
    found = (await queue.report("march")).breakdown
    assert found is not None
    listed = "one of its numbers, or that of a second party, is on the suppression list"
    assert [(each.partition(" since ")[0], count) for each, count in found.failures.items()] == [
        (f"cancelled: {listed}", 4),
        ("cancelled: its number has been on the suppression list", 1),
        ("cancelled: its number has been on the suppression list", 1),
    ]


def test_reasons_of_people_and_keys_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breakdown, "_MOST_TEXTS", 20)
    monkeypatch.setattr(breakdown, "_KEPT_TEXTS", 3)
    monkeypatch.setattr(breakdown, "_MOST_KEYS", 10)
    count = breakdown.BreakdownCount()
    reasons = ["wrong date" if place % 3 == 0 else f"order {place}" for place in range(300)]
    count.add(
        sample_job(place, state=JobState.CANCELLED, reason=reason, posts=(keyed("1" if place % 2 else str(place)),))
        for place, reason in enumerate(reasons)
    )
    digits = count.result().digits
    assert (digits["1"], sum(digits.values()), len(digits) <= 10) == (150, 300, True)
    found = count.result().failures
    assert found["cancelled: wrong date"] == 100
    assert sum(found.values()) == 300
    assert len(found) < 30


def test_a_time_at_the_beginning_of_1970_counts() -> None:
    began = datetime(1970, 1, 1, tzinfo=UTC)
    count = breakdown.BreakdownCount()
    count.add([sample_job(1, time_zone="UTC", posts=(post(ended(SessionStatus.COMPLETED, at=began), at=began),))])
    found = count.result()
    assert (found.began_at, found.ended_at) == (began, began + 10 * SECOND)
    assert found.by_hour == {0: Figures(1, 1, 1)}
