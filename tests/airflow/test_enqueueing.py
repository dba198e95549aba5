"""Enqueueing once per task instance: the job that a try finds, or a new one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from airflow_provider.calls.failures import doubt, fails
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.made_calls import STOPPED_BY_AIRFLOW, OnClear, TaskOrders, cancel_calls, resume_redials
from tests.airflow.instances import TASK, Instances
from tests.contract.samples import ManualClock, delete
from tests.support.engine import Engine
from tests.support.voices import ScriptedVoice, refused, unknown
from voiceflow_worker import (
    CallFlow,
    CallQueue,
    InvalidInputError,
    JobState,
    SessionStatus,
    open_store,
)
from voiceflow_worker.core.audit import entries_on

pytestmark = pytest.mark.anyio

CLEARED = replace(TASK, max_tries=3)


@pytest.fixture
async def scene() -> AsyncIterator[Instances]:
    voice, clock = ScriptedVoice(), ManualClock()
    async with open_store("memory://", clock=clock) as store:
        yield Instances(Engine(store, voice), voice, clock)


async def test_a_call_that_was_sent_is_the_call_of_every_later_try(scene: Instances) -> None:
    spelt = ("+442079460018", "+4402079460018", "+44 20 7946 0018"), ("+5491123456789", "+541123456789")
    for place, (first, *others) in enumerate(spelt):
        task = replace(TASK, task_id=f"t{place}")
        job = await scene.enqueue(task, to=first)
        assert (await scene.enqueue(task, to=first)).id == job.id
        assert await scene.posts() == place + 1
        for identity in (task, replace(task, max_tries=3)):
            assert (await scene.enqueue(identity, to=first, say="It is 10:05.")).id == job.id
            assert {(await scene.enqueue(identity, to=other)).id for other in others} == {job.id}
    assert await scene.posts() == 2


async def test_call_again_calls_once_more_for_each_clear_and_never_for_a_retry(scene: Instances) -> None:
    first = await scene.enqueue(on_clear=OnClear.CALL_AGAIN)
    await scene.posts()
    await scene.engine.summarise(first)
    assert (await scene.enqueue(on_clear=OnClear.CALL_AGAIN)).id == first.id, "a retry is not a clear"
    second = await scene.enqueue(CLEARED, on_clear=OnClear.CALL_AGAIN)
    assert second.id != first.id
    assert (await scene.enqueue(CLEARED, on_clear=OnClear.CALL_AGAIN)).id == second.id, "a retry after the clear"
    assert await scene.posts() == 2
    await scene.engine.summarise(second)
    third = await scene.enqueue(replace(CLEARED, max_tries=5), on_clear=OnClear.CALL_AGAIN)
    assert third.id not in {first.id, second.id}


@pytest.mark.parametrize("retries", [0, 1, 2, 3, 5])
async def test_a_clear_calls_again_however_many_retries_the_task_has_since(scene: Instances, retries: int) -> None:
    """Airflow sets `max_tries` to the tries until then, plus the retries that the task has when it is cleared."""
    first = await scene.enqueue(of(retries=3, max_tries=3), on_clear=OnClear.CALL_AGAIN)
    await scene.posts()
    await scene.engine.summarise(first)
    for still in (of(retries=3, max_tries=3), of(retries=retries, max_tries=3)):
        assert (await scene.enqueue(still, on_clear=OnClear.CALL_AGAIN)).id == first.id, "a retry is not a clear"
    others = of(retries=3, max_tries=3, clear_number=1)
    assert (await scene.enqueue(others, on_clear=OnClear.CALL_AGAIN)).id == first.id, "another task was cleared"
    cleared = of(retries=retries, max_tries=1 + retries, clear_number=1)
    assert (await scene.enqueue(cleared, on_clear=OnClear.CALL_AGAIN)).id != first.id
    assert await scene.posts() == 2


def of(*, retries: int, max_tries: int, clear_number: int = 0) -> TaskIdentity:
    """The identity that a context of Airflow has."""
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, max_tries=max_tries)
    run, task = SimpleNamespace(clear_number=clear_number), SimpleNamespace(retries=retries)
    return TaskIdentity.of({"ti": ti, "dag_run": run, "task": task})


async def test_a_doubt_stays_a_doubt_whatever_is_cleared(scene: Instances) -> None:
    scene.voice.answers = [unknown()]
    first = await scene.enqueue()
    await scene.posts()
    assert (await scene.queue.get(first.id)).state is JobState.IN_DOUBT
    for on_clear in OnClear:
        assert (await scene.enqueue(CLEARED, on_clear=on_clear)).id == first.id
    assert await scene.posts() == 1


async def test_a_call_refused_before_dialling_is_made_again_by_a_clear_and_not_by_a_retry(scene: Instances) -> None:
    scene.voice.answers = [refused(-1002, "speech profile invalid")]
    first = await scene.enqueue()
    await scene.posts()
    assert (await scene.enqueue()).id == first.id, "the same again would end the same"
    second = await scene.enqueue(CLEARED)
    assert second.id != first.id
    assert await scene.posts() == 2
    await scene.engine.summarise(second)
    assert (await scene.enqueue(replace(CLEARED, max_tries=7))).id == second.id, "this one rang"


@pytest.mark.parametrize("is_stopped", [True, False], ids=["stopped", "killed"])
async def test_a_number_corrected_before_the_call_left_is_called_when_the_call_was_cancelled(
    scene: Instances, is_stopped: bool
) -> None:
    first = await scene.enqueue(to="+6587650000")
    with pytest.raises(InvalidInputError, match=rf"voiceflow calls cancel {first.id}"):
        await scene.enqueue(to="+6587654321")
    if is_stopped:
        await cancel_calls(scene.queue, [first.id], reason=STOPPED_BY_AIRFLOW)
    else:
        await scene.queue.cancel(first.id)
    second = await scene.enqueue(TASK if is_stopped else CLEARED, to="+6587654321")
    assert await scene.posts() == 1
    assert (await scene.queue.get(second.id)).state is JobState.SUBMITTED
    assert (await scene.queue.get(first.id)).successor == second.id


async def test_a_number_corrected_after_the_call_left_is_refused_with_a_remedy(scene: Instances) -> None:
    await scene.enqueue(to="+6587650000")
    await scene.posts()
    with pytest.raises(InvalidInputError, match=r"to \+6587650000 \(submitted\), which stands"):
        await scene.enqueue(CLEARED, to="+6587654321")
    assert await scene.posts() == 1


async def test_a_call_that_failed_after_it_was_placed_may_have_rung_and_is_not_made_again(scene: Instances) -> None:
    first = await scene.enqueue()
    await scene.posts()
    await scene.engine.summarise(first, SessionStatus.FAILED)
    assert (await scene.queue.get(first.id)).state is JobState.FAILED
    assert (await scene.enqueue(CLEARED)).id == first.id
    assert (await scene.enqueue(CLEARED, say="Another text.")).id == first.id
    assert await scene.posts() == 1


@pytest.mark.parametrize("status", [SessionStatus.COMPLETED, SessionStatus.FAILED])
async def test_a_pruned_call_is_remembered_by_its_key(scene: Instances, status: SessionStatus) -> None:
    first = await scene.enqueue()
    await scene.posts()
    await scene.engine.summarise(first, status)
    ended = await scene.queue.get(first.id)
    now = scene.queue.store.clock.now()
    assert list(await delete(scene.queue.store, [ended], keep_keys_until=now + timedelta(days=1))) == [True]
    for identity in (TASK, CLEARED):
        again = await scene.enqueue(identity)
        assert (again.id, again.state) == (first.id, ended.state)
        assert (await scene.enqueue(identity, say="Another text.")).id == first.id
    assert await scene.posts() == 1


async def test_the_text_of_a_call_that_waits_stands_until_its_task_is_stopped(scene: Instances) -> None:
    first = await scene.enqueue(say="Hallo.")
    for identity in (TASK, CLEARED):
        assert (await scene.enqueue(identity, say="Hello.")).id == first.id
    await cancel_calls(scene.queue, [first.id], reason=STOPPED_BY_AIRFLOW)
    second = await scene.enqueue(say="Hello.")
    assert (await scene.enqueue(say="Hello.")).id == second.id
    assert await scene.posts() == 1
    assert "Hello." in (await scene.queue.get(second.id)).body


async def test_a_call_that_a_person_cancelled_is_made_by_a_clear_and_by_no_retry(scene: Instances) -> None:
    first = await scene.enqueue(say="It is 10:00.")
    await scene.queue.cancel(first.id)
    for text in ("It is 10:00.", "It is 10:05."):
        assert (await scene.enqueue(say=text)).id == first.id
    assert await scene.posts() == 0
    assert (await scene.enqueue(CLEARED)).id != first.id


async def test_a_person_of_several_numbers_whose_task_was_stopped_is_called_at_the_next_and_not_at_the_first_again(
    scene: Instances,
) -> None:
    mobile, phone = "+6587654321", "+6587654322"
    flow = CallFlow.call(mobile, source="+6531234567").say("Hello.", voice_profile="en-IE-EmilyNeural")
    job = await scene.queue.enqueue(flow.hangup(), further_numbers=[phone])
    await scene.posts()
    await scene.engine.summarise(job, SessionStatus.NO_ANSWER)
    await cancel_calls(scene.queue, [job.id], reason=STOPPED_BY_AIRFLOW)
    stopped = await scene.queue.get(job.id)
    orders = TaskOrders(TASK)
    orders.match(stopped, stopped.body_digest)
    await resume_redials(scene.queue, orders.stopped.values())
    assert await scene.posts() == 2
    await scene.engine.summarise(job, SessionStatus.BUSY)
    ended = await scene.queue.get(job.id)
    assert [ended.number_of(post) for post in ended.posts] == [mobile, phone]
    assert fails(ended, ["BUSY"])
    assert not fails(ended, ["NO_ANSWER"])
    assert phone in doubt(ended, store="memory://")


# -- instances of a mapped task, identified by their numbers when a clear changes their indexes ------------------------

A, B, C, X = "+6587654321", "+6587654322", "+6587654323", "+6587654324"


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("were_sent", [True, False])
async def test_a_number_that_moved_to_another_index_is_not_called_again(
    scene: Instances, order: Sequence[int], were_sent: bool
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
async def test_instances_that_call_one_number_with_one_text_share_a_call(
    scene: Instances, order: Sequence[int]
) -> None:
    first, second = await scene.expanded([A, A], order=order)
    assert first.id == second.id
    await scene.expanded([A, A], cleared=1, order=order)
    assert await scene.rings(A) == [1]
    again = await scene.expanded([B, A, A], cleared=2, order=(2, 1, 0))
    assert again[1].id == again[2].id
    assert await scene.rings(A, B) == [1, 1]


async def test_instances_that_call_one_number_with_different_texts_need_a_unique_key(scene: Instances) -> None:
    await scene.instance(0, A, say="Order 7.")
    with pytest.raises(InvalidInputError, match="give each call a unique_key"):
        await scene.instance(1, A, say="Order 8.")
    assert await scene.rings(A) == [1]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_a_number_that_no_instance_calls_any_more_is_not_called_if_the_task_was_stopped(
    scene: Instances, order: Sequence[int]
) -> None:
    stopped = await scene.expanded([A, B])
    await cancel_calls(scene.queue, [job.id for job in stopped], reason=STOPPED_BY_AIRFLOW)
    await scene.expanded([B, C], cleared=1, order=order)
    assert await scene.rings(A, B, C) == [0, 1, 1]
    await scene.expanded([B, A], cleared=2, order=order)
    assert await scene.rings(A, B, C) == [1, 1, 1]


async def test_a_unique_key_identifies_the_call_of_a_mapped_task(scene: Instances) -> None:
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
async def test_instances_with_other_indexes_after_a_clear_share_the_call_that_stands(
    scene: Instances, was_sent: bool
) -> None:
    first = await scene.instance(0, A, say="Hallo.")
    assert await scene.rings(A) == [1] if was_sent else True
    assert {(await scene.instance(index, A, cleared=1)).id for index in (1, 2)} == {first.id}
    assert await scene.rings(A) == [1]


async def test_a_call_that_one_of_its_instances_cancelled_is_made_once_by_the_next_tries(scene: Instances) -> None:
    first, _ = await scene.expanded([A, A])
    queue = CallQueue(scene.queue.store, scene.queue.name, by=TASK.actor)
    await cancel_calls(queue, [first.id], reason=STOPPED_BY_AIRFLOW)
    entry, *_ = await entries_on(scene.queue.store, call=first.id)
    data = first.data or {}
    who = f"DAG {data['airflow_dag_id']}, run {data['airflow_run_id']}, task {data['airflow_task_id']}"
    assert (entry.action, entry.on, entry.by, entry.note) == ("cancel", "Airflow", who, STOPPED_BY_AIRFLOW)
    again = await scene.expanded([A, A])
    assert again[0].id == again[1].id != first.id
    assert await scene.rings(A) == [1]


async def test_a_clear_calls_a_number_again_once_however_often_its_instances_were_cleared(scene: Instances) -> None:
    await scene.expanded([A, A])
    await scene.rings()
    again = await scene.instance(0, A, cleared=2, max_tries=2, on_clear=OnClear.CALL_AGAIN)
    other = await scene.instance(1, A, cleared=2, max_tries=4, on_clear=OnClear.CALL_AGAIN)
    assert again.id == other.id
    assert await scene.rings(A) == [2]
