"""The ledger: every requested call, in the order in which the sandbox answered, and whether a phone rang for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import cast

_TIMES = frozenset({"at", "received_at", "rang_at", "ended_at"})
"""Fields in seconds since the epoch."""


class JsonEntry:
    """A dataclass that is read over HTTP as JSON."""

    __slots__ = ()

    def as_json(self) -> dict[str, object]:
        """The fields: times as RFC 3339 in UTC, `at` also in epoch seconds as `at_seconds`."""
        shown: dict[str, object] = {}
        for each in fields(self):  # type: ignore[arg-type]  # its subclasses are dataclasses
            value = getattr(self, each.name)
            if each.name == "at":
                shown["at_seconds"] = value
            shown[each.name] = moment(value) if each.name in _TIMES and value is not None else _plain(value)
        return shown


@dataclass(slots=True, kw_only=True)
class Ring(JsonEntry):
    """A ringing: its begin, and the end of the line's use (None: still in use), in epoch seconds."""

    destination: str | None
    rang_at: float
    ended_at: float | None = None


@dataclass(slots=True, kw_only=True)
class CallEntry(JsonEntry):
    """One call, outgoing or incoming; `at` (seconds since the epoch, by the true clock) is when it began.

    `heard` is what was said to the person so far (texts, and addresses of files), `pressed` their keys that counted,
    one entry for each question; `bridged_to` is the second party, once it has answered. `rings` are all telephones that
    rang for it, by the true clock. `seconds` is the duration of the session by the times in its summary, and
    `price` that of its rows in the log; both are None before the end, and `price` for a call without rows.
    """

    at: float
    source: str | None = None
    destination: str | None = None
    sub_account: str | None = None
    session_id: str | None = None
    rang: bool = False
    outcome: str | None = None
    heard: Sequence[str] = ()
    pressed: Sequence[str | None] = ()
    bridged_to: str | None = None
    rings: list[Ring] = field(default_factory=list[Ring])
    seconds: float | None = None
    price: str | None = None


@dataclass(slots=True, kw_only=True)
class LedgerEntry(CallEntry):
    """One POST to the callflows endpoint.

    `at` is when the call was accepted or refused; `received_at` when the request was in, which is earlier only if a
    delay was ordered. `rang` turns true at `at`, or later if a script delays the dialling. `answered_with` is the
    answer to the client, and `http_status` is None if that was no HTTP answer.
    """

    received_at: float
    client_request_id: str | None = None
    client_batch_id: str | None = None
    valid_until: str | None = None
    answered_with: str = ""
    http_status: int | None = None
    code: int | None = None


class Ledger:
    """All entries, oldest first."""

    def __init__(self) -> None:
        self._entries: list[LedgerEntry] = []
        self._grown = asyncio.Event()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[LedgerEntry]:
        return iter(self._entries)

    def append(self, entry: LedgerEntry) -> None:
        """Add an entry. The caller may fill in the fields of its answer later."""
        self._entries.append(entry)
        self._grown.set()

    def clear(self) -> None:
        """Forget all entries."""
        self._entries.clear()

    async def reached(self, count: int) -> None:
        """Wait until there are this many entries."""
        while len(self._entries) < count:
            self._grown.clear()
            await self._grown.wait()


def _plain(value: object) -> object:
    """The value in types of JSON."""
    if isinstance(value, list | tuple):
        return [each.as_json() if isinstance(each, JsonEntry) else each for each in cast("Sequence[object]", value)]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def moment(seconds: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC, to the microsecond."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
