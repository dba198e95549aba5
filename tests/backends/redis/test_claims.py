"""Steps in one trip: a claim of records before reads, and a look at the suppression list before an enqueue."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta

import pytest

from tests.support.engine import Engine
from tests.support.flows import number
from tests.support.redis_server import RedisServer
from tests.support.scripted_redis import ScriptedRedis
from tests.support.voices import ScriptedVoice
from voiceflow_worker import JobState
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.contract import NOW
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.one_trip import Claimed, Claims

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


async def test_a_call_is_locked_and_journalled_by_the_command_that_follows_its_lease(redis_server: RedisServer) -> None:
    async with open_store(redis_server.url) as store:
        engine = Engine(store, ScriptedVoice())
        await engine.enqueue(number(1))
        await engine.send()  # the server knows the scripts now
        await engine.enqueue(number(2))
        redis_server.ask("CONFIG", "RESETSTAT")
        leased = await engine.lease()
        begun, left = await engine.submitter.begin_at_once(leased, leased_at=store.clock.monotonic())
        stats = str(redis_server.ask("INFO", "commandstats"))
    assert ([flight.job.state for flight in begun], left) == ([JobState.SENDING], [])
    assert "cmdstat_evalsha:calls=2," in stats
