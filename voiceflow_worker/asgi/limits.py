"""What each request may take: the time limits of all that a receiver serves, the length of a body, a client that waits.

`docs/deploy/README.md` has the time limits as a table, for proxies too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

import anyio

if TYPE_CHECKING:
    from starlette.types import Message, Receive

T = TypeVar("T")

CONNECTION: Final = timedelta(seconds=75)
"""How long a connection without a request is kept after an answer: longer than proxies and senders keep theirs (60 s,
as a rule). Whoever sends an event on a connection that is closed in this moment has lost it."""
HEAD: Final = timedelta(seconds=10)
"""The head of a request arrives within it, counted from the connection, or else the connection is closed."""
BODY: Final = timedelta(seconds=10)
"""The body of an event arrives within it."""
EVENT: Final = timedelta(seconds=4)
"""An event is stored and answered within it, or answered with 503."""
KEY_PRESS: Final = timedelta(seconds=10)
"""A key press in a menu is answered within it."""
PAGE: Final = timedelta(seconds=10)
"""A page of the console is read within it."""
ACTION: Final = timedelta(seconds=60)
"""An action in the console, and the question before it."""
WAIT: Final = timedelta(seconds=60)
"""The longest `?wait=` of /v1."""
WORK: Final = timedelta(minutes=10)
"""On the pages, a campaign is previewed or started, or a report is exported, within it."""


def at_most(receive: Receive, longest: int, *, otherwise: Exception) -> Receive:
    """A `receive` that raises `otherwise` when the body has more than `longest` bytes."""
    left = longest

    async def limited() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise otherwise
        return message

    return limited


async def while_connected(
    receive: Receive, work: Callable[[], Awaitable[T]], *ends: Callable[[], Awaitable[object]]
) -> T | None:
    """Run `work`, and return its result. If the client leaves, or one of `ends` comes, cancel it and return None."""
    done: list[T] = []
    failed: list[Exception] = []

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def ends_with(end: Callable[[], Awaitable[object]]) -> None:
        await end()
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for end in (gone, *ends):
            group.start_soon(ends_with, end)
        try:
            done.append(await work())
        except Exception as error:  # noqa: BLE001 - raised below: a task group would wrap it
            failed.append(error)
        group.cancel_scope.cancel()
    if failed:
        raise failed[0]
    return done[0] if done else None
