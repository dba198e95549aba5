"""Web addresses, proxies and lists of hosts in settings. Errors do not quote an address: it may hold a secret."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import SplitResult, unquote, urlsplit

_NOT_PUBLIC = (".home.arpa", ".internal", ".invalid", ".lan", ".local", ".test")
"""Endings of names that do not exist on the internet (RFC 6761, RFC 6762, RFC 8375; ICANN reserves `internal`)."""


def split_web_address(text: str) -> SplitResult | None:
    """The parts of an http or https address; None if the text is none."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if good and not any(map(str.isspace, text)) else None


def read_base_url(text: str) -> str:
    """The base address of an API, without a slash at its end. Raises ValueError."""
    text = text.strip().rstrip("/")
    parts = split_web_address(text)
    if parts is None or parts.query or parts.fragment:
        raise ValueError("give an http or https address, such as https://voice.8x8.com or http://127.0.0.1:8088")
    if "@" in parts.netloc:
        raise ValueError("the address has a user name or a key: remove it, and set the API key as a setting of its own")
    return text


def read_notify_url(text: str) -> str:
    """The address to which notifications are sent, without spaces around it. Raises ValueError."""
    text = text.strip()
    parts = split_web_address(text)
    if parts is None or parts.fragment:
        raise ValueError("give an http or https address, such as https://crm.example.com/hooks/calls")
    if "@" in parts.netloc:
        raise ValueError(
            "remove the user name and password from the address; to let the receiver verify notifications, "
            "set the secret that notifications are signed with"
        )
    return text


_PROXY = "give an http address with a host, such as http://proxy.example.com:3128"


@dataclass(frozen=True, slots=True)
class Proxy:
    """The proxy of a company, which opens tunnels (CONNECT). Neither its text nor its repr shows the credentials."""

    host: str
    port: int
    credentials: tuple[str, str] | None = field(default=None, repr=False)
    """The user name and the password."""

    @classmethod
    def of(cls, text: str) -> Proxy:
        """Read an address such as `http://user:password@proxy.example.com:3128`. Raises ValueError."""
        text = text.strip()
        scheme, mark, rest = text.partition("://")
        if not mark:
            raise ValueError(f"it does not begin with http://; {_PROXY}")
        if scheme.lower() != "http":
            raise ValueError(f"it begins with {scheme[:20]}://, and only an http:// address can be a proxy; {_PROXY}")
        parts = split_web_address(text)
        # A mark such as # in a password ends the host: what follows it then holds the @.
        if (
            parts is None
            or not _is_host(parts.hostname or "")
            or "@" in rest.rpartition("@")[0]
            or "@" in parts.path + parts.query + parts.fragment
        ):
            ways = "write %40 for @, %23 for #, %2F for / and %3A for : in its user name and password"
            more = f"; {ways}" if "@" in text else ""
            raise ValueError(f"it has no host and port that can be such; {_PROXY}{more}")
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError(
                "the address of a proxy ends with its host and port, as http://proxy.example.com:3128 does"
            )
        credentials = None
        if parts.username:
            credentials = (unquote(parts.username), unquote(parts.password or ""))
        return cls(parts.hostname or "", parts.port or 80, credentials)

    @property
    def url(self) -> str:
        """The address without the credentials."""
        return f"http://{self}"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def read_proxy(text: str) -> str:
    """The address of a proxy, without spaces around it. Raises ValueError."""
    Proxy.of(text)
    return text.strip()


