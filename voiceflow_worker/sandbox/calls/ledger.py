"""The ledger of all requested calls, in the order in which the sandbox answered, with the phones that rang."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import cast

_TIMES = frozenset({"at", "received_at", "rang_at", "ended_at"})
"""The fields that are in seconds since the epoch."""


class JsonEntry:
    """A dataclass that can be read over HTTP as JSON."""

    __slots__ = ()

    def as_json(self) -> dict[str, object]:
        """Return the fields as JSON. Times are RFC 3339 in UTC; `at_seconds` is `at` in epoch seconds."""
        shown: dict[str, object] = {}
        for each in fields(self):  # type: ignore[arg-type]  # its subclasses are dataclasses
            value = getattr(self, each.name)
            if each.name == "at":
                shown["at_seconds"] = value
            shown[each.name] = moment(value) if each.name in _TIMES and value is not None else _plain(value)
        return shown


@dataclass(slots=True, kw_only=True)
class Ring(JsonEntry):
    """The ringing of a phone, from `rang_at` to `ended_at` (None while the line is in use), in epoch seconds."""

    destination: str | None
    rang_at: float
    ended_at: float | None = None


@dataclass(slots=True, kw_only=True)
class CallEntry(JsonEntry):
    """The entry of one call, outgoing or incoming. `at` is when the call began, in epoch seconds by the true clock.

    `heard` has the texts, and the addresses of files, that the person has heard so far. `pressed` has the keys that
    counted, one entry for each question. `bridged_to` is the second party, once it has answered. `rings` has all phones
    that rang for the call, with true times. `seconds` is the duration of the session by its summary. `price` is the sum
    of the call's rows in the log; it is None if there are no rows. Until the session has ended, `seconds` and `price`
    are None.
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
    """The entry of one POST to the callflows endpoint.

    `received_at` is when the request was read, and `at` is when the call was accepted or refused. They differ only if a
    delay was ordered. `rang` becomes true at acceptance, or later if a script delays the dialling. `answered_with` is
    the answer to the client. `http_status` is None if the answer was not HTTP.
    """

    received_at: float
    client_request_id: str | None = None
    client_batch_id: str | None = None
    valid_until: str | None = None
    answered_with: str = ""
    http_status: int | None = None
    code: int | None = None


class Ledger:
    """All entries of the ledger, oldest first."""

    def __init__(self) -> None:
        self._entries: list[LedgerEntry] = []
        self._grown = asyncio.Event()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[LedgerEntry]:
        return iter(self._entries)

    def append(self, entry: LedgerEntry) -> None:
        """Add an entry. The caller may fill in the fields of the answer later."""
        self._entries.append(entry)
        self._grown.set()

    def clear(self) -> None:
        """Delete all entries."""
        self._entries.clear()

    async def reached(self, count: int) -> None:
        """Wait until there are this many entries."""
        while len(self._entries) < count:
            self._grown.clear()
            await self._grown.wait()


def _plain(value: object) -> object:
    """Return the value in JSON types."""
    if isinstance(value, list | tuple):
        return [each.as_json() if isinstance(each, JsonEntry) else each for each in cast("Sequence[object]", value)]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def moment(seconds: float) -> str:
    """Return a time, given in epoch seconds, as RFC 3339 in UTC, to the microsecond."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
