"""Web addresses, proxies and lists of hosts in settings. Errors do not quote an address: it may hold a secret."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed lacks it

_NOT_PUBLIC = (".home.arpa", ".internal", ".invalid", ".lan", ".local", ".test")
"""Endings of names that do not exist on the internet (RFC 6761, RFC 6762, RFC 8375; ICANN reserves `internal`)."""


def split_web_address(text: str) -> SplitResult | None:
    """Return the parts of an http or https address; None if the text is none."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if good and not any(map(str.isspace, text)) else None


def read_base_url(text: str) -> str:
    """Return the base address of an API, without a slash at its end. Raises ValueError."""
    text = text.strip().rstrip("/")
    parts = split_web_address(text)
    if parts is None or parts.query or parts.fragment:
        raise ValueError("give an http or https address, such as https://voice.8x8.com or http://127.0.0.1:8088")
    if "@" in parts.netloc:
        raise ValueError("the address has a user name or a key: remove it, and set the API key as a setting of its own")
    return text


def read_notify_url(text: str) -> str:
    """Return the address to which notifications are sent, without spaces around it. Raises ValueError."""
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


_PROXY = (
    "give an http address with a host and port, such as http://proxy.example.com:3128; write %40 for @, %23 for #, %2F "
    "for / and %3A for : in its user name and password"
)


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
        parts = split_web_address(text.strip())
        if parts is None or parts.scheme != "http" or not _is_host(parts.hostname or ""):
            raise ValueError(_PROXY)
        # A mark such as # in a password ends the host, or puts a second @ before it.
        if parts.netloc.count("@") > 1 or parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError(f"its host and port are not at its end; {_PROXY}")
        credentials = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        return cls(parts.hostname or "", parts.port or 80, credentials)

    @property
    def url(self) -> str:
        """Address without the credentials."""
        return f"http://{self}"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def read_proxy(text: str) -> str:
    """Return the address of a proxy, without spaces around it. Raises ValueError."""
    Proxy.of(text)
    return text.strip()


_HOST = re.compile(r"(?!.{254})[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.ASCII)


def read_hosts(value: str | Iterable[object]) -> tuple[str, ...]:
    """Return the hosts in a text with commas or spaces between, or in a list. Raises ValueError.

    A name includes all names below it, and `*` is every host. One may have a port. A network, such as 10.0.0.0/8, is
    all addresses in it.
    """
    given = re.split(r"[,\s]+", value) if isinstance(value, str) else map(str, value)
    hosts = tuple(part.strip().lower().removesuffix(".") for part in given if part.strip())
    for each in hosts:
        place = each.removeprefix("*").removeprefix(".")
        parts = split_web_address(f"http://{place}")
        is_host = parts is not None and _is_host(parts.hostname or "") and each[-1] != ":"
        if each != "*" and _network(each) is None and (not is_host or {*"/@?#"} & {*each}):
            raise ValueError(f"{each!r} is no host and no network; give .example.com, 10.0.0.0/8, and so on")
    return hosts


def is_among(url: str, hosts: Iterable[str]) -> bool:
    """Return whether the host of an address is in a list of hosts and networks, as urllib reads NO_PROXY."""
    parts, host, hosts = urlsplit(url), _host(url), [*hosts]
    networks = [network for each in hosts if (network := _network(each)) is not None]
    if (address := _ip(host)) is not None and any(address in network for network in networks):
        return True
    port = parts.port or (443 if parts.scheme == "https" else 80)
    given = ",".join(each.removeprefix("*") or each for each in hosts)
    netloc = f"{f'[{host}]' if ':' in host else host}:{port}"
    return bool(proxy_bypass_environment(netloc, {"no": given}))  # pyright: ignore[reportUnknownArgumentType]


def _network(text: str) -> IPv4Network | IPv6Network | None:
    """Return the network that a text is; None for another."""
    try:
        return ip_network(text) if "/" in text else None
    except ValueError:
        return None


def _is_host(text: str) -> bool:
    """Return whether a text is an address or a name, and no address with a mistake, such as 10.0.0.256."""
    if _ip(text) is not None:
        return "%" not in text
    return _HOST.fullmatch(text) is not None and not text.rstrip(".").rpartition(".")[2].isdigit()


def is_plain_and_remote(url: str) -> bool:
    """Return whether requests to this address are unencrypted and leave this machine."""
    return urlsplit(url).scheme == "http" and not is_this_machine(url)


def is_this_machine(url: str) -> bool:
    """Return whether the host of an address is a loopback address, or the name of one (RFC 6761 §6.3)."""
    host = _host(url)
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _ip(host)
    return address is not None and address.is_loopback


def why_not_from_outside(url: str) -> str | None:
    """Return the reason, as a clause, why this address cannot be reached safely from the internet; None if it can."""
    host = _host(url)
    if is_this_machine(url):
        return f"{host} is this machine only"
    address = _ip(host)
    if address is not None and (not address.is_global or address.is_multicast):
        return f"{host} is not a public address"
    if address is None and ("." not in host or host.endswith(_NOT_PUBLIC)):
        return f"{host} is not a public host name"
    if urlsplit(url).scheme != "https":
        return "it is http, and not https"
    return None


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").rstrip(".")


def _ip(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
