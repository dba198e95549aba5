"""The session ids of recent answers. An answer with a repeated id may be the answer to another call."""

from __future__ import annotations

from collections import OrderedDict

REMEMBERED = 4096


class RecentSessions:
    """The last 4096 session ids that one client received."""

    __slots__ = ("_are_unique", "_ids")

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._are_unique = True

    def were_given(self, session_id: str) -> bool:
        """Remember a session id. Returns whether it was known already; after `do_repeat` was called, always False."""
        if not self._are_unique:
            return False
        if session_id in self._ids:
            return True
        self._ids[session_id] = None
        if len(self._ids) > REMEMBERED:
            self._ids.popitem(last=False)
        return False

    def do_repeat(self) -> None:
        """Record that the server gives several calls the same id, as a stand-in for 8x8 may. Ids then prove nothing."""
        self._are_unique = False
        self._ids.clear()
