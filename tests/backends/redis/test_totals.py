"""Totals in Redis: stores of before get them too, and wrong ones are found and mended."""

from __future__ import annotations

import pytest

from tests.backends.sqlite.test_totals import ended
from tests.support.redis_server import RedisServer
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.contract import NOW, QUEUE
from voiceflow_worker.backends.contract.totals import totals_are_exact
from voiceflow_worker.core.overview.recount import recount
from voiceflow_worker.core.ports import Query

pytestmark = pytest.mark.anyio


async def forget_totals(server: RedisServer, url: str) -> None:
    """Take everything away that an older version does not write."""
    async with open_store(url) as store:
        for job in await store.jobs.find(Query(queue=QUEUE, limit=None)):
            server.ask("HDEL", f"voiceflow:{{{QUEUE}}}:job:{job.id}", "tally")
    for key in ("totals", "tallied", "batch:=spring:totals", "batch:=autumn:totals"):
        server.ask("DEL", f"voiceflow:{{{QUEUE}}}:{key}")


async def test_a_store_without_totals_gets_them(redis_server: RedisServer) -> None:
    async with open_store(redis_server.url) as store:
        await store.jobs.enqueue(ended(1200), now=NOW)
    await forget_totals(redis_server, redis_server.url)
    async with open_store(redis_server.url) as store:
        await totals_are_exact(store)
    assert redis_server.ask("EXISTS", f"voiceflow:{{{QUEUE}}}:tallied") == 1


async def test_wrong_totals_are_found_and_mended(redis_server: RedisServer) -> None:
    async with open_store(redis_server.url) as store:
        jobs = ended(30)
        await store.jobs.enqueue(jobs, now=NOW)
        redis_server.ask("HDEL", f"voiceflow:{{{QUEUE}}}:job:{jobs[1].id}", "tally")
        redis_server.ask("HINCRBY", f"voiceflow:{{{QUEUE}}}:totals", "placed", 3)
        redis_server.ask("DEL", f"voiceflow:{{{QUEUE}}}:batch:=spring:totals")
        found = await recount(store, QUEUE, mend=False)
        assert set(found.wrong) == {None, "spring"}
        assert (await recount(store, QUEUE, mend=True)).mended
        assert (await recount(store, QUEUE, mend=False)).wrong == {}
        await totals_are_exact(store)
