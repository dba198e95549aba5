"""Store URLs of Redis."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from voiceflow_worker.backends.store_url import FAILOVERS, PROMISES, Promise, one_of
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.model.text.printable import without_secrets

Node = tuple[str, int]
"""The address of a server: host and port."""

_SCHEMES = {"redis", "rediss", "valkey", "valkeys", "redis+sentinel"}
_SENTINEL = "redis+sentinel://[user:password@]host[:26379],host/service[/0]"
_FORMS = f"redis://[user:password@]host[:6379][/0], rediss://… (TLS), valkey://… and valkeys://…, {_SENTINEL}"
_YES = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_PATHS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_OPTIONS = {"durability", "failover", "replicas", "prefix", "tls", *_PATHS, "ssl_cert_reqs", "ssl_check_hostname"}
_PREFIX = "voiceflow"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisURL:
    """The contents of a store URL.

    `nodes` are the server, or the sentinels that know the primary of `service`. `tls` has the options of redis-py.
    `replicas` is the number of replicas that must confirm a write. `shown` is the URL without secrets and options, for
    messages. `makes` comes from whoever opens the store, not from the URL.
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
        """The beginning of all keys: the prefix in braces."""
        return f"{{{self.prefix}}}"


def parse_url(url: str) -> RedisURL:
    """Parse a store URL. Raises SettingsError, whose message does not contain the password.

    The options are `durability=best-effort`, `replicas=1`, `failover=trusted`, `prefix=…`, `tls=yes` (for
    Sentinel), `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`, `ssl_cert_reqs=none` and `ssl_check_hostname=no`.
    """
    shown = without_secrets(url)
    parts = _parts(url, shown)
    scheme = parts.scheme.lower()
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    has_service = scheme == "redis+sentinel"
    if scheme not in _SCHEMES or not hosts or ("," in hosts and not has_service):
        raise SettingsError(f"{shown!r} is not a URL of a Redis store; use one of {_FORMS}")
    options = _options(parts.query, shown)
    steps = [unquote(step) for step in parts.path.split("/") if step]
    if has_service and not steps:
        raise SettingsError(
            f"the store URL {shown} does not name the service that the sentinels watch; write {_SENTINEL}"
        )
    service = steps.pop(0) if has_service else None
    if len(steps) > 1 or not "".join(steps or "0").isdecimal():
        raise SettingsError(f"the store URL {shown} ends in {parts.path!r}, which is not a database number such as /0")
    prefix, replicas = options.get("prefix", _PREFIX), options.get("replicas", "0")
    if not prefix or set(prefix) & set("{}"):
        raise SettingsError(
            f"the option prefix={prefix!r} of the store URL {shown} is empty or contains braces; use a word"
        )
    if not replicas.isdecimal():
        raise SettingsError(f"the option replicas={replicas} of the store URL {shown} is not a number, such as 1")
    is_tls = scheme in {"rediss", "valkeys"} or one_of(_YES, options, "tls", shown, default="no")
    return RedisURL(
        nodes=tuple(_node(host, 26379 if has_service else 6379, shown) for host in hosts.split(",") if host),
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


def _parts(url: str, shown: str) -> SplitResult:
    """Split the URL. Raises SettingsError for an invalid URL, or if the password contains `/`, `?` or `#`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = None
    if parts is None or "@" in parts.path or parts.fragment or ("@" in parts.query and "@" not in parts.netloc):
        raise SettingsError(
            f"the store URL {shown} cannot be read. Percent-encode special characters in the password: % as %25, / as "
            "%2F, ? as %3F, # as %23, @ as %40, [ as %5B"
        )
    return parts


def _options(query: str, shown: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(options.keys() - _OPTIONS)
    if unknown:
        # The unknown option may be the end of a password that contains an &, so it is not quoted then.
        hides = "password" in query or "@" in query
        named = "an unknown option" if hides else f"the unknown option {unknown[0]!r}"
        raise SettingsError(f"the store URL {shown} has {named}; the options are {', '.join(sorted(_OPTIONS))}")
    return options


def _node(text: str, port: int, shown: str) -> Node:
    try:
        parts = urlsplit(f"//{text}")
        host, own_port = parts.hostname, parts.port
    except ValueError:
        host, own_port = None, None
    if not host:
        raise SettingsError(f"the store URL {shown} names no host in {text!r}; write host:port")
    return host, own_port or port


def _tls(options: Mapping[str, str], shown: str) -> dict[str, Any]:
    """Return the options of redis-py for TLS. Raises SettingsError if a certificate cannot be read."""
    try:
        context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
        if "ssl_certfile" in options:
            context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    except OSError as error:
        raise SettingsError(
            f"the certificates of the store URL {shown} cannot be read ({error}); check the ssl_ options"
        ) from error
    is_checked = one_of({"required": True, "none": False}, options, "ssl_cert_reqs", shown, default="required")
    return {
        **{name: options[name] for name in _PATHS if name in options},
        "ssl_cert_reqs": "required" if is_checked else "none",
        "ssl_check_hostname": is_checked and one_of(_YES, options, "ssl_check_hostname", shown, default="yes"),
    }
