"""The folders of journal files, found by a store's id and URL, and their disk, which may be slow or go away."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.contract.samples import commit
from tests.contract.suite import sample_job
from tests.support.engine import Engine
from tests.support.flows import number
from tests.support.redis_server import ask
from tests.support.stores import DURABLE, SERVERS
from tests.support.voices import ScriptedVoice
from voiceflow_worker import CallPolicy, open_store
from voiceflow_worker.backends.local_journal import JournalFiles, journal_files, journal_folder
from voiceflow_worker.core.base.reading import gates_of
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.rollback import ELSEWHERE, HELD
from voiceflow_worker.core.writer import numbers_in
from voiceflow_worker.core.writes import changed
from voiceflow_worker.errors import JournalFileError
from voiceflow_worker.model.jobs.gate import THEN
from voiceflow_worker.model.jobs.policy import OutcomeSource
from voiceflow_worker.settings import load_settings

pytestmark = pytest.mark.anyio


# --- The files of a store are found ---

Url = Callable[[str], str]


def worker_on(store: Store, url: str, state: Path) -> Engine:
    """A worker whose journal files are those of the settings."""
    files = journal_files(store, url, load_settings(state_dir=str(state)))
    return Engine(store, ScriptedVoice(), policy=CallPolicy(outcomes=OutcomeSource.NONE), local_journal=files)


def by_another_url(backend: str, url: str, folder: Path) -> str:
    """Another URL of the same store: another name of its host, or of the folder of its file."""
    if backend != "sqlite":
        return url.replace("127.0.0.1", "localhost").replace("redis://", "redis://default:any@")
    moved = folder / "moved"
    moved.mkdir()
    file = Path(url.removeprefix("sqlite:///"))
    for each in file.parent.glob(f"{file.name}*"):
        each.rename(moved / each.name)
    return f"sqlite:///{moved / file.name}"


async def holds(store: Store) -> list[str]:
    return [gate.reason for gate in await gates_of(store, "default")]


@pytest.mark.anyio
@pytest.mark.parametrize("backend", DURABLE)
async def test_a_store_under_another_url_finds_the_files_of_its_calls(
    backend: str, fresh_url: Url, tmp_path: Path
) -> None:
    url = fresh_url(backend)
    async with open_store(url) as store, worker_on(store, url, tmp_path / "state").at_work() as engine:
        queued = await engine.enqueue(number(0))
        (sent,) = await engine.send()
    async with open_store(url) as store:  # a server with an older state takes its place
        assert await commit(store, [changed(sent, queued, at=store.clock.now())[1]]) == [True]
        await numbers_in(store).remove([name for name, _ in await numbers_in(store).all()])
    moved = by_another_url(backend, url, tmp_path)
    async with open_store(moved) as store, worker_on(store, moved, tmp_path / "state").at_work() as other:
        first, *more = (await holds(store))[0].split(THEN)
        assert first == HELD
        assert ELSEWHERE.partition("{")[0] in more[-1]
        assert await other.state(sent) == "in_doubt"
        assert await other.send() == []


@pytest.mark.anyio
@pytest.mark.parametrize("backend", SERVERS)
async def test_a_store_that_was_emptied_finds_the_files_of_its_url(
    backend: str, fresh_url: Url, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = fresh_url(backend)
    async with open_store(url) as store, worker_on(store, url, tmp_path).at_work() as engine:
        await engine.enqueue(number(0))
        (sent,) = await engine.send()
        was = store.id
    if backend == "redis":
        ask(request.getfixturevalue("shared_redis").port, "FLUSHALL")
    else:
        schema = url.rpartition("=")[2]
        request.getfixturevalue("postgres_server").ask(f"DROP SCHEMA {schema} CASCADE")
    async with open_store(url) as store, worker_on(store, url, tmp_path).at_work() as other:
        assert store.id != was
        assert await holds(store) == [HELD]
        assert await other.state(sent) == "in_doubt"


@pytest.mark.anyio
async def test_a_copy_is_held_for_what_the_store_has_sent_since_and_the_store_goes_on(tmp_path: Path) -> None:
    """The calls that wait in both would be made by both."""
    files = {name: tmp_path / f"{name}.db" for name in ("calls", "staging")}
    url, copy = (f"sqlite:///{file}" for file in files.values())
    async with open_store(url) as store:
        engine = worker_on(store, url, tmp_path / "state")
        for place in range(2):
            await engine.enqueue(number(place))
    shutil.copy(files["calls"], files["staging"])
    async with open_store(url) as store, worker_on(store, url, tmp_path / "state").at_work() as engine:
        assert len(await engine.send(limit=1)) == 1
    async with open_store(copy) as store, worker_on(store, copy, tmp_path / "state").at_work() as engine:
        (reason,) = await holds(store)
        assert reason.startswith(HELD)
        assert journal_folder(store, url, tmp_path).name in reason
        assert await engine.send() == []
    async with open_store(url) as store, worker_on(store, url, tmp_path / "state").at_work() as engine:
        assert await holds(store) == []
        assert len(await engine.send()) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("backend", SERVERS)
async def test_two_stores_of_one_server_do_not_read_each_others_files(
    backend: str, fresh_url: Url, tmp_path: Path
) -> None:
    for url in (fresh_url(backend), fresh_url(backend)):
        async with open_store(url) as store, worker_on(store, url, tmp_path).at_work() as engine:
            await engine.enqueue(number(0))
            assert len(await engine.send()) == 1
            assert await holds(store) == []


THREAD = False


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Notes of each sync of a file whether the thread of the test waits for it."""
    here, synced, sync = threading.get_ident(), list[bool](), os.fsync

    def noted(fd: int) -> None:
        synced.append(threading.get_ident() == here)
        sync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    return synced


async def ids_in(journals: JournalFiles) -> list[str]:
    """The calls of which the files of a queue have entries."""
    files = await journals.files("reminders")
    return [job.id for each in files for _, job in (await journals.entries(each.name)).jobs]


def deleted(folder: Path) -> None:
    shutil.rmtree(folder)


def moved(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def replaced(folder: Path) -> None:
    (path,) = folder.glob("*/*")
    path.with_suffix(".copy").write_bytes(path.read_bytes())
    path.with_suffix(".copy").rename(path)


@pytest.mark.parametrize("goes", [deleted, moved, replaced])
async def test_entries_go_to_a_file_that_a_guard_finds_after_the_journal_is_gone(
    goes: Callable[[Path], None], tmp_path: Path, synced: list[bool]
) -> None:
    """The event loop waits for no disk."""
    folder = tmp_path / "journals"
    journals = JournalFiles(folder)
    file = await journals.begin("reminders", at=datetime.now(UTC))
    await file.append([(1, sample_job(1))])
    goes(folder)
    assert file.is_over(at=datetime.now(UTC))
    file.close()
    file = await journals.begin("reminders", at=datetime.now(UTC))
    await file.append([(2, sample_job(2))])
    found = await ids_in(journals)
    file.close()
    assert sample_job(2).id in found
    assert set(synced) == {THREAD}


async def test_what_was_written_in_part_spoils_no_later_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journals = JournalFiles(tmp_path)
    file = await journals.begin("reminders", at=datetime.now(UTC))
    await file.append([(1, sample_job(1))])
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) <= 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[:5])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(JournalFileError):
            await file.append([(2, sample_job(2))])
    assert file.is_over(at=datetime.now(UTC))
    file.close()
    (state,) = await journals.files("reminders")
    assert sample_job(1).id in {job.id for _, job in (await journals.entries(state.name)).jobs}
