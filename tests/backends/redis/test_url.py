"""Store URLs of Redis: what they say, and what is wrong with them."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from tests.contract.samples import add_jobs
from tests.contract.suite import sample_job
from tests.support.redis_server import RedisServer
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.local_journal import journal_folder
from voiceflow_worker.backends.redis.url import Topology, parse_url
from voiceflow_worker.backends.store_url import Promise
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.errors import SettingsError


def test_a_url_names_its_servers() -> None:
    for url, topology, nodes, database in [
        ("redis://localhost", Topology.STANDALONE, (("localhost", 6379),), 0),
        ("redis://10.0.0.1:7000/3", Topology.STANDALONE, (("10.0.0.1", 7000),), 3),
        ("redis://[::1]:7000/", Topology.STANDALONE, (("::1", 7000),), 0),
        ("rediss://cache.example", Topology.STANDALONE, (("cache.example", 6379),), 0),
        ("redis+cluster://a:7001,b:7002,c", Topology.CLUSTER, (("a", 7001), ("b", 7002), ("c", 6379)), 0),
        ("redis+sentinel://s1,s2:26380/calls/2", Topology.SENTINEL, (("s1", 26379), ("s2", 26380)), 2),
        ("REDIS://localhost", Topology.STANDALONE, (("localhost", 6379),), 0),
    ]:
        parsed = parse_url(url)
        assert (parsed.topology, parsed.nodes, parsed.database) == (topology, nodes, database)


@pytest.mark.anyio
async def test_a_valkey_url_names_the_same_store_and_the_same_journal_as_its_redis_url(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    valkey = redis_server.url.replace("redis", "valkey", 1)
    async with open_store(redis_server.url) as one, open_store(valkey) as two:
        await add_jobs(one, [sample_job()])
        assert list(await get_jobs(two, [sample_job().id])) == [sample_job().id]
        assert journal_folder(two, valkey, tmp_path) == journal_folder(one, redis_server.url, tmp_path)
    assert parse_url("valkeys://h").tls is not None


def test_a_url_may_carry_a_user_a_password_and_options() -> None:
    parsed = parse_url(
        "redis+sentinel://me:p%40ss@s1/calls?durability=best-effort&replicas=1&prefix=x&sentinel_password=q"
    )
    assert (parsed.username, parsed.password, parsed.sentinel_password) == ("me", "p@ss", "q")
    assert (parsed.service, parsed.promise, parsed.replicas, parsed.prefix) == ("calls", Promise.BEST_EFFORT, 1, "x")


def test_no_secret_is_shown() -> None:
    for url in (
        "redis://me:secret@h/0?ssl_keyfile=secret",
        "redis://:secret@h",
        "redis+cluster://u:secret@a,b?tls=yes",
    ):
        assert "secret" not in parse_url(url).shown
        assert ":***@" in parse_url(url).shown


def test_tls_checks_the_server_unless_asked_not_to() -> None:
    checked = parse_url("rediss://h").tls
    assert checked is not None
    assert (checked.verify_mode, checked.check_hostname) == (ssl.CERT_REQUIRED, True)
    unchecked = parse_url("redis+cluster://h?tls=yes&ssl_cert_reqs=none").tls
    assert unchecked is not None
    assert unchecked.verify_mode == ssl.CERT_NONE
    nameless = parse_url("rediss://h?ssl_check_hostname=no").tls
    assert nameless is not None
    assert (nameless.verify_mode, nameless.check_hostname) == (ssl.CERT_REQUIRED, False)
    assert parse_url("redis://h").tls is None


def test_a_wrong_url_is_reported_in_a_sentence() -> None:
    for url, said in [
        ("redis://", "not a URL of a Redis store"),
        ("redis:///0", "not a URL of a Redis store"),
        ("redis://:secret@:6379/0", "names no host"),
        ("redis://h:port/0", "names no host"),
        ("redis://h/x", "not a database number"),
        ("redis://h/0/1", "not a database number"),
        ("redis+cluster://h/1", "has only database 0"),
        ("redis+sentinel://h", "does not name the service"),
        ("redis://h?durabilty=strict", "unknown option 'durabilty'"),
        ("redis://h?durability=maybe", "strict, best-effort"),
        ("redis://h?replicas=few", "not a number"),
        ("redis://h?prefix=", "empty"),
        ("redis://h?prefix={x}", "braces"),
        ("rediss://h?ssl_ca_certs=/nowhere.pem", "cannot be read"),
        ("rediss://h?ssl_cert_reqs=optional", "use one of required, none"),
        ("redis+cluster://h?tls=perhaps", "use one of yes, true, 1, no"),
        ("redis://me:sec/secret@h/0", "/ as %2F"),
        ("redis://me:12?secret@h/0", "as %3F"),
        ("redis://me:x#secret@h/0", "as %23"),
        ("redis://me:x[secret@h/0", "as %5B"),
        ("redis://me:secret\u2100@h/0", "cannot be read"),
        ("redis://me:x@y?secret@h/0", "unknown option"),
        ("redis://h?sentinel_password=x&secret", "unknown option"),
        ("redis+cluster://me:secret@h/1", "has only database 0"),
    ]:
        with pytest.raises(SettingsError, match=said) as caught:
            parse_url(url)
        assert "secret" not in str(caught.value)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_on_trio_a_redis_store_is_refused_with_what_to_use() -> None:
    with pytest.raises(SettingsError, match="needs asyncio; on trio, use a store in a file"):
        async with open_store("redis://127.0.0.1:1"):
            pass
