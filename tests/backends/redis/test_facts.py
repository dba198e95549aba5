"""Reports from Redis: ended calls are not decoded."""

from __future__ import annotations

from random import Random

import pytest

from tests.backends.kept_facts import (
    check_that_no_job_is_decoded,
    reports_are_exact,
)
from tests.core.test_breakdown import some_job
from tests.support.plain_breakdown import plain_breakdown
from tests.support.redis_server import RedisServer
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.contract import NOW, QUEUE
from voiceflow_worker.core.overview.report import build_full_report

pytestmark = pytest.mark.anyio


def key(job_id: str) -> str:
    return f"voiceflow:{{{QUEUE}}}:job:{job_id}"


async def test_a_report_decodes_no_ended_call(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_store(redis_server.url) as store:
        await check_that_no_job_is_decoded(store, monkeypatch)


@pytest.mark.parametrize("prefix", ["a->b", "[ab]"])
async def test_reports_are_exact_with_any_prefix_of_keys(redis_server: RedisServer, prefix: str) -> None:
    random = Random(1)
    async with open_store(f"{redis_server.url}?prefix={prefix}") as store:
        await store.jobs.enqueue([some_job(place, random) for place in range(40)], now=NOW)
        await reports_are_exact(store)


@pytest.mark.parametrize("rights", [("~*", "-sort"), ("~voiceflow:*",)])
async def test_reports_are_exact_for_a_user_with_few_rights(redis_server: RedisServer, rights: tuple[str, ...]) -> None:
    random = Random(1)
    redis_server.ask("ACL", "SETUSER", "worker", "reset", "on", ">secret", "&*", "+@all", *rights)
    async with open_store(redis_server.url.replace("//", "//worker:secret@")) as store:
        jobs = [some_job(place, random) for place in range(40)]
        await store.jobs.enqueue(jobs, now=NOW)
        await reports_are_exact(store)
        redis_server.ask("DEL", key(jobs[7].id), key(jobs[39].id))
        left = [*jobs[:7], *jobs[8:39]]
        assert (await build_full_report(store, QUEUE, None)).breakdown == plain_breakdown(left)  # before any listing
