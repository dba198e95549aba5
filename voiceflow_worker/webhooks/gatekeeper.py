"""Authentication of senders before the body is read, and the events that an overload turns away.

8x8 does not sign its events. A sender can be checked only by the Authorization value that was registered with the
webhook, and by the addresses that 8x8 publishes (8x8 webhook guides, voice IP addresses).
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

from prometheus_client import CollectorRegistry
from starlette.types import Scope

from voiceflow_worker.asgi.connections import LoadShedding
from voiceflow_worker.errors import SettingsError
from voiceflow_worker.service.metrics import WEBHOOK_TURNED_AWAY

BUSY_AT = 256
"""The number of requests that are handled at once; further requests wait. One commit can store all their results."""
_BODY = b'{"error":"too many events at once; send it again later"}'
_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)


def preferred(allow: Sequence[Network], trusted_proxies: Sequence[Network]) -> Callable[[str], bool] | None:
    """A function of a peer's address: True if the peer may send events, or is a trusted proxy.

    None if `allow` is empty, so that every peer may send events.
    """
    if not allow:
        return None
    networks = (*allow, *trusted_proxies)

    def is_preferred(peer: str) -> bool:
        address = read_address(peer)
        return address is not None and is_within(address, networks)

    return is_preferred


def load_shedding(registry: CollectorRegistry) -> LoadShedding:
    """The load shedding of the receiver. An event that is turned away gets a 503, and is counted in `registry`."""
    return LoadShedding(answer=_ANSWER, busy_at=BUSY_AT, count=WEBHOOK_TURNED_AWAY.on(registry).inc)


Network: TypeAlias = IPv4Network | IPv6Network
Headers: TypeAlias = Iterable[tuple[bytes, bytes]]


class RefusalReason(StrEnum):
    """The reason for refusing a sender."""

    NETWORK = "network"
    SECRET = "secret"  # noqa: S105 - the name of a reason


class Gatekeeper:
    """Checks that requests come from an allowed network, and that they have the right Authorization header.

    `secret` is the Authorization value (None: not checked). `allow` are the networks from which events may come (empty:
    all). `trusted_proxies` are the networks whose X-Forwarded-For is believed (empty: none). Raises SettingsError for
    an empty secret, which would accept an empty header.
    """

    def __init__(
        self, *, secret: str | None, allow: Sequence[Network] = (), trusted_proxies: Sequence[Network] = ()
    ) -> None:
        if secret is not None and not secret.strip():
            raise SettingsError(
                "the webhook secret is empty; give the Authorization value that was registered with the webhook"
            )
        # Servers strip white space around header values (RFC 9110 §5.5), so it is stripped here too.
        self._secret = None if secret is None else secret.strip().encode()
        self._allow = tuple(allow)
        self._trusted = tuple(trusted_proxies)

    def refusal(self, headers: Headers, peer: str | None) -> RefusalReason | None:
        """The reason for refusing a request from the address `peer`, or None. Header names are in lower case."""
        shown = list(headers)
        if self._allow:
            sender = self.sender(shown, peer)
            if sender is None or not is_within(sender, self._allow):
                return RefusalReason.NETWORK
        if self._secret is not None:
            values = [value for name, value in shown if name == b"authorization"]
            if len(values) != 1 or not hmac.compare_digest(values[0], self._secret):
                return RefusalReason.SECRET
        return None

    def sender_of(self, scope: Scope) -> IPv4Address | IPv6Address | None:
        """The sender of an ASGI request: the peer, or the nearest hop that is not a trusted proxy."""
        client = scope.get("client")
        return self.sender(scope["headers"], client[0] if client else None)

    def sender(self, headers: Headers, peer: str | None) -> IPv4Address | IPv6Address | None:
        """The sender of a request: the peer, or the nearest hop that is not a trusted proxy.

        X-Forwarded-For is read from its right end, which the nearest proxy wrote. Hops further left than the first
        untrusted hop may be forged. None if the address of the sender cannot be read.
        """
        sender = read_address(peer or "")
        hops = [
            hop for name, value in headers if name == b"x-forwarded-for" for hop in value.decode("latin-1").split(",")
        ]
        while sender is not None and hops and is_within(sender, self._trusted):
            sender = read_address(hops.pop())
        return sender


def is_within(address: IPv4Address | IPv6Address, networks: Sequence[Network]) -> bool:
    """Whether an address lies in one of the networks."""
    return any(address.version == network.version and address in network for network in networks)


def read_address(text: str) -> IPv4Address | IPv6Address | None:
    """The address in a hop of X-Forwarded-For. A hop may have a port, and brackets around an IPv6 address."""
    host = text.strip().strip('"')
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    # A socket for both IPv4 and IPv6 shows an IPv4 peer as ::ffff:a.b.c.d.
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped
