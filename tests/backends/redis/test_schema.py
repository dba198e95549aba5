"""A store that the release before this one has laid out, with its scripts as they were (`schema_1`)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.redis_server import RedisServer
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.contract import NOW, QUEUE, ManualClock, moved, sample_job
from voiceflow_worker.backends.redis import RedisStore
from voiceflow_worker.backends.redis import jobs as jobs_in_redis
from voiceflow_worker.backends.redis.connection import link
from voiceflow_worker.backends.redis.connection.codec import Argument, job_of_row, move_arguments, new_job
from voiceflow_worker.backends.redis.connection.scripts import Script, script
from voiceflow_worker.core.ports import Move, Query, Store
from voiceflow_worker.core.sweep import Sweeper
from voiceflow_worker.model.jobs.gate import Gate, GateScope, GateState
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.policy import CallPolicy

pytestmark = pytest.mark.anyio
MINUTE = timedelta(minutes=1)
OLD = Path(__file__).parent / "schema_1"
MARKER = "voiceflow:{store:}:schema"


@contextmanager
def release_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within this, stores run the scripts of the release before, which know no tallies and no facts."""

    def old(name: str) -> Script:
        text = (OLD / f"{name}.lua").read_text("utf-8")
        return Script(name, text, f"{len(text):040x}")  # an unknown digest: the server gets the text

    with monkeypatch.context() as patch:
        patch.setattr(link, "script", old)
        patch.setattr(jobs_in_redis, "new_job", lambda job: new_job(job)[:-2])
        patch.setattr(jobs_in_redis, "NOTHING_FORBIDS", ())
        patch.setattr(jobs_in_redis, "move_arguments", without_tally)
        yield


def without_tally(move: Move) -> list[Argument]:
    arguments = list(move_arguments(move))
    return [*arguments[:8], *arguments[10:]]


async def old_lease(opened: Store, limit: int) -> list[Job]:
    store = redis(opened)
    key, now = store.keys.queue(QUEUE), int(NOW.timestamp() * 1_000_000)
    rows = await store.link.run("lease", key, [now, limit, now + 60_000_000, "=old", "", f"old{random.random()}"])
    return [job_of_row(QUEUE, row) for row in rows]


async def lease(store: Store, limit: int = 1000) -> list[Job]:
    return list(await store.jobs.lease(QUEUE, worker_id="new", limit=limit, lease_for=MINUTE, now=NOW))


def redis(store: Store) -> RedisStore:
    assert isinstance(store, RedisStore)
    return store


def jobs_of_many_batches(count: int = 1500) -> list[Job]:
    return [
        sample_job(
            number,
            batch_id=f"batch-{number % 900}" if number % 5 else None,
            priority=number % 3,
            due_at=NOW - (number * 7919 % 50) * timedelta(seconds=1),
        )
        for number in range(count)
    ]


def order(jobs: list[Job]) -> list[str]:
    return [job.id for job in sorted(jobs, key=lambda job: (-job.priority, job.due_at, job.id))]


def batch_gate(name: str, state: GateState) -> Gate:
    return Gate(queue=QUEUE, scope=GateScope.BATCH, name=name, state=state, since=NOW)


@pytest.mark.beside
async def test_an_old_store_is_taken_over_whole_and_in_order(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = jobs_of_many_batches()
    async with open_store(redis_server.url) as store:
        with release_before(monkeypatch):
            await store.jobs.enqueue(jobs, now=NOW)
            assert [job.id for job in await old_lease(store, 10)] == order(jobs)[:10]
            await store.control.gate(batch_gate("batch-7", GateState.HELD))
    redis_server.ask("SET", MARKER, 1)

    waiting = [job for job in jobs if job.id not in order(jobs)[:10] and job.batch_id != "batch-7"]
    async with open_store(redis_server.url) as store:
        assert redis_server.ask("GET", MARKER) == "2"
        taken: list[str] = []
        for limit in (1, 500, 400, 500, 500):
            taken += [job.id for job in await lease(store, limit)]
        assert taken == order(waiting)
        await store.control.gate(batch_gate("batch-7", GateState.OPEN))
        held = [job for job in jobs if job.batch_id == "batch-7"]
        assert [job.id for job in await lease(store)] == order(held)
    assert redis_server.ask("EXISTS", "voiceflow:{default}:lanes") == 0


async def test_a_batch_that_was_cancelled_before_the_upgrade_is_swept(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [sample_job(number, batch_id="b") for number in range(150)]
    async with open_store(redis_server.url, clock=ManualClock()) as store:
        with release_before(monkeypatch):
            await store.jobs.enqueue(jobs, now=NOW)
            await store.control.gate(batch_gate("b", GateState.CANCELLED))
        swept = await Sweeper(store, queue=QUEUE, policy=CallPolicy()).sweep()
        assert swept.cancelled == 150
        assert (await store.jobs.count(QUEUE))[JobState.CANCELLED] == 150


@pytest.mark.parametrize("seed", range(4))
async def test_processes_of_the_release_before_go_on_beside_this_one(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """One that was already running: whatever each does, every job is leased once, by one of them."""
    chance = random.Random(seed)
    jobs = jobs_of_many_batches(400)
    waiting, taken = list(jobs), list[str]()
    async with open_store(redis_server.url) as store:
        while waiting or len(taken) < len(jobs):
            some, waiting = waiting[: chance.randrange(30)], waiting[30:] if not waiting[:30] else waiting
            waiting = [job for job in waiting if job not in some]
            old = chance.random() < 0.5
            if old:
                with release_before(monkeypatch):
                    await store.jobs.enqueue(some, now=NOW)
                    found = await old_lease(store, chance.randrange(5))
            else:
                await store.jobs.enqueue(some, now=NOW)
                found = await lease(store, chance.randrange(40))
            back, kept = found[: len(found) // 3], found[len(found) // 3 :]
            moves = [moved(job, state=JobState.QUEUED, due_at=NOW, worker_id=None) for job in back]
            if chance.random() < 0.5:
                with release_before(monkeypatch):
                    made = await store.jobs.commit(moves)
            else:
                made = await store.jobs.commit(moves)
            assert all(made)
            taken += [job.id for job in kept]
        assert sorted(taken) == sorted(job.id for job in jobs)
        left = await store.jobs.find(Query(queue=QUEUE, states=frozenset({JobState.QUEUED})))
        assert list(left) == []
        assert list(await lease(store)) == []


def test_the_scripts_of_this_release_are_others() -> None:
    for path in OLD.iterdir():
        assert path.read_text("utf-8") != script(path.stem).text
