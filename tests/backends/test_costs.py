"""What each store reads is counted in the store itself, and does not grow with what the store holds.

The memory store is left out: it is for tests and trials, and looks through all that it has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.contract.costs import SLACK
from tests.contract.suite import QUEUE, CostContract, Opener, ReadSoFar, sample_job
from tests.contract.writing import DAY
from tests.support.redis_server import RedisServer
from tests.support.stores import bare
from voiceflow_worker import CallQueue
from voiceflow_worker.backends.postgres import PostgresStore, open_postgres
from voiceflow_worker.backends.postgres import survey as postgres
from voiceflow_worker.backends.redis import client, scripts
from voiceflow_worker.backends.redis.store import open_redis
from voiceflow_worker.backends.sqlite import open_sqlite
from voiceflow_worker.backends.sqlite.connection import Connection
from voiceflow_worker.core.base.identity import QueueNames, batch_puts
from voiceflow_worker.core.ports.store import BulkWrite, Store, Write
from voiceflow_worker.core.writes import inserted
from voiceflow_worker.model.copying import replace
from voiceflow_worker.reporting.batches import read_batches, read_queues

pytestmark = pytest.mark.anyio

# --- The counters of each store ----------------------------------------------------------------------------------


@pytest.fixture
def sqlite_steps(monkeypatch: pytest.MonkeyPatch) -> ReadSoFar:
    """The steps of SQLite's program, on all connections that are opened from now on."""
    made, steps = Connection.__init__, [0]

    def ended(event: dict[str, Any]) -> None:
        steps[0] += event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]

    def opened(self: Any, path: Path) -> None:
        made(self, path)
        self._db.trace_v2(apsw.SQLITE_TRACE_PROFILE, ended)

    monkeypatch.setattr(Connection, "__init__", opened)

    async def read_so_far() -> int:
        return steps[0]

    return read_so_far


ROWS = """
SELECT coalesce(sum(pg_stat_get_xact_tuples_returned(oid) + pg_stat_get_xact_tuples_fetched(oid)), 0)::bigint
FROM pg_class WHERE relnamespace > 16383
"""
"""What this transaction has read of rows and of entries of indexes, outside of the catalogues."""


@pytest.fixture
def postgres_rows(monkeypatch: pytest.MonkeyPatch) -> ReadSoFar:
    """The rows and entries of indexes that statements have read."""
    asked, read = postgres.Connection.rows, [0]

    async def counted(self: Any, statement: str, *values: object) -> list[postgres.Row]:
        await asked(self, "BEGIN")
        try:
            ((before,),) = await asked(self, ROWS)
            found = await asked(self, statement, *values)
            ((after,),) = await asked(self, ROWS)
            read[0] += after - before
        except BaseException:
            await asked(self, "ROLLBACK")
            raise
        await asked(self, "COMMIT")
        return found

    monkeypatch.setattr(postgres.Connection, "rows", counted)

    async def read_so_far() -> int:
        return read[0]

    return read_so_far


COUNTING = """
local real, redis = redis, setmetatable({}, {__index = redis})
local function counted(answer)
    local size = type(answer) == 'table' and #answer or 1
    real.call('INCRBY', KEYS[1] .. ':read', size)
    return answer
end
redis.call = function(...) return counted(real.call(...)) end
redis.pcall = function(...) return counted(real.pcall(...)) end
"""


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    shared_redis.ask("FLUSHALL")
    shared_redis.ask("SCRIPT", "FLUSH")
    return shared_redis


@pytest.fixture
def redis_elements(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> ReadSoFar:
    """The elements that commands in scripts have answered."""
    kept = scripts.script

    def counting(name: str) -> scripts.Script:
        text = COUNTING + kept(name).text
        return replace(kept(name), text=text, sha=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    monkeypatch.setattr(client, "script", counting)

    async def read_so_far() -> int:
        keys: Any = redis_server.ask("KEYS", "*:read")
        return sum(int(str(redis_server.ask("GET", key))) for key in keys)

    return read_so_far


# --- Each store --------------------------------------------------------------------------------------------------

FEW, MANY, BATCHES = 600, 2400, 10


async def wait_in_line(store: Store, first: int, last: int) -> None:
    """So many calls of some batches that are not due yet."""
    now = store.clock.now()
    named = [Write(puts=batch_puts(QUEUE, f"b{place}", at=now, is_campaign=True)) for place in range(BATCHES)]
    jobs = [sample_job(place, batch_id=f"b{place % BATCHES}", due_at=now + DAY) for place in range(first, last)]
    for start in range(0, len(jobs), 200):
        await store.write(BulkWrite(writes=(*named, *map(inserted, jobs[start : start + 200]))), now=now)


class EverydayCosts(CostContract):
    """The contract of a store, and what the engine makes of it for people who look at a queue again and again."""

    async def test_what_people_look_at_costs_no_more_when_more_calls_wait(
        self, store: Store, read_so_far: ReadSoFar
    ) -> None:
        looks: dict[str, Callable[[], Awaitable[object]]] = {
            "status": CallQueue(store, QUEUE).status,
            "queues": partial(read_queues, store),
            "a page of batches": partial(read_batches, store, [QUEUE]),
        }
        await QueueNames(store).remember(QUEUE)
        costs = list[dict[str, int]]()
        for first, last in ((0, FEW), (FEW, MANY)):
            await wait_in_line(store, first, last)
            await self.settle(store)
            costs.append({})
            for name, look in looks.items():
                before = await read_so_far()
                assert await look()
                costs[-1][name] = await read_so_far() - before
        small, large = costs
        # What a store looks at by itself meanwhile, on a busy machine, is no growth.
        grown = {name: (small[name], cost) for name, cost in large.items() if cost > 1.5 * small[name] + SLACK}
        assert not grown, f"what is read grows with the calls that wait: {grown}"


class TestSqlite(EverydayCosts):
    @pytest.fixture
    def opener(self, tmp_path: Path, read_so_far: ReadSoFar) -> Opener:  # noqa: ARG002 - it counts from here on
        return partial(open_sqlite, f"sqlite:///{tmp_path}/calls.db")

    @pytest.fixture
    def read_so_far(self, sqlite_steps: ReadSoFar) -> ReadSoFar:
        return sqlite_steps


class TestPostgres(EverydayCosts):
    @pytest.fixture
    def opener(self, fresh_url: Callable[[str], str], read_so_far: ReadSoFar) -> Opener:  # noqa: ARG002 - as above
        return partial(open_postgres, fresh_url("postgres"))

    @pytest.fixture
    def read_so_far(self, postgres_rows: ReadSoFar) -> ReadSoFar:
        return postgres_rows

    async def settle(self, store: Store) -> None:
        store = bare(store, PostgresStore)
        await store.database.run("VACUUM ANALYZE", within=60)


class TestRedis(EverydayCosts):
    @pytest.fixture
    def opener(self, redis_server: RedisServer, read_so_far: ReadSoFar) -> Opener:  # noqa: ARG002 - as above
        return partial(open_redis, redis_server.url)

    @pytest.fixture
    def read_so_far(self, redis_elements: ReadSoFar) -> ReadSoFar:
        return redis_elements
