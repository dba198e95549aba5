"""Web addresses as settings hold them. What is wrong with one is told without quoting it: it may hold a secret."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit


def read_base_url(text: str) -> str:
    """The base address of an API, without a slash at its end. Raises ValueError with a sentence."""
    text = text.strip().rstrip("/")
    parts = _parts(text)
    if parts is None or parts.query or parts.fragment:
        raise ValueError("give an http or https address, such as https://voice.8x8.com or http://127.0.0.1:8088")
    if "@" in parts.netloc:
        raise ValueError("an address does not hold a key: put it into VOICEFLOW_API_KEY")
    return text


def read_notify_url(text: str) -> str:
    """The address that notifications are sent to, as it is. Raises ValueError with a sentence."""
    text = text.strip()
    parts = _parts(text)
    if parts is None or parts.fragment:
        raise ValueError("give an http or https address, such as https://crm.example.com/hooks/calls")
    if "@" in parts.netloc:
        raise ValueError("an address holds no password: notifications are signed with VOICEFLOW_NOTIFY_SECRET")
    return text


def is_plain_and_remote(url: str) -> bool:
    """Whether what is sent there can be read on its way: http, to another machine than this one."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not _is_this_machine(parts.hostname or "")


def _is_this_machine(host: str) -> bool:
    """Whether a host is a loopback address, or the name of one (RFC 6761 §6.3)."""
    host = host.rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _parts(text: str) -> SplitResult | None:
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if good and not any(map(str.isspace, text)) else None
