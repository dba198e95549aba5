"""How many connections to a PostgreSQL workers and receivers have."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer
from tests.support.stage import stage
from tests.support.waiting import wait_until

MOST = 4
"""The connections of a process with one store: three for statements, and one that listens."""


@contextmanager
def counted(server: PostgresServer) -> Iterator[Counter[str]]:
    """The most connections that each application had at once while the block ran."""
    most: Counter[str] = Counter()
    over = threading.Event()
    names = "SELECT application_name, count(*) FROM pg_stat_activity WHERE client_port IS NOT NULL GROUP BY 1"

    def look() -> None:
        while not over.wait(0.02):
            for name, count in server.ask(names):
                most[name] = max(most[name], count)

    looks = threading.Thread(target=look)
    looks.start()
    try:
        yield most
    finally:
        over.set()
        looks.join()


@pytest.mark.slow
def test_a_worker_and_a_receiver_have_at_most_four_connections_each(own_server: PostgresServer, tmp_path: Path) -> None:
    with stage(tmp_path, store=own_server.url(), speed=1000) as on, counted(own_server) as most:
        on.env["PGAPPNAME"] = "a person"
        on.campaign(300)
        on.env["PGAPPNAME"] = "the worker"
        with on.worker("--rate", "unlimited", "--concurrency", "50"):
            on.env["PGAPPNAME"] = "a person"
            wait_until(lambda: len(on.rang()) == 300, "all calls")
            wait_until(lambda: not {"queued", "leased", "sending", "submitted"} & on.states().keys(), "the summaries")
    assert 1 <= most["the worker"] <= MOST, most
    assert 1 <= most["voiceflow-worker"] <= MOST, most  # the receiver
