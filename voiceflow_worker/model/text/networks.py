"""Networks as people write them: addresses and ranges, with commas between."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TypeAlias, cast

Network: TypeAlias = IPv4Network | IPv6Network


def read_networks(value: object) -> tuple[Network, ...]:
    """The networks of `10.0.0.0/8, 18.140.80.2`, or of a list of such. Raises ValueError."""
    parts = value.split(",") if isinstance(value, str) else cast("Sequence[object]", value)
    try:
        return tuple(ip_network(str(part).strip()) for part in parts if str(part).strip())
    except (TypeError, ValueError) as error:
        raise ValueError(f"{error}; give networks with commas between, such as 10.0.0.0/8, 18.140.80.2") from None
