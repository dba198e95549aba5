"""The laboratory's fixtures: one store for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pytest

from tests.crash.fault_injection import FaultInjection
from tests.support.stores import DURABLE


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first, each before a short one: xdist gives tests to its workers in pairs."""
    long = [item for item in items if item.get_closest_marker("timeout")]
    short = [item for item in items if not item.get_closest_marker("timeout")]
    items[:] = [*chain(*zip(long, short, strict=False)), *long[len(short) :], *short[len(long) :]]


@pytest.fixture(params=DURABLE)
def store_url(request: pytest.FixtureRequest, fresh_url: Callable[[str], str]) -> str:
    return fresh_url(request.param)


@pytest.fixture
def lab(store_url: str, tmp_path: Path) -> Iterator[FaultInjection]:
    with FaultInjection(store_url, tmp_path).running() as running:
        yield running
