"""A count of the work under way, and waiting until there is none."""

from __future__ import annotations

import asyncio


class Activity:
    """The number of things that have begun and not ended."""

    def __init__(self) -> None:
        self._open = 0
        self._quiet = asyncio.Event()

    def begin(self) -> None:
        """Something has begun."""
        self._open += 1

    def end(self) -> None:
        """Something that was begun has ended."""
        self._open -= 1
        if self._open == 0:
            self._quiet.set()

    async def quiet(self) -> None:
        """Wait until nothing is under way."""
        while self._open:
            self._quiet.clear()
            await self._quiet.wait()
