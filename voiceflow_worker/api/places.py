"""Who is worked on when: the events of 8x8 first, then so many requests at once, the others in line or waiting."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import anyio

from voiceflow_worker.api.answers import RETRY, ProblemError

if TYPE_CHECKING:
    from collections.abc import Generator

GIVES_WAY = timedelta(milliseconds=250)
"""The longest that a request waits for events of 8x8, so that many of them do not stop all requests."""


class RightOfWay:
    """Lets events of 8x8 go first: a request that comes meanwhile is begun when none of them is being handled."""

    def __init__(self) -> None:
        self._events = 0
        self._free = anyio.Event()

    @contextmanager
    def taken(self) -> Generator[None]:
        """A block in which an event is handled."""
        self._events += 1
        try:
            yield
        finally:
            self._events -= 1
            if not self._events:
                self._free.set()
                self._free = anyio.Event()

    async def give(self) -> None:
        """Wait until no event is being handled, at most `GIVES_WAY`."""
        with anyio.move_on_after(GIVES_WAY.total_seconds()):
            while self._events:
                await self._free.wait()


class Waits:
    """The requests that wait for an outcome. They end when the server stops, and each may be ended alone."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._scopes: set[anyio.CancelScope] = set()
        self._is_over = False

    @property
    def count(self) -> int:
        """The requests that wait now."""
        return len(self._scopes)

    def stop(self) -> None:
        """End all waits, and those that begin from now on."""
        self._is_over = True
        for scope in self._scopes:
            scope.cancel()

    @contextmanager
    def waiting(self, seconds: float) -> Generator[anyio.CancelScope]:
        """A block that is cancelled after this time, or when the server stops. Raises ProblemError if too many wait."""
        if len(self._scopes) >= self._most:
            raise ProblemError(429, f"{self._most} requests wait already; ask again later", headers=RETRY)
        with anyio.move_on_after(0 if self._is_over else seconds) as scope:
            self._scopes.add(scope)
            try:
                yield scope
            finally:
                self._scopes.discard(scope)


class Places:
    """The places of the requests that are worked on: `at_once` of them, and at most `most` with those in line."""

    def __init__(self, *, at_once: int, most: int, way: RightOfWay, timeout: timedelta = timedelta(seconds=5)) -> None:
        self._most = most
        self._way = way
        self._timeout = timeout.total_seconds()
        self._free = anyio.Semaphore(at_once)
        self.count: int = 0
        """The requests that have a place, or are in line for one."""

    def one(self) -> Place:
        """A place for one request, to be taken. Raises ProblemError if too many are in line."""
        if self.count >= self._most:
            raise self.refusal()
        self.count += 1
        return Place(self, self._free, way=self._way, timeout=self._timeout)

    def refusal(self) -> ProblemError:
        """The answer to a request that gets no place."""
        return ProblemError(429, "too many requests at once; try again in a moment", headers={"Retry-After": "1"})


class Place:
    """The place of one request. It is given up while its body arrives, and left before a wait."""

    def __init__(self, places: Places, free: anyio.Semaphore, *, way: RightOfWay, timeout: float) -> None:
        self._places = places
        self._way = way
        self._free = free
        self._timeout = timeout
        self._is_taken = self._has_left = False

    async def take(self) -> None:
        """Wait in line for the place. Raises ProblemError if that takes too long."""
        with anyio.move_on_after(self._timeout):
            await self._free.acquire()
            self._is_taken = True
        if not self._is_taken:
            raise self._places.refusal()
        await self._way.give()

    def give_up(self) -> None:
        """Let another request have the place."""
        if self._is_taken:
            self._is_taken = False
            self._free.release()

    def leave(self) -> None:
        """Give up the place for good, and count no more."""
        self.give_up()
        self._places.count -= not self._has_left
        self._has_left = True
