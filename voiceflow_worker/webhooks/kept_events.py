"""Webhook events that could not be understood, kept for a week, without their Authorization headers."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from ulid import ULID

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.record_set import RecordSet, text_records

MOST = 1000
"""The largest number of events that are kept."""
KEPT_FOR = timedelta(days=7)
LONGEST = 16_384
"""The largest number of bytes of a body that are kept. The rest is cut off."""

_ROOM = 100
"""The number of events that a receiver keeps between two deletions of the oldest events. A deletion reads the labels
of all kept events, about 200 KB: too much work for each new event."""
_LONGEST_TEXT = 200


class OddReason(StrEnum):
    """The reason why an event was kept.

    NOT_AN_EVENT: the JSON is not an object, or has no payload. UNKNOWN_EVENT: this version does not know the type or
    the product of the event. UNKNOWN_STATUS: a session summary has an unknown status or none. NO_SESSION: the event is
    about a call, but names no session. FAILURE: the receiver failed and answered 500.
    """

    NOT_JSON = "not_json"
    NOT_AN_EVENT = "not_an_event"
    UNKNOWN_EVENT = "unknown_event"
    UNKNOWN_STATUS = "unknown_status"
    NO_SESSION = "no_session"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True, kw_only=True)
class OddEvent:
    """An event that could not be understood, as it arrived. `sender` is the address that the receiver checked."""

    reason: OddReason
    answered: int
    body: bytes = b""
    event_type: str | None = None
    sender: str | None = None
    content_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptEvent(OddEvent):
    """A kept event. `body` is cut after 16 KB, and empty in a list of events; `size` is the full length in bytes."""

    id: str
    at: datetime
    size: int


class KeptEvents:
    """The newest events that could not be understood, at most 1,000, each kept in the store for seven days.

    Before every 100th event that a receiver keeps, it deletes all but the newest 900. Several receivers together may
    therefore keep more than 1,000 for a while. Methods raise StoreError.
    """

    def __init__(self, store: Store) -> None:
        self._labels = RecordSet(store, "odd-webhook", write=_write, read=_read, keep_for=KEPT_FOR)
        self._bodies = text_records(store, "odd-webhook-body", keep_for=KEPT_FOR)
        self._clock = store.clock
        self._room = 0

    async def keep(self, odd: OddEvent) -> bool:
        """Keep an event. Always returns True; errors are raised."""
        if not self._room:
            self._room = _ROOM
            await self._drop_all_but(MOST - _ROOM)
        self._room -= 1
        now = self._clock.now()
        key = str(ULID.from_datetime(now)).lower()
        # The body is stored first, so that every listed event has its body.
        await self._bodies.put({key: base64.b64encode(odd.body[:LONGEST]).decode()})
        await self._labels.put({key: KeptEvent(**asdict(odd), id=key, at=now, size=len(odd.body))})
        return True

    async def newest(self, limit: int | None = None) -> Sequence[KeptEvent]:
        """At most `limit` kept events, and at most 1,000, the newest first, without their bodies."""
        return (await self._labels.values())[::-1][: MOST if limit is None else min(limit, MOST)]

    async def get(self, event_id: str) -> KeptEvent | None:
        """One event with its body; None if it is not kept."""
        label = (await self._labels.get([event_id])).get(event_id)
        body = (await self._bodies.get([event_id])).get(event_id)
        return None if label is None or body is None else replace(label, body=base64.b64decode(body))

    async def clear(self) -> int:
        """Delete all kept events, and return their number."""
        return await self._drop_all_but(0)

    async def _drop_all_but(self, newest: int) -> int:
        keys = [key for key, _ in await self._labels.all()]
        dropped = keys[: max(len(keys) - newest, 0)]
        await self._labels.remove(dropped)
        await self._bodies.remove(dropped)
        return len(dropped)


def _write(event: KeptEvent) -> str:
    texts = {name: value[:_LONGEST_TEXT] for name, value in asdict(event).items() if isinstance(value, str)}
    return json.dumps(texts | {"at": event.at.isoformat(), "answered": event.answered, "size": event.size})


def _read(key: str, text: str) -> KeptEvent:
    stored = json.loads(text)
    decoded = {"id": key, "at": datetime.fromisoformat(stored["at"]), "reason": OddReason(stored["reason"])}
    return KeptEvent(**stored | decoded)
