"""The Redis store keeps the contract on one server.

On other servers it is the same program: the newest server is asked about the script that does most, a cluster about
what spans its slots and nodes, a pair behind a sentinel about writes that a replica must confirm.
"""

from __future__ import annotations

import pytest

from tests.support.redis_server import RedisCluster, RedisServer, WatchedPair
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.contract import (
    DeleteContract,
    Opener,
    ShareContract,
    StoreContract,
    WaitContract,
)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time for the longest script, and for its replication, on a machine that does much else."""
    monkeypatch.setattr("voiceflow_worker.backends.redis.connection.clients.ANSWER_TIMEOUT", 60.0)
    monkeypatch.setattr("voiceflow_worker.backends.redis.connection.link.CONFIRM_WITHIN_MS", 50_000)


class TestStandalone(StoreContract):
    @pytest.fixture
    def opener(self, redis_server: RedisServer) -> Opener:
        return lambda: open_store(redis_server.url)


@pytest.mark.slow
class TestNewerServer(ShareContract):
    @pytest.fixture
    def opener(self, newer_server: RedisServer) -> Opener:
        newer_server.ask("FLUSHALL")
        return lambda: open_store(newer_server.url)


@pytest.mark.slow
class TestCluster(DeleteContract, WaitContract, ShareContract):
    @pytest.fixture
    def opener(self, cluster: RedisCluster) -> Opener:
        cluster.flush()
        return lambda: open_store(cluster.url)


@pytest.mark.slow
class TestBehindASentinel(ShareContract):
    @pytest.fixture
    def opener(self, lasting_pair: WatchedPair) -> Opener:
        lasting_pair.primary.ask("FLUSHALL")
        return lambda: open_store(f"{lasting_pair.url}?replicas=1")
