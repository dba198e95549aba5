"""From a store URL to its backend."""

# ruff: noqa: ASYNC240 - a test may wait for a small file or a process of its own

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from voiceflow_worker.backends import open_store, registry
from voiceflow_worker.backends.contract import ManualClock
from voiceflow_worker.backends.memory import MemoryStore
from voiceflow_worker.backends.sqlite import SqliteStore
from voiceflow_worker.core.ports import Clock
from voiceflow_worker.core.ports.clock import SystemClock
from voiceflow_worker.errors import UnknownBackendError


@pytest.mark.anyio
@pytest.mark.parametrize("scheme", ["sqlite", "file", "SQLITE"])
async def test_a_file_is_opened_by_its_url(tmp_path: Path, scheme: str) -> None:
    async with open_store(f"{scheme}:///{tmp_path}/calls.db") as store:
        assert isinstance(store, SqliteStore)
        assert store.url == f"{scheme}:///{tmp_path}/calls.db"
        assert isinstance(store.clock, SystemClock)
    assert (tmp_path / "calls.db").exists()


@pytest.mark.anyio
async def test_the_default_is_a_file_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_store():
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["voiceflow.db"]


@pytest.mark.anyio
async def test_each_memory_store_is_its_own() -> None:
    async with open_store("memory://") as one, open_store("memory://") as two:
        assert isinstance(one, MemoryStore)
        assert one is not two


@pytest.mark.anyio
@pytest.mark.parametrize("url", ["memory://", "sqlite:///calls.db"])
async def test_a_clock_can_be_given(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    clock = ManualClock()
    async with open_store(url, clock=clock) as store:
        assert store.clock is clock


def test_nothing_is_opened_before_it_is_entered(tmp_path: Path) -> None:
    open_store(f"sqlite:///{tmp_path}/calls.db")
    assert list(tmp_path.iterdir()) == []


def test_an_option_that_a_backend_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="patience"):
        open_store("memory://", patience=1)


def test_an_unknown_scheme_lists_those_there_are() -> None:
    with pytest.raises(UnknownBackendError, match=r"'mysql://host/db'.*Registered schemes: .*file, memory.*, sqlite"):
        open_store("mysql://host/db")


@pytest.mark.parametrize("url", ["calls.db", "", "/var/lib/calls.db"])
def test_a_path_is_not_a_url_and_the_remedy_is_reported(url: str) -> None:
    with pytest.raises(UnknownBackendError, match=f"sqlite:///{url or 'voiceflow.db'}"):
        open_store(url)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster", "redis+sentinel", "valkey"])
def test_redis_without_its_extra_tells_what_to_install(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setitem(sys.modules, "voiceflow_worker.backends.redis", None)
    with pytest.raises(UnknownBackendError, match=r"pip install 'voiceflow-worker\[redis\]'"):
        open_store(f"{scheme}://localhost:6379/0")


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


@asynccontextmanager
async def open_mystore(url: str, *, clock: Clock | None = None, **options: Any) -> AsyncGenerator[MemoryStore]:
    store = MemoryStore(clock=clock)
    store.url = f"{url} with {options}"
    yield store


@pytest.mark.anyio
async def test_a_third_partys_backend_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "mystore", f"{__name__}:open_mystore")
    clock = ManualClock()
    async with open_store("mystore://place", clock=clock, speed=3) as store:
        assert store.url == "mystore://place with {'speed': 3}"
        assert store.clock is clock
    assert "mystore" in registry.registered()


def test_a_backend_that_cannot_be_loaded_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "mystore", "no_such_module:open_mystore")
    with pytest.raises(UnknownBackendError, match=r"no_such_module:open_mystore.*No module named 'no_such_module'"):
        open_store("mystore://secret@place")
    register(monkeypatch, "mystore", f"{__name__}:no_such_name")
    with pytest.raises(UnknownBackendError, match="no_such_name"):
        open_store("mystore://place")


def test_what_is_built_in_cannot_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "sqlite", "no_such_module:open_mystore")
    assert registry.backend_for("sqlite:///calls.db").__module__ == "voiceflow_worker.backends.sqlite.store"


def register(monkeypatch: pytest.MonkeyPatch, scheme: str, value: str) -> None:
    """Pretend that a distribution is installed which brings one backend."""
    entry = EntryPoint(scheme, value, registry.ENTRY_POINT_GROUP)

    def entry_points(*, group: str, name: str | None = None) -> list[EntryPoint]:
        return [entry] if group == entry.group and name in {None, entry.name} else []

    monkeypatch.setattr(registry, "entry_points", entry_points)
