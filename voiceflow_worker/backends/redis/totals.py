"""Totals in Redis: hashes that scripts keep, and the tallies that are counted into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from voiceflow_worker.backends.redis.connection.codec import Argument, tally_text
from voiceflow_worker.backends.redis.connection.keys import Keys, pruned_key, state_index, totals_key
from voiceflow_worker.backends.redis.connection.link import Link
from voiceflow_worker.model.jobs.job import Job, JobState
from voiceflow_worker.model.jobs.tally import STATE, Totals


class RedisTotals:
    """The totals of all queues of a store."""

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link = link
        self._keys = keys

    async def read(self, queue: str, *, batch_id: str | None) -> tuple[bool, Totals]:
        """The totals of a queue or of a batch, and whether the tallies of the queue are complete."""
        args: list[Argument] = [totals_key(batch_id), "" if batch_id is None else pruned_key(batch_id)]
        args += [state_index(state, batch_id) for state in JobState]
        is_tallied, live, pruned, states = await self._link.run("totals", self._keys.queue(queue), args)
        counted = {STATE + state: count for state, count in zip(JobState, states, strict=True) if count}
        return is_tallied == 1, Totals(live=_numbers(live) | counted, pruned=_numbers(pruned))

    async def set_tallied(self, queue: str) -> None:
        """Note that the tallies of a queue are complete."""
        key = f"{self._keys.queue(queue)}:tallied"
        await self._link.ask(lambda client: client.set(key, "1"))

    async def recount(self, jobs: Sequence[Job]) -> Sequence[bool]:
        """Set the tallies of these jobs, each only if it still has this revision; True where that is a change."""
        if not jobs:
            return []
        args = [argument for job in jobs for argument in (job.id, job.revision, tally_text(job))]
        return [each == 1 for each in await self._link.run("recount", self._keys.queue(jobs[0].queue), args)]

    async def adjust(self, queue: str, amounts: Mapping[str | None, Mapping[str, int]]) -> None:
        """Add amounts to fields. States are counted by their indexes, which need no adjusting."""
        args: list[Argument] = []
        for batch_id, fields in amounts.items():
            for field, amount in fields.items():
                if not field.startswith(STATE):
                    args += (totals_key(batch_id), field, amount)
        await self._link.run("adjust", self._keys.queue(queue), args)


def _numbers(pairs: Sequence[str]) -> dict[str, int]:
    return {field: int(amount) for field, amount in zip(pairs[::2], pairs[1::2], strict=True)}
