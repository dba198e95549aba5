"""The Redis store: its three ports, its clock and its connection."""

from __future__ import annotations

from dataclasses import dataclass

from voiceflow_worker.backends.redis.connection.durability import Durability
from voiceflow_worker.backends.redis.connection.keys import Keys
from voiceflow_worker.backends.redis.connection.link import Link
from voiceflow_worker.backends.redis.control import RedisControl
from voiceflow_worker.backends.redis.jobs import RedisJobs
from voiceflow_worker.backends.redis.records import RedisRecords
from voiceflow_worker.core.guard.lost_jobs import Losses
from voiceflow_worker.core.ports import Clock
from voiceflow_worker.model.jobs.job import JobState


@dataclass(frozen=True, slots=True)
class RedisStore:
    """One store in Redis, opened. Many processes may have it open; this object belongs to one event loop."""

    url: str
    jobs: RedisJobs
    control: RedisControl
    records: RedisRecords
    clock: Clock
    link: Link
    keys: Keys

    @property
    def durability(self) -> Durability:
        """The durability of the server, as found at the last connection."""
        return self.link.durability

    async def losses(self, queue: str) -> Losses:
        """The jobs of a queue that the server has dropped, as far as scripts have met their index entries."""
        counts, jobs = await self.link.run("losses", self.keys.queue(queue))
        return Losses(
            counts={_state(state): int(count) for state, count in zip(counts[::2], counts[1::2], strict=True)},
            jobs={job_id: _state(state) for job_id, state in zip(jobs[::2], jobs[1::2], strict=True)},
        )

    async def incarnation(self, queue: str) -> str:
        """The id of the server process that has this queue: another text after a restart or a failover."""
        return str(await self.link.run("incarnation", self.keys.queue(queue)))


def _state(name: str) -> JobState | None:
    return None if name == "unknown" else JobState(name)
