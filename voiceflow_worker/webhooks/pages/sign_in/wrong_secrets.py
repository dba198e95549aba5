"""The limits on wrong secrets at the sign-in form."""

from __future__ import annotations

import math
from collections import OrderedDict
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import TypeAlias

from voiceflow_worker.model.jobs.gate import departures

Address: TypeAlias = IPv4Address | IPv6Address
MOST_ADDRESSES = 10_000
"""The most addresses that are remembered. The oldest is forgotten first, and then has only the common limit."""

_OF_ONE = (5, 1 / 60)
"""The limit of one address: the tries that are allowed at once, and the rate of later tries, in tries per second."""


class WrongSecrets:
    """The limits for wrong secrets in this process: one for each address, and one for all addresses together.

    A few wrong secrets are allowed at once, and then one at each interval. The common limit for all addresses does not
    apply to an address from which somebody has signed in.
    """

    def __init__(self, *, all_at_once: int = 100) -> None:
        self._of_all = (all_at_once, 1 / 5)
        self._states: OrderedDict[str, float] = OrderedDict()
        self._all = 0.0
        self._trusted: OrderedDict[str, None] = OrderedDict()

    def wait(self, address: Address | None, *, at: datetime) -> timedelta | None:
        """The time that this address must wait before the next try; None if it may try now."""
        name, now = _name(address), at.timestamp()
        free = [_try(self._states.get(name, 0.0), _OF_ONE, now)[0]]
        if name not in self._trusted:
            free.append(_try(self._all, self._of_all, now)[0])
        latest = max(free)
        return timedelta(seconds=math.ceil(latest - now)) if latest > now else None

    def failed(self, address: Address | None, *, at: datetime) -> None:
        """Count a wrong secret from this address."""
        name, now = _name(address), at.timestamp()
        self._states[name] = _try(self._states.get(name, 0.0), _OF_ONE, now)[1]
        self._all = _try(self._all, self._of_all, now)[1]
        _keep_newest(self._states, name)

    def succeeded(self, address: Address | None) -> None:
        """Remember an address from which somebody has signed in."""
        self._trusted[_name(address)] = None
        _keep_newest(self._trusted, _name(address))


def _try(tat: float, limit: tuple[int, float], now: float) -> tuple[float, float]:
    """The time at which the next try is allowed, and the new `tat` if a try is made now.

    `tat` is the theoretical arrival time of the generic cell rate algorithm; see `departures`.
    """
    found = departures(tat=tat, wanted=1, rate=limit[1], burst=limit[0], now=now, horizon=0)
    return (found.times[0] if found.times else found.next_at), found.tat


def _name(address: Address | None) -> str:
    """The name under which an address is counted. All addresses in a /64 of IPv6 share a name."""
    if isinstance(address, IPv6Address):
        return str(ip_network((address, 64), strict=False))
    return str(address)


def _keep_newest(kept: OrderedDict[str, float] | OrderedDict[str, None], name: str) -> None:
    kept.move_to_end(name)
    if len(kept) > MOST_ADDRESSES:
        kept.popitem(last=False)
