"""Nothing leaves after a hold has returned, wherever a call stands, nor twice when a worker stands still."""

from __future__ import annotations

import ssl
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import anyio
import httpx
import pytest

from tests.contract.samples import ManualClock
from tests.gateway.misbehaving import (
    CERTIFICATE,
    LONGEST,
    Behaviour,
    Connection,
    MisbehavingServer,
    answer,
    created,
    places,
)
from tests.support.company_proxy import AUTHORITY, VOICE, CompanyProxy
from tests.support.engine import LEASE, Engine, ScriptedEngine
from tests.support.everyday import combinations
from tests.support.faulty_store import FaultyStore, Loss, StoreCall
from tests.support.flows import number
from tests.support.manual_time import passing
from tests.support.stores import url_for
from tests.support.voices import ScriptedVoice
from tests.support.waiting import until
from tests.support.workers import enqueued, states, worker_for
from voiceflow_worker import CallPolicy, CallQueue, JobState, VoiceClient, open_store
from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.core import gates
from voiceflow_worker.core.base.identity import QueueNames
from voiceflow_worker.core.base.reading import gates_of
from voiceflow_worker.core.base.record_set import text_records
from voiceflow_worker.core.gates import order_gate
from voiceflow_worker.core.ports import Placement, Store
from voiceflow_worker.core.sending import submit
from voiceflow_worker.core.sending.journal import JournalWriter, requeued
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.core.suppression import number_digest
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.policy import OutcomeSource, PersonLimit
from voiceflow_worker.model.reports.verdict import BeforeFirstByte, Departure, Verdict

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("batch_id", [None, "march"])
async def test_a_call_that_was_prepared_before_a_hold_gets_no_journal_entry_after_it(
    any_store: Store, voice: ScriptedVoice, batch_id: str | None
) -> None:
    worker, person = Engine(any_store, voice), Engine(any_store, ScriptedVoice())
    job = await worker.enqueue(batch="march")
    dispatches = await worker.prepare()
    await person.queue.hold(batch_id=batch_id, reason="the text has a wrong date")
    assert await worker.begin(dispatches) == []
    after = await worker.queue.get(job.id)
    assert (after.state, after.post_count) == ("queued", 0)
    assert after.reason == "held before it was sent: the text has a wrong date"


async def test_a_call_that_is_delayed_after_its_journal_entry_goes_back(engine: ScriptedEngine) -> None:
    job = await engine.enqueue()
    (begun,) = await engine.begin(await engine.prepare())
    engine.clock.advance(timedelta(seconds=2.1))
    await engine.finish(begun)
    assert (await engine.state(job), engine.voice.placed) == ("queued", [])


async def test_a_call_that_goes_back_without_a_wait_gets_its_old_place(engine: Engine, clock: ManualClock) -> None:
    """Workers that share a rate put calls back all the time: otherwise the first rows of a file would be sent last."""
    first = await engine.enqueue(number(0))
    clock.advance(timedelta(seconds=1))
    second = await engine.enqueue(number(1))
    clock.advance(timedelta(minutes=1))

    async def leased() -> Job:
        now = clock.now()
        (job,) = await engine.store.lease("default", worker_id="w", limit=1, until=now + timedelta(minutes=1), now=now)
        return job

    journal, job = JournalWriter(engine.store, engine.policy, lease=timedelta(minutes=1)), await leased()
    await journal.move((job, requeued(job, "no slot", at=clock.now())))
    assert [(await leased()).id for _ in range(2)] == [first.id, second.id]


async def test_a_hold_returns_when_the_calls_that_were_about_to_leave_have_left_or_can_no_longer(
    engine: ScriptedEngine,
) -> None:
    await engine.enqueue(number(0))
    await engine.enqueue(number(1))
    first, second = await engine.begin(await engine.prepare())
    began = engine.clock.now()
    held: list[timedelta] = []

    async def hold() -> None:
        await engine.queue.hold(reason="lunch")
        held.append(engine.clock.now() - began)

    await passing(engine.clock, hold, lambda: engine.finish(first))
    assert timedelta(seconds=WITHIN - 0.1) < held[0] < timedelta(seconds=WITHIN + 0.2)
    await engine.finish(second)
    assert await engine.state(second.job) == "queued"


