"""The border between read rows and the queue: whose keys are taken, what is handed in, what came too late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from voiceflow_worker.campaigns.request import ReadRow
from voiceflow_worker.core.ports import KeyOwner
from voiceflow_worker.core.queue import CallQueue, CallRequest
from voiceflow_worker.errors import CallFlowError, KeyConflict, KeyConflictError
from voiceflow_worker.model.finding import Finding
from voiceflow_worker.model.moment import in_words


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Rows sorted by what is to become of them: `new` ones can be handed in; `known` ones were called for before."""

    rows: Sequence[ReadRow]
    new: Sequence[ReadRow]
    known: Sequence[ReadRow]
    bad: Sequence[ReadRow]


@dataclass(slots=True)
class Taken:
    """What the queue made of rows handed in; `refused` have the finding that tells why."""

    enqueued: int = 0
    duplicates: int = 0
    refused: list[ReadRow] = field(default_factory=list[ReadRow])


class Intake:
    """Hands rows to a queue; without one it only sorts them."""

    def __init__(self, queue: CallQueue | None, *, file: str) -> None:
        self._queue = queue
        self._file = file

    async def judge(self, rows: Sequence[ReadRow]) -> Judged:
        """Look up who owns the rows' keys: the same call makes a row known, another call makes it bad."""
        good = [row for row in rows if row.request is not None]
        owners: Mapping[str, KeyOwner] = {}
        if self._queue is not None and good:
            store = self._queue.store
            keys = [key for row in good if (key := _key(row)) is not None]
            owners = await store.jobs.owners(self._queue.name, keys, now=store.clock.now())
        told: list[ReadRow] = []
        new: list[ReadRow] = []
        known: list[ReadRow] = []
        for row in rows:
            owner = owners.get(_key(row) or "") if row.request is not None else None
            if row.is_bad:
                told.append(row)
            elif row.duplicate_of is not None or (owner is not None and owner.body_digest == row.digest):
                known.append(row)
                told.append(row)
            elif owner is not None:
                told.append(self._conflicting(row, owner.job_id))
            else:
                new.append(row)
                told.append(row)
        return Judged(rows=told, new=new, known=known, bad=[row for row in told if row.is_bad])

    async def hand_in(self, rows: Sequence[ReadRow]) -> Taken:
        """Enqueue rows in one step; refuses what expired since it was read, or lost its key to another meanwhile."""
        taken = Taken()
        waiting = list(rows)
        while waiting:
            waiting = self._without_expired(waiting, taken)
            requests = [row.request for row in waiting if row.request is not None]
            try:
                made = await self._enqueue(requests)
            except KeyConflictError as error:
                waiting = self._without_conflicting(waiting, error.conflicts, taken)
            except CallFlowError:
                # Something expired between the look at the clock and the store's; all else was found before.
                before = len(waiting)
                waiting = self._without_expired(waiting, taken)
                if len(waiting) == before:
                    raise
            else:
                taken.enqueued += made
                taken.duplicates += len(requests) - made
                break
        return taken

    async def _enqueue(self, requests: Sequence[CallRequest]) -> int:
        if self._queue is None:
            raise ValueError("there is no queue to hand in to")
        return sum(enqueued.created for enqueued in await self._queue.enqueue_many(requests))

    def _now(self) -> datetime | None:
        return self._queue.store.clock.now() if self._queue is not None else None

    def _without_expired(self, rows: Sequence[ReadRow], taken: Taken) -> list[ReadRow]:
        now = self._now()
        good: list[ReadRow] = []
        for row in rows:
            until = row.request.valid_until if row.request is not None else None
            if now is None or until is None or until > now:
                good.append(row)
                continue
            message = (
                f"the validity period has expired, at {in_words(until)}, while the file was read; give a later time"
            )
            taken.refused.append(self._refused(row, Finding(column="valid_until", code=-1015, message=message)))
        return good

    def _without_conflicting(
        self, rows: Sequence[ReadRow], conflicts: Sequence[KeyConflict], taken: Taken
    ) -> list[ReadRow]:
        owners = {conflict.index: conflict.owner_id for conflict in conflicts}
        taken.refused += [self._conflicting(rows[index], owner) for index, owner in owners.items()]
        return [row for index, row in enumerate(rows) if index not in owners]

    def _conflicting(self, row: ReadRow, owner_id: str) -> ReadRow:
        message = f"{_key(row)!r} is the key of job {owner_id}, which is another call; give this call a key of its own"
        return self._refused(row, Finding(column="unique_key", message=message))

    def _refused(self, row: ReadRow, finding: Finding) -> ReadRow:
        placed = replace(finding, file=self._file, row=row.raw.number)
        return replace(row, request=None, findings=(*row.findings, placed))


def _key(row: ReadRow) -> str | None:
    return row.request.unique_key if row.request is not None else None
