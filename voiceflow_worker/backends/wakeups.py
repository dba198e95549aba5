"""Wake-ups of the tasks of this process that wait for changes of a queue."""

from __future__ import annotations

import anyio

from voiceflow_worker.core.ports import Clock


class Wakeups:
    """One event per queue, made when a task waits, and dropped when it was set.

    Take the event first and read the store second: a change between the two then sets the event.
    """

    def __init__(self) -> None:
        self._events: dict[str, anyio.Event] = {}

    def event(self, queue: str) -> anyio.Event:
        """The event that the queue's next change sets."""
        return self._events.setdefault(queue, anyio.Event())

    def wake(self, queue: str) -> None:
        """Wake all tasks that wait for this queue."""
        if (event := self._events.pop(queue, None)) is not None:
            event.set()


async def either(event: anyio.Event, clock: Clock, *, within: float) -> None:
    """Return when `event` is set, or when `within` seconds have passed on `clock`."""

    async def give_up() -> None:
        await clock.sleep(within)
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(give_up)
        await event.wait()
        group.cancel_scope.cancel()
