"""Lost jobs, which the server of a store has dropped by itself, and the log lines about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import structlog

from voiceflow_worker.core.ports import Store
from voiceflow_worker.model.jobs.job import JobState

_log = structlog.get_logger("voiceflow.losses")

SHOWN = 20
"""The most ids in one log line or message."""
UNDER_WAY = frozenset({JobState.SENDING, JobState.SUBMITTED, JobState.IN_DOUBT})
"""States of calls that may have been placed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Jobs of a queue that the store has dropped, and their last known states; None is an unknown state.

    `counts` counts all of these jobs by state; `jobs` has the states of some by id.
    """

    counts: Mapping[JobState | None, int] = field(default_factory=dict[JobState | None, int])
    jobs: Mapping[str, JobState | None] = field(default_factory=dict[str, "JobState | None"])

    @property
    def total(self) -> int:
        """The number of lost jobs."""
        return sum(self.counts.values())

    @property
    def under_way(self) -> int:
        """The number of lost jobs whose calls may have been placed. These calls can no longer be followed."""
        return sum(count for state, count in self.counts.items() if state in UNDER_WAY)


@runtime_checkable
class Lossy(Protocol):
    """A store whose server may drop single jobs, such as a Redis that evicts keys when its memory is full."""

    async def losses(self, queue: str) -> Losses:
        """The lost jobs of a queue."""
        ...


async def read_losses(store: Store, queue: str) -> Losses:
    """The lost jobs of a queue; none for a store that drops nothing."""
    return await store.losses(queue) if isinstance(store, Lossy) else Losses()


def in_words(losses: Losses) -> str:
    """The losses as a clause: `3 queued, 1 sending: default.01J…, …`."""
    counts = ", ".join(
        f"{count} {'in an unknown state' if state is None else state.value}" for state, count in losses.counts.items()
    )
    ids = sorted(losses.jobs, key=lambda job_id: losses.jobs[job_id] not in UNDER_WAY)
    return f"{counts}: {', '.join(ids[:SHOWN])}{', …' if losses.total > SHOWN else ''}"


class LossWatch:
    """Logs new losses of one queue."""

    def __init__(self, store: Store, queue: str) -> None:
        self._store = store
        self._queue = queue
        self._known = 0

    async def look(self) -> None:
        """Log all lost jobs, if more jobs were lost since the last look. Raises StoreError."""
        found = await read_losses(self._store, self._queue)
        known, self._known = self._known, found.total
        if found.total <= known:
            return
        _log.warning(
            "the store has dropped calls; they are removed from its indexes, and are no longer made",
            queue=self._queue,
            jobs=found.total,
            lost=in_words(found),
        )
        if found.under_way:
            _log.error(
                "calls that may have been placed can no longer be followed: the store has dropped their records; look "
                "for them in the log of 8x8",
                queue=self._queue,
                jobs=found.under_way,
                ids=[job_id for job_id, state in found.jobs.items() if state in UNDER_WAY][:SHOWN],
            )
