"""A name that leads to another Redis for some seconds: nothing is stored there, and nobody of it rings."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from tests.support.flows import number
from tests.support.redis_server import standalone
from tests.support.voices import ScriptedVoice
from tests.support.waiting import once_available, until
from tests.support.workers import enqueued, worker_with_files
from voiceflow_worker import open_store
from voiceflow_worker.core.settling.suppressing import SuppressionList
from voiceflow_worker.errors import StoreUnavailableError

pytestmark = [pytest.mark.anyio, pytest.mark.alone]


@pytest.mark.parametrize("is_empty", [True, False])
async def test_another_redis_at_the_same_address_is_refused_until_the_store_is_back(
    tmp_path: Path, *, is_empty: bool
) -> None:
    voice = ScriptedVoice()
    server = standalone(tmp_path / "a").start()
    other = standalone(tmp_path / "b").start()
    if not is_empty:
        async with open_store(other.url) as staging:
            await enqueued(staging, 3)
    other.kill()
    other.port = server.port
    try:
        async with open_store(server.url) as store, anyio.create_task_group() as group:
            worker = worker_with_files(store, voice, tmp_path / "journals")
            group.start_soon(worker.run)
            await enqueued(store, 1, first=10)
            await until(lambda: len(voice.placed) == 1)
            await to_thread.run_sync(server.kill)
            await to_thread.run_sync(other.start)

            async def is_told() -> bool:
                try:
                    await SuppressionList(store).add(number(0), reason="asked for it")
                except StoreUnavailableError as error:
                    return "the one that this process has opened" in str(error)
                raise AssertionError("the opt-out went into the other store")

            await until(is_told)
            assert len(voice.placed) == 1
            assert (other.ask("DBSIZE") == 0) is is_empty
            await to_thread.run_sync(other.kill)
            await to_thread.run_sync(server.start)
            await once_available(lambda: SuppressionList(store).add(number(0), reason="asked for it"))
            await once_available(lambda: enqueued(store, 1, first=11))
            await until(lambda: len(voice.placed) == 2)
            worker.stop()
    finally:
        server.kill()
        other.kill()
