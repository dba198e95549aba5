"""The rows of a campaign into the queue: each calls once per task instance, whatever its tries ask for.

A row is known by its own key, else by the number that it calls and its ordinal among the rows that call this number.
Who is asked for now and was not called is called; who is not asked for any more, and was not called, is not.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider.calls.expansion import Expansion
from airflow_provider.calls.identity import TaskIdentity
from airflow_provider.calls.memory import Memory, recall, remember
from airflow_provider.calls.places import places
from airflow_provider.calls.rows import AskedRow, ReadRows, called_number, older_key, read_rows, written
from airflow_provider.calls.slots import MARGIN, Condition, Fate, Slot, assigned, condition_of, owned, slots_of
from airflow_provider.calls.taken_back import PAGE, REMOVED, REPLACED, cancel_calls, unsent_calls
from airflow_provider.calls.witness import refuse_amnesia
from voiceflow_worker import CallQueue, Finding, Job, VoiceflowError

if TYPE_CHECKING:
    from voiceflow_worker import CampaignOptions, EnqueueReport

log = logging.getLogger(__name__)

MOST_TOLD = 20
"""Bad rows that an error names."""


class RowsChangedError(VoiceflowError):
    """Raised when another try of the same task changed its calls meanwhile: a retry looks again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedIn:
    """What became of the rows: new jobs, rows whose call was there before, bad rows that were left out."""

    batch_id: str
    enqueued: int
    duplicates: int
    rejected: int


@dataclass(slots=True)
class _Plan:
    """What is to be done for the rows of this try."""

    kept: set[str] = field(default_factory=set[str])
    """The newest calls of the rows: those that stay as they are, and those that are replaced."""
    to_replace: list[tuple[AskedRow, Slot]] = field(default_factory=list[tuple[AskedRow, Slot]])
    to_make: list[tuple[AskedRow, Slot]] = field(default_factory=list[tuple[AskedRow, Slot]])
    differing: int = 0
    """Rows that say something else than the call that was made for them."""


async def hand_in_rows(
    queue: CallQueue,
    rows: Sequence[Mapping[str, Any]],
    options: CampaignOptions,
    identity: TaskIdentity,
    *,
    skip_bad: bool,
    recalled: Mapping[str, Any] | None = None,
    expansion: Expansion | None = None,
) -> HandedIn:
    """Call for the rows that have no call yet, all or, with `skip_bad`, the good ones; take back what has no row.

    `options` name the batch. Raises CampaignFileError naming every bad row, InvalidInputError when the store does not
    know the calls that `recalled` (what the witness told) speaks of.
    """
    with tempfile.TemporaryDirectory(prefix="voiceflow-") as name:
        folder = Path(name)
        read = ReadRows(asked=(), duplicates=0, rejected=0, errors=())
        if rows:
            read = read_rows(written(rows, folder), options, now=queue.store.clock.now())
        expansion = expansion or Expansion()
        intake = _Intake(queue, identity, batch_id=options.batch_id or identity.batch_id(), expansion=expansion)
        memory = await intake.remembered(rows, recalled)
        # Before the plan: what another try of this task hands in from here on is unknown to the plan, and not removed.
        unsent = await unsent_calls(queue, memory.batches, identity)
        plan = await intake.plan(rows, read.asked, memory)
        # Before bad rows keep the others out: who is taken back in vain is called by the try that has them corrected.
        unwanted = [job_id for job_id in unsent if job_id not in plan.kept]
        removed = len(await cancel_calls(queue, unwanted, reason=REMOVED))
        removed += await expansion.take_back_removed(queue, identity)
        if removed:
            log.info("%s calls were taken back, for no row asks for them any more", removed)
        _tell(read.errors)
        if read.rejected and (not skip_bad or not read.asked):
            raise _bad_rows(read, total=len(rows))
        report = await intake.carry_out(plan, rows, options, folder)
        there = len(read.asked) - len(plan.to_make)
        return HandedIn(
            batch_id=intake.batch_id,
            enqueued=report.enqueued if report is not None else 0,
            duplicates=there + read.duplicates + (report.duplicates if report is not None else 0),
            rejected=read.rejected + (report.rejected if report is not None else 0),
        )


