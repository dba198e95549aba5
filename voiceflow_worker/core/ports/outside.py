"""What the engine needs besides a store: a gateway to 8x8, its call log, and files that outlive a rollback."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from msgspec import Struct

from voiceflow_worker.core.ports.store import Put
from voiceflow_worker.model.jobs.job import Job
from voiceflow_worker.model.reports.verdict import BeforeFirstByte, Verdict

if TYPE_CHECKING:
    from voiceflow_worker.model.jobs.call_log import LoggedCalls  # 20 ms, which most commands do not need


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalJournalState:
    """One journal file of this host: that of a writer, which numbers its entries.

    `number` is that of its newest entry, 0 for none. The store had each entry of the file. `other_store` is the URL of
    the store that its worker used, if that is not the one used here. `history` is the history of the store that its
    worker has followed, as its `begin` had it; empty if that was of another store, or none. `senders` are the newest
    numbers of other senders that the store had. With a `problem`, nothing else is known, because it cannot be read, but
    which `content` it has.
    """

    name: str
    writer: str
    number: int
    other_store: str | None = None
    history: str = ""
    senders: Mapping[str, int] = field(default_factory=dict[str, int])
    problem: str = ""
    content: str = ""


class JournalEntries(NamedTuple):
    """The orders in a journal file, and the newest entry of each job, with their numbers, in order.

    An entry is the job as it was just before its POST was sent: it may have left. `unread` has the numbers of entries
    that this version does not know, and 0 for each line that nobody can read.
    """

    jobs: Sequence[tuple[int, Job]] = ()
    orders: Sequence[tuple[int, OrderLine]] = ()
    unread: Sequence[int] = ()


class OrderLine(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The line of a write that a person has ordered, or that changes the suppression list.

    `store` is the id of the store that took it, `entry` its entry of the audit log, if it has one. `listed` are the
    entries that it puts on the suppression list, and `unlisted` the groups that it takes off.
    """

    at: datetime
    store: str
    entry: Put | None = None
    listed: tuple[Put, ...] = ()
    unlisted: tuple[str, ...] = ()


JournalLine = Job | OrderLine
"""What a line of a local journal keeps: a job whose POST is about to be sent, or an order."""
JOURNAL_FORMAT = 9
"""The format of the files of a local journal. One of another format, or one that is damaged, holds its queue."""
ORDERS = "_orders"
"""The folder of the orders in a local journal, beside those of the queues. No queue has this name."""


class LocalJournalFile(Protocol):
    """A journal file that this process writes, for its `writer`. When it was begun, `number` was the highest in it."""

    writer: str
    number: int
    has_failed: bool
    """Whether an `append` has failed, or nobody has seen its end: the next entries belong into another file."""

    def is_over(self, *, at: datetime) -> bool:
        """Return whether the next entries belong into another file: it is full, closed, gone or old, or has failed."""
        ...

    def append(self, lines: Sequence[tuple[int, JournalLine]]) -> Awaitable[None]:
        """Begin to write entries with their numbers, which the store has.

        They are on disk when what this returns was awaited, which raises `JournalFileError`; of jobs of a store on
        another machine, they are within a second.
        """
        ...

    def note(self, senders: Mapping[str, int]) -> None:
        """Record the numbers of other senders that the store has. Raises `JournalFileError`."""
        ...

    async def follow(self, history: str) -> None:
        """Record that the writer follows another history of the store. Raises `JournalFileError`."""
        ...

    def close(self) -> None:
        """Leave the file to others."""
        ...


class LocalJournal(Protocol):
    """The journal files of this host, which record outside of the store what was sent and ordered here.

    Each method raises `SettingsError` if files cannot be read or written, and `begin` JournalFileError.
    """

    async def begin(self, queue: str, *, at: datetime, history: str = "") -> LocalJournalFile:
        """Take a file of this week that no process writes, or a new one, for a writer that follows this history.

        There is room in it for the next jobs.
        """
        ...

    async def files(self, queue: str, *, since: datetime | None = None) -> Sequence[LocalJournalState]:
        """Return all files of a queue, or of the orders (`ORDERS`), without those of weeks before a time."""
        ...

    async def entries(self, name: str) -> JournalEntries:
        """Return the entries in a file."""
        ...

    async def prune(self, queue: str, *, before: datetime) -> None:
        """Delete the files of ended workers of the weeks before a time."""
        ...


def journal_of(store: object) -> LocalJournal | None:
    """Return the journal files of a store that `open_store` has opened; None in memory, and for any other store.

    Raises SettingsError if nobody knows their folder.
    """
    return getattr(store, "local_journal", None)


class Placement(Struct, frozen=True, kw_only=True):
    """One POST, ready to be sent: the stored body, and the fields that are added to it when it is sent."""

    body: str
    client_request_id: str
    valid_until: datetime
    client_batch_id: str | None = None


class Voice(Protocol):
    """A gateway that places calls."""

    async def place(self, placement: Placement, *, before_first_byte: BeforeFirstByte) -> Verdict:
        """POST one call, once, and return the verdict.

        Connects, awaits `before_first_byte` once, and sends the first byte without awaiting anything between the two.
        What `before_first_byte` raises is raised, and nothing is sent. Never raises for a fault of the network or the
        service: a result that is not understood is `UNKNOWN`. If this is cancelled, the call counts as sent if
        `before_first_byte` had returned.
        """
        ...


@runtime_checkable
class Opens(Protocol):
    """A gateway that must be opened before it places calls."""

    @property
    def is_open(self) -> bool:
        """True if calls can be placed."""
        ...


@runtime_checkable
class OfAccount(Protocol):
    """A gateway that says whose calls it places."""

    @property
    def account(self) -> str:
        """Sub-account and host, such as `demo at voice.8x8.com`."""
        ...


@runtime_checkable
class Connects(Protocol):
    """A gateway that says whether it makes a connection for each call."""

    @property
    def connects_each_time(self) -> bool:
        """True if it keeps no connection from one call to the next."""
        ...


@runtime_checkable
class ProvesHolds(Protocol):
    """A gateway that finds out whose an answer is, if answers may be left over from earlier requests."""

    @property
    def has_unproven_hold(self) -> bool:
        """True if an answer has come that holds the queue, and may be the answer to another request."""
        ...


@runtime_checkable
class CallLog(Protocol):
    """The call log of 8x8: evidence for calls in doubt."""

    async def logged_calls(self, *, since: datetime, until: datetime) -> LoggedCalls:
        """Return the rows that the log has so far for this range of time. A row may come long after its call.

        The request may take minutes. Raises `CallLogError`, and `CallLogUnavailableError` if trying again may help.
        """
        ...
