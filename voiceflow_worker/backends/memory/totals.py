"""Totals in memory: counters for each queue and batch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.jobs.tally import STATE, Totals, tally_of


class MemoryTotals:
    """The totals of all queues, changed with every job that is put in or taken out."""

    def __init__(self) -> None:
        self._live: defaultdict[tuple[str, str | None], Counter[str]] = defaultdict(Counter)
        self._pruned: defaultdict[tuple[str, str | None], Counter[str]] = defaultdict(Counter)

    def read(self, queue: str, batch_id: str | None) -> Totals:
        """The totals of a queue or of a batch."""
        place = (queue, batch_id)
        return Totals(live=_present(self._live.get(place, {})), pruned=_present(self._pruned.get(place, {})))

    def count(self, job: Job, sign: int) -> None:
        """Count a job that was put in (1) or taken out (-1)."""
        for place in {(job.queue, None), (job.queue, job.batch_id)}:
            _add(self._live[place], job, sign)

    def prune(self, job: Job, *, is_last: bool) -> None:
        """Keep what a deleted job had added to its batch; with the last job of the batch its totals are dropped."""
        if job.batch_id is None:
            return
        if is_last:
            self._live.pop((job.queue, job.batch_id), None)
            self._pruned.pop((job.queue, job.batch_id), None)
        else:
            _add(self._pruned[job.queue, job.batch_id], job, 1)

    def adjust(self, queue: str, amounts: Mapping[str | None, Mapping[str, int]]) -> None:
        """Add amounts to fields, by batch; None is the queue as a whole."""
        for batch_id, fields in amounts.items():
            self._live[queue, batch_id].update(fields)


def _add(counter: Counter[str], job: Job, sign: int) -> None:
    counter[STATE + job.state] += sign
    for field, amount in tally_of(job).items():
        counter[field] += sign * amount


def _present(counted: Mapping[str, int]) -> dict[str, int]:
    return {field: amount for field, amount in counted.items() if amount}
