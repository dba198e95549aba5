"""Where the people of a campaign come from, and that its fields mean in Airflow what they mean everywhere else."""

from __future__ import annotations

import inspect
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from airflow.providers.common.sql.hooks.sql import DbApiHook
from airflow.sdk import BaseHook

from airflow_provider.notifications.voice import VoiceCallNotifier
from airflow_provider.operators.voice import VoiceCallOperator, VoiceCampaignOperator
from tests.airflow.scene import STORED, context, refused
from voiceflow_worker import CallQueue, Job, open_store
from voiceflow_worker.campaigns.fields import fields_of
from voiceflow_worker.campaigns.reading import Of

Connect = Callable[..., None]
STORED_ONLY: dict[str, Any] = {"task_id": "t", "deferrable": False, "say": "Hello {{ name }}.", **STORED}


@pytest.fixture
def store(tmp_path: Path, connect: Connect) -> str:
    """A store that the connection names. Nothing is sent."""
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    usual = {"source": "+6531234567", "voice_profile": "en-IE-EmilyNeural"}
    connect(host="http://127.0.0.1:9", password="a-key", extra={"sub_account": "tests", "store": url, **usual})
    return url


def jobs_in(url: str) -> list[Job]:
    async def found() -> list[Job]:
        async with open_store(url) as store:
            return sorted(await CallQueue(store).find(limit=None), key=lambda job: job.destination)

    return anyio.run(found)


@pytest.mark.parametrize(
    ("kind", "of", "others"),
    [
        (VoiceCampaignOperator, Of.CAMPAIGN, {"again", "rejects", "batch"}),
        (VoiceCallOperator, Of.CALL, {"to", "batch"}),
        (VoiceCallNotifier, Of.ESCALATION, set[str]()),
    ],
)
def test_the_arguments_of_operators_and_notifiers_are_the_fields(kind: type, of: Of, others: set[str]) -> None:
    taken = {name for each in kind.__mro__ for name in inspect.signature(each).parameters}
    assert set(fields_of(of)) - taken == others


def test_people_of_a_file_and_of_rows_are_called_by_the_fields_of_a_campaign_file(store: str, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("Mobile,name,stop\n8765 4321,Ana,\n8765 4322,Ben,x\n", encoding="utf-8")
    (tmp_path / "c.toml").write_text('country = "SG"\nwindow = "any"\nleave-out = "stop=x"\nbatch = "kept-{date}"\n')
    given = {**STORED_ONLY, "campaign": str(tmp_path / "c.toml"), "columns": {"destination": "Mobile"}}
    report = VoiceCampaignOperator(**given, file=str(tmp_path / "people.csv")).execute(context("file"))
    assert (report["total"], report["batch_id"].startswith("dag.run.file.")) == (1, True)
    rows = [{"Mobile": "8765 4323", "name": "Cy", "stop": ""}]
    assert VoiceCampaignOperator(**given, rows=rows).execute(context("rows"))["total"] == 1
    assert [job.destination for job in jobs_in(store)] == ["+6587654321", "+6587654323"]


class DatabaseHook(DbApiHook):
    """A hook whose database is a file."""

    conn_name_attr = "database_conn_id"
    file = Path()

    def get_conn(self) -> Any:
        return sqlite3.connect(self.file)


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connect: Connect) -> Connect:
    connect("people", conn_type="sqlite")
    monkeypatch.setattr(DatabaseHook, "file", tmp_path / "people.db")
    monkeypatch.setattr(BaseHook, "get_hook", lambda conn_id: DatabaseHook(database_conn_id=conn_id))

    def fill(*statements: str) -> None:
        base = sqlite3.connect(tmp_path / "people.db")
        with base:
            for statement in statements:
                base.execute(statement)
        base.close()

    fill("CREATE TABLE people (DESTINATION, NAME, VISITS)", MANY)
    return fill


MANY = """INSERT INTO people WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 24)
SELECT printf('9123%04d', i), 'Ana ' || i, i FROM n"""


def query(sql: str, **options: Any) -> VoiceCampaignOperator:
    return VoiceCampaignOperator(**STORED_ONLY, sql=sql, conn_id="people", country="SG", window="any", **options)


def test_people_of_a_query_are_read_in_chunks_and_a_later_try_adds_the_new_ones(store: str, database: Connect) -> None:
    sql, here = "SELECT DESTINATION, NAME, VISITS FROM people WHERE VISITS >= ?", context("query")
    assert query(sql, parameters=[1]).execute(here)["total"] == 24
    (job,) = (job for job in jobs_in(store) if job.destination == "+6591230007")
    assert "Hello Ana 7." in job.body
    database("DELETE FROM people WHERE VISITS > 20", "INSERT INTO people VALUES ('81234567', 'Ben', 1)")
    assert query(sql, parameters=[1]).execute(here)["total"] == 25


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT DESTINATION, NAME AS x, NAME AS x FROM people", "two columns of one name"),
        ("DELETE FROM people", "gives no rows"),
        ("SELECT '12' AS DESTINATION, NAME, VISITS FROM people", "25 rows of 25 cannot be called"),
    ],
)
def test_a_query_that_gives_no_people_is_refused(store: str, database: Connect, sql: str, message: str) -> None:
    with refused(message):
        query(sql).execute(context("refused"))
    assert jobs_in(store) == []
