"""From a store URL to its backend."""

# ruff: noqa: ASYNC240 - a test may wait for a small file or a process of its own

from __future__ import annotations

import sys
from importlib import import_module, metadata
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.stores import bare
from voiceflow_worker import CallQueue
from voiceflow_worker.backends import open_store, registry
from voiceflow_worker.backends.health import Figure, Health
from voiceflow_worker.backends.sqlite import SqliteStore
from voiceflow_worker.core.base.clock import SystemClock
from voiceflow_worker.core.ports import Store
from voiceflow_worker.errors import UnknownBackendError
from voiceflow_worker.service.metrics import QueueFigures, metrics_text
from voiceflow_worker.service.whole_queue import read_queue


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


def test_an_option_that_a_backend_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="lock_timeout"):
        open_store("memory://", lock_timeout=1)


def test_an_unknown_scheme_lists_those_there_are() -> None:
    with pytest.raises(UnknownBackendError, match=r"'mysql://host/db'.*Registered schemes: .*file, memory.*, sqlite"):
        open_store("mysql://host/db")


@pytest.mark.parametrize(
    "scheme", ["postgresql+psycopg", "postgresql+asyncpg", "postgres+psycopg2", "SQLite+aiosqlite"]
)
def test_a_url_of_sqlalchemy_is_refused_for_its_driver(scheme: str) -> None:
    with pytest.raises(UnknownBackendError, match=rf"Leave out \+{scheme.partition('+')[2]}"):
        open_store(f"{scheme}://host/db")


@pytest.mark.parametrize("url", ["calls.db", "", "/var/lib/calls.db"])
def test_a_path_is_not_a_url_and_the_remedy_is_reported(url: str) -> None:
    with pytest.raises(UnknownBackendError, match=f"sqlite:///{url or 'voiceflow.db'}"):
        open_store(url)


@pytest.mark.parametrize(
    ("scheme", "extra"),
    [
        *((scheme, "redis") for scheme in ("redis", "rediss", "redis+cluster", "redis+sentinel", "valkey")),
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


def test_what_is_built_in_cannot_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "sqlite", "no_such_module:open_mystore")
    assert registry.backend_for("sqlite:///calls.db").__module__ == "voiceflow_worker.backends.sqlite.store"


class Weather(Health):
    """What a backend of somebody else tells of its stores."""

    def __init__(self, url: str, store: Store | None) -> None:
        self.of = (url, store)

    @property
    def advice(self) -> str | None:
        return "take an umbrella"

    async def figures(self) -> list[Figure]:
        return [Figure(name="rain", meaning="Drops a second.", value=7)]


@pytest.mark.anyio
async def test_a_backend_tells_of_its_stores_in_the_log_and_the_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    opens, tells = "voiceflow_worker.backends.memory:open_memory", f"{__name__}:Weather"
    register(monkeypatch, "mystore", opens, (registry.HEALTH_GROUP, tells))
    with capture_logs() as lines:
        async with open_store("mystore://", advises=False), open_store("mystore://") as store:
            assert [line["warning"] for line in lines] == ["take an umbrella"]
            health = registry.health_of("mystore://", store)
            assert isinstance(health, Weather)
            assert health.of == ("mystore://", store)
            text = metrics_text(
                QueueFigures(queue=await read_queue(CallQueue(store)), of_store=await health.figures())
            ).decode()
            assert "# HELP voiceflow_store_rain Drops a second.\n" in text
            assert "voiceflow_store_rain 7.0\n" in text


def test_enqueue_in_without_its_extra_tells_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "postgres")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'voiceflow-worker\[postgres\]'"):
        import_module("voiceflow_worker.backends.postgres.transaction")  # as `voiceflow_worker.enqueue_in` does


def without(monkeypatch: pytest.MonkeyPatch, extra: str) -> None:
    """The library of an extra is not there, and nobody has loaded what needs it."""
    for name in [name for name in sys.modules if name.startswith(f"voiceflow_worker.backends.{extra}")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, {"redis": "hiredis", "postgres": "psycopg"}[extra], None)


def test_a_backend_without_its_extra_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "voiceflow_worker.backends.redis", None)
    monkeypatch.delitem(sys.modules, "voiceflow_worker.backends.redis.health", raising=False)
    assert type(registry.health_of("redis://localhost", None)) is Health


def register(monkeypatch: pytest.MonkeyPatch, scheme: str, value: str, *others: tuple[str, str]) -> None:
    """Pretend that a distribution is installed which brings one backend, and `others`: groups and values."""
    entries = [EntryPoint(scheme, each, group) for group, each in ((registry.ENTRY_POINT_GROUP, value), *others)]

    def entry_points(*, group: str, name: str | None = None) -> list[EntryPoint]:
        return [entry for entry in entries if group == entry.group and name in {None, entry.name}]

    monkeypatch.setattr(metadata, "entry_points", entry_points)
