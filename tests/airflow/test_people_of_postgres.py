"""People of a campaign from a real PostgreSQL, through Airflow's own hook."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from airflow_provider.operators.voice import VoiceCampaignOperator
from tests.airflow.scene import context
from tests.support.postgres import ADMINISTRATOR, DATABASE, PostgresServer
from voiceflow_worker import CallQueue, open_store

MANY = 20_000


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    started = PostgresServer()
    try:
        yield started.start()
    finally:
        started.close()


@pytest.fixture
def hook(server: PostgresServer, connect: Callable[..., None], tmp_path: Path) -> Any:
    """Airflow's hook of the connection `people`, and a store for the calls."""
    postgres = pytest.importorskip("airflow.providers.postgres.hooks.postgres", exc_type=ImportError)
    place = {"host": "127.0.0.1", "port": server.port, "login": ADMINISTRATOR, "schema": DATABASE}
    connect("people", conn_type="postgres", **place)
    usual = {"source": "+6531234567", "voice_profile": "en-IE-EmilyNeural"}
    extra = {"sub_account": "tests", "store": f"sqlite:///{tmp_path / 'calls.db'}", **usual}
    connect(host="http://127.0.0.1:9", password="a-key", extra=extra)
    return postgres.PostgresHook(postgres_conn_id="people")


def campaign(**options: Any) -> Any:
    given: dict[str, Any] = {"task_id": "t", "send": "worker", "wait_for": None, "deferrable": False, **options}
    return VoiceCampaignOperator(conn_id="people", country="SG", **given).execute(context(options["say"][:9]))


def test_values_of_a_database_are_read_as_cells_of_a_file_are(hook: Any, tmp_path: Path) -> None:
    hook.run(
        [
            "DROP TABLE IF EXISTS visits",
            "CREATE TABLE visits (phone text, name text, visit date, owed numeric(10,2), rooms int, note text)",
            "INSERT INTO visits VALUES ('9123 4567', 'Jörg', '2099-01-31', 12.50, 3, NULL)",
        ]
    )
    say = "{{ name }}, {{ visit|date }}, {{ owed }}, {{ rooms }}."
    sql = "SELECT * FROM visits WHERE visit >= %(day)s"
    report = campaign(sql=sql, parameters={"day": "2099-01-01"}, number_column="phone", say=say)
    assert report["total"] == 1

    async def bodies() -> list[tuple[str, str]]:
        async with open_store(f"sqlite:///{tmp_path / 'calls.db'}") as store:
            return [(job.destination, job.body) for job in await CallQueue(store).find()]

    ((number, body),) = anyio.run(bodies)
    assert number == "+6591234567"
    assert "Jörg, 31 January 2099, 12.50, 3." in body


@pytest.mark.slow
def test_twenty_thousand_people_each_have_one_call_and_a_failure_in_the_last_row_leaves_none(hook: Any) -> None:
    hook.run(
        [
            "DROP TABLE IF EXISTS people",
            "CREATE TABLE people (destination text, name text, place int)",
            f"INSERT INTO people SELECT '9' || 1000000 + i, 'Name ' || i, i FROM generate_series(1, {MANY}) AS i",
        ]
    )
    with pytest.raises(Exception, match="division by zero"):
        campaign(sql=f"SELECT *, 1 / ({MANY} - place) FROM people ORDER BY place", say="Hello {{ name }}.")
    report = campaign(sql="SELECT * FROM people ORDER BY place", say="Hello {{ name }}.")
    assert (report["total"], report["rows"]) == (MANY, {"enqueued": MANY, "duplicates": 0, "rejected": 0})
    again = campaign(sql="SELECT * FROM people ORDER BY place DESC", say="Hello {{ name }}.")
    assert (again["total"], again["rows"]["duplicates"]) == (MANY, MANY)