@dataclass(frozen=True, slots=True)
class _Intake:
    """One try of one task instance at its queue."""

    queue: CallQueue
    identity: TaskIdentity
    batch_id: str
    expansion: Expansion

    async def remembered(self, rows: Sequence[Mapping[str, Any]], recalled: Mapping[str, Any] | None) -> Memory:
        """What earlier tries left, with this batch in it; of an older release, what can be found out."""
        memory = await recall(self.queue, self.identity)
        if memory is None:
            has_older = await self._has_older_calls(rows)
            if rows and not has_older:
                refuse_amnesia(recalled, store=self.queue.store.url)
            memory = Memory(batches=(self.identity.batch_id(),) if has_older else (), has_older_calls=has_older)
        memory = memory.with_batch(self.batch_id)
        if rows:
            await remember(self.queue, self.identity, memory)
        return memory

    async def plan(self, rows: Sequence[Mapping[str, Any]], asked: Sequence[AskedRow], memory: Memory) -> _Plan:
        """What is to be done for each row; nothing is changed yet."""
        older = await self._older_calls(rows, asked) if memory.has_older_calls else {}
        by_called: dict[str, list[AskedRow]] = {}
        for row in asked:
            by_called.setdefault(row.called, []).append(row)
        slots = await self._slots(asked, by_called, older)
        plan = _Plan()
        for called, alike in by_called.items():
            for row, slot in zip(alike, assigned([row.digest for row in alike], slots[called]), strict=True):
                match slot.fate(row.digest):
                    case Fate.KEEP:
                        plan.differing += slot.digest != row.digest
                    case Fate.REPLACE:
                        plan.to_replace.append((row, slot))
                    case Fate.MAKE:
                        plan.to_make.append((row, slot))
                if slot.job_id is not None:
                    plan.kept.add(slot.job_id)
        return plan

    async def carry_out(
        self, plan: _Plan, rows: Sequence[Mapping[str, Any]], options: CampaignOptions, folder: Path
    ) -> EnqueueReport | None:
        """Take back what is replaced, and make what is missing."""
        await self._replace(plan)
        if plan.differing:
            log.warning(
                "%s rows say something else than the calls that were made for them, which stay as they are",
                plan.differing,
            )
        if not plan.to_make:
            return None
        return await self._make(plan.to_make, rows, options, folder)

    # -- what is there -----------------------------------------------------------------------------------------------

    async def _slots(
        self,
        asked: Sequence[AskedRow],
        by_called: Mapping[str, Sequence[AskedRow]],
        older: Mapping[str, Sequence[Job]],
    ) -> dict[str, list[Slot]]:
        wanted = {
            called: range(max(len(alike), len(older.get(called, ()))) + MARGIN) for called, alike in by_called.items()
        }
        slots = await self._look_up(wanted, older)
        while more := {
            called: range(len(found), len(found) + MARGIN)
            for called, found in slots.items()
            if any(slot.condition is not Condition.FREE for slot in found[-MARGIN:])
        }:
            for called, found in (await self._look_up(more, older)).items():
                slots[called] += found
        if not self.identity.is_mapped:
            return slots
        in_order = [row.called for row in asked]
        ordinals = await places(self.queue, self.identity, in_order, slots, self.expansion)
        own: dict[str, set[int]] = {called: set() for called in by_called}
        for called, ordinal in zip(in_order, ordinals, strict=True):
            own[called].add(ordinal)
        return await self._look_up(own, older)

    async def _look_up(
        self, wanted: Mapping[str, range | set[int]], older: Mapping[str, Sequence[Job]]
    ) -> dict[str, list[Slot]]:
        return await slots_of(self.queue, self.identity, wanted, batch_id=self.batch_id, older=older)

    async def _has_older_calls(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        if await self.queue.find(batch_id=self.identity.batch_id(), limit=1):
            return True
        return bool(await owned(self.queue, [older_key(row, self.identity) for row in rows]))

    async def _older_calls(self, rows: Sequence[Mapping[str, Any]], asked: Sequence[AskedRow]) -> dict[str, list[Job]]:
        """Calls that an older release made: by the keys of these rows, else by the numbers of their own batch."""
        keys = [older_key(rows[row.place], self.identity) for row in asked]
        owners = await owned(self.queue, keys)
        jobs = await self.queue.store.jobs.get([job_id for job_id, _ in owners.values()])
        found: dict[str, dict[str, Job]] = {}
        for row, key in zip(asked, keys, strict=True):
            if key in owners and (job := jobs.get(owners[key][0])) is not None:
                found.setdefault(row.called, {})[job.id] = job
        numbers = {row.called for row in asked}
        after: str | None = None
        while True:
            page = await self.queue.find(batch_id=self.identity.batch_id(), after=after, limit=PAGE)
            for job in page:
                called = called_number(job.destination)
                if called in numbers and job.id not in jobs and "airflow_task_id" not in (job.data or {}):
                    found.setdefault(called, {})[job.id] = job
            if len(page) < PAGE:
                break
            after = page[-1].id
        return {called: [by_id[job_id] for job_id in sorted(by_id)] for called, by_id in found.items()}

    # -- what is changed ---------------------------------------------------------------------------------------------

    async def _replace(self, plan: _Plan) -> None:
        """Take back calls that wait and are other ones now; those that have left meanwhile stay as they are."""
        ids = [str(slot.job_id) for _, slot in plan.to_replace]
        cancelled = await cancel_calls(self.queue, ids, reason=REPLACED)
        left = await self.queue.store.jobs.get([job_id for job_id in ids if job_id not in cancelled])
        for row, slot in plan.to_replace:
            job = left.get(str(slot.job_id))
            never_called = {Condition.TAKEN_BACK, Condition.ENDED}
            if slot.job_id in cancelled or (job is not None and condition_of(job) in never_called):
                plan.to_make.append((row, slot))
            else:
                plan.differing += 1

    async def _make(
        self,
        to_make: Sequence[tuple[AskedRow, Slot]],
        rows: Sequence[Mapping[str, Any]],
        options: CampaignOptions,
        folder: Path,
    ) -> EnqueueReport:
        from voiceflow_worker import enqueue_file

        in_order = sorted(to_make, key=lambda each: each[0].place)
        keys = {
            line: self.identity.call_key(row.called, slot.ordinal, generation=slot.generation + 1)
            for line, (row, slot) in enumerate(in_order, 1)
        }
        file = written([rows[row.place] for row, _ in in_order], folder)
        made = replace(options, keys=keys, data={**(options.data or {}), **self.identity.data()})
        report = await enqueue_file(self.queue, file, made, now=self.queue.store.clock.now(), skip_bad=True)
        errors = [found for found in report.findings if found.is_error]
        if errors:
            _tell([replace(found, row=in_order[(found.row or 1) - 1][0].place + 1) for found in errors])
            raise RowsChangedError(
                f"{len(errors)} of {report.rows} rows were good when they were read and could not be handed in, so "
                f"another try of this task may have changed them meanwhile: {errors[0].message}. A retry looks again"
            )
        return report


def _tell(errors: Sequence[Finding]) -> None:
    for found in errors:
        log.error("row %s: %s %s", found.row, found.column or "", found.message)


def _bad_rows(read: ReadRows, *, total: int) -> Exception:
    from voiceflow_worker import CampaignFileError

    errors = read.errors
    lines = "; ".join(f"row {found.row}: {found.column or ''} {found.message}" for found in errors[:MOST_TOLD])
    more = f" (and {len(errors) - MOST_TOLD} more)" if len(errors) > MOST_TOLD else ""
    return CampaignFileError(
        f"{read.rejected} of {total} rows are bad, and nothing was enqueued: {lines}{more}. "
        "Correct them, or give skip_bad=True to call the others",
        errors,
    )
