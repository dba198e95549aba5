"""A server that is killed, paused, full, demoted or failed over: said clearly, nothing lost, on by itself."""

from __future__ import annotations

import time
from datetime import timedelta

import anyio
import pytest
from anyio import to_thread

from tests.contract.samples import add_jobs, commit
from tests.contract.suite import NOW, QUEUE, ManualClock, moved, sample_job, sample_jobs
from tests.support.redis_server import RedisCluster, RedisServer, WatchedPair, free_port, wait_for
from tests.support.scripted_redis import Answer, ScriptedRedis
from tests.support.waiting import once_available
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.redis.faults import script
from voiceflow_worker.core.base.reading import count_states, get_jobs
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite, Put, Write
from voiceflow_worker.errors import StoreReadOnlyError, StoreUnavailableError
from voiceflow_worker.model.jobs.job import JobState

pytestmark = pytest.mark.anyio
MINUTE = timedelta(minutes=1)


async def answers(store: Store, queue: str) -> bool:
    try:
        await count_states(store, queue)
    except StoreUnavailableError:
        return False
    return True


async def states(store: Store) -> dict[JobState, int]:
    return {state: count for state, count in (await count_states(store, QUEUE)).items() if count}


async def test_a_killed_server_is_said_to_be_away_and_found_again(own_server: RedisServer) -> None:
    async with open_store(own_server.url) as store:
        await add_jobs(store, sample_jobs(50))
        leased = await store.lease(QUEUE, worker_id="w", limit=20, until=NOW + MINUTE, now=NOW)
        moves = [moved(job, state=JobState.SENDING) for job in leased]
        assert all(await commit(store, moves))

        await to_thread.run_sync(own_server.kill)
        with pytest.raises(StoreUnavailableError, match="cannot be reached"):
            await commit(store, moves)
        await to_thread.run_sync(own_server.start)

        started = time.monotonic()
        assert await once_available(lambda: commit(store, moves)) == [True] * 20
        assert time.monotonic() - started < 5
        assert await states(store) == {JobState.QUEUED: 30, JobState.SENDING: 20}


class Dispatchy(ScriptedRedis):
    """A server that passes its survey, and closes the connection at the first question."""

    surveys = 0

    def _answer(self, words: list[str]) -> Answer:
        self.surveys += words[0].upper() == "INFO"
        if words[1:2] == [script("totals").sha]:
            raise anyio.EndOfStream
        return super()._answer(words)


async def test_a_server_that_closes_each_connection_after_its_survey_is_asked_with_pauses() -> None:
    server = Dispatchy()
    async with server.listening(), open_store(server.url, clock=ManualClock()) as store:
        with anyio.move_on_after(1):
            while True:
                assert not await answers(store, QUEUE)
        assert 1 < server.surveys < 10


async def test_every_commit_that_was_answered_survives_a_kill(own_server: RedisServer) -> None:
    """Killed while many commit: what was told to be made is there after the restart."""
    jobs = sample_jobs(400)
    told: set[str] = set()
    enough = anyio.Event()
    async with open_store(own_server.url) as store:
        await add_jobs(store, jobs)

        async def move_some(number: int) -> None:
            for job in jobs[number::8]:
                try:
                    [made] = await commit(store, [moved(job, state=JobState.SENDING)])
                except StoreUnavailableError:
                    return
                if made:
                    told.add(job.id)
                if len(told) == 40:
                    enough.set()

        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(move_some, number)
            await enough.wait()
            own_server.kill()
        await to_thread.run_sync(own_server.start)
        found = await once_available(lambda: get_jobs(store, [job.id for job in jobs]))
    assert len(found) == 400
    assert told <= {job.id for job in found.values() if job.state is JobState.SENDING}


