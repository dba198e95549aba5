"""Reports from Redis: calls of older versions count too, and the others are not decoded."""

from __future__ import annotations

import pytest

from tests.backends.facts_of_before import check_that_no_job_is_decoded, check_with_an_older_version
from tests.support.redis_server import RedisServer
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.contract import QUEUE

pytestmark = pytest.mark.anyio


async def test_reports_are_exact_beside_an_older_version(redis_server: RedisServer) -> None:
    def key(job_id: str) -> str:
        return f"voiceflow:{{{QUEUE}}}:job:{job_id}"

    async with open_store(redis_server.url) as store:
        await check_with_an_older_version(
            store,
            strip=lambda job_id: redis_server.ask("HDEL", key(job_id), "facts"),
            move=lambda job_id, revision, record: redis_server.ask(
                "HSET", key(job_id), "rev", revision, "record", record
            ),
        )


async def test_a_report_decodes_no_ended_call(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_store(redis_server.url) as store:
        await check_that_no_job_is_decoded(store, monkeypatch)
