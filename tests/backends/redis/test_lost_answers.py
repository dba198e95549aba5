"""Lost answers of a Redis server: a change that was made is never done twice, nor taken for another's."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta

import anyio
import pytest

from tests.contract.samples import add_jobs, commit, new_job
from tests.contract.suite import NOW, QUEUE, moved, sample_job
from tests.support.cutting_proxy import CuttingProxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import once_available
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.redis.faults import script
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.core.ports import Event, EventKind, Store
from voiceflow_worker.core.ports.store import BulkWrite, Put, Same, Write
from voiceflow_worker.errors import StoreUnavailableError
from voiceflow_worker.model.jobs.job import JobState

pytestmark = pytest.mark.anyio
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncGenerator[CuttingProxy]:
    async with CuttingProxy(redis_server.port).listening() as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: CuttingProxy) -> AsyncGenerator[Store]:
    async with open_store(f"redis://127.0.0.1:{proxy.port}/0") as store:
        yield store


@pytest.fixture
async def local_journal(redis_server: RedisServer) -> AsyncGenerator[Store]:
    """The same store without the proxy."""
    async with open_store(redis_server.url) as store:
        yield store


def lose_answer_of(proxy: CuttingProxy, name: str) -> None:
    proxy.cut_answer_to(script(name).sha.encode())


async def test_a_committed_move_whose_answer_is_lost_is_unavailable_and_then_true(
    store: Store, proxy: CuttingProxy, local_journal: Store
) -> None:
    job = sample_job()
    await add_jobs(local_journal, [job])
    event = Event(job_id=job.id, kind=EventKind.ENDED, at=NOW, state=JobState.FAILED, revision="r")
    move = moved(job, event, state=JobState.FAILED)
    # The server must know the script, or the first try would be refused unmade.
    assert await commit(local_journal, [moved(sample_job(9))]) == [False]

    lose_answer_of(proxy, "write")
    with pytest.raises(StoreUnavailableError):
        await commit(store, [move])
    assert proxy.cut == 1
    assert (await get_jobs(local_journal, [job.id]))[job.id] == new_job(move)
    assert await commit(store, [move]) == [True]
    assert len(await local_journal.events(QUEUE)) == 1


async def test_who_asks_again_has_something_to_wait_for(store: Store, redis_server: RedisServer) -> None:
    """WAITAOF and WAIT wait for what their own connection wrote: so what was made already is written again."""
    if redis_server.version >= (7,):
        pytest.skip("it keeps what a script has changed, and no script, and nobody waits for this server")

    def written() -> int:
        return int(str(redis_server.ask("INFO", "persistence")).partition("aof_current_size:")[2].split()[0])

    move = moved(sample_job(), state=JobState.SENDING)
    for ask in (
        lambda: add_jobs(store, [sample_job()]),
        lambda: commit(store, [move]),
        lambda: store.write(
            BulkWrite(writes=(Write(conditions=(Same("n", "k", None),), puts=(Put("n", "k", "me", None),)),)), now=NOW
        ),
    ):
        await ask()
        before = written()
        await ask()
        assert written() > before


async def test_no_write_is_sent_twice_by_itself(store: Store, proxy: CuttingProxy, local_journal: Store) -> None:
    await add_jobs(local_journal, [sample_job()])
    await commit(local_journal, [moved(sample_job(9))])
    lose_answer_of(proxy, "write")
    with pytest.raises(StoreUnavailableError):
        await commit(store, [moved(sample_job(), state=JobState.LEASED)])
    await get_jobs(store, [sample_job().id])  # whatever the client would try again has been tried by now
    sent = b"".join(proxy.requests)
    assert sent.count(script("write").sha.encode()) == 1
    assert script("write").text.encode() not in sent


async def test_a_waiting_task_hears_of_a_change_made_while_its_connection_was_cut(
    store: Store, proxy: CuttingProxy, local_journal: Store
) -> None:
    seen = await store.wait(QUEUE, seen=0, until=store.clock.now() + MINUTE)
    counts: list[int] = []

    async def wait() -> None:
        while not counts or counts[-1] == seen:
            counts.append(await once_available(lambda: store.wait(QUEUE, seen=seen, until=store.clock.now() + MINUTE)))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            proxy.close_all()
            await add_jobs(local_journal, [sample_job()])
    assert counts[-1] > seen
