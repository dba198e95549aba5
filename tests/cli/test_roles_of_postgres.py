"""Commands with a role of PostgreSQL that may only read, and with one that may not make the store."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.running import Program
from tests.support.postgres import PostgresServer
from voiceflow_worker.backends.postgres.survey import grants

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
