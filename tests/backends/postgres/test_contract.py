"""The PostgreSQL store keeps the contract of `core/ports/store.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from tests.contract.suite import Opener, StoreContract
from tests.support.postgres import Pooler, PostgresServer
from voiceflow_worker import open_store


class TestPostgres(StoreContract):
    seconds = 4.0

    @pytest.fixture
    def opener(self, fresh_url: Callable[[str], str]) -> Opener:
        url = fresh_url("postgres")
        return lambda: open_store(url)


@pytest.fixture(scope="module")
def pooler(postgres_server: PostgresServer) -> Iterator[Pooler]:
    pooler = Pooler(postgres_server)
    try:
        yield pooler.start()
    finally:
        pooler.close()


@pytest.mark.slow
class TestPostgresBehindAPooler(StoreContract):
    """A pgbouncer in transaction mode."""

    @pytest.fixture
    def opener(self, fresh_url: Callable[[str], str], pooler: Pooler) -> Opener:
        url = f"{pooler.url()}?{urlsplit(fresh_url('postgres')).query}"
        return lambda: open_store(url)
