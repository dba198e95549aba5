"""The SQLite store keeps the contract of `core/ports/store.py`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.contract.suite import LeaseContract, Opener, StoreContract
from voiceflow_worker.backends.sqlite import open_sqlite, write


class TestSqlite(StoreContract):
    seconds = 4.0

    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return partial(open_sqlite, f"sqlite:///{tmp_path}/calls.db")


class TestBehindManyHeldCalls(LeaseContract):
    """A lease looks at the open batches one by one."""

    @pytest.fixture
    def opener(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opener:
        monkeypatch.setattr(write, "_MOST_HELD", -1)
        return partial(open_sqlite, f"sqlite:///{tmp_path}/calls.db")