@pytest.mark.parametrize("jump", [-60, -9, -3, 3, 60])
@pytest.mark.parametrize("batch_id", [None, "march"])
async def test_the_last_order_counts_whatever_the_clock_did_meanwhile(
    here: ScriptedEngine, jump: int, batch_id: str | None
) -> None:
    await here.enqueue(batch="march")
    for _ in range(2):
        await here.queue.hold(batch_id=batch_id, reason="first")
        here.clock.jump(timedelta(seconds=jump))
        assert (await here.queue.resume(batch_id=batch_id)).state is GateState.OPEN
        here.clock.jump(timedelta(seconds=jump))
        held = await here.queue.hold(batch_id=batch_id, reason="wrong text")
        assert (held.state, held.until, held.reason) == (GateState.HELD, None, "wrong text")
        assert [gate.reason for gate in await gates_of(here.store, "default")] == ["wrong text"]
        assert await here.send() == []
    here.clock.jump(timedelta(seconds=jump))
    await here.queue.resume(batch_id=batch_id)
    here.clock.advance(timedelta(seconds=1 + abs(jump) * 5))
    assert len(await here.send()) == 1


@pytest.mark.parametrize("jump", [-60, -3, 3, 60])
@pytest.mark.parametrize("order", ["hold", "cancel", "opt-out"])
async def test_an_order_waits_for_calls_about_to_leave_although_the_clock_has_jumped(
    engine: ScriptedEngine, jump: int, order: str
) -> None:
    await QueueNames(engine.store).remember("default")
    await engine.enqueue(number(0), batch="march")
    (begun,) = await engine.begin(await engine.prepare())
    engine.clock.jump(timedelta(seconds=jump))
    asked = engine.clock.monotonic()

    returned: list[float] = []

    async def ordered() -> None:
        match order:
            case "hold":
                await engine.queue.hold()
            case "cancel":
                await engine.queue.cancel_batch("march")
            case _:
                await SuppressionList(engine.store).add(number(0), reason="asked for it")
        returned.append(engine.clock.monotonic())

    await passing(engine.clock, ordered)
    assert WITHIN <= returned[0] - asked < WITHIN + 0.5
    await engine.finish(begun)
    assert engine.voice.placed == []


async def test_a_hold_that_somebody_has_ended_before_it_returns_is_told_as_open(engine: ScriptedEngine) -> None:
    await engine.enqueue()
    await engine.begin(await engine.prepare())
    gates: list[Gate] = []

    async def hold() -> None:
        gates.append(await engine.queue.hold(reason="lunch"))

    async def resume() -> None:
        await engine.clock.sleep(WITHIN / 2)
        await engine.queue.resume()

    await passing(engine.clock, resume, hold)
    assert [gate.state for gate in gates] == [GateState.OPEN]


class Handshakes(ScriptedVoice):
    """Connects anew for each call."""

    connects_each_time, connected = True, 0

    async def place(self, placement: Placement, *, before_first_byte: BeforeFirstByte) -> Verdict:
        self.connected += 1
        return await super().place(placement, before_first_byte=before_first_byte)


async def suppressed(engine: Engine) -> None:
    await SuppressionList(engine.store).add(number(0), reason="asked")


async def held_since(engine: Engine) -> None:
    now = engine.store.clock.now()
    await order_gate(engine.store, Gate.of("default", None, GateState.HELD, since=now, reason="lunch"))


async def busy(engine: Engine) -> None:
    digest = number_digest(number(0), store_id=engine.store.id)
    await text_records(engine.store, "number").put({digest: "another.1"})


@pytest.mark.parametrize(
    ("why", "state"), [(None, "submitted"), (suppressed, "cancelled"), (held_since, "queued"), (busy, "queued")]
)
async def test_where_each_call_connects_anew_one_that_nobody_may_make_costs_no_connection(
    store: Store, why: Callable[[Engine], Awaitable[None]] | None, state: str
) -> None:
    voice = Handshakes()
    engine = Engine(store, voice)
    job = await engine.enqueue(number(0))
    leased, leased_at = await engine.lease(), store.clock.monotonic()
    if why is not None:
        await why(engine)
    await engine.finish(*await engine.sender.prepare(leased, leased_at=leased_at))
    assert (voice.connected, await engine.state(job)) == (int(why is None), state)


CALLS = 4
WITHIN = 0.4
"""The seconds within which a call leaves here after its journal entry. They are 2 outside of these tests."""
Stalls = Callable[[], object]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (gates, submit):
        monkeypatch.setattr(module, "SENT_WITHIN", WITHIN)


