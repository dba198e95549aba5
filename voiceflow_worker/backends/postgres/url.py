"""Store URLs of PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from voiceflow_worker.backends.store_url import (
    FAILOVERS,
    POSTGRES_SCHEMA,
    POSTGRES_SCHEMES,
    PROMISES,
    Promise,
    one_of,
    said_to_libpq,
)
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.model.text.printable import without_secrets

SCHEMA = 15
"""The version of the tables and functions of a store."""
_NAMED = re.compile(r"\bvoiceflow\.(?=\w)")
FORM = "postgresql://[user[:password]@]host[:5432][,host2…]/database[?schema=voiceflow]"
_OWN = ("schema", "durability", "failover")
_OURS_ALONE = {"client_encoding", "replication"}
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,40}")
_PLACE = re.compile(r"[^@?#]*")
_PORTS = re.compile(r"[\d,]*")
_SECRET = ("password", "sslpassword", "oauth_client_secret")
CONNECT_TIMEOUT = 3
"""Seconds for one address of a host, unless the URL or PGCONNECT_TIMEOUT says otherwise."""
_USUAL: Mapping[str, Any] = {
    "fallback_application_name": "voiceflow-worker",
    # A host that has vanished is noticed: after 25 s by a connection that waits, after 10 s by one that sends.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""Parameters of libpq that a URL need not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresURL:
    """The contents of a store URL.

    `conninfo` is for libpq, and has the password that the URL has. `shown` is the URL without secrets, for messages;
    `secrets` are the texts that no message may have.
    """

    conninfo: str = field(repr=False)
    shown: str
    secrets: tuple[str, ...] = field(default=(), repr=False)
    schema: str = POSTGRES_SCHEMA
    promise: Promise = Promise.STRICT
    trusts_failover: bool = False

    def named(self, sql: str) -> str:
        return named(sql, self.schema)


@lru_cache(maxsize=256)
def named(sql: str, schema: str) -> str:
    return _NAMED.sub(f'"{schema}".', sql)


def parse_url(url: str) -> PostgresURL:
    """Parse a store URL. Raises SettingsError, whose message has no secret.

    `schema`, `durability` (strict or best-effort) and `failover` (held or trusted) are options of this store, all
    others of libpq. What the URL does not say comes from where libpq takes it: PGPASSWORD, PGPASSFILE, ~/.pgpass, a
    service file. Of several hosts, the one that accepts writes is used, unless `target_session_attrs` says otherwise.
    """
    shown = without_secrets(url)
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in POSTGRES_SCHEMES:
        raise SettingsError(f"{shown!r} is not a URL of a PostgreSQL store; write {FORM}")
    place, _, query = rest.partition("?")
    options = [text.partition("=") for text in query.split("&") if text]
    own = {unquote(name): unquote(value) for name, _, value in options if unquote(name) in _OWN}
    theirs = ["".join(each) for each in options if unquote(each[0]) not in _OWN]
    params = _of_libpq(f"postgresql://{place}{'?' if theirs else ''}{'&'.join(theirs)}")
    if " " in rest or not rest.isprintable() or params is None or len(own) + len(theirs) != len(options):
        # The message of libpq would repeat what it could not read, which may be a part of a password.
        raise SettingsError(
            f"the store URL {shown} cannot be read. Percent-encode special characters in the user, the password and "
            "the options: % as %25, / as %2F, ? as %3F, # as %23, @ as %40, [ as %5B, & as %26, = as %3D, a space as "
            f"%20. Check the options: {', '.join(_OWN)}, each once, and those of libpq (sslmode, sslrootcert, …)"
        )
    schema = own.get("schema", POSTGRES_SCHEMA)
    if not _SCHEMA.fullmatch(schema):
        raise SettingsError(
            f"the option schema={schema} of the store URL {shown} is not a name that the store takes: use lower-case "
            "letters, digits and _, a letter first, and at most 41 of them"
        )
    spelled = place.rpartition("@")[0].partition(":")[2]
    secrets = {spelled, *(str(params[name]) for name in _SECRET if name in params)} - {""}
    return PostgresURL(
        conninfo=_completed(params),
        shown=shown if schema == POSTGRES_SCHEMA else f"{shown}?schema={schema}",
        secrets=tuple(secrets),
        schema=schema,
        promise=one_of(PROMISES, own, "durability", shown, default=Promise.STRICT),
        trusts_failover=one_of(FAILOVERS, own, "failover", shown, default="held"),
    )


def _of_libpq(url: str) -> dict[str, Any] | None:
    """Return what libpq reads in a URL; None if it cannot, or if a part of a password seems to be in another part."""
    try:
        params = conninfo_to_dict(url)
    except (psycopg.Error, UnicodeError):
        return None
    places = [str(params.get(name, "")) for name in ("user", "host", "hostaddr", "dbname")]
    is_clean = all(map(_PLACE.fullmatch, places)) and _PORTS.fullmatch(str(params.get("port", "")))
    return params if is_clean and not params.keys() & _OURS_ALONE else None


def _completed(params: Mapping[str, Any]) -> str:
    """Return the connection string for libpq, with what this store needs and the URL does not say."""
    filled = {**_USUAL, **params, "client_encoding": "UTF8"}
    said = {*params, *said_to_libpq()}
    if "connect_timeout" not in said:
        filled["connect_timeout"] = CONNECT_TIMEOUT
    several = "," in f"{params.get('host', '')}{params.get('hostaddr', '')}"
    if several and "target_session_attrs" not in said:
        filled["target_session_attrs"] = "read-write"
    return make_conninfo("", **filled)
