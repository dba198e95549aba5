"""The base class of the contract suite, with its fixtures."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from voiceflow_worker.core.ports.store import Store

Opener = Callable[[], AbstractAsyncContextManager[Store]]
"""A function that opens the storage under test. Each call opens the same storage."""


@pytest.mark.anyio
class Ground:
    """The base class of all parts of the contract. A subclass must define the fixture `opener`."""

    @pytest.fixture
    def opener(self) -> Opener:
        """The function that opens the storage under test. The storage is empty when a test begins."""
        raise NotImplementedError("a subclass of the contract must define the fixture `opener`")

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
