"""What the tests of this folder share: a schema for each of them, on one server."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from tests.support.postgres import PostgresServer

_NUMBERS = count(1)


@pytest.fixture
def schema(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of a schema that is not there yet, and is dropped with its roles."""
    name = f"calls_{next(_NUMBERS)}"
    yield name
    postgres_server.ask(f"DROP SCHEMA IF EXISTS {name} CASCADE")


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server for one test, which may kill it."""
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.close()
