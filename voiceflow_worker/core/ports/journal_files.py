"""Ports of the journal files that workers keep beside the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from voiceflow_worker.model.jobs.job import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessFile:
    """One journal file of a worker of this host.

    `in_use` means that its worker is alive. `kept` is its newest job whose entry the store is known to have taken, if
    any. `retention` is the retention of ended jobs when the file was begun.
    """

    name: str
    in_use: bool
    kept: Job | None
    retention: timedelta


class WitnessJournal(Protocol):
    """The journal file of one worker, being written."""

    async def append(self, jobs: Sequence[Job]) -> None:
        """Write jobs whose newest POST is about to leave. They are on disk when this returns.

        Raises `StoreReadOnlyError`.
        """
        ...

    def judge(self, kept: Sequence[bool]) -> None:
        """Record which of the jobs of the last `append` the store took; the POSTs of the others never leave."""
        ...

    def close(self) -> None:
        """End the file."""
        ...


class Witness(Protocol):
    """The journal files of the workers of this host: the calls that they sent, kept apart from the store."""

    async def begin(self, queue: str, name: str, *, retention: timedelta) -> WitnessJournal:
        """Begin the journal file of a worker. Raises `SettingsError` if it cannot be written."""
        ...

    async def files(self, queue: str) -> Sequence[WitnessFile]:
        """All files of a queue. Raises `SettingsError` if they cannot be read."""
        ...

    async def entries(self, queue: str, name: str) -> Sequence[Job]:
        """The jobs in a file, in order, as they were just before their POST left; the newest entry of each job.

        Jobs whose POST never left, because the store did not take it, are left out.
        """
        ...

    async def prune(self, queue: str, *, before: datetime) -> None:
        """Delete the files of ended workers if their newest POST began before this time, or they sent nothing.

        When all files together are too large, also delete the oldest ones, with a warning.
        """
        ...
