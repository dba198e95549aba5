"""Who may send a request, before its body is read; wrong secrets are slowed down.

8x8 does not sign its events. A sender can be checked only by the Authorization value that was registered with the
webhook, and by the addresses that 8x8 publishes (8x8 webhook guides, voice IP addresses).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, TypeAlias

from starlette.types import Scope

from voiceflow_worker.errors import InvalidInputError, SettingsError
from voiceflow_worker.secret_text import is_one_of

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings

Network: TypeAlias = IPv4Network | IPv6Network
Address: TypeAlias = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Gatekeeper:
    """Checks that requests come from an allowed network, and that they have the right Authorization header.

    `secrets` are the Authorization values that count (empty: not checked). `allow` are the networks from which
    events may come (empty: all). `trusted_proxies` are the networks whose X-Forwarded-For is believed (empty: none).
    """

    secrets: Sequence[str] = ()
    allow: Sequence[Network] = ()
    trusted_proxies: Sequence[Network] = ()

    def refusal(self, scope: Scope) -> int | None:
        """Return the status with which an ASGI request is refused: 403 for its network, 401 for its secret, or None."""
        if self.allow:
            sender = self.sender(scope)
            if sender is None or not is_within(sender, self.allow):
                return 403
        if self.secrets:
            values = [value for name, value in scope["headers"] if name == b"authorization"]
            if len(values) != 1 or not is_one_of(values[0], self.secrets):
                return 401
        return None

    def sender(self, scope: Scope) -> Address | None:
        """Return the sender of an ASGI request: the peer, or the nearest hop that is not a trusted proxy.

        X-Forwarded-For is read from its right end, which the nearest proxy wrote. Hops further left than the first
        untrusted hop may be forged. None if the address of the sender cannot be read.
        """
        sender = _peer(scope)
        shown = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
        hops = [hop for value in shown for hop in value.split(",")]
        while sender is not None and hops and is_within(sender, self.trusted_proxies):
            sender = read_address(hops.pop())
        return sender


def _peer(scope: Scope) -> Address | None:
    client = scope.get("client")
    return read_address(client[0]) if client else None


WIDEST = 7
"""The shortest prefix of a network of trusted proxies whose word for a name counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamingProxy:
    """The trusted proxy that has signed people in, and names each in a header of the request.

    The header counts if the peer of the connection is a trusted proxy, whatever X-Forwarded-For says. `operators` are
    the names of those who may act.
    """

    header: str
    operators: Collection[str]
    proxies: Sequence[Network]

    @classmethod
    def of(cls, settings: Settings) -> NamingProxy | None:
        """Read the settings; None without a proxy. Raises SettingsError if they let in too many, or are at odds."""
        header, operators, proxies = settings.auth_header, settings.auth_operators, settings.trusted_proxies
        if header is None:
            if operators:
                said = "VOICEFLOW_AUTH_OPERATORS is set without VOICEFLOW_AUTH_HEADER"
                raise SettingsError(f"{said}: set this to the header in which your proxy names people")
            return None
        if not proxies:
            said = "VOICEFLOW_AUTH_HEADER is set without VOICEFLOW_TRUSTED_PROXIES"
            raise SettingsError(f"{said}: set this to the address from which your proxy connects")
        if wide := next((each for each in proxies if each.prefixlen < WIDEST), None):
            said = f"VOICEFLOW_TRUSTED_PROXIES has all of {wide}, from where anybody could name themselves"
            raise SettingsError(f"{said}: give the addresses from which your proxy connects alone")
        return cls(header=header, operators=frozenset(operators), proxies=proxies)

    def person(self, scope: Scope) -> tuple[str, bool] | None:
        """Return the name in a request, and whether this person may act; None if no trusted proxy names anybody.

        Raises InvalidInputError for a header that does not certainly hold one name.
        """
        peer, wanted = _peer(scope), self.header.lower().encode()
        values = [value.strip(b" \t") for name, value in scope["headers"] if name.lower() == wanted]
        if peer is None or not is_within(peer, self.proxies) or values in ([], [b""]):
            return None
        name = values[0].decode(errors="replace")
        is_text = name.isprintable() and "\ufffd" not in name and " ".join(name.split()) == name
        if len(values) > 1 or not is_text or "," in name or len(name) > 254:
            said = f"the request does not have one name in the header {self.header}"
            raise InvalidInputError(f"{said}: let the proxy replace what clients send by one name in UTF-8")
        return name, name in self.operators


_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")


def public_path(scope: Scope, path: str) -> str:
    """Return a path of the app as its clients see it: below its mount, and the prefix that a proxy has taken away."""
    shown = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-prefix"), "")
    prefix = shown.rstrip("/") if _PREFIX.fullmatch(shown.rstrip("/")) else ""
    return f"{prefix}{scope.get('root_path', '').rstrip('/')}{path}"


def is_within(address: Address, networks: Sequence[Network]) -> bool:
    """Return whether an address lies in one of the networks."""
    return any(address.version == network.version and address in network for network in networks)


def read_address(text: str) -> Address | None:
    """Return the address in a hop of X-Forwarded-For. A hop may have a port, and brackets around an IPv6 address."""
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
