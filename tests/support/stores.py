"""The stores that tests run on: one list, and one way to an empty one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest

from voiceflow_worker import Store, open_store
from voiceflow_worker.backends.postgres.store import PostgresStore
from voiceflow_worker.backends.postgres.url import SCHEMA as POSTGRES_SCHEMA
from voiceflow_worker.backends.redis.durability import SCHEMA as REDIS_SCHEMA
from voiceflow_worker.backends.redis.store import RedisStore
from voiceflow_worker.backends.sqlite.group_commit import Transaction
from voiceflow_worker.backends.sqlite.opening import SCHEMA_VERSION
from voiceflow_worker.backends.sqlite.store import SqliteStore
from voiceflow_worker.core.orders import OrderedStore
from voiceflow_worker.core.ports.store import Clock

BACKENDS = ("memory", "sqlite")
"""Those without a server."""
SERVERS = ("redis", "postgres")
DURABLE = ("sqlite", *SERVERS)
"""Those that outlive a process."""
EVERY = (*BACKENDS, *SERVERS)


BY_MEMORY = [name if name == "memory" else pytest.param(name, marks=pytest.mark.slow) for name in EVERY]
"""Every day the one in memory, all others in the whole set."""
on_every_store = pytest.mark.parametrize("store", BY_MEMORY, indirect=True)


def url_for(backend: str, folder: Path) -> str:
    """The URL of a store without a server; of the others, and of several: the fixture `fresh_url`."""
    match backend:
        case "memory":
            return "memory://"
        case "sqlite":
            return f"sqlite:///{folder / 'calls.db'}"
        case _:
            raise ValueError(backend)


Kind = TypeVar("Kind")


def bare(store: Store, kind: type[Kind]) -> Kind:
    """The store itself, which is of this kind, without the journal of its orders."""
    found = store.inner if isinstance(store, OrderedStore) else store
    assert isinstance(found, kind)
    return found


def new_name() -> str:
    """A name that no other store has: a prefix in Redis, a schema in PostgreSQL, a file."""
    return f"t{uuid4().hex[:12]}"


def clocked(backend: str, *, within: Callable[[Store], Any] = lambda store: store) -> Any:
    """A fixture: an empty store of this backend, or of those that a test names, with the clock of the test.

    `within` makes of it what the tests get.
    """

    @pytest.fixture(params=[backend])
    async def store(
        request: pytest.FixtureRequest, fresh_url: Callable[[str], str], clock: Clock
    ) -> AsyncIterator[Store]:
        async with open_store(fresh_url(request.param), clock=clock) as opened:
            yield within(opened)

    return store


def running(*backends: str) -> Any:
    """A fixture: an empty store of each of these backends, with the clock of this machine, for workers that run."""

    @pytest.fixture(params=backends)
    async def store(request: pytest.FixtureRequest, fresh_url: Callable[[str], str]) -> AsyncIterator[Store]:
        async with open_store(fresh_url(request.param)) as opened:
            yield opened

    return store


async def renumber(store: Store, change: int) -> None:
    """Change the schema number of an open store, as other versions have it: by so many from the one of this version."""
    store = getattr(store, "inner", store)
    match store:
        case SqliteStore():
            number = SCHEMA_VERSION + change

            def by_pragma(transaction: Transaction) -> Generator[None]:
                yield from ()
                transaction.db.pragma("user_version", number)

            await store.writer.carry_out(by_pragma)
        case RedisStore():
            key, number = f"{store.client.root}:schema", REDIS_SCHEMA + change
            await store.client.ask(("SET", key, number))
        case PostgresStore():
            await store.database.rows("UPDATE voiceflow.voiceflow_schema SET number = %s", POSTGRES_SCHEMA + change)
        case _:
            raise ValueError(store)
