"""What a list ends that is imported again: calls whose rows are left out, and those that are in no row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from voiceflow_worker.campaigns.called_before import WAITING, may_call, pages_of
from voiceflow_worker.campaigns.enqueue_report import End
from voiceflow_worker.campaigns.plan import Plan, Planner
from voiceflow_worker.campaigns.row_ends import MOST_NAMED, RowEnds
from voiceflow_worker.core.base.reading import find_jobs, get_jobs
from voiceflow_worker.core.ports import Store
from voiceflow_worker.core.ports.reads import OfNumber
from voiceflow_worker.core.settling.changes import ROUNDS, Changes
from voiceflow_worker.finding import Finding, Severity
from voiceflow_worker.model.jobs.differences import can_still_ring
from voiceflow_worker.model.jobs.edits import removed
from voiceflow_worker.model.jobs.job import ON_THE_WAY, Job
from voiceflow_worker.model.text.wording import count_of, in_words


@dataclass(frozen=True, slots=True)
class Removal:
    """The removal of calls of these batches, by the plan of a list. Methods raise StoreError."""

    planner: Planner
    plan: Plan
    batches: Collection[str]

    async def problems(self, *, batch_id: str) -> list[Finding]:
        """What is wrong with what is left out or in no row, by the order of the list."""
        order = self.planner.order
        if order.remove_missing:
            return await self._missing_from_new(order.file, batch_id=batch_id) if self.plan.is_new else []
        return [
            Finding(
                message=f"is left out, and its call of {in_words(call.created_at)} waits ({call.id}). "
                "Cancel it: `remove_missing`; or do not leave the row out.",
                severity=Severity.WARNING if order.keeps else Severity.ERROR,
                file=order.file,
                row=row,
                person=call.name,
            )
            for row, call in self.plan.left_out.items()
        ]

    async def _missing_from_new(self, file: str | None, *, batch_id: str) -> list[Finding]:
        """The error that nothing can be missing from a new batch; it names where the people of the list wait."""
        elsewhere = await self._waiting_elsewhere()
        told = f"nothing can be missing from batch {batch_id}, which is new"
        if not elsewhere:
            return [Finding(file=file, message=f"{told}: start it without remove_missing")]
        where = (
            f"{count} of these people wait{'s' * (count == 1)} in {name}" for name, count in elsewhere[:MOST_NAMED]
        )
        message = f"{told}; {', '.join(where)}: name the batch, such as `batch: {elsewhere[0][0]}`"
        return [Finding(file=file, message=message)]

    async def run(self, store: Store, ends: RowEnds, *, on_the_way: bool = False) -> None:
        """Cancel the calls that are left out, or in no row; these not if they may be those of bad or late rows.

        With `on_the_way`, those too that are on their way get no further attempt, and are named. One that moves
        meanwhile is looked at again.
        """
        all_known = not (ends.counts[End.BAD] or ends.counts[End.LATE])
        ids, sent = [each.id for each in self.plan.left_out.values()], list[str]()
        states = WAITING | ON_THE_WAY if on_the_way else WAITING
        named = [job for job in (await get_jobs(store, ids)).values() if job.state in states and can_still_ring(job)]
        await self._end(store, named, ends, sent)
        for batch_id in sorted({*self.batches, *self.planner.index.silent_batches}):
            for _ in range(ROUNDS):
                found = 0
                async with aclosing(pages_of(self.planner.queue, batch_id, states=states)) as pages:
                    async for page in pages:
                        gone = [job for job in page if self._is_gone(job, all_known=all_known)]
                        found += len(gone)
                        await self._end(store, gone, ends, sent)
                if not found:
                    break
        if sent:
            names = ", ".join([*sent[:MOST_NAMED], *(["…"] if len(sent) > MOST_NAMED else [])])
            told = f"{count_of(len(sent), 'call')} may still ring, and are not called again: {names}"
            ends.found.add([Finding(file=ends.file, severity=Severity.WARNING, message=told)])
        if not on_the_way:
            self.tell_staying(ends)

    def tell_staying(self, ends: RowEnds) -> None:
        """Count and name the calls in no row that stay, because they may be those of bad or late rows."""
        if not (ends.counts[End.BAD] or ends.counts[End.LATE]) or not (count := self.plan.in_no_row):
            return
        ends.stays = count
        named = [*self.plan.named, *(["…"] if count > len(self.plan.named) else [])]
        bad = ends.counts[End.BAD]
        why = count_of(bad, "bad row") if bad else "rows that wait"
        remedy = "correct them, and give the list again" if bad else "call these first"
        told = (
            f"{count_of(count, 'call')} in no row of the list may be those of {why}, and can still ring: "
            f"{', '.join(named)}; {remedy}"
        )
        ends.found.add([Finding(file=ends.file, severity=Severity.WARNING, message=told)])

    async def _end(self, store: Store, gone: Sequence[Job], ends: RowEnds, sent: list[str]) -> None:
        """End calls, and add the ids of those that are on their way to the `sent` ones."""
        queue, changes = self.planner.queue, Changes(store, self.planner.queue.policy)
        reason, at = "it is no longer in the list", queue.store.clock.now()
        end = partial(removed, at=at, reason=reason, policy=queue.policy)
        ends.removed += await changes.change_all([job for job in gone if job.state in WAITING], end)
        left = [job for job in gone if job.state in ON_THE_WAY]
        sent += [job.id for job in left] if await changes.change_all(left, end) else []

    def _is_gone(self, job: Job, *, all_known: bool) -> bool:
        if not can_still_ring(job) or self.planner.is_in_list(job, self.plan):
            return False
        said = self.planner.index.silent_row(job)
        return all_known if said is None else said.is_left_out

    async def _waiting_elsewhere(self) -> list[tuple[str, int]]:
        """The other batches in which people of the list wait, and how many of those who are looked up do in each."""
        found, queue = Counter[str](), self.planner.queue
        for row in self.planner.people.looked_up():
            of_row = set[str]()
            for number in () if row.call is None else row.call.numbers:
                last = OfNumber(queue=queue.name, number=number, newest=True, limit=20)
                jobs = await find_jobs(queue.store, last)
                of_row |= {job.batch_id for job in jobs if job.batch_id and can_still_ring(job) and may_call(job)}
            found.update(of_row - {*self.batches})
        return found.most_common()
