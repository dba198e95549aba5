"""Who may send a request, before its body is read; wrong secrets are slowed down.

8x8 does not sign its events. A sender can be checked only by the Authorization value that was registered with the
webhook, and by the addresses that 8x8 publishes (8x8 webhook guides, voice IP addresses).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    collapse_addresses,
    ip_address,
)
from typing import TYPE_CHECKING, TypeAlias

import structlog
from starlette.types import Scope

from voiceflow_worker.errors import InvalidInputError, SettingsError
from voiceflow_worker.secret_text import is_one_of

if TYPE_CHECKING:
    from voiceflow_worker.settings import Settings

_LOG = structlog.get_logger("voiceflow.webhooks")

Network: TypeAlias = IPv4Network | IPv6Network
Address: TypeAlias = IPv4Address | IPv6Address


class RefusalReason(StrEnum):
    """The reason for refusing a sender."""

    NETWORK = "network"
    SECRET = "secret"  # noqa: S105 - the name of a reason


class Gatekeeper:
    """Checks that requests come from an allowed network, and that they have the right Authorization header.

    `secrets` are the Authorization values that count (empty: not checked). `allow` are the networks from which
    events may come (empty: all). `trusted_proxies` are the networks whose X-Forwarded-For is believed (empty: none).
    """

    def __init__(
        self, *, secrets: Sequence[str] = (), allow: Sequence[Network] = (), trusted_proxies: Sequence[Network] = ()
    ) -> None:
        self._secrets = tuple(secrets)
        self._allow = tuple(allow)
        self._trusted = tuple(trusted_proxies)

    def refusal(self, scope: Scope) -> RefusalReason | None:
        """The reason for refusing an ASGI request, or None."""
        if self._allow:
            sender = self.sender(scope)
            if sender is None or not is_within(sender, self._allow):
                return RefusalReason.NETWORK
        if self._secrets:
            values = [value for name, value in scope["headers"] if name == b"authorization"]
            if len(values) != 1 or not is_one_of(values[0], self._secrets):
                return RefusalReason.SECRET
        return None

    def is_proxied(self, scope: Scope) -> bool:
        """Whether an ASGI request comes from a trusted proxy."""
        peer = _peer(scope)
        return peer is not None and is_within(peer, self._trusted)

    def sender(self, scope: Scope) -> Address | None:
        """The sender of an ASGI request: the peer, or the nearest hop that is not a trusted proxy.

        X-Forwarded-For is read from its right end, which the nearest proxy wrote. Hops further left than the first
        untrusted hop may be forged. None if the address of the sender cannot be read.
        """
        sender = _peer(scope)
        shown = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
        hops = [hop for value in shown for hop in value.split(",")]
        while sender is not None and hops and is_within(sender, self._trusted):
            sender = read_address(hops.pop())
        return sender


def _peer(scope: Scope) -> Address | None:
    client = scope.get("client")
    return read_address(client[0]) if client else None


WIDEST = 7
"""The shortest prefix of a network of trusted proxies whose word for a name counts."""
_LONGEST = 254


class NamingProxy:
    """The trusted proxy that has signed people in, and names each in a header of the request.

    The header counts if the peer of the connection is a trusted proxy, whatever X-Forwarded-For says. `operators` are
    the names of those who may act.
    """

    def __init__(self, *, header: str, operators: Iterable[str], proxies: Gatekeeper) -> None:
        self._header = header
        self._operators = frozenset(operators)
        self._is_proxied = proxies.is_proxied

    @classmethod
    def of(cls, settings: Settings) -> NamingProxy | None:
        """The proxy of the settings; None without one. Raises SettingsError if they let in too many, or are at odds."""
        header, operators = settings.auth_header, settings.auth_operators
        if header is None:
            if operators:
                raise SettingsError(
                    "VOICEFLOW_AUTH_OPERATORS is set without VOICEFLOW_AUTH_HEADER, and means nothing: set this to the "
                    "header in which your proxy names people, such as X-Forwarded-User"
                )
            return None
        if not settings.trusted_proxies:
            raise SettingsError(
                "VOICEFLOW_AUTH_HEADER is set without VOICEFLOW_TRUSTED_PROXIES, so nobody's header would count: set "
                "this to the address from which your proxy connects"
            )
        old = collapse_addresses([each for each in settings.trusted_proxies if isinstance(each, IPv4Network)])
        new = collapse_addresses([each for each in settings.trusted_proxies if isinstance(each, IPv6Network)])
        joined: list[Network] = [*old, *new]
        if wide := next((each for each in joined if each.prefixlen < WIDEST), None):
            raise SettingsError(
                f"VOICEFLOW_TRUSTED_PROXIES has all of {wide}, from where anybody could name themselves by "
                f"{header}: give the addresses from which your proxy connects alone"
            )
        proxies = Gatekeeper(trusted_proxies=settings.trusted_proxies)
        return cls(header=header, operators=operators, proxies=proxies)

    def person(self, scope: Scope) -> tuple[str, bool] | None:
        """The name in a request, and whether this person may act; None if no trusted proxy names anybody.

        Raises InvalidInputError for a header that does not certainly hold one name.
        """
        name = self._value(scope, self._header) if self._is_proxied(scope) else ""
        if not name:
            return None
        if "," in name or len(name) > _LONGEST or " ".join(name.split()) != name:
            raise InvalidInputError(f"the header {self._header} of the proxy does not have one name: {name[:60]!r}")
        return name, name in self._operators

    def _value(self, scope: Scope, header: str) -> str:
        wanted = header.lower().encode()
        values: list[bytes] = [value for name, value in scope["headers"] if name.lower() == wanted]
        if len(values) > 1:
            raise InvalidInputError(
                f"the request has the header {header} {len(values)} times: let the proxy take away what clients send"
            )
        try:
            text = b"".join(values).decode().strip(" \t")
        except UnicodeDecodeError:
            text = "\0"
        if not text.isprintable():
            raise InvalidInputError(f"the header {header} of the proxy is not a printable text in UTF-8")
        return text


def is_within(address: Address, networks: Sequence[Network]) -> bool:
    """Whether an address lies in one of the networks."""
    return any(address.version == network.version and address in network for network in networks)


def read_address(text: str) -> Address | None:
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


NO_ADDRESS = (
    "requests come without an address that can be read (over a Unix socket they have none), so VOICEFLOW_WEBHOOK_ALLOW "
    "refuses them: let the server listen on 127.0.0.1, and name a proxy before it in VOICEFLOW_TRUSTED_PROXIES"
)
