"""How large the tables become, with autovacuum alone."""

from __future__ import annotations

import pytest

from bench.old_rows import growth, lives, running

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(600)]


async def test_tables_are_at_most_three_times_as_large_as_their_rows_after_many_lives_of_calls() -> None:
    # Autovacuum looks each second, as time passes faster in this test.
    with running("autovacuum_naptime=1s", "autovacuum_vacuum_cost_delay=0") as server:
        await lives(server, jobs=20_000)
        found = growth(server)
    assert found["jobs"]
    assert all(size <= 3 * least for size, least in found.values()), found
