from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from voiceflow_worker import open_store
from voiceflow_worker.core.ports import Store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(f"sqlite:///{tmp_path / 'calls.db'}") as opened:
        yield opened
