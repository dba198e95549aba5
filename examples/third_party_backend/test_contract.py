"""The backend keeps what a store must promise: `pip install . && pytest`."""

from __future__ import annotations

from pathlib import Path

import pytest

from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.contract import Opener, StoreContract


class TestShelf(StoreContract):
    """All of the suite; one theme alone is a class of its own, such as `LeaseContract`."""

    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        """Open the store under test."""
        # A name of its own for each test: empty when it begins, the same whenever it is opened.
        return lambda: open_store(f"shelf://{tmp_path.name}")
