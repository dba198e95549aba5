"""Store URLs of Redis."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from voiceflow_worker.backends.store_url import FAILOVERS, PROMISES, REDIS_SCHEMES, Promise, one_of
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.model.text.printable import without_secrets

Node = tuple[str, int]
"""The address of a server: host and port."""

SENTINEL = "redis+sentinel"
_FORMS = (
    "redis://[user:password@]host[:6379][/0], rediss://… (TLS), valkey://… and valkeys://…, "
    "redis+sentinel://[user:password@]host[:26379],host/service[/0]"
)
_YES = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_PATHS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_OPTIONS = {"durability", "failover", "replicas", "prefix", "tls", *_PATHS, "ssl_cert_reqs", "ssl_check_hostname"}
_PREFIX = "voiceflow"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisURL:
    """The contents of a store URL.

    `nodes` are the server, or the sentinels that know the primary of `service`. `tls` has the options of redis-py.
    `replicas` is the number of replicas that must confirm a write. `shown` is the URL without secrets and options, for
    messages. `makes` comes from the opener of the store, not from the URL.
    """

    nodes: tuple[Node, ...]
    shown: str
    service: str | None = None
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    is_tls: bool = False
    tls: Mapping[str, Any] = field(default_factory=dict[str, Any])
    promise: Promise = Promise.STRICT
    replicas: int = 0
    trusts_failover: bool = False
    prefix: str = _PREFIX
    makes: bool = True

    @property
    def root(self) -> str:
        return f"{{{self.prefix}}}"

    @property
    def identity(self) -> str:
        """Name of the store, the same for all spellings of its URL."""
        nodes = ",".join(sorted(f"{host}:{port}" for host, port in self.nodes))
        place = "/".join(filter(None, (self.service, str(self.database))))
        return f"redis:{nodes}/{place}?prefix={'' if self.prefix == _PREFIX else self.prefix}"


def parse_url(url: str) -> RedisURL:
    """Parse a store URL. Raises SettingsError, whose message does not contain the password.

    The options are `durability=best-effort`, `replicas=1`, `failover=trusted`, `prefix=…`, `tls=yes` (for
    Sentinel), `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`, `ssl_cert_reqs=none` and `ssl_check_hostname=no`.
    """
    shown = without_secrets(url)
    try:
        found = _read(url, shown)
    except ValueError:
        found = None
    if found is None:
        raise SettingsError(
            f"the store URL {shown} cannot be read. Write one of {_FORMS}. Its options are "
            f"{', '.join(sorted(_OPTIONS))}. Percent-encode special characters in the password: % as %25, / as %2F, "
            "? as %3F, # as %23, @ as %40, [ as %5B"
        )
    return found


def _read(url: str, shown: str) -> RedisURL | None:
    """Return what a URL says, None if it is in no known form. Raises ValueError for one that cannot be split."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    has_service = scheme == SENTINEL
    options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    nodes = tuple(_node(host, 26379 if has_service else 6379) for host in hosts.split(","))
    steps = [unquote(step) for step in parts.path.split("/") if step]
    service = steps.pop(0) if has_service and steps else None
    prefix, replicas = options.get("prefix", _PREFIX), options.get("replicas", "0")
    is_known = (
        scheme in REDIS_SCHEMES
        and not parts.fragment
        and not options.keys() - _OPTIONS
        and (len(nodes) == 1 or has_service)
        and has_service == (service is not None)
        and re.fullmatch(r"\d*", "/".join(steps))
        and re.fullmatch(r"[^{}]+", prefix)
        and replicas.isdecimal()
    )
    if not is_known:
        return None
    is_tls = scheme in {"rediss", "valkeys"} or one_of(_YES, options, "tls", shown, default="no")
    return RedisURL(
        nodes=nodes,
        shown=shown if prefix == _PREFIX else f"{shown}?prefix={prefix}",
        service=service,
        database=int(steps[0]) if steps else 0,
        username=unquote(username) or None,
        password=unquote(password) or None,
        is_tls=is_tls,
        tls=_tls(options, shown) if is_tls else {},
        promise=one_of(PROMISES, options, "durability", shown, default=Promise.STRICT),
        replicas=int(replicas),
        trusts_failover=one_of(FAILOVERS, options, "failover", shown, default="held"),
        prefix=prefix,
    )


def _node(text: str, port: int) -> Node:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("a host is missing")
    return parts.hostname, parts.port or port


def _tls(options: Mapping[str, str], shown: str) -> dict[str, Any]:
    """Return the options of redis-py for TLS. Raises SettingsError if a certificate cannot be read."""
    files = {name: options[name] for name in _PATHS if name in options}
    for name, path in files.items():
        if not os.access(path, os.R_OK):
            raise SettingsError(f"the option {name}={path} of the store URL {shown} names no file that can be read")
    is_checked = one_of({"required": True, "none": False}, options, "ssl_cert_reqs", shown, default="required")
    return {
        **files,
        "ssl_cert_reqs": "required" if is_checked else "none",
        "ssl_check_hostname": is_checked and one_of(_YES, options, "ssl_check_hostname", shown, default="yes"),
    }
