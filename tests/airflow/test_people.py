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
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider.notifications.voice import VoiceCallNotifier
from airflow_provider.operators.voice import VoiceCallOperator, VoiceCampaignOperator
from tests.airflow.scene import STORED, context, refused
from tests.cli.entry_points import CASES, MENUS, of, people_of
from tests.support.postgres import ADMINISTRATOR, DATABASE, PostgresServer
from voiceflow_worker import CallQueue, Campaign, Job, load_settings, open_store
from voiceflow_worker.campaigns.fields import fields_of
from voiceflow_worker.campaigns.reading import Of
from voiceflow_worker.core.settling.stops import refusal_limits

STORED_ONLY: dict[str, Any] = {"task_id": "t", "deferrable": False, **STORED}
PREVIEWED = {"rejects"}
"""The fields of a campaign that are for a person who starts it by hand."""


Connect = Callable[..., None]


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


@pytest.mark.parametrize("case", ["fields", "menu", "times of a column"])
def test_a_campaign_stores_the_same_calls_as_wherever_else_it_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connect: Connect, case: str
) -> None:
    settings, fields, _ = CASES[case]
    for name, value in settings.items():
        monkeypatch.setenv(f"VOICEFLOW_{name}", value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "people.csv").write_text(people_of(fields), encoding="utf-8")
    (tmp_path / "menus_of_campaign.py").write_text(MENUS, encoding="utf-8")
    whole: dict[str, Any] = {**fields, "file": "people.csv", "batch": "march"}
    (tmp_path / "kept.toml").write_text("".join(f'{name} = "{value}"\n' for name, value in whole.items()))

    async def stored(name: str, *, starts: bool = False) -> list[dict[str, Any]]:
        async with open_store(f"sqlite:///{name}.db") as store:
            queue = CallQueue(store)
            if starts:
                await Campaign.of(whole, settings=load_settings()).start(queue)
            jobs = sorted(await queue.find(), key=lambda job: job.destination)
            stops = dict(await refusal_limits(store).within("default").all()).get("march")
        # Its keys are those of the task, and its data tell the task.
        own = [{name: value for name, value in (job.data or {}).items() if "airflow_" not in name} for job in jobs]
        return [{**of(job), "unique_key": stops, "data": data} for job, data in zip(jobs, own, strict=True)]

    elsewhere = anyio.run(lambda: stored("by_python", starts=True))
    assert len(elsewhere) > 1
    for name, given in (("given", whole), ("kept", {"campaign": "kept.toml", "batch": "march"})):
        connect(password="a-key", extra={"sub_account": "tests", "store": f"sqlite:///{name}.db"})
        VoiceCampaignOperator(**STORED_ONLY, **given).execute(context(name))
        assert anyio.run(stored, name) == elsewhere


def test_a_menu_is_given_as_data(store: str) -> None:
    menu = {"questions": [{"id": "ask", "text": "Hello {{name}}.", "keys": {"1": {"answer": "yes"}}}]}
    rows = [{"destination": "+6587654321", "name": "Ana"}]
    VoiceCampaignOperator(**STORED_ONLY, rows=rows, menu=menu).execute(context("menu"))
    (job,) = jobs_in(store)
    assert (str(job.menu).rpartition("-")[0], "Hello Ana." in job.body) == ("ask", True)


def test_a_campaign_needs_a_window_and_a_single_call_has_none(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign: dict[str, Any] = {**STORED_ONLY, "say": "Hello.", "rows": [{"destination": "+6587654321"}]}
    monkeypatch.delenv("VOICEFLOW_WINDOW")
    with pytest.raises(AirflowFailException, match="does not say when phones may ring"):
        VoiceCampaignOperator(**campaign).execute(context("none"))
    VoiceCampaignOperator(**campaign, window="09:00-20:00").execute(context("hours"))
    monkeypatch.setenv("VOICEFLOW_WINDOW", "10:00-18:00")
    VoiceCampaignOperator(**campaign, again=True).execute(context("setting"))
    VoiceCallOperator(**STORED_ONLY, destination="+6587654322", say="Hello.").execute(context("call"))
    windows = {str(job.window) for job in jobs_in(store)}
    assert windows == {"09:00-20:00 mon-sun", "10:00-18:00 mon-sun", "None"}


@pytest.mark.parametrize(
    ("kind", "of", "others"),
    [
        (VoiceCampaignOperator, Of.CAMPAIGN, PREVIEWED),
        (VoiceCallOperator, Of.CALL, {"to"}),
        (VoiceCallNotifier, Of.ESCALATION, set[str]()),
    ],
)
def test_the_arguments_of_operators_and_notifiers_are_the_fields(kind: type, of: Of, others: set[str]) -> None:
    taken = {name for each in kind.__mro__ for name in inspect.signature(each).parameters}
    assert set(fields_of(of)) - taken == others


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

    return fill


def query(sql: str, **options: Any) -> VoiceCampaignOperator:
    given = {**STORED_ONLY, "say": "Hello {{ name }}, {{ visits }}.", "country": "SG", **options}
    return VoiceCampaignOperator(sql=sql, conn_id="people", **given)


MANY = """INSERT INTO people WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 24)
SELECT printf('9123%04d', i), 'Ana ' || i, i FROM n"""


def test_people_of_a_query_are_read_in_chunks_and_each_is_called_once(
    store: str, database: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider.operators.campaign.CHUNK", 10)
    database("CREATE TABLE people (DESTINATION, NAME, VISITS)", MANY)
    here = context("query")
    sql = "SELECT DESTINATION, NAME, VISITS FROM people WHERE VISITS >= ?"
    report = query(sql, parameters=[1]).execute(here)
    assert (report["total"], report["rows"]["enqueued"]) == (24, 24)
    (job,) = (job for job in jobs_in(store) if job.destination == "+6591230007")
    assert "Hello Ana 7, 7." in job.body
    database("DELETE FROM people WHERE VISITS > 20", "INSERT INTO people VALUES ('81234567', 'Ben', 1)")
    again = query(sql, parameters=[1]).execute(here)
    assert (again["rows"], again["total"]) == ({"enqueued": 1, "duplicates": 20, "left_out": 0, "rejected": 0}, 25)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT DESTINATION, NAME AS x, NAME AS x FROM people", "several columns named x"),
        ("DELETE FROM people", "returns no rows"),
        ("SELECT NAME, VISITS FROM people", "destination"),
        ("SELECT '12' AS DESTINATION, NAME, VISITS FROM people", "1 of 1 rows are bad"),
    ],
)
def test_a_query_that_gives_no_people_is_refused(store: str, database: Connect, sql: str, message: str) -> None:
    database("CREATE TABLE people (DESTINATION, NAME, VISITS)", "INSERT INTO people VALUES ('91234567', 'Ana', 1)")
    with refused(message):
        query(sql).execute(context("refused"))
    assert jobs_in(store) == []


