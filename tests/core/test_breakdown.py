"""The figures of a report, read by a path of their own, are those of a plain count over all calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

import pytest

from tests.support import plain_breakdown as plain
from tests.support.flows import flow, number
from tests.support.plain_breakdown import plain_breakdown
from voiceflow_worker import CallQueue, Job, Store
from voiceflow_worker.backends.contract import NOW, moved, sample_job
from voiceflow_worker.core.numbers.suppression import SuppressionList
from voiceflow_worker.core.overview import breakdown
from voiceflow_worker.core.overview.report import build_full_report
from voiceflow_worker.core.ports import Query
from voiceflow_worker.model.jobs.job import JobState, Post
from voiceflow_worker.model.records.facts import facts_of
from voiceflow_worker.model.reports.charge import Charge
from voiceflow_worker.model.reports.outcome import CallLeg, Outcome
from voiceflow_worker.model.reports.status import REACHED, SessionStatus
from voiceflow_worker.model.reports.verdict import VerdictKind

pytestmark = pytest.mark.anyio

CURRENCIES = ["USD", "SGD", None, 'odd | "one"\n']
ZONES = [None, "Asia/Singapore", "Europe/London", "Asia/Kathmandu", 'no zone, "but" ☎\0']
NUMBERS = ["+6587654321", "+447700900123", "+12025550123", "+14165550123", "+80012345678", "+999123456789"]


def some_post(number: int, random: Random) -> Post:
    began = NOW + timedelta(seconds=random.randrange(10**6))
    legs = [
        CallLeg(destination=random.choice(NUMBERS), status=random.choice(["BUSY", "Completed", None])) for _ in "ab"
    ]
    outcome = Outcome(
        status=random.choice([*SessionStatus, None]),
        status_text="?",
        code=random.choice([None, None, -1015, -2007]),
        started_at=random.choice([None, began + timedelta(minutes=random.randrange(300))]),
        ended_at=random.choice([None, began + timedelta(minutes=300, seconds=9)]),
        seconds=random.choice([None, 7, 12.25, random.random()]),
        legs=tuple(legs[: random.randrange(3)]),
        is_partial=random.random() < 0.2,
    )
    return Post(
        number=number,
        client_request_id=f"x.{number}",
        began_at=began,
        valid_until=began,
        verdict=random.choice([*VerdictKind, None]),
        code=random.choice([None, -1008, -1014]),
        outcome=random.choice([None, outcome]),
        charge=random.choice([None, Charge(price=Decimal("0.0125"), currency=random.choice(CURRENCIES))]),
    )


REASONS = ["a wrong date | and more", "cancelled by Mary", None]


def some_job(place: int, random: Random) -> Job:
    is_cancelled = random.random() < 0.2
    return sample_job(
        place,
        destination=random.choice(NUMBERS),
        batch_id=random.choice([None, "march"]),
        time_zone=random.choice(ZONES),
        state=JobState.CANCELLED if is_cancelled else JobState.QUEUED,
        reason=random.choice(REASONS),
        posts=tuple(some_post(number, random) for number in range(1, 1 + random.randrange(4))),
    )


@pytest.mark.parametrize("batch_id", [None, "march"])
async def test_a_report_has_the_figures_of_a_count_over_all_calls(
    store: Store, batch_id: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breakdown, "PAGE", 70)
    monkeypatch.setattr(breakdown, "_MOST_PRICES", 2)
    for counting, name in ((breakdown, "_MOST_LOOKED_UP"), (plain, "MOST_LOOKED_UP")):
        monkeypatch.setattr(counting, name, 20)
    random = Random(11)
    await store.jobs.enqueue([some_job(place, random) for place in range(300)], now=NOW)
    found = await store.jobs.find(Query(queue="default", batch_id=batch_id, limit=None))
    expected = plain_breakdown(found)
    assert (await build_full_report(store, "default", batch_id)).breakdown == expected
    assert len(expected.by_country) == 5
    assert len(expected.by_hour) > 15
    assert len(expected.refusals) == 3
    assert {each.reason for each in expected.cancellations} == {*filter(None, REASONS), "no reason"}
    assert set(expected.attempts) == {0, 1, 2, 3}
    assert expected.attempts == Counter(job.attempt for job in found)
    assert sum(each.answered for each in expected.by_country) == sum(job.outcome_status in REACHED for job in found)
    for currency in ("USD", "SGD"):
        spent = sum(each.cost.get(currency, Decimal(0)) for each in expected.by_country)
        assert spent == sum(job.cost.get(currency, Decimal(0)) for job in found)
    assert expected.began_at == min(post.began_at for job in found for post in job.posts if post.may_have_rung)


async def test_a_report_follows_the_moves_of_calls(store: Store) -> None:
    random = Random(7)
    jobs = [some_job(place, random) for place in range(60)]
    await store.jobs.enqueue(jobs, now=NOW)
    for _ in range(4):
        moves = [
            moved(job, state=random.choice(list(JobState)), posts=some_job(0, random).posts)
            for job in random.sample(jobs, 25)
        ]
        assert all(await store.jobs.commit(moves))
        await store.jobs.lease("default", worker_id="w", limit=5, lease_for=timedelta(hours=1), now=NOW)
        jobs = list(await store.jobs.find(Query(queue="default", limit=None)))
        assert (await build_full_report(store, "default", None)).breakdown == plain_breakdown(jobs)


async def test_a_report_that_also_reads_every_call_has_the_same_figures(store: Store) -> None:
    random = Random(5)
    await store.jobs.enqueue([some_job(place, random) for place in range(30)], now=NOW)
    read: list[Job] = []

    async def note(page: Sequence[Job]) -> None:
        read.extend(page)

    found = await build_full_report(store, "default", None, also=note)
    assert found.breakdown == plain_breakdown(read) == (await build_full_report(store, "default", None)).breakdown


async def test_reasons_that_differ_from_call_to_call_are_counted_together(store: Store) -> None:
    queue = CallQueue(store)
    for place in range(4):
        await queue.enqueue(flow(number(place)), batch_id="march")
    suppressed = [number(place) for place in range(2)]
    for each in suppressed:
        await SuppressionList(store).add(each, reason=f"asked by {each}")
    for job in await queue.find():
        listed = (await SuppressionList(store).standing([job.destination])).get(job.destination)
        await queue.cancel(job.id, reason=listed.in_words() if listed else "wrong text")
    found = (await queue.report("march")).breakdown
    assert found is not None
    assert [(each.reason, each.count) for each in found.cancellations] == [
        ("its number, or that of a second party, is on the suppression list", 2),
        ("wrong text", 2),
    ]


def test_the_memory_does_not_grow_with_the_reasons_of_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breakdown, "_MOST_REASONS", 20)
    monkeypatch.setattr(breakdown, "_KEPT_REASONS", 3)
    count = breakdown.BreakdownCount()
    for place in range(300):
        reason = "wrong date" if place % 3 == 0 else f"order {place}"
        count.add(facts_of(sample_job(place, state=JobState.CANCELLED, reason=reason)))
    found = count.result().cancellations
    assert {each.reason: each.count for each in found}["wrong date"] == 100
    assert sum(each.count for each in found) == 300
    assert len(found) < 30


def test_a_time_at_the_beginning_of_1970_counts() -> None:
    began = datetime(1970, 1, 1, tzinfo=UTC)
    outcome = Outcome(status=SessionStatus.COMPLETED, status_text="COMPLETED", started_at=began, ended_at=began)
    post = replace(some_post(1, Random(3)), began_at=began, verdict=VerdictKind.CREATED, outcome=outcome)
    job = sample_job(1, posts=(post,))
    count = breakdown.BreakdownCount()
    count.add(facts_of(job))
    assert count.result() == plain_breakdown([job])
    assert count.result().ended_at == began
