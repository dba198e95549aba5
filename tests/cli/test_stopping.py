"""What stops calls passes on every store that takes the write, and makes none; and roles that may do less."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import anyio
import pytest

from tests.api.test_action_keys import escalated
from tests.cli.running import Program
from tests.support.postgres import PostgresServer
from tests.support.redis_server import RedisServer, standalone
from tests.support.schedules import keep_runs
from voiceflow_worker import open_store
from voiceflow_worker.backends.postgres.survey import grants
from voiceflow_worker.campaigns.schedules import RunState, ScheduledRun
from voiceflow_worker.cli.output import ExitCode

NUMBER = "+6581234567"
ENQUEUE = ("enqueue", "people.csv", "--say", "Hello", "--voice-profile", "en-US-JennyNeural", "--source", "+6531234567")
STOP: Sequence[Sequence[str]] = (
    ("hold",), ("hold", "--batch", "people"), ("suppress", "add", NUMBER), ("suppress", "import", "people.csv"),
    ("calls", "cancel", "--batch", "people", "--yes"),
)  # fmt: skip
GO_ON: Sequence[Sequence[str]] = (("resume",), ENQUEUE, ("suppress", "remove", NUMBER), ("rate", "5"))


def has_calls(voiceflow: Program, store: str) -> None:
    (voiceflow.folder / "people.csv").write_text(f"destination\n{NUMBER}\n+6581234568\n")
    done = voiceflow(*ENQUEUE, "--store", store)
    assert done.code == 0, done.err


def passes(voiceflow: Program, store: str, unsure: str) -> None:
    """Each order to stop calls is stored, and says what may be lost; each order to go on is refused."""
    for command in GO_ON:
        done = voiceflow(*command, "--store", store)
        assert done.code == ExitCode.OUT_OF_REACH, (command, done)
    for command in STOP:
        done = voiceflow(*command, "--store", store)
        assert done.code == 0, (command, done)
        assert f"warning: this is stored and in force, but may be lost: {unsure}" in done.err, command


def stopped(voiceflow: Program, store: str) -> None:
    told = voiceflow("status", "--store", store, "--json").document
    assert [(each["scope"], each["name"]) for each in told["holds"]][:1] == [("queue", "default")], told
    assert told["states"]["cancelled"] == 2
    assert voiceflow("suppress", "list", "--store", store, "--json").out.count("number") == 2


async def has_escalations_and_a_schedule(url: str) -> None:
    async with open_store(url) as store:
        for key in ("disk", "fire"):
            await escalated(store, key)
        now = store.clock.now()
        seen = ScheduledRun(
            schedule="daily", queue="default", at=now, cron="0 9 29 2 *", time_zone="UTC", batch_id="",
            state=RunState.SEEN,
        )  # fmt: skip
        await keep_runs(store, seen)


@pytest.fixture
def redis(tmp_path: Path) -> RedisServer:
    return standalone(tmp_path)


@pytest.mark.parametrize(
    ("setting", "wrong", "right"), [("maxmemory-policy", "allkeys-lru", "noeviction"), ("appendonly", "no", "yes")]
)
def test_a_redis_that_became_forgetful_takes_what_stops_calls(
    voiceflow: Program, redis: RedisServer, setting: str, wrong: str, right: str
) -> None:
    unsure = f"{setting} is {'off' if wrong == 'no' else wrong}"
    redis.start()
    try:
        has_calls(voiceflow, redis.url)
        redis.ask("CONFIG", "SET", setting, wrong)
        passes(voiceflow, redis.url, unsure)
        redis.ask("CONFIG", "SET", setting, right)
        redis.wait_for_first_aof()
        stopped(voiceflow, redis.url)
    finally:
        redis.kill()


def test_escalations_end_and_a_run_is_skipped_on_a_redis_that_became_forgetful(
    voiceflow: Program, redis: RedisServer
) -> None:
    orders = (
        ("escalations", "stop", "disk"),
        ("escalations", "acknowledge", "fire"),
        ("calls", "cancel", "--batch", "daily-2028-02-29-0900", "--yes"),
    )
    redis.start()
    try:
        anyio.run(has_escalations_and_a_schedule, redis.url)
        redis.ask("CONFIG", "SET", "appendonly", "no")
        for command in orders:
            done = voiceflow(*command, "--store", redis.url)
            assert done.code == 0, (command, done)
            assert "warning: this is stored and in force, but may be lost: appendonly is off" in done.err, command
        redis.ask("CONFIG", "SET", "appendonly", "yes")
        redis.wait_for_first_aof()
        told = voiceflow("status", "--store", redis.url, "--json").document
        assert (told["escalations"], "skipped" in told["schedules"][0]) == ([], True)
    finally:
        redis.kill()


def test_a_redis_whose_replica_is_away_takes_what_stops_calls(voiceflow: Program, redis: RedisServer) -> None:
    redis.start()
    try:
        has_calls(voiceflow, redis.url)
        for command in STOP:
            done = voiceflow(*command, "--store", f"{redis.url}?replicas=1")
            assert done.code == 0, (command, done)
            assert "0 of 1 replicas have it, so a failover may lose it" in done.err, command
        stopped(voiceflow, redis.url)
    finally:
        redis.kill()


@pytest.mark.parametrize(
    ("setting", "wrong", "unsure"),
    [
        ("synchronous_commit", "off", "synchronous_commit is off"),
        pytest.param(
            "default_transaction_isolation", "serializable", "this PostgreSQL begins transactions as serializable",
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_a_postgres_whose_defaults_changed_takes_what_stops_calls(
    voiceflow: Program, postgres_server: PostgresServer, setting: str, wrong: str, unsure: str,
) -> None:  # fmt: skip
    role = f"changed_{setting[:7]}"
    postgres_server.ask(f"CREATE ROLE {role} LOGIN")
    postgres_server.ask(f"CREATE SCHEMA {role} AUTHORIZATION {role}")
    store = postgres_server.url(user=role, schema=role)
    has_calls(voiceflow, store)
    postgres_server.ask(f"ALTER ROLE {role} SET {setting} = '{wrong}'")
    refused = {ExitCode.OUT_OF_REACH, ExitCode.BAD_INPUT}
    for command in GO_ON:
        assert voiceflow(*command, "--store", store).code in refused, command
    for command in STOP:
        done = voiceflow(*command, "--store", store)
        assert done.code == 0, (command, done)
        assert f"warning: this is stored and in force, but may be lost: {unsure}" in done.err, command
    postgres_server.ask(f"ALTER ROLE {role} RESET {setting}")
    stopped(voiceflow, store)


def test_no_order_makes_a_store_on_any_server(
    voiceflow: Program, shared_redis: RedisServer, postgres_server: PostgresServer
) -> None:
    redis, postgres = f"{shared_redis.url}?prefix=nothing-here", postgres_server.url(schema="nothing_here")
    for store in (redis, postgres):
        for command in (*STOP[:3], STOP[4], ("status",), ("resume",)):
            done = voiceflow(*command, "--store", store)
            assert done.code == ExitCode.OUT_OF_REACH, (command, done)
            assert "there is no store in" in done.err
            assert "`voiceflow doctor --make` makes a new store" in done.err
    assert shared_redis.ask("EXISTS", "{nothing-here}:schema") == 0
    assert postgres_server.ask("SELECT to_regnamespace('nothing_here')") == [(None,)]
    for store in (redis, postgres):
        assert voiceflow("doctor", "--make", "--store", store).code == 0
        assert voiceflow("hold", "--store", store).code == 0


SCHEMA = "commands"


@pytest.fixture
def urls(postgres_server: PostgresServer) -> Iterator[dict[str, str]]:
    """The URL of a store for each of three roles."""
    roles = {name: f"commands_{name}" for name in ("owner", "works", "reads")}
    for role in roles.values():
        postgres_server.ask(f"CREATE ROLE {role} LOGIN")
    postgres_server.ask(f"CREATE SCHEMA {SCHEMA} AUTHORIZATION {roles['owner']}")
    yield {name: postgres_server.url(user=role, schema=SCHEMA) for name, role in roles.items()}
    for role in roles.values():
        postgres_server.ask(f"DROP OWNED BY {role} CASCADE")
        postgres_server.ask(f"DROP ROLE {role}")


def test_a_role_that_works_needs_no_more_than_rows_and_one_that_reads_sees_all(
    voiceflow: Program, postgres_server: PostgresServer, urls: dict[str, str]
) -> None:
    refused = voiceflow("status", "--store", urls["works"])
    assert refused.code == 3
    assert "doctor --make" in refused.err
    assert voiceflow("doctor", "--make", "--store", urls["owner"]).code == 0
    for statement in grants(SCHEMA, "commands_works"), grants(SCHEMA, "commands_reads", only_reads=True):
        postgres_server.ask(statement)
    people = voiceflow.folder / "people.csv"
    people.write_text("destination,name\n+6591234567,Ann\n+6591234568,Ben\n", encoding="utf-8")
    said = ("--say", "Hello {{name}}", "--voice-profile", "en-IE-EmilyNeural", "--source", "+6531234567")
    enqueued = voiceflow("enqueue", people, *said, "--store", urls["works"])
    assert enqueued.code == 0, enqueued.err
    assert voiceflow("hold", "--store", urls["works"]).code == 0
    for command, seen in (
        (("status",), "2"),
        (("status", "--all"), "default"),
        (("batches",), "people"),
        (("calls", "list"), "+6591234567"),
        (("report", "--batch", "people"), "2"),
        (("suppress", "list"), ""),
    ):
        read = voiceflow(*command, "--store", urls["reads"])
        assert read.code == 0, read.err
        assert seen in read.out
    for writes in ("resume", "calls cancel --batch people --yes", "rate 5"):
        written = voiceflow(*writes.split(), "--store", urls["reads"])
        assert written.code == 3, written.out
        assert "GRANT" in written.err
