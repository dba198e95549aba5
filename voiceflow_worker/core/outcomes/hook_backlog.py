"""What a hook still has to be told: records, so that a restart and another process find them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from voiceflow_worker.core.ports import Event, EventKind, Store
from voiceflow_worker.core.ports.versions import tell_left_out
from voiceflow_worker.model.jobs.job import JobState

WAITING = "hook-waiting"
PARKED = "hook-parked"
SINCE = "hook-since"
KEPT_PARKED = timedelta(days=90)
"""How long it is remembered that a hook was not told something."""


@dataclass(slots=True, kw_only=True)
class PendingOutcome:
    """An outcome that a hook is to be told.

    `failures` counts what came of it so far, `error` is the last of them. `due_at` None is now. `is_kept`: it stands in
    the records, so that the cursor may pass it.
    """

    event: Event
    failures: int = 0
    first_failed_at: datetime | None = None
    due_at: datetime | None = None
    error: str = ""
    is_kept: bool = False


class HookBacklog:
    """The records of one hook for one queue. Every method raises StoreError."""

    def __init__(self, store: Store, *, hook: str, queue: str) -> None:
        self._store = store
        self._prefix = f"{hook}/{queue}/"

    async def keep(self, entries: Sequence[PendingOutcome]) -> None:
        """Keep what waits for another try, as it is now."""
        await self._put(WAITING, entries, expires_at=None)
        for entry in entries:
            entry.is_kept = True

    async def waiting(self) -> list[PendingOutcome]:
        """Everything that waits, in order."""
        return await self._all(WAITING)

    async def drop(self, entry: PendingOutcome) -> None:
        """Forget what was told."""
        await self._store.records.delete(WAITING, {self._key(entry): None})

    async def park(self, entry: PendingOutcome) -> None:
        """Give up: it is remembered that it was not told."""
        await self._put(PARKED, [entry], expires_at=self._store.clock.now() + KEPT_PARKED)
        await self.drop(entry)

    async def parked(self) -> list[PendingOutcome]:
        """Everything that was given up, in order."""
        return await self._all(PARKED)

    async def unpark(self, entries: Sequence[PendingOutcome]) -> None:
        """Have what was given up wait again, as if it were new."""
        fresh = [PendingOutcome(event=entry.event) for entry in entries]
        await self.keep(fresh)
        await self._store.records.delete(PARKED, dict.fromkeys(self._key(entry) for entry in entries))

    async def _put(self, namespace: str, entries: Sequence[PendingOutcome], *, expires_at: datetime | None) -> None:
        values = {self._key(entry): _written(entry) for entry in entries}
        await self._store.records.put(namespace, values, expires_at=expires_at, now=self._store.clock.now())

    async def _all(self, namespace: str) -> list[PendingOutcome]:
        found: list[PendingOutcome] = []
        after = ""
        while page := await self._store.records.scan(
            namespace, now=self._store.clock.now(), prefix=self._prefix, after=after
        ):
            found += [entry for key, text in page if (entry := _read(key, text)) is not None]
            after = page[-1][0]
        return found

    def _key(self, entry: PendingOutcome) -> str:
        return f"{self._prefix}{entry.event.sequence:020d}"


def _written(entry: PendingOutcome) -> str:
    event = entry.event
    told = [event.job_id, event.kind, event.at.isoformat(), event.state, event.revision, event.post, event.sequence]
    first, due = entry.first_failed_at, entry.due_at
    return json.dumps(
        {
            "event": told,
            "failures": entry.failures,
            "first_failed_at": first.isoformat() if first else None,
            "due_at": due.isoformat() if due else None,
            "error": entry.error,
        }
    )


def _read(key: str, text: str) -> PendingOutcome | None:
    """What was kept; None, and it stays for newer processes, for what this version cannot read."""
    try:
        return _waiting(json.loads(text))
    except (ValueError, KeyError, TypeError) as error:
        tell_left_out(f"what hook entry {key} tells", error)
        return None


def _waiting(told: dict[str, Any]) -> PendingOutcome:
    job_id, kind, at, state, revision, post, sequence, *_ = told["event"]
    first, due = told["first_failed_at"], told["due_at"]
    return PendingOutcome(
        event=Event(
            job_id=job_id,
            kind=EventKind(kind),
            at=datetime.fromisoformat(at),
            state=JobState(state),
            revision=revision,
            post=post,
            sequence=sequence,
        ),
        failures=told["failures"],
        first_failed_at=datetime.fromisoformat(first) if first else None,
        due_at=datetime.fromisoformat(due) if due else None,
        error=told["error"],
        is_kept=True,
    )
