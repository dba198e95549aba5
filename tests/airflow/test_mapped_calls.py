"""Instances of a mapped task, identified by their numbers when a clear changes their indexes."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.made_calls import STOPPED_BY_AIRFLOW, cancel_calls
from airflow_provider.calls.single_call import OnClear, RequestedCall, enqueue_once, flow_of
from tests.support.engine import Engine
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallQueue, CallRequest, InvalidInputError, Job, JobState, open_store
from voiceflow_worker.backends.contract.samples import ManualClock

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
        unique_key: str | None = None,
        max_tries: int | None = None,
    ) -> Job:
        tries = 1 + cleared if max_tries is None else max_tries
        identity = replace(TASK, map_index=index, clear_number=cleared, max_tries=tries)
        flow = flow_of(destination=number, say=say, flow=None, voice_profile="en-IE-EmilyNeural", source="+6531234567")
        wanted = RequestedCall(CallRequest(flow=flow, batch_id=identity.batch_id(), unique_key=unique_key))
        return await enqueue_once(self.queue, wanted, identity, saved=saved, on_clear=on_clear)

    async def expanded(
        self, numbers: Sequence[str], *, cleared: int = 0, order: Sequence[int] | None = None
    ) -> list[Job]:
        """Each instance of an expansion, in the order in which they run."""
        jobs: dict[int, Job] = {}
        for index in order if order is not None else range(len(numbers)):
            jobs[index] = await self.instance(index, numbers[index], cleared=cleared)
        return [jobs[index] for index in sorted(jobs)]

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
async def test_instances_that_call_one_number_with_one_text_share_a_call(scene: Scene, order: Sequence[int]) -> None:
    first, second = await scene.expanded([A, A], order=order)
    assert first.id == second.id
    await scene.expanded([A, A], cleared=1, order=order)
    assert await scene.rings(A) == [1]
    again = await scene.expanded([B, A, A], cleared=2, order=(2, 1, 0))
    assert again[1].id == again[2].id
    assert await scene.rings(A, B) == [1, 1]


async def test_instances_that_call_one_number_with_different_texts_need_a_unique_key(scene: Scene) -> None:
    await scene.instance(0, A, say="Order 7.")
    with pytest.raises(InvalidInputError, match="give each call a unique_key"):
        await scene.instance(1, A, say="Order 8.")
    assert await scene.rings(A) == [1]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_a_number_that_an_instance_calls_no_more_is_not_called(scene: Scene, order: Sequence[int]) -> None:
    await scene.expanded([A, B])
    await scene.expanded([B, C], cleared=1, order=order)
    assert await scene.rings(A, B, C) == [0, 1, 1]
    await scene.expanded([B, A], cleared=2, order=order)
    assert await scene.rings(A, B, C) == [1, 1, 1]


async def test_a_unique_key_identifies_the_call_of_a_mapped_task(scene: Scene) -> None:
    seven = await scene.instance(0, A, say="Order 7.", unique_key="order-7")
    eight = await scene.instance(1, A, say="Order 8.", unique_key="order-8")
    assert await scene.rings(A) == [2]
    for index, (job, order) in enumerate([(eight, "8"), (seven, "7")]):
        again = await scene.instance(index, A, cleared=1, say=f"Order {order}.", unique_key=f"order-{order}")
        assert again.id == job.id
    await scene.instance(1, B, say="Order 9.", unique_key="order-9")
    with pytest.raises(InvalidInputError, match="give each call a unique_key"):
        await scene.instance(2, C, say="Order 9.", unique_key="order-9")
    assert await scene.rings(A) == [2]


@pytest.mark.parametrize("was_sent", [True, False])
async def test_a_text_that_was_corrected_with_a_clear_replaces_a_call_that_waits(scene: Scene, was_sent: bool) -> None:
    first = await scene.instance(0, A, say="Hallo.")
    assert await scene.rings(A) == [1] if was_sent else True
    (again,) = {(await scene.instance(index, A, cleared=1)).id for index in (1, 2)}
    assert (again == first.id) is was_sent
    assert await scene.rings(A) == [1]


async def test_a_call_that_one_of_its_instances_cancelled_is_made_once_by_the_next_tries(scene: Scene) -> None:
    first, _ = await scene.expanded([A, A])
    await cancel_calls(scene.queue, [first.id], reason=STOPPED_BY_AIRFLOW)
    again = await scene.expanded([A, A])
    assert again[0].id == again[1].id != first.id
    assert await scene.rings(A) == [1]


async def test_another_spelling_is_the_same_number(scene: Scene) -> None:
    first = await scene.instance(0, A)
    assert (await scene.instance(0, f"{A[:3]} {A[3:7]} {A[7:]}", say="Other.")).destination == first.destination
    assert await scene.rings(A) == [1]


@pytest.mark.parametrize("was_sent", [True, False])
async def test_a_number_with_and_without_the_mobile_digit_is_one_phone(scene: Scene, was_sent: bool) -> None:
    spelt, respelt = "+5215512345678", "+525512345678"
    await scene.expanded([spelt])
    assert await scene.rings(spelt) == [1] if was_sent else True
    await scene.expanded([B, respelt], cleared=1)
    assert await scene.rings(spelt, respelt, B) == [was_sent, not was_sent, 1]


async def test_a_store_that_knows_nothing_of_the_instance_is_not_used_however_often_it_tries(scene: Scene) -> None:
    saved = {"job_id": "default.01JOLD", "unique_key": "airflow-old", "store": "sqlite:////old.db"}
    for _ in range(3):
        with pytest.raises(InvalidInputError, match="does not have it"):
            await scene.instance(0, A, saved=saved)
    assert await scene.rings(A) == [0]


async def test_an_instance_with_another_number_than_in_its_task_state_calls(scene: Scene) -> None:
    first = await scene.instance(0, A)
    await scene.rings()
    saved = {"job_id": first.id, "unique_key": str(first.unique_key), "store": "memory://"}
    assert (await scene.instance(0, B, cleared=1, saved=saved)).state is JobState.QUEUED


async def test_call_again_calls_a_number_again_after_a_clear(scene: Scene) -> None:
    first = await scene.instance(0, A)
    await scene.rings()
    again = await scene.instance(0, A, cleared=1, on_clear=OnClear.CALL_AGAIN)
    assert again.id != first.id
    assert (await scene.instance(0, A, cleared=1, on_clear=OnClear.CALL_AGAIN)).id == again.id
    assert await scene.rings(A) == [2]


async def test_a_clear_calls_a_number_again_once_however_often_its_instances_were_cleared(scene: Scene) -> None:
    await scene.expanded([A, A])
    await scene.rings()
    again = await scene.instance(0, A, cleared=2, max_tries=2, on_clear=OnClear.CALL_AGAIN)
    other = await scene.instance(1, A, cleared=2, max_tries=4, on_clear=OnClear.CALL_AGAIN)
    assert again.id == other.id
    assert await scene.rings(A) == [2]
