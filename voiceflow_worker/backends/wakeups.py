"""How waiting tasks of this process learn that a queue has changed."""

from __future__ import annotations

import anyio


class Wakeups:
    """One event per queue, made when somebody waits and spent when it wakes them.

    Take the event first and look at the store second: a change between the two then sets the event that is held.
    """

    def __init__(self) -> None:
        self._events: dict[str, anyio.Event] = {}

    def event(self, queue: str) -> anyio.Event:
        """The event that the queue's next change sets."""
        event = self._events.get(queue)
        if event is None:
            event = self._events[queue] = anyio.Event()
        return event

    def wake(self, queue: str) -> None:
        """Wake everybody who waits for this queue."""
        event = self._events.pop(queue, None)
        if event is not None:
            event.set()
