"""Web addresses in settings. Errors do not quote an address: it may hold a secret."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import SplitResult, urlsplit

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
    if address is not None and not address.is_global:
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
