"""The PostgreSQL store keeps the contract of `core/ports/store.py`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from voiceflow_worker import open_store
from voiceflow_worker.backends.contract import Opener, StoreContract


class TestPostgres(StoreContract):
    @pytest.fixture
    def opener(self, fresh_url: Callable[[str], str]) -> Opener:
        url = fresh_url("postgres")
        return lambda: open_store(url)
