"""Totals in Redis: stores of before get them too, and wrong ones are found and mended."""

from __future__ import annotations

import pytest

from tests.backends.sqlite.test_totals import ended
from tests.support.redis_server import RedisServer
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.contract import NOW, QUEUE
from voiceflow_worker.backends.contract.totals import totals_are_exact
from voiceflow_worker.core.overview.recount import recount

pytestmark = pytest.mark.anyio


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
