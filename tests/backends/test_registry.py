"""From a store URL to its backend; a store belongs to the process and the event loop that opened it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module, metadata
from importlib.metadata import EntryPoint
from pathlib import Path
from threading import Thread

import anyio
import pytest

from tests.contract.samples import ManualClock
from tests.support.manual_time import time_passing
from tests.support.stores import DURABLE, SERVERS, bare
from tests.support.workers import enqueued
from voiceflow_worker import open_store
from voiceflow_worker.backends import registry
from voiceflow_worker.backends.sqlite import SqliteStore
from voiceflow_worker.core.base.clock import SystemClock
from voiceflow_worker.core.base.reading import count_states
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import StoreUnavailableError, UnknownBackendError

# ruff: noqa: ASYNC240 - a test may wait for a small file or a process of its own


@pytest.mark.anyio
@pytest.mark.parametrize("scheme", ["sqlite", "file", "SQLITE"])
async def test_a_file_is_opened_by_its_url(tmp_path: Path, scheme: str) -> None:
    async with open_store(f"{scheme}:///{tmp_path}/calls.db") as opened:
        store = bare(opened, SqliteStore)
        assert store.url == f"{scheme}:///{tmp_path}/calls.db"
        assert isinstance(store.clock, SystemClock)
    assert (tmp_path / "calls.db").exists()


@pytest.mark.anyio
async def test_the_default_is_a_file_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_store():
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["voiceflow.db"]


def test_an_unknown_scheme_lists_those_there_are() -> None:
    with pytest.raises(UnknownBackendError, match=r"'mysql://host/db'.*Registered schemes: .*file, memory.*, sqlite"):
        open_store("mysql://host/db")


@pytest.mark.parametrize("url", ["calls.db", "", "/var/lib/calls.db"])
def test_a_path_is_not_a_url_and_the_remedy_is_reported(url: str) -> None:
    with pytest.raises(UnknownBackendError, match=f"sqlite:///{url or 'voiceflow.db'}"):
        open_store(url)


@pytest.mark.parametrize(
    ("scheme", "extra"),
    [
        *((scheme, "redis") for scheme in ("redis", "rediss", "redis+sentinel", "valkey")),
        *((scheme, "postgres") for scheme in ("postgresql", "postgres")),
    ],
)
def test_a_backend_without_its_extra_tells_what_to_install(
    monkeypatch: pytest.MonkeyPatch, scheme: str, extra: str
) -> None:
    without(monkeypatch, extra)
    with pytest.raises(UnknownBackendError) as refused:
        open_store(f"{scheme}://localhost:6379/0")
    assert str(refused.value).count(f"pip install 'voiceflow-worker[{extra}]'") == 1


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:geheim@host:6379/0",
        "redis://user:ge/heim@host",
        "redis://user:geheim@[::1",
        "user:ge/heim@host",
        "redis",
    ],
)
def test_no_error_shows_a_password(url: str) -> None:
    with pytest.raises(UnknownBackendError) as caught:
        open_store(f"nonsense+{url}" if "://" in url else url)
    assert "heim" not in str(caught.value)


def test_a_backend_that_cannot_be_loaded_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "mystore", "no_such_module:open_mystore")
    with pytest.raises(UnknownBackendError, match=r"no_such_module:open_mystore.*No module named 'no_such_module'"):
        open_store("mystore://secret@place")


def test_enqueue_in_without_its_extra_tells_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "postgres")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'voiceflow-worker\[postgres\]'"):
        import_module("voiceflow_worker.backends.postgres.transaction")  # as `voiceflow_worker.enqueue_in` does


def without(monkeypatch: pytest.MonkeyPatch, extra: str) -> None:
    """The library of an extra is not there, and nobody has loaded what needs it."""
    for name in [name for name in sys.modules if name.startswith(f"voiceflow_worker.backends.{extra}")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, {"redis": "redis", "postgres": "psycopg"}[extra], None)


def register(monkeypatch: pytest.MonkeyPatch, scheme: str, value: str) -> None:
    """Pretend that a distribution is installed which brings one backend."""
    entries = [EntryPoint(scheme, value, registry.ENTRY_POINT_GROUP)]

    def entry_points(*, group: str, name: str | None = None) -> list[EntryPoint]:
        return [entry for entry in entries if group == entry.group and name in {None, entry.name}]

    monkeypatch.setattr(metadata, "entry_points", entry_points)


def _told(store: Store) -> str:
    """What an event loop of its own hears of the store, when it reads and when it writes."""
    heard: list[str] = []
    for ask in (lambda: count_states(store, "default"), lambda: enqueued(store, 1, first=7)):
        try:
            asyncio.run(asyncio.wait_for(ask(), 5))
        except StoreUnavailableError as error:
            heard.append(str(error))
    return heard[0] if len(heard) == 2 else "an answer"


@pytest.mark.parametrize("kind", ["sqlite", "redis", "postgres"])
def test_a_store_is_refused_in_a_fork_and_on_another_event_loop(fresh_url: Callable[[str], str], kind: str) -> None:
    async def opened() -> None:
        async with open_store(fresh_url(kind), advises=False) as store:
            await enqueued(store, 1)
            heard: list[str] = []
            thread = Thread(target=lambda: heard.append(_told(store)))
            thread.start()
            await asyncio.to_thread(thread.join)
            assert "another event loop" in heard[0]
            reads, writes = os.pipe()
            if (child := os.fork()) == 0:
                asyncio.events._set_running_loop(None)
                os.write(writes, _told(store).encode())
                os._exit(0)
            await asyncio.to_thread(os.waitpid, child, 0)
            assert "before this process was forked" in os.read(reads, 4096).decode()
            os.close(reads)
            os.close(writes)
            assert sum((await count_states(store, "default")).values()) == 1

    asyncio.run(opened())


@pytest.mark.anyio
@pytest.mark.parametrize("kind", DURABLE)
async def test_many_that_open_a_new_store_at_once_all_find_one(fresh_url: Callable[[str], str], kind: str) -> None:
    url = fresh_url(kind)

    async def use(place: int) -> None:
        async with open_store(url, advises=False) as store:
            await enqueued(store, 1, first=place)

    async with anyio.create_task_group() as group:
        for place in range(6):
            group.start_soon(use, place)
    async with open_store(url, advises=False) as store:
        assert sum((await count_states(store, "default")).values()) == 6


@pytest.mark.anyio
@pytest.mark.parametrize("kind", SERVERS)
async def test_a_clock_that_is_handed_in_is_used(
    fresh_url: Callable[[str], str], clock: ManualClock, kind: str
) -> None:
    async with open_store(fresh_url(kind), clock=clock, advises=False) as store:
        assert store.clock is clock
        clock.advance(timedelta(hours=1))
        seen = await store.wait("default", seen=0, until=clock.now())
        async with time_passing(clock, step=timedelta(seconds=1)):
            with anyio.fail_after(30):
                assert await store.wait("default", seen=seen, until=clock.now() + timedelta(seconds=5)) == seen
