"""The memory store keeps the contract."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from voiceflow_worker.backends.contract import Opener, StoreContract
from voiceflow_worker.backends.memory import MemoryStore


class TestMemory(StoreContract):
    @pytest.fixture
    def opener(self) -> Opener:
        store = MemoryStore()  # one process's memory: every opening within a test is this one
        return lambda: nullcontext(store)
