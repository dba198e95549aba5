"""Failovers to a replica that lags: nothing rings twice, and what a replica must confirm outlives its primary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from tests.support.flows import number
from tests.support.redis_server import ReplicatedCluster, WatchedPair, wait_for
from tests.support.voices import ScriptedVoice
from tests.support.waiting import once_available, until
from tests.support.workers import enqueued, in_state, worker_with_files
from voiceflow_worker import JobState, open_store
from voiceflow_worker.core.base.reading import count_states, gates_of
from voiceflow_worker.core.rollback import HELD
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import StoreUnavailableError

pytestmark = [pytest.mark.anyio, pytest.mark.alone]


@pytest.fixture
def replicated_cluster(tmp_path: Path) -> Iterator[ReplicatedCluster]:
    servers = ReplicatedCluster(tmp_path)
    try:
        yield servers.start()
    finally:
        servers.kill()


async def test_a_running_worker_sees_that_a_lagging_replica_was_promoted(
    watched_pair: WatchedPair, tmp_path: Path
) -> None:
    """Twenty calls left while the replica took nothing: the promoted replica has them as queued."""
    voice = ScriptedVoice()
    async with open_store(watched_pair.url) as store, anyio.create_task_group() as group:
        queue = await enqueued(store, 20)
        await until(lambda: watched_pair.replica.ask("DBSIZE") == watched_pair.primary.ask("DBSIZE"))
        watched_pair.replica.lag()
        worker = worker_with_files(store, voice, tmp_path / "journals")
        group.start_soon(worker.run)
        await in_state(store, JobState.ACCEPTED, 20)
        await to_thread.run_sync(watched_pair.primary.kill)
        await to_thread.run_sync(
            wait_for, lambda: watched_pair.named_port() == watched_pair.replica.port, "promoted replica"
        )

        async def held() -> bool:
            return any(HELD in gate.reason for gate in await gates_of(store, "default"))

        await until(lambda: once_available(held))
        await in_state(store, JobState.IN_DOUBT, 20)
        # A person settles the doubts and resumes: only what is new is sent.
        for job in await queue.find(states=[JobState.IN_DOUBT], limit=None):
            await queue.resolve(job.id, placed=True, note="seen in the log")
        await enqueued(store, 5, first=20)
        await queue.resume()
        await until(lambda: len(voice.placed) >= 25)
        worker.stop()
    assert Counter(voice.client_request_ids).most_common(1) == [(voice.client_request_ids[0], 1)]


async def test_nothing_leaves_while_the_replica_that_must_confirm_lags(
    watched_pair: WatchedPair, tmp_path: Path
) -> None:
    voice = ScriptedVoice()
    async with (
        open_store(f"{watched_pair.url}?replicas=1&failover=trusted") as store,
        anyio.create_task_group() as group,
    ):
        await enqueued(store, 5)
        watched_pair.replica.lag()
        with pytest.raises(StoreUnavailableError, match="did not confirm"):
            await SuppressionList(store).add(number(0), reason="asked for it")
        with pytest.raises(StoreUnavailableError, match="did not confirm"):
            await SuppressionList(store).add(number(1), reason="asked for it")
        await to_thread.run_sync(watched_pair.replica.catch_up)
        await once_available(lambda: SuppressionList(store).add(number(0), reason="asked for it"))
        await to_thread.run_sync(watched_pair.primary.kill)
        await once_available(lambda: count_states(store, "default"))
        await to_thread.run_sync(watched_pair.primary.start)
        await to_thread.run_sync(wait_for, watched_pair.primary.follows, "old primary that has become a replica")
        worker = worker_with_files(store, voice, tmp_path / "journals")
        group.start_soon(worker.run)
        await until(lambda: len(voice.placed) >= 3)
        await in_state(store, JobState.CANCELLED, 2)
        worker.stop()
    assert len(voice.placed) == 3, "the two who had opted out before the failover are not called"


async def test_an_opt_out_in_a_cluster_outlives_its_primary(
    replicated_cluster: ReplicatedCluster, tmp_path: Path
) -> None:
    voice = ScriptedVoice()
    url = f"{replicated_cluster.url}?replicas=1&failover=trusted"
    async with open_store(url) as store, anyio.create_task_group() as group:
        await enqueued(store, 5)
        await SuppressionList(store).add(number(0), reason="asked for it")
        place = replicated_cluster.holder_of("{voiceflow}:records:suppressed*")
        replicated_cluster.replicas[place].lag()
        with pytest.raises(StoreUnavailableError, match="did not confirm"):
            await SuppressionList(store).add(number(1), reason="asked for it")
        await to_thread.run_sync(replicated_cluster.replicas[place].catch_up)
        await once_available(lambda: SuppressionList(store).add(number(2), reason="asked for it"))
        await to_thread.run_sync(replicated_cluster.fail_over, place)
        worker = worker_with_files(store, voice, tmp_path / "journals")
        await once_available(lambda: SuppressionList(store).scan())
        group.start_soon(worker.run)
        await in_state(store, JobState.CANCELLED, 3)
        await until(lambda: len(voice.placed) >= 2)
        worker.stop()
    assert len(voice.placed) == 2, "the three who had opted out are not called"
