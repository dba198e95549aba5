"""A Redis store keeps the contract of `core/ports/store.py` on one server.

On other servers it is the same program: the newest server is asked about the script that does most, a pair
behind a sentinel about writes that a replica must confirm.
"""

from __future__ import annotations

from functools import partial

import pytest

from tests.contract.suite import (
    JobsContract,
    Opener,
    ShareContract,
    StoreContract,
    WriteContract,
)
from tests.support.redis_server import RedisServer, WatchedPair
from tests.support.redis_users import RULE, url_of
from voiceflow_worker.backends.redis import store
from voiceflow_worker.backends.redis.store import open_redis


@pytest.fixture(autouse=True)
def timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time for the longest script, and for its replication, on a machine that does much else."""
    monkeypatch.setattr("voiceflow_worker.backends.redis.client.ANSWER_TIMEOUT", 60.0)
    monkeypatch.setattr("voiceflow_worker.backends.redis.client.CONFIRM_WITHIN_MS", 50_000)


class TestRedis(StoreContract):
    seconds = 4.0

    """As a user with the rights that docs/stores.md asks for, and no others."""

    @pytest.fixture
    def opener(self, redis_server: RedisServer) -> Opener:
        return partial(open_redis, url_of(redis_server, RULE))


class TestInShortPages(JobsContract):
    """Each script reads, examines and sorts few jobs, so that every read needs several."""

    @pytest.fixture
    def opener(self, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Opener:
        for name, most in (("PAGE", 70), ("LOOKS", 90)):
            monkeypatch.setattr(store, name, most)
        return partial(open_redis, redis_server.url)


@pytest.mark.slow
class TestNewerServer(WriteContract):
    @pytest.fixture
    def opener(self, newer_server: RedisServer) -> Opener:
        newer_server.ask("FLUSHALL")
        return partial(open_redis, newer_server.url)


@pytest.mark.slow
class TestBehindASentinel(WriteContract, ShareContract):
    @pytest.fixture
    def opener(self, lasting_pair: WatchedPair) -> Opener:
        lasting_pair.primary.ask("FLUSHALL")
        return partial(open_redis, f"{lasting_pair.url}?replicas=1")
