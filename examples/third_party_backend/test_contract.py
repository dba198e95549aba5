"""The contract suite, run against this backend: `pip install . && pytest`."""

from __future__ import annotations

from pathlib import Path

import pytest
from voiceflow_contract.suite import Opener, StoreContract

from voiceflow_worker import open_store


class TestShelf(StoreContract):
    """The whole suite. Each theme also has a class of its own, such as `WriteContract`."""

    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        """Return a function that opens the store under test."""
        # Each test has its own store, which is empty at first and lasts until the test ends.
        return lambda: open_store(f"shelf://{tmp_path}/calls")
