"""What the engine needs besides a store: a gateway to 8x8, its call log, and files that outlive a rollback."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from msgspec import Struct

from voiceflow_worker.core.ports.store import Drop, Order, Put, Same
from voiceflow_worker.model.jobs.job import Job, ReasonKind
from voiceflow_worker.model.reports.verdict import PostProgress, Reservation, Verdict

if TYPE_CHECKING:
    from voiceflow_worker.model.jobs.call_log import LoggedCalls  # 20 ms, which most commands do not need


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalJournalState:
    """One journal file of this host: that of a writer, which numbers its entries.

    `kept` is the number of the newest entry that was certainly committed to the store, and `last` that of the newest
    one that may have been; 0 for none. A process that writes the file has it open. `other_store` is the URL of the
    store that its worker used, if that is not the one used here. `history` is the history of the store that its worker
    has followed, as its `begin` had it; empty if that was of another store, or none.
    """

    name: str
    writer: str
    kept: int
    last: int
    is_open: bool = False
    other_store: str | None = None
    history: str = ""


class Start(Order, frozen=True, tag="start"):
    """What makes phones ring, or lets them ring. It is never carried out again."""


class OptIn(Start, frozen=True, tag="opt-in"):
    """The end of opt-outs."""

    counts_alone: ClassVar[bool] = True


class Closing(Order, frozen=True, kw_only=True, tag="closing"):
    """A hold, or the cancel of a batch, by the record of its gate."""

    put: Put


class Cancelling(Order, frozen=True, kw_only=True, tag="cancelling"):
    """The cancel of a call, with what it leaves in its record."""

    job: str
    post_count: int
    reason: str
    kind: ReasonKind | None
    due_at: datetime
    kept_until: datetime | None


class RateOrder(Order, frozen=True, kw_only=True, tag="rate"):
    """A rate, as it is stored."""

    text: str


class Storing(Order, frozen=True, kw_only=True, tag="storing"):
    """What is stored again as it was, if these records are the same."""

    puts: tuple[Put, ...] = ()
    drops: tuple[Drop, ...] = ()
    same: tuple[Same, ...] = ()


class OptOut(Storing, frozen=True, tag="opt-out"):
    """The opt-out of one number."""

    counts_alone: ClassVar[bool] = True


class Ending(Storing, frozen=True, tag="ending"):
    """The end of an escalation, whose record is in the group of its queue, however far it had come."""

    counts_alone: ClassVar[bool] = True


AnyOrder = Start | OptIn | Closing | Cancelling | RateOrder | Storing | OptOut | Ending


class LocalOrder(Struct, frozen=True, kw_only=True):
    """A line of an order in the local journal; several may be of one write.

    `store` is the id of the store in which it was given. `entry` is that of the audit log, and `action` its action;
    empty for what no person has ordered by name. `names` are the digests of the numbers in it, by which an erasure
    finds it. A line of the version before has no `order` that could be carried out again.
    """

    at: datetime
    store: str
    action: str = ""
    order: AnyOrder | None = None
    entry: Put | None = None
    names: tuple[str, ...] = ()


JournalLine = Job | LocalOrder
"""What a line of a local journal keeps: a job whose POST is about to be sent, or an order."""
ORDERS = "_orders"
"""The folder of the orders in a local journal, beside those of the queues. No queue has this name."""


class LocalJournalFile(Protocol):
    """A journal file that this process writes, for its `writer`.

    When it was begun, `number` was the highest number in it, `kept` that of the newest entry that the store certainly
    had, and `last` that of the newest one that it may have had.
    """

    writer: str
    number: int
    kept: int
    last: int

    def is_over(self, *, at: datetime) -> bool:
        """Whether the next entries belong into another file: it is full, closed, gone, or of an earlier week."""
        ...

    def append(self, lines: Sequence[JournalLine], *, first: int) -> Awaitable[None]:
        """Begin to write entries, numbered from `first`.

        They are on disk when what this returns was awaited, which raises `JournalFileError`.
        """
        ...

    async def recover(self) -> None:
        """Go on if the last `append` has failed, and there is room again. Raises `JournalFileError`."""
        ...

    def record_committed(self, committed: Sequence[bool | None]) -> None:
        """Record which entries of the last `append` the store has; of the others, None says that nobody knows."""
        ...

    async def follow(self, history: str) -> None:
        """Record that the writer follows another history of the store. Raises `JournalFileError`."""
        ...

    def close(self) -> None:
        """Leave the file to others."""
        ...


class LocalJournal(Protocol):
    """The journal files of this host, which record outside of the store what was sent and ordered here."""

    async def begin(self, queue: str, *, at: datetime, history: str = "") -> LocalJournalFile:
        """Take a file of this week that no process writes, or a new one, for a writer that follows this history.

        Raises `JournalFileError`.
        """
        ...

    async def files(self, queue: str, *, since: datetime | None = None) -> Sequence[LocalJournalState]:
        """All files of a queue, or of the orders (`ORDERS`), without those of weeks before a time.

        Raises `SettingsError` if they cannot be read.
        """
        ...

    async def entries(self, name: str) -> Sequence[tuple[int, Job]]:
        """The newest entry of each job in a file, with its number, in order.

        An entry is the job as it was just before its POST was sent. If an entry was not committed to the store, its
        POST was never sent, and the entry is left out.
        """
        ...

    async def orders(self, name: str) -> Sequence[tuple[int, LocalOrder]]:
        """The orders in a file, in the order in which they were given, without those that the store has refused."""
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
