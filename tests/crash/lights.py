"""The lights for those who start processes and kill them: go on, let them live, or end them and wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto


class Light(Enum):
    """What is allowed."""

    GO = auto()
    """Start and kill."""
    LIVE = auto()
    """Whoever lives is left alive: a person is at work, and kills would meet nothing."""
    CLOSED = auto()
    """Whoever lives is left alive, and nothing is started."""
    STOP = auto()
    """Everything is ended, and nothing started: the store is closed."""


class Lights:
    """One light for all; threads wait for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._light = Light.GO
        self._over = False
        self._alive = 0

    @property
    def is_over(self) -> bool:
        return self._over

    def end(self) -> None:
        """The run is over: nobody waits any more."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until the run is over, which is what it says; less when everything is to be ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._light is Light.STOP, seconds)
            return self._over

    def sleep(self, seconds: float) -> bool:
        """Wait so long, or until the run is over, which is what it says."""
        with self._changed:
            self._changed.wait_for(lambda: self._over, seconds)
            return self._over

    def may_start(self) -> bool:
        """Wait until a process may be started; False when the run is over. `ended` must follow."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._light in {Light.GO, Light.LIVE})
            if not self._over:
                self._alive += 1
            return not self._over

    def ended(self) -> None:
        """A process that was allowed has ended."""
        with self._changed:
            self._alive -= 1
            self._changed.notify_all()

    def may_kill(self) -> bool:
        """Wait until a process may be killed: because kills go on, or everything is to be ended. False: the latter."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._light in {Light.GO, Light.STOP})
            return self._light is not Light.STOP

    def turn(self, light: Light) -> None:
        """Switch; for `STOP` this returns when everything has ended."""
        with self._changed:
            self._light = light
            self._changed.notify_all()
            if light is Light.STOP:
                self._changed.wait_for(lambda: self._over or self._alive == 0)

    @contextmanager
    def switched(self, light: Light) -> Iterator[None]:
        """Switch for the length of the block."""
        self.turn(light)
        try:
            yield
        finally:
            self.turn(Light.GO)
