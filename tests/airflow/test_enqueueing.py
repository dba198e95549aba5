"""Enqueueing once per task instance, beside an 8x8 with scripted answers: the job that a try finds, or a new one."""

from __future__ import annotations

from collections import Counter, defaultdict
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
    """A store without calls, and the instances of one task, whose numbers are letters."""

    def __init__(self, engine: Engine, voice: ScriptedVoice, clock: ManualClock) -> None:
        self.engine, self.queue, self.voice, self.clock = engine, engine.queue, voice, clock
        self.found: dict[str, list[Job]] = defaultdict(list)

    async def enqueue(
        self, identity: TaskIdentity = TASK, *, to: str = "+6587654321", say: str = "Hello.", **more: Any
    ) -> Job:
        fields = {**SAID, "to": to, "say": say, "batch": identity.batch_id()}
        return await enqueue_once(self.queue, RequestedCall(fields=fields, **more), identity)

    async def instance(self, index: int, letter: str, *, cleared: int = 0, **more: Any) -> Job:
        """The call of one instance of a mapped task to the number of a letter."""
        tries = more.pop("max_tries", 1 + cleared)
        identity = replace(TASK, map_index=index, clear_number=cleared, max_tries=tries)
        job = await self.enqueue(identity, to=f"+6587654{ord(letter)}0", **more)
        self.found[letter].append(job)
        return job

    async def play(self, moves: str) -> None:
        """Expansions such as "AB" or "AB/10" (in another order of the instances); "clear", "stop" and "rings"."""
        cleared = 0
        for move in moves.split():
            match move:
                case "clear":
                    cleared += 1
                case "stop":
                    await self.stop(*(job for jobs in self.found.values() for job in jobs))
                case "rings":
                    await self.rings()
                case _:
                    letters, _, order = move.partition("/")
                    for index in map(int, order or "0123"[: len(letters)]):
                        await self.instance(index, letters[index], cleared=cleared)

    async def stop(self, *jobs: Job) -> None:
        calls = WaitedCalls(job_ids=[job.id for job in jobs])
        await Stop(identity=TASK, calls=calls).carry_out(nullcontext(self.queue))

    async def posts(self) -> int:
        await self.engine.send()
        return len(self.voice.placed)

    async def rings(self) -> str:
        """Whose numbers have rung, each as often as it has."""
        for _ in range(4):  # a second call to one number waits until the first has ended
            for job in await self.engine.send():
                await self.engine.summarise(job)
            self.clock.advance(timedelta(minutes=1))
        jobs = await self.queue.find(limit=None)
        called = Counter(chr(int(job.destination[8:10])) for job in jobs for post in job.posts if post.may_have_rung)
        return "".join(sorted(called.elements()))


@asynccontextmanager
async def fresh() -> AsyncIterator[Scene]:
    voice, clock = ScriptedVoice(), ManualClock()
    async with open_store("memory://", clock=clock) as store:
        yield Scene(Engine(store, voice), voice, clock)


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

    async def found(*, retries: int, max_tries: int, clear_number: int = 0) -> str:
        ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, max_tries=max_tries)
        run, task = SimpleNamespace(clear_number=clear_number), SimpleNamespace(retries=retries)
        identity = TaskIdentity.of({"ti": ti, "dag_run": run, "task": task})
        return (await scene.enqueue(identity, calls_again=True)).id

    first = await found(retries=3, max_tries=3)
    await scene.rings()
    assert await found(retries=3, max_tries=3) == await found(retries=retries, max_tries=3) == first, "no clear"
    assert await found(retries=3, max_tries=3, clear_number=1) == first, "another task was cleared"
    assert await found(retries=retries, max_tries=1 + retries, clear_number=1) != first
    assert await scene.posts() == 2


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
        case "sent" | "doubt" | "refused" | "completed" | "failed" | "pruned":
            await scene.posts()
    if what in {"completed", "failed", "pruned"}:
        ended = SessionStatus.FAILED if what == "failed" else SessionStatus.COMPLETED
        await scene.engine.summarise(job, ended)
    if what == "pruned":
        later = store.clock.now() + timedelta(days=1)
        assert list(await delete(store, [await scene.queue.get(job.id)], keep_keys_until=later)) == [True]
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


@pytest.mark.parametrize(
    ("moves", "rung"),
    [
        # A number that moved to another index is not called again.
        *(
            (f"AB {sent} clear XAB/{order} XAB", "ABX")
            for sent in ("rings", "")
            for order in ("012", "210", "120")
        ),
        # Instances that call one number with one text share a call.
        *((f"AA/{order} clear AA/{order} rings clear BAA/210", "AB") for order in ("01", "10")),
        ("A rings clear BAA", "AB"),
        ("A clear BAA", "AB"),
        # What was stopped is called if it is listed again.
        *((f"AB stop clear BC/{order}", "BC") for order in ("01", "10")),
        *((f"AB stop clear BC/{order} rings clear BA/{order}", "ABC") for order in ("01", "10")),
        ("AA stop AA", "A"),
    ],
)  # fmt: skip
async def test_instances_of_a_mapped_task_are_identified_by_their_numbers_when_a_clear_changes_their_indexes(
    scene: Scene, moves: str, rung: str
) -> None:
    await scene.play(moves)
    assert await scene.rings() == rung


async def test_instances_with_different_texts_for_one_number_need_a_key_which_identifies_their_calls(
    scene: Scene,
) -> None:
    keyed: dict[int, dict[str, Any]] = {
        order: {"say": f"Order {order}.", "unique_key": f"order-{order}"} for order in (7, 8, 9)
    }
    seven = await scene.instance(0, "A", **keyed[7])
    eight = await scene.instance(1, "A", **keyed[8])
    assert await scene.rings() == "AA"
    for index, (job, order) in enumerate([(eight, 8), (seven, 7)]):
        assert (await scene.instance(index, "A", cleared=1, **keyed[order])).id == job.id
    await scene.instance(1, "B", **keyed[9])
    await scene.instance(0, "D", say="Order 7.")
    for letter, more in (("C", keyed[9]), ("D", {"say": "Order 8."})):
        with pytest.raises(InvalidInputError, match="give each call a unique_key"):
            await scene.instance(2, letter, **more)
    assert await scene.rings() == "AABD"


async def test_a_stop_is_told_in_the_audit_log(scene: Scene) -> None:
    await scene.play("A stop")
    ((first,),) = scene.found.values()
    entry, *_ = await entries_on(scene.queue.store, call=first.id)
    assert (entry.action, entry.on, entry.by) == ("cancel", "Airflow", "DAG d, run r, task t")
    assert entry.note == STOPPED_BY_AIRFLOW


async def test_a_clear_calls_a_number_again_once_however_often_its_instances_were_cleared(scene: Scene) -> None:
    await scene.play("AA rings")
    again = await scene.instance(0, "A", cleared=2, max_tries=2, calls_again=True)
    other = await scene.instance(1, "A", cleared=2, max_tries=4, calls_again=True)
    assert again.id == other.id
    assert await scene.rings() == "AA"
