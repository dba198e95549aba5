"""The intake of a campaign's rows into a queue: which are new, known or bad, and what became of those enqueued."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from voiceflow_worker.campaigns.calls.row_reader import ReadRow
from voiceflow_worker.campaigns.enqueue_report import End
from voiceflow_worker.campaigns.list_order import ListOrder, differing_end
from voiceflow_worker.campaigns.row_ends import MOST_NAMED, RowEnd, RowEnds
from voiceflow_worker.core.admission import AdmissionResult, CheckedCall
from voiceflow_worker.core.base.keys import owners_of
from voiceflow_worker.core.base.reading import get_jobs
from voiceflow_worker.core.idempotency import KeyMatch
from voiceflow_worker.core.imports import Staging
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.flows.bodies import VALIDITY_EXPIRED
from voiceflow_worker.model.jobs.differences import is_cancelled_for_good
from voiceflow_worker.model.jobs.job import ENDED_UNSENT, ON_THE_WAY, Job, JobState, ReasonKind
from voiceflow_worker.model.text.wording import count_of
from voiceflow_worker.queue import CallQueue

_KEY_IN_USE = "another program changes the call of this row again and again: enqueue the same rows again"
_ROUNDS = 20
"""How often rows are stored anew whose calls somebody else changes at the same time."""


_WITH_CALLS = frozenset({End.SAME, End.BY_PERSON, End.OVER, End.SUPPRESSED})
"""The ends of rows that are known, and whose calls stand."""


@dataclass(slots=True)
class RowEnqueuer:
    """Enqueues rows. Without a queue, rows are only divided into new, known and bad ones."""

    order: ListOrder
    unfinished: frozenset[str | None] = frozenset()
    """The tokens of the imports that have not ended. A row whose call is staged by one of them is new: nobody can have
    been called for it."""
    changed_in: Counter[str] = field(default_factory=Counter[str], init=False)
    """What was changed of calls that wait: how many calls got another text, window and so on."""
    names: list[str] = field(default_factory=list[str], init=False)
    """The people of some of the calls that rows change."""
    _has_owners: bool = field(default=False, init=False)
    """Whether the keys of new rows belong to calls, in whose place they are."""
    _good: int = field(default=0, init=False)
    """How many rows were good so far, for the limit of the options."""

    async def classify(self, rows: Sequence[ReadRow]) -> list[RowEnd]:
        """How these rows end, as far as it is known by their keys.

        A row is the same if the stored call of its key stands for it. It is new if that call is to be made again, and
        changed if it is to be changed; else it is bad while a call that differs waits. New rows behind the limit of the
        options are left out. Raises OvertakenError.
        """
        ends, limit = await self._classified(rows), self.order.options.limit
        if limit is None:
            return ends
        late = await self._beyond(limit, ends)
        return [late.get(each.number, each) for each in ends]

    async def _classified(self, rows: Sequence[ReadRow]) -> list[RowEnd]:
        keys = [row.call.unique_key for row in rows if row.call is not None and row.call.unique_key]
        owners: Mapping[str, Job] = {}
        if self.order.queue is not None and keys:
            owners = await owners_of(self.order.queue.store, self.order.queue.name, keys)
        ends: list[RowEnd] = []
        for row in rows:
            if row.is_left_out or row.is_bad:
                end = RowEnd.of(row, End.LEFT_OUT if row.is_left_out else End.BAD)
            elif row.duplicate_of is not None:
                end = RowEnd.of(row, End.SAME)
            elif row.call is None or (owner := owners.get(row.call.unique_key or "")) is None:
                end = RowEnd.of(row, End.NEW)
            else:
                end = self._beside(row, owner)
                self._has_owners = self._has_owners or end.makes_call
            ends.append(end)
        return await self._with_suppressed(ends, owners)

    async def _with_suppressed(self, ends: Sequence[RowEnd], owners: Mapping[str, Job]) -> list[RowEnd]:
        """These ends; of rows whose calls suppression has ended, and whose numbers still are on its list, theirs."""
        found: dict[int, tuple[ReadRow, CheckedCall]] = {}
        for place, end in enumerate(ends):
            if end.ended is not None and end.row is not None and (call := end.row.call) is not None:
                owner = owners.get(call.unique_key or "")
                if owner is not None and owner.reason_kind is ReasonKind.SUPPRESSED:
                    found[place] = end.row, call
        done, rows = [*ends], [*found.items()]
        if self.order.queue is not None and rows:
            listed = await self.order.queue.admitter.listed([call for _, (_, call) in rows])
            for index, number in listed.items():
                place, (row, _) = rows[index]
                done[place] = RowEnd.of(self.order.suppressed(row, number), End.SUPPRESSED)
        return done

    def _beside(self, row: ReadRow, owner: Job) -> RowEnd:
        """How a good row ends whose key belongs to this call."""
        match = self.order.match(owner, row)
        if match is KeyMatch.AGAIN or (owner.digest == row.digest and self._is_staged(owner)):
            return RowEnd.of(row, End.NEW)
        if match is KeyMatch.SAME:
            ended = owner.state if owner.state in ENDED_UNSENT else None
            if ended is None:
                return RowEnd.of(self._elsewhere(row, owner, "it stays there, and no call is added to"), End.SAME)
            kind = End.OVER if self.order.is_other(owner, row) else End.SAME
            return RowEnd.of(row, End.BY_PERSON if is_cancelled_for_good(owner) else kind, ended=ended)
        kind = differing_end(owner, row)
        if kind is End.CHANGED and len(self.names) < MOST_NAMED:
            self.names.append(owner.name or owner.destination)
        if (told := self.order.judged(row, owner)) is None:
            return RowEnd.of(self._elsewhere(row, owner, "it ends there, and is made anew in"), kind)
        is_undecided = kind is End.CHANGED and not self.order.replace
        return RowEnd.of(told, End.BAD if told.is_bad and not is_undecided else kind, key=owner.unique_key or "")

    def _elsewhere(self, row: ReadRow, owner: Job, done: str) -> ReadRow:
        """The row, with what is told of it if its call is one of another batch."""
        batch = row.call and row.call.batch_id
        if owner.batch_id == batch:
            return row
        told = f"call {owner.id} of batch {owner.batch_id or '-'} is the one of this row: {done} batch {batch}"
        return row._replace(
            findings=(
                *row.findings,
                self.order.placed(row, Finding(kind="of_other_batch", severity=Severity.WARNING, message=told)),
            )
        )

    async def _beyond(self, limit: int, ends: Sequence[RowEnd]) -> Mapping[int, RowEnd]:
        """The new rows after the last one that a limit of good rows has, by their numbers.

        Rows of stored calls are good. New ones are not while their number is on the suppression list.
        """
        new = [each.row for each in ends if each.row is not None and each.makes_call]
        calls = [each for each in ends if each.row is not None and each.kind in _WITH_CALLS]
        known = [each.row for each in calls if each.row is not None]
        silent = await self.enqueue(new, staging=None) if self._good < limit else ()
        uncounted = {each.number for each in silent} | {
            each.number for each in calls if each.row and each.row.call is None and each.kind is not End.SUPPRESSED
        }
        late = dict[int, RowEnd]()
        is_new = {row.raw.number for row in new}
        for row in sorted((*new, *known), key=lambda each: each.raw.number):
            if row.raw.number in is_new and self._good >= limit:
                message = f"waits: the limit is {count_of(limit, 'good row')} of the file"
                waits = self.order.silenced(row, Finding(severity=Severity.WARNING, message=message))
                late[row.raw.number] = RowEnd.of(waits._replace(is_left_out=True), End.LATE)
            else:
                self._good += row.raw.number not in uncounted
        return late

    def _is_staged(self, owner: Job) -> bool:
        return owner.state is JobState.QUEUED and owner.worker_id in self.unfinished

    async def enqueue(
        self, rows: Sequence[ReadRow], *, staging: Staging | None, ends: RowEnds | None = None
    ) -> list[RowEnd]:
        """Enqueue new rows in one write, as staged calls of an import, or change the calls that their `ends` name.

        Returns how each row ends. A call that has moved while it was to be changed is looked at again. Without an
        import, this only finds, and returns, the rows that would be suppressed or refused.
        """
        done: list[RowEnd] = []
        if self.order.queue is None:
            return done
        left = [row for row in rows if row.call is not None]
        kept = () if ends is None or staging is None else (ends.of(row.raw.number) for row in left)
        pairs = {end.number: end.call for end in kept if end is not None and end.call is not None}
        for turn in range(_ROUNDS):
            over: Mapping[str, Sequence[Job]] = {}
            self._has_owners = self._has_owners or turn > 0
            if staging is not None and (pairs or self._has_owners):
                left, over = await self._looked_up(self.order.queue, left, pairs, done)
            calls = [row.call for row in left if row.call is not None]
            admitted = await self.order.queue.admitter.admit(calls, staging=staging, over=over)
            others: list[ReadRow] = []
            for row, admission in zip(left, admitted, strict=True):
                if admission.has_moved or admission.owner_id is not None:  # somebody else was quicker
                    others.append(row)
                elif (end := self._admitted(row, admission, over)) is not None:
                    done.append(end)
            if not (left := others):
                break
        done += (RowEnd.of(self.order.silenced(row, Finding(message=_KEY_IN_USE)), End.BAD) for row in left)
        return done

    async def _looked_up(
        self, queue: CallQueue, rows: Sequence[ReadRow], pairs: Mapping[int, str], done: list[RowEnd]
    ) -> tuple[list[ReadRow], dict[str, Sequence[Job]]]:
        """The rows that are to be stored, and the calls in whose place they are, by their keys; others are `done`."""
        keys = {row.raw.number: (row.call and row.call.unique_key) or "" for row in rows}
        asked = filter(None, keys.values()) if self._has_owners else ()
        owners = await owners_of(queue.store, queue.name, asked)
        paired = await get_jobs(queue.store, [pairs[row.raw.number] for row in rows if row.raw.number in pairs])
        left, over = list[ReadRow](), dict[str, Sequence[Job]]()
        for row in rows:
            key = keys[row.raw.number]
            stand = [each for each in (owners.get(key), paired.get(pairs.get(row.raw.number, ""))) if each is not None]
            matches = [self.order.match(each, row) for each in stand]
            others = [each for each, match in zip(stand, matches, strict=True) if match is KeyMatch.OTHER]
            judged = ((told, each) for each in others if (told := self.order.judged(row, each)) is not None)
            if KeyMatch.SAME in matches:
                done.append(RowEnd.of(row, End.SAME))
            elif (first := next(judged, None)) is not None:
                told, job = first
                kind = End.BAD if told.is_bad else differing_end(job, row)
                done.append(RowEnd.of(told, kind))
            else:
                left.append(row)
                over[key] = stand
        return left, over

    def _admitted(self, row: ReadRow, admission: AdmissionResult, over: Mapping[str, Sequence[Job]]) -> RowEnd | None:
        """What became of a row; None if nothing was asked for but whether it may be called."""
        if admission.suppressed is not None:
            return RowEnd.of(self.order.suppressed(row, admission.suppressed), End.SUPPRESSED)
        if (job := admission.changed) is not None and job.state in ON_THE_WAY:
            told = f"call {job.id} is {job.state.value}, and may ring with the old text; its next attempt has the new"
            return RowEnd.of(
                self.order.silenced(row, Finding(kind="on_its_way", severity=Severity.WARNING, message=told)),
                End.ON_THE_WAY,
            )
        if job is not None:
            self.changed_in.update(job.notes[-1].text.split(" and "))
            return RowEnd.of(row, End.CHANGED)
        if admission.findings:
            # The row was valid when it was read, but its validity may have passed since.
            late = [each for each in admission.findings if _is_late(each)]
            told_late = (replace(each, column="valid_until", path=None) for each in late)
            left = (each for each in admission.findings if each not in late)
            return RowEnd.of(self.order.silenced(row, *told_late, *left), End.BAD)
        if admission.is_new is None:
            return None
        stand = over.get((row.call and row.call.unique_key) or "", ())
        is_moved = any(not each.state.is_final for each in stand)
        return RowEnd.of(row, End.SAME if not admission.is_new else End.CHANGED if is_moved else End.NEW)


def _is_late(found: Finding) -> bool:
    return found.code == VALIDITY_EXPIRED and found.path == "$.validUntil"
