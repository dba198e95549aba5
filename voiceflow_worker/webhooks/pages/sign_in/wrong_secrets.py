"""The limits on wrong secrets at the sign-in form."""

from __future__ import annotations

import math
from collections import OrderedDict
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import TypeAlias

from voiceflow_worker.model.jobs.gcra import departures

Address: TypeAlias = IPv4Address | IPv6Address
MOST_ADDRESSES = 10_000
"""Addresses that are remembered; the limit on all together holds for those that are forgotten."""


class WrongSecrets:
    """Counts wrong secrets in this process: a few at once, then one in a while, for one address and for all together.

    An address from which somebody has signed in is not held up by the wrong secrets of others.
    """

    def __init__(
        self,
        *,
        at_once: int = 5,
        then_every: timedelta = timedelta(minutes=1),
        all_at_once: int = 100,
        then_all_every: timedelta = timedelta(seconds=5),
    ) -> None:
        self._of_one = (at_once, 1 / then_every.total_seconds())
        self._of_all = (all_at_once, 1 / then_all_every.total_seconds())
        self._states: OrderedDict[str, float] = OrderedDict()
        self._all = 0.0
        self._trusted: OrderedDict[str, None] = OrderedDict()

    def wait(self, address: Address | None, *, at: datetime) -> timedelta | None:
        """How long this address must wait before it may try; None if it may try now."""
        name, now = _name(address), at.timestamp()
        free = [_try(self._states.get(name, 0.0), self._of_one, now)[0]]
        if name not in self._trusted:
            free.append(_try(self._all, self._of_all, now)[0])
        latest = max(free)
        return timedelta(seconds=math.ceil(latest - now)) if latest > now else None

    def failed(self, address: Address | None, *, at: datetime) -> None:
        """Count a wrong secret."""
        name, now = _name(address), at.timestamp()
        self._states[name] = _try(self._states.get(name, 0.0), self._of_one, now)[1]
        self._all = _try(self._all, self._of_all, now)[1]
        _keep_newest(self._states, name)

    def succeeded(self, address: Address | None) -> None:
        """Remember an address from which somebody has signed in."""
        self._trusted[_name(address)] = None
        _keep_newest(self._trusted, _name(address))


def _try(tat: float, limit: tuple[int, float], now: float) -> tuple[float, float]:
    """When the next try is free, and the state after it."""
    found = departures(tat=tat, wanted=1, rate=limit[1], burst=limit[0], now=now, horizon=0)
    return (found.times[0] if found.times else found.next_at), found.tat


def _name(address: Address | None) -> str:
    """One name for all addresses that one machine can easily have: a whole /64 of IPv6."""
    if isinstance(address, IPv6Address):
        return str(ip_network((address, 64), strict=False))
    return str(address)


def _keep_newest(kept: OrderedDict[str, float] | OrderedDict[str, None], name: str) -> None:
    kept.move_to_end(name)
    if len(kept) > MOST_ADDRESSES:
        kept.popitem(last=False)