@contextmanager
def ours(stalls: Stalls, *, behaviour: Behaviour = places) -> Generator[tuple[MisbehavingServer, VoiceClient]]:
    """Connections of our own, to a TLS server that lets the handshake wait."""
    with MisbehavingServer(behaviour, tls=True, at_first=stalls) as server:
        trust = ssl.create_default_context(cafile=CERTIFICATE)
        yield server, VoiceClient("key", "sub", base_url=server.url, ssl_context=trust)


@contextmanager
def httpx_pool(stalls: Stalls) -> Generator[tuple[MisbehavingServer, VoiceClient]]:
    """A transport of the user, which connects when its POST begins."""
    with MisbehavingServer(places, tls=True, at_first=stalls) as server:
        transport = httpx.AsyncHTTPTransport(verify=ssl.create_default_context(cafile=CERTIFICATE), trust_env=False)
        yield server, VoiceClient("key", "sub", base_url=server.url, transport=transport)


@contextmanager
def proxy(stalls: Stalls, *, behaviour: Behaviour = places) -> Generator[tuple[MisbehavingServer, VoiceClient]]:
    """The proxy of a company, which lets CONNECT wait."""
    with (
        MisbehavingServer(behaviour) as server,
        MisbehavingServer(CompanyProxy({VOICE: server.port}), at_first=stalls) as company,
    ):
        trust = ssl.create_default_context(cafile=AUTHORITY)
        yield server, VoiceClient("key", "sub", base_url=f"https://{VOICE}", ssl_context=trust, proxy=company.url)


Way = Callable[..., AbstractContextManager[tuple[MisbehavingServer, VoiceClient]]]
WAYS = {"ours": ours, "httpx": httpx_pool, "proxy": proxy}


async def hold(queue: CallQueue) -> None:
    await queue.hold(reason="lunch")


async def hold_the_batch(queue: CallQueue) -> None:
    await queue.hold(batch_id="march", reason="lunch")


async def cancel(queue: CallQueue) -> None:
    await queue.cancel_batch("march")


async def opt_out(queue: CallQueue) -> None:
    await SuppressionList(queue.store).add(*(number(place) for place in range(CALLS)), reason="asked")


Order = Callable[[CallQueue], Awaitable[None]]


def named(case: object) -> str:
    return getattr(case, "__name__", str(case))


ORDERS: tuple[Order, ...] = (hold, hold_the_batch, cancel, opt_out)


@dataclass(frozen=True)
class Set:
    """A way to connect, a store, and a rate."""

    way: str
    backend: str
    rate: float | None

    def __str__(self) -> str:
        return f"{self.way}-{self.backend}-{self.rate}"


SETS = [
    *[Set("ours", backend, rate) for backend in ("sqlite", "redis") for rate in (None, 50)],
    Set("httpx", "sqlite", None),
    Set("proxy", "redis", 50),
    Set("httpx", "redis", 50),
    Set("proxy", "sqlite", None),
]


@pytest.mark.parametrize(("kind", "order"), combinations(SETS, ORDERS), ids=named)
async def test_no_call_that_is_connecting_when_an_order_returns_leaves_after_it(
    fresh_url: Callable[[str], str], kind: Set, order: Order
) -> None:
    goes_on, knocked = threading.Event(), threading.Event()
    ended = order in {cancel, opt_out}

    def stalls() -> None:
        knocked.set()
        goes_on.wait(LONGEST)

    with WAYS[kind.way](stalls) as (server, client):
        async with open_store(fresh_url(kind.backend)) as store, client, anyio.create_task_group() as group:
            queue = await enqueued(store, CALLS, batch="march")
            worker = worker_for(store, client, rate=kind.rate)
            group.start_soon(worker.run)
            assert await anyio.to_thread.run_sync(knocked.wait, LONGEST)
            await until(lambda: worker.in_flight > 0)
            await order(queue)
            goes_on.set()
            await until(lambda: worker.in_flight == 0)
            assert server.posts == []
            if ended:
                await until(lambda: _are(queue, {"cancelled": CALLS}))
            else:
                await queue.resume(batch_id=None if order is hold else "march")
                await until(lambda: _are(queue, {"accepted": CALLS}))
            worker.stop()
        assert len(server.posts) == (0 if ended else CALLS)


