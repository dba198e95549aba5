"""The contract of `Control`: limits, gates and departure times."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise

import pytest

from voiceflow_worker.backends.contract.ground import Ground
from voiceflow_worker.backends.contract.samples import (
    NOW,
    QUEUE,
    add_jobs,
    at_once,
    commit,
    delete,
    enqueued,
    gate,
    moved,
    sample_job,
)
from voiceflow_worker.core.ports import Limits, Slots, Store
from voiceflow_worker.core.settling.gates import order_gate
from voiceflow_worker.model.jobs.gate import GateState
from voiceflow_worker.model.jobs.job import JobState

SECOND = timedelta(seconds=1)
MICROSECOND = timedelta(microseconds=1)
FAR = timedelta(days=1)


async def take(store: Store, wanted: int, *, at: datetime = NOW, horizon: timedelta = FAR) -> Slots:
    return await store.control.take(QUEUE, wanted=wanted, horizon=horizon, now=at)


def seconds(slots: Slots) -> list[float]:
    """The departure times, in seconds after `NOW`, rounded to a tenth of a millisecond."""
    return [round((time - NOW).total_seconds(), 4) for time in slots.times]


class ControlContract(Ground):
    """Tests of limits, gates and departure times, which all workers of a queue share."""

    async def test_a_queue_that_was_never_configured_has_no_limits(self, store: Store) -> None:
        assert await store.control.limits(QUEUE) is None

    async def test_limits_are_stored_and_replaced_as_a_whole(self, store: Store, other: Store) -> None:
        first, second = Limits(rate=12.5, burst=3, max_active=100), Limits(rate=None, burst=1, max_active=None)
        await store.control.configure(QUEUE, first)
        assert await other.control.limits(QUEUE) == first
        await store.control.configure(QUEUE, second)
        assert await other.control.limits(QUEUE) == second
        assert await store.control.limits("reminders") is None

    async def test_a_gate_is_stored_as_ordered(self, store: Store, other: Store) -> None:
        held = gate(GateState.HELD, until=NOW + SECOND + MICROSECOND, reason="429: Retry-After 1 s, ünïcode")
        cancelled = gate(GateState.CANCELLED, batch="campaign", reason="called off")
        assert await order_gate(store, held) == held
        assert await order_gate(store, cancelled) == cancelled
        assert set(await other.control.gates(QUEUE)) == {held, cancelled}

    async def test_cancelled_batches_are_listed_while_they_have_queued_jobs(self, store: Store, other: Store) -> None:
        jobs = [sample_job(1, batch_id="a"), sample_job(2, batch_id="b"), sample_job(3, batch_id="held")]
        await add_jobs(store, jobs)
        cancelled = gate(GateState.CANCELLED, batch="a", reason="called off")
        for each in (cancelled, gate(GateState.CANCELLED, batch="empty"), gate(GateState.HELD, batch="held")):
            await order_gate(store, each)
        assert list(await other.control.cancelling(QUEUE, limit=10)) == [cancelled]
        assert list(await other.control.cancelling("reminders", limit=10)) == []
        await commit(store, [moved(jobs[0], state=JobState.CANCELLED)])
        assert list(await other.control.cancelling(QUEUE, limit=10)) == []

    async def test_a_cancelled_batch_is_listed_again_when_a_job_is_queued(self, store: Store) -> None:
        leased = await enqueued(store, 1, batch_id="a", state=JobState.LEASED)
        for name in ("a", "b"):
            await order_gate(store, gate(GateState.CANCELLED, batch=name))
        assert list(await store.control.cancelling(QUEUE, limit=10)) == []
        await commit(store, [moved(leased, state=JobState.QUEUED)])
        assert [each.name for each in await store.control.cancelling(QUEUE, limit=10)] == ["a"]
        await add_jobs(store, [sample_job(2, batch_id="b")])
        assert {each.name for each in await store.control.cancelling(QUEUE, limit=10)} == {"a", "b"}
        assert len(await store.control.cancelling(QUEUE, limit=1)) == 1

    async def test_forgetting_drops_gates_of_batches_without_jobs(self, store: Store) -> None:
        done = sample_job(1, batch_id="full", state=JobState.CANCELLED)
        await add_jobs(store, [done, sample_job(2, batch_id="other", queue="reminders")])
        kept = {
            gate(GateState.HELD),
            gate(GateState.CANCELLED, batch="full"),
            gate(GateState.CANCELLED, batch="new", since=NOW + SECOND),
            gate(GateState.HELD, batch="closed in advance"),
            gate(GateState.HELD, batch="until later", until=NOW + SECOND + MICROSECOND),
            gate(GateState.CANCELLED, batch="other", queue="reminders"),
        }
        spent = {gate(GateState.CANCELLED, batch="gone"), gate(GateState.HELD, batch="over", until=NOW + SECOND)}
        for each in kept | spent:
            await order_gate(store, each)
        assert await store.control.forget_gates(QUEUE, before=NOW) == 0
        assert await store.control.forget_gates(QUEUE, before=NOW + SECOND) == 2
        left = {*await store.control.gates(QUEUE), *await store.control.gates("reminders")}
        assert left == kept
        assert await delete(store, [done], keep_keys_until=NOW) == [True]
        assert await store.control.forget_gates(QUEUE, before=NOW + SECOND) == 1

    async def test_a_batch_whose_gate_was_forgotten_may_be_called_again(self, store: Store, other: Store) -> None:
        job = await enqueued(store, 1, batch_id="b")
        await order_gate(store, gate(GateState.CANCELLED, batch="b"))
        worker = partial(other.jobs.lease, QUEUE, worker_id="w", limit=10, lease_for=SECOND)
        assert list(await worker(now=NOW)) == []
        ended = moved(job, state=JobState.CANCELLED)
        assert await commit(store, [ended]) == [True]
        assert await delete(store, [ended.new], keep_keys_until=NOW) == [True]
        assert await store.control.forget_gates(QUEUE, before=NOW + SECOND) == 1
        await add_jobs(store, [sample_job(2, batch_id="b")], now=NOW + SECOND)
        assert [leased.id for leased in await worker(now=NOW + SECOND)] == [sample_job(2).id]

    async def test_gates_of_other_queues_are_left_out(self, store: Store) -> None:
        await order_gate(store, gate(GateState.HELD, queue="reminders"))
        assert list(await store.control.gates(QUEUE)) == []

    async def test_open_gates_are_left_out(self, store: Store) -> None:
        await order_gate(store, gate(GateState.HELD))
        await order_gate(store, gate(GateState.HELD, batch="b"))
        opened = gate(GateState.OPEN, reason="resumed")
        assert await order_gate(store, opened) == opened
        assert [gate.name for gate in await store.control.gates(QUEUE)] == ["b"]

    async def test_a_batch_may_be_named_as_its_queue_is(self, store: Store) -> None:
        queue, batch = gate(GateState.HELD), gate(GateState.HELD, batch=QUEUE)
        await order_gate(store, queue)
        await order_gate(store, batch)
        await order_gate(store, gate(GateState.OPEN, batch=QUEUE))
        assert list(await store.control.gates(QUEUE)) == [queue]

    async def test_a_hold_never_shortens_the_current_one(self, store: Store) -> None:
        for_good = gate(GateState.HELD, reason="a person closed it")
        await order_gate(store, for_good)
        assert await order_gate(store, gate(GateState.HELD, until=NOW + SECOND, reason="429")) == for_good

    async def test_a_longer_hold_replaces_the_current_one(self, store: Store) -> None:
        await order_gate(store, gate(GateState.HELD, until=NOW + SECOND))
        longer = gate(GateState.HELD, until=NOW + 2 * SECOND)
        assert await order_gate(store, longer) == longer
        assert await order_gate(store, gate(GateState.HELD, until=NOW + SECOND)) == longer

    async def test_a_hold_that_has_ended_is_replaced(self, store: Store) -> None:
        await order_gate(store, gate(GateState.HELD, until=NOW + SECOND))
        later = gate(GateState.HELD, until=NOW + 3 * SECOND, since=NOW + 2 * SECOND)
        assert await order_gate(store, later) == later

    async def test_a_cancelled_batch_stays_cancelled(self, store: Store) -> None:
        cancelled = gate(GateState.CANCELLED, batch="b")
        await order_gate(store, cancelled)
        assert await order_gate(store, gate(GateState.OPEN, batch="b")) == cancelled
        assert await order_gate(store, gate(GateState.HELD, batch="b", until=NOW + SECOND)) == cancelled

    async def test_the_longest_of_several_concurrent_holds_wins(self, store: Store, other: Store) -> None:
        async def hold(handle: Store, number: int) -> None:
            await order_gate(handle, gate(GateState.HELD, until=NOW + (7, 20, 3, 11, 19, 5)[number] * SECOND))

        await at_once(6, hold, store, other)
        assert [gate.until for gate in await store.control.gates(QUEUE)] == [NOW + 20 * SECOND]

    @pytest.mark.parametrize("limits", [None, Limits(), Limits(max_active=3)], ids=str)
    async def test_without_a_rate_every_departure_is_now(self, store: Store, limits: Limits | None) -> None:
        if limits is not None:
            await store.control.configure(QUEUE, limits)
        assert await take(store, 5) == Slots((NOW,) * 5, NOW)

    async def test_departures_are_spread_at_the_rate(self, store: Store) -> None:
        await store.control.configure(QUEUE, Limits(rate=4))
        first = await take(store, 3)
        assert seconds(first) == [0, 0.25, 0.5]
        assert abs(first.next_at - (NOW + timedelta(seconds=0.75))) < timedelta(milliseconds=1)
        assert seconds(await take(store, 2)) == [0.75, 1.0]

    async def test_no_departure_is_after_the_horizon(self, store: Store) -> None:
        await store.control.configure(QUEUE, Limits(rate=10))
        some = await take(store, 50, horizon=timedelta(milliseconds=210))
        assert seconds(some) == [0, 0.1, 0.2]
        none = await take(store, 50, horizon=timedelta(milliseconds=210))
        assert none.times == ()
        assert round((none.next_at - NOW).total_seconds(), 4) == 0.3

    async def test_no_departure_is_before_now(self, store: Store) -> None:
        await store.control.configure(QUEUE, Limits(rate=3))
        for step in range(20):
            now = NOW + step * timedelta(milliseconds=77, microseconds=step)
            assert all(time >= now for time in (await take(store, 2, at=now)).times)

    async def test_unused_time_is_not_saved_up(self, store: Store) -> None:
        await store.control.configure(QUEUE, Limits(rate=1))
        await take(store, 1)
        assert seconds(await take(store, 3, at=NOW + 60 * SECOND)) == [60, 61, 62]

    async def test_after_a_pause_the_burst_leaves_at_once(self, store: Store) -> None:
        await store.control.configure(QUEUE, Limits(rate=1, burst=3))
        assert seconds(await take(store, 5)) == [0, 0, 0, 1, 2]
        assert seconds(await take(store, 4, at=NOW + 60 * SECOND)) == [60, 60, 60, 61]

    async def test_no_departure_may_be_asked_for(self, store: Store) -> None:
        await store.control.configure(QUEUE, Limits(rate=1))
        assert await take(store, 0) == Slots((), NOW)
        await take(store, 1)
        assert (await take(store, 0)).next_at == NOW + SECOND

    async def test_concurrent_workers_share_one_rate(self, store: Store, other: Store) -> None:
        await store.control.configure(QUEUE, Limits(rate=100))
        taken: list[float] = []

        async def work(handle: Store, _number: int) -> None:
            for wanted in (1, 3, 2):
                taken.extend(seconds(await take(handle, wanted)))

        await at_once(10, work, store, other)
        assert sorted(taken) == [round(number / 100, 4) for number in range(60)]

    async def test_each_queue_has_its_own_rate(self, store: Store) -> None:
        for queue in (QUEUE, "reminders"):
            await store.control.configure(queue, Limits(rate=1))
        await take(store, 5)
        assert (await store.control.take("reminders", wanted=1, horizon=FAR, now=NOW)).times == (NOW,)

    async def test_the_same_limits_again_change_no_departure(self, store: Store, other: Store) -> None:
        await store.control.configure(QUEUE, Limits(rate=2, burst=2))
        taken = seconds(await take(store, 4))
        await other.control.configure(QUEUE, Limits(rate=2, burst=2))
        taken += seconds(await take(other, 4))
        assert taken == [0, 0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]

    async def test_a_faster_rate_does_not_wait_for_the_old_interval(self, store: Store) -> None:
        await store.control.configure(QUEUE, Limits(rate=1 / 3600))
        assert seconds(await take(store, 1)) == [0]
        await store.control.configure(QUEUE, Limits(rate=10))
        assert seconds(await take(store, 3)) == [0.1, 0.2, 0.3]

    async def test_a_slower_rate_holds_from_the_next_departure_on(self, store: Store) -> None:
        await store.control.configure(QUEUE, Limits(rate=10))
        await take(store, 3)
        await store.control.configure(QUEUE, Limits(rate=1))
        times = (await take(store, 3)).times
        assert all(later - earlier >= SECOND - MICROSECOND for earlier, later in pairwise(times))

    @pytest.mark.parametrize(("rate", "burst"), [(10.0, 1), (10.0, 5), (0.5, 1)])
    async def test_a_clock_set_back_stops_departures_for_one_interval_only(
        self, store: Store, other: Store, rate: float, burst: int
    ) -> None:
        horizon, interval = timedelta(milliseconds=100), timedelta(seconds=1 / rate)
        await store.control.configure(QUEUE, Limits(rate=rate, burst=burst))
        before = NOW + timedelta(hours=1)
        for step in range(20):
            await take(store, 50, at=before + step * horizon, horizon=horizon)
        # After the clock was set back by an hour, `next_at` is still the time of the next free departure.
        answer = await take(other, 50, horizon=horizon)
        assert answer.times == ()
        assert abs(answer.next_at - (NOW + horizon + interval)) < timedelta(milliseconds=1)
        assert await take(store, 50, horizon=horizon) == answer
        taken: list[datetime] = []
        for step in range(1, 101):
            taken += (await take((store, other)[step % 2], 50, at=NOW + step * horizon, horizon=horizon)).times
        assert taken[0] == answer.next_at
        gaps = [later - earlier for earlier, later in pairwise(taken)]
        assert all(abs(gap - interval) < timedelta(milliseconds=1) for gap in gaps), "the departures follow the rate"
        assert taken[-1] > NOW + 100 * horizon - interval

    async def test_takers_whose_clocks_differ_by_seconds_share_one_rate_all_the_same(
        self, store: Store, other: Store
    ) -> None:
        horizon, behind = timedelta(milliseconds=100), timedelta(seconds=9)
        await store.control.configure(QUEUE, Limits(rate=10))
        taken: list[datetime] = []
        for step in range(50):
            now = NOW + step * horizon
            taken += (await take(store, 50, at=now, horizon=horizon)).times
            assert (await take(other, 50, at=now - behind, horizon=horizon)).times == ()
        assert all(later - earlier >= 0.1 * SECOND - MICROSECOND for earlier, later in pairwise(taken))
        assert len(taken) >= 50
