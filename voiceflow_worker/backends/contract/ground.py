"""The fixtures of the contract suite."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from voiceflow_worker.core.ports import Store

Opener = Callable[[], AbstractAsyncContextManager[Store]]
"""Opens the storage under test; each call opens the same one again."""


@pytest.mark.anyio
class Ground:
    """The base of every part of the contract. A class that derives from a part defines the fixture `opener`."""

    @pytest.fixture
    def opener(self) -> Opener:
        """The storage under test: empty when a test begins, the same for all calls within it."""
        raise NotImplementedError("a class that derives from the contract must define the fixture `opener`")

    @pytest.fixture
    async def store(self, opener: Opener) -> AsyncGenerator[Store]:
        """The open store."""
        async with opener() as store:
            yield store

    @pytest.fixture
    async def other(self, opener: Opener, store: Store) -> AsyncGenerator[Store]:  # noqa: ARG002 - opened after it
        """The same storage, opened a second time, as by another worker."""
        async with opener() as other:
            yield other
