"""The intake of a campaign's rows into a queue: which are new, known or bad, and what became of those enqueued."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from voiceflow_worker.campaigns.calls.options import CampaignOptions
from voiceflow_worker.campaigns.calls.request import ReadRow
from voiceflow_worker.core.admission import CheckedCall
from voiceflow_worker.core.base.reading import owners_of
from voiceflow_worker.core.idempotency import KeyMatch
from voiceflow_worker.core.imports import Staging
from voiceflow_worker.core.settling.stops import BatchStops
from voiceflow_worker.finding import Finding, Severity, tell
from voiceflow_worker.model.copying import replace
from voiceflow_worker.model.flows.rules import VALIDITY_EXPIRED
from voiceflow_worker.model.jobs.job import ENDED_UNSENT, Job, JobState, person_in
from voiceflow_worker.model.jobs.policy import StopRules
from voiceflow_worker.model.text.wording import count_of
from voiceflow_worker.queue import CallQueue


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifiedRows:
    """Rows divided into `new` calls, `known` calls (in the store or earlier in the file), and `bad` rows.

    Those that are left out are among `rows` alone.
    """

    rows: Sequence[ReadRow]
    new: Sequence[ReadRow]
    known: Sequence[ReadRow]
    bad: Sequence[ReadRow]
    ended: Counter[JobState]
    """The known calls that have ended before they were sent, by state: nobody is called for them."""


@dataclass(slots=True)
class EnqueuedRows:
    """The result of enqueuing rows. The last finding of each `suppressed` or `refused` row has the reason."""

    enqueued: int = 0
    duplicates: int = 0
    suppressed: list[ReadRow] = field(default_factory=list[ReadRow])
    refused: list[ReadRow] = field(default_factory=list[ReadRow])


@dataclass(slots=True)
class RowEnqueuer:
    """Enqueues rows. Without a queue, rows are only divided into new, known and bad ones."""

    queue: CallQueue | None
    file: str | None
    options: CampaignOptions
    number_column: str
    again: frozenset[JobState] = frozenset()
    """The states of ended calls in whose place rows with their keys are enqueued."""
    unfinished: frozenset[str | None] = frozenset()
    """The tokens of the imports that have not ended. A row whose call is staged by one of them is new: nobody can have
    been called for it."""
    _limited: set[str] = field(default_factory=set[str], init=False)
    _kept: set[str] = field(default_factory=set[str], init=False)
    """What calls say that stand for rows with other words. No later row is a new call with the words of such a call."""
    _good: int = field(default=0, init=False)
    """How many rows were good so far, for the limit of the options."""

    async def classify(self, rows: Sequence[ReadRow]) -> ClassifiedRows:
        """Divide rows. If a row's key belongs to a stored call, the row is known if that stands for it, else bad.

        It is new if that call is to be made again. New rows behind the limit of the options are left out.
        """
        keys = [row.call.unique_key for row in rows if row.call is not None and row.call.unique_key]
        owners: Mapping[str, Job] = {}
        if self.queue is not None and keys:
            owners = await owners_of(self.queue.store, self.queue.name, keys)
        classified: list[ReadRow] = []
        new: list[ReadRow] = []
        known: list[ReadRow] = []
        ended: Counter[JobState] = Counter()
        for row in rows:
            owner = owners.get(row.call.unique_key or "") if row.call is not None else None
            match = None if owner is None else self._match(owner, row.digest)
            is_same = owner is not None and owner.body_digest == row.digest
            is_first = not row.is_bad and row.duplicate_of is None
            if match is KeyMatch.SAME and owner is not None and not is_same:
                self._kept.add(owner.body_digest)
            elif is_first and owner is None and row.digest in self._kept:
                match = KeyMatch.SAME
            if is_first and owner is not None and (match is KeyMatch.AGAIN or (is_same and self._is_staged(owner))):
                new.append(row)
            elif not row.is_bad and (row.duplicate_of is not None or match is KeyMatch.SAME):
                known.append(row)
                if is_first and owner is not None and owner.state in ENDED_UNSENT:
                    ended[owner.state] += 1
            elif owner is not None:
                row = self._conflicting(row, owner.id, owner.state)  # noqa: PLW2901 (the same row, with a finding)
            elif not (row.is_bad or row.is_left_out):
                new.append(row)
            classified.append(row)
        if self.options.limit is not None:
            new, late = await self._within(self.options.limit, new, known)
            classified = [late.get(row.raw.number, row) for row in classified]
        bad = [row for row in classified if row.is_bad]
        return ClassifiedRows(rows=classified, new=new, known=known, bad=bad, ended=ended)

    async def _within(
        self, limit: int, new: Sequence[ReadRow], known: Sequence[ReadRow]
    ) -> tuple[list[ReadRow], Mapping[int, ReadRow]]:
        """The new rows up to the last one that a limit of good rows has, and the others, which wait, by number.

        Rows of stored calls are good. New ones are not while their number is on the suppression list.
        """
        silent = (await self.enqueue(new, staging=None)).suppressed if self._good < limit else ()
        uncounted = {row.raw.number for row in (*silent, *known) if row.call is None}
        within, late = list[ReadRow](), dict[int, ReadRow]()
        is_new = {row.raw.number for row in new}
        for row in sorted((*new, *known), key=lambda each: each.raw.number):
            if row.raw.number in is_new and self._good >= limit:
                message = tell("beyond_limit", limit=count_of(limit, "good row"))
                waits = self._with(row, Finding(severity=Severity.WARNING, message=message))
                late[row.raw.number] = waits._replace(is_left_out=True)
                continue
            self._good += row.raw.number not in uncounted
            if row.raw.number in is_new:
                within.append(row)
        return within, late

    def _match(self, owner: Job, digest: str) -> KeyMatch:
        if owner.state in self.again:
            return KeyMatch.AGAIN
        if self.options.orders is not None:
            return self.options.orders.match(owner, digest)
        return KeyMatch.SAME if owner.body_digest == digest else KeyMatch.OTHER

    def _is_staged(self, owner: Job) -> bool:
        return owner.state is JobState.QUEUED and owner.worker_id in self.unfinished

    async def enqueue(self, rows: Sequence[ReadRow], *, staging: Staging | None) -> EnqueuedRows:
        """Enqueue new rows in one write, as staged calls of an import.

        Without an import, this only finds rows that would be suppressed or refused.
        """
        done = EnqueuedRows()
        if self.queue is None:
            return done
        if staging is not None and (rules := self.options.stops) is not None and rules != StopRules():
            await self._set_limits(self.queue, rows, rules)
        calls = [row.call for row in rows if row.call is not None]
        over = await self._known(calls, KeyMatch.AGAIN)
        admitted = await self.queue.admitter.admit(calls, staging=staging, over=over)
        others = [call for call, admission in zip(calls, admitted, strict=True) if admission.owner_id is not None]
        stand = await self._known(others, KeyMatch.SAME)  # somebody else was quicker
        for row, admission in zip(rows, admitted, strict=True):
            if row.call is not None and row.call.unique_key in stand:
                done.duplicates += 1
            elif admission.suppressed is not None:
                message = tell("suppressed", reason=admission.suppressed.reason)
                found = Finding(column=self.number_column, severity=Severity.WARNING, message=message)
                done.suppressed.append(self._with(row, found))
            elif admission.owner_id is not None:
                done.refused.append(self._conflicting(row, admission.owner_id))
            elif admission.findings:
                # The row was valid when it was read, but its validity may have passed since.
                late = [each for each in admission.findings if _is_late(each)]
                told = (replace(each, column="valid_until", path=None) for each in late)
                done.refused.append(self._with(row, *told, *(each for each in admission.findings if each not in late)))
            elif admission.is_new is not None:
                done.enqueued += admission.is_new
                done.duplicates += not admission.is_new
        return done

    async def _known(self, calls: Sequence[CheckedCall], match: KeyMatch) -> Mapping[str, Job]:
        """The stored calls with the keys of these that are this to them, by their unique keys."""
        digests = {call.unique_key: call.digest for call in calls if call.unique_key}
        if self.queue is None or not digests or not (self.again or self.options.orders is not None):
            return {}
        owners = await owners_of(self.queue.store, self.queue.name, digests)
        return {key: owner for key, owner in owners.items() if self._match(owner, digests[key]) is match}

    async def _set_limits(self, queue: CallQueue, rows: Sequence[ReadRow], rules: StopRules) -> None:
        """Set the limits of each batch in these rows, once per file, before the batch's first call is enqueued."""
        batches = {row.call.batch_id for row in rows if row.call is not None and row.call.batch_id is not None}
        stops = BatchStops(queue.store, queue.name)
        for batch_id in sorted(batches - self._limited):
            await stops.put(batch_id, rules)
        self._limited |= batches

    def _conflicting(self, row: ReadRow, owner_id: str, state: JobState | None = None) -> ReadRow:
        key = row.call.unique_key if row.call is not None else None
        if self.options.orders is not None:
            return self._with(row, Finding(message=self.options.orders.other))
        if state is JobState.QUEUED:
            message = tell("key_of_waiting", key=key, call=owner_id)
        elif state in ENDED_UNSENT:
            message = tell("key_of_ended", key=key, call=owner_id, state=str(state))
        else:
            message = tell("key_of_other", key=key, call=owner_id)
        return self._with(row, Finding(column="unique_key", message=message))

    def _with(self, row: ReadRow, *findings: Finding) -> ReadRow:
        person = person_in((row.call and row.call.data) or {})
        placed = (replace(found, file=self.file, row=row.raw.number, person=person) for found in findings)
        return row._replace(call=None, findings=(*row.findings, *placed))


def _is_late(found: Finding) -> bool:
    return found.code == VALIDITY_EXPIRED and found.path == "$.validUntil"
