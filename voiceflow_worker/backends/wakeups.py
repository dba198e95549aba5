"""Wake-ups for the tasks of this process that wait for changes of a queue."""

from __future__ import annotations

import anyio

from voiceflow_worker.core.ports import Clock


class Wakeups:
    """The anyio events of all queues. An event is made when a task begins to wait, and dropped when it is set.

    Get the event before you read the store, so that a change after the reading sets the event.
    """

    def __init__(self) -> None:
        self._events: dict[str, anyio.Event] = {}

    def event(self, queue: str) -> anyio.Event:
        """The event that the next change of the queue will set."""
        return self._events.setdefault(queue, anyio.Event())

    def wake(self, queue: str) -> None:
        """Wake all tasks that wait for this queue."""
        if (event := self._events.pop(queue, None)) is not None:
            event.set()


async def either(event: anyio.Event, clock: Clock, *, within: float) -> None:
    """Wait until `event` is set, but at most `within` seconds by `clock`."""

    async def give_up() -> None:
        await clock.sleep(within)
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(give_up)
        await event.wait()
        group.cancel_scope.cancel()
