"""Instances of a mapped task, identified by their numbers when a clear changes their indexes."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from airflow_provider.calls.earlier.expansion import Expansion
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.single.enqueueing import OnClear, enqueue_once
from airflow_provider.calls.single.request import RequestedCall, flow_of
from tests.support.engine import Engine
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallQueue, InvalidInputError, Job, JobState, open_store
from voiceflow_worker.backends.contract.clock import ManualClock

pytestmark = pytest.mark.anyio

TASK = TaskIdentity(dag_id="d", run_id="r", task_id="t", max_tries=1)
A, B, C, X = "+6587654321", "+6587654322", "+6587654323", "+6587654324"


class Scene:
    """A store, the instances of one mapped task, and an 8x8 that takes every call."""

    def __init__(self, engine: Engine, clock: ManualClock) -> None:
        self.engine = engine
        self.clock = clock

    @property
    def queue(self) -> CallQueue:
        return self.engine.queue

    async def instance(
        self,
        index: int,
        number: str,
        *,
        cleared: int = 0,
        say: str = "Hello.",
        saved: dict[str, str] | None = None,
        on_clear: OnClear = OnClear.SAME_CALL,
        states: Mapping[int, str | None] | None = None,
    ) -> Job:
        identity = replace(TASK, map_index=index, clear_number=cleared, max_tries=1 + cleared)
        flow = flow_of(destination=number, say=say, flow=None, voice_profile="en-IE-EmilyNeural", source="+6531234567")
        wanted = RequestedCall(flow=flow, batch_id=identity.batch_id())
        return await enqueue_once(
            self.queue, wanted, identity, saved=saved, on_clear=on_clear, expansion=Expansion(states)
        )

    async def expanded(
        self, numbers: Sequence[str], *, cleared: int = 0, order: Sequence[int] | None = None
    ) -> list[Job]:
        """Each instance of an expansion, in the order in which they run."""
        jobs: dict[int, Job] = {}
        for index in order if order is not None else range(len(numbers)):
            jobs[index] = await self.instance(index, numbers[index], cleared=cleared)
        return [jobs[index] for index in sorted(jobs)]

    async def ring_only(self, job: Job) -> None:
        """Send this call alone; the others stay where they are."""
        leased_at = self.clock.monotonic()
        chosen = [each for each in await self.engine.lease() if each.id == job.id]
        (flight,) = await self.engine.submitter.prepare(chosen, leased_at=leased_at)
        await self.engine.submitter.fly(flight)
        await self.engine.summarise(await self.queue.get(job.id))
        self.clock.advance(timedelta(minutes=2))
        await self.engine.sweeper.sweep()

    async def rings(self, *numbers: str) -> list[int]:
        for _ in range(4):  # a second call to one number waits until the first has ended
            for job in await self.engine.send():
                await self.engine.summarise(job)
            self.clock.advance(timedelta(minutes=1))
        jobs = await self.queue.find(limit=None)
        called = Counter(job.destination for job in jobs for post in job.posts if post.may_have_rung)
        return [called[number] for number in numbers]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    clock = ManualClock()
    async with open_store("memory://", clock=clock) as store:
        yield Scene(Engine(store, ScriptedVoice()), clock)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("were_sent", [True, False])
async def test_a_number_that_moved_to_another_index_is_not_called_again(
    scene: Scene, order: Sequence[int], were_sent: bool
) -> None:
    first = await scene.expanded([A, B])
    if were_sent:
        assert await scene.rings(A, B) == [1, 1]
    again = await scene.expanded([X, A, B], cleared=1, order=order)
    assert [job.destination for job in again] == [X, A, B]
    assert await scene.rings(X, A, B) == [1, 1, 1]
    if were_sent:
        assert [job.id for job in again[1:]] == [job.id for job in first]
    assert [job.id for job in await scene.expanded([X, A, B], cleared=1)] == [job.id for job in again], "a retry"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_a_number_that_is_listed_twice_is_two_calls_and_never_three(scene: Scene, order: Sequence[int]) -> None:
    first = await scene.expanded([A, A])
    assert await scene.rings(A) == [2]
    again = await scene.expanded([A, A], cleared=1, order=order)
    assert [job.id for job in again] == [job.id for job in first], "each instance keeps its own"
    await scene.expanded([B, A, A], cleared=2, order=(2, 1, 0))
    assert await scene.rings(A, B) == [2, 1]


async def test_an_instance_that_is_cleared_alone_takes_the_call_of_nobody_else(scene: Scene) -> None:
    first = await scene.expanded([A, A])
    assert (await scene.instance(1, A, cleared=1)).id == first[1].id
    assert (await scene.instance(1, A, cleared=2)).id == first[1].id


async def test_a_number_that_is_no_longer_listed_is_not_called(scene: Scene) -> None:
    await scene.expanded([A, B])
    await scene.expanded([A, C], cleared=1)
    assert await scene.rings(A, B, C) == [1, 0, 1]
    await scene.expanded([A, B], cleared=2)
    assert await scene.rings(A, B, C) == [1, 1, 1]


async def test_another_spelling_is_the_same_number(scene: Scene) -> None:
    first = await scene.instance(0, A)
    assert (await scene.instance(0, A[1:], say="Other.")).destination == first.destination
    assert await scene.rings(A) == [1]


@pytest.mark.parametrize("was_sent", [True, False])
async def test_a_number_with_and_without_the_mobile_digit_is_one_phone(scene: Scene, was_sent: bool) -> None:
    spelt, respelt = "+5215512345678", "+525512345678"
    await scene.expanded([spelt])
    assert await scene.rings(spelt) == [1] if was_sent else True
    await scene.expanded([B, respelt], cleared=1)
    assert await scene.rings(spelt, respelt, B) == [was_sent, not was_sent, 1]


async def test_a_store_that_knows_nothing_of_the_instance_is_not_used_however_often_it_tries(scene: Scene) -> None:
    saved = {"job_id": "default.01JOLD", "store": "sqlite:////old.db"}
    for _ in range(3):
        with pytest.raises(InvalidInputError, match="does not have it"):
            await scene.instance(0, A, saved=saved)
    assert await scene.rings(A) == [0]


async def test_an_instance_with_another_number_than_in_its_task_state_calls(scene: Scene) -> None:
    first = await scene.instance(0, A)
    await scene.rings()
    saved = {"job_id": first.id, "store": "memory://"}
    assert (await scene.instance(0, B, cleared=1, saved=saved)).state is JobState.QUEUED


async def test_call_again_calls_a_number_again_after_a_clear(scene: Scene) -> None:
    first = await scene.instance(0, A)
    await scene.rings()
    again = await scene.instance(0, A, cleared=1, on_clear=OnClear.CALL_AGAIN)
    assert again.id != first.id
    assert (await scene.instance(0, A, cleared=1, on_clear=OnClear.CALL_AGAIN)).id == again.id
    assert await scene.rings(A) == [2]


@pytest.mark.parametrize("rang", [0, 1, 2])
@pytest.mark.parametrize("left", [1, 2])
async def test_fewer_instances_of_a_number_go_on_with_the_calls_that_rang(scene: Scene, rang: int, left: int) -> None:
    first = await scene.expanded([A, A, A])
    await scene.ring_only(first[rang])
    states = {index: None if index < left else "removed" for index in range(3)}
    for index in range(left):
        await scene.instance(index, A, cleared=1, states=states)
    assert await scene.rings(A) == [left]


ALL = -1
States = Mapping[int, str | None]


@pytest.mark.parametrize(
    ("first", "rang", "after_the_clear", "expected"),
    [
        pytest.param((A,), ALL, [(0, B, None)], {A: 1, B: 1}, id="another-number"),
        pytest.param((A, B), ALL, [(1, A, None), (0, A, None)], {A: 2, B: 1}, id="listed-once-more"),
        pytest.param(
            (A, A),
            0,
            [(1, A, {0: None, 1: "running"}), (0, X, {0: "running", 1: "success"})],
            {A: 1, X: 1},
            id="listed-once-instead-of-twice",
        ),
        pytest.param(
            (A, A),
            0,
            [(0, X, {0: "running", 1: None}), (1, A, {0: "success", 1: "running"})],
            {A: 1, X: 1},
            id="an-instance-that-ran-with-another-number-gives-up-the-call-that-rang",
        ),
        pytest.param((A, A), 0, [(1, A, {0: "success", 1: "running"})], {A: 2}, id="cleared-alone"),
        pytest.param(
            (A, B, C), None, [(0, A, {0: "running", 1: "removed", 2: "removed"})], {A: 1, B: 0, C: 0}, id="removed"
        ),
        pytest.param((A, A), None, [(0, A, {0: "running", 1: "deferred"})], {A: 2}, id="a-sibling-that-waits"),
        *(
            pytest.param(  # the instance 0, which now calls X, could not reach the store
                (A,),
                ALL,
                [(1, A, {0: state, 1: "running"}), (0, X, {0: "running", 1: "success"})],
                {A: 1, X: 1},
                id=f"a-sibling-that-is-{state}-before-its-call",
            )
            for state in ("up_for_retry", "failed")
        ),
        pytest.param(
            (A, B),
            ALL,
            [(1, A, {0: "up_for_retry", 1: "running"}), (0, A, {0: "running", 1: "success"})],
            {A: 2, B: 1},
            id="a-sibling-that-was-not-cleared-and-tries-again",
        ),
    ],
)
async def test_after_a_clear_each_instance_has_its_call_and_no_number_rings_once_too_often(
    scene: Scene,
    first: Sequence[str],
    rang: int | None,
    after_the_clear: Sequence[tuple[int, str, States | None]],
    expected: Mapping[str, int],
) -> None:
    jobs = await scene.expanded(first)
    if rang == ALL:
        await scene.rings()
    elif rang is not None:
        await scene.ring_only(jobs[rang])
    for index, number, states in after_the_clear:
        await scene.instance(index, number, cleared=1, states=states)
    assert await scene.rings(*expected) == list(expected.values())
