"""Enqueueing once per task instance, beside an 8x8 with scripted answers: the job that a try finds, or a new one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider.calls.enqueueing import RequestedCall, enqueue_once
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.made_calls import STOPPED_BY_AIRFLOW, Stop
from airflow_provider.calls.waiting import WaitedCalls
from tests.contract.samples import ManualClock, delete
from tests.support.engine import Engine
from tests.support.voices import ScriptedVoice, refused, unknown
from voiceflow_worker import InvalidInputError, Job, SessionStatus, open_store
from voiceflow_worker.core.audit import entries_on

pytestmark = pytest.mark.anyio

TASK = TaskIdentity(dag_id="d", run_id="r", task_id="t", max_tries=1)
CLEARED = replace(TASK, max_tries=3)
SAID = {"voice_profile": "en-IE-EmilyNeural", "source": "+6531234567", "valid_for": "2h"}


class Scene:
    """A store without calls, and a task of one call."""

    def __init__(self, engine: Engine, voice: ScriptedVoice) -> None:
        self.engine, self.queue, self.voice = engine, engine.queue, voice

    async def enqueue(
        self, identity: TaskIdentity = TASK, *, to: str = "+6587654321", say: str = "Hello.", **more: Any
    ) -> Job:
        fields = {**SAID, "to": to, "say": say, "batch": identity.batch_id()}
        return await enqueue_once(self.queue, RequestedCall(fields=fields, **more), identity)

    async def stop(self, job: Job) -> None:
        await Stop(identity=TASK, calls=WaitedCalls(job_ids=[job.id])).carry_out(nullcontext(self.queue))

    async def posts(self) -> int:
        await self.engine.send()
        return len(self.voice.placed)


@asynccontextmanager
async def fresh() -> AsyncIterator[Scene]:
    voice = ScriptedVoice()
    async with open_store("memory://", clock=ManualClock()) as store:
        yield Scene(Engine(store, voice), voice)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with fresh() as made:
        yield made


async def test_a_call_that_was_sent_is_the_call_of_every_later_try(scene: Scene) -> None:
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


@pytest.mark.parametrize("retries", [0, 1, 2, 3, 5])
async def test_a_clear_calls_again_however_many_retries_the_task_has_since(scene: Scene, retries: int) -> None:
    """Airflow sets `max_tries` to the tries until then, plus the retries that the task has when it is cleared."""

    async def found(*, retries: int, max_tries: int, clear_number: int = 0) -> Job:
        ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, max_tries=max_tries)
        run, task = SimpleNamespace(clear_number=clear_number), SimpleNamespace(retries=retries)
        identity = TaskIdentity.of({"ti": ti, "dag_run": run, "task": task})
        return await scene.enqueue(identity, calls_again=True)

    first = await _ended(scene, await found(retries=3, max_tries=3))
    assert await found(retries=3, max_tries=3) == await found(retries=retries, max_tries=3) == first, "no clear"
    assert await found(retries=3, max_tries=3, clear_number=1) == first, "another task was cleared"
    assert await found(retries=retries, max_tries=1 + retries, clear_number=1) != first
    assert await scene.posts() == 2


async def _ended(scene: Scene, job: Job, status: SessionStatus = SessionStatus.COMPLETED) -> Job:
    await scene.posts()
    await scene.engine.summarise(job, status)
    return await scene.queue.get(job.id)


async def _happens(scene: Scene, what: str) -> Job:
    """The call of the first try, after this has happened to it."""
    answers = {"doubt": unknown(), "refused": refused(-1002, "speech profile invalid")}
    scene.voice.answers = [answers[what]] if what in answers else []
    job, store = await scene.enqueue(), scene.queue.store
    match what:
        case "stopped":
            await scene.stop(job)
        case "cancelled":
            await scene.queue.cancel(job.id)
        case "sent" | "doubt" | "refused":
            await scene.posts()
        case "failed":
            await _ended(scene, job, SessionStatus.FAILED)
        case "completed" | "pruned":
            ended = await _ended(scene, job)
            later = store.clock.now() + timedelta(days=1)
            assert what == "completed" or [*await delete(store, [ended], keep_keys_until=later)] == [True]
    return job


SAME, NEW, ERROR = "same", "new", "error"


@pytest.mark.parametrize(
    ("what", "retried", "cleared", "again", "other_number"),
    [
        ("waits", SAME, SAME, SAME, ERROR),
        ("stopped", NEW, NEW, NEW, NEW),
        ("cancelled", SAME, NEW, NEW, NEW),
        ("refused", SAME, NEW, NEW, NEW),
        ("sent", SAME, SAME, SAME, ERROR),
        ("doubt", SAME, SAME, SAME, ERROR),
        ("completed", SAME, SAME, NEW, ERROR),
        ("failed", SAME, SAME, NEW, ERROR),
        ("pruned", SAME, SAME, SAME, SAME),
    ],
)
async def test_the_state_of_the_first_call_says_what_a_retry_and_a_clear_do(
    what: str, retried: str, cleared: str, again: str, other_number: str
) -> None:
    """A clear calls again if the first call certainly rang nobody; with `call_again` if it has ended."""
    for expected, identity, more in (
        (retried, TASK, {"say": "It is 10:05."}),
        (cleared, CLEARED, {}),
        (again, CLEARED, {"calls_again": True}),
        (other_number, CLEARED, {"to": "+6587650000"}),
    ):
        async with fresh() as other:
            first = await _happens(other, what)
            if expected == ERROR:
                with pytest.raises(InvalidInputError, match=rf"voiceflow calls cancel {first.id}"):
                    await other.enqueue(identity, **more)
                continue
            found = await other.enqueue(identity, **more)
            assert (found.id == first.id) is (expected == SAME), (expected, more)
            assert (await other.enqueue(identity, **more)).id == found.id, "a further try finds the same call"


async def test_a_stop_is_told_in_the_audit_log(scene: Scene) -> None:
    first = await _happens(scene, "stopped")
    entry, *_ = await entries_on(scene.queue.store, call=first.id)
    assert (entry.action, entry.on, entry.by) == ("cancel", "Airflow", "DAG d, run r, task t")
    assert entry.note == STOPPED_BY_AIRFLOW


async def test_a_clear_calls_a_number_again_once_however_often_its_instances_were_cleared(scene: Scene) -> None:
    first = await _ended(scene, await scene.enqueue(replace(TASK, map_index=0)))
    cleared = (replace(TASK, map_index=index, clear_number=2, max_tries=2 + 2 * index) for index in range(2))
    again, other = [await scene.enqueue(each, calls_again=True) for each in cleared]
    assert first.id != again.id == other.id
    assert await scene.posts() == 2
