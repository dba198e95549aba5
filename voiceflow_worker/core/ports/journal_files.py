"""Ports of the journal files that workers keep beside the store, and of a store that is compared with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from voiceflow_worker.model.jobs.job import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessFile:
    """One journal file of a worker of this host.

    `kept` is the newest entry in the file that was certainly committed to the store, if any.
    """

    name: str
    kept: Job | None


class WitnessJournal(Protocol):
    """The journal file that a worker writes."""

    async def append(self, jobs: Sequence[Job]) -> None:
        """Write jobs whose newest POST is about to leave. They are on disk when this returns.

        Raises `StoreReadOnlyError`.
        """
        ...

    def judge(self, kept: Sequence[bool]) -> None:
        """Record which jobs of the last `append` were committed to the store; the POSTs of the others never leave."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class Witness(Protocol):
    """The journal files of this host's workers, which record the sent calls outside of the store."""

    async def begin(self, queue: str, name: str) -> WitnessJournal:
        """Begin the journal file of a worker. Raises `SettingsError` if it cannot be written."""
        ...

    async def files(self, queue: str) -> Sequence[WitnessFile]:
        """All files of a queue. Raises `SettingsError` if they cannot be read."""
        ...

    async def entries(self, queue: str, name: str) -> Sequence[Job]:
        """The newest entry of each job in a file, in order.

        An entry is the job as it was just before its POST left. If an entry was not committed to the store, its POST
        never left, and the entry is left out.
        """
        ...

    async def prune(self, queue: str, *, before: datetime) -> None:
        """Delete the files of ended workers that sent nothing, or that began their newest POST before this time.

        If all files together are too large, the oldest ones are deleted too, with a warning.
        """
        ...
