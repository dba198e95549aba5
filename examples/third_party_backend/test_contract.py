"""The contract suite for this backend: `pip install . && pytest`."""

from __future__ import annotations

from pathlib import Path

import pytest

from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.contract import Opener, StoreContract


class TestShelf(StoreContract):
    """The whole suite. Each theme is also a class of its own, such as `LeaseContract`."""

    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        """Open the store under test."""
        # Each test has its own name: empty at first, and the same whenever it is opened.
        return lambda: open_store(f"shelf://{tmp_path.name}")
