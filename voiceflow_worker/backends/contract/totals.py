"""The contract of `Jobs.totals`."""
# The name of a test is its documentation.

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from random import Random

import pytest

from voiceflow_worker.backends.contract.ground import Ground
from voiceflow_worker.backends.contract.samples import NOW, QUEUE, add_jobs, commit, delete, enqueued, moved, sample_job
from voiceflow_worker.core.ports import Move, Query, Store
from voiceflow_worker.model.jobs.job import Job, JobState, KeyPress, Post
from voiceflow_worker.model.jobs.totals import STATE, tally_of
from voiceflow_worker.model.reports.charge import Charge
from voiceflow_worker.model.reports.outcome import Outcome
from voiceflow_worker.model.reports.status import SessionStatus
from voiceflow_worker.model.reports.verdict import VerdictKind

DAY = timedelta(days=1)
BATCHES = (None, "spring", "autumn")
ODD_TEXTS = ('say "no"', "back\\slash", "nul\0", "half \ud800 pair", "Ünïcode ☎", "x" * 300, "{}[]:,|=")


def post(
    number: int = 1,
    *,
    status: SessionStatus | None = None,
    text: str = "",
    seconds: float | None = None,
    digits: str = "",
    answer: str | None = None,
    price: str = "",
) -> Post:
    """A POST that 8x8 accepted. With `status` or `text`, it has an outcome."""
    known = status is not None or text
    return Post(
        number=number,
        client_request_id=f"r.{number}",
        began_at=NOW,
        valid_until=NOW + DAY,
        verdict=VerdictKind.CREATED,
        outcome=Outcome(status=status, status_text=text, seconds=seconds) if known else None,
        presses=(KeyPress(at=NOW, menu="m", digits=digits, answer=answer),) if digits else (),
        charge=Charge(price=Decimal(price), currency="SGD") if price else None,
    )


async def counted(store: Store, queue: str, batch_id: str | None) -> Mapping[str, int]:
    """The totals of the stored jobs, counted from the jobs themselves."""
    counts: Counter[str] = Counter()
    for job in await store.jobs.find(Query(queue=queue, batch_id=batch_id, limit=None)):
        counts.update({STATE + job.state: 1, **tally_of(job)})
    return counts


async def totals_are_exact(store: Store) -> None:
    """Check the totals of the queue and of all batches against a count of their jobs."""
    for batch_id in BATCHES:
        assert dict((await store.jobs.totals(QUEUE, batch_id=batch_id)).live) == await counted(store, QUEUE, batch_id)
        states = (await store.jobs.totals(QUEUE, batch_id=batch_id)).states
        assert await store.jobs.count(QUEUE, batch_id=batch_id) == states


