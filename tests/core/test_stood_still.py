"""A worker that stands still (SIGSTOP, a frozen machine) at any await between lease and verdict, with others at work.

The clock jumps by more than the lease, or the submit window, while another worker sweeps and sends all that it can get.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.contract.samples import ManualClock
from tests.support.engine import LEASE, Engine
from tests.support.faulty_store import FaultyStore, Loss, StoreCall
from tests.support.flows import number
from tests.support.manual_time import passing
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallPolicy, JobState
from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.ports import Placement, Store
from voiceflow_worker.core.suppression import number_digest
from voiceflow_worker.model.jobs.policy import OutcomeSource, PersonLimit
from voiceflow_worker.model.reports.verdict import PostProgress, Verdict

pytestmark = pytest.mark.anyio
POLICY = CallPolicy(outcomes=OutcomeSource.NONE)
CALLS = 2
STILLS = [LEASE + timedelta(seconds=5), POLICY.submit_window + timedelta(seconds=5), timedelta(minutes=20)]


class Still:
    """Counts the awaits of one worker, and at one of them lets time pass and others work."""

    def __init__(self, *, at: int | None, still: timedelta) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(clock=self.clock)
        self.ledger: list[Placement] = []
        self.late: list[str] = []
        self.reached = 0
        self._at = at
        self._still = still
        watched = FaultyStore(self.store, before=self.stand, after=self.stand)
        self.worker = Engine(watched, StandingVoice(self), policy=POLICY)
        self.other = Engine(self.store, Ledger(self), policy=POLICY)

    async def stand(self, _: StoreCall | None = None) -> None:
        self.reached += 1
        if self.reached == self._at:
            self.clock.advance(self._still)
            await self.others()

    async def others(self) -> None:
        await self.other.sweeper.sweep()
        await self.other.send()
        await self.other.sweeper.sweep()

    def rang(self, placement: Placement) -> None:
        # 8x8 drops what comes after its validUntil: that a worker sends it all the same is what is looked for.
        if self.clock.now() >= placement.valid_until:
            self.late.append(placement.client_request_id)
        self.ledger.append(placement)


class Ledger(ScriptedVoice):
    def __init__(self, still: Still) -> None:
        super().__init__()
        self._still = still

    async def place(self, placement: Placement, *, progress: PostProgress, now: object) -> Verdict:
        self._still.rang(placement)
        return await super().place(placement, progress=progress, now=now)  # type: ignore[arg-type]


class StandingVoice(Ledger):
    """The answer of 8x8 is awaited, too."""

    async def place(self, placement: Placement, *, progress: PostProgress, now: object) -> Verdict:
        verdict = await super().place(placement, progress=progress, now=now)
        await self._still.stand()
        return verdict


async def went_through(*, at: int | None, still: timedelta, valid_for: timedelta | None) -> Still:
    lab = Still(at=at, still=still)
    jobs = [await lab.other.enqueue(number(place), valid_for=valid_for) for place in range(CALLS)]
    await lab.worker.send()
    reached = lab.reached
    for _ in range(4):
        lab.clock.advance(timedelta(minutes=10))
        await lab.others()
    lab.reached = reached
    assert not lab.late, f"sent late; stood still at await {at} for {still}"
    for job in jobs:
        found = await lab.other.queue.get(job.id)
        rang = [each for each in lab.ledger if each.client_request_id.startswith(f"{job.id}.")]
        said = f"stood still at await {at} for {still}: {found.state} with {len(rang)} rings"
        assert len(rang) <= 1, f"rang twice; {said}"
        if rang:
            # Its answer was awaited to the end: what rang is known to have rung.
            assert found.state is JobState.ACCEPTED, said
        else:
            # Nothing vanishes: it ended visibly, or waits for evidence.
            assert found.state in {JobState.EXPIRED, JobState.IN_DOUBT}, said
    return lab


@pytest.mark.parametrize("valid_for", [None, timedelta(seconds=90)])
@pytest.mark.parametrize("still", STILLS)
async def test_a_worker_that_stands_still_rings_nobody_twice_nor_late_and_loses_nothing(
    still: timedelta, valid_for: timedelta | None
) -> None:
    awaits = (await went_through(at=None, still=still, valid_for=valid_for)).reached
    assert awaits > 5 * CALLS
    for at in range(1, awaits + 1):
        await went_through(at=at, still=still, valid_for=valid_for)


ANA = number(0)


@pytest.mark.parametrize("behind", [timedelta(), timedelta(seconds=9)], ids=["one clock", "its clock is behind"])
async def test_a_worker_that_stands_still_before_it_prepares_a_call_frees_nothing_of_the_next_lease(
    any_store: Store, clock: ManualClock, behind: timedelta
) -> None:
    voice, policy = ScriptedVoice(), CallPolicy(max_per_person=PersonLimit(1, timedelta(days=1)))
    still, other, offers = (Engine(any_store, voice, policy=policy, queue=queue) for queue in ("q", "q", "offers"))
    await still.enqueue(ANA)
    jobs, leased_at = await still.lease(), clock.monotonic()
    clock.advance(LEASE + timedelta(seconds=1))
    await other.sweeper.sweep()
    clock.advance(timedelta(seconds=30))
    assert [job.destination for job in await other.send()] == [ANA]
    clock.advance(timedelta(seconds=1) - behind)
    assert await still.submitter.prepare(jobs, leased_at=leased_at) == []
    assert await still.submitter.begin([]) == []
    clock.advance(behind)
    await offers.enqueue(ANA)
    assert await offers.send() == [], "another queue calls her while her telephone rings"
    await text_records(any_store, "number").remove([number_digest(ANA, store_id=any_store.id)])
    await other.enqueue(ANA, unique_key="again")
    assert await other.send() == [], "the person had a place left"


async def test_a_doubt_keeps_its_lock_when_its_worker_learns_that_the_job_was_changed() -> None:
    """The journal entry is stored, but its answer is lost, and the worker stands still past its lease."""
    swept: list[str] = []

    async def after(call: StoreCall) -> None:
        if call.stores and job.id in began and not swept:
            swept.append(job.id)
            clock.advance(LEASE + timedelta(seconds=1))
            await other.sweeper.sweep()

    async def begin() -> None:
        assert await worker.submitter.begin(dispatches) == []

    began: list[str] = []
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    faulty = FaultyStore(store, after=after)
    worker, other = Engine(faulty, ScriptedVoice()), Engine(store, ScriptedVoice())
    job = await other.enqueue(ANA)
    dispatches = await worker.prepare()
    began.append(job.id)
    faulty.lose(Loss.AFTER, "write")
    await passing(clock, begin)
    assert (await other.queue.get(job.id)).state is JobState.IN_DOUBT
    assert list((await text_records(store, "number").get([number_digest(ANA, store_id=store.id)])).values()) == [
        f"{job.id}.1"
    ]
