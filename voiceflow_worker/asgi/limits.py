"""Time limits of all that a receiver serves, and the length of a body.

`docs/deploy/README.md` has the longest, for proxies.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.types import Message, Receive

CONNECTION: Final = timedelta(seconds=75)
"""A connection without a request is kept for it after an answer: longer than proxies and senders keep theirs (60 s)."""
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
    """Return a `receive` that raises `otherwise` when the body has more than `longest` bytes."""
    left = longest

    async def limited() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise otherwise
        return message

    return limited
