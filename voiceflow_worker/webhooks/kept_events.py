"""What came to the receiver and could not be understood: kept for a while, for people to look at.

A record has the body and where it came from; never the Authorization header, nor any other that was not asked for.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from ulid import ULID

from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.batching import Batcher

MOST = 1000
"""Events that are kept: the newest."""
KEPT_FOR = timedelta(days=7)
LONGEST = 16_384
"""Bytes of a body that are kept."""

_LABELS = "odd-webhook"
_BODIES = "odd-webhook-body"
_ROOM = 100
"""How many are dropped at once beyond what must be: the labels, some 200 KB, are not read for each event."""
_SHORT = 200


class OddReason(StrEnum):
    """Why an event was kept."""

    NOT_JSON = "not_json"
    NOT_AN_EVENT = "not_an_event"
    """JSON, but no object, or one without a payload."""
    UNKNOWN_EVENT = "unknown_event"
    """An event of a type, or of a product, that this version does not know."""
    UNKNOWN_STATUS = "unknown_status"
    """A session summary with a status that this version does not know, or with none."""
    NO_SESSION = "no_session"
    """An event about a call that names no session."""
    FAILURE = "failure"
    """It was answered with 500: this is a fault of the receiver's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OddEvent:
    """Something odd, as it came. `sender` is the address it was judged by."""

    reason: OddReason
    answered: int
    body: bytes
    event_type: str | None = None
    sender: str | None = None
    content_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptLabel:
    """What is told of a kept event without its body; `size` is the body's own, also where it was cut."""

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
    """A kept event with its body, of which at most 16 KB were kept."""

    label: KeptLabel
    body: bytes

    @property
    def is_cut(self) -> bool:
        """Whether the body was longer than what is here."""
        return len(self.body) < self.label.size


class KeptEvents:
    """The odd events of a store: the newest 1,000, for seven days.

    A receiver never stores more than that. Several at once may, for as long as none of them looks: each does after 100
    events of its own.
    """

    def __init__(self, store: Store) -> None:
        self._records = store.records
        self._clock = store.clock
        self._batcher: Batcher[OddEvent, bool] = Batcher(self._write)
        self._room = 0
        """How many may be written before the next look at what is there."""

    async def keep(self, odd: OddEvent) -> bool:
        """Keep an event. Raises StoreError."""
        return await self._batcher.submit(odd)

    async def newest(self, limit: int | None = None) -> Sequence[KeptLabel]:
        """What is kept, the newest first, at most `limit` (None: all). Raises StoreError."""
        labels = [_label(key, text) for key, text in reversed(await self._labels())]
        return labels[: MOST if limit is None else min(limit, MOST)]

    async def get(self, event_id: str) -> KeptEvent | None:
        """One event with its body; None if it is not there, or no more. Raises StoreError."""
        now = self._clock.now()
        labels = await self._records.get(_LABELS, [event_id], now=now)
        bodies = await self._records.get(_BODIES, [event_id], now=now)
        if event_id not in labels or event_id not in bodies:
            return None
        return KeptEvent(_label(event_id, labels[event_id]), _body_read(bodies[event_id]))

    async def clear(self) -> int:
        """Forget all of them; says how many. Raises StoreError."""
        keys = [key for key, _ in await self._labels()]
        await self._drop(keys)
        return len(keys)

    async def _write(self, odd: Sequence[OddEvent]) -> list[bool | BaseException]:
        now = self._clock.now()
        odd_kept = odd[-MOST:]
        if self._room < len(odd_kept):
            await self._make_room(len(odd_kept))
        self._room -= len(odd_kept)
        labels: dict[str, str] = {}
        bodies: dict[str, str] = {}
        for each in odd_kept:
            key = str(ULID.from_datetime(now)).lower()
            labels[key], bodies[key] = _label_text(each, at=now), _body_text(each.body[:LONGEST])
        # The body first: whoever finds a label finds its body.
        await self._records.put(_BODIES, bodies, expires_at=now + KEPT_FOR, now=now)
        await self._records.put(_LABELS, labels, expires_at=now + KEPT_FOR, now=now)
        return [True] * len(odd)

    async def _make_room(self, wanted: int) -> None:
        keys = [key for key, _ in await self._labels()]
        room = max(wanted, _ROOM)
        excess = len(keys) + room - MOST
        if excess > 0:
            await self._drop(keys[:excess])
        self._room = min(room, MOST)

    async def _labels(self) -> list[tuple[str, str]]:
        return list(await self._records.scan(_LABELS, now=self._clock.now(), limit=10 * MOST))

    async def _drop(self, keys: Sequence[str]) -> None:
        await self._records.delete(_LABELS, dict.fromkeys(keys))
        await self._records.delete(_BODIES, dict.fromkeys(keys))


def _label_text(odd: OddEvent, *, at: datetime) -> str:
    label = KeptLabel(
        id="",
        at=at,
        reason=odd.reason.value,
        answered=odd.answered,
        size=len(odd.body),
        event_type=_short(odd.event_type),
        sender=_short(odd.sender),
        content_type=_short(odd.content_type),
    )
    kept = {name: value for name, value in asdict(label).items() if name != "id" and value is not None}
    return json.dumps(kept, default=datetime.isoformat)


def _label(key: str, text: str) -> KeptLabel:
    told: dict[str, Any] = json.loads(text)
    known: dict[str, Any] = {each.name: told[each.name] for each in fields(KeptLabel) if each.name in told}
    known["id"], known["at"] = key, datetime.fromisoformat(told["at"])
    return KeptLabel(**known)


def _short(text: str | None) -> str | None:
    return None if text is None else text[:_SHORT]


def _body_text(body: bytes) -> str:
    """Bytes as a text that every store keeps: base64, for they may be anything."""
    return base64.b64encode(body).decode()


def _body_read(text: str) -> bytes:
    return base64.b64decode(text)
