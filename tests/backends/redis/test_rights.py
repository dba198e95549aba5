"""A Redis that somebody else runs: the rights of its user, each refused in turn, at the opening and at any time later.

That the rules of the page are enough is shown by `test_contract.py`, which runs under the first of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from importlib.resources import files

import pytest

from tests.contract.samples import add_jobs
from tests.contract.suite import NOW, QUEUE, sample_job
from tests.support.redis_server import RedisServer
from tests.support.redis_users import BEST_EFFORT_RULE, RULE, url_of
from tests.support.stores import bare
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.redis import RedisStore
from voiceflow_worker.backends.redis.faults import script
from voiceflow_worker.backends.redis.rights import commands_of_scripts
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.store import BulkWrite, Guard, Put, Same, Write
from voiceflow_worker.errors import RedisForgetsError, StoreError, StoreUnavailableError

pytestmark = pytest.mark.anyio
HOUR = timedelta(hours=1)
LUA = files("voiceflow_worker.backends.redis") / "lua"
NAMES = sorted(entry.name.removesuffix(".lua") for entry in LUA.iterdir() if entry.name.endswith(".lua"))


def called(*names: str) -> set[str]:
    """The commands that these scripts call, apart from INFO, which may be missing."""
    found = {command for name in names for command in re.findall(r"redis\.p?call\('([A-Z]+)'", script(name).text)}
    return found - {"INFO"}


NEEDED = sorted({*called(*NAMES), "EVAL", "EVALSHA", "GET", "XREAD"})
WRITING = sorted(called("write", "lease", "prune"))


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[RedisServer]:
    yield redis_server
    redis_server.ask("ACL", "DELUSER", "voiceflow")


async def refusal(url: str) -> StoreError:
    with pytest.raises(StoreError) as caught:
        async with open_store(url):
            pass
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


def test_every_command_of_the_scripts_is_tried_at_the_opening_and_by_scripts_that_write_several_times() -> None:
    assert {str(words[0]) for words in commands_of_scripts("{v}")} == {*NEEDED}
    tried = re.findall(r"\{'([A-Z]+)'(?:, some|\})", script("write").text)
    assert sorted(tried) == WRITING


@pytest.mark.parametrize("command", NEEDED)
async def test_a_refused_command_is_named_at_the_opening_with_the_rule_that_allows_it(
    server: RedisServer, command: str
) -> None:
    for rule, options in ((RULE, ""), (BEST_EFFORT_RULE, "?durability=best-effort")):
        error = await refusal(url_of(server, rule, f"-{command.lower()}") + options)
        assert isinstance(error, StoreUnavailableError)
        assert not error.passes
        assert f"does not let the user 'voiceflow' run {command}. " in str(error)
        assert str(error).endswith(f"ACL SETUSER voiceflow ~{{voiceflow}}* +{command.lower()}.")
    assert server.ask("DBSIZE") == 0


@pytest.mark.parametrize("category", [
    "read", "write", "string", "hash", "sortedset", "stream", "scripting", "keyspace", "fast", "slow", "all",
])  # fmt: skip
async def test_all_refused_commands_are_named_at_once(server: RedisServer, category: str) -> None:
    named = [each.lower() for each in NEEDED] if category == "all" else server.ask("ACL", "CAT", category)
    refused = [each for each in NEEDED if each.lower() in named]  # type: ignore[operator]
    rule = f"{RULE} -@{category} +config|get +info"
    error = await refusal(url_of(server, rule))
    assert sorted(re.findall(r" \+([a-z]+)\b", str(error))) == sorted(each.lower() for each in refused)
    # With the rule that the message asks for, the store opens.
    url_of(server, rule)
    server.ask("ACL", "SETUSER", *str(error).partition("ACL SETUSER ")[2].rstrip(".").split())
    async with open_store(server.url.replace("redis://", "redis://voiceflow:secret@")) as store:
        await add_jobs(store, [sample_job()])


async def test_a_user_without_dangerous_commands_lacks_what_shows_durability_and_best_effort_needs_none(
    server: RedisServer,
) -> None:
    error = await refusal(url_of(server, "~{voiceflow}* +@all -@dangerous"))
    assert isinstance(error, RedisForgetsError)
    assert "run INFO and CONFIG GET. " in str(error)
    assert "ACL SETUSER voiceflow ~{voiceflow}* +info +config|get. " in str(error)
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
async def test_refused_keys_are_told_with_their_pattern(server: RedisServer, keys: str) -> None:
    error = await refusal(url_of(server, RULE.replace("~{voiceflow}*", keys)))
    assert "does not let the user 'voiceflow' read and write all keys that begin with {voiceflow}. " in str(error)
    assert str(error).endswith("ACL SETUSER voiceflow ~{voiceflow}*.")
    assert server.ask("DBSIZE") == 0


async def test_the_pattern_of_a_prefix_with_wildcards_means_this_prefix_alone(server: RedisServer) -> None:
    url = url_of(server, RULE)
    error = await refusal(f"{url}?prefix=a*[b]")
    assert "~{a\\*\\[b\\]}*" in str(error)
    url_of(server, RULE.replace("~{voiceflow}*", "~{a\\*\\[b\\]}*"))
    async with open_store(f"{url}?prefix=a*[b]") as store:
        await add_jobs(store, [sample_job()])


async def test_a_user_may_be_refused_a_name_for_the_connection_a_database_and_a_wait(server: RedisServer) -> None:
    async with open_store(url_of(server, RULE, "-client")):
        pass
    database = url_of(server, RULE, "-select").replace("/0", "/3")
    assert "run SELECT." in str(await refusal(database))
    assert "run WAIT." in str(await refusal(url_of(server, RULE, "-wait") + "?replicas=1"))
    beyond = await refusal(url_of(server, RULE).replace("/0", "/9999"))
    assert "out of range" in str(beyond)


async def act(store: Store, step: str) -> None:
    """An act that writes at many places, with each script that does so."""
    if step == "write":
        await add_jobs(store, [sample_job(2, batch_id="b", unique_key="k2", valid_until=NOW + HOUR)])
    elif step == "lease":
        await store.lease(QUEUE, worker_id="w", limit=9, until=NOW + HOUR, now=NOW)
    else:
        await store.prune(QUEUE, now=NOW + 9 * HOUR, events_before=NOW + 9 * HOUR, limit=99)


@pytest.mark.parametrize("step", ["write", "lease", "prune"])
async def test_a_command_that_is_refused_later_leaves_nothing_half_written(server: RedisServer, step: str) -> None:
    async with open_store(server.url) as store:
        await add_jobs(store, [sample_job(1, batch_id="b", unique_key="k", valid_until=NOW + HOUR), sample_job(3)])
        await store.write(BulkWrite(writes=(Write(puts=(Put("number", "n", "v", NOW + HOUR),)),)), now=NOW)
        before = everything(server)
        for command in WRITING:
            async with open_store(url_of(server, RULE)) as theirs:
                url_of(server, RULE, f"-{command.lower()}")
                with pytest.raises(StoreUnavailableError, match=f"(?i)'?{command}'? command"):
                    await act(theirs, step)
            assert everything(server) == before, command
        async with open_store(url_of(server, RULE)) as theirs:
            await act(theirs, step)
        assert everything(server) != before
