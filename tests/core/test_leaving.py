"""Nothing leaves after a hold has returned: no call that gets its journal entry later, and none that has it already."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import anyio
import httpx
import pytest

from tests.contract.samples import ManualClock
from tests.gateway.misbehaving import CREATED
from tests.support.engine import Engine
from tests.support.flows import flow, number
from tests.support.manual_time import passing
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallQueue, VoiceClient, Worker, open_store
from voiceflow_worker.core.base.identity import QueueNames
from voiceflow_worker.core.base.reading import gates_of
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.sending.journal import Journal, Requeue
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.model.jobs.gate import Gate, GateState
from voiceflow_worker.model.jobs.job import Job, JobState

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("batch_id", [None, "march"])
async def test_a_call_that_was_prepared_before_a_hold_gets_no_journal_entry_after_it(
    any_store: Store, voice: ScriptedVoice, batch_id: str | None
) -> None:
    worker, person = Engine(any_store, voice), Engine(any_store, ScriptedVoice())
    job = await worker.enqueue(batch_id="march")
    dispatches = await worker.prepare()
    await person.queue.hold(batch_id=batch_id, reason="the text has a wrong date")
    assert await worker.submitter.begin(dispatches) == []
    after = await worker.queue.get(job.id)
    assert (after.state, after.post_count) == ("queued", 0)
    assert after.reason == "held before it was sent: the text has a wrong date"


async def test_a_call_that_is_delayed_after_its_journal_entry_goes_back(
    engine: Engine, voice: ScriptedVoice, clock: ManualClock
) -> None:
    job = await engine.enqueue()
    (begun,) = await engine.submitter.begin(await engine.prepare())
    clock.advance(timedelta(seconds=2.1))
    await engine.finish(begun)
    assert (await engine.state(job), voice.placed) == ("queued", [])


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

    journal = Journal(engine.store, engine.policy, lease=timedelta(minutes=1))
    await journal.requeue([Requeue(await leased(), "no slot")])
    assert [(await leased()).id for _ in range(2)] == [first.id, second.id]


async def test_a_hold_returns_when_the_calls_that_were_about_to_leave_have_left_or_can_no_longer(
    engine: Engine, clock: ManualClock
) -> None:
    await engine.enqueue(number(0))
    await engine.enqueue(number(1))
    first, second = await engine.submitter.begin(await engine.prepare())
    began = clock.now()
    held: list[timedelta] = []

    async def hold() -> None:
        await engine.queue.hold(reason="lunch")
        held.append(clock.now() - began)

    async def both() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(hold)
            group.start_soon(engine.finish, first)

    await passing(clock, both)
    assert timedelta(seconds=1.9) < held[0] < timedelta(seconds=2.2)
    await engine.finish(second)
    assert await engine.state(second.job) == "queued"


class Limiter:
    """Does something while a call waits for its turn."""

    def __init__(self, meanwhile: Callable[[], Awaitable[object]]) -> None:
        self._meanwhile = meanwhile

    async def acquire(self) -> None:
        await self._meanwhile()


@pytest.mark.parametrize("batch_held", [None, "people", "others"])
async def test_a_call_that_is_held_while_it_waits_stays_queued(batch_held: str | None) -> None:
    arrived = 0

    def answer(_: httpx.Request) -> httpx.Response:
        nonlocal arrived
        arrived += 1
        return httpx.Response(200, content=CREATED)

    async def hold() -> None:
        await queue.hold(batch_id=batch_held, reason="the text is wrong")

    async with open_store("memory://") as store:
        queue = CallQueue(store)
        job = await queue.enqueue(flow("+6587654321"), batch_id="people")
        client = VoiceClient(
            "key",
            "sub",
            base_url="http://127.0.0.1:1",
            transport=httpx.MockTransport(answer),
            limiter=Limiter(hold),
        )
        async with client:
            with anyio.fail_after(60):
                result = await Worker(store, client, rate=None).drain()
        job = await queue.get(job.id)
    if batch_held == "others":
        assert (arrived, job.state) == (1, JobState.SUBMITTED)
    else:
        assert (arrived, job.state) == (0, JobState.QUEUED)
        assert "the text is wrong" in (job.reason or ""), result


@pytest.mark.parametrize("jump", [-60, -9, -3, 3, 60])
@pytest.mark.parametrize("batch_id", [None, "march"])
async def test_the_last_order_counts_whatever_the_clock_did_meanwhile(
    any_store: Store, clock: ManualClock, voice: ScriptedVoice, jump: int, batch_id: str | None
) -> None:
    engine = Engine(any_store, voice)
    await engine.enqueue(batch_id="march")
    for _ in range(2):
        await engine.queue.hold(batch_id=batch_id, reason="first")
        clock.jump(timedelta(seconds=jump))
        assert (await engine.queue.resume(batch_id=batch_id)).state is GateState.OPEN
        clock.jump(timedelta(seconds=jump))
        held = await engine.queue.hold(batch_id=batch_id, reason="wrong text")
        assert (held.state, held.until, held.reason) == (GateState.HELD, None, "wrong text")
        assert [gate.reason for gate in await gates_of(any_store, "default")] == ["wrong text"]
        assert await engine.send() == []
    clock.jump(timedelta(seconds=jump))
    await engine.queue.resume(batch_id=batch_id)
    clock.advance(timedelta(seconds=1 + abs(jump) * 5))
    assert len(await engine.send()) == 1


@pytest.mark.parametrize("jump", [-60, -3, 3, 60])
@pytest.mark.parametrize("order", ["hold", "cancel", "opt-out"])
async def test_an_order_waits_for_calls_about_to_leave_although_the_clock_has_jumped(
    engine: Engine, voice: ScriptedVoice, clock: ManualClock, jump: int, order: str
) -> None:
    await QueueNames(engine.store).remember("default")
    await engine.enqueue(number(0), batch_id="march")
    (begun,) = await engine.submitter.begin(await engine.prepare())
    clock.jump(timedelta(seconds=jump))
    asked = clock.monotonic()

    returned: list[float] = []

    async def ordered() -> None:
        match order:
            case "hold":
                await engine.queue.hold()
            case "cancel":
                await engine.queue.cancel_batch("march")
            case _:
                await SuppressionList(engine.store).add(number(0), reason="asked for it")
        returned.append(clock.monotonic())

    await passing(clock, ordered)
    assert 2 <= returned[0] - asked < 2.5
    await engine.finish(begun)
    assert voice.placed == []


async def test_a_hold_that_somebody_has_ended_before_it_returns_is_told_as_open(
    engine: Engine, clock: ManualClock
) -> None:
    await engine.enqueue()
    await engine.submitter.begin(await engine.prepare())
    gates: list[Gate] = []

    async def hold() -> None:
        gates.append(await engine.queue.hold(reason="lunch"))

    async def both() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(hold)
            await clock.sleep(1)
            await engine.queue.resume()

    await passing(clock, both)
    assert [gate.state for gate in gates] == [GateState.OPEN]
