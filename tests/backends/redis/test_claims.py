"""Claims of records that are followed by reads: in one trip, and the reads always come after the claim."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta

import pytest

from tests.support.redis_server import RedisServer
from tests.support.scripted_redis import ScriptedRedis
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.contract import NOW
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.claims import Claimed, Claims

pytestmark = pytest.mark.anyio
ENDS = NOW + timedelta(minutes=3)


@pytest.fixture
async def scripted() -> AsyncGenerator[ScriptedRedis]:
    async with ScriptedRedis().listening() as server:
        yield server


async def claimed(store: Store, values: Mapping[str, str]) -> Claimed:
    """Claim these numbers, and then read these numbers, and the same numbers on a list."""
    wanted = {"number": list(values), "list": list(values)}
    return await Claims(store.records).claim("number", values, expires_at=ENDS, now=NOW, then_read=wanted)


async def test_a_claim_and_its_reads_are_sent_together(redis_server: RedisServer) -> None:
    async with open_store(redis_server.url) as store:
        await store.records.put("list", {"+1": "listed"}, expires_at=None, now=NOW)
        await claimed(store, {"+2": "me"})  # the server knows the scripts now
        redis_server.ask("CONFIG", "RESETSTAT")
        found = await claimed(store, {"+1": "me", "+2": "you"})
        stats = str(redis_server.ask("INFO", "stats"))
    assert dict(found.standing) == {"+1": "me", "+2": "me"}
    assert found.read == {"number": {"+1": "me", "+2": "me"}, "list": {"+1": "listed"}}
    assert int(stats.partition("total_reads_processed:")[2].split()[0]) <= 3


async def test_a_read_comes_after_the_claim_even_if_the_server_has_forgotten_only_the_script_of_the_claim(
    redis_server: RedisServer,
) -> None:
    """Commands that are sent together are carried out even if an earlier one failed."""
    async with open_store(redis_server.url) as store:
        await claimed(store, {"+1": "me"})
        redis_server.ask("SCRIPT", "FLUSH")
        await store.records.get("list", ["+1"], now=NOW)  # the server knows the script of the reads again
        found = await claimed(store, {"+2": "me"})
    assert found.read == {"number": {"+2": "me"}, "list": {}}


async def test_a_claim_that_must_be_confirmed_is_made_before_the_reads_are_sent(scripted: ScriptedRedis) -> None:
    """It takes another connection, so the server may carry out the reads first."""
    scripted.scripts |= {"record_put_if_absent": ["me"], "record_get": [None]}
    async with open_store(scripted.url) as store:
        await claimed(store, {"+1": "me"})
    names = [name for name in scripted.commands if name in {"EVALSHA", "WAITAOF"}]
    assert names[-4:] == ["EVALSHA", "WAITAOF", "EVALSHA", "EVALSHA"]