async def test_a_paused_server_is_given_up_and_found_again(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voiceflow_worker.backends.redis.connection.ANSWER_TIMEOUT", 0.3)
    async with open_store(own_server.url) as store:
        job = sample_job()
        await add_jobs(store, [job])
        move = moved(job, state=JobState.CANCELLED)
        own_server.pause()
        with pytest.raises(StoreUnavailableError):
            await commit(store, [move])
        own_server.go_on()
        # Whether the paused server made it or not: asked again, it is made once.
        assert await once_available(lambda: commit(store, [move])) == [True]


async def test_a_full_server_takes_nothing_and_says_what_to_do(own_server: RedisServer) -> None:
    async with open_store(own_server.url) as store:
        job = sample_job()
        await add_jobs(store, [job])
        own_server.ask("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreReadOnlyError, match="maxmemory"):
            await add_jobs(store, [sample_job(2)])
        with pytest.raises(StoreReadOnlyError, match="maxmemory"):
            await store.write(BulkWrite(writes=(Write(puts=(Put("number", "+6587654321", job.id, None),)),)), now=NOW)
        assert (await get_jobs(store, [job.id, sample_job(2).id])) == {job.id: job}
        # What is known of a call that is there already is taken all the same: evidence is never dropped.
        assert await commit(store, [moved(job, state=JobState.SUBMITTED)]) == [True]
        own_server.ask("CONFIG", "SET", "maxmemory", "0")
        await add_jobs(store, [sample_job(2)])
        assert await states(store) == {JobState.QUEUED: 1, JobState.SUBMITTED: 1}


async def test_a_primary_that_becomes_a_replica_is_not_written_to(own_server: RedisServer) -> None:
    async with open_store(own_server.url) as store:
        job = sample_job()
        await add_jobs(store, [job])
        own_server.ask("REPLICAOF", "127.0.0.1", free_port())
        with pytest.raises(StoreUnavailableError, match="replica"):
            await commit(store, [moved(job, state=JobState.LEASED)])
        own_server.ask("REPLICAOF", "NO", "ONE")
        assert await once_available(lambda: commit(store, [moved(job, state=JobState.CANCELLED)])) == [True]


@pytest.mark.alone
async def test_a_failover_is_followed(watched_pair: WatchedPair) -> None:
    async with open_store(f"{watched_pair.url}?replicas=1") as store:
        await add_jobs(store, sample_jobs(20))
        leased = await store.lease(QUEUE, worker_id="w", limit=10, until=NOW + MINUTE, now=NOW)
        moves = [moved(job, state=JobState.SENDING) for job in leased]
        assert all(await commit(store, moves))

        await to_thread.run_sync(watched_pair.primary.kill)
        found = await once_available(lambda: get_jobs(store, [job.id for job in leased]))
        assert all(job.state is JobState.SENDING for job in found.values())
        assert watched_pair.named_port() == watched_pair.replica.port

        # There is no replica left to confirm anything, so nothing counts as made …
        with pytest.raises(StoreUnavailableError, match="did not confirm"):
            await commit(store, [moved(found[leased[0].id], state=JobState.IN_DOUBT)])
        # … until the old primary has come back as one.
        await to_thread.run_sync(watched_pair.primary.start)
        second = moved(found[leased[1].id], state=JobState.IN_DOUBT)
        assert await once_available(lambda: commit(store, [second])) == [True]


@pytest.mark.alone
async def test_a_primary_that_is_replaced_while_alive_is_left(watched_pair: WatchedPair) -> None:
    """For a moment the old primary takes writes that it will forget: with a replica to confirm, none of them counts."""
    async with open_store(f"{watched_pair.url}?replicas=1") as store:
        await add_jobs(store, [sample_job()])
        old = watched_pair.named_port()
        await to_thread.run_sync(wait_for, watched_pair.fail_over, "replica that the sentinel would take")
        await to_thread.run_sync(wait_for, lambda: watched_pair.named_port() != old, "other primary")
        move = moved(sample_job(), state=JobState.CANCELLED)
        assert await once_available(lambda: commit(store, [move])) == [True]
        assert watched_pair.replica.ask("ZCARD", "{voiceflow}:queue:default:state:cancelled") == 1


@pytest.mark.alone
async def test_a_cluster_goes_on_when_its_nodes_were_restarted(cluster: RedisCluster) -> None:
    cluster.flush()
    async with open_store(cluster.url) as store:
        for queue in ("a", "b", "c", "default"):
            await add_jobs(store, [sample_job(queue=queue)])
        for killed in (cluster.nodes[:1], cluster.nodes):
            for node in killed:
                await to_thread.run_sync(node.kill)
            away = [queue for queue in ("a", "b", "c", "default") if not await answers(store, queue)]
            assert away
            for node in killed:
                await to_thread.run_sync(node.start)
            for queue in ("a", "b", "c", "default"):
                counts = await once_available(lambda queue=queue: count_states(store, queue))  # type: ignore[misc]
                assert counts[JobState.QUEUED] == 1