def test_a_query_that_fails_in_its_middle_enqueues_nobody(
    store: str, database: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider.operators.campaign.CHUNK", 10)
    database("CREATE TABLE people (DESTINATION, NAME, VISITS)", MANY)
    overflows = "CASE VISITS WHEN 20 THEN abs(-9223372036854775807 - 1) ELSE VISITS END AS VISITS"
    with pytest.raises(sqlite3.OperationalError, match="overflow"):
        query(f"SELECT DESTINATION, NAME, {overflows} FROM people").execute(context("lost"))
    assert jobs_in(store) == []


def test_a_database_without_a_provider_names_the_package(store: str, connect: Connect) -> None:
    connect("people", conn_type="snowstorm")
    with refused("apache-airflow-providers-snowstorm"):
        query("SELECT 1").execute(context("unknown"))
    connect("people", conn_type="voiceflow")
    with refused("no database"):
        query("SELECT 1").execute(context("no-database"))


@pytest.mark.parametrize(
    "people",
    [
        {},
        {"rows": [], "file": "people.csv"},
        {"rows": [], "sql": "SELECT 1", "conn_id": "people"},
        {"sql": "SELECT 1"},
        {"rows": [], "conn_id": "people"},
    ],
)
def test_people_come_from_one_place(store: str, people: dict[str, Any]) -> None:
    with refused(r"rows.*file.*sql|sql and conn_id|exclude each other"):
        VoiceCampaignOperator(**STORED_ONLY, say="Hello.", **people).execute(context("places"))


def test_airflow_shows_no_rows_of_people_but_their_number_and_the_first(store: str) -> None:
    people = [{"destination": "+6587663001", "name": "{{ ti.task_id }}"}, {"destination": "+6587663002", "name": "Ben"}]
    task = VoiceCampaignOperator(**STORED_ONLY, say="Hello {{ name }}.", rows=people)
    here = context("hidden")
    task.render_template_fields(here)
    for shown in (task.rows.serialize(), str(task.rows), repr(task.rows)):
        assert shown == "2 rows, the first to +6587663001 (not shown)"
    assert [row["destination"] for row in task.rows] == ["+6587663001", "+6587663002"]
    task.execute(here)
    assert "Hello hidden." in jobs_in(store)[0].body
    listed = VoiceCampaignOperator(**STORED_ONLY, say="Hello.", rows="{{ people }}")
    assert listed.rows == "{{ people }}"
    listed.render_template_fields({**here, "people": people})
    assert "Ben" not in str(listed.rows)
    several = [{"mobile": "+6587663003", "phone": "+6587663004"}]
    columns = {"destination": ["mobile", "phone"]}
    task = VoiceCampaignOperator(**STORED_ONLY, say="Hello.", rows=several, columns=columns)
    task.render_template_fields(here)
    assert str(task.rows) == "1 rows, the first to +6587663003 (not shown)"


def test_people_of_postgresql_are_read_as_cells_of_a_file_are(store: str, connect: Connect) -> None:
    hooks = pytest.importorskip("airflow.providers.postgres.hooks.postgres", exc_type=ImportError)
    server = PostgresServer()
    try:
        server.start()
        place = {"host": "127.0.0.1", "port": server.port, "login": ADMINISTRATOR, "schema": DATABASE}
        connect("people", conn_type="postgres", **place)
        columns = "phone text, name text, visit date, owed numeric(10,2), rooms int, note text"
        row = "INSERT INTO visits VALUES ('9123 4567', 'Jörg', '2099-01-31', 12.50, 3, NULL)"
        hooks.PostgresHook(postgres_conn_id="people").run([f"CREATE TABLE visits ({columns})", row])
        report = VoiceCampaignOperator(
            **STORED_ONLY, conn_id="people", country="SG",
            sql="SELECT * FROM visits WHERE visit >= %(day)s", parameters={"day": "2099-01-01"},
            columns={"destination": "phone"},
            say="{{ name }}, {{ visit|date }}, {{ owed }}, {{ rooms }}.",
        ).execute(context("visits"))  # fmt: skip
    finally:
        server.close()
    assert report["total"] == 1
    (job,) = jobs_in(store)
    assert (job.destination, "Jörg, 31 January 2099, 12.50, 3." in job.body) == ("+6591234567", True)
