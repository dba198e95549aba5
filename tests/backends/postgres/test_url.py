"""Store URLs of PostgreSQL: what they say, and what is wrong with them."""

from __future__ import annotations

import itertools
from contextlib import suppress
from urllib.parse import quote

import pytest
from psycopg.conninfo import conninfo_to_dict

from voiceflow_worker.backends import open_store
from voiceflow_worker.backends.postgres.url import parse_url
from voiceflow_worker.backends.store_url import Promise, identity_of
from voiceflow_worker.errors import SettingsError


def libpq(url: str) -> dict[str, str]:
    return {name: str(value) for name, value in conninfo_to_dict(parse_url(url).conninfo).items()}


def test_a_url_names_what_libpq_connects_to() -> None:
    for url, said in [
        ("postgresql://me:p%40ss%25@db.example/calls", {"user": "me", "password": "p@ss%", "dbname": "calls"}),
        ("postgres://h1:5433,h2/calls", {"host": "h1,h2", "port": "5433,", "dbname": "calls"}),
        ("POSTGRESQL://[::1]:5433/calls", {"host": "::1", "port": "5433"}),
        ("postgresql:///calls?host=/var/run/postgresql&user=me", {"host": "/var/run/postgresql", "user": "me"}),
        ("postgresql://%2Ftmp%2Fsockets/calls", {"host": "/tmp/sockets", "dbname": "calls"}),
        ("postgresql://h/c?sslmode=verify-full&sslrootcert=/a%20b", {"sslmode": "verify-full", "sslrootcert": "/a b"}),
        ("postgresql://h/c?schema=x&target_session_attrs=any", {"target_session_attrs": "any"}),
        ("postgresql://h/c?ssl=true", {"sslmode": "require"}),
    ]:
        found = libpq(url)
        assert said.items() <= found.items(), url
        assert found["client_encoding"] == "UTF8"


def test_what_the_url_leaves_open_stays_with_libpq_and_a_vanished_host_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = libpq("postgresql:///")
    assert not {"host", "user", "password", "dbname", "sslmode", "target_session_attrs"} & plain.keys()
    assert (plain["connect_timeout"], plain["tcp_user_timeout"], plain["keepalives_idle"]) == ("3", "10000", "10")
    chosen = libpq("postgresql://h/c?connect_timeout=9&tcp_user_timeout=1&keepalives_idle=7")
    assert (chosen["connect_timeout"], chosen["tcp_user_timeout"], chosen["keepalives_idle"]) == ("9", "1", "7")
    assert libpq("postgresql://a,b/c")["target_session_attrs"] == "read-write"
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "20")
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "primary")
    assert not {"connect_timeout", "target_session_attrs"} & libpq("postgresql://a,b/c").keys()


def test_parameters_of_the_store() -> None:
    plain = parse_url("postgresql://h/c")
    assert (plain.schema, plain.promise) == ("voiceflow", Promise.STRICT)
    said = parse_url("postgresql://h/c?schema=calls_2&durability=best-effort&sslmode=require")
    assert (said.schema, said.promise) == ("calls_2", Promise.BEST_EFFORT)
    assert said.shown == "postgresql://h/c?schema=calls_2"


def test_no_secret_is_shown() -> None:
    for url in (
        "postgresql://me:secret@h/c",
        "postgresql://me:s%65cret@h/c",
        "postgresql://h/c?user=me&password=secret",
        "postgresql://me:secret@h1,h2/c?schema=x&sslpassword=secret",
    ):
        parsed = parse_url(url)
        assert "secret" not in f"{parsed} {parsed!r} {parsed.shown}"
        assert "secret" in parsed.secrets
        assert "secret" not in identity_of(url)


def test_a_wrong_url_is_reported_in_a_sentence() -> None:
    for url, said in [
        ("postgresql:calls", "not a URL of a PostgreSQL store"),
        ("postgresql://h/c?schema=", "not a name"),
        ("postgresql://h/c?schema=Calls", "not a name"),
        ("postgresql://h/c?schema=9a", "not a name"),
        ("postgresql://h/c?schema=a%22%3Bdrop", "not a name"),
        ("postgresql://h/c?schema=" + "a" * 42, "not a name"),
        ("postgresql://h/c?schema=a&schema=b", "schema twice"),
        ("postgresql://h/c?failover=perhaps", "held, trusted"),
        ("postgresql://h/c?durability=maybe", "strict, best-effort"),
        ("postgresql://h/c?shema=x", "the option 'shema'"),
        ("postgresql://h/c?schema", "not a name"),
        ("postgresql://h/c?sslmode", "the option 'sslmode'"),
        ("postgresql://h/c?client_encoding=LATIN1", "the option 'client_encoding'"),
        ("postgresql://h/c?replication=database", "the option 'replication'"),
        ("postgresql://h:port,[::1/c", "Percent-encode"),
    ]:
        with pytest.raises(SettingsError, match=said):
            parse_url(url)


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
            parse_url(f"postgresql://me:{password}@h/c")
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
    monkeypatch.setenv("PGHOST", "h")
    assert identity_of("postgresql:///c") == identity_of("postgresql://h/c")


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_on_trio_a_postgresql_store_is_refused_with_what_to_use() -> None:
    with pytest.raises(SettingsError, match="needs asyncio; on trio, use a store in a file"):
        async with open_store("postgresql://127.0.0.1:1/calls"):
            pass
