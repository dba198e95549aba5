"""What the engine needs besides a store: a gateway to 8x8, its call log, and files that outlive a rollback."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from msgspec import Struct

from voiceflow_worker.core.ports.store import Drop, Put, Same
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.reports.verdict import PostProgress, Reservation, Verdict

if TYPE_CHECKING:
    from voiceflow_worker.model.jobs.call_log import LoggedCalls  # 20 ms, which most commands do not need


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalJournalState:
    """One journal file of this host: that of a writer, which numbers its entries.

    `kept` is the number of the newest entry that was certainly committed to the store, `newest_committed` that entry,
    and `last` the number of the newest one that may have been; 0 for none. A process that writes the file has it open.
    The version before has not stored the numbers (`is_numbered`). `other_store` is the URL of the store that its worker
    used, if that is not the one used here. `history` is the history of the store that its worker has followed, as its
    `begin` had it; empty if that was of another store, or none.
    """

    name: str
    writer: str
    kept: int
    last: int
    newest_committed: Job | None
    is_open: bool = False
    is_numbered: bool = True
    other_store: str | None = None
    history: str = ""


class Fate(StrEnum):
    """What became of an order that was in the local journal before the store got it."""

    HAD = "had"
    """The store had it."""
    REFUSED = "refused"
    UNKNOWN = "unknown"
    """The answer of the store was lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalOrder:
    """An order as the local journal keeps it: what one write of it stores; several with a `token` are one write.

    `store` is the id of the store in which it was given. `action` is that of the audit log, empty for what no person
    has ordered by name, such as an opt-out by a key. `job` is the call as the order leaves it. `names` are the digests
    of the numbers in it, by which an erasure finds it. The store certainly had one that `is_known`.
    """

    token: str
    at: datetime
    store: str
    action: str = ""
    puts: tuple[Put, ...] = ()
    drops: tuple[Drop, ...] = ()
    same: tuple[Same, ...] = ()
    job: Job | None = None
    names: tuple[str, ...] = ()
    is_known: bool = True


ORDERS = "_orders"
"""The folder of the orders in a local journal, beside those of the queues. No queue has this name."""


class LocalJournalFile(Protocol):
    """The journal file that a worker writes."""

    def append(self, jobs: Sequence[Job], *, first: int) -> Awaitable[None]:
        """Begin to write jobs whose newest POST is about to be sent, numbered from `first`.

        They are on disk when what this returns was awaited, which raises `JournalFileError`.
        """
        ...

    async def recover(self) -> None:
        """Go on if the last `append` has failed, and there is room again. Raises `JournalFileError`."""
        ...

    def record_committed(self, committed: Sequence[bool]) -> None:
        """Record which jobs of the last `append` were committed to the store; the other POSTs are never sent."""
        ...

    async def follow(self, history: str) -> None:
        """Record that the worker follows another history of the store. Raises `JournalFileError`."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class LocalJournal(Protocol):
    """The journal files of this host's workers, which record the sent calls outside of the store."""

    async def begin(self, queue: str, name: str, *, history: str = "") -> LocalJournalFile:
        """Begin the journal file of a worker that follows this history of the store.

        Raises `SettingsError` if it cannot be written.
        """
        ...

    async def files(self, queue: str) -> Sequence[LocalJournalState]:
        """All files of a queue. Raises `SettingsError` if they cannot be read."""
        ...

    async def entries(self, queue: str, name: str) -> Sequence[tuple[int, Job]]:
        """The newest entry of each job in a file, with its number, in order.

        An entry is the job as it was just before its POST was sent. If an entry was not committed to the store, its
        POST was never sent, and the entry is left out.
        """
        ...

    async def prune(self, queue: str, *, before: datetime) -> None:
        """Delete the files of ended workers that sent nothing, or that began their newest POST before this time.

        If all files together are too large, the oldest ones are deleted too, with a warning.
        """
        ...

    async def erase(self, job_ids: Collection[str]) -> bool:
        """Erase the entries of these jobs from the files of all queues, and the orders that name them or these digests.

        Files that other processes write are left to them. False if a file that is being written here must be erased
        from again. Raises `SettingsError` if files cannot be read or written.
        """
        ...


class OrderJournal(LocalJournal, Protocol):
    """A local journal that has the orders too which were given on this host."""

    async def keep_orders(self, orders: Sequence[LocalOrder]) -> str:
        """Write orders, which the store has not got yet. They are on disk when this returns the name of their file.

        Raises `JournalFileError`, and `SettingsError` if no file can be begun.
        """
        ...

    def note_fates(self, fates: Mapping[str, Fate], name: str) -> None:
        """Note in the file of orders what became of them, by their tokens."""
        ...

    def close_orders(self) -> None:
        """Leave the file of this process's orders to others."""
        ...

    async def order_files(self, *, since: datetime) -> Sequence[str]:
        """The names of this host's files of orders, without those that ended before a time.

        Raises `SettingsError` if they cannot be read.
        """
        ...

    async def orders(self, name: str, *, newest: bool = False) -> Sequence[LocalOrder]:
        """The orders in a file, in the order in which they were given; some of the `newest` alone.

        Left out are those that the store has refused, and those that a process is just giving.
        """
        ...


class Placement(Struct, frozen=True, kw_only=True):
    """One POST, ready to be sent: the stored body, and the fields that are added to it when it is sent."""

    body: str
    client_request_id: str
    valid_until: datetime
    client_batch_id: str | None = None


class Voice(Protocol):
    """A gateway that places calls."""

    async def place(self, placement: Placement, *, progress: PostProgress, now: datetime) -> Verdict:
        """POST one call, once, and return the verdict.

        Never raises for a fault of the network or the service: a result that is not understood is `UNKNOWN`. A
        placement whose validity has ended at `now` is not sent (`NOT_SENT`). Cancellation propagates; `progress` then
        shows whether anything may have been sent.
        """
        ...


@runtime_checkable
class ConnectsAhead(Protocol):
    """A gateway that can connect before a POST is journalled, so that connecting never delays a journalled call."""

    async def connect(self, *, waits: bool = True) -> Reservation | None:
        """Get ready for one POST, which finds this as `progress.reserved`. A failure to connect becomes its verdict.

        Without `waits`, this returns None at once if there is no kept connection.
        """
        ...


class CallLog(Protocol):
    """The call log of 8x8: evidence for calls in doubt."""

    async def logged_calls(self, *, since: datetime, until: datetime) -> LoggedCalls:
        """The rows that the log has so far for this range of time. A row may come long after its call.

        The request may take minutes. Raises `CallLogError`, and `CallLogUnavailableError` if trying again may help.
        """
        ...
