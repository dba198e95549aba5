"""Totals of a file: the counters that triggers keep, and the tallies that are counted into them."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import partial

import orjson

from voiceflow_worker.backends.sqlite.file.connection import Row
from voiceflow_worker.backends.sqlite.file.statements import statements
from voiceflow_worker.backends.sqlite.group_commit import GroupCommit, Transaction
from voiceflow_worker.backends.sqlite.reading import Reader, tally_record
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.tally import STATE, Totals

_PER_STEP = 64
"""Tallies written before other tasks may run."""


class SqliteTotals:
    """The totals of all queues of a file."""

    def __init__(self, writer: GroupCommit, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader
        self._sql = statements("totals")
        self._tallied: set[str] = set()

    async def states(self, queue: str, *, batch_id: str | None) -> Mapping[JobState, int]:
        """The number of jobs in each state; every state is present."""
        bindings = {"queue": queue, "states": orjson.dumps(list(JobState)).decode()}
        if batch_id is not None:
            bindings["batch"] = _place(batch_id)
        name = "states_of_queue" if batch_id is None else "states_of_batch"
        counted = orjson.loads(await self._reader.scan(self._sql[name], bindings))
        return {state: counted[STATE + state] or 0 for state in JobState}

    async def read(self, queue: str, *, batch_id: str | None) -> Totals:
        """The totals of a queue or of a batch."""
        bindings = {"queue": queue} if batch_id is None else {"queue": queue, "batch": _place(batch_id)}
        found = orjson.loads(
            await self._reader.scan(self._sql["of_queue" if batch_id is None else "of_batch"], bindings)
        )
        return Totals(
            live={field: live for field, live, _ in found if live},
            pruned={field: pruned for field, _, pruned in found if pruned},
        )

    async def is_tallied(self, queue: str) -> bool:
        """Whether the tallies of a queue are complete."""
        if queue not in self._tallied and await self._reader.rows(self._sql["is_tallied"], [(queue,)]):
            self._tallied.add(queue)
        return queue in self._tallied

    async def set_tallied(self, queue: str) -> None:
        """Note that the tallies of a queue are complete."""
        await self._writer.carry_out(partial(_run_each, self._sql["set_tallied"], [(queue,)]))

    async def recount(self, jobs: Sequence[Job]) -> Sequence[bool]:
        """Set the tallies of these jobs, each only if it still has this revision; True where that is a change."""
        if not jobs:
            return []
        rows = [(tally_record(job), job.id, job.revision) for job in jobs]
        changed = {row[0] for row in await self._writer.carry_out(partial(_run_each, self._sql["set_tally"], rows))}
        return [job.id in changed for job in jobs]

    async def adjust(self, queue: str, amounts: Mapping[str | None, Mapping[str, int]]) -> None:
        """Add amounts to fields. The total of a queue is a sum, so the jobs without a batch get what is left of it."""
        left = dict(amounts.get(None, {}))
        rows: list[Row] = []
        for batch_id, fields in amounts.items():
            for field, amount in fields.items():
                if batch_id is not None:
                    rows.append((queue, _place(batch_id), field, amount))
                    left[field] = left.get(field, 0) - amount
        rows += [(queue, "", field, amount) for field, amount in left.items() if amount]
        await self._writer.carry_out(partial(_run_each, self._sql["adjust"], rows))


def _place(batch_id: str) -> str:
    return f"={batch_id}"


def _run_each(statement: str, rows: Sequence[Row], transaction: Transaction) -> Generator[None, None, list[Row]]:
    answers: list[Row] = []
    for start in range(0, len(rows), _PER_STEP):
        answers += transaction.db.rows_of_each(statement, rows[start : start + _PER_STEP])
        yield
    return answers