@pytest.mark.parametrize("order", ORDERS, ids=named)
async def test_an_order_returns_soon_although_calls_wait_for_their_slots(
    clock: ManualClock, tmp_path: Path, order: Order
) -> None:
    store = MemoryStore(clock=clock)
    await QueueNames(store).remember("default")
    queue, voice = await enqueued(store, 12, batch="march"), ScriptedVoice()
    worker = worker_for(store, voice, rate=10, local_journal=JournalFiles(tmp_path))
    took, left = list[float](), list[int]()

    async def ordered() -> None:
        while len(voice.placed) < 6 or (await states(queue)).get("sending", 0) < 1:
            await clock.sleep(0.01)
        began = clock.monotonic()
        if order is opt_out:
            await SuppressionList(store).add(*(number(place) for place in range(12)), reason="asked")
        else:
            await order(queue)
        took.append(clock.monotonic() - began)
        left.append(len(voice.placed))
        await clock.sleep(3)
        left.append(len(voice.placed))
        worker.stop()

    await passing(clock, ordered, worker.run)
    assert took[0] < 0.35
    assert left[0] == left[1]
    over = "cancelled" if order in {cancel, opt_out} else "queued"
    assert +Counter(await states(queue)) == +Counter({"accepted": left[0], over: 12 - left[0]})


async def _are(queue: CallQueue, expected: dict[str, int]) -> bool:
    return await states(queue) == expected


def places_once(connection: Connection) -> None:
    """Place one call, and end the connection."""
    connection.read_request()
    session_id = f"s-{len(connection.server.bodies)}"
    connection.send(answer(200, created(session_id), "Connection: close"))


def takes_too_long() -> None:
    time.sleep(1.5 * WITHIN)  # the time that a slow network takes


@pytest.mark.parametrize("rate", [None, 5])
async def test_where_connecting_always_takes_too_long_each_call_rings_once(tmp_path: Path, rate: float | None) -> None:
    """Under a rate, a send slot is taken so early that the call is connected by then, once that is known."""
    with ours(takes_too_long, behaviour=places_once) as (server, client):
        async with open_store(url_for("sqlite", tmp_path)) as store, client:
            queue = await enqueued(store, CALLS)
            with anyio.fail_after(LONGEST):
                await worker_for(store, client, concurrency=2, rate=rate).drain()
            assert await states(queue) == {"accepted": CALLS}
            entries = sum(job.post_count for job in await queue.find(limit=None))
        assert len(server.posts) == CALLS
        assert entries <= 3 * CALLS, "calls were journalled in vain, again and again"


@pytest.mark.slow
async def test_calls_leave_through_a_proxy_whose_tunnels_take_longer_than_a_call_may_wait() -> None:
    with (
        MisbehavingServer(places) as server,
        MisbehavingServer(CompanyProxy({VOICE: server.port}, delay=2.3)) as company,
    ):
        trust = ssl.create_default_context(cafile=AUTHORITY)
        client = VoiceClient("key", "sub", base_url=f"https://{VOICE}", ssl_context=trust, proxy=company.url)
        async with open_store("memory://") as store, client:
            queue = await enqueued(store, 3)
            await worker_for(store, client, rate=10).drain()
            assert {job.state for job in await queue.find()} == {JobState.ACCEPTED}
    assert len(server.posts) == 3


POLICY = CallPolicy(outcomes=OutcomeSource.NONE)
FEW = 2
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

    async def place(self, placement: Placement, *, before_first_byte: BeforeFirstByte) -> Verdict:
        async def before() -> Departure:
            departure = await before_first_byte()
            self._still.rang(placement)
            return departure

        return await super().place(placement, before_first_byte=before)


class StandingVoice(Ledger):
    """The answer of 8x8 is awaited, too."""

    async def place(self, placement: Placement, *, before_first_byte: BeforeFirstByte) -> Verdict:
        verdict = await super().place(placement, before_first_byte=before_first_byte)
        await self._still.stand()
        return verdict


async def went_through(*, at: int | None, still: timedelta, valid_for: timedelta | None) -> Still:
    lab = Still(at=at, still=still)
    jobs = [await lab.other.enqueue(number(place), valid_for=valid_for) for place in range(FEW)]
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
    assert awaits > 5 * FEW
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
    assert await still.sender.prepare(jobs, leased_at=leased_at) == []
    assert await still.begin([]) == []
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
        assert await worker.begin(dispatches) == []

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