class TotalsContract(Ground):
    """Tests of the totals of queues and batches."""

    async def test_an_unknown_queue_or_batch_has_no_totals(self, store: Store) -> None:
        for batch_id in (None, "nothing"):
            totals = await store.jobs.totals("nobody", batch_id=batch_id)
            assert (dict(totals.live), dict(totals.pruned)) == ({}, {})

    async def test_totals_follow_a_call_from_its_enqueueing_to_its_price(self, store: Store) -> None:
        job = await enqueued(store, batch_id="spring")
        assert dict((await store.jobs.totals(QUEUE, batch_id="spring")).live) == {"state:queued": 1}
        [leased] = await store.jobs.lease(QUEUE, worker_id="w", limit=9, lease_for=DAY, now=NOW)
        assert dict((await store.jobs.totals(QUEUE, batch_id="spring")).live) == {"state:leased": 1}
        sent = moved(leased, state=JobState.SUBMITTED, posts=(post(),))
        assert await commit(store, [sent]) == [True]
        assert dict((await store.jobs.totals(QUEUE)).live) == {"state:submitted": 1, "placed": 1}
        ended = moved(
            sent.new, state=JobState.COMPLETED, posts=(post(status=SessionStatus.COMPLETED, seconds=12.25, digits="1"),)
        )
        confirmed = post(status=SessionStatus.COMPLETED, seconds=12.25, digits="1", answer="confirmed", price="0.0288")
        priced = moved(ended.new, posts=(confirmed,))
        assert await commit(store, [ended]) == [True]
        assert (await store.jobs.totals(QUEUE)).other_keys == 1
        assert await commit(store, [priced]) == [True]
        for totals in (await store.jobs.totals(QUEUE), await store.jobs.totals(QUEUE, batch_id="spring")):
            assert totals.states[JobState.COMPLETED] == 1
            assert (totals.outcomes, totals.answers) == ({SessionStatus.COMPLETED.value: 1}, {"confirmed": 1})
            assert totals.other_keys == 0
            assert (totals.answered, totals.placed, totals.priced, totals.seconds) == (1, 1, 1, 12.25)
            assert totals.cost == {"SGD": Decimal("0.0288")}
        assert (await store.jobs.totals(QUEUE, batch_id="autumn")).outcomes == {}
        assert job.batch_id == "spring"

    async def test_a_redial_replaces_the_outcome_that_was_counted(self, store: Store) -> None:
        job = await enqueued(store, state=JobState.QUEUED, posts=(post(status=SessionStatus.BUSY),))
        assert (await store.jobs.totals(QUEUE)).outcomes == {SessionStatus.BUSY.value: 1}
        again = (post(status=SessionStatus.BUSY), post(2, status=SessionStatus.COMPLETED))
        assert await commit(store, [moved(job, state=JobState.COMPLETED, posts=again)]) == [True]
        assert (await store.jobs.totals(QUEUE)).outcomes == {SessionStatus.COMPLETED.value: 1}

    async def test_a_move_that_is_refused_or_was_made_before_is_not_counted(self, store: Store) -> None:
        job = await enqueued(store)
        move = moved(job, state=JobState.COMPLETED, posts=(post(status=SessionStatus.COMPLETED),))
        assert await commit(store, [move]) == [True]
        assert await commit(store, [move]) == [True]
        assert await commit(store, [moved(job, posts=(post(status=SessionStatus.BUSY),))]) == [False]
        await add_jobs(store, [job])
        assert (await store.jobs.totals(QUEUE)).outcomes == {SessionStatus.COMPLETED.value: 1}
        await totals_are_exact(store)

    async def test_a_deleted_job_stays_in_the_totals_of_its_batch(self, store: Store) -> None:
        ended = {"state": JobState.COMPLETED, "posts": (post(status=SessionStatus.COMPLETED, seconds=2.0),)}
        jobs = [await enqueued(store, number, batch_id="spring", **ended) for number in (1, 2)]
        assert await delete(store, jobs[:1], keep_keys_until=NOW) == [True]
        of_batch = await store.jobs.totals(QUEUE, batch_id="spring")
        assert of_batch.outcomes == {SessionStatus.COMPLETED.value: 2}
        assert (of_batch.answered, of_batch.seconds) == (2, 4.0)
        assert of_batch.states[JobState.COMPLETED] == of_batch.pruned_states[JobState.COMPLETED] == 1
        assert (await store.jobs.totals(QUEUE)).outcomes == {SessionStatus.COMPLETED.value: 1}
        await totals_are_exact(store)

    async def test_totals_of_a_batch_go_with_its_last_job(self, store: Store) -> None:
        ended = {"state": JobState.COMPLETED, "posts": (post(status=SessionStatus.COMPLETED),)}
        jobs = [await enqueued(store, number, batch_id="spring", **ended) for number in (1, 2)]
        for job in jobs:
            assert await delete(store, [job], keep_keys_until=NOW) == [True]
        totals = await store.jobs.totals(QUEUE, batch_id="spring")
        assert (dict(totals.live), dict(totals.pruned)) == ({}, {})
        await enqueued(store, 3, batch_id="spring")
        assert (await store.jobs.totals(QUEUE, batch_id="spring")).outcomes == {}

    async def test_a_deleted_job_without_a_batch_is_in_no_totals(self, store: Store) -> None:
        job = await enqueued(store, state=JobState.COMPLETED, posts=(post(status=SessionStatus.BUSY, digits="77"),))
        assert await delete(store, [job], keep_keys_until=NOW) == [True]
        totals = await store.jobs.totals(QUEUE)
        assert (dict(totals.live), dict(totals.pruned)) == ({}, {})

    @pytest.mark.parametrize("text", ODD_TEXTS)
    async def test_any_text_of_8x8_can_be_counted(self, store: Store, text: str) -> None:
        job = await enqueued(store, batch_id="spring", posts=(post(text=text, digits="1", answer=text),))
        totals = await store.jobs.totals(QUEUE, batch_id="spring")
        assert list(totals.outcomes.values()) == list(totals.answers.values()) == [1]
        await totals_are_exact(store)
        assert await commit(store, [moved(job, posts=())]) == [True]
        assert (await store.jobs.totals(QUEUE)).outcomes == {}

    @pytest.mark.parametrize("seconds", [1e300, float("inf"), -1.0, 0.0])
    async def test_any_duration_can_be_counted(self, store: Store, seconds: float) -> None:
        for number in (1, 2):
            await enqueued(store, number, posts=(post(status=SessionStatus.BUSY, seconds=seconds),))
        await totals_are_exact(store)

    async def test_totals_are_counted_by_queue(self, store: Store) -> None:
        await add_jobs(store, [sample_job(1, batch_id="spring"), sample_job(2, queue="other")])
        assert (await store.jobs.totals("other")).live == {"state:queued": 1}
        assert (await store.jobs.totals("other", batch_id="spring")).live == {}

    @pytest.mark.parametrize("seed", range(8))
    async def test_totals_equal_a_count_after_random_changes(self, store: Store, other: Store, seed: int) -> None:
        chance = Random(seed)
        jobs: dict[str, Job] = {}
        for step in range(60):
            through = chance.choice([store, other])
            what = chance.choice(["enqueue", "enqueue", "lease", "move", "move", "move", "move", "delete"])
            if what == "enqueue":
                new = [
                    sample_job(10 * step + place, batch_id=chance.choice(BATCHES), **_random_fields(chance))
                    for place in range(chance.randint(1, 5))
                ]
                await add_jobs(through, new)
                jobs |= {job.id: job for job in new}
            elif what == "lease":
                batch_id = chance.choice(BATCHES)
                leased = await through.jobs.lease(
                    QUEUE, worker_id="w", limit=3, lease_for=DAY, now=NOW, batch_id=batch_id
                )
                jobs |= {job.id: job for job in leased}
            elif jobs:
                some = chance.sample(sorted(jobs), min(len(jobs), chance.randint(1, 4)))
                if what == "delete":
                    await delete(through, [jobs.pop(each) for each in some], keep_keys_until=NOW)
                else:
                    moves = [_random_move(jobs[each], chance) for each in some]
                    assert all(await commit(through, moves))
                    jobs |= {move.new.id: move.new for move in moves}
            if step % 10 == 9:
                await totals_are_exact(store)


def _random_fields(chance: Random) -> dict[str, object]:
    posts = tuple(
        post(
            number,
            status=chance.choice([None, *SessionStatus]),
            seconds=chance.choice([None, 0.5, 61.125]),
            digits=chance.choice(["", "", "1", "12"]),
            answer=chance.choice([None, "confirmed", "cancelled"]),
            price=chance.choice(["", "0.0288", "12"]),
        )
        for number in range(1, chance.randint(1, 4))
    )
    return {"state": chance.choice(list(JobState)), "posts": posts}


def _random_move(job: Job, chance: Random) -> Move:
    fields = _random_fields(chance)
    if chance.random() < 0.3:
        del fields["posts"]
    return moved(job, **fields)
