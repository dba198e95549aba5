"""The live parts of pages. A part is read at most once a second, for all browsers that show the same page."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256

import anyio

SHARED_FOR = timedelta(seconds=1)
MOST_KEPT = 256
"""The largest number of pages whose live parts are kept."""


@dataclass(frozen=True, slots=True)
class LivePart:
    """The live part of a page as HTML. `tag` is its ETag, which changes with the HTML."""

    html: bytes
    tag: str


@dataclass(slots=True)
class _Kept:
    lock: anyio.Lock = field(default_factory=anyio.Lock)
    part: LivePart | None = None
    made_at: float = 0.0


class LiveParts:
    """A cache of live parts, by key. `SHARED_FOR` after a part was made, the next request makes it again.

    Requests that come at the same time wait for one reading of the store. `clock` is a monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()

    async def get(self, key: Hashable, make: Callable[[], Awaitable[bytes | None]]) -> LivePart | None:
        """The live part under this key. If there is no fresh part, `make` makes it. A result of None is not kept."""
        kept = self._kept.setdefault(key, _Kept())
        self._kept.move_to_end(key)
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        async with kept.lock:
            now = self._clock()
            if kept.part is None or now - kept.made_at >= SHARED_FOR.total_seconds():
                html = await make()
                kept.part = None if html is None else LivePart(html, f'"{sha256(html).hexdigest()[:16]}"')
                kept.made_at = now
            return kept.part
