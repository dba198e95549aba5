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
from tests.support.everyday import spread
from tests.support.redis_server import RedisServer
from tests.support.stores import bare
from voiceflow_worker import CallQueue, open_store
from voiceflow_worker.backends.postgres import PostgresStore, open_postgres
from voiceflow_worker.backends.postgres import connection as postgres
from voiceflow_worker.backends.postgres import reading as postgres_reading
from voiceflow_worker.backends.redis import faults, manager
from voiceflow_worker.backends.redis.store import open_redis
from voiceflow_worker.backends.sqlite import open_sqlite
from voiceflow_worker.backends.sqlite.connection import SQL, Connection
from voiceflow_worker.core.base.identity import QueueNames, batch_puts
from voiceflow_worker.core.ports.store import BulkWrite, Store, Write
from voiceflow_worker.core.writes import inserted
from voiceflow_worker.model.copying import replace
from voiceflow_worker.reporting.batches import read_batches, read_newest, read_queues

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


def changed_script(monkeypatch: pytest.MonkeyPatch, change: Callable[[str, str], str]) -> None:
    """Let scripts run with another text, which `change` makes of their name and their text."""
    kept: Callable[[str], faults.Script] = getattr(manager, "script")  # noqa: B009 - another change may be in its place

    def changed(name: str) -> faults.Script:
        each = kept(name)
        text = change(name, each.text)
        return replace(each, text=text, sha=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    monkeypatch.setattr(manager, "script", changed)


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    shared_redis.ask("FLUSHALL")
    shared_redis.ask("SCRIPT", "FLUSH")
    return shared_redis


@pytest.fixture
def redis_elements(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> ReadSoFar:
    """The elements that commands in scripts have answered."""
    changed_script(monkeypatch, lambda _, text: COUNTING + text)

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
            "the newest batches": partial(read_newest, store, [QUEUE], limit=30),
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


# --- Each counter can fail ---------------------------------------------------------------------------------------

BROKEN: dict[str, tuple[str, str, str, str, str]] = {
    "sqlite: no page": ("sqlite", "page_of_group", "LIMIT ?5", "LIMIT ?5 + 1000", "records: page of a group"),
    "sqlite: no index": ("sqlite", "jobs_due", "INDEXED BY jobs_by_state", "NOT INDEXED", "jobs: due by now"),
    "sqlite: no limit": ("sqlite", "events_after", "LIMIT ?", "LIMIT ? + 1000", "events"),
    "redis: no page": ("redis", "records", ", 'LIMIT', 0, left)", ")", "records: page of a group"),
    "redis: no page of ids": ("redis", "jobs", ", 'LIMIT', 0, amount)", ")", "jobs: listed"),
    "redis: no limit": ("redis", "prune", ", 'LIMIT', 0, asked.limit - deleted)", ")", "prune"),
    "postgres: no page": ("postgres", "_PAGE", "LIMIT %s", "LIMIT %s + 1000", "records: page of a group"),
    "postgres: no index": ("postgres", "DROP INDEX voiceflow.jobs_by_state", "", "", "jobs: due"),
    "postgres: no other index": ("postgres", "DROP INDEX voiceflow.jobs_by_validity", "", "", "jobs: expired"),
}
"""The store; what is changed of it (a statement, a script, an order); a text in that, and its successor; what grows."""
KINDS = {"sqlite": (TestSqlite, "sqlite_steps"), "redis": (TestRedis, "redis_elements"),
         "postgres": (TestPostgres, "postgres_rows")}  # fmt: skip


@pytest.mark.parametrize(("kind", "what", "was", "now", "grows"), spread(BROKEN, every=3))
async def test_the_contract_of_costs_finds(
    kind: str, what: str, was: str, now: str, *, grows: str, request: pytest.FixtureRequest
) -> None:
    contract, counter = KINDS[kind]
    monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    read_so_far: ReadSoFar = request.getfixturevalue(counter)
    text = {"sqlite": SQL.get(what, ""), "postgres": getattr(postgres_reading, what, "")}.get(kind)
    assert was in (faults.script(what).text if kind == "redis" else text or "")
    if kind == "sqlite":
        monkeypatch.setitem(SQL, what, SQL[what].replace(was, now))
    elif kind == "redis":
        changed_script(monkeypatch, lambda each, text: text.replace(was, now) if each == what else text)
    elif was:
        monkeypatch.setattr(postgres_reading, what, (text or "").replace(was, now))
    async with open_store(request.getfixturevalue("fresh_url")(kind)) as opened:
        store: Any = getattr(opened, "inner", opened)
        if kind == "postgres" and not was:
            await store.database.rows(what)
        with pytest.raises(AssertionError) as found:
            await contract().test_no_method_reads_more_in_a_larger_store(store, read_so_far)
    assert repr(grows) in str(found.value)
