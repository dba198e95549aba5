"""Store URLs: what they say, what is wrong with them, and which of them name one store. No secret of one is shown."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.contract.samples import add_jobs
from tests.contract.suite import sample_job
from tests.support.redis_server import RedisServer
from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.local_journal import identity_of, journal_folder
from voiceflow_worker.backends.postgres.url import parse_url as parse_postgres
from voiceflow_worker.backends.redis.url import parse_url as parse_redis
from voiceflow_worker.backends.store_url import Promise, path_of
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.errors import SettingsError


def libpq(url: str) -> dict[str, str]:
    return {name: str(value) for name, value in conninfo_to_dict(parse_postgres(url).conninfo).items()}


def parsed(url: str) -> Any:
    """What a URL says, by its scheme."""
    scheme = url.partition(":")[0].lower()
    parse: Callable[[str], Any] = {"postgresql": parse_postgres, "sqlite": path_of}.get(scheme, parse_redis)
    return parse(url)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///calls.db", "{here}/calls.db"),
        ("sqlite:////var/lib/calls.db", "/var/lib/calls.db"),
        ("file:///calls.db", "{here}/calls.db"),
        ("file:////var/lib/calls.db", "/var/lib/calls.db"),
        ("sqlite:///some/where/calls.db", "{here}/some/where/calls.db"),
        ("sqlite:///a b%20c@d.db", "{here}/a b%20c@d.db"),
        ("sqlite:calls.db", "{here}/calls.db"),
    ],
)
def test_three_slashes_are_relative_and_four_absolute(
    url: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert path_of(url) == Path(path.format(here=tmp_path))


@pytest.mark.parametrize(
    ("url", "service", "nodes", "database"),
    [
        ("redis://localhost", None, (("localhost", 6379),), 0),
        ("redis://10.0.0.1:7000/3", None, (("10.0.0.1", 7000),), 3),
        ("redis://[::1]:7000/", None, (("::1", 7000),), 0),
        ("rediss://cache.example", None, (("cache.example", 6379),), 0),
        ("redis+sentinel://s1,s2:26380/calls/2", "calls", (("s1", 26379), ("s2", 26380)), 2),
        ("REDIS://localhost", None, (("localhost", 6379),), 0),
    ],
)
def test_a_url_of_redis_names_its_servers(url: str, service: str | None, nodes: object, database: int) -> None:
    found = parse_redis(url)
    assert (found.service, found.nodes, found.database) == (service, nodes, database)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://me:p%40ss%25@db.example/calls", {"user": "me", "password": "p@ss%", "dbname": "calls"}),
        ("postgres://h1:5433,h2/calls", {"host": "h1,h2", "port": "5433,", "dbname": "calls"}),
        ("POSTGRESQL://[::1]:5433/calls", {"host": "::1", "port": "5433"}),
        ("postgresql:///calls?host=/var/run/postgresql&user=me", {"host": "/var/run/postgresql", "user": "me"}),
        ("postgresql://%2Ftmp%2Fsockets/calls", {"host": "/tmp/sockets", "dbname": "calls"}),
        ("postgresql://h/c?sslmode=verify-full&sslrootcert=/a%20b", {"sslmode": "verify-full", "sslrootcert": "/a b"}),
        ("postgresql://h/c?schema=x&target_session_attrs=any", {"target_session_attrs": "any"}),
        ("postgresql://h/c?ssl=true", {"sslmode": "require"}),
        ("postgresql://h/c?connect_timeout=9&tcp_user_timeout=1", {"connect_timeout": "9", "tcp_user_timeout": "1"}),
        ("postgresql://h/c?keepalives_idle=7", {"keepalives_idle": "7"}),
        ("postgresql:///", {"connect_timeout": "3", "tcp_user_timeout": "10000", "keepalives_idle": "10"}),
        ("postgresql://a,b/c", {"target_session_attrs": "read-write"}),
    ],
)
def test_a_url_of_postgresql_names_what_libpq_connects_to(url: str, said: dict[str, str]) -> None:
    assert libpq(url).items() >= {**said, "client_encoding": "UTF8"}.items()


def test_what_the_url_leaves_open_stays_with_libpq(monkeypatch: pytest.MonkeyPatch) -> None:
    named = {"host", "user", "password", "dbname", "sslmode", "target_session_attrs"}
    assert not named & libpq("postgresql:///").keys()
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "20")
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "primary")
    assert not {"connect_timeout", "target_session_attrs"} & libpq("postgresql://a,b/c").keys()


@pytest.mark.anyio
async def test_a_valkey_url_names_the_same_store_and_the_same_journal_as_its_redis_url(
    shared_redis: RedisServer, tmp_path: Path
) -> None:
    url = f"{shared_redis.url}?prefix=valkey"
    valkey = url.replace("redis", "valkey", 1)
    async with open_store(url) as one, open_store(valkey) as two:
        await add_jobs(one, [sample_job()])
        assert list(await get_jobs(two, [sample_job().id])) == [sample_job().id]
        assert journal_folder(two, valkey, tmp_path) == journal_folder(one, url, tmp_path)
    assert parse_redis("valkeys://h").is_tls


def test_options_of_the_store() -> None:
    options = "durability=best-effort&replicas=1&prefix=x"
    redis = parse_redis(f"redis+sentinel://me:p%40ss@s1/calls?{options}")
    assert (redis.username, redis.password) == ("me", "p@ss")
    assert (redis.service, redis.promise, redis.replicas, redis.prefix) == ("calls", Promise.BEST_EFFORT, 1, "x")
    plain, said = (
        parse_postgres(f"postgresql://h/c{more}")
        for more in ("", "?schema=calls_2&durability=best-effort&sslmode=require")
    )
    assert (plain.schema, plain.promise) == ("voiceflow", Promise.STRICT)
    assert (said.schema, said.promise, said.shown) == (
        "calls_2", Promise.BEST_EFFORT, "postgresql://h/c?schema=calls_2",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("url", "mode", "checks_host"),
    [
        ("rediss://h", "required", True),
        ("redis+sentinel://h/s?tls=yes&ssl_cert_reqs=none", "none", False),
        ("rediss://h?ssl_check_hostname=no", "required", False),
        ("redis://h", None, None),
    ],
)
def test_tls_checks_the_server_unless_asked_not_to(url: str, mode: str | None, checks_host: bool | None) -> None:
    tls = parse_redis(url).tls
    assert (tls.get("ssl_cert_reqs"), tls.get("ssl_check_hostname")) == (mode, checks_host)


@pytest.mark.parametrize(
    "url",
    [
        "redis://me:secret@h/0?ssl_keyfile=secret",
        "redis://:secret@h",
        "redis+sentinel://u:secret@a,b/s?tls=yes",
        "postgresql://me:secret@h/c",
        "postgresql://me:s%65cret@h/c",
        "postgresql://h/c?user=me&password=secret",
        "postgresql://me:secret@h1,h2/c?schema=x&sslpassword=secret",
    ],
)
def test_no_secret_is_shown(url: str) -> None:
    found = parsed(url)
    assert "secret" not in found.shown + identity_of(url)
    if url.startswith("redis"):
        assert "***@" in found.shown
    else:
        assert "secret" not in f"{found} {found!r}"
        assert "secret" in found.secrets


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://calls.db", "has a host"),
        ("sqlite://host/calls.db", "has a host"),
        ("sqlite:///", "names no file"),
        ("sqlite:", "names no file"),
        ("sqlite:////var/lib/", "names no file"),
        ("sqlite:///calls.db?mode=ro", "has options"),
        ("sqlite:///:memory:", "memory://"),
        *(
            (f"redis{rest}", "cannot be read")
            for rest in (
                "://", ":///0", "://a,b/0", "://:secret@:6379/0", "://h:port/0", "://h/x", "://h/0/1", "+sentinel://h",
                "://h?durabilty=strict", "://h?replicas=few", "://h?prefix=", "://h?prefix={x}", "://me:sec/secret@h/0",
                "://me:12?secret@h/0", "://me:x#secret@h/0", "://me:x[secret@h/0", "://me:secret\u2100@h/0",
                "://me:x@y?secret@h/0", "://h?password=x&secret",
            )
        ),
        ("redis://h?durability=maybe", "strict, best-effort"),
        ("rediss://h?ssl_ca_certs=/nowhere.pem", "names no file"),
        ("rediss://h?ssl_cert_reqs=optional", "use one of required, none"),
        ("redis+sentinel://h/s?tls=perhaps", "use one of yes, true, 1, no"),
        ("postgresql:calls", "not a URL of a PostgreSQL store"),
        ("postgresql://h/c?schema=", "not a name"),
        ("postgresql://h/c?schema=Calls", "not a name"),
        ("postgresql://h/c?schema=9a", "not a name"),
        ("postgresql://h/c?schema=a%22%3Bdrop", "not a name"),
        ("postgresql://h/c?schema=" + "a" * 42, "not a name"),
        ("postgresql://h/c?schema=a&schema=b", "each once"),
        ("postgresql://h/c?failover=perhaps", "held, trusted"),
        ("postgresql://h/c?durability=maybe", "strict, best-effort"),
        ("postgresql://h/c?shema=x", "Check the options: schema"),
        ("postgresql://h/c?schema", "not a name"),
        ("postgresql://h/c?client_encoding=LATIN1", "Check the options"),
        ("postgresql://h:port,[::1/c", "Percent-encode"),
    ],
)  # fmt: skip
def test_a_wrong_url_is_reported_in_a_sentence(url: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        parsed(url)
    assert "secret" not in str(caught.value)
    assert not url.startswith("sqlite") or url in str(caught.value)


def test_a_password_with_any_special_character_works_encoded_and_is_refused_or_meant_as_it_stands() -> None:
    marks = "@/?#[]&%: =+'\"\\|<>^`{}~!$*(),;\t\x1bé€"
    for mark, (before, after) in itertools.product(marks, [("se", "cret"), ("", "secret"), ("secret", "")]):
        password = f"{before}{mark}{after}"
        assert libpq(f"postgresql://me:{quote(password, safe='')}@h/c")["password"] == password
        found: object = None
        with suppress(SettingsError):
            read = libpq(f"postgresql://me:{password}@h/c")
            found = (read["password"], read["host"])
        if found is not None:
            assert found == (password, "h")
            continue
        with pytest.raises(SettingsError) as caught:
            parse_postgres(f"postgresql://me:{password}@h/c")
        assert "secret" not in str(caught.value)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_one_store_has_one_identity_and_two_stores_have_two(monkeypatch: pytest.MonkeyPatch) -> None:
    same = [
        "postgresql://me:secret@DB1,db2:5433/calls",
        "postgres://other@db2:5433,db1:5432/calls?schema=voiceflow&sslmode=require",
        "postgresql:///calls?host=db1,db2&port=5432,5433",
        "postgresql:///?host=db1,db2&port=5432,5433&dbname=calls",
    ]
    assert {identity_of(url) for url in same} == {"postgresql:db1:5432,db2:5433/calls?schema=voiceflow"}
    different = [
        "postgresql://h/c", "postgresql://h/d", "postgresql://h/c?schema=x", "postgresql://h:1/c", "postgresql://i/c",
        "postgresql:///c?host=/tmp", "postgresql:///c?host=/Tmp", "postgresql:///c",
    ]  # fmt: skip
    assert len({identity_of(url) for url in different}) == len(different)
    same = [f"redis://cache{rest}" for rest in ("", ":6379/0", "?durability=best-effort", "?prefix=voiceflow")]
    assert {identity_of(url) for url in [*same, "redis://me:secret@CACHE/0"]} == {"redis:cache:6379/0?prefix="}
    assert identity_of("redis+sentinel://a/calls") == identity_of("redis+sentinel://a:26379/calls/0")
    others = ["redis://h/1", "redis://h:6380", "redis://h?prefix=b", "redis://h", "redis+sentinel://h/calls"]
    assert len({identity_of(url) for url in others}) == len(others)
    monkeypatch.setenv("PGHOST", "h")
    assert identity_of("postgresql:///c") == identity_of("postgresql://h/c")


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "postgresql://127.0.0.1:1/calls"])
async def test_on_trio_a_store_on_a_server_is_refused_with_what_to_use(url: str) -> None:
    with pytest.raises(SettingsError, match="needs asyncio; on trio, use a store in a file"):
        async with open_store(url):
            pass
