"""Durability, the rights of a user and the clock of a Redis: checked at the opening and at any later time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tests.contract.samples import add_jobs, commit
from tests.contract.suite import NOW, ManualClock, moved, sample_job
from tests.support.redis_server import RedisServer, WatchedPair, standalone
from tests.support.redis_users import BEST_EFFORT_RULE, RULE, url_of
from tests.support.scripted_redis import ScriptedRedis
from tests.support.stores import bare
from tests.support.waiting import once_available, until
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.health import Guarantee
from voiceflow_worker.backends.redis import RedisStore
from voiceflow_worker.backends.redis.durability import RedisDurability, durability_from
from voiceflow_worker.backends.redis.scripts import script
from voiceflow_worker.backends.store_url import Promise
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.core.ports.store import BulkWrite, Guard, Put, Same, Write
from voiceflow_worker.errors import (
    SettingsError,
    StoreCorruptError,
    StoreError,
    StoreNotDurableError,
    StoreUnavailableError,
    StoreVersionError,
)

pytestmark = pytest.mark.anyio

MADE = '[["done"]]'
"""The answer of `write.lua` to one write that was written."""
SETTINGS = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory-policy")


def found(
    version: str = "7.0.15", *settings: str | None, promise: Promise = Promise.STRICT, **facts: str
) -> RedisDurability:
    """What a server of this version promises with these settings, in their order; without any it is sound."""
    known = dict(zip(SETTINGS, settings or ("yes", "always", "no", "noeviction"), strict=False))
    return durability_from({"redis_version": version, "run_id": "r", **facts}, known, promise=promise)


async def open_and_close(url: str) -> None:
    async with open_store(url):
        pass


@pytest.mark.parametrize(
    ("version", "fsync", "skips", "guarantee"),
    [
        ("7.0.15", "always", "no", Guarantee.DISK),
        ("8.0.0", "always", "no", Guarantee.DISK),
        ("7.2.0", "everysec", "no", Guarantee.WAITED),
        ("8.0.0", "everysec", "no", Guarantee.WAITED),
        ("7.4.2", "everysec", "no", Guarantee.SECOND),
        ("7.4.3", "everysec", "no", Guarantee.WAITED),
        ("7.0.15", "everysec", "no", Guarantee.SECOND),
        ("7.2.0", "no", "no", Guarantee.SYSTEM),
        ("7.2.0", "always", "yes", Guarantee.SYSTEM),
        ("7.2.0", "everysec", "yes", Guarantee.SYSTEM),
    ],
)
def test_what_is_guaranteed_follows_from_the_settings(
    version: str, fsync: str, skips: str, guarantee: Guarantee
) -> None:
    durability = found(version, "yes", fsync, skips, "noeviction")
    assert durability.guarantee is guarantee
    assert (durability.warning is None) is (guarantee is Guarantee.DISK)


@pytest.mark.parametrize(
    ("own", "fsync", "guarantee"),
    [
        ("7.2.5", "everysec", Guarantee.WAITED),
        ("8.1.8", "everysec", Guarantee.SECOND),
        ("8.1.8", "always", Guarantee.DISK),
    ],
)
def test_a_valkey_is_judged_by_its_own_version(own: str, fsync: str, guarantee: Guarantee) -> None:
    assert found("7.2.4", "yes", fsync, "no", "noeviction", valkey_version=own).guarantee is guarantee


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        (("no", "always", "no", "noeviction"), "CONFIG SET appendonly yes"),
        (("yes", "always", "no", "allkeys-lru"), "CONFIG SET maxmemory-policy noeviction"),
        (("yes", "always", "no", "volatile-ttl"), "CONFIG SET maxmemory-policy noeviction"),
        ((None, None, None, None), "ACL SETUSER"),
    ],
)
def test_a_server_that_would_forget_is_refused_with_the_remedy(settings: tuple[str | None, ...], remedy: str) -> None:
    with pytest.raises(StoreNotDurableError, match=remedy) as caught:
        found("7.2.0", *settings)
    assert 'durability="best-effort"' in str(caught.value)
    assert found("7.2.0", *settings, promise=Promise.BEST_EFFORT).guarantee is Guarantee.NONE


@pytest.mark.parametrize(("version", "said"), [("6.0.16", r"a Redis 6\.0\.16, which is too old"), ("", "too old")])
async def test_a_server_that_is_too_old_is_refused(scripted: ScriptedRedis, version: str, said: str) -> None:
    scripted.version = version
    with pytest.raises(SettingsError, match=said):
        await open_and_close(f"{scripted.url}?durability=best-effort")


async def test_a_real_server_without_its_file_is_refused(
    own_server: RedisServer,
) -> None:
    own_server.ask("CONFIG", "SET", "appendonly", "no")
    with pytest.raises(StoreNotDurableError, match="appendonly is off"):
        await open_and_close(own_server.url)
    assert own_server.ask("DBSIZE") == 0
    own_server.ask("CONFIG", "SET", "appendonly", "yes")
    own_server.wait_for_first_aof()
    await open_and_close(own_server.url)
    own_server.ask("CONFIG", "SET", "appendonly", "no")
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
    await until(lambda: "aof_rewrite_in_progress:0" in str(own_server.ask("INFO", "persistence")))
    await open_and_close(own_server.url)
    own_server.ask("BGREWRITEAOF")  # a later one keeps what is stored meanwhile
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
        with pytest.raises((StoreNotDurableError, StoreVersionError)):
            await once_available(lambda: add_jobs(store, [sample_job(2)]))
        assert own_server.ask("EXISTS", f"{{voiceflow}}:queue:default:job:{sample_job(2).id}") == 0


async def test_a_server_that_now_must_be_waited_for_gets_no_commit_without_waiting(scripted: ScriptedRedis) -> None:
    assert scripted.settings is not None
    everysec, scripted.settings = scripted.settings, {**scripted.settings, "appendfsync": "always"}
    scripted.scripts["write"] = MADE
    async with open_store(scripted.url) as store:
        assert await commit(store, [moved(sample_job())]) == [True]
        scripted.settings = everysec
        await scripted.drop_connections()
        with pytest.raises(StoreUnavailableError, match="less durable"):
            await commit(store, [moved(sample_job())])
        assert await commit(store, [moved(sample_job())]) == [True]
        assert scripted.commands[-2:] == ["EVALSHA", "WAITAOF"]


async def test_a_node_of_a_cluster_is_refused(tmp_path: Path) -> None:
    node = standalone(tmp_path, "--cluster-enabled", "yes").start()
    try:
        with pytest.raises(SettingsError, match="runs as a cluster, in which no store can be"):
            await open_and_close(node.url)
    finally:
        node.kill()


async def test_a_sentinel_is_not_taken_for_a_server(lasting_pair: WatchedPair) -> None:
    with pytest.raises(SettingsError, match=r"redis\+sentinel"):
        await open_and_close(f"redis://127.0.0.1:{lasting_pair.sentinel.port}")
    with pytest.raises(StoreUnavailableError, match="replica"):
        await open_and_close(lasting_pair.replica.url)


async def test_keys_of_another_program_are_left_alone(redis_server: RedisServer) -> None:
    redis_server.ask("SET", "{voiceflow}:schema", "something else")
    with pytest.raises(StoreCorruptError, match="something else"):
        await open_and_close(redis_server.url)
    redis_server.ask("DEL", "{voiceflow}:schema")
    redis_server.ask("LPUSH", "{voiceflow}:schema", "a list")
    with pytest.raises(StoreCorruptError, match="another program has keys of these names"):
        await open_and_close(redis_server.url)


WAITS, ALWAYS = "everysec", "always"
CANNOT = RuntimeError("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.")
COMMITS: dict[str, tuple[str, str, dict[str, Any], str | list[str]]] = {
    "until it is on the disk": (WAITS, "", {}, ["EVALSHA", "WAITAOF"]),
    "on the same connection when the server has forgotten the script": (
        WAITS, "", {"texts": {"write": MADE}, "scripts": {}}, ["EVAL", "WAITAOF"],
    ),
    "and a disk that does not confirm is no commit": (WAITS, "", {"waitaof": [0, 0]}, "did not confirm"),
    "and a replica is no disk": (WAITS, "", {"waitaof": [0, 1]}, "did not confirm"),
    "and a server that cannot wait makes none": (WAITS, "", {"waitaof": CANNOT}, "WAITAOF"),
    "not, where it is always on the disk": (ALWAYS, "", {}, ["EVALSHA"]),
    "for the replicas that were asked for": (ALWAYS, "?replicas=2", {"wait": 2}, ["EVALSHA", "WAIT"]),
    "for all of them": (ALWAYS, "?replicas=2", {"wait": 1}, "did not confirm"),
}  # fmt: skip


@pytest.mark.parametrize("what", COMMITS)
async def test_a_commit_waits(scripted: ScriptedRedis, what: str) -> None:
    appendfsync, options, answers, told = COMMITS[what]
    assert scripted.settings is not None
    scripted.settings = {**scripted.settings, "appendfsync": appendfsync}
    scripted.scripts["write"] = MADE
    async with open_store(scripted.url + options) as store:
        for name, answer in answers.items():
            setattr(scripted, name, {**getattr(scripted, name), **answer} if isinstance(answer, dict) else answer)
        if "texts" in answers:
            del scripted.scripts["write"]
        if isinstance(told, str):
            with pytest.raises(StoreError, match=told):
                await commit(store, [moved(sample_job())])
            scripted.waitaof, scripted.wait = [1, 0], 2
        assert await commit(store, [moved(sample_job())]) == [True]
        if isinstance(told, list):
            assert scripted.commands[-len(told) :] == told
            assert told[-1] != "WAITAOF" or scripted.asked[-1][1:3] == ["1", "0"]
        bulk = BulkWrite(writes=(Write(puts=(Put("turn", "k", "v", None),)),), durable=False)
        await store.write(bulk, now=NOW)
        assert scripted.commands[-1] in {"EVALSHA", "EVAL"}, "what need not be durable is not waited for"


LUA = files("voiceflow_worker.backends.redis") / "lua"
NAMES = sorted(entry.name.removesuffix(".lua") for entry in LUA.iterdir() if entry.name.endswith(".lua"))


def called(*names: str) -> set[str]:
    """The commands that these scripts call, apart from INFO, which may be missing."""
    found = {command for name in names for command in re.findall(r"redis\.p?call\('([A-Z]+)'", script(name).text)}
    return found - {"INFO"}


TRIED = sorted({*called(*NAMES), "XREAD"})


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[RedisServer]:
    yield redis_server
    redis_server.ask("ACL", "DELUSER", "voiceflow")


async def refusal(url: str) -> StoreError:
    with pytest.raises(StoreError) as caught:
        async with open_store(url) as store:
            await add_jobs(store, [sample_job()])
    assert "secret" not in str(caught.value)
    return caught.value


def everything(server: RedisServer) -> dict[str, object]:
    """All that the server has."""
    whole: dict[str, tuple[str, tuple[str | int, ...]]] = {
        "string": ("GET", ()),
        "hash": ("HGETALL", ()),
        "zset": ("ZRANGE", (0, -1, "WITHSCORES")),
        "stream": ("XRANGE", ("-", "+")),
    }
    keys = server.ask("KEYS", "*")
    assert isinstance(keys, list)
    found: dict[str, object] = {}
    for key in keys:
        command, rest = whole[str(server.ask("TYPE", key))]
        answer = server.ask(command, key, *rest)
        if command == "HGETALL" and isinstance(answer, list):
            answer = dict(zip(answer[::2], answer[1::2], strict=True))
        found[key] = answer
    return found


def test_every_command_is_tried_at_each_connection() -> None:
    assert sorted(set(re.findall(r"\{'([A-Z]+)'", script("schema").text))) == TRIED


@pytest.mark.parametrize("command", TRIED)
async def test_a_user_who_lacks_a_command_writes_nothing_and_is_told_where_the_rights_are(
    server: RedisServer, command: str
) -> None:
    async with open_store(server.url):
        before = everything(server)
    assert "docs/stores.md (ACL SETUSER)" in str(await refusal(url_of(server, RULE, f"-{command.lower()}")))
    assert everything(server) == before


async def test_a_user_without_dangerous_commands_lacks_what_shows_durability_and_best_effort_needs_none(
    server: RedisServer,
) -> None:
    error = await refusal(url_of(server, "~{voiceflow}* +@all -@dangerous"))
    assert isinstance(error, StoreNotDurableError)
    assert "(INFO, CONFIG GET)" in str(error)
    assert "?durability=best-effort" in str(error)
    server.ask("ACL", "LOG", "RESET")
    async with open_store(url_of(server, BEST_EFFORT_RULE) + "?durability=best-effort") as opened:
        store = bare(opened, RedisStore)
        assert "no restart is noticed" in store.durability.promise
        await add_jobs(store, [sample_job()])
        assert list(await get_jobs(store, [sample_job().id])) == [sample_job().id]
        refused = str(server.ask("ACL", "LOG"))
        guard = Guard(store.server, Same("n", "k", None))
        for _ in range(3):
            await store.write(BulkWrite(writes=(Write(puts=(Put("n", "other", "v", None),)),), guard=guard), now=NOW)
        assert str(server.ask("ACL", "LOG")).count("'count'") == refused.count("'count'")


@pytest.mark.parametrize("keys", [
    "", "~voiceflow*", "~{voiceflow}", "~{voiceflow}:*", "~{voiceflow}:queue*", "~other*",
])  # fmt: skip
async def test_a_user_who_lacks_keys_writes_nothing_and_is_told_where_the_rights_are(
    server: RedisServer, keys: str
) -> None:
    error = await refusal(url_of(server, RULE.replace("~{voiceflow}*", keys)))
    assert "docs/stores.md (ACL SETUSER)" in str(error)
    assert server.ask("DBSIZE") in {0, 4}, "at most the schema"
