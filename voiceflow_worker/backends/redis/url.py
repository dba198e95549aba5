"""Store URLs of Redis."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from voiceflow_worker.backends.redis.connection import Access, Node
from voiceflow_worker.backends.store_url import FAILOVERS, PROMISES, Promise, one_of
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.model.text.printable import without_secrets


class Topology(StrEnum):
    """The arrangement of the servers that a URL names."""

    STANDALONE = "standalone"
    SENTINEL = "sentinel"


_TOPOLOGIES = {
    "redis": Topology.STANDALONE,
    "rediss": Topology.STANDALONE,
    "valkey": Topology.STANDALONE,
    "valkeys": Topology.STANDALONE,
    "redis+sentinel": Topology.SENTINEL,
}
_PORTS = {Topology.STANDALONE: 6379, Topology.SENTINEL: 26379}
_FORMS = (
    "redis://[user:password@]host[:6379][/0]",
    "rediss://… (TLS)",
    "valkey://… and valkeys://…, which mean the same",
    "redis+sentinel://[user:password@]host[:26379],host/service[/0]",
)
_OPTIONS = {
    "durability", "failover", "replicas", "prefix", "tls", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile",
    "ssl_cert_reqs", "ssl_check_hostname",
}  # fmt: skip
_YES = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_PREFIX = "voiceflow"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisURL:
    """The contents of a store URL.

    `nodes` are the server or the sentinels, as (host, port). `replicas` is the number of
    replicas that must confirm a write. `shown` is the URL without secrets and options, for messages. What
    `makes` and `may_forget` say comes from whoever opens the store, not from the URL.
    """

    topology: Topology
    nodes: tuple[Node, ...]
    shown: str
    database: int = 0
    service: str | None = None
    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None
    promise: Promise = Promise.STRICT
    replicas: int = 0
    trusts_failover: bool = False
    prefix: str = _PREFIX
    makes: bool = True
    may_forget: bool = False

    @property
    def access(self) -> Access:
        """What the server that has the store asks of a connection."""
        return Access(username=self.username, password=self.password, tls=self.tls)

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
    topology = _TOPOLOGIES.get(scheme)
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    if topology is None or not hosts:
        raise SettingsError(f"{shown!r} is not a URL of a Redis store; use one of {', '.join(_FORMS)}")
    options = _options(parts.query, shown)
    prefix = _prefix(options.get("prefix", _PREFIX), shown)
    service, database = _path(parts.path, topology, shown)
    tls = scheme in {"rediss", "valkeys"} or one_of(_YES, options, "tls", shown, default="no")
    return RedisURL(
        topology=topology,
        nodes=tuple(_node(host, _PORTS[topology], shown) for host in hosts.split(",") if host),
        shown=shown if prefix == _PREFIX else f"{shown}?prefix={prefix}",
        database=database,
        service=service,
        username=unquote(username) or None,
        password=unquote(password) or None,
        tls=_tls(options, shown) if tls else None,
        promise=one_of(PROMISES, options, "durability", shown, default=Promise.STRICT),
        replicas=_count(options.get("replicas", "0"), shown),
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


def _path(path: str, topology: Topology, shown: str) -> tuple[str | None, int]:
    steps = [unquote(step) for step in path.split("/") if step]
    service = None
    if topology is Topology.SENTINEL:
        if not steps:
            raise SettingsError(
                f"the store URL {shown} does not name the service that the sentinels watch; write {_FORMS[-1]}"
            )
        service = steps.pop(0)
    database = steps.pop(0) if steps else "0"
    if steps or not database.isdecimal():
        raise SettingsError(f"the store URL {shown} ends in {path!r}, which is not a database number such as /0")
    return service, int(database)


def _node(text: str, port: int, shown: str) -> Node:
    try:
        parts = urlsplit(f"//{text}")
        host, own_port = parts.hostname, parts.port
    except ValueError:
        host, own_port = None, None
    if not host:
        raise SettingsError(f"the store URL {shown} names no host in {text!r}; write host:port")
    return host, own_port or port


def _tls(options: dict[str, str], shown: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
        if "ssl_certfile" in options:
            context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    except OSError as error:
        raise SettingsError(
            f"the certificates of the store URL {shown} cannot be read ({error}); check the ssl_ options"
        ) from error
    required = one_of({"required": True, "none": False}, options, "ssl_cert_reqs", shown, default="required")
    if not required or not one_of(_YES, options, "ssl_check_hostname", shown, default="yes"):
        context.check_hostname = False
    if not required:
        context.verify_mode = ssl.CERT_NONE
    return context


def _count(text: str, shown: str) -> int:
    if not text.isdecimal():
        raise SettingsError(
            f"the option replicas={text} of the store URL {shown} is not a number of replicas; give a number such as 1"
        )
    return int(text)


def _prefix(text: str, shown: str) -> str:
    if not text or set(text) & set("{}"):
        raise SettingsError(
            f"the option prefix={text!r} of the store URL {shown} is empty or contains braces; use a word"
        )
    return text
