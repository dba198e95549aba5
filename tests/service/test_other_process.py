"""Work in another process, with its own connection to the store."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import anyio
import pytest

from tests.support.flows import flow
from tests.support.waiting import until
from voiceflow_worker import CallQueue, InvalidInputError, Store, load_settings
from voiceflow_worker.errors import CampaignFileError, StoreCorruptError
from voiceflow_worker.finding import Finding
from voiceflow_worker.service.other_process import OtherProcess

pytestmark = pytest.mark.anyio


async def enqueued(store: Store, batch: str, *, noisy: bool) -> tuple[int, str]:
    if noisy:
        sys.stdout.write("a library speaks")
    job = await CallQueue(store).enqueue(flow(), batch=batch)
    return os.getpid(), job.id


async def refused(_: Store, path: Path) -> None:
    raise CampaignFileError(f"{path} is none", [Finding(message="it is empty", row=3)])


async def broken(_: Store) -> None:
    raise KeyError("a mistake of ours")


async def stuck(_: Store, path: Path) -> None:
    await anyio.Path(path).write_text(str(os.getpid()))
    signal.pause()


async def test_work_is_done_in_another_process_on_the_same_store(store: Store) -> None:
    pid, job = await OtherProcess(store).run(enqueued, "märz", noisy=True)
    assert pid != os.getpid()
    assert (await CallQueue(store).get(job)).batch_id == "märz"


@pytest.mark.slow
async def test_what_was_wrong_is_raised_here(store: Store) -> None:
    with pytest.raises(CampaignFileError, match=r"people\.csv is none") as caught:
        await OtherProcess(store).run(refused, Path("people.csv"))
    assert [(each.row, each.message) for each in caught.value.findings] == [(3, "it is empty")]
    assert isinstance(caught.value, InvalidInputError)
    with pytest.raises(RuntimeError, match="ended with 1"):
        await OtherProcess(store).run(broken)


async def test_work_is_not_done_on_another_store(store: Store, tmp_path: Path) -> None:
    process = OtherProcess(store)
    process._url = f"sqlite:///{tmp_path / 'another.db'}"
    with pytest.raises(StoreCorruptError, match="is another store for a second process than for this one"):
        await process.run(enqueued, "may", noisy=False)


@pytest.mark.slow
async def test_a_cancellation_ends_the_process(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(OtherProcess(store).run, stuck, path)
        await until(lambda: path.exists() and path.read_text().isdigit(), within=60)
        tasks.cancel_scope.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(int(path.read_text()), 0)


async def test_a_store_in_memory_is_in_this_process_alone(memory: Store) -> None:
    pid, job = await OtherProcess(memory, settings=load_settings(store="memory://")).run(enqueued, "may", noisy=False)
    assert pid == os.getpid()
    assert (await CallQueue(memory).get(job)).batch_id == "may"


@pytest.mark.parametrize(
    ("shown", "set_as", "url"),
    [
        ("redis://me:***@calls/0", "redis://me:s3cret@calls/0", "redis://me:s3cret@calls/0"),
        ("redis://me:***@calls/0", "redis://me:s3cret@other/0", None),
        ("redis://calls/0", "sqlite:///voiceflow.db", "redis://calls/0"),
    ],
)
def test_the_password_of_a_store_comes_from_the_settings(shown: str, set_as: str, url: str | None) -> None:
    class Elsewhere:
        url = shown

    process = OtherProcess(Elsewhere(), settings=load_settings(store=set_as))  # type: ignore[arg-type]
    assert process._url == url