_NAME = re.compile(r"(?!.{254})[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.ASCII)
_IN_BRACKETS = re.compile(r"\[([0-9a-f]*:[0-9a-f:.]*)\]")
_HOSTS = "give hosts and networks with commas between, such as .example.com, db.example.com:8443, 10.0.0.0/8, [::1]"


@dataclass(frozen=True, slots=True)
class HostRule:
    """One entry of a list of hosts: a name with all names below it, an address, a network, or `*` for every host."""

    text: str
    name: str = ""
    network: IPv4Network | IPv6Network | None = None
    port: int | None = None

    @classmethod
    def of(cls, text: str) -> HostRule:
        """Read one entry. Raises ValueError."""
        rest = text.lower()
        if rest == "*":
            return cls(text)
        if "://" in rest:
            raise ValueError(f"{text!r} is an address: write its host alone, without http://")
        if (network := _network(rest)) is not None:
            return cls(text, network=network)
        if "/" in rest:
            raise ValueError(f"{text!r} is no network; {_HOSTS}")
        rest, colon, digits = rest.rpartition(":") if ":" in rest else (rest, "", "")
        port = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 6 else 0
        if colon and not 0 < port < 65536:
            raise ValueError(f"{text!r} has no port after its last colon; {_HOSTS}")
        if (network := _network(rest)) is not None:
            return cls(text, network=network, port=port or None)
        name = rest.removeprefix("*").removeprefix(".").removesuffix(".")
        if not _is_host(name) or (rest.startswith("*") and not rest.startswith("*.")):
            raise ValueError(f"{text!r} is neither a host nor a network; {_HOSTS}")
        return cls(text, name=name, port=port or None)

    def holds(self, host: str, port: int) -> bool:
        """Whether a host and port are among those of this entry."""
        if self.port is not None and self.port != port:
            return False
        address = _ip(host)
        if self.network is not None:
            return address is not None and address in self.network
        return not self.name or (address is None and f".{host}".endswith(f".{self.name}"))

    def __str__(self) -> str:
        return self.text


def read_hosts(value: str | Iterable[object]) -> tuple[HostRule, ...]:
    """The entries of a list of hosts, as a text with commas or spaces between, or as a list. Raises ValueError."""
    parts = re.split(r"[,\s]+", value) if isinstance(value, str) else map(str, value)
    return tuple(HostRule.of(part.strip()) for part in parts if part.strip())


def is_among(url: str, hosts: Iterable[HostRule]) -> bool:
    """Whether the host of an address is in a list of hosts. Names are not looked up."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return any(each.holds(_host(url), port) for each in hosts)


def _is_host(text: str) -> bool:
    """Whether a text is an address or a name, and not an address with a mistake, such as 10.0.0.256."""
    if _ip(text) is not None:
        return "%" not in text
    return _NAME.fullmatch(text) is not None and not text.rstrip(".").rpartition(".")[2].isdigit()


def _network(text: str) -> IPv4Network | IPv6Network | None:
    """The network or address in a text; None for anything else. Raises ValueError for a network with a mistake."""
    bracketed = _IN_BRACKETS.fullmatch(text)
    try:
        return ip_network(bracketed[1] if bracketed else text)
    except ValueError:
        if "/" in text and _network(text.partition("/")[0]) is not None:
            raise
        return None


def is_plain_and_remote(url: str) -> bool:
    """Whether requests to this address are unencrypted and leave this machine."""
    return urlsplit(url).scheme == "http" and not is_this_machine(url)


def is_this_machine(url: str) -> bool:
    """Whether the host of an address is a loopback address, or the name of one (RFC 6761 §6.3)."""
    host = _host(url)
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _ip(host)
    return address is not None and address.is_loopback


def why_not_from_outside(url: str) -> str | None:
    """The reason, as a clause, why this address cannot be reached safely from the internet; None if it can.

    Names are not looked up.
    """
    host = _host(url)
    if is_this_machine(url):
        return f"{host} is this machine only"
    address = _ip(host)
    if address is not None and not is_public(address):
        return f"{host} is not a public address"
    if address is None and ("." not in host or host.endswith(_NOT_PUBLIC)):
        return f"{host} is not a public host name"
    if urlsplit(url).scheme != "https":
        return "it is http, and not https"
    return None


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is one of the internet, also the IPv4 address that an IPv6 address stands for."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in _TRANSLATED:
            inner = IPv4Address(address.packed[-4:])
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved


_TRANSLATED = ip_network("64:ff9b::/96")
"""The IPv6 addresses of IPv4 hosts behind a translator (RFC 6052)."""


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").rstrip(".")


def _ip(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
