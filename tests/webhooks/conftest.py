from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """The receiver is served by uvicorn, which runs on asyncio only."""
    return "asyncio"
