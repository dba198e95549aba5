"""The session ids of recent answers. A repeated one belongs to the answer of another call."""

from __future__ import annotations

from collections import OrderedDict

REMEMBERED = 4096


class RecentSessions:
    """The last few thousand session ids of one client."""

    __slots__ = ("_are_unique", "_ids")

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._are_unique = True

    def were_given(self, session_id: str) -> bool:
        """Whether this session was answered before; remembers it. False as well once ids were found to repeat."""
        if not self._are_unique:
            return False
        if session_id in self._ids:
            return True
        self._ids[session_id] = None
        if len(self._ids) > REMEMBERED:
            self._ids.popitem(last=False)
        return False

    def do_repeat(self) -> None:
        """A server, such as a simple stand-in, was found to give the same id to several calls: it means nothing."""
        self._are_unique = False
        self._ids.clear()
