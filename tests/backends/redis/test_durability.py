"""Durability that is checked, not assumed."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from tests.contract.samples import add_jobs, commit
from tests.contract.suite import NOW, ManualClock, moved, sample_job
from tests.support.redis_server import RedisServer, WatchedPair, standalone
from tests.support.scripted_redis import ScriptedRedis
from tests.support.stores import bare
from tests.support.waiting import until
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.health import Guarantee
from voiceflow_worker.backends.redis import RedisStore
from voiceflow_worker.backends.redis.durability import ServerFacts, durability_from
from voiceflow_worker.backends.store_url import Promise
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite, Page, Put, Write
from voiceflow_worker.errors import (
    RedisForgetsError,
    SettingsError,
    StoreCorruptError,
    StoreError,
    StoreUnavailableError,
    StoreVersionError,
)
from voiceflow_worker.model.copying import replace

pytestmark = pytest.mark.anyio

MADE = '[["done"]]'
"""The answer of `write.lua` to one write that was written."""
SOUND = ServerFacts(
    version=(7, 0, 15),
    role="master",
    mode="standalone",
    appendonly=True,
    appendfsync="always",
    fsync_during_rewrite=True,
    eviction="noeviction",
)


@pytest.fixture
async def scripted() -> AsyncGenerator[ScriptedRedis]:
    async with ScriptedRedis().listening() as server:
        yield server


async def unusable(store: Store) -> None:
    """Wait until the store has noticed that its idle connection is lost."""
    store = bare(store, RedisStore)
    assert store.manager._connections is not None
    connection = store.manager._connections._shared
    assert connection is not None
    await until(lambda: not connection.usable)


async def open_and_close(url: str) -> None:
    async with open_store(url):
        pass


def test_what_is_guaranteed_follows_from_the_settings() -> None:
    for facts, guarantee in [
        (SOUND, Guarantee.DISK),
        (replace(SOUND, version=(8, 0)), Guarantee.DISK),
        (replace(SOUND, version=(7, 2), appendfsync="everysec"), Guarantee.WAITED),
        (replace(SOUND, version=(8, 0), appendfsync="everysec"), Guarantee.WAITED),
        (replace(SOUND, version=(7, 4, 2), appendfsync="everysec"), Guarantee.SECOND),
        (replace(SOUND, version=(7, 4, 3), appendfsync="everysec"), Guarantee.WAITED),
        (replace(SOUND, version=(7, 2, 5), is_valkey=True, appendfsync="everysec"), Guarantee.WAITED),
        (replace(SOUND, version=(8, 1, 8), is_valkey=True, appendfsync="everysec"), Guarantee.SECOND),
        (replace(SOUND, version=(8, 1, 8), is_valkey=True), Guarantee.DISK),
        (replace(SOUND, version=(7, 2), appendfsync="no"), Guarantee.SYSTEM),
        (replace(SOUND, version=(7, 2), fsync_during_rewrite=False), Guarantee.SYSTEM),
        (replace(SOUND, version=(7, 2), appendfsync="everysec", fsync_during_rewrite=False), Guarantee.SYSTEM),
        (replace(SOUND, appendfsync="everysec"), Guarantee.SECOND),
        (replace(SOUND, appendfsync="no"), Guarantee.SYSTEM),
        (replace(SOUND, fsync_during_rewrite=False), Guarantee.SYSTEM),
        (replace(SOUND, appendfsync="everysec", fsync_during_rewrite=False), Guarantee.SYSTEM),
    ]:
        durability = durability_from(facts, promise=Promise.STRICT)
        assert durability.guarantee is guarantee
        assert (durability.warning is None) is (guarantee is Guarantee.DISK)


@pytest.mark.parametrize(
    ("facts", "remedy"),
    [
        (replace(SOUND, appendonly=False), "CONFIG SET appendonly yes"),
        (replace(SOUND, eviction="allkeys-lru"), "CONFIG SET maxmemory-policy noeviction"),
        (replace(SOUND, eviction="volatile-ttl"), "CONFIG SET maxmemory-policy noeviction"),
        (replace(SOUND, appendonly=None, eviction=None), "The store needs appendonly yes"),
    ],
)
def test_a_server_that_would_forget_is_refused_with_the_remedy(facts: ServerFacts, remedy: str) -> None:
    with pytest.raises(RedisForgetsError, match=remedy) as caught:
        durability_from(facts, promise=Promise.STRICT)
    assert 'durability="best-effort"' in str(caught.value)
    assert durability_from(facts, promise=Promise.BEST_EFFORT).guarantee is Guarantee.NONE


@pytest.mark.parametrize(("version", "said"), [("6.0.16", r"a Redis 6\.0\.16, which is too old"), ("", "HELLO")])
async def test_a_server_that_is_too_old_is_refused(scripted: ScriptedRedis, version: str, said: str) -> None:
    scripted.version = version
    with pytest.raises(SettingsError, match=said):
        await open_and_close(f"{scripted.url}?durability=best-effort")


async def test_a_real_server_without_its_file_is_refused(own_server: RedisServer) -> None:
    own_server.ask("CONFIG", "SET", "appendonly", "no")
    with pytest.raises(RedisForgetsError, match="appendonly is off"):
        await open_and_close(own_server.url)
    assert own_server.ask("DBSIZE") == 0
    async with open_store(f"{own_server.url}?durability=best-effort") as opened:
        store = bare(opened, RedisStore)
        assert store.durability.guarantee is Guarantee.NONE
        await add_jobs(store, [sample_job()])
    async with open_store(own_server.url, durability="best-effort") as other:
        assert sample_job().id in await get_jobs(other, [sample_job().id])


def begins_aof(server: RedisServer, *, keys: int, each: float) -> None:
    """Turn the AOF on in a server that has run without one, with keys that take so many seconds each to be written."""
    server.ask("CONFIG", "SET", "appendonly", "no")
    for number in range(keys):
        server.ask("SET", f"of another program {number}", "")
    server.ask("CONFIG", "SET", "rdb-key-save-delay", round(each * 1e6))
    server.ask("CONFIG", "SET", "appendonly", "yes")


async def test_a_server_that_writes_its_first_aof_is_waited_for(own_server: RedisServer) -> None:
    begins_aof(own_server, keys=20, each=0.1)
    with pytest.raises(StoreUnavailableError, match="writes its first AOF") as caught:
        await open_and_close(own_server.url)
    assert caught.value.passes
    assert own_server.ask("KEYS", "*voiceflow*") == []
    async with open_store(own_server.url, allow_degraded=True) as store:
        assert "writes its first AOF" in str(bare(store, RedisStore).durability.degraded)
    await until(lambda: "aof_rewrite_in_progress:0" in str(own_server.ask("INFO", "persistence")))
    await open_and_close(own_server.url)
    own_server.ask("BGREWRITEAOF")  # a later one keeps what is stored meanwhile
    await open_and_close(own_server.url)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_server_killed_while_it_writes_its_first_aof_has_all_that_was_confirmed(tmp_path: Path) -> None:
    chance = random.Random("first AOF")
    confirmed = 0

    async def stores(url: str, stored: list[str]) -> None:
        while True:
            with suppress(StoreError):
                async with open_store(url, advises=False) as store:
                    while True:
                        put = Put("kept", f"{len(stored)}", "", None)
                        await store.write(BulkWrite(writes=(Write(puts=(put,)),)), now=store.clock.now())
                        stored.append(put.group)
            await anyio.sleep(0.02)

    for turn in range(40):
        server = standalone(tmp_path / f"{turn}").start()
        begins_aof(server, keys=20, each=0.02)
        stored: list[str] = []
        async with anyio.create_task_group() as group:
            group.start_soon(stores, server.url, stored)
            await anyio.sleep(chance.random())  # the moment at which it is killed
            server.kill()
            group.cancel_scope.cancel()
        server.start()
        confirmed += len(stored)
        if stored:
            async with open_store(server.url, advises=False) as store:
                kept = (await store.records({"kept": Page(limit=10**6)}, now=NOW))["kept"]
                assert {each.group for each in kept} >= set(stored), turn
        server.kill()
    assert confirmed > 100


async def test_a_real_server_that_evicts_is_refused(own_server: RedisServer) -> None:
    own_server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with pytest.raises(RedisForgetsError, match="allkeys-lru"):
        await open_and_close(own_server.url)


async def test_a_wrong_password_is_reported_without_printing_it(own_server: RedisServer) -> None:
    own_server.ask("CONFIG", "SET", "requirepass", "right-one")
    for url in (own_server.url, own_server.url.replace("redis://", "redis://:wrong-one@")):
        with pytest.raises(StoreUnavailableError, match="password") as caught:
            await open_and_close(url)
        assert "wrong-one" not in str(caught.value)
    await open_and_close(own_server.url.replace("redis://", "redis://:right-one@"))


@pytest.mark.parametrize("setting", [("CONFIG", "SET", "appendonly", "no"), ("SET", "{voiceflow}:schema", 99)])
async def test_a_server_that_changed_while_nobody_asked_it_anything_gets_no_command_of_the_store(
    own_server: RedisServer, setting: tuple[str | int, ...]
) -> None:
    async with open_store(own_server.url, clock=ManualClock(NOW)) as store:
        await add_jobs(store, [sample_job()])
        own_server.ask(*setting)
        own_server.ask("CLIENT", "KILL", "TYPE", "normal")
        await unusable(store)
        with pytest.raises((RedisForgetsError, StoreVersionError)):
            await add_jobs(store, [sample_job(2)])
        assert own_server.ask("EXISTS", f"{{voiceflow}}:queue:default:job:{sample_job(2).id}") == 0


async def test_a_server_that_now_must_be_waited_for_gets_no_commit_without_waiting(scripted: ScriptedRedis) -> None:
    assert scripted.settings is not None
    everysec, scripted.settings = scripted.settings, {**scripted.settings, "appendfsync": "always"}
    scripted.scripts["write"] = MADE
    async with open_store(scripted.url) as store:
        assert await commit(store, [moved(sample_job())]) == [True]
        scripted.settings = everysec
        await scripted.drop_connections()
        await unusable(store)
        with pytest.raises(StoreUnavailableError, match="less durable"):
            await commit(store, [moved(sample_job())])
        assert await commit(store, [moved(sample_job())]) == [True]
        assert scripted.commands[-2:] == ["EVALSHA", "WAITAOF"]


async def test_a_password_that_was_changed_does_not_become_right_by_waiting(own_server: RedisServer) -> None:
    async with open_store(own_server.url) as opened:
        store = bare(opened, RedisStore)
        own_server.ask("CONFIG", "SET", "requirepass", "another-one")
        store.manager.reopen()
        with pytest.raises(StoreUnavailableError, match="password") as caught:
            await add_jobs(store, [sample_job()])
        assert not caught.value.passes


async def test_a_sentinel_is_not_taken_for_a_server(lasting_pair: WatchedPair) -> None:
    with pytest.raises(SettingsError, match=r"redis\+sentinel"):
        await open_and_close(f"redis://127.0.0.1:{lasting_pair.sentinel.port}")
    with pytest.raises(StoreUnavailableError, match="replica"):
        await open_and_close(lasting_pair.replica.url)


async def test_a_store_of_another_version_is_left_alone(redis_server: RedisServer) -> None:
    redis_server.ask("SET", "{voiceflow}:schema", 1)
    with pytest.raises(StoreVersionError, match="Use that version"):
        await open_and_close(redis_server.url)
    redis_server.ask("SET", "{voiceflow}:schema", 99)
    with pytest.raises(StoreVersionError, match="schema 99"):
        await open_and_close(redis_server.url)
    redis_server.ask("SET", "{voiceflow}:schema", "something else")
    with pytest.raises(StoreCorruptError, match="something else"):
        await open_and_close(redis_server.url)
    redis_server.ask("DEL", "{voiceflow}:schema")
    redis_server.ask("LPUSH", "{voiceflow}:schema", "a list")
    with pytest.raises(StoreCorruptError, match="keys of another program with the names"):
        await open_and_close(redis_server.url)


async def test_a_commit_waits_until_it_is_on_the_disk(scripted: ScriptedRedis) -> None:
    scripted.scripts["write"] = MADE
    async with open_store(scripted.url) as opened:
        store = bare(opened, RedisStore)
        assert store.durability.guarantee is Guarantee.WAITED
        assert await commit(store, [moved(sample_job())]) == [True]
        assert scripted.commands[-2:] == ["EVALSHA", "WAITAOF"]
        assert scripted.asked[-1][1:3] == ["1", "0"]


@pytest.mark.parametrize("answer", [[0, 0], [0, 1]])
async def test_a_commit_that_is_not_confirmed_does_not_count(scripted: ScriptedRedis, answer: list[int]) -> None:
    scripted.scripts["write"] = MADE
    scripted.waitaof = [*answer]
    async with open_store(scripted.url) as store:
        with pytest.raises(StoreUnavailableError, match="did not confirm"):
            await commit(store, [moved(sample_job())])
        scripted.waitaof = [1, 0]
        assert await commit(store, [moved(sample_job())]) == [True]


async def test_a_server_that_cannot_wait_does_not_count(scripted: ScriptedRedis) -> None:
    scripted.scripts["write"] = MADE
    scripted.waitaof = RuntimeError("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.")
    async with open_store(scripted.url) as store:
        with pytest.raises(StoreError, match="WAITAOF"):
            await commit(store, [moved(sample_job())])


async def test_the_text_of_a_script_is_waited_for_too(scripted: ScriptedRedis) -> None:
    """The server has forgotten the script: EVAL takes its place, on the same connection as WAITAOF."""
    scripted.texts["write"] = MADE
    async with open_store(scripted.url) as store:
        assert await commit(store, [moved(sample_job())]) == [True]
        assert scripted.commands[-2:] == ["EVAL", "WAITAOF"]


async def test_a_bulk_write_that_need_not_be_durable_is_not_waited_for(scripted: ScriptedRedis) -> None:
    scripted.scripts["write"] = MADE
    bulk = BulkWrite(writes=(Write(puts=(Put("turn", "k", "v", None),)),))
    async with open_store(scripted.url) as store:
        await store.write(replace(bulk, durable=False), now=NOW)
        assert scripted.commands[-1] == "EVALSHA"
        await store.write(bulk, now=NOW)
        assert scripted.commands[-2:] == ["EVALSHA", "WAITAOF"]


async def test_where_the_server_is_always_on_its_disk_nobody_waits(scripted: ScriptedRedis) -> None:
    assert scripted.settings is not None
    scripted.settings = {**scripted.settings, "appendfsync": "always"}
    scripted.scripts["write"] = MADE
    async with open_store(scripted.url) as store:
        scripted.asked.clear()
        assert await commit(store, [moved(sample_job())]) == [True]
        assert "WAITAOF" not in scripted.commands
        assert "WAIT" not in scripted.commands


async def test_replicas_that_were_asked_for_must_confirm(scripted: ScriptedRedis) -> None:
    assert scripted.settings is not None
    scripted.settings = {**scripted.settings, "appendfsync": "always"}
    scripted.scripts["write"] = MADE
    async with open_store(f"{scripted.url}?replicas=2") as store:
        scripted.wait = 1
        with pytest.raises(StoreUnavailableError, match="did not confirm"):
            await commit(store, [moved(sample_job())])
        scripted.wait = 2
        assert await commit(store, [moved(sample_job())]) == [True]
        assert scripted.commands[-2:] == ["EVALSHA", "WAIT"]
