"""The border between read rows and the queue: whose keys are taken, what is handed in, what came too late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.core.numbers.suppression import Suppression, SuppressionList
from voiceflow_worker.core.ports import KeyOwner
from voiceflow_worker.core.queue import CallQueue, CallRequest
from voiceflow_worker.core.settling.refusals import BatchLimits
from voiceflow_worker.errors import CallFlowError, KeyConflict, KeyConflictError, SuppressedNumberError
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.model.flows.validity import VALIDITY_EXPIRED
from voiceflow_worker.model.hours.opening import first_opening
from voiceflow_worker.model.text.moment import in_words


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Rows sorted by what is to become of them: `new` ones can be handed in; `known` ones were called for before.

    `suppressed` ones are not called, for their number is on the suppression list: that is no fault of the file.
    """

    rows: Sequence[ReadRow]
    new: Sequence[ReadRow]
    known: Sequence[ReadRow]
    suppressed: Sequence[ReadRow]
    bad: Sequence[ReadRow]


@dataclass(slots=True)
class Taken:
    """What the queue made of rows handed in; `refused` and `suppressed` ones have the finding that tells why."""

    enqueued: int = 0
    duplicates: int = 0
    suppressed: list[ReadRow] = field(default_factory=list[ReadRow])
    refused: list[ReadRow] = field(default_factory=list[ReadRow])


class Intake:
    """Hands rows to a queue; without one it only sorts them."""

    def __init__(self, queue: CallQueue | None, *, file: str, stop_after_refused: int | None = None) -> None:
        self._queue = queue
        self._file = file
        self._stop_after_refused = stop_after_refused
        self._limited: set[str] = set()

    async def judge(self, rows: Sequence[ReadRow]) -> Judged:
        """Look up who owns the rows' keys: the same call makes a row known, another call makes it bad.

        And whose numbers are on the suppression list.
        """
        good = [row for row in rows if row.request is not None]
        owners: Mapping[str, KeyOwner] = {}
        if self._queue is not None and good:
            store = self._queue.store
            keys = [key for row in good if (key := _key(row)) is not None]
            owners = await store.jobs.owners(self._queue.name, keys, now=store.clock.now())
        listed = await self._listed(good)
        told: list[ReadRow] = []
        new: list[ReadRow] = []
        known: list[ReadRow] = []
        suppressed: list[ReadRow] = []
        for row in rows:
            owner = owners.get(_key(row) or "") if row.request is not None else None
            if row.is_bad:
                told.append(row)
            elif row.duplicate_of is not None or (owner is not None and owner.body_digest == row.digest):
                known.append(row)
                told.append(row)
            elif owner is not None:
                told.append(self._conflicting(row, owner.job_id))
            elif (reason := _why_suppressed(row, listed)) is not None:
                suppressed.append(self._suppressed(row, reason))
                told.append(suppressed[-1])
            else:
                new.append(row)
                told.append(row)
        bad = [row for row in told if row.is_bad]
        return Judged(rows=told, new=new, known=known, suppressed=suppressed, bad=bad)

    async def hand_in(self, rows: Sequence[ReadRow]) -> Taken:
        """Enqueue rows in one step; refuses what expired since it was read, or lost its key to another meanwhile."""
        await self._set_limits(rows)
        taken = Taken()
        waiting = list(rows)
        while waiting:
            waiting = self._without_expired(waiting, taken)
            requests = [row.request for row in waiting if row.request is not None]
            try:
                made = await self._enqueue(requests)
            except KeyConflictError as error:
                waiting = self._without_conflicting(waiting, error.conflicts, taken)
            except SuppressedNumberError as error:
                reasons = {each.index: each.reason for each in error.suppressed}
                taken.suppressed += [self._suppressed(waiting[index], reason) for index, reason in reasons.items()]
                waiting = [row for index, row in enumerate(waiting) if index not in reasons]
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

    async def _set_limits(self, rows: Sequence[ReadRow]) -> None:
        """Set what holds a batch before its first call is there, once for each batch of the file."""
        if self._queue is None or self._stop_after_refused is None:
            return
        batches = {row.request.batch_id for row in rows if row.request is not None and row.request.batch_id is not None}
        limits = BatchLimits(self._queue.store)
        for batch_id in sorted(batches - self._limited):
            await limits.put(self._queue.name, batch_id, stop_after_refused=self._stop_after_refused)
        self._limited |= batches

    async def _listed(self, rows: Sequence[ReadRow]) -> Mapping[str, Suppression]:
        """The entries of these rows' numbers on the suppression list."""
        if self._queue is None or not rows:
            return {}
        return await SuppressionList(self._queue.store).standing(
            [number for row in rows if row.request is not None for number in row.request.flow.destinations]
        )

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
                problem = _too_late_for_its_window(row, now) if now is not None else None
                if problem is None:
                    good.append(row)
                else:
                    taken.refused.append(self._refused(row, problem))
                continue
            message = (
                f"the validity period has expired, at {in_words(until)}, while the file was read; give a later time"
            )
            taken.refused.append(
                self._refused(row, Finding(column="valid_until", code=VALIDITY_EXPIRED, message=message))
            )
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

    def _suppressed(self, row: ReadRow, reason: str) -> ReadRow:
        found = Finding(column="destination", severity=Severity.WARNING, message=f"is not called: {reason}")
        return self._refused(row, found)

    def _refused(self, row: ReadRow, finding: Finding) -> ReadRow:
        placed = replace(finding, file=self._file, row=row.raw.number)
        return replace(row, request=None, findings=(*row.findings, placed))


def _too_late_for_its_window(row: ReadRow, now: datetime) -> Finding | None:
    """What keeps a row from being called whose window closed while the file was read."""
    request = row.request
    if request is None or request.window is None:
        return None
    return first_opening(
        request.window,
        number=_number(row),
        time_zone=request.time_zone,
        at=max(now, request.not_before or now),
        valid_until=request.valid_until,
    ).problem


def _why_suppressed(row: ReadRow, listed: Mapping[str, Suppression]) -> str | None:
    """Why the row is not called when it is due."""
    if row.request is None or not listed:
        return None
    due = row.request.not_before
    for place, number in enumerate(row.request.flow.destinations):
        entry = listed.get(number)
        if entry is not None and (due is None or entry.holds(due)):
            return entry.in_words_of(number) if place else entry.in_words()
    return None


def _number(row: ReadRow) -> str:
    return (row.request.flow.destination if row.request is not None else None) or ""


def _key(row: ReadRow) -> str | None:
    return row.request.unique_key if row.request is not None else None
