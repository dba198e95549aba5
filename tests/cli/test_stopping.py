"""What stops calls makes no store, but for an opt-out; and roles that may do less."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.cli.running import Program
from tests.support.postgres import READS, WORKS, PostgresServer, granted
from tests.support.redis_server import RedisServer, standalone
from voiceflow_worker.cli.output import ExitCode

NUMBER = "+6581234567"
STOP: Sequence[Sequence[str]] = (
    ("hold",), ("hold", "--batch", "people"), ("suppress", "add", NUMBER), ("suppress", "import", "people.csv"),
    ("calls", "cancel", "--batch", "people", "--yes"),
)  # fmt: skip


def test_no_order_but_an_opt_out_makes_a_store_on_any_server(
    voiceflow: Program, shared_redis: RedisServer, postgres_server: PostgresServer
) -> None:
    redis, postgres = f"{shared_redis.url}?prefix=nothing-here", postgres_server.url(schema="nothing_here")
    for store in (redis, postgres):
        for command in (*STOP[:2], STOP[4], ("status",), ("resume",)):
            done = voiceflow(*command, "--store", store)
            assert done.code == ExitCode.OUT_OF_REACH, (command, done)
            assert "there is no store in" in done.err
            assert "`voiceflow doctor --make` makes a new store" in done.err
    assert shared_redis.ask("EXISTS", "{nothing-here}:schema") == 0
    assert postgres_server.ask("SELECT to_regnamespace('nothing_here')") == [(None,)]
    for store, first in ((redis, ("doctor", "--make")), (postgres, STOP[2])):
        assert voiceflow(*first, "--store", store).code == 0
        assert voiceflow("hold", "--store", store).code == 0


def test_a_redis_that_became_forgetful_takes_orders_only_from_whoever_accepts_that(
    voiceflow: Program, tmp_path: Path
) -> None:
    redis = standalone(tmp_path).start()
    try:
        assert voiceflow("doctor", "--make", "--store", redis.url).code == 0
        redis.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        refused = voiceflow("hold", "--store", redis.url)
        assert (refused.code, "maxmemory-policy is allkeys-lru" in refused.err) == (ExitCode.OUT_OF_REACH, True)
        assert voiceflow("hold", "--store", f"{redis.url}?durability=best-effort").code == 0
        redis.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        assert voiceflow("status", "--store", redis.url, "--json").document["holds"]
    finally:
        redis.kill()


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
    assert "docs/stores.md (GRANT)" in refused.err
    assert voiceflow("doctor", "--make", "--store", urls["owner"]).code == 0
    for statement in granted(WORKS, SCHEMA, "commands_works") + granted(READS, SCHEMA, "commands_reads"):
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
