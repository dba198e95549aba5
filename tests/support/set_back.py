"""A store of each kind that is set back to what it was, and machines with journals of their own."""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from tests.support.postgres import PostgresServer
from tests.support.redis_server import RedisServer
from tests.support.workers import enqueued
from voiceflow_worker import open_store
from voiceflow_worker.backends.local_journal import JournalFiles
from voiceflow_worker.backends.memory.store import MemoryStore
from voiceflow_worker.backends.store_url import file_of
from voiceflow_worker.core.orders import OrderedStore
from voiceflow_worker.core.ports import Store
from voiceflow_worker.settings import Settings, load_settings

_COPY = """
for _, key in ipairs(redis.call('KEYS', ARGV[2] .. '*')) do redis.call('DEL', key) end
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
    redis.call('COPY', key, ARGV[2] .. string.sub(key, #ARGV[1] + 1))
end
"""


class SetBack:
    """A store that is saved and set back while nobody has it open."""

    def __init__(self, request: pytest.FixtureRequest, backend: str, url: str, folder: Path) -> None:
        self.backend = backend
        self.url = url
        self.folder = folder
        self._request = request
        self._memory = MemoryStore()
        self._saved = copy.deepcopy(self._memory.memory)
        self._name = url.rpartition("=")[2]  # the prefix, or the schema

    @asynccontextmanager
    async def on(self, machine: str = "one") -> AsyncGenerator[Store]:
        """The store as a process on this machine opens it."""
        if self.backend == "memory":
            ordered = OrderedStore(self._memory, lambda: JournalFiles(self.folder / machine / "id" / "url"))
            await ordered.put_opt_outs_back()
            yield cast("Store", ordered)
            ordered.close()
            return
        async with open_store(self.url, settings=self.settings(machine), advises=False) as store:
            yield store

    def settings(self, machine: str = "one") -> Settings:
        return load_settings(store=self.url, state_dir=str(self.folder / machine))

    def journals(self, machine: str = "one") -> list[Path]:
        """The files of orders on this machine."""
        return sorted((self.folder / machine).rglob("_orders/*.journal"))

    async def begins(self, calls: int = 1, batch_id: str | None = None) -> list[str]:
        """Calls wait, and the store is saved; returns their ids."""
        async with self.on() as store:
            queue = await enqueued(store, calls, batch=batch_id)
            ids = [job.id for job in await queue.find(limit=None)]
        self.save()
        return ids

    def save(self) -> None:
        """Keep the store as it is now."""
        self._carried(is_saved=True)

    def set_back(self) -> None:
        """Put the store back to what it was when it was saved."""
        self._carried(is_saved=False)

    def _carried(self, *, is_saved: bool) -> None:
        match self.backend:
            case "memory" if is_saved:
                self._saved = copy.deepcopy(self._memory.memory)
            case "memory":
                self._memory.memory = copy.deepcopy(self._saved)
            case "sqlite":
                path = cast("Path", file_of(self.url))
                names = [path, path.with_name("saved.db")]
                source, to = names if is_saved else reversed(names)
                to.write_bytes(source.read_bytes())
            case "redis":
                redis: RedisServer = self._request.getfixturevalue("shared_redis")
                keys = [f"{{{self._name}", f"saved:{{{self._name}"]
                redis.ask("EVAL", _COPY, 0, *(keys if is_saved else reversed(keys)))
            case _:
                self._carried_in_postgres(self._request.getfixturevalue("postgres_server"), is_saved=is_saved)

    def _carried_in_postgres(self, server: PostgresServer, *, is_saved: bool) -> None:
        ours = "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename <> 'voiceflow_schema'"
        saved = f"{self._name}_saved"
        server.ask(f"CREATE SCHEMA IF NOT EXISTS {saved}")
        for (name,) in server.ask(ours, self._name):
            if is_saved:
                server.ask(f"DROP TABLE IF EXISTS {saved}.{name}")
                server.ask(f"CREATE TABLE {saved}.{name} AS TABLE {self._name}.{name}")
            else:
                server.ask(f"TRUNCATE {self._name}.{name}")
                server.ask(f"INSERT INTO {self._name}.{name} OVERRIDING SYSTEM VALUE TABLE {saved}.{name}")

    def forget(self) -> None:
        """Remove what was saved on a server that others use."""
        if self.backend == "postgres":
            self._request.getfixturevalue("postgres_server").ask(f"DROP SCHEMA IF EXISTS {self._name}_saved CASCADE")
