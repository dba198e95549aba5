"""The connection on which scripts run, the sentinels that name its server, and the errors of a server."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import cast

import anyio
import pytest
from redis._parsers import BaseParser

from tests.contract.samples import add_jobs
from tests.contract.suite import NOW, ManualClock, sample_job, sample_jobs
from tests.support.redis_server import RedisServer, WatchedPair, free_port
from tests.support.scripted_redis import ScriptedRedis
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.redis.faults import NotConfirmedError, is_lost, translated
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.core.ports.store import BulkWrite, Drop, Write
from voiceflow_worker.errors import (
    InvalidInputError,
    StoreCorruptError,
    StoreError,
    StoreReadOnlyError,
    StoreUnavailableError,
)

pytestmark = pytest.mark.anyio

CERTIFICATE = Path(__file__).resolve().parents[2] / "gateway" / "localhost.pem"


def speaks_tls(server: RedisServer) -> bool:
    """Whether the program was built with TLS; one that was not ends when it is told to speak it."""
    (program,) = re.findall(r"^executable:(.+?)\r?$", str(server.ask("INFO", "server")), re.MULTILINE)
    return b"SSL_CTX_new" in Path(program).read_bytes()


@pytest.fixture
async def tls_port(newer_server: RedisServer) -> AsyncGenerator[int]:
    """A port of the server that speaks TLS, with a user who has a password; the server is empty."""
    newer_server.ask("FLUSHALL")
    if not speaks_tls(newer_server):
        pytest.skip("this server was built without TLS")
    port = free_port()
    for option in ("tls-cert-file", "tls-key-file", "tls-ca-cert-file"):
        newer_server.ask("CONFIG", "SET", option, str(CERTIFICATE))
    newer_server.ask("CONFIG", "SET", "tls-auth-clients", "no", "tls-port", port)
    newer_server.ask("ACL", "SETUSER", "worker", "on", ">secret", "~*", "+@all")
    yield port
    newer_server.ask("CONFIG", "SET", "tls-port", 0)
    newer_server.ask("ACL", "DELUSER", "worker")
    newer_server.ask("FLUSHALL")


async def test_scripts_run_over_tls_as_the_user_and_in_the_database_of_the_url(
    newer_server: RedisServer, tls_port: int
) -> None:
    url = f"rediss://worker:secret@localhost:{tls_port}/3?ssl_ca_certs={CERTIFICATE}"
    async with open_store(url) as store:
        await add_jobs(store, [sample_job()])
        assert list(await get_jobs(store, [sample_job().id])) == [sample_job().id]
        clients = str(newer_server.ask("CLIENT", "LIST")).splitlines()
    ran = [
        client
        for client in clients
        if f" laddr=127.0.0.1:{tls_port} " in client or f" laddr=[::1]:{tls_port} " in client
    ]
    assert ran
    assert all("name=voiceflow-worker" in client and "user=worker" in client and "db=3" in client for client in ran)
    assert "db0" not in str(newer_server.ask("INFO", "keyspace"))


async def test_an_answer_that_nobody_awaits_any_more_is_not_taken_for_the_next_one(own_server: RedisServer) -> None:
    first, second = sample_jobs(2)
    async with open_store(own_server.url) as store:
        await add_jobs(store, [first, second])
        own_server.pause()
        async with anyio.create_task_group() as group:
            group.start_soon(get_jobs, store, [first.id])
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        own_server.go_on()
        assert list(await get_jobs(store, [second.id])) == [second.id]


async def test_a_text_that_cannot_be_encoded_does_not_shift_the_answers_to_later_requests(
    own_server: RedisServer,
) -> None:
    job = sample_job()
    async with open_store(own_server.url) as store:
        await add_jobs(store, [job])
        with pytest.raises(InvalidInputError, match=r"a\\ud800' has half a surrogate pair"):
            await store.write(BulkWrite(writes=(Write(drops=(Drop("x", "key", "a\ud800"),)),)), now=NOW)
        assert list(await get_jobs(store, [job.id])) == [job.id]


@pytest.mark.parametrize("answer", [b"$x\r\n", b"$1\r\n\xff\r\n", b"HTTP/1.1 400\r\n", b"\r\n", b"$1\r\n{\r\n"])
async def test_an_answer_that_cannot_be_read_ends_the_connection(
    answer: bytes, scripted: ScriptedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(scripted.url, clock=ManualClock(NOW)) as store:
        with monkeypatch.context() as patched:
            patched.setattr("tests.support.scripted_redis._encoded", lambda _: answer)
            with pytest.raises(StoreUnavailableError):
                await add_jobs(store, [sample_job()])
        scripted.scripts["write"] = '[["done"]]'
        await add_jobs(store, [sample_job()])


@pytest.mark.alone
async def test_the_next_sentinel_is_asked_after_one_that_is_away_and_one_that_is_silent(
    lasting_pair: WatchedPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voiceflow_worker.backends.redis.client.CONNECT_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        others = f"127.0.0.1:{free_port()},127.0.0.1:{silent.getsockname()[1]}"
        async with open_store(lasting_pair.url.replace("://", f"://{others},")) as store:
            await add_jobs(store, [sample_job()])


async def test_sentinels_that_know_no_primary_are_named(lasting_pair: WatchedPair) -> None:
    with pytest.raises(StoreUnavailableError, match="No master found for 'unknown'"):
        async with open_store(lasting_pair.url.replace(f"/{lasting_pair.SERVICE}/", "/unknown/")):
            pass


def answered(text: str) -> Exception:
    """The error of redis-py for this answer of a server."""
    return cast("Exception", BaseParser.parse_error(text))  # type: ignore[no-untyped-call]


IN_A_SCRIPT = "Error running script (call to f_1): @user_script:5: @user_script: 5: "


def test_an_error_is_reported_as_what_it_means() -> None:
    for error, expected, said in [
        (ConnectionError("Connection lost!"), StoreUnavailableError, "cannot be reached .*; check that it runs"),
        (TimeoutError("EVALSHA timed out after 5 seconds"), StoreUnavailableError, "timed out"),
        (TimeoutError(), StoreUnavailableError, "TimeoutError"),
        (ConnectionRefusedError("refused"), StoreUnavailableError, "refused"),
        (answered("LOADING Redis is loading the dataset in memory"), StoreUnavailableError, "loading"),
        (answered("MASTERDOWN Link with MASTER is down"), StoreUnavailableError, "cannot answer now"),
        (answered("BUSY Redis is busy running a script"), StoreUnavailableError, "cannot answer now"),
        (answered("NOREPLICAS Not enough good replicas"), StoreUnavailableError, "cannot answer now"),
        (
            answered("READONLY You can't write against a read only replica."),
            StoreUnavailableError,
            r"redis\+sentinel",
        ),
        (answered(IN_A_SCRIPT + "-READONLY You can't write"), StoreUnavailableError, "replica"),
        (answered("NOAUTH Authentication required."), StoreUnavailableError, "password"),
        (answered("WRONGPASS invalid username-password pair"), StoreUnavailableError, "password"),
        (answered("ERR AUTH <password> called without any password"), StoreUnavailableError, "password"),
        (answered("NOPERM no permissions to run 'evalsha'"), StoreUnavailableError, "evalsha.*ACL SETUSER"),
        (
            answered(IN_A_SCRIPT + "The user executing the script can't run this command"),
            StoreUnavailableError,
            "ACL SETUSER",
        ),
        (NotConfirmedError("0 of 1 replicas have it"), StoreUnavailableError, "did not confirm"),
        (answered("OOM command not allowed"), StoreReadOnlyError, "maxmemory"),
        (answered(IN_A_SCRIPT + "-OOM command not allowed"), StoreReadOnlyError, "maxmemory"),
        (answered("MISCONF Errors writing to the AOF file"), StoreReadOnlyError, "disk"),
        (answered("WRONGTYPE Operation against a key"), StoreCorruptError, "prefix"),
        (answered(IN_A_SCRIPT + "WRONGTYPE Operation"), StoreCorruptError, "prefix"),
        (answered(IN_A_SCRIPT + "attempt to index a nil value"), StoreError, "refused a command"),
    ]:
        told = translated(error, shown="redis://:***@h/0")
        assert type(told) is expected
        with pytest.raises(expected, match=said):
            raise told


def test_a_demoted_primary_is_looked_for_anew() -> None:
    assert is_lost(answered("READONLY You can't write against a read only replica."))
    assert is_lost(answered(IN_A_SCRIPT + "-READONLY You can't write"))
    assert is_lost(TimeoutError())
    assert not is_lost(answered("OOM command not allowed"))
