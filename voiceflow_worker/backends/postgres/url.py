"""Store URLs of PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import psycopg
from psycopg import pq
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

SCHEMA = 14
"""The version of the tables and functions of a store."""
_NAMED = re.compile(r"\bvoiceflow\.(?=\w)")
FORM = "postgresql://[user[:password]@]host[:5432][,host2…]/database[?schema=voiceflow]"
_OWN = ("schema", "durability", "failover")
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,40}")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
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
"""Parameters of libpq that a URL need not say."""


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
        """This SQL, with the name of the schema instead of `voiceflow`."""
        return named(sql, self.schema)


@lru_cache(maxsize=256)
def named(sql: str, schema: str) -> str:
    """This SQL for the store in a schema."""
    return _NAMED.sub(f'"{schema}".', sql)


def parse_url(url: str) -> PostgresURL:
    """Parse a store URL. Raises SettingsError, whose message has no secret.

    `schema`, `durability` (strict or best-effort) and `failover` (held or trusted) are parameters
    of this store. All others are parameters of libpq, and what the URL does not say comes from where libpq takes it:
    PGPASSWORD, PGPASSFILE, ~/.pgpass, a service file. Of several hosts, the one that accepts writes is used, unless
    `target_session_attrs` says otherwise.
    """
    shown = without_secrets(url)
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in POSTGRES_SCHEMES:
        raise SettingsError(f"{shown!r} is not a URL of a PostgreSQL store; write {FORM}")
    place, _, query = rest.partition("?")
    _require_readable(rest, place, query, shown)
    own, theirs = _parted(query, shown)
    schema = own.get("schema", POSTGRES_SCHEMA)
    if not _SCHEMA.fullmatch(schema):
        raise SettingsError(
            f"the option schema={schema} of the store URL {shown} is not a name that the store takes: use lower-case "
            "letters, digits and _, a letter first, and at most 41 of them"
        )
    try:
        params = conninfo_to_dict(f"postgresql://{place}{'?' if theirs else ''}{'&'.join(theirs)}")
        conninfo = _completed(params)
    except (psycopg.Error, UnicodeError):
        # The message of libpq repeats what it could not read, which may be a part of a password.
        raise SettingsError(f"the store URL {shown} cannot be read; write {FORM}") from None
    spelled = place.rpartition("@")[0].partition(":")[2]
    secrets = {spelled, *(str(params[name]) for name in _SECRET if name in params)} - {""}
    return PostgresURL(
        conninfo=conninfo,
        shown=shown if schema == POSTGRES_SCHEMA else f"{shown}?schema={schema}",
        secrets=tuple(secrets),
        schema=schema,
        promise=one_of(PROMISES, own, "durability", shown, default=Promise.STRICT),
        trusts_failover=one_of(FAILOVERS, own, "failover", shown, default="held"),
    )


def _require_readable(rest: str, place: str, query: str, shown: str) -> None:
    """Raise SettingsError for a URL in which a password seems to have characters that end it."""
    has_user = "@" in place
    host = place.rpartition("@")[2]
    is_odd = (
        place.count("@") > 1
        or "#" in rest
        or (has_user and "/" in place.rpartition("@")[0])
        or ("[" in place and not re.search(r"\[[0-9A-Fa-f:.%]+\]", host))
        or ("@" in query and not has_user)
        or any(each.count("=") > 1 for each in query.split("&"))
        or _BAD_PERCENT.search(rest)
        or not rest.isprintable()
        or " " in rest
    )
    if is_odd:
        raise SettingsError(
            f"the store URL {shown} cannot be read. Percent-encode special characters in the user, the password "
            "and the parameters: % as %25, / as %2F, ? as %3F, # as %23, @ as %40, [ as %5B, "
            "& as %26, = as %3D, a space as %20"
        )


def _parted(query: str, shown: str) -> tuple[dict[str, str], list[str]]:
    """The parameters of this store, decoded, and those of libpq, as they are written."""
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()} | {"ssl"}
    own: dict[str, str] = {}
    theirs: list[str] = []
    for text in filter(None, query.split("&")):
        name, separator, value = text.partition("=")
        name = unquote(name)
        if name in _OWN:
            if name in own:
                raise SettingsError(f"the store URL {shown} has the option {name} twice; keep one of them")
            own[name] = unquote(value)
        elif not separator or name not in known or name in {"client_encoding", "replication"}:
            # The unknown option may be the end of a password that contains an & or a ?, so it is not quoted then.
            hides = "@" in query or "password" in query
            named = "an option" if hides or not name.isidentifier() else f"the option {name!r}"
            raise SettingsError(
                f"the store URL {shown} has {named} that neither this store has ({', '.join(_OWN)}) nor may be given "
                "to libpq (sslmode, sslrootcert, connect_timeout and the like); check the spelling"
            )
        else:
            theirs.append(text)
    return own, theirs


def _completed(params: Mapping[str, Any]) -> str:
    """The connection string for libpq, with what this store needs and the URL does not say."""
    filled = {**_USUAL, **params, "client_encoding": "UTF8"}
    said = {*params, *said_to_libpq()}
    if "connect_timeout" not in said:
        filled["connect_timeout"] = CONNECT_TIMEOUT
    several = "," in f"{params.get('host', '')}{params.get('hostaddr', '')}"
    if several and "target_session_attrs" not in said:
        filled["target_session_attrs"] = "read-write"
    return make_conninfo("", **filled)
