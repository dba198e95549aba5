"""The contract suite for the store that `--store-url` names (see `plugin`)."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from voiceflow_worker import open_store

from .suite import Opener, StoreContract


class TestStore(StoreContract):
    """The whole suite, with a new storage for each test."""

    @pytest.fixture
    def opener(self, request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
        url: str | None = request.config.getoption("--store-url")
        if url is None:
            raise pytest.UsageError("give the store to test, such as --store-url 'mystore://{name}'")
        whole = url.replace("{name}", f"t{uuid4().hex[:12]}").replace("{folder}", str(tmp_path))
        return lambda: open_store(whole)
