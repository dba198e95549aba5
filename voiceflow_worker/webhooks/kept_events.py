"""Webhook events that the receiver could not understand, kept for a week so that people can inspect them.

A record has the body, the sender's address and the content type; never the Authorization header.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import anyio
from ulid import ULID

from voiceflow_worker.core.ports import Store

MOST = 1000
"""Events that are kept: the newest."""
KEPT_FOR = timedelta(days=7)
LONGEST = 16_384
"""Bytes of a body that are kept."""

_LABELS, _BODIES = "odd-webhook", "odd-webhook-body"
_ROOM = 100
"""Room made at once: the labels, some 200 KB, are not read for each event."""
_LONGEST_TEXT = 200


class OddReason(StrEnum):
    """Why an event was kept."""

    NOT_JSON = "not_json"
    NOT_AN_EVENT = "not_an_event"
    """JSON, but not an object with a payload."""
    UNKNOWN_EVENT = "unknown_event"
    """An event type, or a product, that this version does not know."""
    UNKNOWN_STATUS = "unknown_status"
    """A session summary with a missing or unknown status."""
    NO_SESSION = "no_session"
    """An event about a call that names no session."""
    FAILURE = "failure"
    """The receiver failed and answered 500."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OddEvent:
    """An event to keep, as it arrived. `sender` is the address that the receiver checked."""

    reason: OddReason
    answered: int
    body: bytes
    event_type: str | None = None
    sender: str | None = None
    content_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptLabel:
    """A kept event without its body; `size` is the length of the whole body."""

    id: str
    at: datetime
    reason: str
    answered: int
    size: int
    event_type: str | None = None
    sender: str | None = None
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class KeptEvent:
    """A kept event with the first 16 KB of its body."""

    label: KeptLabel
    body: bytes

    @property
    def is_cut(self) -> bool:
        """Whether the body was longer."""
        return len(self.body) < self.label.size


class KeptEvents:
    """The newest 1,000 odd events of a store, each for seven days.

    Several receivers together may exceed the number: each looks after 100 events of its own. Methods raise StoreError.
    """

    def __init__(self, store: Store) -> None:
        self._records = store.records
        self._clock = store.clock
        self._making_room = anyio.Lock()
        self._room = 0

    async def keep(self, odd: OddEvent) -> bool:
        """Keep an event."""
        async with self._making_room:
            if not self._room:
                keys = await self._keys()
                await self._drop(keys[: max(len(keys) + _ROOM - MOST, 0)])
                self._room = _ROOM
            self._room -= 1
        now = self._clock.now()
        key = str(ULID.from_datetime(now)).lower()
        label = {"at": now.isoformat(), "reason": odd.reason.value, "answered": odd.answered, "size": len(odd.body)}
        texts = {"event_type": odd.event_type, "sender": odd.sender, "content_type": odd.content_type}
        label |= {name: text[:_LONGEST_TEXT] for name, text in texts.items() if text is not None}
        body = base64.b64encode(odd.body[:LONGEST]).decode()
        # The body first: a label that is listed has its body.
        await self._records.put(_BODIES, {key: body}, expires_at=now + KEPT_FOR, now=now)
        await self._records.put(_LABELS, {key: json.dumps(label)}, expires_at=now + KEPT_FOR, now=now)
        return True

    async def newest(self, limit: int | None = None) -> Sequence[KeptLabel]:
        """At most `limit` kept events (None: all), the newest first."""
        found = await self._records.scan(_LABELS, now=self._clock.now(), limit=10 * MOST)
        return [_label(key, text) for key, text in reversed(found)][: MOST if limit is None else min(limit, MOST)]

    async def get(self, event_id: str) -> KeptEvent | None:
        """One event with its body; None if it is not kept."""
        now = self._clock.now()
        labels = await self._records.get(_LABELS, [event_id], now=now)
        bodies = await self._records.get(_BODIES, [event_id], now=now)
        if event_id not in labels or event_id not in bodies:
            return None
        return KeptEvent(_label(event_id, labels[event_id]), base64.b64decode(bodies[event_id]))

    async def clear(self) -> int:
        """Delete all kept events; returns how many there were."""
        keys = await self._keys()
        await self._drop(keys)
        return len(keys)

    async def _keys(self) -> list[str]:
        return [key for key, _ in await self._records.scan(_LABELS, now=self._clock.now(), limit=10 * MOST)]

    async def _drop(self, keys: Sequence[str]) -> None:
        for namespace in (_LABELS, _BODIES):
            await self._records.delete(namespace, dict.fromkeys(keys))


def _label(key: str, text: str) -> KeptLabel:
    stored = json.loads(text)
    known: dict[str, Any] = {each.name: stored[each.name] for each in fields(KeptLabel) if each.name in stored}
    known |= {"id": key, "at": datetime.fromisoformat(stored["at"])}
    return KeptLabel(**known)
