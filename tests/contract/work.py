"""The contract of leases, of send slots, and of waiting."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

import anyio
import pytest

from voiceflow_worker.core.ports.controls import Limits, hold_put, limits_put
from voiceflow_worker.core.ports.reads import Due
from voiceflow_worker.core.ports.store import AtMost, BulkWrite, Drop, Put, Result, Slot, Store, Write
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.jobs.admission import PRIORITIES
from voiceflow_worker.model.jobs.gate import Gate, GateState, HoldKind
from voiceflow_worker.model.jobs.gcra import SendSlot
from voiceflow_worker.model.jobs.job import JobState

from .samples import NOW, QUEUE, Ground, sample_job, sample_jobs
from .writing import (
    DAY,
    DONE,
    MICROSECOND,
    MINUTE,
    STALE,
    answers,
    gated,
    held,
    job_of,
    leased,
    new,
    next_of,
    put,
    results_of,
    states,
    stored,
    to,
)

SECOND = timedelta(seconds=1)


async def limit(store: Store, queue: str = QUEUE, **limits: float) -> None:
    """Set the limits of a queue."""
    assert await results_of(store, Write(puts=(limits_put(queue, Limits(**limits)),))) == [DONE]  # type: ignore[arg-type]


class LeaseContract(Ground):
    """Leasing."""

    async def test_the_most_urgent_are_leased_first(self, store: Store) -> None:
        await stored(
            store,
            sample_job(1, due_at=NOW - MINUTE),
            sample_job(2, due_at=NOW),
            sample_job(3, priority=1),
            sample_job(4, due_at=NOW - MINUTE),
            sample_job(5, due_at=NOW + MICROSECOND, priority=9),
            sample_job(6, queue="reminders"),
        )
        assert await leased(store, 2) == [3, 1]
        assert await leased(store) == [4, 2]
        assert await leased(store) == []
        assert await leased(store, now=NOW + MICROSECOND) == [5]

    async def test_priorities_are_exact_over_their_whole_range(self, store: Store) -> None:
        wanted = [PRIORITIES[-1], PRIORITIES[-1] - 1, 1, 0, -1, PRIORITIES[0] + 1, PRIORITIES[0]]
        # The least urgent is due first: only the priority puts them in this order.
        jobs = [sample_job(at, priority=each, due_at=NOW - at * SECOND) for at, each in enumerate(wanted)]
        await stored(store, *jobs[::-1])
        assert [at for _ in wanted for at in await leased(store, 1)] == list(range(len(wanted)))

    async def test_jobs_of_many_batches_and_priorities_are_leased_in_one_order(self, store: Store) -> None:
        jobs = [
            sample_job(
                number, batch_id=f"b{number % 7}" if number % 5 else None, priority=number * 31 % 11 - 5,
                due_at=NOW + (number * 7919 % 13 - 6) * SECOND, goes_first=number % 4 == 0,
            )
            for number in range(1, 301)
        ]  # fmt: skip
        await stored(store, *jobs)
        order = {job.id: (-job.priority, not job.goes_first, job.due_at, job.id) for job in jobs}
        for now, limit in ((NOW - 3 * SECOND, 40), (NOW, 60), (NOW + MINUTE, 300)):
            queued = await store.jobs(Due(queue=QUEUE, state=JobState.QUEUED), now=now)
            due = sorted((job for job in queued if job.due_at <= now), key=lambda job: order[job.id])
            taken = await store.lease(QUEUE, worker_id="w", limit=limit, until=now + DAY, now=now)
            assert [job.id for job in taken] == [job.id for job in due[:limit]]
            assert len({job.revision for job in taken}) == len(taken)

    async def test_a_leased_job_is_its_workers_until_the_lease_ends(self, store: Store, other: Store) -> None:
        job = (await stored(store, sample_job(batch_id="b")))[0]
        (mine,) = await store.lease(QUEUE, worker_id="w", limit=1, until=NOW + MINUTE, now=NOW)
        assert mine == replace(job, state=JobState.LEASED, worker_id="w", due_at=NOW + MINUTE, revision=mine.revision)
        assert mine.revision != job.revision
        assert await job_of(other, job) == mine
        assert await states(store) == await states(store, "b") == {"leased": 1}
        assert await leased(store, now=NOW + DAY) == []
        assert await results_of(store, to(job, next_of(job))) == [STALE]
        assert await results_of(store, to(mine, next_of(mine, state=JobState.QUEUED, due_at=NOW))) == [DONE]
        assert await leased(other) == [1]

    async def test_no_job_is_leased_twice(self, store: Store, other: Store) -> None:
        await stored(store, *sample_jobs(60))
        taken: list[int] = []

        async def take(handle: Store) -> None:
            while got := await leased(handle, 7):
                taken.extend(got)

        async with anyio.create_task_group() as group:
            for handle in (store, other, store, other):
                group.start_soon(take, handle)
        assert sorted(taken) == list(range(1, 61))

    async def test_a_closed_gate_keeps_its_jobs_back(self, store: Store) -> None:
        await stored(store, sample_job(1, batch_id="b"), sample_job(2, batch_id="c"), sample_job(3))
        await results_of(store, gated(GateState.HELD, until=NOW + MINUTE))
        assert await leased(store) == []
        await results_of(store, gated(GateState.OPEN), gated(GateState.HELD, batch="b"))
        await results_of(store, gated(GateState.CANCELLED, batch="c"))
        assert await leased(store, batch="b") == []
        assert await leased(store) == [3]
        await results_of(store, gated(GateState.OPEN, batch="b"))
        assert await leased(store) == [1]

    async def test_each_hold_of_a_batch_keeps_its_calls_back_until_it_is_dropped(self, store: Store) -> None:
        gate = Gate.of(QUEUE, "b =1", GateState.HELD, since=NOW, reason="cut")
        first, second = (hold_put(replace(gate, holder=kind, token="t")) for kind in (HoldKind.IMPORT, HoldKind.TASK))
        await stored(store, sample_job(1, batch_id="b =1", priority=3), sample_job(2), sample_job(3, batch_id="b"))
        await results_of(store, Write(puts=(first, second)))
        assert await leased(store) == [2, 3]
        assert await leased(store, batch="b =1") == []
        later = NOW + MINUTE
        await results_of(store, gated(GateState.HELD, batch="b =1", until=later))

        def dropped(put: Put, value: str | None) -> Write:
            return Write(drops=(Drop(put.namespace, put.group, value, put.member),), wakes=QUEUE)

        await results_of(store, dropped(first, None), dropped(second, "that of another"))
        assert await leased(store, now=later) == [], "each order drops its own under its value"
        await results_of(store, dropped(second, second.value))
        assert await leased(store) == [], "nor does that open the gate of a person"
        assert await leased(store, limit=1, now=later) == [1]

    async def test_a_hold_ends_by_itself(self, store: Store) -> None:
        await stored(store, sample_job(1, batch_id="b"), sample_job(2))
        await results_of(store, gated(GateState.HELD, batch="b", until=NOW + MINUTE))
        assert await leased(store) == [2]
        assert await leased(store, now=NOW + MINUTE) == [1]

    async def test_many_calls_that_may_not_leave_hide_nobody(self, store: Store) -> None:
        held = [sample_job(n, batch_id="b", priority=9) for n in range(1, 701)]
        late = [sample_job(n, valid_until=NOW, due_at=NOW - MINUTE, priority=n % 2) for n in range(701, 1901)]
        not_due = [sample_job(n, due_at=NOW + MINUTE, priority=9) for n in range(1901, 2001)]
        free = [
            sample_job(2001, priority=1, due_at=NOW - SECOND),
            sample_job(2002, priority=1, batch_id="c", due_at=NOW - MINUTE),
            sample_job(2003, priority=5, batch_id="d"),
            sample_job(2004, batch_id="d"),
        ]
        for some in (held, late, not_due, free):
            await stored(store, *some)
        await results_of(store, gated(GateState.HELD, batch="b"))
        assert await self.all_of(store, 2) == [2003, 2002, 2001, 2004]
        # A call must still be made in its time after a clock had jumped ahead for a moment.
        assert await leased(store, 3, now=NOW - MINUTE) == [701, 703, 705]
        await results_of(store, gated(GateState.OPEN, batch="b"))
        assert await self.all_of(store, 400) == list(range(1, 701))

    async def all_of(self, store: Store, limit: int) -> list[int]:
        """What is leased until nothing is left. One lease may give fewer than its limit, but none only then."""
        taken: list[int] = []
        while some := await leased(store, limit):
            assert len(some) <= limit
            taken += some
        return taken

    async def test_many_closed_batches_hide_nobody_and_open_again(self, store: Store, other: Store) -> None:
        jobs = [sample_job(number, batch_id=f"b{number}", due_at=NOW - MINUTE) for number in range(1, 61)]
        await stored(store, *jobs, sample_job(100), sample_job(101))
        for number in range(1, 41):
            await results_of(
                store, gated(GateState.HELD, batch=f"b{number}", until=NOW + MINUTE if number > 20 else None)
            )
        assert await leased(store, 21) == [*range(41, 61), 100]
        assert await leased(store, now=NOW + MINUTE - MICROSECOND) == [101]
        await stored(store, sample_job(200, batch_id="b7", due_at=NOW - 2 * MINUTE))
        await results_of(other, gated(GateState.OPEN, batch="b30"), gated(GateState.OPEN, batch="b7"))
        assert await leased(store) == [200, 7, 30]
        assert await leased(store, 100, now=NOW + MINUTE) == [*range(21, 30), *range(31, 41)]

    async def test_a_batch_can_be_leased_alone(self, store: Store) -> None:
        await stored(
            store,
            sample_job(1, priority=5),
            sample_job(2, batch_id="b"),
            sample_job(3, batch_id="bb"),
            sample_job(4, batch_id="b", priority=1),
        )
        assert await leased(store, batch="b") == [4, 2]

    async def test_what_is_no_longer_valid_is_left_to_the_sweep(self, store: Store) -> None:
        await stored(store, sample_job(1, valid_until=NOW), sample_job(2, valid_until=NOW + MINUTE))
        assert await leased(store) == [2]
        # A clock that was ahead is set back.
        await stored(store, sample_job(3, valid_until=NOW, due_at=NOW - 3 * MINUTE))
        assert await leased(store) == []
        assert await leased(store, now=NOW - 2 * MINUTE) == [3]

    async def test_no_more_calls_are_open_than_allowed(self, store: Store) -> None:
        jobs = await stored(store, *sample_jobs(6))
        await limit(store, max_active=3)
        assert await leased(store) == [1, 2, 3]
        assert await leased(store) == []
        first = await job_of(store, jobs[0])
        assert first is not None
        sent = next_of(first, state=JobState.SENDING, active_until=NOW + MINUTE)
        await results_of(store, to(first, sent))
        assert await leased(store) == []
        assert await leased(store, now=NOW + MINUTE) == [4]
        await limit(store)
        assert await leased(store) == [5, 6]

    async def test_calls_that_ended_and_those_of_other_queues_are_not_open(self, store: Store) -> None:
        await limit(store, max_active=1)
        await stored(store, sample_job(9, queue="reminders", state=JobState.LEASED), *sample_jobs(4))
        (mine,) = await store.lease(QUEUE, worker_id="w", limit=9, until=NOW + MINUTE, now=NOW)
        sent = next_of(mine, state=JobState.IN_DOUBT, active_until=NOW + MINUTE)
        await results_of(store, to(mine, sent))
        assert await leased(store, now=NOW + MINUTE - MICROSECOND) == []
        await results_of(store, to(sent, next_of(sent, state=JobState.COMPLETED, active_until=None)))
        assert await leased(store) == [2]
        await limit(store, max_active=3)
        assert await leased(store) == [3, 4]

    async def test_a_leased_call_that_may_ring_counts_once(self, store: Store) -> None:
        await limit(store, max_active=2)
        await stored(store, *sample_jobs(3))
        (mine,) = await store.lease(QUEUE, worker_id="w", limit=1, until=NOW + MINUTE, now=NOW)
        await results_of(store, to(mine, next_of(mine, active_until=NOW + MINUTE)))
        assert await leased(store) == [2]

    async def test_workers_keep_to_the_open_calls_together(self, store: Store, other: Store) -> None:
        await limit(store, max_active=10)
        await stored(store, *sample_jobs(50))
        taken: list[int] = []

        async def take(handle: Store) -> None:
            taken.extend(await leased(handle, 4))

        async with anyio.create_task_group() as group:
            for handle in (store, other) * 5:
                group.start_soon(take, handle)
        assert sorted(taken) == list(range(1, 11))

    async def test_a_limit_of_zero_leases_nothing(self, store: Store) -> None:
        await stored(store, sample_job())
        assert await leased(store, 0) == await leased(store, -1) == []


class SlotContract(Ground):
    """Send slots: sentence 14 of `write`."""

    async def allotted(self, store: Store, wanted: int, *, now: datetime = NOW, ahead: float = 1) -> list[float]:
        """The slots of so many writes of one bulk write, in seconds after `NOW`; those that got none are left out."""
        slots = [each.at for each in await self.slots(store, now, wanted=wanted, ahead=ahead)]
        return [round((at - NOW).total_seconds(), 3) for at in slots if at is not None]

    async def slots(
        self, store: Store, now: datetime, *, wanted: int = 1, ahead: float = 0.1, queue: str = QUEUE
    ) -> list[SendSlot]:
        write = Write(slot=Slot(queue, now, now + timedelta(seconds=ahead)))
        answers = await store.write(BulkWrite(writes=(write,) * wanted), now=now)
        for each in answers:
            assert each.slot is not None
            assert each.result is (Result.NO_SLOT if each.slot.at is None else Result.DONE)
        return [each.slot for each in answers if each.slot is not None]

    async def test_without_a_rate_all_leave_at_once(self, store: Store) -> None:
        assert await self.allotted(store, 3) == [0, 0, 0]

    async def test_workers_share_the_rate(self, store: Store, other: Store) -> None:
        await limit(store, rate=2)
        assert await self.allotted(store, 2) == [0, 0.5]
        assert await self.allotted(other, 5) == [1]
        assert await self.slots(store, NOW, ahead=0) == [SendSlot(None, NOW + timedelta(seconds=1.5))]
        assert await self.allotted(other, 1, now=NOW + MINUTE) == [61], "the latest after a long pause"

    async def test_a_write_is_written_with_its_slot_or_not_at_all(self, store: Store) -> None:
        await limit(store, rate=1)
        jobs = await stored(store, sample_job(1), sample_job(2))
        slot = Slot(QUEUE, NOW, NOW + timedelta(seconds=0.5))
        writes = [replace(to(job, next_of(job), puts=(put(job.id),)), slot=slot) for job in jobs]
        first, second = await answers(store, *writes)
        assert (first.result, first.slot) == (DONE, SendSlot(NOW, NOW + SECOND))
        assert (second.result, second.slot) == (Result.NO_SLOT, SendSlot(None, NOW + SECOND))
        assert await held(store) == {jobs[0].id: "v"}
        later = replace(writes[1], slot=Slot(QUEUE, NOW + SECOND, NOW + SECOND))
        (again,) = await answers(store, later)
        assert (again.result, again.slot) == (DONE, SendSlot(NOW + SECOND, NOW + 2 * SECOND))

    async def test_a_refused_write_takes_no_slot_and_a_repeat_gets_none(self, store: Store) -> None:
        await limit(store, rate=1)
        (job,) = await stored(store, sample_job(1))
        await results_of(store, Write(puts=(put("held"),)))
        slot = Slot(QUEUE, NOW, NOW + SECOND)
        write = replace(to(job, next_of(job)), slot=slot)
        refused = replace(write, conditions=(AtMost("n", ("held",), 0),))
        stale = replace(to(next_of(job), next_of(job)), slot=slot)
        results = [(each.result, each.slot) for each in await answers(store, refused, stale, write, write)]
        assert results == [
            (Result.NOT_FREE, None),
            (STALE, None),
            (DONE, SendSlot(NOW, NOW + SECOND)),
            (DONE, None),
        ]
        assert await self.allotted(store, 1) == [1]

    async def test_a_burst_leaves_at_once_after_each_pause(self, store: Store) -> None:
        await limit(store, rate=1, burst=3)
        assert await self.allotted(store, 5) == [0, 0, 0, 1]
        assert await self.allotted(store, 5, now=NOW + 5 * SECOND) == [5, 5, 5, 6]
        # The time of the store may have been set meanwhile, so the burst waits for slots that may still be ahead.
        assert await self.allotted(store, 5, now=NOW + MINUTE) == [61, 61, 61]
        assert await self.allotted(store, 5, now=NOW + MINUTE + SECOND) == [62]

    async def test_each_queue_has_a_rate_of_its_own(self, store: Store) -> None:
        await limit(store, rate=1)
        await limit(store, "reminders", rate=1)
        await self.allotted(store, 5)
        assert await self.slots(store, NOW, queue="reminders") == [SendSlot(NOW, NOW + SECOND)]

    async def test_workers_who_ask_at_once_get_different_slots(self, store: Store, other: Store) -> None:
        await limit(store, rate=100)
        got: list[float] = []

        async def work(handle: Store) -> None:
            for wanted in (1, 3, 2):
                got.extend(await self.allotted(handle, wanted))

        async with anyio.create_task_group() as group:
            for handle in (store, other) * 5:
                group.start_soon(work, handle)
        assert sorted(got) == [number / 100 for number in range(60)]

    async def test_a_new_rate_counts_from_the_last_slot(self, store: Store) -> None:
        await limit(store, rate=1 / 3600)
        assert await self.allotted(store, 1) == [0]
        await limit(store, rate=10)
        assert await self.allotted(store, 3) == [0.1, 0.2, 0.3]
        # Other limits change no slot.
        await limit(store, rate=10, max_active=5)
        assert await self.allotted(store, 1) == [0.4]

    @pytest.mark.parametrize(("rate", "burst"), [(10.0, 1), (10.0, 5), (0.5, 1)])
    async def test_a_clock_that_was_set_back_stops_slots_until_all_know(
        self, store: Store, other: Store, rate: float, burst: int
    ) -> None:
        horizon, interval = timedelta(milliseconds=100), timedelta(seconds=1 / rate)
        await limit(store, rate=rate, burst=burst)
        for turn in range(20):
            await self.slots(store, NOW + timedelta(hours=1) + turn * horizon, wanted=10)
        (answer,) = await self.slots(other, NOW)
        assert answer == SendSlot(None, NOW + horizon + 10 * SECOND)
        assert await self.slots(store, NOW + 9 * SECOND) == [answer]
        start, got = NOW + 11 * SECOND, list[datetime]()
        for turn in range(101):
            found = await self.slots((store, other)[turn % 2], start + turn * horizon, wanted=10)
            got += [each.at for each in found if each.at is not None]
        assert got[0] <= start + horizon + interval
        gaps = [later - earlier for earlier, later in pairwise(got)]
        assert all(abs(gap - interval) < timedelta(milliseconds=1) for gap in gaps), "the slots follow the rate"
        assert got[-1] > start + 100 * horizon - interval

    @pytest.mark.parametrize("step", [-3600, -30, 30, 3600])
    async def test_the_rate_holds_while_workers_learn_one_after_the_other_that_the_clock_was_set(
        self, store: Store, other: Store, step: int
    ) -> None:
        """The clock is set after two seconds; three workers know it 0.3, 2.6 and 4.9 s later. Then all go on."""
        await limit(store, rate=20)
        learns = [2.3, 4.6, 6.9]
        left: list[float] = []
        for turn in range(200):
            time = turn * 0.1
            for place, learnt in enumerate(learns):
                ahead = step if time >= learnt else 0
                now = NOW + timedelta(seconds=time + ahead)
                for each in await self.slots((store, other)[place % 2], now, wanted=3, ahead=0.15):
                    at = None if each.at is None else (each.at - NOW).total_seconds() - ahead
                    if at is not None and (at < learnt) == (time < learnt):  # else the call goes back
                        left.append(at)
        left.sort()
        assert all(later - earlier >= 0.999 for earlier, later in zip(left, left[21:], strict=False))
        assert left[-1] > 19.8
        assert len(left) >= 20 * (19.8 - 15.5)

    async def test_workers_whose_clocks_differ_by_seconds_share_one_rate_all_the_same(
        self, store: Store, other: Store
    ) -> None:
        await limit(store, rate=10)
        got: list[datetime] = []
        for turn in range(50):
            now = NOW + turn * timedelta(milliseconds=100)
            got += [each.at for each in await self.slots(store, now, wanted=10) if each.at is not None]
            assert await self.allotted(other, 1, now=now - 9 * SECOND, ahead=0.1) == []
        assert all(later - earlier >= 0.1 * SECOND - MICROSECOND for earlier, later in pairwise(got))
        assert len(got) >= 50


class WaitContract(Ground):
    """Waiting for changes."""

    async def count(self, store: Store) -> int:
        return await store.wait(QUEUE, seen=0, until=store.clock.now() + DAY)

    async def test_each_write_that_wakes_the_queue_raises_its_count(self, store: Store, other: Store) -> None:
        with anyio.fail_after(30):
            seen = await self.count(store)
            assert seen > 0
            await stored(store, sample_job(1, queue="reminders"))
            await results_of(store, Write(puts=(put("a"),)))
            assert await self.count(store) == seen
            for write in (new(sample_job()), gated(GateState.OPEN)):
                await results_of(other, write)
                after = await store.wait(QUEUE, seen=seen, until=store.clock.now() + DAY)
                assert after > seen
                seen = after

    async def test_all_who_wait_are_woken_and_count_the_same(self, store: Store, other: Store) -> None:
        seen = await self.count(store)
        counts: list[int] = []

        async def wait(handle: Store) -> None:
            count = seen
            while count == seen:
                count = await handle.wait(QUEUE, seen=seen, until=store.clock.now() + DAY)
            counts.append(count)

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                for handle in (store, other, store):
                    group.start_soon(wait, handle)
                await anyio.wait_all_tasks_blocked()
                await results_of(other, new(sample_job()))
        assert len(counts) == 3
        assert len({*counts, await self.count(store), await self.count(other)}) == 1

    async def test_a_wait_without_a_change_ends(self, store: Store) -> None:
        seen = await self.count(store)
        until = store.clock.now() + timedelta(milliseconds=50)
        with anyio.fail_after(30):
            while store.clock.now() < until:
                assert await store.wait(QUEUE, seen=seen, until=until) == seen
