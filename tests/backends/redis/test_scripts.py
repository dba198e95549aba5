"""The scripts as files, and a server that has forgotten them."""

from __future__ import annotations

import re
from datetime import timedelta
from importlib.resources import files

import pytest

from tests.contract.samples import add_jobs, commit, delete
from tests.contract.suite import NOW, QUEUE, moved, sample_job
from tests.support.redis_server import RedisServer
from tests.support.workers import set_limits
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.redis.faults import script
from voiceflow_worker.core.base.reading import find_jobs
from voiceflow_worker.core.ports import Limits
from voiceflow_worker.core.ports.reads import Listing
from voiceflow_worker.core.ports.store import BulkWrite, Page, Put, Record, Slot, Write
from voiceflow_worker.model.jobs.job import JobState

pytestmark = pytest.mark.anyio

LUA = files("voiceflow_worker.backends.redis") / "lua"
NAMES = sorted(entry.name.removesuffix(".lua") for entry in LUA.iterdir() if entry.name.endswith(".lua"))


def test_no_script_opens_a_record_or_asks_for_the_time() -> None:
    """What a script does follows from its arguments, and an empty list stays a list. `before` alone asks the clock."""
    for name in NAMES:
        text = (
            script(name)
            .text.replace("cjson.decode(ARGV[1])", "")
            .replace("cjson.encode(answer)", "")
            .replace("cjson.encode(redis.call('TIME'))", "")
            .replace("cjson.null", "")
        )
        assert not re.search(r"cjson|cmsgpack|'(RANDOMKEY|SRANDMEMBER|SPOP)'|math\.random|os\.time", text)
        asked = text.count("redis.call('TIME')")
        assert asked == (1 if name == "write" else 0), name


async def test_a_server_that_has_forgotten_its_scripts_is_told_them_again(redis_server: RedisServer) -> None:
    async with open_store(redis_server.url) as store:

        async def everything() -> None:
            now = NOW + timedelta(seconds=1)
            await add_jobs(store, [sample_job(1), sample_job(2, unique_key="k")])
            [leased] = await store.lease(QUEUE, worker_id="w", limit=1, until=now + timedelta(minutes=1), now=now)
            assert await commit(store, [moved(leased, state=JobState.SENDING)]) == [True]
            assert len(await find_jobs(store, Listing(queue=QUEUE))) == 2
            await set_limits(store, QUEUE, Limits(rate=10))
            await store.write(BulkWrite(writes=(Write(slot=Slot(QUEUE, now, now)),)), now=now)
            await store.write(BulkWrite(writes=(Write(puts=(Put("space", "k", "v", None),)),)), now=now)
            assert list((await store.records({"space": Page()}, now=now))["space"]) == [Record("k", "v", None)]
            found = await find_jobs(store, Listing(queue=QUEUE))
            assert await delete(store, found, keep_keys_until=NOW) == [True, True]
            await store.prune(QUEUE, now=now, events_before=now, limit=10)

        await everything()
        redis_server.ask("SCRIPT", "FLUSH")
        await everything()


async def test_every_key_is_under_the_tag_of_its_store(redis_server: RedisServer) -> None:
    async with open_store(redis_server.url) as store:
        await add_jobs(store, [sample_job(1, batch_id="b", unique_key="k", valid_until=NOW + timedelta(hours=1))])
        await store.lease(QUEUE, worker_id="w", limit=1, until=NOW + timedelta(minutes=1), now=NOW)
        await set_limits(store, QUEUE, Limits(rate=10))
        await store.write(BulkWrite(writes=(Write(slot=Slot(QUEUE, NOW, NOW)),)), now=NOW)
        await store.write(BulkWrite(writes=(Write(puts=(Put("number", "k", "v", NOW),)),)), now=NOW)
    keys = redis_server.ask("KEYS", "*")
    assert isinstance(keys, list)
    assert all(key.startswith("{voiceflow}:") for key in keys)
