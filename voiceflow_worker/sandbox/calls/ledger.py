"""The ledger: every call that was requested, in the order of the decisions, and whether a phone rang for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass(slots=True, kw_only=True)
class Ring:
    """A ringing: its begin, and the end of the line's use (None: still in use), in epoch seconds."""

    destination: str | None
    rang_at: float
    ended_at: float | None = None

    def as_json(self) -> dict[str, object]:
        """The ringing as JSON."""
        return {
            "destination": self.destination,
            "rang_at": moment(self.rang_at),
            "ended_at": None if self.ended_at is None else moment(self.ended_at),
        }


@dataclass(slots=True, kw_only=True)
class LedgerEntry:
    """One POST to the callflows endpoint.

    `at` (seconds since the epoch, by the true clock) is when the call was accepted or refused; `received_at` when the
    request was in, which is earlier only if a delay was ordered. `rang` turns true at `at`, or later where a script has
    the call dialled later. `answered_with` says what the client was given, and `http_status` is None if that was no
    HTTP answer.

    `heard` is what was said to the person so far (texts, and addresses of files), `pressed` what was heard of their
    keys, one for each question; `bridged_to` is the second party, once it has answered. `rings` are all telephones that
    rang for it, by the true clock.
    """

    at: float
    received_at: float
    source: str | None = None
    destination: str | None = None
    client_request_id: str | None = None
    client_batch_id: str | None = None
    valid_until: str | None = None
    sub_account: str | None = None
    session_id: str | None = None
    rang: bool = False
    answered_with: str = ""
    http_status: int | None = None
    code: int | None = None
    outcome: str | None = None
    heard: Sequence[str] = ()
    pressed: Sequence[str | None] = ()
    bridged_to: str | None = None
    rings: list[Ring] = field(default_factory=list[Ring])

    def as_json(self) -> dict[str, object]:
        """The entry as JSON: times as RFC 3339 in UTC, `at_seconds` is `at` in epoch seconds."""
        return {
            "at": moment(self.at),
            "destination": self.destination,
            "client_request_id": self.client_request_id,
            "session_id": self.session_id,
            "rang": self.rang,
            "answered_with": self.answered_with,
            "at_seconds": self.at,
            "received_at": moment(self.received_at),
            "source": self.source,
            "client_batch_id": self.client_batch_id,
            "valid_until": self.valid_until,
            "sub_account": self.sub_account,
            "http_status": self.http_status,
            "code": self.code,
            "outcome": self.outcome,
            "heard": list(self.heard),
            "pressed": list(self.pressed),
            "bridged_to": self.bridged_to,
            "rings": [ring.as_json() for ring in self.rings],
        }


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
        """Add an entry. It may be completed while its request is answered."""
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


def moment(seconds: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC, to the microsecond."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
