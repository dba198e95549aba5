"""The SQLite store keeps the contract, with each test's two handles being two connections to one file."""

from __future__ import annotations

from pathlib import Path

import pytest

from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.contract import Opener, StoreContract


class TestSqlite(StoreContract):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda: open_store(f"sqlite:///{tmp_path}/calls.db")
