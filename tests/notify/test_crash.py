"""Processes that are killed with SIGKILL while they tell: nothing is lost, and what comes again has the same id."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio.to_thread
import pytest
from anyio.abc import SocketStream

from tests.support.calls import Calls
from tests.support.endpoint import Endpoint, Received, answering
from tests.support.processes import Process
from tests.support.redis_server import standalone
from tests.support.waiting import until
from voiceflow_worker import open_store
from voiceflow_worker.core.ports import Store

pytestmark = pytest.mark.anyio

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"  # what is killed is another process: the event loop of this one does not matter


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'calls.db'}"
        return
    server = standalone(tmp_path / "redis").start()
    yield server.url
    server.kill()


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    async with open_store(url) as opened:
        yield opened


async def begun(store: Store, endpoint: Endpoint) -> Process:
    """A process that tells the endpoint."""
    process = Process(store.url, endpoint.url, SECRET, module="tests.notify.victim")
    await anyio.to_thread.run_sync(lambda: process.wait_for("telling"))
    return process


@pytest.mark.alone
@pytest.mark.crash
async def test_killed_between_the_call_and_its_acknowledgement(store: Store) -> None:
    """The endpoint has it, the process dies before it hears so: it comes again, once, with the same id."""
    calls = Calls(store)
    processes: list[Process] = []
    arrived = anyio.Event()

    async def kill_the_sender(_received: Received, _stream: SocketStream) -> None:
        processes[-1].signal(signal.SIGKILL)
        arrived.set()

    async with Endpoint().running() as endpoint:
        try:
            processes.append(await begun(store, endpoint))
            before = await calls.ended()
            await until(lambda: len(endpoint.received) == 1)
            # Only what was saved is not told again: the next outcome comes after that.
            await anyio.sleep(0.5)  # another process saves what it told; no event says so
            endpoint.answers = [kill_the_sender]
            job = await calls.placed()
            for _ in range(5):
                await calls.end(job)
            await arrived.wait()
            processes.append(await begun(store, endpoint))
            after = await calls.ended()
            await until(lambda: len(endpoint.received) >= 4)
            await anyio.sleep(0.5)  # time for one to come twice, which must not; no event says that none did
        finally:
            for process in processes:
                await anyio.to_thread.run_sync(lambda each=process: each.end(signal.SIGKILL))  # type: ignore[misc]
    told = [f"{each.id.replace('.', '_')}_1_completed" for each in (before, job, job, after)]
    assert sorted(endpoint.ids) == sorted(told)
    assert len({received.body for received in endpoint.received}) == 3, "what comes again is the same"


@pytest.mark.alone
@pytest.mark.crash
async def test_killed_again_and_again_nothing_is_lost(store: Store) -> None:
    calls = Calls(store)
    jobs = [await calls.placed() for _ in range(60)]
    kills = 4
    async with Endpoint().running() as endpoint:
        endpoint.usual = answering(200)
        process = await begun(store, endpoint)
        try:
            for each in range(kills):
                for job in jobs[each * 15 : each * 15 + 15]:
                    await calls.end(job)
                heard = len(set(endpoint.ids))
                await until(lambda heard=heard: len(set(endpoint.ids)) > heard)  # type: ignore[misc]
                await anyio.to_thread.run_sync(lambda process=process: process.end(signal.SIGKILL))  # type: ignore[misc]
                process = await begun(store, endpoint)
            await until(lambda: len(set(endpoint.ids)) == 60)
        finally:
            await anyio.to_thread.run_sync(lambda: process.end(signal.SIGKILL))
    assert set(endpoint.ids) == {f"{job.id.replace('.', '_')}_1_completed" for job in jobs}
    repeated = sum(times - 1 for times in Counter(endpoint.ids).values())
    assert repeated <= 15 * kills, "no more comes again than was new when the process died"
