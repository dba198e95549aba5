"""The laboratory's fixtures: one store for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash.fault_injection import FaultInjection
from tests.support.stores import DURABLE


@pytest.fixture(params=DURABLE)
def store_url(request: pytest.FixtureRequest, fresh_url: Callable[[str], str]) -> str:
    return fresh_url(request.param)


@pytest.fixture
def lab(store_url: str, tmp_path: Path) -> Iterator[FaultInjection]:
    with FaultInjection(store_url, tmp_path).running() as running:
        yield running
